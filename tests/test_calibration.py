"""The factor of a softmax: the largest likelihood of held-out scores."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from skdeeptd._solvers.calibration import calibrated, fit_temperature

SEEDS = range(5)


def drawn(factor, seed, n_rows=2000, n_classes=4):
    """Return scores, one-hot classes drawn with this factor, and weights."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((n_rows, n_classes)) / factor * 3
    p = softmax(factor * scores, axis=1)
    label = (rng.uniform(size=(n_rows, 1)) > p.cumsum(axis=1)[:, :-1]).sum(axis=1)
    return scores, np.eye(n_classes)[label], rng.uniform(0.5, 2, n_rows)


def log_loss(factor, scores, target, weight):
    prior = np.average(target, axis=0, weights=weight)
    logits = factor * (scores - prior) + np.log(prior)
    logs = np.sum(log_softmax(logits, axis=1) * target, axis=1)
    return -np.average(logs, weights=weight)


def test_scores_without_information_give_the_shares_of_the_classes():
    target = np.eye(3)[[0] * 60 + [1] * 30 + [2] * 10]
    shares = target.mean(axis=0)
    scores = np.tile(shares, (100, 1))
    factor = fit_temperature(scores, target, np.ones(100))
    found = calibrated(scores, factor, shares, 0.0)[0]
    np.testing.assert_allclose(found, shares, atol=0.01)
    noise = np.random.default_rng(0).permutation(target)
    factor = fit_temperature(noise, target, np.ones(100))
    found = calibrated(noise, factor, shares, 0.0)
    np.testing.assert_allclose(found, np.tile(shares, (100, 1)), atol=0.1)


@pytest.mark.parametrize("factor", [0.1, 1.0, 8.0])
def test_the_factor_that_drew_the_classes_is_recovered(factor):
    found = [fit_temperature(*drawn(factor, seed)) for seed in SEEDS]
    np.testing.assert_allclose(found, factor, rtol=0.2)
    np.testing.assert_allclose(np.mean(found), factor, rtol=0.07)


def test_no_other_factor_has_a_smaller_loss():
    for seed in SEEDS:
        data = drawn(3.0, seed, n_rows=50)
        best = log_loss(fit_temperature(*data), *data)
        losses = [log_loss(f, *data) for f in np.logspace(-2, 3, 500)]
        assert best <= min(losses) + 1e-9


def test_weights_are_repetitions():
    scores, target, _ = drawn(3.0, 0, n_rows=50)
    weight = np.random.default_rng(1).integers(1, 4, 50)
    weighted = fit_temperature(scores, target, weight)
    repeated = fit_temperature(
        np.repeat(scores, weight, axis=0),
        np.repeat(target, weight, axis=0),
        np.ones(weight.sum()),
    )
    np.testing.assert_allclose(weighted, repeated, rtol=1e-10)


def test_scores_without_information_and_perfect_ones_have_bounded_factors():
    scores, target, weight = drawn(3.0, 0)
    shuffled = np.random.default_rng(0).permutation(scores)
    assert fit_temperature(shuffled, target, weight) < 0.1
    assert fit_temperature(-target, target, weight) == 0.01
    perfect = fit_temperature(target, target, weight)
    assert 20 < perfect < 30
    assert log_loss(perfect, target, target, weight) < 1e-8
    assert fit_temperature(np.zeros_like(scores), target, weight) == 0.01


def test_probabilities_are_positive_and_sum_to_one():
    scores = 1e3 * np.random.default_rng(0).standard_normal((50, 3))
    prior = np.array([0.2, 0.5, 0.3])
    found = calibrated(scores, 1000.0, prior, 0.01)
    np.testing.assert_allclose(found.sum(axis=1), 1)
    np.testing.assert_allclose(found.min(axis=0), 0.01 * prior)
    np.testing.assert_array_equal(found.argmax(axis=1), scores.argmax(axis=1))
    likely = prior * np.exp(2e-3 * (scores - prior))
    expected = 0.99 * likely / likely.sum(axis=1, keepdims=True) + 0.01 * prior
    np.testing.assert_allclose(calibrated(scores, 2e-3, prior, 0.01), expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_probabilities_have_the_dtype_of_the_scores(dtype):
    scores = np.random.default_rng(0).standard_normal((5, 3)).astype(dtype)
    assert calibrated(scores, 2.0, np.full(3, 1 / 3), 0.1).dtype == dtype
