"""The hidden weights as an array, their penalty, and the weights as stored."""

import functools

import numpy as np
import pytest

from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward
from skdeeptd._network.parameters import (
    last_kernel_and_scale,
    layer_of_weight,
    normalize,
    pack,
    penalty,
    split_gains,
    stored_jacobian,
    stored_weights,
    tangent,
    unpack,
)

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


def random_network(
    activations, n_filters=3, hidden_bias=True, seed=0, sizes=(4, 3, 2), n_heads=2
):
    layout = make_layout(int(np.prod(sizes)), sizes)
    blank = blank_network(layout, n_filters, activations, hidden_bias, n_heads)
    rng = np.random.default_rng(seed)
    return unpack(rng.standard_normal(pack(blank).shape), blank)._replace(
        heads=rng.standard_normal(blank.heads.shape),
        intercept=rng.standard_normal(n_heads),
    )


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
    assert theta.shape == (3, network.n_hidden_weights)
    again = unpack(theta, network)
    for mine, its in [
        *zip(network.kernels, again.kernels, strict=True),
        *zip(network.biases, again.biases, strict=True),
        (network.heads, again.heads),
        (network.intercept, again.intercept),
    ]:
        np.testing.assert_array_equal(mine, its)
    np.testing.assert_array_equal(pack(again), theta)


def test_theta_holds_kernels_and_biases_of_a_filter_after_each_other():
    network = random_network(("tanh", "tanh", "identity"), n_filters=2)
    for r, part in enumerate(pack(network)):
        kernels, biases = ([a[r] for a in w] for w in (network.kernels, network.biases))
        np.testing.assert_array_equal(part, np.concatenate([*kernels, biases]))
    np.testing.assert_array_equal(layer_of_weight(network), [0] * 4 + [1] * 3 + [2, 3])


def test_a_network_without_hidden_layer_has_no_hidden_weights():
    network = random_network(("identity",), sizes=(24,))
    assert pack(network).shape == (1, 0)
    assert len(layer_of_weight(network)) == 0
    assert tangent(network).size == 0
    assert unpack(pack(network), network).kernels == ()


@pytest.mark.parametrize("change", [lambda network: network, with_zeros])
@with_or_without_bias
@by_activations
def test_normalize_and_split_gains_keep_the_function(activations, hidden_bias, change):
    network = change(random_network(activations, hidden_bias=hidden_bias))
    X = features()
    expected = forward(network, X)
    np.testing.assert_allclose(forward(normalize(network), X), expected, rtol=1e-11)
    split, gains = split_gains(network)
    kernels = zip(split.kernels, gains.T, strict=True)
    rebuilt = split._replace(kernels=tuple(k * g[:, None] for k, g in kernels))
    np.testing.assert_allclose(forward(rebuilt, X), expected, rtol=1e-11)
    unit, size = last_kernel_and_scale(split)
    rebuilt = rebuilt._replace(heads=unit * size[:, :, np.newaxis])
    np.testing.assert_allclose(forward(rebuilt, X), expected, rtol=1e-11)


@by_activations
def test_normalize_moves_norms_as_far_as_they_go(activations):
    network = normalize(random_network(activations))
    split, gains = split_gains(network)
    layers = zip(network.kernels, network.activations, strict=True)
    for number, (k, name) in enumerate(layers):
        norms = np.linalg.norm(k, axis=1)
        is_unit = np.allclose(norms, 1, rtol=1e-14)
        assert is_unit == ACTIVATIONS[name].homogeneous
        np.testing.assert_allclose(np.linalg.norm(split.kernels[number], axis=1), 1)
        np.testing.assert_allclose(gains[:, number], norms, rtol=1e-14)


def test_kernels_of_zeros_stay_so():
    network = with_zeros(random_network(("relu", "tanh", "identity")))
    split, gains = split_gains(network)
    for zeros in (normalize(network).kernels[0], split.kernels[0]):
        np.testing.assert_array_equal(zeros[0], 0)
    np.testing.assert_array_equal(split.kernels[1][1], 0)
    np.testing.assert_array_equal(gains[:, 0], 1)
    assert gains[1, 1] == 0
    assert np.all(gains[[0, 2], 1] > 0)


def test_a_zero_head_has_a_zero_last_kernel():
    network = random_network(("relu", "tanh", "identity"))
    network.heads[1, 2] = 0
    unit, size = last_kernel_and_scale(network)
    assert size[1, 2] == 0
    np.testing.assert_array_equal(unit[1, 2], 0)
    np.testing.assert_allclose(np.linalg.norm(unit[0], axis=1), 1)


def outer_product(weights, sizes):
    """k_D-1 o ... o k_1 of one filter, all its entries."""
    kernels = np.split(weights, np.cumsum(sizes)[:-1])
    return functools.reduce(np.multiply.outer, reversed(kernels)).ravel()


@pytest.mark.parametrize("change", [lambda network: network, with_zeros])
@pytest.mark.parametrize("sizes", [(24, 2), (4, 6, 1), (4, 3, 2), (3, 2, 2, 2)])
@with_or_without_bias
def test_penalty_is_that_of_outer_products(sizes, hidden_bias, change):
    activations = ("tanh",) * (len(sizes) - 1) + ("identity",)
    network = random_network(activations, hidden_bias=hidden_bias, sizes=sizes)
    network = change(network) if len(sizes) > 2 else network
    curvature, slope, norms = penalty(network)
    n_weights, width = sum(sizes[:-1]), network.n_hidden_weights
    assert curvature.shape == (3, width, width)
    for r, theta in enumerate(pack(network)):

        def product(weights):
            return outer_product(weights, sizes[:-1])

        weights = theta[:n_weights]
        J, W = derivative_of(product, weights, step=0.5), product(weights)
        expected = np.zeros((width, width))
        expected[:n_weights, :n_weights] = J.T @ J
        np.testing.assert_allclose(curvature[r], expected, rtol=1e-10, atol=1e-12)
        expected = np.append(J.T @ W, np.zeros(width - n_weights))
        np.testing.assert_allclose(slope[r], expected, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(norms[r], W @ W, rtol=1e-12)


@pytest.mark.parametrize("n_heads", [1, 3])
def test_norms_times_those_of_the_heads_are_those_of_all_weights(n_heads):
    network = random_network(("relu", "tanh", "identity"), n_heads=n_heads)
    sizes = network.sizes
    expected = 0.0
    for o, r in np.ndindex(n_heads, 3):
        weights = np.concatenate(
            [*(k[r] for k in network.kernels), network.heads[o, r]]
        )
        expected += np.sum(outer_product(weights, sizes) ** 2)
    found = np.sum(penalty(network)[2] * np.sum(network.heads**2, axis=2))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@with_or_without_bias
@by_activations
def test_tangent_is_the_projection_on_moves_that_keep_norms(activations, hidden_bias):
    network = normalize(random_network(activations, hidden_bias=hidden_bias))
    P = tangent(network)
    theta = pack(network)
    np.testing.assert_allclose(P, P.T, atol=1e-14)
    np.testing.assert_allclose(P @ P, P, atol=1e-13)

    def norms(theta):
        kernels = unpack(theta.reshape(pack(network).shape), network).kernels
        layers = zip(kernels, network.activations, strict=True)
        return np.concatenate(
            [np.linalg.norm(k, axis=1) for k, a in layers if ACTIVATIONS[a].homogeneous]
            or [np.zeros(1)]
        )

    by_theta = derivative_of(norms, theta.ravel())
    np.testing.assert_allclose(by_theta @ P, 0, atol=1e-9)
    n_held = 3 * sum(ACTIVATIONS[a].homogeneous for a in network.activations)
    np.testing.assert_allclose(np.trace(P), theta.size - n_held, rtol=1e-12)


def test_tangent_leaves_a_kernel_of_zeros_free():
    network = normalize(with_zeros(random_network(("relu", "relu", "identity"))))
    P = tangent(network).reshape(3, 9, 3, 9)
    np.testing.assert_array_equal(P[0, :4, 0, :4], np.eye(4))
    assert np.trace(P[0, 4:7, 0, 4:7]) < 2.001


def stored(network, has_linear_end):
    """The stored weights of output 0: per filter kernels, scale, biases; intercept."""
    network = normalize(network)
    unit, size = last_kernel_and_scale(network)
    parts = []
    for r in range(network.n_filters):
        parts += [k[r] for k in network.kernels]
        parts += [unit[0, r], size[0, [r]]] if has_linear_end else [network.heads[0, r]]
        parts += [b[[r]] for b in network.biases]
    return np.concatenate([*parts, network.intercept])


def network_of_stored(weights, like, has_linear_end):
    """The network whose output is that of the stored weights, whatever their norms."""
    kernels, heads, biases = [], [], []
    P = like.sizes[-1]
    by_filter = weights[:-1].reshape(like.n_filters, -1)
    for part in by_filter:
        *of_layers, rest = np.split(part, np.cumsum(like.sizes[:-1]))
        kernels.append(of_layers)
        heads.append(rest[:P] * rest[P] if has_linear_end else rest[:1])
        biases.append(rest[len(rest) - len(like.biases) :])
    return like._replace(
        kernels=tuple(np.array(k) for k in zip(*kernels, strict=True)),
        heads=np.array([heads]),
        biases=tuple(np.array(biases).T) if like.biases else (),
        intercept=weights[-1:],
    )


@with_or_without_bias
@by_activations
def test_stored_jacobian_is_the_limit_of_differences(activations, hidden_bias):
    network = random_network(activations, hidden_bias=hidden_bias, n_heads=1)
    is_linear, X = activations[-1] == "identity", features()
    weights = stored(network, is_linear)

    def outputs(weights):
        return forward(network_of_stored(weights, network, is_linear), X)[:, 0]

    np.testing.assert_allclose(outputs(weights), forward(network, X)[:, 0], rtol=1e-11)
    expected = derivative_of(outputs, weights)
    found = stored_jacobian(network, is_linear, X)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-7)


@with_or_without_bias
@by_activations
def test_stored_weights_are_the_derivatives_by_theta_and_head(activations, hidden_bias):
    network = random_network(activations, hidden_bias=hidden_bias, n_heads=1)
    network, is_linear = normalize(network), activations[-1] == "identity"
    theta = pack(network)

    def weights_at(both):
        moved = unpack(both[: theta.size].reshape(theta.shape), network)
        heads = both[theta.size :].reshape(network.heads.shape)
        return stored(moved._replace(heads=heads), is_linear)[:-1]

    both = np.concatenate([theta.ravel(), network.heads.ravel()])
    kept = np.eye(len(both))  # stored_weights takes moves that keep norms
    kept[: theta.size, : theta.size] = tangent(network)
    found = stored_weights(network, is_linear) @ kept
    expected = derivative_of(weights_at, both) @ kept
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)


def test_stored_weights_of_a_zero_head_are_finite():
    network = normalize(random_network(("relu", "relu", "identity"), n_heads=1))
    network.heads[0, 1] = 0
    assert np.all(np.isfinite(stored_weights(network, True)))


@pytest.mark.parametrize("scale", [1e200, 1e-170])
def test_scales_whose_squares_leave_the_range_are_stored(scale):
    layout = make_layout(3, (1, 3))
    network = blank_network(layout, 1, ("relu", "identity"))
    network = network._replace(heads=scale * np.array([[[3.0, 0.0, -4.0]]]))
    unit, size = last_kernel_and_scale(network)
    np.testing.assert_allclose(size, [[5 * scale]], rtol=1e-14)
    np.testing.assert_allclose(unit, [[[0.6, 0.0, -0.8]]], rtol=1e-14)
