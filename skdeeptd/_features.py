"""DeepTDFeatures: what filters from the moments see, for another estimator."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral
from typing import Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import (
    BaseEstimator,
    ClassNamePrefixFeaturesOutMixin,
    TransformerMixin,
)
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_array, check_random_state
from sklearn.utils.validation import check_is_fitted, column_or_1d, validate_data

from skdeeptd._base import (
    Documented,
    check_rows,
    explaining,
    flatten,
    forgetting,
)
from skdeeptd._compat import Interval, StrOptions, fit_context
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._network.fitted import fitted_layout
from skdeeptd._network.kernel_sizes import (
    default_patch_shapes,
    default_patch_strides,
    make_layout,
)
from skdeeptd._solver.filters import (
    RESPONSES,
    Filters,
    FilterSpec,
    bank_of,
    learn_filters,
    responses_of,
)
from skdeeptd._typing import KernelSizes, RandomState, Strides


class DeepTDFeatures(
    Documented, ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator
):
    """Responses of convolutional filters that the moments of X and y give.

    A supervised transformer, to put before a linear model, a kernel method or trees.
    Half of the filters are leading directions of the first moment of patches with y,
    half of the second (Stein's lemma, once and twice), for several sizes of patches
    side by side. There is no descent and no polish: two passes over the data for each
    size. With few rows and a ridge regression this is often better than a network whose
    kernels are fitted further; with a planted network, or with plenty of rows,
    :class:`DeepTDRegressor` is.

    What comes out is standardised by a spread of at least a tenth of the median one and
    clipped at five spreads, so that no row to come is far from those of the fit. What
    varied less than a hundredth of the median is zero, or a scaler behind it would make
    it large in other rows.

    Parameters
    ----------
    kernel_sizes : sequence of int or of tuple of int, default=None
        Sizes of the patches, each for filters of its own; a tuple has an entry per axis
        of ``input_shape``. None takes three: a sixteenth, an eighth and a quarter of a
        signal, a sixth, a quarter and a third of each side of an image, but 3, 4 and 5
        at least, and the whole of an axis that is less than a quarter of another, as
        that of channels often is.
    input_shape : sequence of int, default=None
        Shape of a sample, where X has a flat row for each; None for one axis, or the
        shape of X itself.
    strides : int or sequence of int or of tuple of int, default=None
        From one patch to the next, one for each of the sizes or one for all. None
        takes a quarter of the patch, or more where patches would be more than 200.
    n_filters : int, default=16
        Of each size.
    activation : str, default="relu"
        As in :class:`DeepTDRegressor`.
    responses : {"local", "pooled", "all"}, default="local"
        "local" gives the response of each filter at each patch. "pooled" gives its
        mean, its maximum before the activation, and the share of patches where that is
        positive, over the whole and over four parts: for patterns that may stand
        anywhere. "all" gives both.
    standardize : bool, default=True
        Whether each feature is divided by its own spread, with the floor above, or all
        by one number, as fits features that have one unit.
    target_type : {"auto", "continuous", "classes"}, default="auto"
        "auto" takes y of strings or booleans for classes, and of numbers for numbers.
    random_state : int, RandomState instance or None, default=None
        Draws the signs and the biases of the filters.
    n_jobs : int or None, default=None
        Threads over blocks of rows; results do not depend on it.

    Attributes
    ----------
    kernels_ : list of ndarray of shape (n_filters,) + kernel size
        One entry per size of patches, for standardised features.
    biases_ : ndarray of shape (n_sizes, n_filters)
    kernel_sizes_, strides_ : tuple
        As used.
    input_shape_ : tuple of int
    shift_, scale_ : ndarray of shape (n_features,)
        What standardises the features.
    center_, unit_ : ndarray of shape (n_features_out,)
        What standardises the responses; ``unit_`` is infinite for those left out.
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
        "responses": [StrOptions(set(RESPONSES))],
        "standardize": ["boolean"],
        "target_type": [StrOptions({"auto", "continuous", "classes"})],
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
        responses: str = "local",
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
        self.responses = responses
        self.standardize = standardize
        self.target_type = target_type
        self.random_state = random_state
        self.n_jobs = n_jobs

    @forgetting
    @fit_context(prefer_skip_nested_validation=True)
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
            Where the data or a parameter are not as they should be.
        """
        return self._learn(X, y, sample_weight)

    def _learn(self, X, y, sample_weight=None, like=None):
        """``like`` are features with the same kernels, fitted to the same rows."""
        X, input_shape = flatten(X, self.input_shape)
        (X, y, weight), _ = check_rows(self, X, self._targets(y), sample_weight)
        rows = RowBlocks(X, y, weight, self.n_jobs).of_weight()
        layouts = self._layouts(rows.n_features, input_shape)
        spec = FilterSpec(
            orders=tuple(layout.orders[0] for layout in layouts),
            sizes=tuple(layout.sizes[0] for layout in layouts),
            n_filters=self.n_filters,
            activation=self.activation,
            responses=self.responses,
            standardize=self.standardize,
        )
        rng = check_random_state(self.random_state)
        with single_threaded_blas(), reusing(), explaining(self, rows):
            known = None if like is None else filters_of(like)
            self._store(learn_filters(rows, spec, rng, known), layouts)
        return self

    def _targets(self, y):
        """One column per class, where y are classes."""
        if y is None:
            return None
        of_labels = np.asarray(y).dtype.kind not in "iufc"
        is_classes = self.target_type == "classes"
        if is_classes or (self.target_type == "auto" and of_labels):
            return LabelBinarizer().fit_transform(column_or_1d(y, warn=True))
        return y

    def _layouts(self, n_features, input_shape):
        """A ``Layout`` of two layers per size of patches, of which one is in use."""
        if input_shape is None:
            input_shape = (n_features,)
        input_shape = tuple(input_shape)
        if self.kernel_sizes is None:
            shapes = default_patch_shapes(input_shape)
        else:
            shapes = [_on_all_axes(d, input_shape) for d in self.kernel_sizes]
        if len(shapes) == 0:
            raise ValueError("kernel_sizes is empty; give at least one size of patches")
        strides = self.strides
        if strides is None or isinstance(strides, Integral):
            strides = [strides] * len(shapes)
        if len(strides) != len(shapes):
            raise ValueError(
                f"strides has {len(strides)} entries, but there are {len(shapes)} "
                f"sizes of patches; give one for each, or one number for all"
            )
        strides = [
            default_patch_strides(shape, input_shape) if stride is None else stride
            for shape, stride in zip(shapes, strides, strict=True)
        ]
        return _layouts_of(n_features, input_shape, shapes, strides)

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
        self.shift_, self.scale_ = filters.shift, filters.scale
        self.center_, self.unit_ = filters.center, filters.unit

    @property
    def _n_features_out(self):
        return len(self.center_)

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Responses of the filters.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape

        Returns
        -------
        ndarray of shape (n_samples, n_features_out)
            In the dtype of X, float32 or float64, between -5 and 5. Size by size,
            "local" before "pooled"; of the local ones filter by filter.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ValueError
            Where X has another number of features than in ``fit``, or NaN or inf.
        """
        check_is_fitted(self)
        X, _ = flatten(X, self.input_shape_)
        X = validate_data(
            self,
            X,
            dtype=[np.float64, np.float32],
            ensure_all_finite=False,  # the outputs tell, in one pass less
            reset=False,
        )
        outputs = responses_of(filters_of(self), X, self.n_jobs)
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
    """Return a ``Layout`` per size of patches of fitted features."""
    return [
        fitted_layout(
            features.n_features_in_, (shape, -1), features.input_shape_, (stride,)
        )
        for shape, stride in zip(features.kernel_sizes_, features.strides_, strict=True)
    ]


def filters_of(features):
    """Return the ``Filters`` of fitted features."""
    banks = tuple(
        bank_of(
            layout.orders[0],
            kernels.reshape(len(kernels), -1),
            biases,
            features.activation,
        )
        for layout, kernels, biases in zip(
            layouts_of(features), features.kernels_, features.biases_, strict=True
        )
    )
    return Filters(
        banks,
        features.responses,
        features.shift_,
        features.scale_,
        features.center_,
        features.unit_,
    )


def _layouts_of(n_features, input_shape, shapes, strides):
    """Of each size; the second layer takes all that the patches of the first leave."""
    return [
        make_layout(n_features, (shape, -1), input_shape, (stride,))
        for shape, stride in zip(shapes, strides, strict=True)
    ]


def _on_all_axes(size, input_shape):
    """A tuple with an entry per axis, the whole of the axes that it leaves out."""
    sizes = (size,) if isinstance(size, Integral) else tuple(size)
    return sizes + input_shape[len(sizes) :]
