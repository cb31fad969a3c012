"""SignalScaler and DeepTDFeatures: scaled signals, and responses of filters."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from skdeeptd._compat import (
    Interval,
    StrOptions,
    check_feature_names_in,
    fit_context,
)
from skdeeptd._data.rows import RowBlocks, concatenate_blocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.signals import (
    CLIP,
    VIEWS,
    as_signals,
    feature_units,
    in_units,
    signal_layout,
)
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._init.filters import (
    EACH_POSITION,
    Bank,
    Filters,
    column_names,
    default_dilations,
    default_taps,
    filter_responses,
    largest_dilation,
    learn_filters,
)
from skdeeptd._typing import KernelSizes, RandomState
from skdeeptd._validation import (
    X_VALIDATION,
    EstimatorMixin,
    check_containers,
    check_kind,
    check_new_rows,
    check_rows,
    check_weight,
    flatten,
    refuse_not_finite,
    reset_on_fit,
    translate_overflow_error,
)


class BaseSignalTransformer(EstimatorMixin, TransformerMixin, BaseEstimator):
    """Transform signals.

    A subclass learns in ``_learn_rows``, transforms in ``_responses`` and names the
    columns in ``_names``.
    """

    input_shape_: tuple[int, ...]
    view_: str | None
    shift_: np.ndarray
    scale_: np.ndarray
    _parameter_constraints: dict = {
        "input_shape": ["array-like", None],
        "view": [StrOptions(set(VIEWS[1:])), None],
        "n_jobs": [Integral, None],
    }

    def _layout(self, n_features, input_shape):
        """Return the layout of samples, checked against the view."""
        shape = (n_features,) if input_shape is None else tuple(input_shape)
        if math.prod(shape) != n_features:
            raise ValueError(
                f"input_shape={shape} has {math.prod(shape)} entries, but X has "
                f"{n_features} features"
            )
        layout = signal_layout(shape)
        if self.view == "derivative" and not layout.is_one_axis_of(3):
            raise ValueError(
                f"view='derivative' needs one axis of 3 values or more, beside axes of "
                f"channels, but samples have the shape {shape}; use view=None"
            )
        return layout

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Return the features of samples.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Between -5 and 5, in the dtype of X, float32 or float64; see
            :meth:`get_feature_names_out` for the order.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If X has another number of features than in ``fit``, or NaN or inf.
        """
        check_is_fitted(self)
        X = check_new_rows(self, X, self.input_shape_)
        outputs = self._responses(X)
        if not np.all(np.isfinite(outputs[:, 0])):
            refuse_not_finite(self, X, self.input_shape_)
        return outputs

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> np.ndarray:
        """Return a name for each column of ``transform``.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used; if given, there must be a name for each feature of X.

        Returns
        -------
        ndarray of str
            For signals "x3", or "channel1_x3" with several channels, counted from zero.
            For filters size, dilation, filter, statistic and part, such as
            "size9_dilation2_filter3_share0", "size9_dilation2_filter3_abs_part2of8"
            and "size3x3_dilation1_filter0_max_part1x0of4x4".

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If ``input_features`` does not match the features of X.
        """
        check_is_fitted(self)
        check_feature_names_in(self, input_features, generate_names=False)
        return np.asarray(self._names(), dtype=object)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


class SignalScaler(BaseSignalTransformer):
    """Standardise signals, after an optional derivative or standard normal variate.

    >>> from sklearn.linear_model import RidgeCV
    >>> from sklearn.pipeline import make_pipeline
    >>> from skdeeptd import SignalScaler
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y = make_patch_cnn_regression(100, (4, 5), random_state=0)
    >>> make_pipeline(SignalScaler(view="snv"), RidgeCV()).fit(X, y).predict(X).shape
    (100,)

    The mean of each feature is subtracted. The feature is divided by its standard
    deviation, or by a tenth of the median standard deviation if that is larger, so that
    nearly constant features are not amplified. Values are clipped at five of these
    units, so that new samples stay bounded.

    Parameters
    ----------
    view : {"derivative", "snv"}, default=None
        "derivative" is the first derivative along the signal (Savitzky-Golay, 15
        points). "snv" (standard normal variate) subtracts the mean of each signal and
        divides by its standard deviation. None means the signals themselves.
    input_shape : sequence of int, default=None
        Shape of a sample, if X has flat rows. None means one axis, or the shape of X
        itself.
    n_jobs : int or None, default=None
        Number of threads; results do not depend on it.

    Attributes
    ----------
    shift_, scale_ : ndarray of shape (n_features,)
        Mean and divisor of each feature, after the view.
    view_ : str or None
        View of the fit.
    input_shape_ : tuple of int
        Shape of a sample.
    n_features_in_, feature_names_in_
        As in scikit-learn.
    """

    def __init__(
        self,
        view: str | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        n_jobs: int | None = None,
    ) -> None:
        self.view = view
        self.input_shape = input_shape
        self.n_jobs = n_jobs

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Store the mean and the divisor of each feature.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : None
            Ignored.
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        SignalScaler
            The fitted transformer itself.

        Raises
        ------
        ValueError, TypeError
            If X or a parameter is invalid.
        """
        X, shape = flatten(X, self.input_shape)
        check_containers(sample_weight=sample_weight)
        X = validate_data(self, X, **X_VALIDATION)
        weight = check_weight(self, X, sample_weight)
        rows = RowBlocks(X, np.zeros((len(X), 1)), weight)
        self._learn_rows(rows.drop_zero_weight(), shape)
        return self

    def _learn_rows(self, rows, input_shape, random_state=None):
        """Fit to rows of positive weight, and return their features."""
        layout = self._layout(rows.n_features, input_shape)
        X = rows.X.astype(float, copy=False)
        share = rows.weight / np.sum(rows.weight)
        ignored = np.errstate(over="ignore", invalid="ignore")
        overflow = translate_overflow_error(self, rows, layout.input_shape)
        with overflow, ignored:
            columns = as_signals(X, layout, self.view).reshape(len(X), -1)
            self.shift_, self.scale_ = feature_units(columns, share)
        self.view_, self.input_shape_ = self.view, layout.input_shape
        self.n_features_in_ = rows.n_features
        return self._responses(X)

    def _responses(self, X, clip=CLIP):
        layout = signal_layout(self.input_shape_)

        def standard(block):
            with np.errstate(over="ignore", invalid="ignore"):
                columns = as_signals(block, layout, self.view_).reshape(len(block), -1)
                columns = in_units(columns, self.shift_, self.scale_)
                columns = np.clip(columns, -clip, clip).astype(X.dtype, copy=False)
            columns[~np.isfinite(block).all(axis=1)] = np.nan
            return columns

        return concatenate_blocks(standard, X, self.n_jobs)

    def _names(self):
        layout = signal_layout(self.input_shape_)
        channels = range(layout.n_channels)
        names = ["x" + "x".join(map(str, p)) for p in np.ndindex(layout.lengths)]
        prefix = "channel{}_" if len(channels) > 1 else ""
        return [prefix.format(c) + name for c in channels for name in names]


class DeepTDFeatures(BaseSignalTransformer):
    """Transform signals to pooled responses of filters learned from X and y.

    >>> from sklearn.linear_model import RidgeCV
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from skdeeptd import DeepTDFeatures
    >>> from sklearn.datasets import load_digits
    >>> X, digit = load_digits(return_X_y=True)
    >>> X, y = X[:300].reshape(-1, 8, 8), digit[:300] % 2
    >>> features = DeepTDFeatures(random_state=0)
    >>> model = make_pipeline(features, RidgeCV(alphas=[1, 10, 100, 1000]))
    >>> bool(cross_val_score(model, X, y).mean() > 0.7)
    True

    The filters find shift-invariant patterns, for several dilations. The learned
    filters are leading directions of the second moment of patches and y, pooled over
    positions (Stein's lemma, applied twice [1]_); the others are random [2]_. No filter
    is trained iteratively. A linear model, a kernel method or trees can follow in a
    Pipeline.

    Pass X without a scaler: the transformer standardises each channel as a whole. A
    StandardScaler would scale each feature separately and distort the patterns.

    Parameters
    ----------
    kernel_sizes : sequence of int or of tuple of int, default=None
        One or more sizes of patches. A size is an int, or a tuple with an entry for
        each axis other than that of the channels. None means 9 values of a signal or
        3 x 3 of an image, but at most half of an axis.
    input_shape : sequence of int, default=None
        Shape of a sample, if X has flat rows. None means one axis, or the shape of X
        itself. An axis less than half as long as another is the axis of the channels,
        and each patch spans it.
    dilations : sequence of int, default=None
        Distances between neighbouring values of a patch. None means 1, 2, 4, ... as
        long as the patch fits.
    n_filters : int, default=16
        Number of learned filters for each size and dilation. Half of them subtract the
        mean of the patch.
    n_random_filters : int, default=16
        Number of random filters for each size and dilation. Half of them subtract the
        mean of the patch.
    pooling : "global", "local", int or sequence of them, default="global"
        Number of parts of each axis over which responses are pooled: "global" is one
        part, "local" has a part for each position. With one part the position of a
        pattern does not matter. A sequence gives the features for each of its entries.
    view : {"derivative", "snv"}, default=None
        As in :class:`SignalScaler`.
    target_type : {"auto", "continuous", "multiclass"}, default="auto"
        Whether y holds numbers or classes. "auto" treats strings and booleans as
        classes, and numbers as continuous.
    random_state : int, RandomState instance or None, default=None
        Seed of the random filters.
    n_jobs : int or None, default=None
        Number of threads; results do not depend on it.

    Attributes
    ----------
    kernels_ : list of ndarray of shape (n_filters, n_channels) + kernel size
        One entry per size and dilation, for standardised channels. The responses to the
        training samples have mean zero and standard deviation one.
    biases_ : list of ndarray of shape (n_filters,)
        Biases of the filters.
    ramps_ : list of ndarray of shape (n_filters, 5, 2)
        Responses at which the ramp of each share begins and ends; see Notes.
    kernel_sizes_, dilations_ : tuple
        Size and dilation of each entry of ``kernels_``.
    pooling_ : tuple of int
        Parts of each axis.
    view_ : str or None
        View of the fit.
    input_shape_ : tuple of int
        Shape of a sample.
    shift_, scale_ : ndarray of shape (n_channels, 1)
        Mean and standard deviation of the channels.
    center_, unit_ : ndarray of shape (n_features_out,)
        Mean and divisor of the features. A feature that varies less than a hundredth of
        the typical one is set to zero; its ``unit_`` is infinite.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    Notes
    -----
    The features of a filter over all positions are the mean, the mean absolute value,
    the maximum, and the shares of responses above five quantiles (0.1, 0.25, 0.5, 0.75
    and 0.9). A share counts a response by a ramp, not by a step: the ramp rises from
    the quantile 0.05 below to the quantile 0.05 above. The features over a part are the
    mean, the mean absolute value and the maximum; those at a single position are the
    response and its absolute value.

    Time and memory grow with the square of the number of values in a patch (channels
    included), and linearly with the numbers of samples and positions. At most 1000
    positions are used.

    References
    ----------
    .. [1] M. Janzamin, H. Sedghi, A. Anandkumar. Beating the perils of non-convexity:
       guaranteed training of neural networks using tensor methods.
       arXiv:1506.08473, 2015.
    .. [2] A. Dempster, D. Schmidt, G. Webb. MiniRocket: a very fast (almost)
       deterministic transform for time series classification. KDD, 2021.
    """

    kernels_: list[np.ndarray]
    biases_: list[np.ndarray]
    ramps_: list[np.ndarray]
    kernel_sizes_: tuple
    dilations_: tuple[int, ...]
    pooling_: tuple[int, ...]
    center_: np.ndarray
    unit_: np.ndarray
    _parameter_constraints: dict = {
        **BaseSignalTransformer._parameter_constraints,
        "kernel_sizes": ["array-like", None],
        "dilations": ["array-like", None],
        "n_filters": [Interval(Integral, 0, None, closed="left")],
        "n_random_filters": [Interval(Integral, 0, None, closed="left")],
        "pooling": [
            StrOptions({"global", "local"}),
            Interval(Integral, 1, None, closed="left"),
            list,
            tuple,
        ],
        "target_type": [StrOptions({"auto", "continuous", "multiclass"})],
        "random_state": ["random_state"],
    }

    def __init__(
        self,
        kernel_sizes: KernelSizes | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        dilations: Sequence[int] | None = None,
        n_filters: int = 16,
        n_random_filters: int = 16,
        pooling: str | int | Sequence[str | int] = "global",
        view: str | None = None,
        target_type: str = "auto",
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.kernel_sizes = kernel_sizes
        self.input_shape = input_shape
        self.dilations = dilations
        self.n_filters = n_filters
        self.n_random_filters = n_random_filters
        self.pooling = pooling
        self.view = view
        self.target_type = target_type
        self.random_state = random_state
        self.n_jobs = n_jobs

    @reset_on_fit
    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn the filters from X and y.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Numbers, or classes of shape (n_samples,).
        sample_weight : array-like of shape (n_samples,), default=None

        Returns
        -------
        DeepTDFeatures
            The fitted transformer itself.

        Raises
        ------
        ValueError, TypeError
            If X, y or a parameter is invalid.
        """
        X, shape = flatten(X, self.input_shape)
        (X, y, weight), _ = check_rows(self, X, self._targets(y), sample_weight)
        rows = RowBlocks(X, y, weight, self.n_jobs).drop_zero_weight()
        self._learn_rows(rows, shape)
        return self

    def _learn_rows(self, rows, input_shape, random_state=None):
        """Fit to rows of positive weight, and return their features."""
        layout = self._layout(rows.n_features, input_shape)
        shapes, pooling = self._shapes(layout.lengths), self._parts()
        counts = self.n_filters, self.n_random_filters
        if sum(counts) == 0:
            raise ValueError(
                "n_filters and n_random_filters are both 0; give at least one filter"
            )
        seed = random_state if self.random_state is None else self.random_state
        rng = check_random_state(seed)
        overflow = translate_overflow_error(self, rows, layout.input_shape)
        with single_threaded_blas(), reusing(), overflow:
            filters, table = learn_filters(
                rows, layout, self.view, shapes, counts, pooling, rng
            )
        self.kernels_ = [
            bank.kernels.reshape(-1, layout.n_channels, *bank.taps)
            for bank in filters.banks
        ]
        self.biases_ = [bank.biases for bank in filters.banks]
        self.ramps_ = [bank.ramps for bank in filters.banks]
        self.kernel_sizes_, self.dilations_ = zip(*shapes, strict=True)
        self.pooling_, self.view_ = pooling, self.view
        self.input_shape_ = layout.input_shape
        self.shift_, self.scale_ = filters.shift, filters.scale
        self.center_, self.unit_ = filters.center, filters.unit
        self.n_features_in_ = rows.n_features
        return table

    def _targets(self, y):
        """Return y, or a column per class if y holds classes."""
        if y is None:
            return None
        check_containers(y=y)
        check_kind(self, y)
        values = np.asarray(y)
        has_labels = values.dtype.kind not in "iufcO" or (
            values.dtype.kind == "O"
            and any(isinstance(v, str | bytes | bool | np.bool_) for v in values.flat)
        )
        is_classes = self.target_type == "multiclass"
        if is_classes or (self.target_type == "auto" and has_labels):
            return LabelBinarizer().fit_transform(column_or_1d(y, warn=True))
        return y

    def _parts(self):
        """Return the parts of each axis, as a tuple of numbers."""
        given = self.pooling
        given = given if isinstance(given, list | tuple) else [given]
        named, found = {"global": 1, "local": EACH_POSITION}, []
        for entry in given:
            n_parts = named.get(entry, entry) if isinstance(entry, str) else entry
            is_number = isinstance(n_parts, Integral) and not isinstance(n_parts, bool)
            if not is_number or n_parts < 1:
                raise ValueError(
                    f"pooling must be 'global', 'local', a number of parts from 1, or "
                    f"a sequence of these, got {self.pooling!r}"
                )
            found.append(int(n_parts))
        if not found or len(set(found)) < len(found):
            raise ValueError(
                f"pooling must hold different numbers of parts, at least one, got "
                f"{self.pooling!r}"
            )
        return tuple(found)

    def _shapes(self, lengths):
        """Return (taps, dilation) of each bank."""
        sizes, found = self.kernel_sizes, []
        sizes = [default_taps(lengths)] if sizes is None else sizes
        if len(sizes) == 0:
            raise ValueError("kernel_sizes is empty; give at least one kernel size")
        for size in sizes:
            taps, dilations = _on_each_axis(size, lengths), self.dilations
            if dilations is None:
                dilations = default_dilations(lengths, taps)
            largest = largest_dilation(lengths, taps)
            for dilation in dilations:
                is_number = isinstance(dilation, Integral)
                is_number = is_number and not isinstance(dilation, bool)
                if not is_number or not 1 <= dilation <= largest:
                    raise ValueError(
                        f"dilation {dilation!r} does not fit a patch of {taps} in "
                        f"{lengths}; use an integer from 1 to {largest}"
                    )
                found.append((taps, int(dilation)))
        if not found or len(set(found)) < len(found):
            raise ValueError(
                f"kernel_sizes and dilations must be different, and at least one of "
                f"each, got {self.kernel_sizes!r} and {self.dilations!r}"
            )
        return tuple(found)

    def _responses(self, X):
        return filter_responses(filters_of(self), X, self.n_jobs)

    def _names(self):
        return column_names(filters_of(self))

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        return tags


def filters_of(features):
    """Return the ``Filters`` of fitted features."""
    banks = tuple(
        Bank(taps, dilation, kernels.reshape(len(kernels), -1), biases, ramps)
        for taps, dilation, kernels, biases, ramps in zip(
            features.kernel_sizes_,
            features.dilations_,
            features.kernels_,
            features.biases_,
            features.ramps_,
            strict=True,
        )
    )
    return Filters(
        signal_layout(features.input_shape_),
        features.view_,
        features.pooling_,
        features.shift_,
        features.scale_,
        banks,
        features.center_,
        features.unit_,
    )


def _on_each_axis(size, lengths):
    """Return a tuple with an entry per axis other than that of the channels."""
    taps = tuple(size) if np.iterable(size) else (size,)
    is_number = all(isinstance(k, Integral) and not isinstance(k, bool) for k in taps)
    if len(taps) != len(lengths) or not is_number or min(taps) < 1:
        raise ValueError(
            f"kernel size {size!r} must have a positive integer for each of the "
            f"{len(lengths)} axes without channels, such as {default_taps(lengths)}"
        )
    too_long = [k > n for k, n in zip(taps, lengths, strict=True)]
    if any(too_long):
        raise ValueError(
            f"kernel size {size!r} is longer than an axis of {lengths}; use at most "
            f"{tuple(map(min, taps, lengths))}"
        )
    return tuple(int(k) for k in taps)
