"""Draw the candidates of a search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from skdeeptd._plot.drawing import (
    check_n_best,
    describe_estimator,
    draw_legend,
    get_axes,
    unwrap_pipeline,
    write_beside,
)
from skdeeptd._search import candidate_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGES = {  # meaning, colour and marker of the last stage that a candidate reached
    3: ("complete fit", "C0", "o"),
    2: ("short fit only", "C1", "s"),
    1: ("initial estimate or first fold only", "0.5", "D"),
    0: ("skipped (time limit)", "0.5", "x"),
}


@dataclass(eq=False, repr=False)
class CandidatesDisplay:
    """Cross-validated scores of the candidates of a search, best candidate first.

    >>> from skdeeptd import DeepTDRegressorCV
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import CandidatesDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(4, 6), noise=0.1, random_state=0
    ... )
    >>> search = DeepTDRegressorCV(random_state=0).fit(X, y)
    >>> display = CandidatesDisplay.from_estimator(search, n_best=10)
    >>> display.labels[0]
    'network, kernel sizes (4, 6)'

    Markers with error bars show the mean and the standard deviation of the score over
    the folds. Colour and marker give the last stage that the candidate reached; scores
    of candidates that were dropped early belong to incomplete fits. A star marks the
    best candidate. Scores far below the others are written at the edge as numbers: more
    than three interquartile ranges or standard deviations below the lower quartile.

    Parameters
    ----------
    labels : sequence of str
        A label for each candidate, in drawing order; the best candidate first.
    mean, std : array-like of shape (n_candidates,)
        Mean and standard deviation of the score over the folds.
    stage : array-like of shape (n_candidates,)
        Last stage that the candidate reached, from 1 to 3, or 0 if it was skipped.
    n_left_out : int, default=0
        Number of candidates of worse ranks that are not drawn.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    labels: Sequence[str]
    mean: ArrayLike
    std: ArrayLike
    stage: ArrayLike
    _: KW_ONLY
    n_left_out: int = 0

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, *, n_best: int = 50, ax: Axes | None = None
    ) -> Self:
        """Draw the candidates of a fitted search, best rank first.

        Parameters
        ----------
        estimator : fitted search or Pipeline
            A search of this package, or a Pipeline that ends in one. The label of a
            candidate contains its weight in an average.
        n_best : int, default=50
            Maximum number of candidates to draw.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        CandidatesDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If the estimator is of another kind, if ``n_best`` is not a positive
            integer, or if ``ax`` is not one axes.
        """
        search, _ = unwrap_pipeline(estimator)
        check_is_fitted(search)
        results = getattr(search, "cv_results_", {})
        if "stage" not in results:
            raise TypeError(
                f"CandidatesDisplay draws a search whose cv_results_ has an entry "
                f"'stage', such as a DeepTDRegressorCV, got "
                f"{describe_estimator(estimator)}"
            )
        check_n_best(n_best)
        order = np.argsort(results["rank_test_score"])
        best = getattr(search, "best_index_", order[0])
        order = np.array([best, *order[order != best]])
        weights = results.get("weight", np.zeros(len(order)))
        names, drawn = candidate_names(results["params"]), order[:n_best]
        labels = [
            f"{names[i]}, weight {weights[i]:.2g}" if weights[i] > 0 else names[i]
            for i in drawn
        ]
        display = cls(
            labels,
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
        CandidatesDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` is not one axes.
        """
        n_drawn, longest = len(self.labels), max(40, *map(len, self.labels))
        figsize = 4 + 0.075 * longest, 1.6 + 0.19 * n_drawn
        self.ax_ = get_axes(ax, (1, 1), figsize).item()
        self.figure_ = self.ax_.figure
        mean, std, stage = map(np.asarray, (self.mean, self.std, self.stage))
        lowest = _lowest_drawn(mean, std)
        self._draw_scores(mean, std, stage, lowest)
        star = {"color": "gold", "mec": "k", "markersize": 13, "zorder": 3}
        self.ax_.plot(max(mean[0], lowest), 0, "*", **star, label="best candidate")
        self.ax_.set_yticks(range(n_drawn), self.labels, fontsize="small")
        self.ax_.set_ylim(n_drawn - 0.4, -0.6)
        self.ax_.set_xlabel("cross-validated score: mean and standard deviation")
        if self.n_left_out:
            n_candidates = n_drawn + self.n_left_out
            self.ax_.set_ylabel(f"best {n_drawn} of {n_candidates} candidates")
        self.ax_.grid(axis="y", color="0.9")
        self.ax_.set_axisbelow(True)
        draw_legend(self.ax_)
        return self

    def _draw_scores(self, mean, std, stage, lowest):
        for number in [n for n in STAGES if n in stage]:
            meaning, color, marker = STAGES[number]
            fill = color if number == max(STAGES) else "white"
            style = {"fmt": marker, "color": color, "mfc": fill, "markersize": 5}
            rows = np.flatnonzero((stage == number) & ~(mean < lowest))
            self.ax_.errorbar(mean[rows], rows, xerr=std[rows], label=meaning, **style)
            for row in np.flatnonzero((stage == number) & (mean < lowest)):
                self.ax_.plot(lowest, row, "<", color=color, markersize=5)
                write_beside(self.ax_, lowest, row, f"{mean[row]:.3g}")


def _lowest_drawn(mean, std, n_spreads=3):
    """Return the score below which a mean is far from the others."""
    known = np.isfinite(mean) & np.isfinite(std)
    if not np.any(known):
        return -np.inf
    low, high = np.quantile(mean[known], [0.25, 0.75])
    return low - n_spreads * max(high - low, np.median(std[known]))
