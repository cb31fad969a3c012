"""Compare scikit-learn estimators on folds, in stages and within a time limit.

A candidate is any estimator that ``clone`` can copy: it is fitted with ``fit(X, y)``,
with ``sample_weight`` if there are weights, and it predicts. Candidates with early
stages (networks) are compared like in successive halving:

1. They are fitted with the parameters of the first stage. Rivals differ in their kernel
   sizes only; the best eighth of them goes on, but at least three and at most ten.
2. They are fitted with the parameters of the second stage. Candidates that are behind
   the best one (also one without stages) by more than two standard errors of the paired
   difference over the folds are dropped.
3. They are fitted with their own parameters.

All other candidates are fitted once per fold, before the stages. Candidates that are
far behind on the first fold are not fitted on the others.

An estimator may offer a method ``_fit_reusing(X, y, sample_weight, previous)``, which
fits like ``fit`` but may reuse results of ``previous``, another estimator of its class
that was fitted to the same rows. Candidates of one path, all of one class, are fitted
one after the other, and each gets the one before as ``previous``. In the stages before
the last, the first of a path gets a network that was fitted to the same rows.
"""

import functools
import itertools
import math
from collections.abc import Callable, Hashable
from contextlib import contextmanager
from inspect import signature
from time import perf_counter as clock
from typing import NamedTuple

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.metrics import r2_score
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import has_fit_parameter

from skdeeptd._data.rows import distinct_rows
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._stacking import LEAST_PROBABILITY

LAST_STAGE = 3
STEPS = (
    "first fold",
    "other folds",
    *(f"networks, stage {number}" for number in range(1, LAST_STAGE + 1)),
    "fit of all samples",
)


class Candidate(NamedTuple):
    """Hold an estimator to compare.

    ``params`` identify it among the candidates. ``early`` holds the parameters of the
    first two stages, or nothing. ``rivals`` is the same for candidates that differ in
    their kernel sizes only; ``path`` is a name and a place in the path, or None.
    """

    estimator: BaseEstimator
    params: dict
    early: tuple = ()
    rivals: Hashable = None
    path: tuple | None = None


def candidate_names(params):
    """Describe candidates in words, without what all networks have in common."""
    networks = [p for p in params if "kernel_sizes" in p]
    shared = {
        name
        for name in set().union(*networks) - {"kernel_sizes"}
        if len({repr(p.get(name)) for p in networks}) == 1
    }
    names = []
    for own in params:
        left_out = {"model", "kernel_sizes", *(shared if "kernel_sizes" in own else ())}
        words = [own["model"]] if "model" in own else []
        if "kernel_sizes" in own:
            words.append(f"network, kernel sizes {own['kernel_sizes']}")
        words += [f"{name}={v}" for name, v in own.items() if name not in left_out]
        names.append(", ".join(words) or "default parameters")
    return names


class Fold(NamedTuple):
    """Training rows and held-out rows; weights are None if none were given."""

    X: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray | None
    X_test: np.ndarray
    y_test: np.ndarray
    weight_test: np.ndarray | None


class Result(NamedTuple):
    """Score of a candidate on a fold, or an error."""

    score: float = np.nan
    fit_time: float = np.nan
    score_time: float = np.nan
    predicted: np.ndarray | None = None  # (rows, outputs or classes)
    error: str = ""


NOT_RUN = Result()  # of a fold after the first, if a candidate is bad there


class Table(NamedTuple):
    """``results[c][f]``: the result of a candidate on a fold, of its last stage.

    ``stages`` holds the last stage of each candidate, 0 if it was not compared.
    """

    results: list
    stages: np.ndarray

    def column(self, name):
        """Return one field of all results: (candidates, folds)."""
        return np.array([[getattr(r, name) for r in row] for row in self.results])

    def mean(self, name):
        """Return the mean over the folds, or the first fold if others were not run."""
        column = self.column(name)
        stopped = [row[-1] is NOT_RUN for row in self.results]
        return np.where(stopped, column[:, 0], column.mean(axis=1))


class Evaluation(NamedTuple):
    """Predict the held-out rows of a fold, and score a fitted estimator there.

    ``classes`` are those of all rows, or None for a regression; ``scorer`` None takes
    R2, or the mean log-likelihood of classes. If ``is_pooled`` then R2 is relative to
    the variance of y in the training and held-out rows together, so that a fold may
    have one row, or lack a class.
    """

    classes: np.ndarray | None
    scorer: Callable | None
    is_pooled: bool = False

    def __call__(self, estimator, fold):
        predicted = self.predict(estimator, fold.X_test)
        if not np.all(np.isfinite(predicted)):
            raise ValueError("the predictions hold NaN or infinity")
        y, weight = fold.y_test, fold.weight_test
        if self.scorer is not None:
            takes_weight = "sample_weight" in signature(self.scorer).parameters
            use_weight = takes_weight and weight is not None
            extra = {"sample_weight": weight} if use_weight else {}
            score = self.scorer(estimator, fold.X_test, y, **extra)
        elif self.classes is not None:
            score = -np.average(self.row_losses(predicted, fold), weights=weight)
        elif self.is_pooled:
            score = _pooled_r2(fold, predicted)
        else:
            score = r2_score(y, predicted.reshape(y.shape), sample_weight=weight)
        return float(score), predicted

    def row_losses(self, predicted, fold, rows=slice(None)):
        """Return the losses of some held-out rows, an index.

        The losses are squared errors over the variance of y, summed over the outputs,
        or minus the logarithms of the probabilities of the classes.
        """
        y, predicted = fold.y_test[rows], predicted[rows]
        if self.classes is None:
            known, weight = fold.y.reshape(len(fold.y), -1), fold.sample_weight
            mean = np.average(known, axis=0, weights=weight)
            variance = np.average((known - mean) ** 2, axis=0, weights=weight)
            squares = (y.reshape(predicted.shape) - predicted) ** 2
            return np.sum(squares / np.where(variance > 0, variance, 1), axis=1)
        of_class = predicted[np.arange(len(y)), np.searchsorted(self.classes, y)]
        return -np.log(np.maximum(of_class, LEAST_PROBABILITY))

    def predict(self, estimator, X):
        """Return predictions (rows, outputs), or probabilities (rows, classes).

        A class that the estimator has not seen has probability zero.
        """
        if self.classes is None:
            return np.asarray(estimator.predict(X), dtype=float).reshape(len(X), -1)
        known = np.searchsorted(self.classes, estimator.classes_)
        probabilities = np.zeros((len(X), len(self.classes)))
        probabilities[:, known] = estimator.predict_proba(X)
        return probabilities


def _pooled_r2(fold, predicted):
    """Return the mean R2 of the outputs, relative to the variance in all rows."""
    y, weight = fold.y_test.reshape(predicted.shape), fold.weight_test
    all_y = np.concatenate([fold.y.reshape(len(fold.y), -1), y])
    all_weight = None if weight is None else np.append(fold.sample_weight, weight)
    deviation = all_y - np.average(all_y, axis=0, weights=all_weight)
    variance = np.average(deviation**2, axis=0, weights=all_weight)
    rounding = np.finfo(float).eps * np.abs(all_y).max(axis=0)
    error = np.average((y - predicted) ** 2, axis=0, weights=weight)
    varies = variance > (8 * rounding) ** 2
    ratio = error / np.where(varies, variance, 1)
    return np.mean(1 - np.where(varies, ratio, error > (8 * rounding) ** 2))


def fit_candidate(estimator, X, y, sample_weight):
    """Fit an estimator, and return it; weights reach each step of a Pipeline.

    Raises
    ------
    TypeError
        If there are weights, but the estimator, or each step of a Pipeline, takes none.
    """
    weights = {}
    if sample_weight is not None:
        steps = estimator.steps if isinstance(estimator, Pipeline) else []
        steps = [(f"{name}__", step) for name, step in steps if hasattr(step, "fit")]
        weights = {
            f"{prefix}sample_weight": sample_weight
            for prefix, step in steps or [("", estimator)]
            if has_fit_parameter(step, "sample_weight")
        }
        if not weights:
            raise TypeError(
                f"{type(estimator).__name__}.fit takes no sample_weight, but weights "
                f"were given; leave the estimator out, or the weights"
            )
    with config_context(enable_metadata_routing=False):
        return estimator.fit(X, y, **weights)


@contextmanager
def timed_stage(callbacks, report, names, name, times, end=math.inf):
    """Report the candidates of a stage, the time spent in the stage and that expected.

    Parameters
    ----------
    callbacks : callable
        Takes a name and a number of parts; returns a context for callbacks, which gives
        a function like itself for the parts.
    report : callable
        Takes a line of text.
    names : list of str
        Names of all candidates.
    name : str
        One of ``STEPS``.
    times : dict
        Relative expected time of each candidate of the stage; NaN if unknown.
    end : float
        Time limit on ``clock``.

    Yields
    ------
    callable
        Takes a dict of candidates that are done, with the rest of the line of each.
    """
    begin, n_done, share = clock(), 0, 0.0
    step = f"step {STEPS.index(name) + 1} of {len(STEPS)}, {name}"
    times = {i: np.fmax(time, 1e-3) for i, time in times.items()}
    with callbacks(name, len(times)) as part:

        def done(lines):
            nonlocal n_done, share
            share += sum(times[i] for i in lines)
            spent = clock() - begin
            expected = spent * sum(times.values()) / share
            expected = max(spent, min(expected, end - begin))
            seconds = f"{spent:.1f} s of about {expected:.1f} s"
            for i, text in lines.items():
                n_done += 1
                count = f"{n_done} of {len(times)} candidates in {seconds}"
                with part(names[i]):
                    report(f"{step}: {count}: {names[i]}, {text}")

        yield done


def _in_words(results):
    """Return the mean score on the folds, or the first error."""
    errors = [result.error for result in results if result.error]
    mean = np.mean([result.score for result in results])
    return errors[0] if errors else f"score {mean:.4g}"


def compare(candidates, folds, evaluate, run_all, stage, end=math.inf, n_at_a_time=1):
    """Fit the candidates on all folds, stage by stage.

    Parameters
    ----------
    candidates : list of Candidate
    folds : list of Fold
    evaluate : callable
        Returns the score of a fitted estimator on a fold, and its predictions.
    run_all : callable
        Takes a function and an iterable of arguments of each call, and returns an
        iterator of the results.
    stage : callable
        Takes a name, times and an end, as ``timed_stage``.
    end : float
        Time limit on ``clock``. The first candidate is fitted in any case; no other is
        begun, or goes on to the second fold, if it is expected to end later.
    n_at_a_time : int
        Calls that ``run_all`` runs at a time.

    Returns
    -------
    Table
    """
    rows = [[Result()] * len(folds) for _ in candidates]
    table = Table(rows, np.zeros(len(candidates), int))
    calls_of = functools.partial(_calls, candidates, evaluate)
    n_rounds = math.ceil((len(folds) - 1) / n_at_a_time)  # after the first fold
    plain = [i for i, candidate in enumerate(candidates) if not candidate.early]
    first = {}
    with stage("first fold", dict.fromkeys(plain, 1.0), end) as done:
        calls = calls_of(plain, 0, folds[:1])
        for path, (results,) in _run_first_fold(calls, run_all, end, n_rounds):
            first.update(zip(path, results, strict=True))
            done({i: _in_words([first[i]]) for i in path})
    stopped = _far_behind(first, evaluate, folds[0])
    for i in stopped:
        table.results[i] = [first[i]] + [NOT_RUN] * (len(folds) - 1)
        table.stages[i] = 1
    kept = {i: result.fit_time for i, result in first.items() if i not in stopped}
    with stage("other folds", kept, end) as done:
        calls = calls_of(list(kept), 0, folds[1:])
        for path, others in _run_other_folds(calls, run_all, end, n_rounds, first):
            by_fold = [[first[i] for i in path], *others]
            _store(table, done, path, by_fold, LAST_STAGE)

    previous = [None] * len(folds)
    alive = [i for i, candidate in enumerate(candidates) if candidate.early]
    if alive and clock() < end:
        calls = [(candidates[alive[0]], fold) for fold in folds]
        previous = list(run_all(_fit_first_stage, calls))
    times = dict.fromkeys(alive, 1.0)
    for number in range(1, LAST_STAGE + 1):
        if number > 1:
            alive = _survivors(table, candidates, number - 1)
            times = dict(zip(alive, table.mean("fit_time")[alive], strict=True))
        calls = calls_of(alive, number, folds, previous if number < LAST_STAGE else ())
        with stage(f"networks, stage {number}", times, end) as done:
            finished = _run_in_time(calls, run_all, end, n_rounds, number, table)
            for path, by_fold in finished:
                _store(table, done, path, by_fold, number)
    return table


def _store(table, done, path, by_fold, number):
    """Store and report the results of the candidates of a path."""
    for i, *results in zip(path, *by_fold, strict=True):
        table.results[i], table.stages[i] = results, number
    done({i: _in_words(table.results[i]) for i in path})


def _calls(candidates, evaluate, alive, number, folds, previous=()):
    """Return the arguments of ``run_on_fold`` for each path and fold.

    A path is a tuple of candidates to fit one after the other, in their places. Fits in
    full and those of the first stage are independent of each other.
    """
    paths, independent = {}, number in (1, LAST_STAGE)
    for i in alive:
        name, place = (i, 0) if independent else candidates[i].path or (i, 0)
        paths.setdefault(name, []).append((place, int(i)))
    found = [tuple(i for _, i in sorted(path)) for path in paths.values()]
    return {
        path: [
            ([candidates[i] for i in path], number, fold, evaluate, other)
            for fold, other in itertools.zip_longest(folds, previous)
        ]
        for path in found
    }


def _run_all_paths(calls, run_all):
    """Yield each path and the results of its candidates, fold by fold."""
    results = iter(run_all(run_on_fold, list(itertools.chain(*calls.values()))))
    for path, path_calls in calls.items():
        yield path, list(itertools.islice(results, len(path_calls)))
    next(results, None)  # joblib ends its workers unless the iterator is exhausted


def _far_behind(first, evaluate, fold):
    """Return which candidates stop after their results on the first fold.

    The first candidate goes on in any case, and all do if a scorer was given.
    """
    if evaluate.scorer is not None:
        return set()
    distinct, place = distinct_rows(fold.X_test, fold.y_test)
    weight = np.bincount(place, fold.weight_test)  # a weight of two counts as two rows
    losses = {
        i: evaluate.row_losses(result.predicted, fold, distinct)
        for i, result in first.items()
        if not result.error
    }
    best = min(losses.values(), key=lambda own: weight @ own, default=None)
    return {
        i for i, own in losses.items() if i != 0 and is_far_behind(own, best, weight)
    }


def is_far_behind(
    losses, best, weight, times=2.5, n_standard_errors=3.0, least_rows=25
):
    """Return whether losses of rows are far above those of the best candidate.

    They are if the mean is ``times`` as large, so that the weight in an average would
    be small, and if the paired difference is more than ``n_standard_errors``. Fewer
    than ``least_rows`` rows are not enough for this decision.
    """
    gap, share = losses - best, weight / np.sum(weight)
    n_rows, mean = 1 / np.sum(share**2), share @ gap
    error = np.sqrt(share @ (gap - mean) ** 2 / n_rows)
    return bool(
        n_rows >= least_rows
        and share @ losses > times * (share @ best)
        and mean > n_standard_errors * error
    )


def _run_first_fold(calls, run_all, end, n_rounds):
    """Yield each path and its results on the first fold.

    With a time limit a path is run only if all its folds, and the other folds of the
    paths before, are expected to end in time. The first path is run in any case.
    """
    if math.isinf(end):
        yield from _run_all_paths(calls, run_all)
        return
    is_needed, slower = True, 1.0
    for path, (call,) in calls.items():
        if not is_needed:
            if clock() >= end:
                return
            expected = _seconds_of_all_rows(*call)
            if clock() + (1 + n_rounds) * slower * expected > end:
                continue
        begin = clock()
        results = run_on_fold(*call)
        seconds = clock() - begin
        if not is_needed:
            slower = max(slower, seconds / expected)
        is_needed = False
        end -= n_rounds * seconds
        yield path, [results]


def _run_other_folds(calls, run_all, end, n_rounds, first):
    """Yield the results of the paths that are expected to end in time."""
    if math.isinf(end):
        yield from _run_all_paths(calls, run_all)
        return
    for path, path_calls in calls.items():
        fits = [first[i] for i in path if not first[i].error]
        seconds = sum(r.fit_time + r.score_time for r in fits)
        if 0 in path or clock() + n_rounds * seconds <= end:
            yield path, list(run_all(run_on_fold, path_calls))


def _run_in_time(calls, run_all, end, n_rounds, number, table, times_slower=4.0):
    """Yield the results of the paths that are expected to end in time.

    A stage is expected to take ``times_slower`` as long as the one before, whose times
    are in the table, or as many times as the slowest path of the stage so far. The
    first path of all is run in any case.
    """
    if math.isinf(end):
        yield from _run_all_paths(calls, run_all)
        return
    known, ratios = table.column("fit_time")[:, 0], []
    is_needed = not np.any(table.stages)
    for path, (first, *others) in calls.items():
        unit, default = 1.0, 0.0
        if number > 1:
            unit, default = np.sum(known[list(path)]), times_slower
        if not is_needed:
            expected = unit * max(ratios, default=default)
            if clock() >= end:
                return
            if clock() + (1 + n_rounds) * expected > end:
                continue
        begin = clock()
        result = run_on_fold(*first)
        seconds = clock() - begin
        if is_needed or clock() + n_rounds * seconds <= end:
            yield path, [result, *run_all(run_on_fold, others)]
        is_needed = False
        ratios.append(seconds / unit)


def _seconds_of_all_rows(path, number, fold, *args, stride=4, exponent=1.25):
    """Return the expected seconds of a path on a fold, by a fit to some of the rows.

    With the default exponent the paths of DeepTDAutoRegressor take 0.6 to 1.3 times as
    long on 667 rows of 400 features, and 0.4 to 0.6 times on 240 rows of 100 features.
    """
    begin = clock()
    weight = None if fold.sample_weight is None else fold.sample_weight[::stride]
    few = fold._replace(X=fold.X[::stride], y=fold.y[::stride], sample_weight=weight)
    run_on_fold(path, number, few, *args)
    return (clock() - begin) * stride**exponent


def run_on_fold(path, number, fold, evaluate, previous=None):
    """Return a ``Result`` for each candidate of a path."""
    results = []
    with single_threaded_blas(), reusing():
        for candidate in path:
            begin = clock()
            try:
                fitted = _at_stage(candidate, number)
                if reuse := getattr(fitted, "_fit_reusing", None):
                    with config_context(enable_metadata_routing=False):
                        reuse(*fold[:3], previous)
                else:
                    fit_candidate(fitted, *fold[:3])
                seconds = clock() - begin
                score, predicted = evaluate(fitted, fold)
            except Exception as error:  # of any kind, as in a grid search
                results.append(Result(error=f"{type(error).__name__}: {error}"))
                continue
            previous, score_time = fitted, clock() - begin - seconds
            results.append(Result(score, seconds, score_time, predicted))
    return results


def _at_stage(candidate, number):
    """Return the estimator of a candidate with the parameters of a stage."""
    early = candidate.early[number - 1] if 0 < number < LAST_STAGE else {}
    return clone(candidate.estimator).set_params(**early)


def _fit_first_stage(candidate, fold):
    """Return a candidate of the first stage, fitted to a fold, or None if it fails."""
    with single_threaded_blas(), reusing():
        try:
            return fit_candidate(_at_stage(candidate, 1), *fold[:3])
        except Exception:
            return None


def _survivors(table, candidates, number, share=1 / 8, least=3, most=10):
    """Return which of the candidates with stages go on, as an index.

    After the first stage they are a ``share`` of the rivals, the best ones.
    """
    has_stages = np.array([bool(candidate.early) for candidate in candidates])
    scores = table.column("score")
    mean = np.nan_to_num(scores.mean(axis=1), nan=-np.inf)
    reached = has_stages & (table.stages == number) & np.isfinite(mean)
    reached = np.flatnonzero(reached)
    if not len(reached):
        return reached
    if number == 1:
        groups = {}
        for i in reached[np.argsort(-mean[reached], kind="stable")]:
            groups.setdefault(candidates[i].rivals, []).append(i)
        kept = [
            group[: min(max(least, math.ceil(share * len(group))), most)]
            for group in groups.values()
        ]
        return np.sort(np.concatenate(kept))
    is_rival = np.isin(np.arange(len(mean)), reached) | ~has_stages
    rivals = np.flatnonzero(is_rival & np.isfinite(mean))
    behind = clearly_ahead(scores[rivals[np.argmax(mean[rivals])]], scores[reached])
    return reached[~behind]


def clearly_ahead(scores, others, n_standard_errors=2.0):
    """Return whether scores are above each row of others, paired by fold."""
    lead = scores - others
    error = lead.std(axis=-1) / np.sqrt(max(1, lead.shape[-1] - 1))
    return lead.mean(axis=-1) > n_standard_errors * error
