import itertools

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skdeeptd._data.rows import RowBlocks
from skdeeptd._init.signs import (
    mean_square,
    pattern_columns,
    signed_starts,
    with_unit_gains,
)
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward, hidden_forward

RELU = ("relu", "relu", "identity")


def unit(kernels):
    return kernels / np.linalg.norm(kernels, axis=1, keepdims=True)


def planted(activations, sizes, n_filters=1, seed=0, n_rows=300, n_outputs=1):
    """Rows of a network with some signs flipped, its structure, its directions."""
    rng = np.random.default_rng(seed)
    layout = make_layout(np.prod(sizes), sizes)
    blank = blank_network(layout, n_filters, activations, n_heads=n_outputs)
    *hidden, last = blank.sizes
    directions = [unit(rng.standard_normal((n_filters, d))) for d in hidden]
    signs = rng.choice([-1, 1], size=(len(hidden), n_filters, 1))
    kernels = tuple(k * s for k, s in zip(directions, signs, strict=True))
    if n_outputs == 1:
        directions.append(unit(rng.standard_normal((n_filters, last))))
        heads = rng.standard_normal((n_filters, 1)) * directions[-1]
    else:
        heads = rng.standard_normal((n_outputs, n_filters, last))
        directions.append(unit(heads.swapaxes(0, 1).reshape(n_filters, -1)))
    network = blank._replace(
        kernels=kernels,
        heads=heads.reshape(blank.heads.shape),
        intercept=np.arange(n_outputs) + 0.7,
    )
    X = rng.standard_normal((n_rows, np.prod(sizes)))
    rows = RowBlocks(X, forward(network, X), rng.random(n_rows))
    return rows, blank, directions


@pytest.mark.parametrize("has_last", [True, False])
def test_columns_of_patterns_equal_separate_forward_passes(has_last):
    rows, blank, (*hidden, last) = planted(
        ("relu", "softplus", "identity"), (3, 2, 4), 2
    )
    network = blank._replace(kernels=tuple(hidden))
    patterns = np.array(list(itertools.product([1.0, -1.0], repeat=2)))
    columns = pattern_columns(network, last if has_last else None, patterns, rows.X)
    columns = columns.T.reshape(2, 4, -1, len(rows.X))
    for r, c in np.ndindex(2, 4):
        kernels = zip(patterns[c], hidden, strict=True)
        signed = network._replace(kernels=tuple(s * k for s, k in kernels))
        h = hidden_forward(signed, rows.X)[-1].h[r]
        expected = h @ (last[r][:, np.newaxis] if has_last else np.eye(4))
        np.testing.assert_allclose(columns[r, c].T, expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("n_filters", [1, 3])
@pytest.mark.parametrize(
    "activations", [RELU, ("relu", "leaky_relu", "relu"), ("identity",) * 3]
)
def test_signs_heads_and_intercept_of_the_truth_are_found(
    activations, n_filters, n_outputs, seed
):
    rows, blank, directions = planted(
        activations, (4, 3, 3), n_filters, seed, n_outputs=n_outputs
    )
    best = signed_starts(blank, directions, rows)[0]
    assert best.loss < 1e-12 * np.sum(rows.y**2)
    np.testing.assert_allclose(forward(best.network, rows.X), rows.y, atol=1e-6)


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("fit_intercept", [True, False])
def test_no_combination_of_signs_has_a_smaller_loss(n_outputs, fit_intercept):
    """All combinations of the signs of two filters, each solved by scikit-learn."""
    rows, blank, directions = planted(RELU, (4, 3, 3), 2, n_outputs=n_outputs)
    rng = np.random.default_rng(1)
    y = rows.y + rng.standard_normal(rows.y.shape)
    rows = RowBlocks(rows.X, y, rows.weight)
    *hidden, last = directions
    network, losses = blank._replace(kernels=tuple(hidden)), []
    for signs in itertools.product([1.0, -1.0], repeat=4):
        pattern = np.reshape(signs, (2, 2, 1))
        kernels = tuple(s * k for s, k in zip(pattern, hidden, strict=True))
        h = hidden_forward(network._replace(kernels=kernels), rows.X)[-1].h
        F = np.concatenate(list(h), axis=1)
        if n_outputs == 1:
            F = np.einsum("rip,rp->ir", h, last)
        model = Ridge(3.0, fit_intercept=fit_intercept).fit(F, y, rows.weight)
        residual = y - model.predict(F).reshape(y.shape)
        losses.append(np.sum(rows.weight @ residual**2) + 3.0 * np.sum(model.coef_**2))
    found = signed_starts(
        blank, directions, rows, alpha=3.0, fit_intercept=fit_intercept, n_best=3
    )
    assert found[0].loss == pytest.approx(min(losses), rel=1e-9)
    assert all(np.any(np.isclose(start.loss, losses)) for start in found)


@pytest.mark.parametrize("seed", range(5))
def test_signs_of_many_layers_are_found_by_flips(seed):
    activations = ("relu",) * 5 + ("identity",)
    rows, blank, directions = planted(activations, (3, 2, 2, 2, 2, 2), seed=seed)
    every = signed_starts(blank, directions, rows)[0]
    flipped = signed_starts(blank, directions, rows, most_columns=4)[0]
    assert every.loss < 1e-12 * np.sum(rows.y**2)
    np.testing.assert_allclose(forward(flipped.network, rows.X), rows.y, atol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 5.0])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_loss_is_that_of_the_network_and_no_scale_lowers_it(
    alpha, fit_intercept, n_outputs
):
    rows, blank, directions = planted(
        ("relu", "identity"), (4, 3), 2, n_outputs=n_outputs
    )
    X, y, weight = rows.X, rows.y + np.sin(rows.X[:, :1]), rows.weight
    rows = RowBlocks(X, y, weight)
    best = signed_starts(
        blank, directions, rows, alpha=alpha, fit_intercept=fit_intercept
    )[0]

    def loss(network):
        squares = np.sum((y - forward(network, X)) ** 2, axis=1)
        return weight @ squares + alpha * np.sum(network.heads**2)

    network = best.network
    np.testing.assert_allclose(best.loss, loss(network), rtol=1e-10)
    assert fit_intercept or not np.any(network.intercept)
    for step in (1e-3, -1e-3):
        for q, r in np.ndindex(n_outputs, 2):
            heads = network.heads.copy()
            heads[q, r] *= 1 + step
            assert loss(network._replace(heads=heads)) > best.loss
        if fit_intercept:
            moved = network._replace(intercept=network.intercept + step)
            assert loss(moved) > best.loss


@pytest.mark.parametrize("n_outputs", [1, 2])
def test_best_patterns_come_in_order_and_differ(n_outputs):
    rows, blank, directions = planted(RELU, (4, 3, 3), n_outputs=n_outputs)
    found = signed_starts(blank, directions, rows, n_best=4)
    losses = [c.loss for c in found]
    assert losses == sorted(losses)
    assert len({tuple(np.sign(k[0, 0]) for k in c.network.kernels) for c in found}) == 4


def test_one_output_keeps_the_direction_of_its_last_kernel():
    rows, blank, directions = planted(RELU, (4, 3, 3), 2)
    y = rows.y + np.random.default_rng(0).standard_normal(rows.y.shape)
    best = signed_starts(blank, directions, RowBlocks(rows.X, y, rows.weight))[0]
    cosines = np.sum(unit(best.network.heads[0]) * directions[-1], axis=1)
    np.testing.assert_allclose(np.abs(cosines), 1, rtol=1e-12)


@pytest.mark.parametrize("name", ["tanh", "softplus", "logistic"])
@pytest.mark.parametrize("size", [0.1, 1.0, 30.0])
def test_gains_follow_the_size_of_x(name, size):
    rows, blank, directions = planted((name, name, "identity"), (4, 3, 3))
    y, weight = rows.y, rows.weight
    best = signed_starts(blank, directions, RowBlocks(size * rows.X, y, weight))[0]
    spread = y - np.average(y, axis=0, weights=weight)
    assert best.loss < 1e-6 * np.sum(weight @ spread**2)
    assert 0 < best.n_iter <= 20


def test_without_passes_the_pre_activations_have_unit_size():
    rows, blank, directions = planted(("tanh", "tanh", "identity"), (4, 3, 3), 2)
    rows = RowBlocks(50 * rows.X, rows.y, rows.weight)
    best = signed_starts(blank, directions, rows, norm_passes=0)[0]
    assert best.n_iter == 0
    for layer in hidden_forward(best.network, rows.X):
        square = np.average(np.mean(layer.z**2, axis=2), axis=1, weights=rows.weight)
        np.testing.assert_allclose(square, 1, rtol=1e-10)


def test_gains_leave_homogeneous_layers_and_zeros_alone():
    rows, blank, directions = planted(("relu", "tanh", "identity"), (4, 3, 3), 2)
    directions[1][1] = 0
    network = blank._replace(kernels=tuple(directions[:-1]))
    found = with_unit_gains(network, rows)
    np.testing.assert_array_equal(found.kernels[0], network.kernels[0])
    np.testing.assert_array_equal(found.kernels[1][1], 0)
    assert mean_square(found, rows, 1)[0] == pytest.approx(1)


@pytest.mark.parametrize("value", [1.0, 0.1])
@pytest.mark.parametrize("alpha", [0.0, 1e-30])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_a_constant_filter_gets_no_weight(n_outputs, alpha, value):
    blank = blank_network(make_layout(2, (2, 1)), 1, ("relu",) * 2, n_heads=n_outputs)
    rng = np.random.default_rng(0)
    X, y = np.full((1000, 2), value), rng.standard_normal((1000, n_outputs))
    X[:, 1] *= 1 + 1e-15 * rng.choice([0, 1], 1000)  # rounding varies with y
    weight = rng.random(1000)
    candidate = [np.ones((1, 2)), np.ones((1, 1)), np.ones((1, n_outputs))]
    rows = RowBlocks(X, y, weight)
    best = signed_starts(blank, candidate, rows, alpha=alpha)[0]
    np.testing.assert_array_equal(best.network.heads, 0)
    mean = np.average(y, axis=0, weights=weight)
    np.testing.assert_allclose(best.network.intercept, mean)


@pytest.mark.parametrize("alpha", [0.5, 20.0])
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_the_penalty_counts_the_norms_of_all_kernels(alpha, n_outputs):
    rows, blank, directions = planted(
        ("relu", "identity"), (4, 3), 2, n_outputs=n_outputs
    )
    factors = np.array([[3.0], [0.5]])
    longer = [factors * k for k in directions]
    expected = signed_starts(blank, directions, rows, alpha=alpha)[0]
    found = signed_starts(blank, longer, rows, alpha=alpha)[0]
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)
    found, expected = (forward(s.network, rows.X) for s in (found, expected))
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("offset", [1e5, 1e7])
def test_outputs_of_a_large_mean_lose_no_digits(offset):
    rows, blank, directions = planted(("identity", "identity"), (4, 3))
    shifted = RowBlocks(rows.X + offset, rows.y, rows.weight)
    best = signed_starts(blank, directions, shifted)[0]
    spread = np.sum(rows.weight @ (rows.y - np.mean(rows.y)) ** 2)
    assert best.loss < 1e-10 * spread


def test_squares_that_overflow_are_refused():
    rows, blank, directions = planted(("relu", "identity"), (4, 3))
    with pytest.raises(FloatingPointError, match="squares of the network's outputs"):
        signed_starts(blank, directions, RowBlocks(1e200 * rows.X, rows.y, rows.weight))
