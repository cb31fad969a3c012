"""The moment, and what the kernels explain of it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skdeeptd._model.fitted import networks_of
from skdeeptd._model.projection import explained_part
from skdeeptd._plot.drawing import (
    axes_for,
    draw_color_bar,
    draw_image,
    draw_steps,
    fitted_network,
    height_of,
    largest,
    name_of_output,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class MomentDisplay:
    """The moment of one output, beside the part of it that the kernels explain.

    That part is the projection of the moment on the outer products of the kernels, of
    which there is one per filter. Where patches overlap, a feature has the sum of what
    it meets in each of them.

    An input of one axis is cut into the patches of the first layer, one below the
    other; where these overlap there is no such cut, and it is drawn as steps, a step
    for each feature. One of two axes is an image, one of more an image per channel.

    Parameters
    ----------
    moment : array-like of shape input_shape
    explained : array-like of shape input_shape
        The part that the kernels explain.
    patch_size : int, default=None
        Where to cut an input of one axis: the weights of the first kernel. None does
        not cut it.
    name : str, default=None
        What the output is, for the title, such as "class 3".

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (2,)
    figure_ : matplotlib Figure

    Examples
    --------
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
    """

    def __init__(
        self,
        moment: ArrayLike,
        explained: ArrayLike,
        *,
        patch_size: int | None = None,
        name: str | None = None,
    ) -> None:
        self.moment = moment
        self.explained = explained
        self.patch_size = patch_size
        self.name = name

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
        estimator : DeepTDRegressor, DeepTDClassifier, DeepTDRegressorCV or Pipeline
            Of a Pipeline the last step.
        output : int, default=0
            Of a classifier the logit: one where there are two classes, else one for
            each of ``classes_``.
        ax : array of two matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        MomentDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where there is no moment, no such output, or ``ax`` does not fit.
        """
        estimator = fitted_network(estimator, output)
        network = networks_of(estimator)[output]
        moment = estimator.moment_[output].astype(float)
        explained = explained_part(network, moment.ravel()).reshape(moment.shape)
        overlap = estimator.strides_[:1] not in ((), estimator.kernel_sizes_[:1])
        patch_size = None if overlap else network.sizes[0]
        name = name_of_output(estimator, output)
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
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else.
        """
        arrays = [np.asarray(self.moment), np.asarray(self.explained)]
        one_axis = arrays[0].ndim == 1
        height = 3.2 if one_axis else 3.2 * height_of(arrays[0].shape)
        self.axes_ = axes_for(ax, (1, 2), (8, 1 + height))[0]
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
        limit = 1.05 * largest(arrays)
        for ax, array in zip(self.axes_, arrays, strict=True):
            draw_steps(ax, array)
            ax.set(xlabel="feature", ylim=(-limit, limit))
            ax.tick_params(labelleft=ax is self.axes_[0])
        self.axes_[0].set_ylabel("moment")

    def _draw_images(self, arrays, one_axis):
        limit = largest(arrays)
        for ax, array in zip(self.axes_, arrays, strict=True):
            if one_axis:
                array = _rows(array, self.patch_size)
            image = draw_image(ax, array, limit)
            if one_axis:
                ax.set(aspect="auto", xlabel="feature in its patch")
        if one_axis:
            self.axes_[0].set_ylabel("patch of layer 1")
        draw_color_bar(image, self.axes_, "moment")


def _rows(values, length):
    """An array of one axis cut into rows; NaN fills the last one."""
    rows = np.full((math.ceil(len(values) / length), length), np.nan)
    rows.flat[: len(values)] = values
    return rows
