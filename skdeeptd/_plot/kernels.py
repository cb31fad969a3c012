"""Draw the kernels of a network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skdeeptd._covariance import kernel_stds
from skdeeptd._network.fitted import layout_of
from skdeeptd._plot.drawing import (
    NORMAL_95,
    draw_color_bar,
    draw_image,
    draw_steps,
    fitted_network,
    get_axes,
    max_abs,
    output_name,
    tile_slices,
)
from skdeeptd._validation import check_index

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class KernelDisplay:
    """Kernels of one output: a row per layer, a column per filter.

    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import KernelDisplay
    >>> X, y, kernels = make_patch_cnn_regression(
    ...     n_samples=200,
    ...     kernel_sizes=(6, 4),
    ...     noise=0.3,
    ...     random_state=0,
    ...     return_kernels=True,
    ... )
    >>> model = DeepTDRegressor((6, 4), random_state=0).fit(X, y)
    >>> KernelDisplay.from_estimator(model).axes_.shape
    (2, 1)

    The true kernels:

    >>> display = KernelDisplay([k[0] for k in kernels]).plot()

    A kernel of one axis is drawn as steps, with a 95 % band if the standard deviations
    are known. A kernel of two axes is an image, one of more axes an image for each
    channel; a cross marks a weight whose 95 % interval contains zero. The kernels of a
    layer share their range.

    The band comes from ``covariance_``, for kernels of unit norm. A filter of scale
    zero has no band, and all its weights are crossed, because the data do not determine
    its kernels.

    Parameters
    ----------
    kernels : sequence of array-like of shape (n_filters,) + kernel_size
        The kernels of each layer, first layer first.
    kernel_stds : sequence of array-like of the same shapes, default=None
        Standard deviations of the weights; None, or NaN, for no bands.
    scales : array-like of shape (n_filters,), default=None
        Scales of the filters, for the titles.
    filters : array-like of shape (n_filters,), default=None
        Numbers of the filters, for the titles. None for 0, 1, ...
    name : str, default=None
        Name of the output, such as "class 3", for the title of a new figure.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_layers, n_filters)
    figure_ : matplotlib Figure

    See Also
    --------
    skdeeptd.metrics.kernel_similarity : Compare two lists of kernels.
    """

    kernels: Sequence[ArrayLike]
    _: KW_ONLY
    kernel_stds: Sequence[ArrayLike] | None = None
    scales: ArrayLike | None = None
    filters: ArrayLike | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        output: int = 0,
        filters: int | Sequence[int] | None = None,
        ax: Axes | ArrayLike | None = None,
    ) -> Self:
        """Draw the kernels of a fitted estimator.

        Parameters
        ----------
        estimator : DeepTDRegressor, DeepTDClassifier, search or Pipeline
            Fitted. The display draws the ``best_estimator_`` of a search, and the last
            step of a Pipeline.
        output : int, default=0
            Index of the output. The outputs of a classifier are logits: one for two
            classes, else one for each of ``classes_``.
        filters : int or sequence of int, default=None
            Numbers of the filters to draw; None for all.
        ax : matplotlib Axes or array of them, default=None
            As in ``plot``.

        Returns
        -------
        KernelDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If the estimator is not a network, if there is no such output or filter, or
            if ``ax`` does not fit.
        """
        estimator = fitted_network(estimator, output)
        filters = _check_filters(filters, estimator.scales_.shape[1])
        layout_of(estimator)  # raises if attributes were changed
        kernels = [k[output, filters] for k in estimator.kernels_]
        display = cls(
            kernels,
            kernel_stds=_stds(estimator, output, filters, kernels),
            scales=estimator.scales_[output, filters],
            filters=filters,
            name=output_name(estimator, output),
        )
        return display.plot(ax)

    def plot(self, ax: Axes | ArrayLike | None = None) -> Self:
        """Draw the kernels.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            One for each layer and filter, layer by layer. None makes a new figure.

        Returns
        -------
        KernelDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` does not hold one axes for each layer and filter.
        """
        kernels = [np.asarray(k) for k in self.kernels]
        n_layers, n_filters = len(kernels), len(kernels[0])
        stds = self.kernel_stds
        if stds is None:
            stds = [np.full(k.shape, np.nan) for k in kernels]
        figsize = max(4.5, 1.5 + 1.5 * n_filters), 0.6 + 1.6 * n_layers
        self.axes_ = get_axes(ax, (n_layers, n_filters), figsize)
        self.figure_ = self.axes_[0, 0].figure
        if ax is None and any(k.ndim > 2 for k in kernels):
            _leave_room_left(self.figure_)
        if ax is None and self.name is not None:
            self.figure_.suptitle(self.name)
        layers = zip(self.axes_, kernels, stds, strict=True)
        for layer, (axes, k, std) in enumerate(layers, 1):
            draw = self._draw_steps if k.ndim == 2 else self._draw_images
            draw(axes, k, NORMAL_95 * np.asarray(std))
            axes[0].set_ylabel(f"layer {layer}")
        numbers = np.asarray(range(n_filters) if self.filters is None else self.filters)
        scales = [""] * n_filters
        if self.scales is not None:
            scales = [f"\nscale {scale:+.2g}" for scale in np.asarray(self.scales)]
        for ax, number, scale in zip(self.axes_[0], numbers, scales, strict=True):
            ax.set_title(f"filter {number}{scale}", fontsize="medium")
        if kernels[-1].ndim == 2:
            for ax in self.axes_[-1]:
                ax.set_xlabel("weight")
        return self

    def _draw_steps(self, axes, kernels, bands):
        known = np.where(np.isfinite(bands), bands, 0)
        limit = 1.05 * max_abs(np.abs(kernels) + known)
        for ax, kernel, band in zip(axes, kernels, bands, strict=True):
            draw_steps(ax, kernel, band)
            ax.set(ylim=(-limit, limit))
            ax.tick_params(labelleft=ax is axes[0])

    def _draw_images(self, axes, kernels, bands):
        limit, label = max_abs(kernels), ""
        for ax, kernel, band in zip(axes, kernels, bands, strict=True):
            image = draw_image(ax, kernel, limit)
            uncertain = tile_slices(np.abs(kernel) <= band)
            rows, columns = np.nonzero(uncertain == 1)
            if len(rows):
                ax.plot(columns, rows, "x", color="0.4", markersize=4)
                label = "x: 95 % band\nholds zero"
            ax.set(xticks=[], yticks=[])
        draw_color_bar(image, axes, label)


def _leave_room_left(figure, inches=0.25):
    """Make room for "layer 1", which the layout ignores if an image fills its axes."""
    left = inches / figure.get_figwidth()
    figure.get_layout_engine().set(rect=(left, 0, 1 - left, 1))


def _stds(estimator, output, filters, kernels):
    """Return the standard deviations of the kernels, or None if they are not known."""
    if not hasattr(estimator, "covariance_"):
        return None
    gains = estimator.gains_[output]
    weights = [
        k[output].reshape(len(gains), -1) * gain[:, np.newaxis]
        for k, gain in zip(estimator.kernels_, gains.T, strict=True)
    ]
    covariance, scales = estimator.covariance_[output], estimator.scales_[output]
    n_covariates = len(estimator.covariate_indices_)
    stds = kernel_stds(weights, scales, covariance, n_covariates)
    return [s[filters].reshape(k.shape) for s, k in zip(stds, kernels, strict=True)]


def _check_filters(filters, n_filters):
    """Return the numbers of the filters as an array."""
    filters = np.arange(n_filters) if filters is None else np.atleast_1d(filters)
    if filters.ndim > 1 or not len(filters):
        raise ValueError(
            f"filters must name one filter or more, got {filters.tolist()}"
        )
    for number in filters.tolist():
        check_index("filters", number, n_filters)
    return filters
