"""What a network looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import validate_data

from skdeeptd._base import flatten
from skdeeptd._model.fitted import networks_of
from skdeeptd._model.network import input_gradient
from skdeeptd._plot.drawing import (
    axes_for,
    behind_steps,
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


class ReceptiveFieldDisplay:
    """What the network looks at: the weight of each feature in its output.

    That is the derivative of the output by the feature: the weights of the linear model
    that the network is around a sample, or their mean over samples. On average over
    standard normal samples the moment estimates it (Stein's lemma); for a single linear
    layer it is the same at every sample. Where a relu meets zero its slope is taken as
    zero.

    An input of one axis is drawn as steps, one of two axes as an image, one of more as
    an image per channel.

    Parameters
    ----------
    weights : array-like of shape input_shape
        The derivatives.
    name : str, default=None
        What the output is, for the title, such as "class 3".

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import ReceptiveFieldDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(6, 4), random_state=0
    ... )
    >>> model = DeepTDRegressor((6, 4), random_state=0).fit(X, y)
    >>> ReceptiveFieldDisplay.from_estimator(model, X[:1]).weights.shape
    (24,)
    """

    def __init__(self, weights: ArrayLike, *, name: str | None = None) -> None:
        self.weights = weights
        self.name = name

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
        estimator : DeepTDRegressor, DeepTDClassifier, DeepTDRegressorCV or Pipeline
            The derivatives are by what the last step of a Pipeline takes.
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            The samples; ``X[:1]`` for the first one alone. A Pipeline's other steps
            transform them.
        output : int, default=0
            Of a classifier the logit: one where there are two classes, else one for
            each of ``classes_``.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        ReceptiveFieldDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where there are no kernels, no such output, X does not fit the estimator
            or holds NaN or inf, or ``ax`` does not fit.
        """
        _, X = behind_steps(estimator, X)
        estimator = fitted_network(estimator, output)
        X, shape = flatten(X, estimator.input_shape_)
        X = validate_data(estimator, X, dtype=float, reset=False)
        weights = input_gradient(networks_of(estimator)[output], X)
        name = name_of_output(estimator, output)
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
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else.
        """
        weights, label = np.asarray(self.weights), "derivative of the output"
        height = 5 * height_of(weights.shape) if weights.ndim > 1 else 3
        self.ax_ = axes_for(ax, (1, 1), (6.5, 0.8 + height)).item()
        self.figure_ = self.ax_.figure
        if weights.ndim == 1:
            draw_steps(self.ax_, weights)
            self.ax_.set(xlabel="feature", ylabel=label)
        else:
            image = draw_image(self.ax_, weights, largest(weights))
            draw_color_bar(image, [self.ax_], label)
        if self.name is not None:
            self.ax_.set_title(self.name, fontsize="medium")
        return self
