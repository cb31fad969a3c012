import numpy as np
import pytest
from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._model.network import (
    PatchCNN,
    alike,
    blank_network,
    forward,
    input_gradient,
    jacobian,
    layers_forward,
    patch_order,
)
from skdeeptd._model.parameters import pack, unpack

from skdeeptd._data.scratch import reusing
from skdeeptd._network.kernel_sizes import make_layout

PHI = {
    "relu": lambda z: max(z, 0.0),
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "identity": lambda z: z,
    "tanh": np.tanh,
    "softplus": lambda z: np.log1p(np.exp(z)),
    "logistic": lambda z: 1 / (1 + np.exp(-z)),
}
LAYOUTS = {
    "one axis": make_layout(24, (4, 3, 2)),
    "two axes": make_layout(24, ((2, 3), (2, 1), (1, 2)), (4, 6)),
    "one layer": make_layout(7, (7,)),
    "kernels of one weight": make_layout(12, (1, 4, 1, 3)),
    "padded": make_layout(10, (4, 3)),
    "two padded axes": make_layout(15, ((2, 2), (2, 3)), (3, 5)),
    "overlap": make_layout(14, (4, -1), strides=2),
    "overlap in two layers": make_layout(20, (4, 3, -1), strides=(2, 1)),
    "overlap above tiles": make_layout(24, (4, 3, -1), strides=(4, 1)),
    "overlap below tiles": make_layout(17, (3, 4, -1), strides=(1, 4)),
    "overlap on two axes": make_layout(30, ((3, 2), -1), (5, 6), strides=((2, 1),)),
    "overlap of channels": make_layout(30, ((4, 3), (2, 1), -1), (10, 3), 2),
}


def random_network(layout, activation, n_filters=3, seed=0, hidden_bias=True):
    """A network of one activation, or of a sequence of them, and rows for it."""
    rng = np.random.default_rng(seed)
    if isinstance(activation, str):
        activation = (activation,) * len(layout.sizes)
    blank = blank_network(layout, n_filters, activation, hidden_bias)
    network = unpack(rng.standard_normal(len(pack(blank))), blank)
    return network, rng.standard_normal((6, int(np.prod(layout.input_shape))))


def output_by_loops(network, layout, sample):
    """The definition: kernels slide over patches of an array of several axes."""
    n_filters, n_layers = len(network.scales), len(layout.kernel_shapes)
    biases = [
        *network.biases,
        *[np.zeros(n_filters)] * (n_layers - len(network.biases)),
    ]
    total = network.intercept
    for r, scale in enumerate(network.scales):
        shapes = [(*s, 1, 1, 1)[: sample.ndim] for s in layout.kernel_shapes]
        steps = [(*s, 1, 1, 1)[: sample.ndim] for s in layout.steps] + [shapes[-1]]
        covered = np.ones(sample.ndim, dtype=int)
        for shape, step in zip(shapes[::-1], steps[::-1], strict=True):
            covered = (covered - 1) * step + shape
        missing = zip(covered, sample.shape, strict=True)
        h = np.pad(sample, [(0, c - n) for c, n in missing])
        for k, b, shape, step, name in zip(
            network.kernels, biases, shapes, steps, network.activations, strict=True
        ):
            out = np.empty((np.array(h.shape) - shape) // step + 1)
            for position in np.ndindex(*out.shape):
                z = b[r]
                for i, at in enumerate(np.ndindex(*shape)):
                    place = tuple(np.multiply(position, step) + at)
                    z += k[r, i] * h[place]
                out[position] = PHI[name](z)
            h = out
        total += scale * h.item()
    return total


def one_filter(network, r):
    return network._replace(
        kernels=tuple(k[[r]] for k in network.kernels),
        scales=network.scales[[r]],
        biases=tuple(b[[r]] for b in network.biases),
        intercept=0.0,
    )


@pytest.mark.parametrize("hidden_bias", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_forward_equals_explicit_loops(layout, name, hidden_bias):
    network, X = random_network(layout, name, hidden_bias=hidden_bias)
    samples = X.reshape(-1, *layout.input_shape)
    expected = [output_by_loops(network, layout, x) for x in samples]
    np.testing.assert_allclose(forward(network, X), expected, rtol=1e-11, atol=1e-12)


def test_activations_differ_from_layer_to_layer():
    layout = LAYOUTS["one axis"]
    network, X = random_network(layout, ("tanh", "relu", "logistic"))
    expected = [output_by_loops(network, layout, x) for x in X]
    np.testing.assert_allclose(forward(network, X), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_float32_stays_float32_and_close(layout, name):
    network, X = random_network(layout, name)
    network, X = network.astype(np.float32), X.astype(np.float32)
    exact = network.astype(float), X.astype(float)
    for function in (forward, jacobian):
        result, expected = function(network, X), function(*exact)
        assert result.dtype == np.float32
        size = np.maximum(np.abs(expected).max(axis=0), 0.01)  # saturated gains
        assert np.all(np.abs(result - expected) <= 1e-4 * size)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_jacobian_is_the_limit_of_differences(layout, name):
    network, X = random_network(layout, name, n_filters=2)
    table = jacobian(network, X)
    output, by_theta = table[:, -1], table[:, :-1]
    np.testing.assert_allclose(output, forward(network, X), rtol=1e-13)
    theta, step = pack(network), 1e-6
    assert by_theta.shape == (len(X), len(theta))
    for i, column in enumerate(by_theta.T):
        shift = step * np.eye(1, len(theta), i)[0]
        above = forward(unpack(theta + shift, network), X)
        below = forward(unpack(theta - shift, network), X)
        difference = (above - below) / (2 * step)
        np.testing.assert_allclose(column, difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_jacobian_holds_that_of_each_filter(layout):
    network, X = random_network(layout, "softplus")
    n_filters = len(network.scales)
    table = jacobian(network, X)
    alone = [jacobian(one_filter(network, r), X) for r in range(n_filters)]
    by_filter = np.hstack([a[:, :-2] for a in alone])
    np.testing.assert_allclose(table[:, :-2], by_filter, rtol=1e-12)
    np.testing.assert_array_equal(table[:, -2], 1)
    total = network.intercept + sum(a[:, -1] for a in alone)
    np.testing.assert_allclose(table[:, -1], total, rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_input_gradient_is_the_mean_of_differences(layout, name):
    network, X = random_network(layout, name)
    gradient, step = input_gradient(network, X), 1e-6
    shifts = step * np.eye(X.shape[1])
    differences = [
        np.mean(forward(network, X + s) - forward(network, X - s)) / (2 * step)
        for s in shifts
    ]
    np.testing.assert_allclose(gradient, differences, rtol=1e-6, atol=1e-8)


def test_large_blocks_use_the_memory_of_the_ones_before():
    network, X = random_network(LAYOUTS["two padded axes"], "tanh")
    X = np.random.default_rng(0).standard_normal((5000, X.shape[1]))
    first = forward(network, X), jacobian(network, X), input_gradient(network, X)
    with reusing():
        forward(network, X[::-1] * 2)
        jacobian(network, X[::-1] * 2)
        again = forward(network, X), jacobian(network, X), input_gradient(network, X)
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_filters_whose_sum_alone_overflows_have_an_output():
    layout = make_layout(7, (7,))
    network = blank_network(layout, 3, ("identity",), False)
    ones, scales = np.full((3, 7), 7**-0.5), np.array([1e-38, 1e-38, -1e-38])
    network = network._replace(kernels=(ones,), scales=scales).astype(np.float32)
    X = np.full((2, 7), 6e37, np.float32)
    expected = 1e-38 * 7**0.5 * 6e37
    np.testing.assert_allclose(forward(network, X), expected, rtol=1e-4)


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_become_nan_and_the_others_stay(bad, name):
    network, X = random_network(LAYOUTS["two axes"], name)
    expected = forward(network, X)
    X[2, 5] = bad
    output = forward(network, X)
    assert np.isnan(output[2])
    rest = np.arange(len(X)) != 2
    np.testing.assert_array_equal(output[rest], expected[rest])


def test_patch_order_leaves_X_and_its_own_order_alone():
    padded, X = random_network(LAYOUTS["two padded axes"], "relu")
    kept = X.copy()
    ordered = patch_order(padded, X)
    np.testing.assert_array_equal(X, kept)
    for column, feature in zip(ordered.T, padded.order(0), strict=True):
        np.testing.assert_array_equal(column, X[:, feature] if feature >= 0 else 0)
    plain, X = random_network(LAYOUTS["one axis"], "relu")
    assert patch_order(plain, X) is X


def test_layers_hold_patches_preactivations_and_outputs():
    layout = LAYOUTS["one axis"]
    network, X = random_network(layout, "tanh")
    layers = layers_forward(network, X)
    np.testing.assert_array_equal(layers[0].patches, X.reshape(len(X), 6, 4))
    for number, layer in enumerate(layers):
        k = network.kernels[number]
        z = np.einsum(
            "...ipd,rd->...rip" if number == 0 else "ripd,rd->rip", layer[0], k
        )
        if number < len(network.biases):
            z += network.biases[number][:, np.newaxis, np.newaxis]
        np.testing.assert_allclose(layer.z, z, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(layer.h, np.tanh(layer.z))
    assert layers[-1].h.shape == (3, len(X), 1)


def test_blank_networks_have_the_shapes_asked_for():
    layout = LAYOUTS["one axis"]
    activations = ("relu", "tanh", "identity")
    blank = blank_network(layout, 2, activations, hidden_bias=True)
    assert [k.shape for k in blank.kernels] == [(2, 4), (2, 3), (2, 2)]
    assert [b.shape for b in blank.biases] == [(2,), (2,)]
    assert not np.any(pack(blank))
    assert not blank_network(layout, 2, activations).biases
    assert not blank.is_linear
    assert not blank.is_homogeneous
    assert blank._replace(activations=("relu", "leaky_relu", "identity")).is_homogeneous
    assert blank_network(LAYOUTS["one layer"], 2, ("identity",)).is_linear


def test_alike_networks_differ_in_numbers_only():
    layout = LAYOUTS["two axes"]
    network, _ = random_network(layout, "relu")
    assert alike(network, random_network(layout, "relu", seed=1)[0])
    others = [
        random_network(layout, "tanh")[0],
        random_network(layout, "relu", n_filters=2)[0],
        random_network(layout, "relu", hidden_bias=False)[0],
        network._replace(orders=(network.order(0)[::-1], None, None)),
        network._replace(orders=()),
        random_network(make_layout(24, (6, 2, 2)), "relu")[0],
    ]
    for other in others:
        assert not alike(network, other)
        assert not alike(other, network)


def test_astype_changes_every_number():
    network, _ = random_network(LAYOUTS["one axis"], "relu")
    small = network.astype(np.float32)
    assert isinstance(small, PatchCNN)
    arrays = [*small.kernels, *small.biases, small.scales, small.intercept]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
