"""Which of several models predicts best on folds, and the best mean of some of them.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
s_cf        ``scores``          (candidates, folds), on the rows held out
p_c         ``predicted``       (models, rows) of an output, each row by a fit that has
                                not seen it
v_c         ``weights``         (models,) of an output, not negative, of sum one
==========  ==================  ==================================================

Models in closed form are fitted once per fold; those with the same filters share them.
Networks are compared in stages:

1. Without the polish: of the shapes that share all else the best eighth goes on, but
   three at least and ten at most.
2. With one start and a short polish: who is not clearly behind the best candidate, by
   two standard errors of the paired difference over the folds, goes on. Networks that
   differ in alpha only are a path: each begins with what the one before found.
3. Fitted in full.

The weights are those of least squares on the rows held out (Breiman 1996, stacked
regressions), or of the largest likelihood, where that is better than the best candidate
by itself. As far as it is not clearly ahead of the linear model, it is shrunk to that.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from numbers import Real
from time import perf_counter as clock
from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

from skdeeptd._data.standardize import standardize
from skdeeptd._data.rows import RowBlocks
from skdeeptd._fit import null_stage as untold
from skdeeptd._init.multi_start import EXACT
from skdeeptd._init.multi_start import null_report as silent

KEPT, LEAST_KEPT, MOST_KEPT = 1 / 8, 3, 10  # of the shapes, after the first stage
STANDARD_ERRORS = 2.0  # of a difference over the folds that is a clear one
PATH_STAGES, LAST_STAGE = (0, 2), 3
SLOWER = (1.0, 0.0, 4.0, 4.0)  # than what is known before each stage
TRIED = 4  # of so many rows one, for the time that a closed form takes
SUM_OF_WEIGHTS = 1e3  # how much a sum that is not one counts
NO_WEIGHT = 1e-9  # of a bound that is met to rounding
LEAST_WEIGHT = 1e-3  # of a member of a mean of probabilities
LEAST_PROBABILITY = 1e-15
MOST_ROUNDS = 300  # of expectation maximisation


class Candidate(NamedTuple):
    """``run(fold, stage, before)`` predicts the rows held out, and gives what it found.

    ``kind`` is "linear", "closed" for others that are fitted in closed form, or
    "network". ``params`` are what it differs by from others; a network's hold its
    "kernel_sizes". ``path`` is a name and a place, or None: candidates of one name run
    in the order of their places, and ``before`` is what the one before found.
    """

    params: dict
    kind: str
    run: Callable
    path: tuple | None = None


class Fold(NamedTuple):
    """The training rows with their moment, in units of y, and the rows held out.

    ``kept`` is for what several candidates share.
    """

    train: RowBlocks
    moment: np.ndarray
    test: RowBlocks
    kept: dict


class Result(NamedTuple):
    """Of a candidate on a fold: NaN, None and an error where it failed."""

    score: float = np.nan
    fit_time: float = np.nan
    score_time: float = np.nan
    predicted: np.ndarray | None = None
    error: str = ""


NOT_RUN = Result()


class Table(NamedTuple):
    """``results[c][f]`` is that of a candidate on a fold, of its last stage.

    ``stages`` holds the last stage of each candidate, 0 where there was no time.
    """

    results: list
    stages: np.ndarray

    def column(self, name):
        """Of all results, (candidates, folds)."""
        return np.array([[getattr(r, name) for r in row] for row in self.results])


def make_fold(train, test):
    problem = standardize(train, fit_intercept=True)
    return Fold(train, problem.moment() * problem.unit[:, np.newaxis], test, kept={})


def compare(
    candidates,
    folds,
    score,
    run_all,
    *,
    end=math.inf,
    n_at_a_time=1,
    report=silent,
    stage=untold,
):
    """Fit the candidates on all folds, stage by stage.

    Parameters
    ----------
    candidates : list of Candidate
    folds : list of Fold
    score : callable
        Of predictions and the ``RowBlocks`` held out.
    run_all : callable
        Takes a function and a list of arguments of each call; gives their results.
    end : float
        When all is to be done, as ``time.perf_counter`` has it. The first candidate is
        fitted in any case; of the others none is begun, or goes on to the second fold,
        that is expected to take longer.
    n_at_a_time : int
        Calls that ``run_all`` runs at a time.
    report, stage : callable
        As in ``fit_rows``.

    Returns
    -------
    Table
    """
    n_candidates = len(candidates)
    table = Table([[NOT_RUN] * len(folds)] * n_candidates, np.zeros(n_candidates, int))
    alive = np.array([i for i, c in enumerate(candidates) if c.kind != "network"])
    for number in range(LAST_STAGE + 1):
        name = f"stage {number}" if number else "closed form"
        with stage(name, len(alive)) as part:
            begin, n_done = clock(), 0
            calls = {
                path: [([candidates[i] for i in path], number, f, score) for f in folds]
                for path in _paths(candidates, alive, number, not math.isinf(end))
            }
            if math.isinf(end):
                done = _all_of(calls, run_all)
            else:
                known = table.column("fit_time")[:, 0]
                done = _in_time(calls, run_all, end, number, known, n_at_a_time)
            for path, of_folds in done:
                for i, results in zip(path, zip(*of_folds, strict=True), strict=True):
                    with part(f"candidate {i}"):
                        table.results[i] = list(results)
                    table.stages[i] = number or LAST_STAGE
                n_done += len(path)
        seconds = clock() - begin
        report(f"{name}: {n_done} of {len(alive)} candidates, {seconds:.1f} s")
        alive = _survivors(table, candidates, number)
    return table


def _paths(candidates, alive, number, in_haste):
    """Those to run one after the other; each by itself where time is to be judged."""
    paths, apart = {}, number not in PATH_STAGES or (in_haste and number == 0)
    for i in alive:
        name, place = (i, 0) if apart else candidates[i].path or (i, 0)
        paths.setdefault(name, []).append((place, i))
    return [tuple(i for _, i in sorted(path)) for path in paths.values()]


def path_of_alpha(params):
    """Of networks that differ in alpha only, the largest first."""
    alpha = params.get("alpha")
    return (_params_but("alpha", params), -alpha) if isinstance(alpha, Real) else None


def _params_but(name, params):
    return tuple(repr(item) for item in params.items() if item[0] != name)


def _all_of(calls, run_all):
    """Each path and the results of its candidates, fold by fold."""
    results = iter(run_all(run_and_score, itertools.chain(*calls.values())))
    for path, of_path in calls.items():
        yield path, [next(results) for _ in of_path]


def _in_time(calls, run_all, end, stage, known, n_at_a_time):
    """The same of those for which there is time.

    ``known`` holds the seconds that a fold took in the stage before. How much slower it
    is in this one is the most that it was for any path. The first candidate in closed
    form is fitted in any case.
    """
    slower = []
    for path, (first, *others) in calls.items():
        is_needed = stage == 0 and path == (0,)
        if not is_needed and clock() >= end:
            return
        n_rounds = math.ceil(len(others) / n_at_a_time)
        unit = sum(known[list(path)]) if stage > 1 else 1.0
        if stage == 0 and not is_needed:
            unit = _seconds_of_all_rows(*first)
        expected = unit * max(slower, default=SLOWER[stage])
        if not is_needed and clock() + (1 + n_rounds) * expected > end:
            continue
        begin = clock()
        result = run_and_score(*first)
        seconds = clock() - begin
        if is_needed or clock() + n_rounds * seconds <= end:
            yield path, [result, *run_all(run_and_score, others)]
        if not is_needed:
            slower.append(seconds / unit)


def _seconds_of_all_rows(path, stage, fold, score):
    """What a fold is expected to take, by a fit to some of its rows."""
    begin, rows = clock(), fold.train
    few = replace(
        rows, X=rows.X[::TRIED], y=rows.y[::TRIED], weight=rows.weight[::TRIED]
    )
    run_and_score(path, stage, fold._replace(train=few), score)
    return (clock() - begin) * TRIED**1.5


def run_and_score(path, stage, fold, score):
    """A ``Result`` for each candidate of a path."""
    results, found = [], None
    for candidate in path:
        begin = clock()
        try:
            predicted, found = candidate.run(fold, stage, found)
        except Exception as error:  # of any kind, as in a grid search
            results.append(Result(error=repr(error)))
            continue
        fitted = clock()
        scored = score(predicted, fold.test)
        results.append(Result(scored, fitted - begin, clock() - fitted, predicted))
    return results


def _survivors(table, candidates, number):
    """Which of the networks of a stage go on, as an index; all of them to the first."""
    is_network = np.array([candidate.kind == "network" for candidate in candidates])
    if number == 0:
        return np.flatnonzero(is_network)
    scores = table.column("score")
    mean = np.nan_to_num(scores.mean(axis=1), nan=-np.inf)
    in_stage = is_network & (table.stages == number)
    reached = np.flatnonzero(in_stage & np.isfinite(mean))
    if not len(reached) or number == LAST_STAGE:
        return reached[:0]
    if number == 1:
        return _best_shapes(mean, candidates, reached)
    behind = _clearly_ahead(scores[np.argmax(mean)], scores[reached])
    return reached[~behind]


def _best_shapes(mean, candidates, reached):
    """The candidates whose shape does best with all else that they have."""
    groups = {}
    for i in reached[np.argsort(-mean[reached], kind="stable")]:
        same = _params_but("kernel_sizes", candidates[i].params)
        groups.setdefault(same, []).append(i)
    kept = [
        group[: min(max(LEAST_KEPT, math.ceil(KEPT * len(group))), MOST_KEPT)]
        for group in groups.values()
    ]
    return np.sort(np.concatenate(kept))


def _clearly_ahead(scores, others):
    """Whether the scores on the folds, paired with each row of the others, are."""
    ahead = scores - others
    error = ahead.std(axis=-1) / np.sqrt(max(1, ahead.shape[-1] - 1))
    return ahead.mean(axis=-1) > STANDARD_ERRORS * error


def best_of(mean, scores, linear):
    """The candidate of the best mean score, or a linear one it is not really ahead of.

    ``mean`` is -inf for those that are out of the race. To be ahead on every fold is
    enough: where the linear one fails on some, the standard error says nothing.
    """
    best = int(np.argmax(mean))
    candidates = np.flatnonzero(linear & np.isfinite(mean))
    if linear[best] or not len(candidates):
        return best
    best_linear = candidates[np.argmax(mean[candidates])]
    ahead, behind = scores[best], scores[best_linear]
    clear = _clearly_ahead(ahead, behind) or np.all(ahead > behind)
    return best if clear else int(best_linear)


class SquaredErrors(NamedTuple):
    """What a mean of models is judged by: ``predicted`` (models, rows), y, weight."""

    predicted: np.ndarray
    y: np.ndarray
    weight: np.ndarray

    def best_weights(self, models):
        predicted, weight = self.predicted[models], self.weight
        root = np.sqrt(weight / np.sum(weight))
        unit = np.sqrt(np.sum((root * self.y) ** 2)) or 1.0
        table = np.vstack(
            [(root * predicted / unit).T, np.full(len(predicted), SUM_OF_WEIGHTS)]
        )
        target = np.append(root * self.y / unit, SUM_OF_WEIGHTS)
        found = lsq_linear(table, target, (0, np.inf), method="bvls").x
        weights = np.where(found > NO_WEIGHT, found, 0.0)
        return weights / np.sum(weights)

    def errors(self, weights):
        return (self.y - weights @ self.predicted) ** 2

    def of_other_rows(self, errors, n_members):
        """What errors of the rows that the weights were fitted to say of others."""
        n_rows = np.count_nonzero(self.weight)
        return errors * (n_rows + n_members - 1) / max(n_rows - n_members + 1, 1)

    def no_error(self):
        return EXACT * np.average(self.y**2, weights=self.weight)


class LogLoss(NamedTuple):
    """The same by ``likelihood`` (models, rows): the probability of the row's class."""

    likelihood: np.ndarray
    weight: np.ndarray

    def best_weights(self, models):
        """Expectation maximisation: each round raises the likelihood of the mean."""
        likelihood = np.maximum(self.likelihood[models], LEAST_PROBABILITY)
        share = self.weight / np.sum(self.weight)
        weights = np.full(len(models), 1 / len(models))
        for _ in range(MOST_ROUNDS):
            weights = weights * (likelihood @ (share / (weights @ likelihood)))
        weights[weights < LEAST_WEIGHT] = 0
        return weights / np.sum(weights)

    def errors(self, weights):
        return -np.log(np.maximum(weights @ self.likelihood, LEAST_PROBABILITY))

    def of_other_rows(self, errors, n_members):
        """As Akaike has it."""
        return errors + (n_members - 1) / np.count_nonzero(self.weight)

    def no_error(self):
        return EXACT


def stacked(mixture, fold, best, linear, most):
    """Weights of several models, from predictions of rows that they have not seen.

    Parameters
    ----------
    mixture : SquaredErrors or LogLoss
    fold : array of shape (rows,)
        The one that held a row out.
    best, linear : int
        The model that is taken alone where no mean is better, and the one that keeps a
        part of the weight where neither is ahead of it by two standard errors over the
        folds: the more, the smaller the lead.
    most : int
        Models that may have a weight, two at least: the linear one is among them.

    Returns
    -------
    array of shape (models,)
        Not negative, of sum one.
    """
    n_models = len(mixture[0])
    alone, weights = np.eye(n_models), np.zeros(n_models)
    of_all = mixture.best_weights(np.arange(n_models))
    heaviest = np.argsort(-of_all, kind="stable")[: most - 1]
    heaviest = np.union1d(heaviest, linear)
    weights[heaviest] = mixture.best_weights(heaviest)

    def errors(weights):
        of_rows = mixture.weight * mixture.errors(weights)
        return np.bincount(fold, of_rows) / np.bincount(fold, mixture.weight)

    of_best = errors(alone[best])
    if of_best.mean() <= mixture.no_error():
        return alone[best]
    of_mean = mixture.of_other_rows(errors(weights), np.count_nonzero(weights))
    if of_mean.mean() >= of_best.mean():
        weights, of_mean = alone[best], of_best
    trust = _trust(_log(errors(alone[linear])) - _log(of_mean))
    return trust * weights + (1 - trust) * alone[linear]


def _log(errors):
    return np.log(np.maximum(errors, np.finfo(float).tiny))


def _trust(lead):
    """Zero where a lead on the folds is none, one where it is a clear one.

    That of logarithms of errors: folds differ in how hard they are.
    """
    error = STANDARD_ERRORS * lead.std() / np.sqrt(max(1, len(lead) - 1))
    return np.clip(lead.mean() / error, 0, 1) if error > 0 else float(lead.mean() > 0)
