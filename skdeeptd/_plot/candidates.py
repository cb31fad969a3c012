"""Draw the candidates of a search."""

from __future__ import annotations

from collections.abc import Sequence
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

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STAGES = {  # meaning, colour and marker of the last stage that a candidate reached
    3: ("complete fit", "C0", "o"),
    2: ("short fit only", "C1", "s"),
    1: ("initial estimate only", "0.5", "D"),
    0: ("skipped (time limit)", "0.5", "x"),
}


class CandidatesDisplay:
    """Cross-validated scores of the candidates of a search, best candidate first.

    A line shows the mean and the standard deviation of the score over the folds. Colour
    and marker give the last stage that the candidate reached: scores of candidates that
    were dropped early belong to incomplete fits. A star marks the best candidate.
    Scores far below the others, by more than three interquartile ranges or standard
    deviations below the lower quartile, are numbers at the edge.

    Parameters
    ----------
    labels : sequence of str
        A label for each candidate, in drawing order; the best candidate first.
    mean, std : array-like of shape (n_candidates,)
        Mean and standard deviation of the score over the folds.
    stage : array-like of shape (n_candidates,)
        Last stage that the candidate reached, from 1 to 3, or 0 if it was skipped.
    weight : array-like of shape (n_candidates,), default=None
        Weights in an average of candidates. Each positive weight is written beside its
        label.
    n_left_out : int, default=0
        Number of candidates of worse ranks that are not drawn.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressorCV
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import CandidatesDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(4, 6), noise=0.1, random_state=0
    ... )
    >>> search = DeepTDRegressorCV(random_state=0).fit(X, y)
    >>> display = CandidatesDisplay.from_estimator(search, n_best=10)
    >>> display.labels[0]
    'network (4, 6)'
    """

    def __init__(
        self,
        labels: Sequence[str],
        mean: ArrayLike,
        std: ArrayLike,
        stage: ArrayLike,
        *,
        weight: ArrayLike | None = None,
        n_left_out: int = 0,
    ) -> None:
        self.labels = labels
        self.mean = mean
        self.std = std
        self.stage = stage
        self.weight = weight
        self.n_left_out = n_left_out

    @classmethod
    def from_estimator(
        cls, estimator: BaseEstimator, *, n_best: int = 50, ax: Axes | None = None
    ) -> Self:
        """Draw the candidates of a fitted search, best rank first.

        Parameters
        ----------
        estimator : fitted search or Pipeline
            A search of this package: ``cv_results_`` has an entry "stage". The last
            step is drawn if it is a Pipeline.
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
            If the estimator is of another kind, ``n_best`` is not a positive integer,
            or ``ax`` is not one axes.
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
        labels = _labels(results["params"])
        drawn = order[:n_best]
        display = cls(
            [labels[i] for i in drawn],
            results["mean_test_score"][drawn],
            results["std_test_score"][drawn],
            results["stage"][drawn],
            weight=results["weight"][drawn] if "weight" in results else None,
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
        labels = self._labels_with_weights()
        figsize = 4 + 0.075 * max(40, *map(len, labels)), 1.6 + 0.19 * len(labels)
        self.ax_ = get_axes(ax, (1, 1), figsize).item()
        self.figure_ = self.ax_.figure
        lowest = _lowest_drawn(np.asarray(self.mean), np.asarray(self.std))
        self._draw_scores(lowest)
        self._draw_far(lowest)
        star = {"color": "gold", "mec": "k", "markersize": 13, "zorder": 3}
        best = max(self.mean[0], lowest)
        self.ax_.plot(best, 0, "*", **star, label="best candidate")
        self._label_axes(labels)
        return self

    def _draw_scores(self, lowest):
        mean, std, stage = map(np.asarray, (self.mean, self.std, self.stage))
        for number, (meaning, color, marker) in STAGES.items():
            if not np.any(stage == number):
                continue
            rows = np.flatnonzero((stage == number) & ~(mean < lowest))
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

    def _draw_far(self, lowest):
        for row in np.flatnonzero(np.asarray(self.mean) < lowest):
            _, color, _ = STAGES[self.stage[row]]
            self.ax_.plot(lowest, row, "<", color=color, markersize=5)
            write_beside(self.ax_, lowest, row, f"{self.mean[row]:.3g}")

    def _labels_with_weights(self):
        if self.weight is None:
            return self.labels
        return [
            f"{label}, weight {weight:.2g}" if weight > 0 else label
            for label, weight in zip(self.labels, self.weight, strict=True)
        ]

    def _label_axes(self, labels):
        ax, n_drawn = self.ax_, len(labels)
        ax.set_yticks(range(n_drawn), labels, fontsize="small")
        ax.set_ylim(n_drawn - 0.4, -0.6)
        ax.set_xlabel("cross-validated score: mean and standard deviation")
        if self.n_left_out:
            ax.set_ylabel(f"best {n_drawn} of {n_drawn + self.n_left_out} candidates")
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        draw_legend(ax)


def _labels(candidates):
    """Describe each candidate; leave out parameters that all networks share."""
    networks = [c for c in candidates if "kernel_sizes" in c]
    shared = {
        name
        for name in set().union(*networks) - {"kernel_sizes"}
        if len({repr(c.get(name)) for c in networks}) == 1
    }
    return [_label(c, shared if "kernel_sizes" in c else ()) for c in candidates]


def _label(params, left_out):
    model = params.get("model", "network" if "kernel_sizes" in params else "")
    others = [
        f"{name}={value}"
        for name, value in params.items()
        if name not in {"kernel_sizes", "model", *left_out}
    ]
    first = f"{model} {params.get('kernel_sizes', '')}".strip()
    return ", ".join([first] * bool(first) + others) or "default parameters"


def _lowest_drawn(mean, std, n_spreads=3):
    """Return the score below which a mean is far from the others."""
    known = np.isfinite(mean) & np.isfinite(std)
    if not np.any(known):
        return -np.inf
    low, high = np.quantile(mean[known], [0.25, 0.75])
    return low - n_spreads * max(high - low, np.median(std[known]))
