import numpy as np
import pytest
from scipy.linalg import subspace_angles

from skdeeptd._data.rows import RowBlocks
from skdeeptd._init.moment_directions import (
    all_patch_moments,
    leading_directions,
    leading_kernels,
    moment_filters,
    patch_moments,
    start_of_both_moments,
    supports_second_moment,
)
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward


def blank(layout, n_filters=4, activations=("relu", "identity"), hidden_bias=True):
    return blank_network(layout, n_filters, activations, hidden_bias)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_moments_equal_explicit_loops(dtype):
    rng = np.random.default_rng(0)
    layout = make_layout(30, ((3, 2), -1), (5, 6), strides=((2, 1),))
    X = (rng.standard_normal((50, 30)) + 5).astype(dtype)
    y, weight = rng.standard_normal(50) + 2, rng.integers(0, 3, 50).astype(float)
    first, second = patch_moments(blank(layout), RowBlocks(X, y, weight))
    share = weight / weight.sum()
    centred, target = X.astype(float) - share @ X, y - share @ y
    places = [(i, j) for i in (0, 2) for j in range(5)]
    assert len(first) == len(second) == len(places)
    for p, (i, j) in enumerate(places):
        patch = centred.reshape(50, 5, 6)[:, i : i + 3, j : j + 2].reshape(50, 6)
        expected = sum(weight[n] * target[n] * patch[n] for n in range(50))
        products = sum(
            weight[n] * target[n] * np.outer(patch[n], patch[n]) for n in range(50)
        )
        size = np.abs(products).max()
        tolerance = 1e-12 if dtype == np.float64 else 1e-5
        np.testing.assert_allclose(first[p], expected, atol=tolerance * size)
        np.testing.assert_allclose(second[p], products, atol=tolerance * size)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_kernels_begin_in_the_span_of_planted_ones_without_overlap(activation):
    rng = np.random.default_rng(1)
    layout = make_layout(32, (8, 4))
    planted = blank(layout, activations=(activation, "identity"))
    planted = planted._replace(
        kernels=tuple(rng.standard_normal(k.shape) for k in planted.kernels),
        heads=rng.standard_normal(planted.heads.shape),
        biases=(rng.standard_normal(4),),
    )
    X = rng.standard_normal((100_000, 32))
    rows = RowBlocks(X, forward(planted, X), np.ones(len(X)))
    start = start_of_both_moments(planted, rows, np.random.RandomState(0))
    assert not np.any(start.heads)
    for leading in start.kernels[0][[0, 2]]:
        (angle,) = subspace_angles(leading[:, np.newaxis], planted.kernels[0].T)
        assert np.rad2deg(angle) < 12
    z = X[:1000, :8] @ start.kernels[0].T
    if activation == "tanh":
        np.testing.assert_allclose(np.mean(z**2, axis=0), 1, rtol=0.2)


def test_mixtures_of_many_outputs_have_the_products_of_all_outputs_in_the_mean():
    rng = np.random.default_rng(0)
    network = blank(make_layout(8, (4, -1)))
    X, y = rng.standard_normal((60, 8)), rng.standard_normal((60, 15))
    weight = np.ones(60)
    by_output = [patch_moments(network, RowBlocks(X, column, weight)) for column in y.T]
    exact = [np.concatenate(parts) for parts in zip(*by_output, strict=True)]
    mixtures = np.random.RandomState(0)
    drawn = [
        all_patch_moments(network, RowBlocks(X, y, weight), mixtures)
        for _ in range(200)
    ]
    assert len(drawn[0][0]) == 2 * 10
    for all_drawn, moment in zip(zip(*drawn, strict=True), exact, strict=True):
        products = np.mean([_gram(m) for m in all_drawn], axis=0) / 10
        assert np.abs(products - _gram(moment)).max() < 0.1 * _gram(moment).max()


def _gram(moment):
    flat = moment.reshape(-1, moment.shape[-1])
    return flat.T @ flat


def test_more_filters_than_directions_are_drawn():
    rng = np.random.default_rng(2)
    layout = make_layout(12, (3, -1), strides=1)
    X, y = rng.standard_normal((40, 12)), rng.standard_normal((40, 1))
    rows = RowBlocks(X, y, np.ones(40))
    network = blank(layout, n_filters=11)
    starts = [
        start_of_both_moments(network, rows, np.random.RandomState(seed))
        for seed in (0, 0, 1)
    ]
    kernels = starts[0].kernels[0]
    np.testing.assert_allclose(np.linalg.norm(kernels, axis=1), 1)
    cosines = np.abs(kernels @ kernels.T)[~np.eye(11, dtype=bool)].reshape(11, 10)
    assert np.all(np.sort(cosines[:6], axis=1)[:, -1] < 1 - 1e-6)
    np.testing.assert_array_equal(starts[1].kernels[0], kernels)
    assert np.any(starts[2].biases[0] != starts[0].biases[0])


def test_it_serves_one_hidden_layer_with_biases_only():
    layout = make_layout(12, (3, -1), strides=1)
    assert supports_second_moment(blank(layout))
    others = [
        blank(layout, hidden_bias=False),
        blank(layout, n_filters=1),
        blank(layout, activations=("identity", "identity")),
        blank(layout, activations=("relu", "relu")),
        blank(make_layout(12, (2, 2, 3)), activations=("relu", "relu", "identity")),
    ]
    assert not any(map(supports_second_moment, others))


def linear_rows(n_rows=200, size=1.0):
    """Rows of 12 features with a target that is linear in the first of 4 patches."""
    rng = np.random.default_rng(3)
    X = size * rng.standard_normal((n_rows, 12))
    return RowBlocks(X, X[:, :1], rng.uniform(0.5, 2, n_rows))


def test_kernels_have_both_signs():
    network, signs = blank(make_layout(12, (3, -1)), n_filters=2), []
    for seed in range(20):
        rng = np.random.RandomState(seed)
        kernels, _, _ = moment_filters(network, linear_rows(), rng)
        signs.append(np.sign(kernels[0, 0]))
    assert set(signs) == {-1.0, 1.0}


@pytest.mark.parametrize("size", [1.0, 1e-3])
def test_the_size_of_filters_is_that_of_their_pre_activations(size):
    network, rows = blank(make_layout(12, (3, -1)), n_filters=3), linear_rows(size=size)
    kernels, root, biases = moment_filters(network, rows, np.random.RandomState(0))
    z = rows.X.reshape(-1, 4, 3) @ kernels.T
    expected = np.average(np.mean(z**2, axis=1), axis=0, weights=rows.weight)
    np.testing.assert_allclose(root, np.sqrt(expected), rtol=1e-10)
    again = moment_filters(network, linear_rows(), np.random.RandomState(0))[2]
    np.testing.assert_allclose(biases, again)


def test_biases_are_in_units_of_the_pre_activations():
    for activation in ("relu", "tanh"):
        network = blank(make_layout(12, (3, -1)), 2, (activation, "identity"))
        small, large = (
            start_of_both_moments(
                network, linear_rows(size=s), np.random.RandomState(0)
            )
            for s in (1.0, 100.0)
        )
        factor = 100 if activation == "relu" else 1
        np.testing.assert_allclose(large.biases[0], factor * small.biases[0])
        ratio = large.kernels[0] / small.kernels[0]
        np.testing.assert_allclose(ratio, 1 if activation == "relu" else 0.01)


def test_half_of_the_kernels_are_leading_directions_of_each_moment():
    directions = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    first = np.array([[3.0], [2.0], [0.5]]) * directions[:3]
    second = sum(
        size * np.outer(v, v)
        for size, v in zip([5, -4, 1], directions[3:], strict=True)
    )[np.newaxis]
    found = leading_kernels(1e5 * first, second, 5, np.random.RandomState(0))
    wanted = directions[[0, 1, 2, 3, 4]]
    np.testing.assert_allclose(np.abs(np.sum(found * wanted, axis=1)), 1, atol=1e-9)


def test_directions_of_rounding_errors_are_drawn_instead():
    rng = np.random.default_rng(1)
    direction = rng.standard_normal(5)
    first = np.outer(rng.standard_normal(3), direction)
    first += 1e-13 * rng.standard_normal(first.shape)
    kernels = [
        leading_kernels(first, np.zeros((3, 5, 5)), 4, np.random.RandomState(seed))
        for seed in (0, 1)
    ]
    cosines = np.abs(np.sum(kernels[0] * kernels[1], axis=1))
    assert cosines[0] > 1 - 1e-12
    assert np.all(cosines[1:] < 1 - 1e-3)
    np.testing.assert_allclose(kernels[0][1] @ direction, 0, atol=1e-12)


def test_moments_that_overflow_are_refused():
    rows, network = linear_rows(size=1e160), blank(make_layout(12, (3, -1)))
    with pytest.raises(FloatingPointError, match="second moment of X and y overflows"):
        start_of_both_moments(network, rows, np.random.RandomState(0))


@pytest.mark.parametrize("n", [1, 3, 6, 9])
def test_leading_directions_are_eigenvectors_and_then_drawn(n):
    """Two eigenvalues of six are rounding errors; signs are those of large entries."""
    q = np.linalg.qr(np.random.default_rng(0).standard_normal((6, 6)))[0]
    gram = (q * [5, 3, 2, 1, 1e-16, 0]) @ q.T
    found = leading_directions(gram, n, np.random.RandomState(0))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    for direction, expected in zip(found[:4], q.T, strict=False):
        np.testing.assert_allclose(abs(direction @ expected), 1)
        assert direction[np.abs(direction).argmax()] > 0
    np.testing.assert_allclose(found[4:] @ q[:, :4], 0, atol=1e-8)
    again = leading_directions(gram, n, np.random.RandomState(1))
    same = np.isclose(found, again).all(axis=1)
    assert list(same) == [True] * min(n, 4) + [False] * max(0, n - 4)


def test_directions_beyond_a_full_rank_are_drawn_in_all_dimensions():
    found = leading_directions(np.diag([3.0, 2, 1]), 200, np.random.RandomState(0))
    drawn = found[3:]
    np.testing.assert_allclose(np.mean(drawn**2, axis=0), 1 / 3, atol=0.06)
    nothing = leading_directions(np.zeros((3, 3)), 200, np.random.RandomState(0))
    np.testing.assert_allclose(np.mean(nothing**2, axis=0), 1 / 3, atol=0.06)
