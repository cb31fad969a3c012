"""DeepTDFeatures: responses of filters learned from moments, as a transformer."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d

from skdeeptd._compat import (
    Interval,
    StrOptions,
    check_feature_names_in,
    fit_context,
)
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._init.filters import (
    Filters,
    column_names,
    filter_responses,
    learn_filters,
)
from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd._network.fitted import fitted_layout
from skdeeptd._network.kernel_sizes import (
    default_patch_shapes,
    default_patch_strides,
    make_layout,
)
from skdeeptd._network.network import Network
from skdeeptd._typing import KernelSizes, RandomState, Strides
from skdeeptd._validation import (
    DocLinkMixin,
    check_new_rows,
    check_rows,
    flatten,
    reset_on_fit,
    translate_overflow_error,
)


class DeepTDFeatures(DocLinkMixin, TransformerMixin, BaseEstimator):
    """Transform samples to the responses of convolutional filters learned from X and y.

    The transformer is supervised; a linear model, a kernel method or trees can follow
    it in a Pipeline. Half of the filters are leading directions of the first moment of
    patches with y, half of the second (Stein's lemma, once and twice), for several
    kernel sizes side by side. There is no iterative training: each size takes two
    passes over the data. With few samples ridge regression on these features is often
    better than a network with trained kernels; with many samples, or if y is the
    output of such a network, :class:`DeepTDRegressor` is.

    Each feature of X and each response is divided by its standard deviation, or by a
    tenth of the median standard deviation if that is larger; constant columns and
    columns that hardly vary do not count in the median. Responses are clipped at five
    standard deviations, so that they stay bounded for any new sample. Responses with
    less than a hundredth of the median standard deviation become zero.

    Parameters
    ----------
    kernel_sizes : sequence of int or of tuple of int, default=None
        Kernel sizes, each with filters of its own; a tuple has an entry per axis
        of ``input_shape``. None takes three: a sixteenth, an eighth and a quarter of a
        signal, a sixth, a quarter and a third of each side of an image, but 3, 4 and 5
        at least, and the whole of an axis that is less than a quarter of another, as
        that of channels often is.
    input_shape : sequence of int, default=None
        Shape of a sample, if X has a flat row for each; None for one axis, or the
        shape of X itself.
    strides : int or sequence of int or of tuple of int, default=None
        Step between neighbouring patches, one for each kernel size or one for all. None
        takes a quarter of the patch, or more if patches would be more than 200.
    n_filters : int, default=16
        Number of filters of each size.
    activation : str, default="relu"
        Activation of the filters, as in :class:`DeepTDRegressor`.
    pooling : {"local", "global", "both"}, default="local"
        "local" gives the response of each filter at each position. "global" gives, for
        patterns that may occur anywhere, the mean response, the share of positions
        where the pre-activation is positive, and the maximum of the pre-activation,
        over all positions and over four parts. "both" gives both.
    standardize : bool, default=True
        Whether each feature of X is divided by its own standard deviation; if False,
        all are divided by the same number, for features in one unit.
    target_type : {"auto", "continuous", "multiclass"}, default="auto"
        "auto" treats y of strings or booleans as classes and y of numbers as
        continuous.
    random_state : int, RandomState instance or None, default=None
        Seed of the signs and the biases of the filters.
    n_jobs : int or None, default=None
        Number of threads; results do not depend on it.

    Attributes
    ----------
    kernels_ : list of ndarray of shape (n_filters,) + kernel size
        One entry per kernel size, for standardised features.
    biases_ : ndarray of shape (n_sizes, n_filters)
        Biases of the filters.
    kernel_sizes_, strides_ : tuple
        Kernel sizes and strides of the fit.
    input_shape_ : tuple of int
        Shape of a sample.
    activation_, pooling_ : str
        Activation and pooling of the fit.
    shift_, scale_ : ndarray of shape (n_features,)
        Mean and divisor of the features of X.
    center_, unit_ : ndarray of shape (n_features_out,)
        Mean and divisor of the responses; ``unit_`` is infinite for those set to zero.
    n_features_in_, feature_names_in_
        As in scikit-learn.

    References
    ----------
    .. [1] S. Oymak, M. Soltanolkotabi. End-to-end learning of a convolutional neural
       network via deep tensor decomposition. arXiv:1805.06523, 2018.
    .. [2] M. Janzamin, H. Sedghi, A. Anandkumar. Beating the perils of non-convexity:
       guaranteed training of neural networks using tensor methods.
       arXiv:1506.08473, 2015.

    Examples
    --------
    >>> from sklearn.linear_model import RidgeCV
    >>> from sklearn.model_selection import cross_val_score
    >>> from sklearn.pipeline import make_pipeline
    >>> from skdeeptd import DeepTDFeatures
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y = make_patch_cnn_regression(
    ...     200, (4, 15), strides=1, n_filters=4, random_state=0
    ... )
    >>> features = DeepTDFeatures(random_state=0)
    >>> model = make_pipeline(features, RidgeCV(alphas=[1, 10, 100, 1000]))
    >>> bool(cross_val_score(model, X, y).mean() > 0.1)
    True
    """

    _parameter_constraints: dict = {
        "kernel_sizes": ["array-like", None],
        "input_shape": ["array-like", None],
        "strides": [Interval(Integral, 1, None, closed="left"), "array-like", None],
        "n_filters": [Interval(Integral, 1, None, closed="left")],
        "activation": [StrOptions(set(ACTIVATIONS))],
        "pooling": [StrOptions({"local", "global", "both"})],
        "standardize": ["boolean"],
        "target_type": [StrOptions({"auto", "continuous", "multiclass"})],
        "random_state": ["random_state"],
        "n_jobs": [Integral, None],
    }

    def __init__(
        self,
        kernel_sizes: KernelSizes | None = None,
        *,
        input_shape: Sequence[int] | None = None,
        strides: Strides | None = None,
        n_filters: int = 16,
        activation: str = "relu",
        pooling: str = "local",
        standardize: bool = True,
        target_type: str = "auto",
        random_state: RandomState = None,
        n_jobs: int | None = None,
    ) -> None:
        self.kernel_sizes = kernel_sizes
        self.input_shape = input_shape
        self.strides = strides
        self.n_filters = n_filters
        self.activation = activation
        self.pooling = pooling
        self.standardize = standardize
        self.target_type = target_type
        self.random_state = random_state
        self.n_jobs = n_jobs

    @reset_on_fit
    def fit(
        self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None
    ) -> Self:
        """Learn the filters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
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
        return self._learn(X, y, sample_weight)

    @fit_context(prefer_skip_nested_validation=True)
    def _learn(self, X, y, sample_weight=None, like=None):
        """Fit, with the kernels of ``like``, fitted to the same rows, if given."""
        X, input_shape = flatten(X, self.input_shape)
        (X, y, weight), _ = check_rows(self, X, self._targets(y), sample_weight)
        rows = RowBlocks(X, y, weight, self.n_jobs).drop_zero_weight()
        layouts = self._layouts(rows.n_features, input_shape)
        if like is None:
            kernels = [np.zeros((self.n_filters, n.sizes[0])) for n in layouts]
            biases = np.zeros((len(layouts), self.n_filters))
            rng = check_random_state(self.random_state)
        else:
            kernels, biases, rng = like.kernels_, like.biases_, None
        banks = _banks(layouts, kernels, biases, self.activation)
        with single_threaded_blas(), reusing(), translate_overflow_error(self, rows):
            filters = learn_filters(rows, banks, self.pooling, self.standardize, rng)
        self._store(filters, layouts)
        return self

    def _targets(self, y):
        """Return y, or a column per class if y holds classes."""
        if y is None:
            return None
        has_labels = np.asarray(y).dtype.kind not in "iufc"
        is_classes = self.target_type == "multiclass"
        if is_classes or (self.target_type == "auto" and has_labels):
            return LabelBinarizer().fit_transform(column_or_1d(y, warn=True))
        return y

    def _layouts(self, n_features, input_shape):
        """Return a ``Layout`` of two layers for each size; filters are the first."""
        if input_shape is None:
            input_shape = (n_features,)
        input_shape = tuple(input_shape)
        if self.kernel_sizes is None:
            shapes = default_patch_shapes(input_shape)
        else:
            shapes = [_on_all_axes(d, input_shape) for d in self.kernel_sizes]
        if len(shapes) == 0:
            raise ValueError("kernel_sizes is empty; give at least one kernel size")
        strides = self.strides
        if strides is None or isinstance(strides, Integral):
            strides = [strides] * len(shapes)
        if len(strides) != len(shapes):
            raise ValueError(
                f"strides has {len(strides)} entries, but there are {len(shapes)} "
                f"kernel sizes; give one for each, or one number for all"
            )
        strides = [
            default_patch_strides(shape, input_shape) if stride is None else stride
            for shape, stride in zip(shapes, strides, strict=True)
        ]
        return [
            make_layout(n_features, (shape, -1), input_shape, (stride,))
            for shape, stride in zip(shapes, strides, strict=True)
        ]

    def _store(self, filters, layouts):
        shapes = [layout.full_shapes[0] for layout in layouts]
        self.kernels_ = [
            bank.kernels[0].reshape(-1, *shape)
            for bank, shape in zip(filters.banks, shapes, strict=True)
        ]
        self.biases_ = np.array([bank.biases[0] for bank in filters.banks])
        self.kernel_sizes_ = tuple(layout.kernel_sizes[0] for layout in layouts)
        self.strides_ = tuple(layout.strides[0] for layout in layouts)
        self.input_shape_ = layouts[0].input_shape
        self.activation_, self.pooling_ = self.activation, self.pooling
        self.shift_, self.scale_ = filters.shift, filters.scale
        self.center_, self.unit_ = filters.center, filters.unit

    def get_feature_names_out(
        self, input_features: ArrayLike | None = None
    ) -> np.ndarray:
        """Return a name for each column of ``transform``.

        Parameters
        ----------
        input_features : array-like of str, default=None
            Not used; as many as features of X if given.

        Returns
        -------
        ndarray of str
            Kernel size, filter and position or statistic, counted from zero, as in
            "size5_filter3_position12", "size3x3_filter0_position1x4",
            "size5_filter3_mean" and "size5_filter3_max_part2". The second of two equal
            kernel sizes is named like "bank1_size5_filter3_mean".

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            If ``input_features`` does not match the features of X.
        """
        check_is_fitted(self)
        check_feature_names_in(self, input_features, generate_names=False)
        names: list[str] = []
        for number, layout in enumerate(layouts_of(self)):
            (shape, grid), n_filters = layout.full_shapes, len(self.kernels_[number])
            new = column_names(self.pooling_, shape, grid, n_filters)
            repeated = new[0] in names
            names += [f"bank{number}_{name}" for name in new] if repeated else new
        return np.asarray(names, dtype=object)

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Return the responses of the filters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            Responses between -5 and 5, in the dtype of X, float32 or float64; see
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
        outputs = filter_responses(filters_of(self), X, self.n_jobs)
        if not np.all(np.isfinite(outputs[:, 0])):
            check_array(X, input_name="X", estimator=self)
        return outputs

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.target_tags.required = True
        tags.target_tags.multi_output = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags


def layouts_of(features):
    """Return the layout of each kernel size of fitted features."""
    return [
        fitted_layout(
            features.n_features_in_, (shape, -1), features.input_shape_, (stride,)
        )
        for shape, stride in zip(features.kernel_sizes_, features.strides_, strict=True)
    ]


def filters_of(features):
    """Return the ``Filters`` of fitted features."""
    return Filters(
        _banks(
            layouts_of(features),
            features.kernels_,
            features.biases_,
            features.activation_,
        ),
        features.pooling_,
        features.shift_,
        features.scale_,
        features.center_,
        features.unit_,
    )


def _banks(layouts, kernels, biases, activation):
    """Return a network of one hidden layer for each kernel size."""
    return tuple(
        Network(
            kernels=(k.reshape(len(k), -1),),
            activations=(activation,),
            heads=np.zeros((1, len(k), layout.sizes[1])),
            intercept=np.zeros(1),
            orders=layout.orders,
            biases=(b,),
        )
        for layout, k, b in zip(layouts, kernels, biases, strict=True)
    )


def _on_all_axes(size, input_shape):
    """Return a tuple with an entry per axis; axes that ``size`` omits are whole."""
    sizes = (size,) if isinstance(size, Integral) else tuple(size)
    return sizes + input_shape[len(sizes) :]
