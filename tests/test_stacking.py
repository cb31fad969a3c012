import numpy as np
import pytest

from skdeeptd._stacking import (
    LogLossStacking,
    SquaredErrorStacking,
    n_repeated_rows,
    shrinkage_factor,
    stacking_weights,
)


def squared_error(*noise, n_rows=300, seed=0):
    """Predictions of y with errors of these sizes, and the fold of each row."""
    rng = np.random.default_rng(seed)
    y = rng.standard_normal(n_rows)
    predicted = np.stack([y + s * rng.standard_normal(n_rows) for s in noise])
    stacking = SquaredErrorStacking(predicted, y, np.ones(n_rows))
    return stacking, np.arange(n_rows) % 5


def log_loss(n_models, n_rows=500, seed=0):
    rng = np.random.RandomState(seed)
    shapes = np.linspace(4, 1, n_models)[:, np.newaxis]
    likelihood = rng.beta(shapes, 1.0, (n_models, n_rows))
    return LogLossStacking(likelihood, rng.uniform(0.5, 2, n_rows))


def test_independent_errors_are_averaged_by_their_variances():
    data = squared_error(1.0, 0.5, n_rows=20_000)
    weights = stacking_weights(*data, best=1, linear=0, max_members=8)
    np.testing.assert_allclose(weights, [0.2, 0.8], atol=0.02)


def test_weights_are_least_squares_under_their_bounds():
    data = squared_error(0.5, 0.6, 0.7, 3.0)
    predicted, y, _ = data[0]
    weights = stacking_weights(*data, best=0, linear=3, max_members=8)
    assert weights.min() >= 0
    np.testing.assert_allclose(weights.sum(), 1)
    gradient = predicted @ (y - weights @ predicted)
    free = weights > 1e-9
    np.testing.assert_allclose(gradient[free], gradient[free][0], rtol=1e-3)
    assert np.all(gradient[~free] <= gradient[free][0] * (1 + 1e-3) + 1e-6)


def test_the_best_model_is_alone_if_no_average_is_better():
    stacking, fold = squared_error(0.5, 0.6)
    predicted, y, _ = stacking
    predicted[1] = predicted[0] + np.random.default_rng(1).standard_normal(len(y))
    weights = stacking_weights(stacking, fold, best=0, linear=1, max_members=8)
    np.testing.assert_array_equal(weights, [1, 0])


def test_an_exact_model_is_alone():
    data = squared_error(0.5, 1e-9, 1e-8)
    weights = stacking_weights(*data, best=1, linear=0, max_members=8)
    np.testing.assert_array_equal(weights, [0, 1, 0])


def test_the_linear_model_is_alone_if_nothing_is_ahead_of_it():
    stacking, fold = squared_error(0.5, 0.6)
    stacking.predicted[1] = stacking.predicted[0]
    weights = stacking_weights(stacking, fold, best=1, linear=0, max_members=8)
    np.testing.assert_array_equal(weights, [1, 0])


def test_the_number_of_members_has_a_bound():
    data = squared_error(0.5, 0.5, 0.5, 0.5)
    for most in (2, 3, 4):
        weights = stacking_weights(*data, best=0, linear=0, max_members=most)
        assert np.count_nonzero(weights) <= most
        np.testing.assert_allclose(weights.sum(), 1)


def test_the_shrinkage_is_the_lead_in_two_standard_errors():
    lead = np.array([0.0, 1.0, 2.0, 3.0])
    error = lead.std(ddof=1) / 2
    for n_errors, factor in [(-1, 0), (0.5, 0.25), (1, 0.5), (2, 1), (3, 1)]:
        shifted = lead - lead.mean() + n_errors * error
        np.testing.assert_allclose(shrinkage_factor(shifted), factor)
    assert shrinkage_factor(np.full(3, 0.1)) == 1
    assert shrinkage_factor(np.full(3, -0.1)) == 0


def test_weights_have_the_largest_likelihood():
    stacking = log_loss(4)
    likelihood, sample_weight = stacking
    weights = stacking.weights(np.arange(4))
    np.testing.assert_allclose(weights.sum(), 1)
    # At the optimum the slope is one if a weight is free, and no more elsewhere.
    share = sample_weight / sample_weight.sum()
    slope = likelihood @ (share / (weights @ likelihood))
    np.testing.assert_allclose(slope[weights > 0.01], 1, atol=0.01)
    assert np.all(slope < 1.01)


def test_members_of_almost_no_weight_are_dropped():
    """Expectation maximisation never gives a weight of zero by itself."""
    stacking = log_loss(6)
    dropped = stacking.weights(np.arange(6))
    all_kept = stacking.weights(np.arange(6), least_weight=0.0)
    assert np.all(all_kept > 0)
    assert all_kept.min() < 1e-3
    np.testing.assert_array_equal(dropped > 0, all_kept >= 1e-3)
    np.testing.assert_allclose(dropped.sum(), 1)


def test_a_sure_model_is_alone():
    likelihood = np.stack([np.full(100, 0.9), np.ones(100), np.full(100, 0.5)])
    stacking = LogLossStacking(likelihood, np.ones(100))
    fold = np.arange(100) % 5
    weights = stacking_weights(stacking, fold, best=1, linear=0, max_members=8)
    np.testing.assert_array_equal(weights, [0, 1, 0])


def test_a_gain_that_fitted_weights_have_by_chance_is_none():
    """Akaike's correction: each free weight is worth one over the number of rows."""
    losses = np.full(3, 0.5)
    stacking = log_loss(3, n_rows=40)
    n = n_repeated_rows(stacking.sample_weight)
    np.testing.assert_allclose(stacking.corrected(losses, 1), losses)
    np.testing.assert_allclose(stacking.corrected(losses, 4), losses + 3 / n)
    # Two models that differ by noise: an average gains less than the correction.
    rng = np.random.RandomState(0)
    likelihood = np.clip(0.8 + 0.01 * rng.randn(2, 40), 0, 1)
    likelihood[0] += 1e-3
    stacking = LogLossStacking(likelihood, np.ones(40))
    fold = np.arange(40) % 4
    assert np.all(stacking.weights(np.arange(2)) > 0.01)
    weights = stacking_weights(stacking, fold, best=0, linear=0, max_members=8)
    np.testing.assert_array_equal(weights, [1, 0])


@pytest.mark.parametrize("kind", ["squared error", "log loss"])
def test_sample_weights_are_repetitions(kind):
    rng = np.random.RandomState(0)
    repeats = rng.randint(1, 4, size=60)
    if kind == "log loss":
        plain = LogLossStacking(rng.beta(2, 1, (3, 60)), repeats.astype(float))
        repeated = LogLossStacking(
            np.repeat(plain.likelihood, repeats, axis=1), np.ones(repeats.sum())
        )
    else:
        y = rng.randn(60)
        predicted = y + rng.randn(3, 60)
        plain = SquaredErrorStacking(predicted, y, repeats.astype(float))
        repeated = SquaredErrorStacking(
            np.repeat(predicted, repeats, axis=1),
            np.repeat(y, repeats),
            np.ones(repeats.sum()),
        )
    fold = np.arange(60) % 3
    for linear in range(3):
        weighted, unweighted = (
            stacking_weights(stacking, of_rows, 0, linear, max_members=8)
            for stacking, of_rows in (
                (plain, fold),
                (repeated, np.repeat(fold, repeats)),
            )
        )
        np.testing.assert_allclose(weighted, unweighted, atol=1e-8)
    np.testing.assert_allclose(
        plain.corrected(np.ones(1), 3), repeated.corrected(np.ones(1), 3)
    )
