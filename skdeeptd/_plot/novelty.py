"""Draw Q residuals against Hotelling's T2, with the limits."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from skdeeptd._plot.drawing import draw_legend, get_axes
from skdeeptd.inspection import novelty

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class NoveltyDisplay:
    """Draw Q residuals against Hotelling's T2 of samples, with the limits.

    >>> import numpy as np
    >>> from skdeeptd import DeepTDRidge
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import NoveltyDisplay
    >>> X, y = make_patch_cnn_regression(150, (6, 4), random_state=0)
    >>> model = DeepTDRidge(random_state=0).fit(X[:100], y[:100])
    >>> X_new = np.concatenate([X[100:], X[100:] + 2])
    >>> labels = np.repeat(["new", "offset"], 50)
    >>> display = NoveltyDisplay.from_estimator(model, X_new, X[:100], labels=labels)
    >>> display.ax_.get_xlabel()
    'T2'

    Samples right of the vertical line or above the horizontal line are novel. Grey
    points are the training samples, each held out. Both axes are logarithmic.

    Parameters
    ----------
    result : Bunch
        As returned by :func:`~skdeeptd.inspection.novelty`.
    labels : array-like of shape (n_samples,), default=None
        Group of each sample; each group gets a colour and an entry in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skdeeptd.inspection.novelty : Compute the numbers.
    """

    result: Bunch
    _: KW_ONLY
    labels: ArrayLike | None = None

    @classmethod
    def from_result(
        cls, result: Bunch, *, labels: ArrayLike | None = None, ax: Axes | None = None
    ) -> Self:
        """Draw the result of ``novelty``.

        Parameters
        ----------
        result : Bunch
            As returned by :func:`~skdeeptd.inspection.novelty`.
        labels : array-like of shape (n_samples,), default=None
            Group of each sample.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        NoveltyDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` or ``labels`` do not fit.
        """
        return cls(result, labels=labels).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        X_train: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Compute T2 and Q of samples, and draw them.

        Parameters
        ----------
        estimator : estimator
            A fitted model, or a Pipeline.
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            Samples to inspect.
        X_train : array-like of shape (n_train, n_features) or (n_train,) + input_shape
            The training samples.
        labels : array-like of shape (n_samples,), default=None
            Group of each sample.
        ax : matplotlib Axes, default=None
            As in ``plot``.
        **options
            ``n_components``, ``coverage`` and ``cv`` of
            :func:`~skdeeptd.inspection.novelty`.

        Returns
        -------
        NoveltyDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            As in ``novelty``, or if ``ax`` or ``labels`` do not fit.
        """
        result = novelty(estimator, X, X_train, **options)
        return cls.from_result(result, labels=labels, ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the samples and the limits.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        NoveltyDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` is not one axes, or there is not a label for each sample.
        """
        result, n_samples = self.result, len(self.result.t2)
        labels = np.full(n_samples, "new samples")
        labels = labels if self.labels is None else np.asarray(self.labels)
        if labels.shape != (n_samples,):
            raise ValueError(
                f"labels must be one for each of {n_samples} samples, got an array of "
                f"shape {labels.shape}"
            )
        ax = get_axes(ax, (1, 1), (6.5, 4.5)).item()
        self.ax_, self.figure_ = ax, ax.figure
        points = {"ls": "", "marker": "o", "ms": 4}
        ax.loglog(
            result.t2_train, result.q_train, color="0.75", label="training", **points
        )
        for label in dict.fromkeys(labels.tolist()):
            own = labels == label
            ax.plot(result.t2[own], result.q[own], label=label, alpha=0.7, **points)
        ax.axvline(result.t2_limit, color="0.2", linestyle="--", linewidth=1)
        ax.axhline(result.q_limit, color="0.2", linestyle="--", linewidth=1)
        ax.set(xlabel="T2", ylabel="Q residual")
        draw_legend(ax)
        return self
