"""Draw results of ``skdeeptd.inspection``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from skdeeptd._plot.drawing import draw_legend, get_axes, write_beside
from skdeeptd.inspection import compare_with_linear, novelty

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(eq=False, repr=False)
class LinearComparisonDisplay:
    """Cross-validated R2 of a network and of a linear model, for each output.

    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import LinearComparisonDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=500, kernel_sizes=(6, 4), noise=0.5, random_state=0
    ... )
    >>> model = DeepTDRegressor((6, 4), random_state=0)
    >>> LinearComparisonDisplay.from_estimator(model, X, y).result.conclusion
    ['network']

    The error bars are one standard error to either side. The labels give the conclusion
    of :func:`~skdeeptd.inspection.compare_with_linear`. A bar far below zero is cut
    off, without an error bar, and labelled with its value.

    Parameters
    ----------
    result : Bunch
        As returned by :func:`~skdeeptd.inspection.compare_with_linear`.
    output_names : sequence of str, default=None
        Names of the outputs; None for "output 0", "output 1", ...

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skdeeptd.inspection.compare_with_linear : Compute the numbers.
    """

    result: Bunch
    _: KW_ONLY
    output_names: Sequence[str] | None = None

    @classmethod
    def from_result(
        cls,
        result: Bunch,
        *,
        output_names: Sequence[str] | None = None,
        ax: Axes | None = None,
    ) -> Self:
        """Draw the result of ``compare_with_linear``.

        Parameters
        ----------
        result : Bunch
            As returned by :func:`~skdeeptd.inspection.compare_with_linear`.
        output_names : sequence of str, default=None
            Names of the outputs; None for "output 0", "output 1", ...
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        LinearComparisonDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` is not one axes, or if there is not a name for each output.
        """
        return cls(result, output_names=output_names).plot(ax)

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        y: ArrayLike,
        *,
        output_names: Sequence[str] | None = None,
        ax: Axes | None = None,
        **options: Any,
    ) -> Self:
        """Compare a regressor with a linear model, and draw the result.

        Parameters
        ----------
        estimator : regressor
            The network, or a Pipeline that ends in one.
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            At least 9 samples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets. No output may be constant.
        output_names : sequence of str, default=None
            Names of the outputs; None for "output 0", "output 1", ...
        ax : matplotlib Axes, default=None
            As in ``plot``.
        **options
            ``cv``, ``sample_weight``, ``linear`` and ``n_jobs`` of
            :func:`~skdeeptd.inspection.compare_with_linear`.

        Returns
        -------
        LinearComparisonDisplay

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            As in ``compare_with_linear``, or if ``ax`` is not one axes, or if there is
            not a name for each output.
        """
        result = compare_with_linear(estimator, X, y, **options)
        return cls.from_result(result, output_names=output_names, ax=ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        LinearComparisonDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` is not one axes, or if there is not a name for each output.
        """
        n_outputs = len(self.result.conclusion)
        names = self.output_names or [f"output {i}" for i in range(n_outputs)]
        if len(names) != n_outputs:
            raise ValueError(
                f"output_names holds {len(names)} names for {n_outputs} outputs"
            )
        ax = get_axes(ax, (1, 1), (6.5, 1.2 + 0.6 * n_outputs)).item()
        self.ax_, self.figure_ = ax, ax.figure
        self._draw_bars(-0.18, "linear", "linear model", "0.6")
        self._draw_bars(0.18, "network", "network", "C0")
        labels = zip(names, self.result.conclusion, strict=True)
        ax.set_yticks(range(n_outputs), [f"{n}\nconclusion: {c}" for n, c in labels])
        ax.set(xlim=(-0.2, 1), ylim=(n_outputs - 0.4, -0.6))
        ax.set_xlabel("cross-validated R2 and its standard error")
        ax.axvline(0, color="0.2", linewidth=0.8)
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
        draw_legend(ax)
        return self

    def _draw_bars(self, offset, name, label, color, floor=-0.2):
        """Draw the bars of one model, cut off at an R2 of ``floor``."""
        r2, std_errors = self.result[name], self.result[f"{name}_se"]
        rows, cut = offset + np.arange(len(r2)), r2 < floor
        self.ax_.barh(rows, np.maximum(r2, floor), 0.36, color=color, label=label)
        std_errors = np.where(cut, 0, std_errors)
        self.ax_.errorbar(r2, rows, xerr=std_errors, fmt="none", ecolor="k")
        for row in np.flatnonzero(cut):
            self.ax_.plot(0.9 * floor, rows[row], "<", color="white", markersize=5)
            write_beside(self.ax_, 0, rows[row], f"{r2[row]:.3g}")


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
