"""The candidates of a search."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skdeeptd._plot.drawing import (
    axes_for,
    behind_steps,
    check_n_best,
    described,
    draw_legend,
    write_beside,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FENCE = 3  # spreads below the lower quartile where outliers begin
STAGES = {  # of a choice: what it means, colour and marker
    3: ("fitted in full", "C0", "o"),
    2: ("left after the short polish", "C1", "s"),
    1: ("left before the polish", "0.5", "D"),
    0: ("no time for it", "0.5", "x"),
}


class PathDisplay:
    """Scores of the candidates of a choice, the one in use first.

    A line shows the mean and the standard deviation over the folds. Colour and marker
    tell the last stage that a candidate reached, since the scores of a stage are of its
    fits: only those of the third are in full. A star marks the candidate in use. A
    score far below the others is a number at the edge: below the lower quartile by more
    than three interquartile ranges, or standard deviations where these are larger.

    Parameters
    ----------
    labels : sequence of str
        A line for each candidate, in the order in which they are drawn; the one in use
        first.
    mean, std : array-like of shape (n_candidates,)
        Score on the held-out folds.
    stage : array-like of shape (n_candidates,)
        The last stage, from 1 to 3, that the candidate reached, or 0.
    n_left_out : int, default=0
        Candidates of a worse rank that are not drawn.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skdeeptd import DeepTDAutoRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import PathDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(4, 6), noise=0.1, random_state=0
    ... )
    >>> search = DeepTDAutoRegressor(random_state=0).fit(X, y)
    >>> display = PathDisplay.from_estimator(search, n_best=10)
    >>> display.labels[0]
    '(4, 6)'
    """

    def __init__(
        self,
        labels: Sequence[str],
        mean: ArrayLike,
        std: ArrayLike,
        stage: ArrayLike,
        *,
        n_left_out: int = 0,
    ) -> None:
        self.labels = labels
        self.mean = mean
        self.std = std
        self.stage = stage
        self.n_left_out = n_left_out

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, *, n_best: int = 50, ax: Axes | None = None
    ) -> Self:
        """Draw the candidates of a fitted search, best rank first.

        Parameters
        ----------
        estimator : DeepTDAutoRegressor, DeepTDAutoClassifier, DeepTDRegressorCV, \
DeepTDClassifierCV or Pipeline
            Of a Pipeline the last step.
        n_best : int, default=50
            Most candidates to draw; the others rank behind them.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        PathDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where the estimator is none of these, ``n_best`` is not a positive
            integer, or ``ax`` does not fit.
        """
        results = _results(estimator)
        estimator, _ = behind_steps(estimator)
        check_n_best(n_best)
        order = np.argsort(results["rank_test_score"])
        best = estimator.best_index_
        order = np.array([best, *order[order != best]])
        labels = _labels(results["params"])
        drawn = order[:n_best]
        display = cls(
            [labels[i] for i in drawn],
            results["mean_test_score"][drawn],
            results["std_test_score"][drawn],
            results["stage"][drawn],
            n_left_out=len(order) - len(drawn),
        )
        return display.plot(ax)

    def plot(self, ax: Axes | None = None) -> Self:
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        PathDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else.
        """
        n_drawn = len(self.labels)
        self.ax_ = axes_for(ax, (1, 1), (7, 1.6 + 0.19 * n_drawn)).item()
        self.figure_ = self.ax_.figure
        fence = _fence(np.asarray(self.mean), np.asarray(self.std))
        self._draw_scores(fence)
        self._draw_far(fence)
        self._draw_star(fence)
        self._label_axes()
        return self

    def _draw_scores(self, fence):
        mean, std, stage = map(np.asarray, (self.mean, self.std, self.stage))
        for number, (meaning, color, marker) in STAGES.items():
            of_stage = stage == number
            if not np.any(of_stage):
                continue
            rows = np.flatnonzero(of_stage & ~(mean < fence))
            self.ax_.errorbar(
                mean[rows],
                rows,
                xerr=std[rows],
                fmt=marker,
                color=color,
                markerfacecolor=color if number == max(STAGES) else "white",
                markersize=5,
                label=meaning,
            )

    def _draw_far(self, fence):
        for row in np.flatnonzero(np.asarray(self.mean) < fence):
            _, color, _ = STAGES[self.stage[row]]
            self.ax_.plot(fence, row, "<", color=color, markersize=5)
            write_beside(self.ax_, fence, row, f"{self.mean[row]:.3g}")

    def _draw_star(self, fence):
        self.ax_.plot(
            max(self.mean[0], fence),
            0,
            "*",
            color="gold",
            mec="k",
            markersize=13,
            label="in use",
        )

    def _label_axes(self):
        ax, n_drawn = self.ax_, len(self.labels)
        ax.set_yticks(range(n_drawn), self.labels, fontsize="small")
        ax.set_ylim(n_drawn - 0.4, -0.6)
        ax.set_xlabel("score on held-out folds: mean and standard deviation")
        if self.n_left_out:
            ax.set_ylabel(f"best {n_drawn} of {n_drawn + self.n_left_out} candidates")
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        draw_legend(ax)


def _results(estimator):
    """The table of a fitted search."""
    search, _ = behind_steps(estimator)
    check_is_fitted(search)
    results = getattr(search, "cv_results_", {})
    if "stage" not in results:
        raise TypeError(
            f"PathDisplay draws the candidates of a DeepTDAutoRegressor, "
            f"DeepTDAutoClassifier, DeepTDRegressorCV or DeepTDClassifierCV, got "
            f"{described(estimator)}"
        )
    return results


def _labels(candidates):
    """What tells the candidates from each other; of networks at least kernel sizes."""
    networks = [c for c in candidates if "kernel_sizes" in c]
    alike = {
        name
        for name in set().union(*networks) - {"kernel_sizes"}
        if len({repr(c.get(name)) for c in networks}) == 1
    }
    return [_label(c, alike if "kernel_sizes" in c else ()) for c in candidates]


def _label(params, without):
    first = params.get("kernel_sizes", params.get("model"))
    others = [
        f"{name}={value}"
        for name, value in params.items()
        if name not in {"kernel_sizes", "model", *without}
    ]
    return ", ".join([str(first), *others])


def _fence(mean, std):
    """The score below which a mean is far from the others."""
    known = np.isfinite(mean) & np.isfinite(std)
    if not np.any(known):
        return -np.inf
    low, high = np.quantile(mean[known], [0.25, 0.75])
    return low - FENCE * max(high - low, np.median(std[known]))
