"""Fit, store and predict: the base of all estimators of patch networks."""

from __future__ import annotations

import copy
import functools
from numbers import Integral, Real
from typing import Literal, overload

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from skdeeptd._compat import (
    CallbackSupportMixin,
    Interval,
    StrOptions,
    callback_task,
    fit_context,
)
from skdeeptd._covariance import covariances, held_out_scores, output_std
from skdeeptd._data.rows import RowBlocks, concatenate_blocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.stream import empty_stream, stream_of
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._fit import fit_rows, null_stage
from skdeeptd._init.multi_start import Spec
from skdeeptd._intervals import IntervalMixin
from skdeeptd._loss import Poisson, SquaredError
from skdeeptd._network.activations import ACTIVATIONS, layer_activations
from skdeeptd._network.fitted import attributes_of, networks_of, predictions
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, same_structure
from skdeeptd._validation import (
    EstimatorMixin,
    callback_stage,
    check_new_rows,
    check_rows,
    check_targets,
    clear_fitted_attributes,
    covariate_columns,
    flatten,
    like_y,
    refuse_not_finite,
    reporter,
    translate_overflow_error,
    warn,
    warn_of_nan_deviations,
)


def design(estimator, n_features, input_shape, n_filters, alpha, loss):
    """Return the layout and the ``Spec`` of the parameters that all networks have."""
    n_covariates = len(estimator.covariate_indices_)
    n_features -= n_covariates
    layout = make_layout(
        n_features, estimator.kernel_sizes, input_shape, estimator.strides
    )
    activations = layer_activations(
        estimator.activation, estimator.output_activation, len(layout.sizes)
    )
    how = {"hidden_bias": estimator.hidden_bias, "n_covariates": n_covariates}
    blank = blank_network(layout, n_filters, activations, **how)
    n_copies = n_filters // blank.n_filters
    return layout, Spec(
        blank=blank,
        alpha=alpha / n_copies,
        fit_intercept=estimator.fit_intercept,
        loss=loss,
        n_copies=n_copies,
        polish=estimator.polish,
        max_iter=estimator.max_iter,
        tol=estimator.tol,
        n_init=estimator.n_init,
        seed=check_random_state(estimator.random_state).randint(np.iinfo(np.int32).max),
        report=reporter(estimator),
    )


def design_regression(estimator, rows, input_shape):
    """Return the layout and the ``Spec`` of the parameters of DeepTDRegressor."""
    loo, n_sharing = estimator.alpha == "loo", 0
    layout, spec = design(
        estimator,
        rows.n_features,
        input_shape,
        estimator.n_filters,
        alpha=0.0 if loo else estimator.alpha,
        loss=Poisson() if estimator.loss == "poisson" else SquaredError(),
    )
    if estimator.share_filters and len(layout.sizes) > 1:
        n_outputs = rows.first_row()[1].shape[1]
        n_sharing = n_outputs if n_outputs > 1 else 0
    if loo and estimator.output_activation != "identity":
        raise ValueError(
            f"alpha='loo' is for a last layer that is linear, but "
            f"output_activation is {estimator.output_activation!r}; give alpha a number"
        )
    huber = estimator.loss == "huber"
    if (loo and estimator.loss != "squared_error") or (huber and n_sharing):
        other = "alpha='loo'" if loo else "share_filters=True with several outputs"
        raise ValueError(
            f"loss={estimator.loss!r} does not go with {other}; change one of them"
        )
    return layout, spec._replace(
        n_sharing=n_sharing,
        leave_one_out=loo,
        epsilon=estimator.epsilon if huber else None,
    )


class BasePatchNetwork(EstimatorMixin, CallbackSupportMixin, BaseEstimator):
    """Fit networks to any target, and store a network per output.

    A subclass validates y in ``_check``, chooses the network in ``_design``, and adds
    attributes in ``_store``.
    """

    kernels_: list[np.ndarray]
    gains_: np.ndarray
    scales_: np.ndarray
    biases_: np.ndarray
    intercept_: np.ndarray
    moment_: np.ndarray
    kernel_sizes_: tuple
    strides_: tuple
    input_shape_: tuple[int, ...]
    activations_: tuple[str, ...]
    covariate_indices_: np.ndarray
    covariate_coef_: np.ndarray
    n_iter_: int
    _parameter_constraints: dict = {
        "kernel_sizes": ["array-like", None],
        "input_shape": ["array-like", None],
        "covariates": ["array-like", None],
        "strides": [Interval(Integral, 1, None, closed="left"), "array-like", None],
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
        """Fit like ``fit``, with results of a network fitted to the same rows."""
        self._validate_params()
        return self._fit(X, y, sample_weight, previous=previous)

    def _fit(self, X, y, sample_weight, make_rows=None, previous=None):
        """Fit the rows that ``make_rows(X, y, sample_weight)`` gives, or these."""
        context = self._init_callback_context(max_subtasks=4)
        metadata = {"sample_weight": sample_weight}
        with callback_task(context, self, X=X, y=y, metadata=metadata):
            if make_rows is not None:
                self._refuse_covariates("a fit of dask collections")
                rows, input_shape = make_rows(X, y, sample_weight)
            else:
                X, input_shape = flatten(X, self.input_shape, self.covariates)
                X, y, weight = self._check(X, y, sample_weight)
                found = covariate_columns(self, input_shape)
                self.covariate_indices_, input_shape = found
                rows = RowBlocks(self._arranged(X), y, weight, self.n_jobs)
            layout, spec = self._design(rows, input_shape)
            check_targets(rows, spec.loss)
            known = {} if previous is None else self._reusable(previous, spec.blank)
            stage = callback_stage(self, context)
            overflow = translate_overflow_error(self, rows, layout.input_shape)
            with single_threaded_blas(), reusing(), overflow:
                fit = fit_rows(rows, spec, stage=stage, **known)
                self._store(fit, layout, rows.precision, stage)
            self._warn(fit)
        return self

    _fit_chunks = fit_context(prefer_skip_nested_validation=True)(_fit)

    def _arranged(self, X):
        """Return X with the covariates behind the columns of the signal."""
        if not len(self.covariate_indices_):
            return X
        signal = np.delete(X, self.covariate_indices_, axis=1)
        return np.hstack([signal, X[:, self.covariate_indices_]])

    def _refuse_covariates(self, method):
        if self.covariates is not None and len(self.covariates):
            raise ValueError(
                f"covariates={list(self.covariates)} do not go with {method}; use fit "
                f"with an array in memory, or covariates=None"
            )
        self.covariate_indices_ = np.zeros(0, int)

    def _reusable(self, previous, blank):
        """Return the moment of another network, and its kernels if alpha differs."""
        params, others = (e.get_params(deep=False) for e in (self, previous))
        changed = {name for name in params if repr(params[name]) != repr(others[name])}
        if changed & {"loss", "class_weight", "covariates", "fit_intercept"}:
            return {}
        moment = previous.moment_.reshape(len(previous.moment_), -1).astype(float)
        first = self._first(previous, blank) if changed == {"alpha"} else None
        return {"moment": moment, "first": first, "is_settled": True}

    def _partial_fit(self, X, y, sample_weight, **given):
        """Fit one more part of a stream, with fitted attributes that are given."""
        self._validate_params()  # scikit-learn does so before the first part only
        draft = copy.copy(self)  # an error leaves the estimator as it was
        if not hasattr(self, "_stream"):
            clear_fitted_attributes(draft)
        vars(draft).update(given)
        with np.errstate(under="ignore"):
            fit = draft._partial_fit_batch(X, y, sample_weight)
        draft._warn(fit)  # raises if warnings are errors
        vars(self).clear()
        vars(self).update(vars(draft))
        return self

    def _partial_fit_batch(self, X, y, sample_weight):
        """Carry out steps 1 to 6 of ``fit`` on the stream so far."""
        begun = hasattr(self, "_stream")
        self._refuse_covariates("partial_fit")
        X, input_shape = flatten(X, self.input_shape_ if begun else self.input_shape)
        X, y, weight = self._check(X, y, sample_weight, reset=not begun)
        part = RowBlocks(X, y, weight)
        layout, spec = self._design(part, input_shape)
        check_targets(part, spec.loss)
        is_log = isinstance(spec.loss, Poisson)  # the moment is not that of y itself
        capacity = max(1000, 100 * spec.blank.n_weights)  # rows that are kept
        overflow = translate_overflow_error(self, part, layout.input_shape)
        with single_threaded_blas(), reusing(), overflow:
            stream = stream_of(self._stream) if begun else empty_stream(X, y, spec.seed)
            stream = stream.extended(X, y, weight, capacity, self.n_jobs)
            grown = len(stream.sample.X) >= 2 * stream.searched
            fit = fit_rows(
                stream.rows(self.n_jobs),
                spec._replace(alpha=spec.alpha * stream.share_kept),
                moment=None if is_log else stream.moment.covariance(),
                first=self._first(self, spec.blank) if begun else None,
                is_settled=not grown,
            )
            dtype = stream.sample.X.dtype
            self._store(fit, layout, dtype, null_stage, stream.share_kept)
        searched = len(stream.sample.X) if grown else stream.searched
        self._stream = stream._replace(searched=searched).as_dict()
        return fit

    def _first(self, fitted, blank):
        """Return a network per output to begin with, None if the shape differs."""
        intercept = {} if self.fit_intercept else {"intercept": np.zeros(1)}
        return [
            network._replace(**intercept)
            if self.polish and same_structure(network, blank) and np.any(network.heads)
            else None
            for network in networks_of(fitted)
        ]

    def _store(self, fit, layout, dtype, stage, share_kept=1.0):
        """Carry out step 6 of ``fit``; of a stream, ``share_kept`` was fitted."""
        activations = layer_activations(
            self.activation, self.output_activation, len(layout.sizes)
        )
        spec = fit.parts[0][1]
        n_filters = spec.blank.n_filters * spec.n_copies
        vars(self).update(
            attributes_of(fit.networks, layout, activations, dtype, n_filters)
        )
        with np.errstate(over="ignore"):
            moment = fit.moment.astype(dtype)
        if not np.all(np.isfinite(moment)):
            raise FloatingPointError(f"the moment overflows {np.dtype(dtype).name}")
        self.moment_ = moment.reshape(-1, *layout.input_shape)
        self.n_iter_ = max(solution.n_iter for _, _, solution in fit.parts)

    def _warn(self, fit):
        is_linear = self.activations_ == ("identity",)
        if self.kernel_sizes is None and is_linear and self.n_features_in_ > 1:
            warn(
                f"The network is linear: kernel_sizes=None takes one layer, since no "
                f"axis of input_shape {self.input_shape_} is longer than 2. For a "
                f"hidden layer write kernel_sizes={(*self.kernel_sizes_, 1)}; for a "
                f"linear model write kernel_sizes={self.kernel_sizes_}."
            )
        if fit.unconverged_outputs:
            warn(
                f"The fit of output {fit.unconverged_outputs} did not converge in max_"
                f"iter={self.max_iter} passes; raise max_iter, or tol={self.tol:g}.",
                ConvergenceWarning,
            )
        constant = np.flatnonzero(~self.scales_.any(axis=1)).tolist()
        has_one_class = is_classifier(self) and fit.separates_classes  # so far
        if constant and not has_one_class:
            warn(
                f"Nothing could be learned for output {constant}: its moment with X is "
                f"zero, or no network with kernel_sizes={self.kernel_sizes_} fits "
                f"better than a constant, which is predicted."
            )

    def _validated(self, X):
        """Return X with a row per sample, as floats that may not be finite."""
        return self._arranged(check_new_rows(self, X, self.input_shape_))

    def _outputs(self, X):
        """Return the outputs of the networks, (rows, outputs), for validated X."""
        outputs = predictions(networks_of(self), X, self.n_jobs)
        if not np.all(np.isfinite(outputs)):
            refuse_not_finite(self, X, self.input_shape_)
        return outputs


OF_SOME_FITS = (
    "alpha_",
    "scale_",
    "covariance_",
    "noise_variance_",
    "conformity_scores_",
    "conformity_weight_",
    "loo_r2_",
)


class BasePatchRegressor(
    IntervalMixin, MultiOutputMixin, RegressorMixin, BasePatchNetwork
):
    """Fit numbers by a patch network per output."""

    alpha_: np.ndarray
    scale_: np.ndarray
    covariance_: np.ndarray
    noise_variance_: np.ndarray
    loo_r2_: np.ndarray
    link_: str
    _parameter_constraints: dict = {
        **BasePatchNetwork._parameter_constraints,
        "share_filters": ["boolean"],
        "loss": [StrOptions({"squared_error", "huber", "poisson"})],
        "epsilon": [Interval(Real, 1, 1e6, closed="both")],
        "alpha": [StrOptions({"loo"}), Interval(Real, 0, None, closed="left")],
    }
    _design = design_regression

    def _check(self, X, y, sample_weight, reset=True):
        data, y_ndim = check_rows(self, X, y, sample_weight, reset)
        self._y_ndim = y_ndim if reset else self._y_ndim
        return data

    def _store(self, fit, layout, dtype, stage, share_kept=1.0):
        super()._store(fit, layout, dtype, stage)
        for name in OF_SOME_FITS:  # of other parameters, earlier in the stream
            vars(self).pop(name, None)
        if self.alpha == "loo":
            self.alpha_ = fit.alphas / share_kept
        if fit.scales is not None:
            self.scale_ = fit.scales
        self.link_ = "log" if self.loss == "poisson" else "identity"
        with stage("uncertainty"):
            self._store_uncertainty(fit)

    def _warn(self, fit):
        super()._warn(fit)
        useless = np.flatnonzero(getattr(self, "loo_r2_", np.ones(1)) < 0).tolist()
        if useless:
            shown = np.round(self.loo_r2_[useless], 2).tolist()
            warn(
                f"The network will predict output {useless} of new samples worse than "
                f"the mean of y does: R2 is about {shown} by leave-one-out. alpha > 0, "
                f"more samples, smaller kernels or DeepTDAutoRegressor may help."
            )
        dominated = fit.outputs_with_dominant_outliers()
        if dominated:
            warn(
                f"Few rows hold most of the sum of squared residuals of output "
                f"{dominated}: outliers of y dominate the fit. loss='huber' limits "
                f"their influence."
            )

    def _store_uncertainty(self, fit):
        """Store the covariance of the weights, the noise variance and residuals."""
        if not self.polish:
            return
        found = covariances(fit, self.activations_[-1] == "identity")
        of_outputs, noise_variances = zip(*found, strict=True)
        if of_outputs[0] is None:
            return
        self.covariance_ = np.array(of_outputs)
        if self.link_ == "identity":
            self.noise_variance_ = np.array(noise_variances)
        units = fit.problem._replace(rows=None)
        look = functools.partial(self._leave_one_out, units)
        found = fit.problem.few_rows().run_together(look)
        self.conformity_scores_, self.conformity_weight_, r2 = found
        if fit.scales is None:  # outliers of y dominate squares
            self.loo_r2_ = r2

    def _leave_one_out(self, problem, rows):
        """Return scores, weights and R2 of some rows, as if the fit had not seen them.

        ``problem`` is the ``Standardized`` of the rows, which may lie elsewhere.
        """
        rows = rows.drop_zero_weight()
        y = rows.y * problem.unit + problem.shift
        weight = rows.weight * problem.heaviest
        if len(y) < problem.n_rows:  # draws count as average rows
            weight = weight * (problem.total / np.sum(rows.weight))
        with np.errstate(over="ignore", invalid="ignore"):
            mean, std = (
                a.reshape(y.shape)
                for a in self._predict(rows.X.astype(float), return_std=True)
            )
            variance = self._variance(mean)
            scores, r2 = held_out_scores(y, mean, std**2, variance, weight)
        return scores, weight, r2

    def _variance(self, mean):
        """Return the variance of y around its mean: (rows, outputs), or (outputs,)."""
        return mean if self.link_ == "log" else self.noise_variance_

    def _mean_and_spread(self, X):
        found = self._predict(self._validated(X), return_std=True)
        mean, std = (a.reshape(len(a), -1) for a in found)
        return mean, np.sqrt(std**2 + self._variance(mean)).astype(mean.dtype)

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
        """Predict the mean of y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        return_std : bool, default=False
            Whether to return the standard deviation of the mean of y, too. The variance
            of a single y is larger by ``noise_variance_``. See Notes.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            In the dtype of X, or float64 if y overflows float32. Infinite if a
            prediction overflows.
        y_std : ndarray of the same shape and dtype
            Only with ``return_std``; NaN, with a warning, if ``covariance_`` is.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If X has another number of features than in ``fit``, or NaN or inf. Also if
            fitted attributes were changed and do not fit each other. With
            ``return_std`` also if the fit had ``polish=False``, or if the covariance
            was too large to be stored.

        Notes
        -----
        The standard deviation is that of nonlinear least squares. It is correct for
        many samples if y is a network of this shape plus noise of constant variance;
        ``alpha`` counts as a prior. It ignores misspecification, local minima, model
        selection and correlated noise.
        """
        check_is_fitted(self)
        found = self._predict(self._validated(X), return_std)
        if return_std and np.any(np.isnan(self.covariance_)):
            warn_of_nan_deviations()
        return found

    def _predict(self, X, return_std):
        """Predict for X that is validated."""
        if return_std and not hasattr(self, "covariance_"):
            self._refuse_std()
        outputs = self._outputs(X)
        link = Poisson() if self.link_ == "log" else SquaredError()
        means = link.mean(outputs)
        predicted = like_y(means, self._y_ndim)
        if not return_std:
            return predicted
        networks = networks_of(self)
        pairs = list(zip(networks, self.covariance_, strict=True))
        has_linear_end = self.activations_[-1] == "identity"

        def stds(block):
            of_outputs = [output_std(*pair, has_linear_end, block) for pair in pairs]
            return np.column_stack(of_outputs).astype(outputs.dtype)

        width = networks[0].n_weights
        std = concatenate_blocks(stds, X, self.n_jobs, width)
        with np.errstate(over="ignore"):
            std = std * link.mean_derivative(outputs)
            std = np.minimum(std, np.finfo(std.dtype).max)  # NaN stays
        std = like_y(std, self._y_ndim)
        return predicted, np.where(np.isfinite(predicted), std, np.nan)

    def _refuse_std(self):
        if not getattr(self, "polish", True):
            raise ValueError(
                "return_std=True needs a fit with polish=True: the kernels of the "
                "moment alone have no known covariance"
            )
        n_weights = (
            self.kernels_[0].shape[1]
            * (sum(k[0, 0].size for k in self.kernels_) + 1 + self.biases_.shape[2])
            + 1
        )
        raise ValueError(
            f"return_std=True needs the covariance of {n_weights} weights, which takes "
            f"{8 * n_weights**2 / 2**30:.3g} GiB and was not stored; use smaller "
            f"kernels in more layers"
        )
