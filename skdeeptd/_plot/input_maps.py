"""Draw arrays of the shape of a sample: the moment of a network, and its derivative."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skdeeptd._network.fitted import networks_of
from skdeeptd._network.network import input_gradient
from skdeeptd._network.parameters import explained_part
from skdeeptd._plot.drawing import (
    draw_color_bar,
    draw_image,
    draw_steps,
    fitted_network,
    get_axes,
    height_over_width,
    max_abs,
    output_name,
    unwrap_pipeline,
)
from skdeeptd._validation import check_new_rows

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class MomentDisplay:
    """Moment of one output, and the part of the moment that the kernels explain.

    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import MomentDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=1000, kernel_sizes=(8, 8), random_state=0
    ... )
    >>> model = DeepTDRegressor((8, 8), random_state=0).fit(X, y)
    >>> display = MomentDisplay.from_estimator(model)
    >>> print(f"{(display.explained**2).sum() / (display.moment**2).sum():.2f}")
    0.90

    The explained part is the projection of the moment onto the outer products of the
    kernels, one for each filter. If patches overlap, the entry of a feature is the sum
    over the patches that contain the feature.

    For samples of one axis, each row of an image is a patch of the first layer; if
    these patches overlap, the moment is drawn as steps, one step for each feature.
    Samples of two axes are drawn as an image, samples of more axes as an image for each
    channel.

    Parameters
    ----------
    moment : array-like of shape input_shape
        Cross-moment of X and the output.
    explained : array-like of shape input_shape
        Part of the moment that the kernels explain.
    patch_size : int, default=None
        Number of features of a patch, for samples of one axis. None draws steps.
    name : str, default=None
        Name of the output, such as "class 3", for the title.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (2,)
    figure_ : matplotlib Figure
    """

    moment: ArrayLike
    explained: ArrayLike
    _: KW_ONLY
    patch_size: int | None = None
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        output: int = 0,
        ax: Axes | ArrayLike | None = None,
    ) -> Self:
        """Draw the moment of a fitted estimator.

        Parameters
        ----------
        estimator : DeepTDRegressor, DeepTDClassifier, search or Pipeline
            Fitted. The display draws the ``best_estimator_`` of a search, and the last
            step of a Pipeline.
        output : int, default=0
            Index of the output. The outputs of a classifier are logits: one for two
            classes, else one for each of ``classes_``.
        ax : array of two matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        MomentDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If the estimator is not a network, if there is no such output, or if ``ax``
            does not hold two axes.
        """
        estimator = fitted_network(estimator, output)
        network = networks_of(estimator)[output]
        moment = estimator.moment_[output].astype(float)
        explained = explained_part(network, moment.ravel()).reshape(moment.shape)
        overlap = estimator.strides_[:1] not in ((), estimator.kernel_sizes_[:1])
        patch_size = None if overlap else network.sizes[0]
        name = output_name(estimator, output)
        return cls(moment, explained, patch_size=patch_size, name=name).plot(ax)

    def plot(self, ax: Axes | ArrayLike | None = None) -> Self:
        """Draw the moment and its explained part.

        Parameters
        ----------
        ax : array of two matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        MomentDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` does not hold two axes.
        """
        arrays = [np.asarray(self.moment), np.asarray(self.explained)]
        one_axis = arrays[0].ndim == 1
        height = 3.2 if one_axis else 3.2 * height_over_width(arrays[0].shape)
        self.axes_ = get_axes(ax, (1, 2), (8, 1 + height))[0]
        self.figure_ = self.axes_[0].figure
        if one_axis and self.patch_size is None:
            self._draw_steps(arrays)
        else:
            self._draw_images(arrays, one_axis)
        moment = "moment" if self.name is None else f"moment of {self.name}"
        titles = moment, "explained by the kernels"
        for ax, title in zip(self.axes_, titles, strict=True):
            ax.set_title(title, fontsize="medium")
        return self

    def _draw_steps(self, arrays):
        limit = 1.05 * max_abs(arrays)
        for ax, array in zip(self.axes_, arrays, strict=True):
            draw_steps(ax, array)
            ax.set(xlabel="feature", ylim=(-limit, limit))
            ax.tick_params(labelleft=ax is self.axes_[0])
        self.axes_[0].set_ylabel("moment")

    def _draw_images(self, arrays, one_axis):
        limit = max_abs(arrays)
        for ax, array in zip(self.axes_, arrays, strict=True):
            if one_axis:  # NaN fills the last patch
                missing = -len(array) % self.patch_size
                array = np.append(array, np.full(missing, np.nan))
                array = array.reshape(-1, self.patch_size)
            image = draw_image(ax, array, limit)
            if one_axis:
                ax.set(aspect="auto", xlabel="feature in its patch")
        if one_axis:
            self.axes_[0].set_ylabel("patch of layer 1")
        draw_color_bar(image, self.axes_, "moment")


@dataclass(eq=False, repr=False)
class ReceptiveFieldDisplay:
    """Derivative of an output by each feature, averaged over samples (a saliency map).

    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import ReceptiveFieldDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(6, 4), random_state=0
    ... )
    >>> model = DeepTDRegressor((6, 4), random_state=0).fit(X, y)
    >>> ReceptiveFieldDisplay.from_estimator(model, X[:1]).weights.shape
    (24,)

    The derivatives at a sample are the coefficients of the linear model that equals the
    network near the sample. For a single linear layer they are the same at every
    sample. For standard normal samples the moment estimates their mean (Stein's lemma).
    The slope of a relu at zero counts as zero.

    Samples of one axis are drawn as steps, samples of two axes as an image, samples of
    more axes as an image for each channel.

    Parameters
    ----------
    weights : array-like of shape input_shape
        Mean derivatives.
    name : str, default=None
        Name of the output, such as "class 3", for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    weights: ArrayLike
    _: KW_ONLY
    name: str | None = None

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        output: int = 0,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the mean derivative of an output at samples.

        Parameters
        ----------
        estimator : DeepTDRegressor, DeepTDClassifier, search or Pipeline
            Fitted. The display draws the ``best_estimator_`` of a search, and the last
            step of a Pipeline: its features are the output of the steps before.
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            Input of the estimator; ``X[:1]`` draws the first sample alone.
        output : int, default=0
            Index of the output. The outputs of a classifier are logits: one for two
            classes, else one for each of ``classes_``.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        ReceptiveFieldDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If the estimator is not a network, if there is no such output, if X does not
            fit the estimator or holds NaN or inf, or if ``ax`` is not one axes.
        """
        _, X = unwrap_pipeline(estimator, X)
        estimator = fitted_network(estimator, output)
        shape = estimator.input_shape_
        X = check_new_rows(estimator, X, shape, dtype=float, ensure_all_finite=True)
        weights = input_gradient(networks_of(estimator)[output], X)
        name = output_name(estimator, output)
        return cls(weights.reshape(shape), name=name).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        ReceptiveFieldDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` is not one axes.
        """
        weights, label = np.asarray(self.weights), "derivative of the output"
        height = 5 * height_over_width(weights.shape) if weights.ndim > 1 else 3
        self.ax_ = get_axes(ax, (1, 1), (6.5, 0.8 + height)).item()
        self.figure_ = self.ax_.figure
        if weights.ndim == 1:
            draw_steps(self.ax_, weights)
            self.ax_.set(xlabel="feature", ylabel=label)
        else:
            image = draw_image(self.ax_, weights, max_abs(weights))
            draw_color_bar(image, [self.ax_], label)
        if self.name is not None:
            self.ax_.set_title(self.name, fontsize="medium")
        return self
