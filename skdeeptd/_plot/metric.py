"""Draw the weight of each feature in a learned metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skdeeptd._plot.drawing import (
    axes_of_features,
    check_n_best,
    check_names,
    draw_bars,
    draw_color_bar,
    draw_image,
    max_abs,
)
from skdeeptd.inspection import metric_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL = "share of the metric"


@dataclass(eq=False, repr=False)
class MetricDisplay:
    """Weight of each feature in the learned metric of a kernel.

    >>> from skdeeptd import DeepTDRidge, SignalScaler
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import MetricDisplay
    >>> X, y = make_patch_cnn_regression(150, (6, 4), random_state=0)
    >>> model = DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned").fit(X, y)
    >>> MetricDisplay.from_estimator(model).weights.shape
    (24,)

    The weights are drawn as a line over the positions of a signal, as an image for
    samples of several axes, and as bars, largest first, for filters.

    Parameters
    ----------
    weights : array-like of shape input_shape, or (n_features_out,)
        Weights of :func:`~skdeeptd.inspection.metric_weights`.
    feature_names : sequence, default=None
        Names of the features, for bars, or numbers, for positions on an axis.
    n_best : int, default=20
        Maximum number of bars.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    weights: ArrayLike
    _: KW_ONLY
    feature_names: Sequence | None = None
    n_best: int = 20

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        feature_names: Sequence | None = None,
        n_best: int = 20,
        ax: Axes | ArrayLike | None = None,
    ) -> Self:
        """Draw the metric of a fitted estimator.

        Parameters
        ----------
        estimator : DeepTDRidge or DeepTDRidgeClassifier
            Fitted, with a kernel other than "linear".
        feature_names : sequence, default=None
            Numbers for the positions of a signal, such as wavelengths. None means the
            indices of the positions, or the names of the filters.
        n_best : int, default=20
            Maximum number of bars.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        MetricDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        TypeError, AttributeError, ValueError
            As in ``metric_weights`` and ``plot``.
        """
        result = metric_weights(estimator)
        names = result.feature_names if feature_names is None else feature_names
        return cls(result.weights, feature_names=names, n_best=n_best).plot(ax)

    def plot(self, ax: Axes | ArrayLike | None = None) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        MetricDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` is not one axes, ``n_best`` is not a positive integer, or there
            is not a name for each feature.
        """
        weights, names = np.asarray(self.weights, dtype=float), self.feature_names
        check_names(names, weights.size)
        check_n_best(self.n_best)
        is_image = weights.ndim > 1
        is_bars = not is_image and names is not None and isinstance(names[0], str)
        n_bars = min(self.n_best, len(weights)) if is_bars else None
        self.ax_ = axes_of_features(ax, weights.shape, n_bars)
        self.figure_ = self.ax_.figure
        if is_image:
            image = draw_image(self.ax_, weights, max_abs(weights))
            image.set_cmap("Greys")
            image.set_clim(0, max_abs(weights))
            draw_color_bar(image, [self.ax_], LABEL)
        elif is_bars:
            best = np.argsort(-weights, kind="stable")[: self.n_best]
            draw_bars(self.ax_, weights, names, best, LABEL, color="0.4")
        else:
            self._draw_line(weights)
        return self

    def _draw_line(self, weights):
        names = self.feature_names
        positions = np.arange(len(weights)) if names is None else np.asarray(names)
        self.ax_.fill_between(positions, weights, color="0.75", linewidth=0)
        self.ax_.plot(positions, weights, color="0.2", linewidth=1)
        self.ax_.set(ylim=(0, None), ylabel=LABEL)
        self.ax_.set_xlabel("feature" if names is None else "feature name")
