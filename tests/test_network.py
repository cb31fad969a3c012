import numpy as np
import pytest

from skdeeptd._data.scratch import reusing
from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import (
    Network,
    blank_network,
    forward,
    head_features,
    hidden_forward,
    hidden_jacobian,
    in_patch_order,
    input_gradient,
    numbers_per_row,
    overlapping_patches,
    patch_sources,
    same_structure,
)
from skdeeptd._network.parameters import pack, unpack

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


def random_network(
    layout, activation, n_filters=3, seed=0, hidden_bias=True, n_heads=2
):
    """A network of one activation, or of a sequence of them, and rows for it."""
    rng = np.random.default_rng(seed)
    if isinstance(activation, str):
        activation = (activation,) * len(layout.sizes)
    blank = blank_network(layout, n_filters, activation, hidden_bias, n_heads)
    network = unpack(rng.standard_normal(pack(blank).shape), blank)._replace(
        heads=rng.standard_normal(blank.heads.shape),
        intercept=rng.standard_normal(n_heads),
    )
    return network, rng.standard_normal((6, int(np.prod(layout.input_shape))))


def outputs_by_loops(network, layout, sample):
    """The definition: kernels slide over patches of an array of several axes."""
    shapes = [(*s, 1, 1, 1)[: sample.ndim] for s in layout.kernel_shapes]
    steps = [(*s, 1, 1, 1)[: sample.ndim] for s in layout.steps] + [shapes[-1]]
    covered = np.ones(sample.ndim, dtype=int)
    for shape, step in zip(shapes[::-1], steps[::-1], strict=True):
        covered = (covered - 1) * step + shape
    if len(network.kernels) == len(shapes):  # heads of size 1 on top
        shapes, steps = [*shapes, (1,) * sample.ndim], [*steps, (1,) * sample.ndim]
    names = (*network.activations, "identity")
    missing = zip(covered, sample.shape, strict=True)
    padded = np.pad(sample, [(0, c - n) for c, n in missing])
    outputs = network.intercept.astype(float).copy()
    for o, r in np.ndindex(network.heads.shape[:2]):
        h = padded
        kernels = [*(k[r] for k in network.kernels), network.heads[o, r]]
        for layer, k in enumerate(kernels):
            shape, step = shapes[layer], steps[layer]
            out = np.empty((np.array(h.shape) - shape) // step + 1)
            for position in np.ndindex(*out.shape):
                z = network.biases[layer][r] if layer < len(network.biases) else 0.0
                for i, at in enumerate(np.ndindex(*shape)):
                    z += k[i] * h[tuple(np.multiply(position, step) + at)]
                out[position] = PHI[names[layer]](z)
            h = out
        outputs[o] += h.item()
    return outputs


def one_filter(network, r):
    return network._replace(
        kernels=tuple(k[[r]] for k in network.kernels),
        heads=network.heads[:, [r]],
        biases=tuple(b[[r]] for b in network.biases),
        intercept=0 * network.intercept,
    )


def jacobian(network, X, basis=None):
    basis = network.heads if basis is None else basis
    shape = len(X), len(basis), network.n_filters, network.n_hidden_weights
    out = np.full(shape, np.nan, X.dtype)
    hidden_jacobian(network, hidden_forward(network, X), basis, out)
    return out


@pytest.mark.parametrize("hidden_bias", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_forward_equals_explicit_loops(layout, name, hidden_bias):
    network, X = random_network(layout, name, hidden_bias=hidden_bias)
    samples = X.reshape(-1, *layout.input_shape)
    expected = [outputs_by_loops(network, layout, x) for x in samples]
    np.testing.assert_allclose(forward(network, X), expected, rtol=1e-11, atol=1e-12)


def test_activations_differ_from_layer_to_layer():
    layout = LAYOUTS["one axis"]
    network, X = random_network(layout, ("tanh", "relu", "logistic"))
    expected = [outputs_by_loops(network, layout, x) for x in X]
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
def test_hidden_jacobian_is_the_limit_of_differences(layout, name):
    network, X = random_network(layout, name, n_filters=2)
    table, theta, step = jacobian(network, X), pack(network), 1e-6
    for r, i in np.ndindex(*theta.shape):
        shift = np.zeros_like(theta)
        shift[r, i] = step
        above = forward(unpack(theta + shift, network), X)
        below = forward(unpack(theta - shift, network), X)
        difference = (above - below) / (2 * step)
        np.testing.assert_allclose(table[:, :, r, i], difference, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_hidden_jacobian_holds_that_of_each_filter_and_readout(layout):
    network, X = random_network(layout, "softplus")
    basis = np.random.default_rng(1).standard_normal((4, *network.heads.shape[1:]))
    table = jacobian(network, X, basis)
    for k, r in np.ndindex(4, network.n_filters):
        alone = one_filter(network, r)._replace(heads=basis[[k]][:, [r]])
        np.testing.assert_allclose(
            table[:, k, r], jacobian(alone, X)[:, 0, 0], rtol=1e-12, atol=1e-13
        )


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_outputs_are_linear_in_the_head_features(layout):
    network, X = random_network(layout, "tanh")
    features = head_features(network, hidden_forward(network, X), X)
    flat = network.heads.reshape(2, -1)
    assert features.shape == (len(X), flat.shape[1])
    expected = network.intercept + features @ flat.T
    np.testing.assert_allclose(forward(network, X), expected, rtol=1e-12)
    alone = np.column_stack([forward(network.head(o), X) for o in range(2)])
    np.testing.assert_allclose(alone, expected, rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_input_gradient_is_the_mean_of_differences(layout, name):
    network, X = random_network(layout, name)
    gradient, step = input_gradient(network, X), 1e-6
    shifts = step * np.eye(X.shape[1])
    differences = [
        np.mean(forward(network, X + s)[:, 0] - forward(network, X - s)[:, 0])
        / (2 * step)
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


@pytest.mark.parametrize("name", ["relu", "tanh"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("layout", ["two axes", "one layer", "padded"])
def test_rows_that_are_not_finite_become_nan_and_the_others_stay(layout, bad, name):
    n_hidden = len(LAYOUTS[layout].sizes) - 1
    network, X = random_network(LAYOUTS[layout], (name,) * n_hidden + ("identity",))
    expected = forward(network, X)
    X[2, 5] = bad
    outputs = forward(network, X)
    assert np.isnan(outputs[2]).all()
    rest = np.arange(len(X)) != 2
    np.testing.assert_array_equal(outputs[rest], expected[rest])


def test_patch_order_leaves_values_and_their_own_order_alone():
    padded, X = random_network(LAYOUTS["two padded axes"], "relu")
    kept = X.copy()
    ordered = in_patch_order(X, padded.orders[0], "X")
    np.testing.assert_array_equal(X, kept)
    for column, feature in zip(ordered.T, padded.orders[0], strict=True):
        np.testing.assert_array_equal(column, X[:, feature] if feature >= 0 else 0)
    plain, X = random_network(LAYOUTS["one axis"], "relu")
    assert in_patch_order(X, plain.orders[0], "X") is X


def test_zeros_beyond_the_end_hide_what_is_not_finite_in_other_columns():
    order = np.array([0, -1, 1])
    ordered = in_patch_order(np.array([[1.0, np.inf]]), order, "X")
    np.testing.assert_array_equal(ordered, [[1.0, 0.0, np.inf]])


def test_layers_hold_patches_preactivations_and_outputs():
    layout = LAYOUTS["one axis"]
    network, X = random_network(layout, "tanh")
    layers = hidden_forward(network, X)
    assert len(layers) == 3
    np.testing.assert_array_equal(layers[0].patches, X.reshape(len(X), 6, 4))
    for number, layer in enumerate(layers):
        k = network.kernels[number]
        z = np.einsum("ipd,rd->rip" if number == 0 else "ripd,rd->rip", layer[0], k)
        if number < len(network.biases):
            z += network.biases[number][:, np.newaxis, np.newaxis]
        np.testing.assert_allclose(layer.z, z, rtol=1e-12, atol=1e-14)
        np.testing.assert_array_equal(layer.h, np.tanh(layer.z))
    assert layers[-1].h.shape == (3, len(X), 1)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_patch_sources_are_the_features_that_weights_of_a_linear_network_meet(layout):
    network, X = random_network(layout, "identity", n_filters=1, n_heads=1)
    weights = np.ones(1)
    for k in (*network.kernels, network.heads[0]):
        weights = np.multiply.outer(k[0], weights).ravel()
    by_feature, sources = np.zeros(X.shape[1]), patch_sources(network)
    assert sources.shape == weights.shape
    np.add.at(by_feature, sources[sources >= 0], weights[sources >= 0])
    network = network._replace(biases=())
    expected = X @ by_feature + network.intercept
    np.testing.assert_allclose(forward(network, X)[:, 0], expected, rtol=1e-10)


def test_layers_whose_patches_overlap_are_listed():
    expected = {
        "one axis": [],
        "padded": [],
        "overlap": [0],
        "overlap in two layers": [0, 1],
        "overlap above tiles": [1],
        "overlap below tiles": [0],
    }
    for name, layers in expected.items():
        n_hidden = len(LAYOUTS[name].sizes) - 1
        network, _ = random_network(LAYOUTS[name], ("tanh",) * n_hidden + ("identity",))
        assert list(overlapping_patches(network)) == layers
    network, _ = random_network(LAYOUTS["overlap"], ("tanh", "identity"))
    table = overlapping_patches(network)[0]
    np.testing.assert_array_equal(table, np.arange(6)[:, None] * 2 + np.arange(4))


def test_numbers_per_row_count_all_tables_of_a_pass():
    network, X = random_network(LAYOUTS["one axis"], ("tanh", "tanh", "identity"))
    layers = hidden_forward(network, X)
    assert numbers_per_row(network) == sum(a.z.size + a.h.size for a in layers) / len(X)
    network, X = random_network(LAYOUTS["overlap"], ("tanh", "identity"))
    (layer,) = hidden_forward(network, X)
    tables = layer.patches.size + layer.z.size + layer.h.size
    assert numbers_per_row(network) == tables / len(X)


def test_blank_networks_have_the_shapes_asked_for():
    layout = LAYOUTS["one axis"]
    activations = ("relu", "tanh", "identity")
    blank = blank_network(layout, 2, activations, hidden_bias=True, n_heads=5)
    assert [k.shape for k in blank.kernels] == [(2, 4), (2, 3)]
    assert [b.shape for b in blank.biases] == [(2,), (2,)]
    assert blank.heads.shape == (5, 2, 2)
    assert blank.intercept.shape == (5,)
    assert not np.any(pack(blank))
    assert not np.any(blank.heads)
    assert blank.sizes == (4, 3, 2)
    assert blank.n_hidden_weights == 9
    assert blank.n_weights == 2 * (4 + 3 + 2 + 2) + 1
    assert blank.n_free_weights == 4 + 3 + 2 + 2 - 2
    assert not blank_network(layout, 2, activations).biases
    assert not blank.is_homogeneous
    assert blank._replace(activations=("relu", "leaky_relu")).is_homogeneous


def test_a_last_layer_that_is_not_linear_is_hidden_below_heads_of_size_1():
    blank = blank_network(LAYOUTS["one axis"], 2, ("relu", "relu", "tanh"), True)
    assert blank.activations == ("relu", "relu", "tanh")
    assert [k.shape for k in blank.kernels] == [(2, 4), (2, 3), (2, 2)]
    assert len(blank.biases) == 2  # the last layer of the layout has none
    assert blank.heads.shape == (1, 2, 1)
    assert blank.orders[-1] is None


def test_a_single_linear_layer_has_one_filter():
    blank = blank_network(LAYOUTS["one layer"], 3, ("identity",))
    assert blank.heads.shape == (1, 1, 7)
    assert not blank.kernels
    assert blank_network(LAYOUTS["one layer"], 3, ("tanh",)).n_filters == 3


def test_networks_of_the_same_structure_differ_in_numbers_only():
    layout = LAYOUTS["two axes"]
    network, _ = random_network(layout, "relu")
    assert same_structure(network, random_network(layout, "relu", seed=1)[0])
    reversed_order = network.orders[0][::-1]
    others = [
        random_network(layout, "tanh")[0],
        random_network(layout, "relu", n_filters=2)[0],
        random_network(layout, "relu", n_heads=1)[0],
        random_network(layout, "relu", hidden_bias=False)[0],
        network._replace(orders=(reversed_order, *network.orders[1:])),
        network._replace(orders=()),
        random_network(make_layout(24, (6, 2, 2)), "relu")[0],
    ]
    for other in others:
        assert not same_structure(network, other)
        assert not same_structure(other, network)


def test_astype_changes_every_number():
    network, _ = random_network(LAYOUTS["one axis"], "relu")
    small = network.astype(np.float32)
    assert isinstance(small, Network)
    arrays = [*small.kernels, *small.biases, small.heads, small.intercept]
    assert {a.dtype for a in arrays} == {np.dtype(np.float32)}
