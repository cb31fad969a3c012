import functools

import numpy as np
import pytest
from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._model.network import blank_network, forward, jacobian
from skdeeptd._model.parameters import (
    add_per_filter,
    gauge,
    kernel_slices,
    n_parameters,
    normalize,
    owners,
    pack,
    penalty,
    split_gains,
    units,
    unpack,
    with_unit_kernels,
)

from skdeeptd._network.kernel_sizes import make_layout

ACTIVATION_TRIPLES = [
    ("relu", "leaky_relu", "identity"),
    ("relu", "tanh", "identity"),
    ("softplus", "relu", "logistic"),
    ("tanh", "logistic", "softplus"),
]
by_activations = pytest.mark.parametrize(
    "activations", ACTIVATION_TRIPLES, ids="-".join
)
with_or_without_bias = pytest.mark.parametrize("hidden_bias", [False, True])


def random_network(activations, n_filters=3, hidden_bias=True, seed=0, sizes=(4, 3, 2)):
    layout = make_layout(int(np.prod(sizes)), sizes)
    blank = blank_network(layout, n_filters, activations, hidden_bias)
    rng = np.random.default_rng(seed)
    return unpack(rng.standard_normal(n_parameters(blank)), blank)


def with_zeros(network):
    """Filter 0 has a first kernel of zeros, filter 1 a second one."""
    kernels = [k.copy() for k in network.kernels]
    kernels[0][0] = kernels[1][1] = 0
    return network._replace(kernels=tuple(kernels))


def features(n_rows=20):
    return np.random.default_rng(9).standard_normal((n_rows, 24))


def derivative_of(function, theta, step=1e-6):
    """By central differences, (values, parameters)."""
    columns = [
        (function(theta + shift) - function(theta - shift)) / (2 * step)
        for shift in step * np.eye(len(theta))
    ]
    return np.stack(columns, axis=-1)


@with_or_without_bias
@by_activations
def test_unpack_undoes_pack(activations, hidden_bias):
    network = random_network(activations, hidden_bias=hidden_bias)
    theta = pack(network)
    assert theta.shape == (n_parameters(network),)
    again = unpack(theta, network)
    for mine, its in [
        *zip(network.kernels, again.kernels, strict=True),
        *zip(network.biases, again.biases, strict=True),
        (network.scales, again.scales),
        (network.intercept, again.intercept),
    ]:
        np.testing.assert_array_equal(mine, its)
    np.testing.assert_array_equal(pack(again), theta)


def test_theta_holds_a_filter_after_the_other_and_the_intercept():
    network = random_network(("tanh",) * 3, n_filters=2)
    first, second, [intercept] = np.split(pack(network), [12, 24])
    for r, part in enumerate([first, second]):
        kernels = [k[r] for k in network.kernels]
        biases = [b[r] for b in network.biases]
        expected = np.concatenate([*kernels, [network.scales[r]], biases])
        np.testing.assert_array_equal(part, expected)
        for number, at in enumerate(kernel_slices(network)):
            np.testing.assert_array_equal(part[at], kernels[number])
    assert intercept == network.intercept
    np.testing.assert_array_equal(owners(network), [0] * 4 + [1] * 3 + [2, 2, 3, 4, 5])


def test_only_scales_and_the_intercept_have_the_unit_of_y():
    network = random_network(("tanh",) * 3, n_filters=2)
    unit = unpack(units(network, 2.5), network)
    for weights in (*unit.kernels, *unit.biases):
        np.testing.assert_array_equal(weights, 1)
    np.testing.assert_array_equal(unit.scales, 2.5)
    assert unit.intercept == 2.5


@pytest.mark.parametrize("change", [lambda network: network, with_zeros])
@with_or_without_bias
@by_activations
def test_normalize_and_split_gains_keep_the_function(activations, hidden_bias, change):
    network = change(random_network(activations, hidden_bias=hidden_bias))
    X = features()
    expected = forward(network, X)
    np.testing.assert_allclose(forward(normalize(network), X), expected, rtol=1e-11)
    kernels, gains, scales, biases = split_gains(network)
    rebuilt = network._replace(
        kernels=tuple(k * g[:, None] for k, g in zip(kernels, gains.T, strict=True)),
        scales=scales,
        biases=tuple(biases.T),
    )
    assert biases.shape == (3, len(network.biases))
    np.testing.assert_allclose(forward(rebuilt, X), expected, rtol=1e-11)


@by_activations
def test_normalize_moves_norms_as_far_as_they_go(activations):
    network = normalize(random_network(activations))
    split = split_gains(network)
    for number, name in enumerate(activations):
        norms = np.linalg.norm(network.kernels[number], axis=1)
        is_unit = np.allclose(norms, 1, rtol=1e-14)
        assert is_unit == ACTIVATIONS[name].homogeneous
        np.testing.assert_allclose(np.linalg.norm(split[0][number], axis=1), 1)
        np.testing.assert_allclose(split[1][:, number], norms, rtol=1e-14)


def test_kernels_of_zeros_stay_so():
    network = with_zeros(random_network(("relu", "tanh", "identity")))
    kernels, gains, _, _ = split_gains(network)
    for of_zeros in (normalize(network).kernels[0][0], kernels[0][0], kernels[1][1]):
        np.testing.assert_array_equal(of_zeros, 0)
    np.testing.assert_array_equal(gains[:, 0], 1)
    assert gains[1, 1] == 0
    assert np.all(gains[[0, 2], 1] > 0)


def outer_product(weights, sizes):
    """W of one filter: scale k_D o ... o k_1, all its entries."""
    *kernels, scale = np.split(weights, np.cumsum(sizes))
    return functools.reduce(np.multiply.outer, reversed(kernels), scale[0]).ravel()


@pytest.mark.parametrize("change", [lambda network: network, with_zeros])
@pytest.mark.parametrize("sizes", [(24,), (4, 6), (4, 3, 2), (3, 2, 2, 2)])
@with_or_without_bias
def test_penalty_is_that_of_outer_products(sizes, hidden_bias, change):
    network = random_network(
        ("relu",) * len(sizes), hidden_bias=hidden_bias, sizes=sizes
    )
    network = change(network) if len(sizes) > 1 else network
    curvature, slope, value = penalty(network)
    by_filter = pack(network)[:-1].reshape(3, -1)
    n_weights, width = sum(sizes) + 1, by_filter.shape[1]
    assert curvature.shape == (3, width, width)
    squares = 0.0
    for r, theta in enumerate(by_filter):

        def tensor(weights):
            return outer_product(weights, sizes)

        weights = theta[:n_weights]
        J, W = derivative_of(tensor, weights, step=0.5), tensor(weights)
        expected = np.zeros((width, width))
        expected[:n_weights, :n_weights] = J.T @ J
        np.testing.assert_allclose(curvature[r], expected, rtol=1e-10, atol=1e-12)
        expected = np.append(J.T @ W, np.zeros(width - n_weights))
        np.testing.assert_allclose(slope[r], expected, rtol=1e-10, atol=1e-12)
        squares += W @ W
    np.testing.assert_allclose(value, squares, rtol=1e-12)


def test_slope_is_half_the_gradient_of_the_value():
    network = random_network(("relu", "tanh", "identity"))

    def value(theta):
        return penalty(unpack(theta, network)).value

    gradient = derivative_of(value, pack(network))
    slope = np.append(penalty(network).slope, 0)
    np.testing.assert_allclose(slope, gradient / 2, rtol=1e-6, atol=1e-7)


def test_blocks_are_added_to_their_filters_only():
    rng = np.random.default_rng(0)
    hessian, blocks = rng.standard_normal((6, 6)), rng.standard_normal((3, 2, 2))
    expected = hessian.copy()
    for r, block in enumerate(blocks):
        expected[2 * r : 2 * r + 2, 2 * r : 2 * r + 2] += block
    add_per_filter(hessian, blocks)
    np.testing.assert_array_equal(hessian, expected)


@pytest.mark.parametrize("change", [lambda network: network, with_zeros])
@with_or_without_bias
@by_activations
def test_moves_leave_the_function_as_it_is_to_first_order(
    activations, hidden_bias, change
):
    network = change(random_network(activations, hidden_bias=hidden_bias))
    moves, _ = gauge(network)
    n_homogeneous = sum(ACTIVATIONS[name].homogeneous for name in activations)
    assert moves.shape == (3, n_homogeneous, len(pack(network)) // 3)
    X, step = features(), 1e-6
    by_filter = jacobian(network, X)[:, :-2].reshape(len(X), 3, -1)
    size = np.abs(by_filter).max()
    theta = pack(network)
    for r, layer in np.ndindex(*moves.shape[:2]):
        move = np.zeros_like(theta)
        move[:-1].reshape(3, -1)[r] = moves[r, layer]
        assert np.any(move)
        assert np.abs(by_filter[:, r] @ moves[r, layer]).max() < 1e-13 * size
        above, below = (
            forward(unpack(theta + s * move, network), X) for s in (step, -step)
        )
        np.testing.assert_allclose(above, below, rtol=0, atol=1e-9)


@by_activations
def test_norms_are_half_the_derivatives_of_the_squared_ones(activations):
    network = random_network(activations)
    norms = gauge(network).norms
    homogeneous = [n for n, a in enumerate(activations) if ACTIVATIONS[a].homogeneous]
    assert norms.shape[:2] == (3, len(homogeneous))
    for layer, number in enumerate(homogeneous):

        def half_squares(theta, number=number):
            kernel = unpack(theta, network).kernels[number]
            return np.sum(kernel**2, axis=1) / 2

        by_theta = derivative_of(half_squares, pack(network))[:, :-1]
        for r, of_filter in enumerate(by_theta.reshape(3, 3, -1)):
            np.testing.assert_allclose(norms[r, layer], of_filter[r], atol=1e-8)


@with_or_without_bias
@by_activations
def test_covariance_is_that_after_normalize(activations, hidden_bias):
    network = normalize(random_network(activations, hidden_bias=hidden_bias))
    theta = pack(network)
    A = np.random.default_rng(1).standard_normal((len(theta), len(theta)))
    covariance, kept = A @ A.T, A @ A.T

    def normalized(theta):
        return pack(normalize(unpack(theta, network)))

    P = derivative_of(normalized, theta)
    result = with_unit_kernels(covariance, network)
    size = np.abs(covariance).max()
    np.testing.assert_allclose(result, P @ covariance @ P.T, rtol=0, atol=1e-7 * size)
    np.testing.assert_array_equal(covariance, kept)


def test_covariance_of_a_kernel_of_zeros_is_left_as_it_is():
    network = random_network(("relu", "relu", "identity"), n_filters=2)
    network.kernels[0][0] = 0
    network = normalize(network)
    covariance = np.diag(np.arange(1.0, n_parameters(network) + 1))
    result = with_unit_kernels(covariance, network)
    assert np.all(np.isfinite(result))
    np.testing.assert_array_equal(result[:4, :4], covariance[:4, :4])
    second, k = kernel_slices(network)[1], network.kernels[1][0]
    np.testing.assert_allclose(result[second, second] @ k, 0, atol=1e-12)
