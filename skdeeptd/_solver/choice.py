"""Which of several networks predicts best: compared on folds, in stages.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
s_cf        ``test``            (candidates, folds): score on the rows held out
==========  ==================  ==================================================

1. Without the polish: of the shapes with the same filters and alpha the best eighth
   goes on, and three at least.
2. With one start and a short polish: who is not clearly behind the best, by two
   standard errors of the paired difference over the folds, goes on.
3. Fitted in full. The best mean score wins.

A linear candidate is fitted in full in every stage and always goes on to the second.
"""

import math
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from skdeeptd._data.problem import make_problem
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._solver.deeptd import fit_rows, untold
from skdeeptd._solver.search import Spec, silent

KEPT, LEAST_KEPT = 1 / 8, 3  # share and number of shapes that survive the first stage
STANDARD_ERRORS = 2.0  # of a difference over the folds that is a clear one
STAGES = ({"polish": False}, {"n_init": 1, "max_iter": 10}, {})  # of the spec


class Candidate(NamedTuple):
    """``params`` are those that differ between the candidates."""

    params: dict
    spec: Spec

    @property
    def is_linear(self):
        return self.spec.blank.is_linear


class Fold(NamedTuple):
    """The training rows with their moment, in units of y, and the rows held out."""

    train: RowBlocks
    moment: np.ndarray
    test: RowBlocks


class Scores(NamedTuple):
    """Score and seconds of each candidate (rows) on each fold; its last stage."""

    test: np.ndarray
    fit_time: np.ndarray
    score_time: np.ndarray
    stage: np.ndarray


def make_fold(train, test, fit_intercept):
    problem = make_problem(train, fit_intercept)
    return Fold(train, problem.moment_of_y(problem.moment()), test)


def compare(candidates, folds, score, run_all, *, report=silent, stage=untold):
    """Score the candidates stage by stage on all folds.

    Parameters
    ----------
    candidates : list of Candidate
    folds : list of Fold
    score : callable
        Of the networks of a fit on the ``RowBlocks`` held out.
    run_all : callable
        Takes a function and a list of arguments of each call; gives their results.
    report, stage : callable
        As in ``fit_rows``.

    Returns
    -------
    Scores
    """
    linear = np.array([candidate.is_linear for candidate in candidates])
    shape = len(candidates), len(folds)
    scores = Scores(*np.zeros((3, *shape)), np.zeros(len(candidates), dtype=int))
    alive = np.arange(len(candidates))
    for number, budget in enumerate(STAGES):
        scores.stage[alive] = number + 1
        specs = [
            candidates[i].spec._replace(**({} if linear[i] else budget)) for i in alive
        ]
        with stage(f"stage {number + 1}", len(folds)) as part:
            for f, fold in enumerate(folds):
                with part(f"fold {f}"):
                    calls = [(score, spec, fold) for spec in specs]
                    columns = zip(*run_all(fit_and_score, calls), strict=True)
                    for table, column in zip(scores, columns):
                        table[alive, f] = column
        report(f"stage {number + 1}: {len(alive)} candidates")
        remaining = [candidates[i].params for i in alive]
        alive = alive[_survivors(scores.test[alive], remaining, linear[alive], number)]
    return scores


def fit_and_score(score: Callable, spec, fold):
    """Score on held-out rows, and the seconds of the fit and of the score."""
    begin = time.perf_counter()
    with single_threaded_blas(), reusing():
        networks = fit_rows(fold.train, spec, moment=fold.moment).networks
    fitted = time.perf_counter()
    scored = score(networks, fold.test)
    return scored, fitted - begin, time.perf_counter() - fitted


def _best_shapes(mean, candidates):
    """The candidates whose shape does best with their own filters and alpha."""
    groups = {}
    for i in np.argsort(-mean, kind="stable"):
        key = candidates[i]["n_filters"], candidates[i]["alpha"]
        groups.setdefault(key, []).append(i)
    kept = [
        group[: max(LEAST_KEPT, math.ceil(KEPT * len(group)))]
        for group in groups.values()
    ]
    return np.sort(np.concatenate(kept))


def _not_behind(mean, scores):
    """The candidates that are not clearly behind the best one."""
    behind = _clearly_ahead(scores[np.argmax(mean)], scores)
    return np.flatnonzero(np.isfinite(mean) & ~behind)


def _clearly_ahead(scores, others):
    """Whether the scores on the folds, paired with each row of the others, are."""
    ahead = scores - others
    error = ahead.std(axis=-1) / np.sqrt(max(1, ahead.shape[-1] - 1))
    return ahead.mean(axis=-1) > STANDARD_ERRORS * error


def _survivors(scores, candidates, linear, stage):
    """Which of the candidates of a stage go on, as an index."""
    mean = np.nan_to_num(scores.mean(axis=1), nan=-np.inf)
    if not np.isfinite(mean.max()):
        return np.arange(len(mean))
    if stage == 0:
        return np.union1d(_best_shapes(mean, candidates), np.flatnonzero(linear))
    return _not_behind(mean, scores)


def best_of(rank, scores, linear):
    """The candidate that ranks first, or a linear one that it is not really ahead of.

    Only linear candidates that reached the last stage count. To be ahead on every fold
    is enough: where the linear one fails on some, the standard error says nothing.
    """
    best = int(np.argmin(rank))
    candidates = np.flatnonzero(linear & (scores.stage == len(STAGES)))
    if linear[best] or not len(candidates):
        return best
    best_linear = candidates[np.argmin(rank[candidates])]
    ahead, behind = scores.test[best], scores.test[best_linear]
    clear = _clearly_ahead(ahead, behind) or np.all(ahead > behind)
    return best if clear else int(best_linear)


def results_of(candidates, scores):
    """The table of GridSearchCV."""
    results = {
        "mean_fit_time": scores.fit_time.mean(axis=1),
        "std_fit_time": scores.fit_time.std(axis=1),
        "mean_score_time": scores.score_time.mean(axis=1),
        "std_score_time": scores.score_time.std(axis=1),
    }
    params = [candidate.params for candidate in candidates]
    for name in params[0]:
        column = np.ma.masked_all(len(params), dtype=object)
        for i, of_candidate in enumerate(params):
            column[i] = of_candidate[name]
        results[f"param_{name}"] = column
    results["params"] = params
    for fold, column in enumerate(scores.test.T):
        results[f"split{fold}_test_score"] = column
    mean = scores.test.mean(axis=1)
    results["mean_test_score"] = mean
    results["std_test_score"] = scores.test.std(axis=1)
    order = np.lexsort((-mean, -scores.stage))
    results["rank_test_score"] = np.argsort(order).astype(np.int32) + 1
    results["stage"] = scores.stage
    return results
