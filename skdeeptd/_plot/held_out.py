"""What a network explains of rows held out, beside a linear model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skdeeptd._plot.drawing import axes_for, draw_legend, fitted_network, write_beside

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FLOOR = -0.2  # the R2 at which a bar ends; what is below is written beside it
THICKNESS = 0.36  # of a bar, where the outputs are 1 apart


class HeldOutDisplay:
    """R2 on rows held out: the network beside a linear model, for each output.

    Both were fitted to a part of the rows and predicted the others. The labels hold the
    verdict: "nothing" where neither predicts clearly better than the mean of y,
    "network" where the network predicts clearly better than the linear model, else
    "linear". A bar that would go far below zero is cut off, with its number beside it.

    Parameters
    ----------
    network, linear : array-like of shape (n_outputs,)
        R2 of the network and of the linear model; NaN where there were too few rows.
    verdict : sequence of str
        "nothing", "linear" or "network", for each output.
    outputs : sequence of str, default=None
        The names of the outputs; None for "output 0", "output 1", ...

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import HeldOutDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=500, kernel_sizes=(6, 4), noise=0.5, random_state=0
    ... )
    >>> model = DeepTDRegressor((6, 4), random_state=0).fit(X, y)
    >>> HeldOutDisplay.from_estimator(model).verdict
    ['network']
    """

    def __init__(
        self,
        network: ArrayLike,
        linear: ArrayLike,
        verdict: Sequence[str],
        *,
        outputs: Sequence[str] | None = None,
    ) -> None:
        self.network = network
        self.linear = linear
        self.verdict = verdict
        self.outputs = outputs

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, *, ax: Axes | None = None
    ) -> Self:
        """Draw ``held_out_r2_`` and ``verdict_`` of a fitted estimator.

        Parameters
        ----------
        estimator : DeepTDRegressor, DeepTDRegressorCV or Pipeline
            Of a Pipeline the last step.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        HeldOutDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where the estimator is of another kind, such as a classifier, or ``ax`` does
            not fit.
        """
        estimator = fitted_network(estimator)
        if not hasattr(estimator, "held_out_r2_"):
            raise TypeError(
                f"HeldOutDisplay draws held_out_r2_, which a "
                f"{type(estimator).__name__} does not have; for classes compare its "
                f"score on rows held out with that of LogisticRegression"
            )
        return cls(**estimator.held_out_r2_, verdict=estimator.verdict_).plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the bars.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        HeldOutDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else.
        """
        figsize = 6.5, 1.2 + 0.6 * len(self.verdict)
        self.ax_ = axes_for(ax, (1, 1), figsize).item()
        self.figure_ = self.ax_.figure
        rows = np.arange(len(self.verdict))
        self._draw_bars(rows - THICKNESS / 2, self.linear, "linear model", "0.6")
        self._draw_bars(rows + THICKNESS / 2, self.network, "network", "C0")
        self._label_axes()
        return self

    def _draw_bars(self, rows, r2, label, color):
        r2 = np.asarray(r2, dtype=float)
        lengths = np.maximum(np.nan_to_num(r2), FLOOR)
        self.ax_.barh(rows, lengths, THICKNESS, color=color, label=label)
        for row, value in zip(rows, r2, strict=True):
            if np.isnan(value):
                write_beside(self.ax_, 0, row, "too few rows")
            elif value < FLOOR:
                self.ax_.plot(0.9 * FLOOR, row, "<", color="white", markersize=5)
                write_beside(self.ax_, 0, row, f"{value:.3g}")

    def _label_axes(self):
        ax, n_outputs = self.ax_, len(self.verdict)
        outputs = self.outputs
        if outputs is None:
            outputs = [f"output {number}" for number in range(n_outputs)]
        labels = [
            f"{output}\nverdict: {verdict}"
            for output, verdict in zip(outputs, self.verdict, strict=True)
        ]
        ax.set_yticks(range(n_outputs), labels)
        ax.set_ylim(n_outputs - 0.4, -0.6)
        ax.set_xlim(FLOOR, 1)
        ax.set_xlabel("R2 on rows held out")
        ax.axvline(0, color="0.2", linewidth=0.8)
        ax.grid(axis="x", color="0.9")
        ax.set_axisbelow(True)
        draw_legend(ax)
