"""What all estimators of patch networks share: validation, storing, predicting."""

from __future__ import annotations

import copy
import functools
import math
import sys
import warnings
from contextlib import contextmanager
from numbers import Integral, Real
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from scipy.sparse import issparse
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, is_regressor
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeeptd._compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    check_sample_weight,
    told,
)
from skdeeptd._data.rows import RowBlocks, concatenate_blocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.stream import empty_stream, stream_of
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._model.activations import ACTIVATIONS, layer_activations
from skdeeptd._model.fitted import attributes_of, networks_of, predictions
from skdeeptd._model.layout import default_of_two_layers, make_layout
from skdeeptd._model.network import alike, blank_network
from skdeeptd._model.parameters import n_parameters
from skdeeptd._solver.deeptd import Known, fit_rows
from skdeeptd._solver.diagnosis import held_out
from skdeeptd._solver.normal_equations import Objective
from skdeeptd._solver.search import Spec, silent
from skdeeptd._solver.uncertainty import output_std, uncertainty, uncertainty_together
from skdeeptd._typing import Method

KEPT_PER_WEIGHT, FEWEST_KEPT = 100, 1000  # rows of a stream
PRIVATE_STATE = ("_stream", "_y_ndim")  # that a fit leaves besides public attributes
DOCUMENTATION = "https://skdeeptd.readthedocs.io/en/stable"


def forget(estimator):
    """Drop what an earlier fit has stored."""
    for name in list(vars(estimator)):
        if name.endswith("_") or name in PRIVATE_STATE:
            delattr(estimator, name)


def forgetting(fit: Method) -> Method:
    """Forget an earlier model, and what a fit that fails has stored."""

    @functools.wraps(fit)
    def forget_and_fit(self, *args, **kwargs):
        forget(self)
        try:
            return fit(self, *args, **kwargs)
        except BaseException:
            forget(self)
            raise

    return forget_and_fit  # type: ignore[return-value]


def warn(message, category=UserWarning):
    """Warn at the line of the user's that called scikit-learn or this package."""
    frame, level = sys._getframe(1), 2
    while frame.f_back is not None:
        package = frame.f_globals.get("__name__", "").split(".")[0]
        if package not in ("skdeeptd", "sklearn"):
            break
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


def check_index(name, value, n_values):
    """Raise where the value is not an integer from 0 to ``n_values - 1``."""
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or not 0 <= value < n_values:
        raise ValueError(
            f"{name} must be an integer from 0 to {n_values - 1}, got {value!r}"
        )


def refuse_dask(**data):
    """Raise for a dask collection, which scikit-learn would load whole."""
    for name, value in data.items():
        if hasattr(value, "__dask_graph__"):
            raise TypeError(
                f"{name} is a dask collection. Use fit, predict and score of an "
                f"estimator of skdeeptd.dask, such as DaskDeepTDRegressor, with X as "
                f"one too, or load all of it with {name}.compute()"
            )


def check_range_of_weights(lightest, row, heaviest):
    """``row`` is where the lightest weight stands."""
    if lightest < 0:
        raise ValueError(
            f"sample_weight must not be negative, got {lightest:g} at row {row}"
        )
    if heaviest == 0:
        raise ValueError("sample_weight is zero everywhere; at least one must not be")


def check_finite(estimator, largest):
    """Raise scikit-learn's error of an X whose largest absolute value is this."""
    check_array([[largest]], dtype=None, input_name="X", estimator=estimator)


def flatten(X, input_shape):
    """X with a row per sample, and the shape of a sample."""
    refuse_dask(X=X)
    shape = getattr(X, "shape", ())[1:]
    if len(shape) < 2:
        return X, input_shape
    if input_shape is not None and tuple(input_shape) != shape:
        raise ValueError(
            f"X has samples of shape {shape}, but input_shape is {tuple(input_shape)}"
        )
    return X.reshape(len(X), math.prod(shape)), shape


def refuse_strings(estimator, y):
    """Raise for a y that holds strings, numbers among them, where it is to be fitted.

    Raises
    ------
    ValueError
    """
    if y is None or not is_regressor(estimator):
        return
    try:
        values = np.asarray(y)
    except ValueError:  # ragged: scikit-learn says so
        return
    if values.dtype.kind not in "OUST":
        return
    string = next((v for v in values.flat if isinstance(v, str | bytes)), None)
    if string is not None:
        raise ValueError(
            f"y holds strings, such as {str(string)!r}, but this is a regressor; for "
            f"classes use DeepTDClassifier, for numbers y.astype(float)"
        )


def check_weight(estimator, X, sample_weight):
    """The weights, (n_samples,); X is finite where they are zero."""
    weight = check_sample_weight(sample_weight, X, dtype=np.float64)
    check_range_of_weights(weight.min(), weight.argmin(), weight.max())
    without = np.flatnonzero(weight == 0)
    if len(without):
        check_array(X[without], dtype=None, input_name="X", estimator=estimator)
    return weight


READ_X = {  # the moment tells of what is not finite, in one pass less
    "dtype": [np.float64, np.float32],
    "ensure_all_finite": False,
}


def check_rows(estimator, X, y, sample_weight, reset=True):
    """X, y as float64 (n_samples, n_outputs), and the weights; the axes that y had."""
    refuse_dask(y=y, sample_weight=sample_weight)
    refuse_strings(estimator, y)
    X, y = validate_data(
        estimator, X, y, **READ_X, multi_output=True, y_numeric=True, reset=reset
    )
    if issparse(y) or y.dtype.kind not in "biuf":
        raise TypeError(f"y must be a dense array of numbers, got {y!r}")
    weight = check_weight(estimator, X, sample_weight)
    columns = y.astype(np.float64).reshape(len(X), -1)
    if columns.shape[1] == 0:
        raise ValueError(f"y must have at least one output, got shape {y.shape}")
    return (X, columns, weight), y.ndim


@contextmanager
def explaining(estimator, rows):
    """Say of numbers that do not fit in the sums whether they are finite at all."""
    try:
        yield
    except FloatingPointError as error:
        largest, largest_y = rows.largest()
        check_finite(estimator, largest)
        raise ValueError(
            f"X or y is too large or too small: {error}. The largest |X| is "
            f"{largest:.3g}, the largest |y| {largest_y:.3g}; rescale them, for "
            f"example with StandardScaler"
        ) from error


def telling(estimator, context):
    """The stages of ``fit_rows``, told to the callbacks of an estimator."""

    @contextmanager
    def stage(name, n_parts=None):
        more = {} if n_parts is None else {"max_subtasks": n_parts}
        of_stage = context.subcontext(task_name=name, **more)
        with told(of_stage, estimator):
            yield telling(estimator, of_stage)

    return stage


def reporter(estimator):
    """Takes a line on the progress; knows nothing of the estimator but its name."""
    if estimator.verbose:
        return functools.partial(print, f"[{type(estimator).__name__}]")
    return silent


def design(estimator, n_features, input_shape, n_filters, alpha):
    """The layout and the ``Spec`` of a network, of what parameters all have."""
    layout = make_layout(
        n_features,
        estimator.kernel_sizes,
        input_shape,
        estimator.padding,
        estimator.strides,
    )
    activations = layer_activations(
        estimator.activation, estimator.output_activation, len(layout.sizes)
    )
    return layout, Spec(
        blank=blank_network(layout, n_filters, activations, estimator.hidden_bias),
        objective=Objective(alpha, estimator.fit_intercept),
        polish=estimator.polish,
        max_iter=estimator.max_iter,
        tol=estimator.tol,
        n_init=estimator.n_init,
        seed=check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max),
        report=reporter(estimator),
    )


def design_regression(estimator, rows, input_shape):
    """The layout and the ``Spec`` of the parameters of DeepTDRegressor."""
    loo, n_sharing = estimator.alpha == "loo", 0
    layout, spec = design(
        estimator,
        rows.n_features,
        input_shape,
        estimator.n_filters,
        alpha=0.0 if loo else estimator.alpha,
    )
    if estimator.share_filters and len(layout.sizes) > 1:
        n_outputs = rows.pilot()[1].shape[1]
        n_sharing = n_outputs if n_outputs > 1 else 0
    if loo and estimator.output_activation != "identity":
        raise ValueError(
            f"alpha='loo' is for a last layer that is linear, but "
            f"output_activation is {estimator.output_activation!r}; give alpha a number"
        )
    huber = estimator.loss == "huber"
    if huber and (loo or n_sharing):
        other = "alpha='loo'" if loo else "share_filters=True with several outputs"
        raise ValueError(f"loss='huber' does not go with {other}; change one of them")
    return layout, spec._replace(
        n_sharing=n_sharing,
        leave_one_out=loo,
        epsilon=estimator.epsilon if huber else None,
    )


def like_y(columns, y_ndim):
    """(rows, outputs), or (rows,) as y was."""
    return columns[:, 0] if y_ndim == 1 else columns


class Documented:
    """An estimator whose HTML representation links to its page."""

    _doc_link_module = "skdeeptd"
    _doc_link_template = (
        DOCUMENTATION + "/generated/{estimator_module}.{estimator_name}.html"
    )


class BasePatchNetwork(Documented, CallbackSupportMixin, BaseEstimator):
    """What holds for any target: fitted attributes are those of a network per output.

    A subclass says in ``_check`` what y is, in ``_design`` what network is looked for,
    in ``_fit_rows`` how rows are fitted, in ``_describe`` what is said of it besides,
    and in ``_describe_stream`` what of a stream.
    """

    _parameter_constraints: dict = {
        "kernel_sizes": ["array-like", None],
        "input_shape": ["array-like", None],
        "strides": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "padding": [StrOptions({"valid", "same"})],
        "n_filters": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
        "output_activation": [StrOptions(set(ACTIVATIONS))],
        "fit_intercept": ["boolean"],
        "hidden_bias": ["boolean"],
        "alpha": [Interval(Real, 0, None, closed="left")],
        "polish": ["boolean"],
        "max_iter": [Interval(Integral, 1, None, closed="left")],
        "tol": [Interval(Real, 0, None, closed="left")],
        "n_init": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "n_jobs": [Integral, None],
        "random_state": ["random_state"],
        "verbose": ["verbose"],
    }

    def __sklearn_is_fitted__(self):
        return hasattr(self, "kernels_")

    def _fit_reusing(self, X, y, sample_weight, previous):
        """Fit like ``fit``, from what a network fitted to the same rows has learned."""
        self._validate_params()
        return self._fit(X, y, sample_weight, previous)

    def _fit(self, X, y, sample_weight, previous=None):
        context = self._init_callback_context(max_subtasks=3)
        metadata = {"sample_weight": sample_weight}
        with told(context, self, X=X, y=y, metadata=metadata):
            rows, input_shape = self._rows(X, y, sample_weight)
            layout, spec = self._design(rows, input_shape)
            self._learn(rows, layout, spec, context, previous)
        return self

    def _rows(self, X, y, sample_weight):
        """Step 1 of ``fit``: the rows, and the shape of a sample."""
        X, input_shape = flatten(X, self.input_shape)
        return RowBlocks(*self._check(X, y, sample_weight), self.n_jobs), input_shape

    def _learn(self, rows, layout, spec, context, previous=None):
        """Steps 2 to 6 of ``fit``."""
        known = {} if previous is None else self._reusable(previous, spec.blank)
        with single_threaded_blas(), reusing(), explaining(self, rows):
            fit = self._fit_rows(rows, spec, stage=telling(self, context), **known)
            self._store(fit, layout, rows.precision)
            self._describe(fit, context)
        self._warn(fit)

    def _reusable(self, previous, blank):
        """Return the moment of another network, and its kernels if alpha differs."""
        params, others = (e.get_params(deep=False) for e in (self, previous))
        changed = {name for name in params if repr(params[name]) != repr(others[name])}
        if changed & {"loss", "class_weight", "fit_intercept"}:
            return {}
        moment = previous.moment_.reshape(len(previous.moment_), -1).astype(float)
        is_alpha = changed == {"alpha"}
        known = self._known(previous, blank, settled=True) if is_alpha else None
        return {"moment": moment, "known": known}

    def _describe(self, fit, context):
        pass

    def _extend(self, X, y, sample_weight, **given):
        """``partial_fit``, with fitted attributes that are given."""
        self._validate_params()  # which scikit-learn does before the first part only
        draft = copy.copy(self)  # what fails half-way leaves the estimator as it was
        if not hasattr(self, "_stream"):
            forget(draft)
        vars(draft).update(given)
        fit = draft._take_in(X, y, sample_weight)
        vars(self).clear()
        vars(self).update(vars(draft))
        self._warn(fit)
        return self

    def _take_in(self, X, y, sample_weight):
        """Steps 1 to 6 of ``fit`` on the stream so far."""
        begun = hasattr(self, "_stream")
        X, input_shape = flatten(X, self.input_shape_ if begun else self.input_shape)
        X, y, weight = self._check(X, y, sample_weight, reset=not begun)
        part = RowBlocks(X, y, weight)
        layout, spec = self._design(part, input_shape)
        capacity = max(FEWEST_KEPT, KEPT_PER_WEIGHT * n_parameters(spec.blank))
        with single_threaded_blas(), reusing(), explaining(self, part):
            stream = stream_of(self._stream) if begun else empty_stream(X, y, spec.seed)
            stream = stream.extended(X, y, weight, capacity, self.n_jobs)
            grown = len(stream.sample.X) >= 2 * stream.searched
            known = None
            if begun:
                known = self._known(self, spec.blank, settled=not grown)
            fit = self._fit_rows(
                stream.rows(self.n_jobs),
                spec.with_alpha_times(stream.share_kept),
                moment=stream.moment.covariance(),
                known=known,
            )
            self._store(fit, layout, stream.sample.X.dtype)
            self._describe_stream(fit, grown, stream.share_kept)
        self._stream = stream.searched_if(grown).as_dict()
        return fit

    def _describe_stream(self, fit, grown, share_kept):
        pass

    def _known(self, fitted, blank, settled):
        """What each output begins with: a fitted network, where there is one."""
        intercept = {} if self.fit_intercept else {"intercept": 0.0}
        return [
            Known(network._replace(**intercept), settled)
            if self.polish and alike(network, blank) and np.any(network.scales)
            else None
            for network in networks_of(fitted)
        ]

    def _store(self, fit, layout, dtype):
        """Step 6 of ``fit``."""
        vars(self).update(attributes_of(fit.networks, layout, dtype))
        with np.errstate(over="ignore"):
            moment = fit.moment.astype(dtype)
        if not np.all(np.isfinite(moment)):
            raise FloatingPointError(f"the moment overflows {np.dtype(dtype).name}")
        self.moment_ = moment.reshape(-1, *layout.input_shape)
        self.n_iter_ = fit.n_iter

    def _warn(self, fit):
        is_linear = self.activations_ == ("identity",)
        if self.kernel_sizes is None and is_linear and self.n_features_in_ > 1:
            parameter, sizes = default_of_two_layers(self.input_shape_)
            warn(
                f"The network is linear: kernel_sizes=None splits an axis into two "
                f"factors, and input_shape {self.input_shape_} has none. For kernel "
                f"sizes {sizes} write {parameter}; if linear is what it should be, "
                f"write kernel_sizes={self.kernel_sizes_}."
            )
        if fit.out_of_budget:
            warn(
                f"The polish of output {fit.out_of_budget} used up max_iter="
                f"{self.max_iter} passes; raise max_iter, or tol={self.tol:g}.",
                ConvergenceWarning,
            )
        constant = np.flatnonzero(~self.scales_.any(axis=1)).tolist()
        if constant:
            warn(
                f"Nothing could be learned for output {constant}: its moment with X is "
                f"zero, or no network with kernel_sizes={self.kernel_sizes_} fits "
                f"better than a constant, which is what is predicted."
            )

    def _outputs(self, X):
        """Of the networks, (rows, outputs); X with a row per sample."""
        X, _ = flatten(X, self.input_shape_)
        X = validate_data(self, X, **READ_X, reset=False)
        outputs = predictions(networks_of(self), X, self.n_jobs)
        if not np.all(np.isfinite(outputs)):
            with np.errstate(invalid="ignore"):  # the check's own sum may overflow
                check_array(X, input_name="X", estimator=self)
        return X, outputs


class BasePatchRegressor(MultiOutputMixin, RegressorMixin, BasePatchNetwork):
    """A regressor whose fitted attributes are those of a patch network per output."""

    _parameter_constraints: dict = {
        **BasePatchNetwork._parameter_constraints,
        "share_filters": ["boolean"],
        "loss": [StrOptions({"squared_error", "huber"})],
        "epsilon": [Interval(Real, 1, None, closed="left")],
        "alpha": [StrOptions({"loo"}), Interval(Real, 0, None, closed="left")],
    }
    _design = design_regression
    _fit_rows = staticmethod(fit_rows)

    def _check(self, X, y, sample_weight, reset=True):
        data, y_ndim = check_rows(self, X, y, sample_weight, reset)
        self._y_ndim = y_ndim if reset else self._y_ndim
        return data

    def _describe(self, fit, context):
        with told(context.subcontext(task_name="uncertainty"), self):
            self._store_uncertainty(fit)
            self._store_verdict(fit)

    def _describe_stream(self, fit, grown, share_kept):
        if fit.specs[0].leave_one_out:
            self.alpha_ /= share_kept
        self._store_uncertainty(fit)
        if grown or np.isnan(self.held_out_r2_["network"]).any():
            self._store_verdict(fit)

    def _store(self, fit, layout, dtype):
        super()._store(fit, layout, dtype)
        if fit.specs[0].leave_one_out:
            self.alpha_ = fit.alphas
        if fit.scales is not None:
            self.residual_scale_ = fit.scales

    def _warn(self, fit):
        super()._warn(fit)
        ruled = fit.ruled_by_outliers()
        if ruled:
            warn(
                f"Few rows, far from the network, hold most of the sum of squared "
                f"residuals of output {ruled}: outliers of y rule the fit. "
                f"loss='huber' lets them count less."
            )

    def _store_uncertainty(self, fit):
        """How sure its weights are."""
        for name in ("covariance_", "noise_variance_"):
            vars(self).pop(name, None)
        if fit.specs[0].polish:
            n_outputs = len(fit.solutions)
            if fit.together is None:
                of_outputs = [uncertainty(fit, output) for output in range(n_outputs)]
            else:
                of_outputs = uncertainty_together(fit)
            covariances, noise_variances = zip(*of_outputs, strict=True)
            if covariances[0] is not None:
                self.covariance_ = np.array(covariances)
                self.noise_variance_ = np.array(noise_variances)

    def _store_verdict(self, fit):
        """Whether a network is what the data call for."""
        fit = fit.judged or fit
        units = None if fit.together is None else fit.together.units
        found = held_out(fit.problem, fit.specs, fit.solutions, units)
        self.held_out_r2_ = {"network": found.network, "linear": found.linear}
        self.verdict_ = found.verdict

    @overload
    def predict(
        self, X: ArrayLike, return_std: Literal[False] = False
    ) -> np.ndarray: ...

    @overload
    def predict(
        self, X: ArrayLike, return_std: Literal[True]
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, X: ArrayLike, return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Output of the network.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return its standard deviation too: how far the mean of y at X may
            be from the output, not a single y, whose variance is larger by
            ``noise_variance_``. It is that of nonlinear least squares: right for many
            samples, if y is a network of this shape plus noise of one variance, and
            blind to whether it is. ``alpha`` counts as prior knowledge.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the dtype of X, float32 or float64.
        y_std : ndarray of the same shape and dtype
            Only with ``return_std``; NaN where ``covariance_`` is.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            Where X has another number of features than in ``fit``, or NaN or inf; with
            ``return_std`` where the fit was one with ``polish=False``, or one of more
            weights than a covariance is stored for; where fitted attributes were
            changed and do not fit each other.
        """
        check_is_fitted(self)
        if return_std:
            self._check_has_covariance()
        X, outputs = self._outputs(X)
        predicted = like_y(outputs, self._y_ndim)
        if not return_std:
            return predicted
        networks = networks_of(self)

        def stds(block):
            of_outputs = [
                output_std(network, covariance, block)
                for network, covariance in zip(networks, self.covariance_, strict=True)
            ]
            return np.column_stack(of_outputs).astype(X.dtype)

        width = n_parameters(networks[0])
        std = concatenate_blocks(stds, X, self.n_jobs, width)
        std = like_y(std, self._y_ndim)
        return predicted, np.where(np.isfinite(predicted), std, np.nan)

    def _check_has_covariance(self):
        if hasattr(self, "covariance_"):
            return
        if not getattr(self, "polish", True):
            raise ValueError(
                "return_std=True needs a fit with polish=True: the kernels of the "
                "moment alone have no known covariance"
            )
        n_weights = n_parameters(networks_of(self)[0])
        raise ValueError(
            f"return_std=True needs the covariance of {n_weights} weights, which takes "
            f"{8 * n_weights**2 / 2**30:.3g} GiB and was not stored; use smaller "
            f"kernels in more layers"
        )
