"""Weights of an average: the optimum of a penalised error, on the simplex."""

import numpy as np
import pytest

from skdeeptd._stacking import (
    LEAST_PROBABILITY,
    PENALTY,
    heaviest,
    log_loss_weights,
    prior_weights,
    squared_error_weights,
)

SEEDS = range(5)


def regression(*noise, n_rows=200, seed=0):
    """Return predictions with errors of these sizes, y, and weights of the rows."""
    rng = np.random.default_rng(seed)
    y = 3 + rng.standard_normal(n_rows)
    predicted = np.stack([y + s * rng.standard_normal(n_rows) for s in noise])
    return predicted, y, rng.uniform(0.5, 2, n_rows)


def classification(n_models, n_rows=200, seed=0):
    """Return likelihoods of models of which each is worse than the one before."""
    rng = np.random.default_rng(seed)
    shapes = np.linspace(4, 1, n_models)[:, np.newaxis]
    return rng.beta(shapes, 1.0, (n_models, n_rows)), rng.uniform(0.5, 2, n_rows)


# The prior


def test_the_prior_is_proportional_to_a_power_of_the_loss():
    losses = np.array([0.5, 1.0, 2.0])
    found = prior_weights(losses)
    np.testing.assert_allclose(found, losses**-4 / np.sum(losses**-4))
    np.testing.assert_allclose(prior_weights(1e-200 * losses), found)


def test_models_of_equal_loss_have_equal_priors():
    np.testing.assert_allclose(prior_weights(np.zeros(3)), 1 / 3)
    np.testing.assert_allclose(prior_weights(np.full(4, 0.7)), 1 / 4)
    exact = prior_weights(np.array([0.0, 1e-30, 1.0]))
    np.testing.assert_allclose(exact, [0.5, 0.5, 0], atol=1e-12)


# Squared error


def objective(weights, predicted, y, sample_weight, penalty=PENALTY):
    """Return the squared error over the variance of y, and the penalty."""
    share = sample_weight / sample_weight.sum()
    variance = share @ (y - share @ y) ** 2
    losses = (predicted - y) ** 2 @ share / variance
    prior = losses**-4 / np.sum(losses**-4)
    error = share @ (weights @ predicted - y) ** 2 / variance
    return error + penalty * np.sum((weights - prior) ** 2)


@pytest.mark.parametrize("noise", [(0.5, 0.6, 0.7, 3.0), (1.0, 1.0), (0.2, 0.5, 2.0)])
def test_no_other_weights_have_a_smaller_penalised_error(noise):
    for seed in SEEDS:
        data = regression(*noise, seed=seed)
        weights = squared_error_weights(*data)
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(), 1)
        best, rng = objective(weights, *data), np.random.default_rng(seed)
        for size in (1e-3, 1e-2, 0.1, 1):
            for other in rng.dirichlet(np.ones(len(noise)), 50):
                moved = (1 - size) * weights + size * other
                assert objective(moved, *data) > best - 1e-6 * best


def test_the_gradient_is_equal_for_all_models_of_positive_weight():
    """And not smaller for the others (Karush, Kuhn and Tucker)."""
    for seed in SEEDS:
        predicted, y, sample_weight = regression(0.5, 0.6, 0.7, seed=seed)
        predicted = np.vstack([predicted, 2 * predicted[0] - y])  # twice its error
        weights = squared_error_weights(predicted, y, sample_weight)
        share = sample_weight / sample_weight.sum()
        variance = share @ (y - share @ y) ** 2
        residual = weights @ predicted - y
        prior = prior_weights((predicted - y) ** 2 @ share)
        gradient = predicted @ (share * residual) / variance
        gradient += PENALTY * (weights - prior)
        free = weights > 0
        assert list(free) == [True] * 3 + [False]
        np.testing.assert_allclose(gradient[free], gradient[0], atol=1e-4)
        assert gradient[3] > gradient[0]


def test_independent_errors_are_averaged_by_their_variances():
    data = regression(1.0, 0.5, n_rows=20_000)
    weights = squared_error_weights(*data, penalty=0.0)
    np.testing.assert_allclose(weights, [0.2, 0.8], atol=0.02)


def test_the_average_is_better_than_its_best_model_on_new_rows():
    gain_on_best, gain_on_mean = [], []
    for seed in range(20):
        predicted, y, weight = regression(0.6, 0.7, 0.8, 1.5, seed=seed)
        known, new = np.arange(60), np.arange(60, 200)
        weights = squared_error_weights(predicted[:, known], y[known], weight[known])
        errors = np.mean((predicted[:, new] - y[new]) ** 2, axis=1)
        error, of_mean = (
            np.mean((w @ predicted[:, new] - y[new]) ** 2)
            for w in (weights, np.full(4, 0.25))
        )
        gain_on_best.append(errors.min() / error)
        gain_on_mean.append(of_mean / error)
    assert np.mean(gain_on_best) > 1.5
    assert np.mean(gain_on_mean) > 1.05


def test_an_exact_model_has_all_weight():
    weights = squared_error_weights(*regression(0.5, 0.0, 0.3))
    np.testing.assert_allclose(weights, [0, 1, 0], atol=1e-6)


def test_equal_models_have_equal_weights():
    for seed in SEEDS:
        predicted, y, weight = regression(0.5, 0.7, seed=seed)
        once = squared_error_weights(predicted, y, weight)
        twice = squared_error_weights(predicted[[0, 0, 1]], y, weight)
        np.testing.assert_allclose(twice[0], twice[1], atol=1e-6)
        assert twice[0] < once[0] < twice[0] + twice[1] + 0.05


def test_the_unit_and_the_level_of_y_do_not_matter():
    predicted, y, weight = regression(0.5, 0.6, 0.7)
    expected = squared_error_weights(predicted, y, weight)
    for unit in (1e-100, 1e-6, 1e6, 1e100):
        found = squared_error_weights(unit * (predicted + 7), unit * (y + 7), weight)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_weights_of_models_of_any_error_sum_to_one():
    """Also of models much worse than the mean of y: then the error rules."""
    for size in (10.0, 1e4, 1e8):
        predicted, y, weight = regression(size, 2 * size, n_rows=20_000)
        weights = squared_error_weights(predicted, y, weight)
        np.testing.assert_allclose(weights, [0.8, 0.2], atol=0.02)


def test_the_weights_for_a_constant_target_do_not_depend_on_its_rounding():
    predicted, y, weight = regression(0.5, 0.6)
    expected = squared_error_weights(predicted - y, np.zeros(200), weight)
    np.testing.assert_allclose(expected.sum(), 1)
    constant = np.full(200, 240 / 255)
    found = squared_error_weights(predicted - y + constant, constant, weight)
    np.testing.assert_allclose(found, expected, atol=1e-9)


# Log loss


def likelihood_objective(weights, likelihood, sample_weight):
    share = sample_weight / sample_weight.sum()
    losses = -np.log(likelihood) @ share
    prior = losses**-4 / np.sum(losses**-4)
    return share @ np.log(weights @ likelihood) + PENALTY * prior @ np.log(weights)


def test_no_other_weights_have_a_larger_penalised_likelihood():
    for seed in SEEDS:
        data = classification(4, seed=seed)
        weights = log_loss_weights(*data)
        assert weights.min() >= 0
        np.testing.assert_allclose(weights.sum(), 1)
        best, rng = likelihood_objective(weights, *data), np.random.default_rng(seed)
        for size in (1e-3, 1e-2, 0.1, 0.9):
            for other in rng.dirichlet(np.ones(4), 50):
                moved = (1 - size) * weights + size * other
                assert likelihood_objective(moved, *data) < best + 1e-6


def test_the_penalised_slope_is_equal_for_all_models():
    for seed in SEEDS:
        likelihood, sample_weight = classification(4, seed=seed)
        weights = log_loss_weights(likelihood, sample_weight, max_iter=3000)
        share = sample_weight / sample_weight.sum()
        prior = prior_weights(-np.log(likelihood) @ share)
        slope = likelihood @ (share / (weights @ likelihood))
        slope += PENALTY * prior / weights
        np.testing.assert_allclose(slope, 1 + PENALTY, rtol=1e-6)


def test_a_sure_model_has_all_weight():
    likelihood = np.stack([np.full(100, 0.9), np.ones(100), np.full(100, 0.5)])
    weights = log_loss_weights(likelihood, np.ones(100))
    np.testing.assert_allclose(weights, [0, 1, 0], atol=1e-3)


def test_equal_models_of_classes_have_equal_weights():
    likelihood, weight = classification(2)
    twice = log_loss_weights(likelihood[[0, 0, 1]], weight)
    np.testing.assert_allclose(twice[0], twice[1], rtol=1e-12)


def test_likelihoods_of_zero_are_bounded():
    """Each model excludes the class of some rows."""
    likelihood = np.array([[0.0, 0.9, 0.9], [0.9, 0.0, 0.9]])
    weights = log_loss_weights(likelihood, np.ones(3))
    np.testing.assert_allclose(weights, 0.5)
    one_sided = log_loss_weights(np.array([[0.0, 0.9], [0.9, 0.9]]), np.ones(2))
    np.testing.assert_allclose(one_sided, [0, 1], atol=0.01)
    assert LEAST_PROBABILITY > 0


@pytest.mark.parametrize("kind", ["squared error", "log loss"])
def test_sample_weights_are_repetitions(kind):
    repeats = np.random.default_rng(0).integers(1, 4, 200)
    if kind == "squared error":
        predicted, y, _ = regression(0.5, 0.6, 0.7)
        weighted = squared_error_weights(predicted, y, repeats)
        repeated = squared_error_weights(
            np.repeat(predicted, repeats, axis=1),
            np.repeat(y, repeats),
            np.ones(repeats.sum()),
        )
    else:
        likelihood, _ = classification(3)
        weighted = log_loss_weights(likelihood, repeats)
        repeated = log_loss_weights(
            np.repeat(likelihood, repeats, axis=1), np.ones(repeats.sum())
        )
    np.testing.assert_allclose(weighted, repeated, atol=1e-8)


# Few models


def test_the_heaviest_models_are_weighed_again_without_the_others():
    calls, given = [], np.array([0.4, 1e-4, 0.1, 0.3, 0.2 - 1e-4])

    def weigh(some):
        calls.append(list(some))
        return given[some] / given[some].sum()

    found = heaviest(weigh, 5, most=3)
    assert calls == [[0, 1, 2, 3, 4], [0, 3, 4]]
    np.testing.assert_allclose(found.sum(), 1)
    np.testing.assert_allclose(found, given * [1, 0, 0, 1, 1] / 0.8999)
    assert np.count_nonzero(heaviest(weigh, 5, most=5)) == 4
    np.testing.assert_array_equal(heaviest(weigh, 5, most=1), [1, 0, 0, 0, 0])


@pytest.mark.parametrize("n_models", [1, 2, 6])
def test_one_or_several_models_at_most(n_models):
    predicted, y, weight = regression(*np.full(n_models, 0.5))
    for most in (1, 3, 10):
        found = heaviest(
            lambda some: squared_error_weights(predicted[some], y, weight),
            n_models,
            most,
        )
        assert np.count_nonzero(found) <= most
        np.testing.assert_allclose(found.sum(), 1)
