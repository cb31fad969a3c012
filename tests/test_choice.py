import numpy as np
import pytest

from skdeeptd._data.rows import RowBlocks
from skdeeptd._solver import choice
from skdeeptd._solver.choice import (
    NOT_RUN,
    Candidate,
    SquaredErrors,
    Table,
    _clearly_ahead,
    _survivors,
    best_of,
    stacked,
)


def networks(n, **params):
    shapes = [{"kernel_sizes": (i, 2), **params} for i in range(n)]
    return [Candidate(shape, "network", run=None) for shape in shapes]


def table(scores, stage):
    results = [[NOT_RUN._replace(score=s) for s in row] for row in scores]
    return Table(results, np.full(len(scores), stage))


def test_an_eighth_of_the_shapes_survives_the_first_stage():
    scores = np.linspace(0.9, 0.1, 40)[:, np.newaxis] + np.zeros((40, 3))
    alive = _survivors(table(scores, 1), networks(40), 1)
    assert alive.tolist() == [0, 1, 2, 3, 4]


def test_the_best_shapes_are_those_of_each_number_of_filters():
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
        assert _clearly_ahead(others + shifted, others) == clear


def test_who_is_not_clearly_behind_stays():
    scores = np.array([[0.9, 0.8, 0.85], [0.89, 0.82, 0.84], [0.1, 0.2, 0.1]])
    assert _survivors(table(scores, 2), networks(3), 2).tolist() == [0, 1]


def test_who_is_clearly_behind_a_model_in_closed_form_leaves():
    scores = np.array([[0.9, 0.8, 0.85], [0.5, 0.4, 0.45], [0.4, 0.5, 0.4]])
    candidates = [Candidate({}, "closed", run=None), *networks(2)]
    assert not len(_survivors(table(scores, 2), candidates, 2))


def test_a_candidate_without_a_score_is_left():
    scores = np.array([[0.9, np.nan], [0.5, 0.6]])
    assert _survivors(table(scores, 2), networks(2), 2).tolist() == [1]


@pytest.mark.parametrize(
    ("linear", "network", "chosen"),
    [
        ([0.45, 0.55, 0.5], [0.5, 0.7, 0.6], 1),
        ([0.45, 0.55, 0.5], [0.4, 0.8, 0.5], 0),
        ([0.45, 0.55, 0.5, 0.5], [0.44, 0.95, 0.9, 0.9], 1),
        ([-9.0, -406.0, 0.5], [0.95, 0.96, 0.9], 1),
    ],
)
def test_a_network_must_be_clearly_ahead_of_the_linear_model(linear, network, chosen):
    test = np.array([linear, network])
    assert best_of(test.mean(axis=1), test, np.array([True, False])) == chosen


# Time


class _Clock:
    """It goes on only where a candidate runs."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("end", [0.0, 10.0, 1e3])
def test_candidates_end_in_time(monkeypatch, seed, end):
    """But for the trial of one on a quarter of its rows, a second at most."""
    clock, rng = _Clock(), np.random.default_rng(seed)
    monkeypatch.setattr(choice, "clock", clock)

    def of_seconds(kind, *by_stage):
        def run(fold, stage, before):
            clock.now += by_stage[stage] * len(fold.train.X) / 40
            return np.zeros(10), None

        return Candidate({"kernel_sizes": ()}, kind, run)

    seconds = [rng.uniform(0.1, 4, 3) for _ in range(4)]
    ridge = of_seconds("linear", 0.1)
    closed = [of_seconds("closed", s) for s in rng.uniform(0.1, 4, 3)]
    networks = [of_seconds("network", 0, 0.1, s, 3 * s) for s, *_ in seconds]
    rows = [RowBlocks(np.zeros((n, 2)), np.zeros((n, 1)), np.ones(n)) for n in (40, 10)]
    folds = [choice.Fold(rows[0], None, rows[1], {})] * 3
    table = choice.compare(
        [ridge, *closed, *networks],
        folds,
        lambda predicted, rows: rng.uniform(),
        lambda function, calls: [function(*call) for call in calls],
        end=end,
    )
    assert clock.now <= end + 1
    assert table.stages[0] == 3
    if end == 0:
        assert not np.any(table.stages[1:])
    if end == 1e3:
        assert np.all(table.stages > 0)
        assert np.any(table.stages[4:] == 3)
    has_run = np.isfinite(table.column("score"))
    assert np.array_equal(has_run.all(axis=1), table.stages > 0)
    assert np.array_equal(has_run.any(axis=1), table.stages > 0)


# Paths


def test_candidates_that_differ_in_alpha_only_are_a_path():
    """From the largest on, whatever order they come in; in the second stage."""
    grid = [
        {"kernel_sizes": sizes, "n_filters": 2, "alpha": alpha}
        for alpha in (1.0, 100, "loo", 10.0)
        for sizes in ((4, 3), (6, 2))
    ]
    candidates = [
        Candidate(params, "network", None, choice.path_of_alpha(params))
        for params in grid
    ]
    alive = np.array([0, 1, 2, 4, 5, 6])
    assert choice._paths(candidates, alive, 2, True) == [(2, 6, 0), (1,), (4,), (5,)]
    assert choice._paths(candidates, alive, 3, False) == [(i,) for i in alive]


def test_a_path_goes_on_after_a_candidate_that_fails():
    seen = []

    def of(name):
        def run(fold, stage, before):
            seen.append(before)
            if name == "fails":
                raise ValueError("no network")
            return np.zeros(3), name

        return Candidate({}, "network", run)

    rows = RowBlocks(np.zeros((3, 2)), np.zeros((3, 1)), np.ones(3))
    fold = choice.Fold(rows, None, rows, {})
    path = [of("first"), of("fails"), of("last")]
    first, fails, last = choice.run_and_score(path, 2, fold, lambda *_: 0.5)
    assert seen == [None, "first", "first"]
    assert (first.score, last.score) == (0.5, 0.5)
    assert "no network" in fails.error


# Weights


def of_models(*noise, n_rows=300, seed=0):
    """Predictions of y with errors of these sizes, and the arguments of ``stacked``."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n_rows)
    predicted = np.stack([y + s * rng.standard_normal(n_rows) for s in noise])
    return SquaredErrors(predicted, y, np.ones(n_rows)), np.arange(n_rows) % 5


def test_independent_errors_are_averaged_by_their_variances():
    data = of_models(1.0, 0.5, n_rows=20_000)
    weights = stacked(*data, best=1, linear=0, most=8)
    np.testing.assert_allclose(weights, [0.2, 0.8], atol=0.02)


def test_weights_are_least_squares_under_their_bounds():
    data = of_models(0.5, 0.6, 0.7, 3.0)
    predicted, y, _ = data[0]
    weights = stacked(*data, best=0, linear=3, most=8)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(), 1)
    gradient = predicted @ (y - weights @ predicted)
    free = weights > 1e-9
    np.testing.assert_allclose(gradient[free], gradient[free][0], rtol=1e-3)
    assert np.all(gradient[~free] <= gradient[free][0] * (1 + 1e-3) + 1e-6)


def test_the_best_model_is_alone_where_no_mean_is_better():
    mixture, fold = of_models(0.5, 0.6)
    predicted, y, _ = mixture
    predicted[1] = predicted[0] + np.random.default_rng(1).standard_normal(len(y))
    weights = stacked(mixture, fold, best=0, linear=1, most=8)
    np.testing.assert_array_equal(weights, [1, 0])


def test_an_exact_model_is_alone():
    data = of_models(0.5, 1e-9, 1e-8)
    weights = stacked(*data, best=1, linear=0, most=8)
    np.testing.assert_array_equal(weights, [0, 1, 0])


def test_the_linear_model_is_alone_where_nothing_is_ahead_of_it():
    mixture, fold = of_models(0.5, 0.6)
    mixture.predicted[1] = mixture.predicted[0]
    weights = stacked(mixture, fold, best=1, linear=0, most=8)
    np.testing.assert_array_equal(weights, [1, 0])


def test_so_many_have_a_weight_at_most():
    data = of_models(0.5, 0.5, 0.5, 0.5)
    for most in (2, 3, 4):
        weights = stacked(*data, best=0, linear=0, most=most)
        assert np.count_nonzero(weights) <= most
        np.testing.assert_allclose(weights.sum(), 1)
