"""The engine that compares candidates, with estimators of other packages only."""

import functools
import math
from contextlib import contextmanager

import numpy as np
import pytest
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.metrics import get_scorer, r2_score
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeeptd import _search
from skdeeptd._search import (
    Candidate,
    Evaluation,
    Fold,
    Result,
    Table,
    _calls,
    _survivors,
    candidate_names,
    clearly_ahead,
    compare,
    fit_candidate,
    run_on_fold,
    timed_stage,
)


def networks(n, **params):
    shapes = [{"kernel_sizes": (i, 2), **params} for i in range(n)]
    return [Candidate(None, s, early=({}, {}), rivals=repr(params)) for s in shapes]


def table(scores, stage):
    results = [[Result(score=s) for s in row] for row in scores]
    return Table(results, np.full(len(scores), stage))


def make_folds(n_rows=40, n_folds=3, weighted=False):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((n_rows + 10, 4))
    y, weight = X @ [1.0, 2, 0, 0], rng.uniform(1, 2, len(X)) if weighted else None
    pair = None, None
    if weighted:
        pair = weight[:n_rows], weight[n_rows:]
    of_train, of_test = pair
    fold = Fold(X[:n_rows], y[:n_rows], of_train, X[n_rows:], y[n_rows:], of_test)
    return [fold] * n_folds


@contextmanager
def silent_stage(name, n_parts=None):
    yield silent_stage


def run(candidates, folds, evaluate=None, report=lambda line: None, **options):
    names = candidate_names([candidate.params for candidate in candidates])
    return compare(
        candidates,
        folds,
        evaluate or Evaluation(None, None),
        lambda function, calls: (function(*call) for call in calls),
        functools.partial(timed_stage, silent_stage, report, names),
        **options,
    )


# Who goes on


def test_an_eighth_of_the_rivals_survives_the_first_stage():
    scores = np.linspace(0.9, 0.1, 40)[:, np.newaxis] + np.zeros((40, 3))
    alive = _survivors(table(scores, 1), networks(40), 1)
    assert alive.tolist() == [0, 1, 2, 3, 4]


def test_the_best_rivals_are_those_of_each_number_of_filters():
    candidates = [*networks(8, n_filters=1), *networks(8, n_filters=2)]
    scores = np.r_[np.linspace(0.5, 0.1, 8), np.linspace(0.9, 0.6, 8)][:, np.newaxis]
    alive = _survivors(table(scores, 1), candidates, 1)
    assert alive.tolist() == [0, 1, 2, 8, 9, 10]


def test_ahead_is_two_standard_errors_of_the_paired_difference():
    differences = np.array([0.0, 1.0, 2.0, 3.0])
    error = differences.std(ddof=1) / 2
    for ahead, clear in [(2.01, True), (1.99, False)]:
        shifted = differences - differences.mean() + ahead * error
        others = np.array([0.3, -0.2, 0.8, 0.1])
        assert clearly_ahead(others + shifted, others) == clear


def test_who_is_not_clearly_behind_stays():
    scores = np.array([[0.9, 0.8, 0.85], [0.89, 0.82, 0.84], [0.1, 0.2, 0.1]])
    assert _survivors(table(scores, 2), networks(3), 2).tolist() == [0, 1]


def test_who_is_clearly_behind_a_candidate_without_stages_leaves():
    scores = np.array([[0.9, 0.8, 0.85], [0.5, 0.4, 0.45], [0.4, 0.5, 0.4]])
    candidates = [Candidate(None, {}), *networks(2)]
    assert not len(_survivors(table(scores, 2), candidates, 2))


def test_a_candidate_without_a_score_is_left():
    scores = np.array([[0.9, np.nan], [0.5, 0.6]])
    assert _survivors(table(scores, 2), networks(2), 2).tolist() == [1]


# Plain estimators


def test_the_score_is_that_of_a_plain_fit():
    (fold,) = make_folds(n_folds=1, weighted=True)
    candidates = [Candidate(Ridge(a), {"model": str(a)}) for a in (0.1, 10.0)]
    scores = run(candidates, [fold]).column("score")[:, 0]
    for candidate, score in zip(candidates, scores, strict=True):
        plain = candidate.estimator.fit(*fold[:3])
        expected = plain.score(fold.X_test, fold.y_test, fold.weight_test)
        np.testing.assert_allclose(score, expected)


def test_weights_reach_every_step_of_a_pipeline_that_takes_them():
    (fold,) = make_folds(n_folds=1, weighted=True)
    pipeline = make_pipeline(StandardScaler(), "passthrough", Ridge())
    ours = fit_candidate(pipeline, *fold[:3])
    scaler = StandardScaler().fit(fold.X, sample_weight=fold.sample_weight)
    ridge = Ridge().fit(scaler.transform(fold.X), fold.y, fold.sample_weight)
    np.testing.assert_allclose(ours[-1].coef_, ridge.coef_)


def test_an_estimator_without_weights_fails_only_if_there_are_weights():
    candidate = Candidate(KNeighborsRegressor(), {"model": "neighbours"})
    (plain,), (weighted,) = make_folds(n_folds=1), make_folds(n_folds=1, weighted=True)
    evaluate = Evaluation(None, None)
    (result,) = run_on_fold([candidate], 0, plain, evaluate)
    assert np.isfinite(result.score)
    (result,) = run_on_fold([candidate], 0, weighted, evaluate)
    assert np.isnan(result.score)
    assert "KNeighborsRegressor.fit takes no sample_weight" in result.error


def test_a_scorer_gets_the_fitted_estimator_and_the_held_out_rows():
    seen = []

    def scorer(estimator, X, y):
        seen.append((estimator, X, y))
        return 0.25

    (fold,) = make_folds(n_folds=1)
    evaluate = Evaluation(None, scorer)
    (result,) = run_on_fold([Candidate(Ridge(), {})], 0, fold, evaluate)
    ((estimator, X, y),) = seen
    assert result.score == 0.25
    np.testing.assert_allclose(estimator.coef_, Ridge().fit(*fold[:2]).coef_)
    assert X is fold.X_test
    assert y is fold.y_test


def test_scorers_of_scikit_learn_are_weighted():
    (fold,) = make_folds(n_folds=1, weighted=True)
    scorer = get_scorer("neg_mean_absolute_error")
    evaluate = Evaluation(None, scorer)
    (result,) = run_on_fold([Candidate(Ridge(), {})], 0, fold, evaluate)
    plain = Ridge().fit(*fold[:3])
    expected = scorer(plain, fold.X_test, fold.y_test, sample_weight=fold.weight_test)
    np.testing.assert_allclose(result.score, expected)


def test_a_class_that_a_fold_has_not_seen_has_probability_zero():
    rng = np.random.default_rng(0)
    X, classes = rng.standard_normal((30, 3)), np.array(["a", "b", "c"])
    seen = LogisticRegression().fit(X, np.array(["a", "c"])[np.arange(30) % 2])
    predicted = Evaluation(classes, None).predict(seen, X)
    assert predicted.shape == (30, 3)
    assert not predicted[:, 1].any()
    np.testing.assert_array_equal(predicted[:, [0, 2]], seen.predict_proba(X))
    y = classes[np.arange(30) % 3]
    fold = Fold(X, y, None, X, y, None)
    score, _ = Evaluation(classes, None)(seen, fold)
    of_class = predicted[np.arange(30), np.arange(30) % 3]
    np.testing.assert_allclose(score, np.log(np.maximum(of_class, 1e-15)).mean())


class Constant(RegressorMixin, BaseEstimator):
    """Predicts its parameter; writes down how it was fitted."""

    log: list = []

    def __init__(self, value=0.0, fast=False):
        self.value = value
        self.fast = fast

    def fit(self, X, y):
        self.log.append(("fit", self.value, self.fast, len(X)))
        return self

    def _fit_reusing(self, X, y, sample_weight, previous):
        if previous is None:
            return self.fit(X, y)
        self.log.append(("reuse", self.value, self.fast, previous.value))
        if self.value == "fails":
            raise ValueError("no fit")
        return self

    def predict(self, X):
        return np.full(len(X), self.value if self.value != "fails" else np.nan)


@pytest.fixture
def log(monkeypatch):
    monkeypatch.setattr(Constant, "log", [])
    return Constant.log


def test_predictions_that_are_not_finite_fail(log):
    (fold,) = make_folds(n_folds=1)
    (result,) = run_on_fold(
        [Candidate(Constant(np.nan), {})], 0, fold, Evaluation(None, None)
    )
    assert "NaN or infinity" in result.error


# Sharing


def test_a_path_goes_on_after_a_candidate_that_fails(log):
    (fold,) = make_folds(n_folds=1)
    values = 1.0, "fails", 2.0
    path = [Candidate(Constant(v), {}, early=({}, {})) for v in values]
    first, fails, last = run_on_fold(path, 2, fold, Evaluation(None, None))
    assert [entry[-1] for entry in log] == [40, 1.0, 1.0]
    assert np.isfinite([first.score, last.score]).all()
    assert "no fit" in fails.error


def test_stages_are_parameters_and_the_last_is_a_plain_fit(log):
    """In the first two, an estimator fitted to the same rows is handed on."""
    fast = ({"fast": True}, {"fast": True})
    candidates = [Candidate(Constant(v), {}, early=fast) for v in (1.0, 2.0)]
    evaluate = Evaluation(None, lambda *_: 0.5)
    result = run(candidates, make_folds(n_folds=2), evaluate)
    assert result.stages.tolist() == [3, 3]
    assert log[:2] == [("fit", 1.0, True, 40)] * 2
    of_stages = [("reuse", v, True, 1.0) for v in (1.0, 1.0, 2.0, 2.0)]
    assert log[2:10] == of_stages * 2
    assert log[10:] == [("fit", v, False, 40) for v in (1.0, 1.0, 2.0, 2.0)]


def test_candidates_are_in_the_order_of_their_path():
    places = [("a", 2), ("b", 0), ("a", 0), None, ("a", 1)]
    candidates = [Candidate(None, {}, path=path) for path in places]
    paths = [
        list(_calls(candidates, None, range(5), stage, make_folds()))
        for stage in range(4)
    ]
    assert paths[0] == paths[2] == [(2, 4, 0), (1,), (3,)]
    assert paths[1] == paths[3] == [(i,) for i in range(5)]


# Time


class Clock:
    """A clock that goes on only while a candidate is fitted."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(_search, "clock", clock)
    monkeypatch.setattr(Slow, "clock", clock)
    return clock


class Slow(RegressorMixin, BaseEstimator):
    """Takes so many seconds for forty rows."""

    clock = None

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def fit(self, X, y):
        self.clock.now += self.seconds * len(X) / 40
        return self

    def predict(self, X):
        return np.zeros(len(X))


def slow(seconds, *early):
    return Candidate(Slow(seconds), {}, early=tuple({"seconds": s} for s in early))


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("end", [0.0, 10.0, 1e3])
def test_candidates_end_in_time(clock, seed, end):
    """But for the first fold of a stage, whose time can only be guessed."""
    rng = np.random.default_rng(seed)
    linear = slow(0.1)
    without_stages = [slow(s) for s in rng.uniform(0.1, 4, 3)]
    with_stages = [slow(3 * s, 0.1, s) for s in rng.uniform(0.1, 4, 4)]
    result = run([linear, *without_stages, *with_stages], make_folds(), end=end)
    assert clock.now <= end + (4 if end else 1)
    assert result.stages[0] == 3
    if end == 0:
        assert not np.any(result.stages[1:])
    if math.isclose(end, 1e3):
        assert np.all(result.stages > 0)
        assert np.any(result.stages[4:] == 3)
    has_run = np.isfinite(result.column("score"))
    assert np.array_equal(has_run.all(axis=1), result.stages > 0)
    assert np.array_equal(has_run.any(axis=1), result.stages > 0)


@pytest.mark.parametrize(
    ("left", "stages", "spent"),
    [
        (2.9, [1, 1], 0),  # expected are 4 x .25 s for each of three folds
        (3.1, [1, 1], 3),  # the first fold takes 3 s, so that 9 s are needed
        (9.1, [2, 1], 9),
        (17.9, [2, 1], 9),  # the second candidate is expected to take as long
        (18.1, [2, 2], 18),
    ],
)
def test_a_stage_is_expected_to_take_as_many_times_the_one_before(
    clock, left, stages, spent
):
    """Four times at first, then as many as the slowest path took: here twelve."""
    first_stage = 3 * 0.25 * 3  # two candidates, and the fits that are handed on
    candidates = [slow(0.0, 0.25, 3.0)] * 2
    result = run(candidates, make_folds(), end=first_stage + left)
    assert result.stages.tolist() == stages
    assert clock.now == first_stage + spent


@pytest.mark.parametrize(
    ("end", "spent", "n_compared"),
    [
        (17.9, 1.0, 1),  # a quarter of the rows takes 1 s; expected are 4^1.25 s a fold
        (18.1, 13.0, 2),
    ],
)
def test_a_fit_is_timed_by_a_quarter_of_the_rows(clock, end, spent, n_compared):
    result = run([slow(0.0), slow(4.0)], make_folds(), end=end)
    assert np.count_nonzero(result.stages) == n_compared
    assert clock.now == spent


@pytest.mark.parametrize(
    ("end", "spent", "n_compared"),
    [
        (25.9, 10.0, 1),  # 9 s for the first one, and a quarter of the rows of another
        (27.1, 22.0, 2),  # 9 s, 1 s, and 3 x 4^1.25 s expected, of which 12 s are spent
    ],
)
def test_other_folds_of_the_first_candidate_have_their_time(
    clock, end, spent, n_compared
):
    result = run([slow(3.0), slow(4.0)], make_folds(), end=end)
    assert np.count_nonzero(result.stages) == n_compared
    assert clock.now == spent


# Progress


def lines_of(candidates, **options):
    """Lines without the number of the step."""
    lines = []
    run(candidates, make_folds(), report=lines.append, **options)
    return [line.partition(", ")[2] for line in lines]


def test_a_line_has_the_time_spent_and_the_time_expected(clock):
    """The first fold tells how long the others take."""
    lines = lines_of([slow(1.0), slow(3.0)])
    assert [line.partition(": default")[0] for line in lines] == [
        "first fold: 1 of 2 candidates in 1.0 s of about 2.0 s",
        "first fold: 2 of 2 candidates in 4.0 s of about 4.0 s",
        "other folds: 1 of 2 candidates in 2.0 s of about 8.0 s",
        "other folds: 2 of 2 candidates in 8.0 s of about 8.0 s",
    ]


def test_a_stage_of_networks_is_expected_to_take_as_long_as_the_one_before(clock):
    lines = lines_of([slow(1.0, 1.0, 1.0), slow(3.0, 3.0, 3.0)])
    times = [line.partition(" candidates in ")[2].partition(":")[0] for line in lines]
    assert times[2:4] == ["3.0 s of about 12.0 s", "12.0 s of about 12.0 s"]
    assert [line[:18] for line in lines[::2]] == [
        f"networks, stage {n}:" for n in (1, 2, 3)
    ]


def test_no_more_time_is_expected_than_there_is(clock):
    line, *_ = lines_of([slow(1.0), slow(3.0)], end=1.5)
    assert "in 1.0 s of about 1.5 s" in line


def test_a_line_comes_as_soon_as_its_candidate_is_done(log):
    fits = []
    candidates = [Candidate(Constant(v), {"model": str(v)}) for v in (1.0, 2.0)]
    run(candidates, make_folds(), report=lambda line: fits.append(len(log)))
    assert fits == [1, 2, 4, 6]


def test_a_line_has_the_error_of_a_fit(log):
    (line,) = lines_of([Candidate(Constant(np.nan), {"model": "broken"})])[:1]
    assert line.endswith("broken, ValueError: the predictions hold NaN or infinity")


def test_names_leave_out_what_all_networks_share():
    alike = {"n_filters": 2, "kernel_sizes": (4, 3)}
    networks = [{**alike, "alpha": alpha} for alpha in (0.5, 2)]
    assert candidate_names([{"model": "ridge"}, *networks, {"alpha": 2.0}, {}]) == [
        "ridge",
        "network, kernel sizes (4, 3), alpha=0.5",
        "network, kernel sizes (4, 3), alpha=2",
        "alpha=2.0",
        "default parameters",
    ]


def test_the_first_candidate_is_compared_if_all_have_stages(clock):
    candidates = [slow(1.0, 1.0, 1.0), slow(1.0, 1.0, 1.0)]
    result = run(candidates, make_folds(), end=0.0)
    assert result.stages.tolist() == [1, 0]
    assert np.isfinite(result.column("score")[0]).all()


def test_a_limit_that_is_not_reached_changes_nothing():
    candidates = [
        Candidate(Pipeline([("scale", StandardScaler()), ("ridge", Ridge(a))]), {})
        for a in (1.0, 0.1)
    ]
    candidates = [c._replace(path=("ridge", i)) for i, c in enumerate(candidates)]
    free, limited = (
        run(candidates, make_folds(), end=end).column("score")
        for end in (math.inf, _search.clock() + 1e6)
    )
    np.testing.assert_array_equal(free, limited)


def test_the_default_score_of_several_outputs_is_the_mean_r2():
    rng = np.random.default_rng(0)
    X, Y = rng.standard_normal((30, 3)), rng.standard_normal((30, 2))
    ridge = Ridge().fit(X, Y)
    score, predicted = Evaluation(None, None)(ridge, Fold(X, Y, None, X, Y, None))
    assert predicted.shape == (30, 2)
    np.testing.assert_allclose(score, r2_score(Y, ridge.predict(X)))


# Candidates that are far behind on the first fold


class Shifted(RegressorMixin, BaseEstimator):
    """Predicts y of the test rows up to a shift, as far as y is linear in X."""

    def __init__(self, shift=0.0):
        self.shift = shift

    def fit(self, X, y):
        self.model_ = Ridge(1e-6).fit(X, y)
        return self

    def predict(self, X):
        return self.model_.predict(X) + self.shift


def shifted(*shifts):
    return [Candidate(Shifted(shift), {"shift": shift}) for shift in shifts]


def wide_folds(n_test, n_folds=3):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40 + n_test, 4))
    y = X @ [1.0, 2, 0, 0]
    fold = Fold(X[:40], y[:40], None, X[40:], y[40:], None)
    return [fold] * n_folds


def test_a_candidate_with_many_times_the_loss_stops_after_the_first_fold():
    found = run(shifted(1.0, 0.1, 0.12, 1.0), wide_folds(30))
    has_run = np.isfinite(found.column("score"))
    assert found.stages.tolist() == [3, 3, 3, 1]
    assert has_run.all(axis=1).tolist() == [True, True, True, False]
    assert has_run[3].tolist() == [True, False, False]
    assert found.mean("score")[3] == found.column("score")[3, 0]


def test_few_held_out_rows_stop_no_candidate():
    found = run(shifted(1.0, 0.1, 1.0), wide_folds(20))
    assert found.stages.tolist() == [3, 3, 3]


def test_a_scorer_stops_no_candidate():
    evaluate = Evaluation(None, get_scorer("neg_mean_absolute_error"))
    found = run(shifted(1.0, 0.1, 1.0), wide_folds(30), evaluate)
    assert found.stages.tolist() == [3, 3, 3]


def test_the_pooled_r2_of_single_rows_is_that_of_all_rows():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((12, 4)), rng.standard_normal(12)
    folds = [
        Fold(np.delete(X, i, 0), np.delete(y, i), None, X[[i]], y[[i]], None)
        for i in range(12)
    ]
    evaluate = Evaluation(None, None, is_pooled=True)
    found = run([Candidate(Ridge(), {})], folds, evaluate)
    predicted = np.concatenate([r.predicted[:, 0] for r in found.results[0]])
    np.testing.assert_allclose(found.mean("score"), r2_score(y, predicted))


def test_the_pooled_r2_of_a_class_that_a_fold_lacks_is_finite():
    y = np.eye(3)[[0, 0, 1, 1, 2]]
    X = np.arange(10.0).reshape(5, 2)
    fold = Fold(X[:4], y[:4], None, X[4:], y[4:], None)
    evaluate = Evaluation(None, None, is_pooled=True)
    score = run([Candidate(Ridge(), {})], [fold], evaluate).column("score")
    assert np.all(np.abs(score) < 1e3)
