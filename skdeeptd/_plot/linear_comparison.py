"""Draw the cross-validated R2 of a network beside that of a linear model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils import Bunch

from skdeeptd._plot.drawing import draw_legend, get_axes, write_beside
from skdeeptd.inspection import compare_with_linear

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
