import itertools

import numpy as np
import pytest
from skdeeptd._model.network import PatchCNN, forward
from skdeeptd._solver import calibration
from skdeeptd._solver.calibration import calibrate, pattern_outputs
from skdeeptd._solver.normal_equations import Objective

from skdeeptd._data.rows import RowBlocks


def planted(activations, sizes, n_filters=1, seed=0, n_rows=300):
    """A network with some signs flipped, its data, and its directions unsigned."""
    rng = np.random.default_rng(seed)
    kernels = [rng.standard_normal((n_filters, d)) for d in sizes]
    kernels = [k / np.linalg.norm(k, axis=1, keepdims=True) for k in kernels]
    signs = rng.choice([-1, 1], size=(len(sizes), n_filters, 1))
    network = PatchCNN(
        tuple(k * s for k, s in zip(kernels, signs, strict=True)),
        rng.standard_normal(n_filters),
        0.7,
        activations,
    )
    X = rng.standard_normal((n_rows, np.prod(sizes)))
    weight = rng.random(n_rows)
    rows = RowBlocks(X, forward(network, X), weight)
    return rows, network._replace(kernels=tuple(kernels)), X


def test_pattern_outputs_equal_separate_forward_passes():
    activations = ("relu", "softplus", "identity")
    _, network, X = planted(activations, (3, 2, 4), n_filters=2)
    patterns = np.array(list(itertools.product([1.0, -1.0], repeat=3)))
    outputs = pattern_outputs(network, X, patterns)
    for r, c in np.ndindex(2, len(patterns)):
        signed = PatchCNN(
            tuple(
                s * k[r : r + 1]
                for s, k in zip(patterns[c], network.kernels, strict=True)
            ),
            np.ones(1),
            0.0,
            activations,
        )
        expected = forward(signed, X)
        np.testing.assert_allclose(outputs[r, c], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_filters", [1, 3])
@pytest.mark.parametrize(
    "activations",
    [("relu", "relu", "identity"), ("relu", "leaky_relu", "relu"), ("identity",) * 3],
)
def test_signs_scales_and_intercept_of_the_truth_are_found(
    activations, n_filters, seed
):
    rows, directions, X = planted(activations, (4, 3, 3), n_filters, seed)
    best = calibrate(directions, rows, Objective())[0]
    y = rows.y
    assert best.loss < 1e-12 * np.sum(y**2)
    np.testing.assert_allclose(forward(best.network, X), y, atol=1e-6)


def test_signs_of_many_layers_are_found_without_trying_all(monkeypatch):
    rows, directions, X = planted(("relu",) * 5 + ("identity",), (3, 2, 2, 2, 2, 2))
    every = calibrate(directions, rows, Objective())[0]
    monkeypatch.setattr(calibration, "MOST_PATTERNS", 4)
    flipped = calibrate(directions, rows, Objective())[0]
    assert every.loss < 1e-12 * np.sum(rows.y**2)
    np.testing.assert_allclose(forward(flipped.network, X), rows.y, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_loss_is_that_of_the_network_and_no_scale_lowers_it(alpha, fit_intercept):
    rows, directions, X = planted(("relu", "identity"), (4, 3), 2)
    y, weight = rows.y + np.sin(X[:, 0]), rows.weight
    rows = RowBlocks(X, y, weight)
    best = calibrate(directions, rows, Objective(alpha, fit_intercept))[0]

    def loss(network):
        residual = y - forward(network, X)
        return np.sum(weight * residual**2) + alpha * np.sum(network.scales**2)

    np.testing.assert_allclose(best.loss, loss(best.network), rtol=1e-10)
    assert fit_intercept or best.network.intercept == 0
    for step in (1e-3, -1e-3):
        for r in range(2):
            scales = best.network.scales + step * np.eye(1, 2, r)[0]
            assert loss(best.network._replace(scales=scales)) > best.loss
        if fit_intercept:
            intercept = best.network.intercept + step
            assert loss(best.network._replace(intercept=intercept)) > best.loss


def test_best_patterns_come_in_order_and_differ():
    rows, directions, _ = planted(("relu", "relu", "identity"), (4, 3, 3))
    found = calibrate(directions, rows, Objective(), n_best=4)
    losses = [c.loss for c in found]
    assert losses == sorted(losses)
    assert len({tuple(np.sign(k[0, 0]) for k in c.network.kernels) for c in found}) == 4


@pytest.mark.parametrize("name", ["tanh", "softplus", "logistic"])
@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_gains_follow_the_size_of_x(name, size):
    rows, directions, X = planted((name, name, "identity"), (4, 3, 3))
    y, weight = rows.y, rows.weight
    best = calibrate(directions, RowBlocks(size * X, y, weight), Objective())[0]
    assert best.loss < 1e-6 * np.sum(weight * (y - np.average(y, weights=weight)) ** 2)


def test_a_constant_filter_gets_no_weight():
    network = PatchCNN(
        (np.ones((1, 2)), np.ones((1, 1))), np.ones(1), 0.0, ("relu",) * 2
    )
    X = np.ones((10, 2))
    y = np.arange(10.0)
    best = calibrate(network, RowBlocks(X, y, np.ones(10)), Objective())[0]
    assert best.network.scales == 0
    np.testing.assert_allclose(best.network.intercept, y.mean())


@pytest.mark.parametrize("alpha", [0.5, 20.0])
def test_the_penalty_counts_the_norms_of_all_kernels(alpha):
    rows, directions, X = planted(("relu", "identity"), (4, 3), 2)
    factors = np.array([[3.0], [0.5]])
    longer = directions._replace(kernels=tuple(factors * k for k in directions.kernels))
    expected = calibrate(directions, rows, Objective(alpha))[0]
    found = calibrate(longer, rows, Objective(alpha))[0]
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)
    found, expected = (forward(s.network, X) for s in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("offset", [1e5, 1e7])
def test_outputs_of_a_large_mean_lose_no_digits(offset):
    rows, directions, X = planted(("identity", "identity"), (4, 3))
    shifted = RowBlocks(X + offset, rows.y, rows.weight)
    best = calibrate(directions, shifted, Objective())[0]
    spread = np.sum(rows.weight * (rows.y - np.mean(rows.y)) ** 2)
    assert best.loss < 1e-10 * spread
