import numpy as np
import pytest

from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._model.layout import make_layout
from skdeeptd._model.network import (
    PatchCNN,
    forward,
    jacobian,
    normalize,
    pack,
    split_gains,
    unpack,
)

SHAPES = [((4, 3, 2), None), (((2, 3), (2, 1), (1, 2)), (4, 6)), ((7,), None)]


def random_network(shapes, input_shape, activations, n_filters, rng):
    n_features = 24 if len(shapes) > 1 else 7
    layout = make_layout(n_features, shapes, input_shape)
    return PatchCNN(
        kernels=tuple(rng.standard_normal((n_filters, d)) for d in layout.sizes),
        scales=rng.standard_normal(n_filters),
        intercept=rng.standard_normal(),
        activations=activations,
        order=layout.order,
        biases=tuple(rng.standard_normal((len(shapes) - 1, n_filters))),
    ), layout


def output_by_loops(network, layout, sample):
    """The definition: kernels slide over patches of an array of several axes."""
    total = network.intercept
    for r, scale in enumerate(network.scales):
        h = sample.reshape(layout.input_shape)
        for k, b, shape, name in zip(
            network.kernels,
            [*network.biases, np.zeros(len(network.scales))],
            layout.kernel_shapes,
            network.activations,
            strict=True,
        ):
            kernel = k[r].reshape(shape)
            z = np.empty([n // d for n, d in zip(h.shape, shape, strict=True)])
            for position in np.ndindex(*z.shape):
                patch = h[
                    tuple(
                        slice(i * d, (i + 1) * d)
                        for i, d in zip(position, shape, strict=True)
                    )
                ]
                z[position] = np.sum(patch * kernel) + b[r]
            h = ACTIVATIONS[name].value(z)
        total += scale * h.item()
    return total


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("shapes", "input_shape"), SHAPES)
def test_forward_equals_explicit_loops(shapes, input_shape, name):
    rng = np.random.default_rng(0)
    network, layout = random_network(shapes, input_shape, (name,) * len(shapes), 2, rng)
    X = rng.standard_normal((5, np.prod(layout.input_shape)))
    expected = [output_by_loops(network, layout, x) for x in X]
    np.testing.assert_allclose(forward(network, X), expected, rtol=1e-12)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize(("shapes", "input_shape"), SHAPES)
def test_jacobian_is_the_limit_of_differences(shapes, input_shape, name):
    rng = np.random.default_rng(1)
    network, layout = random_network(shapes, input_shape, (name,) * len(shapes), 2, rng)
    X = rng.standard_normal((6, np.prod(layout.input_shape)))
    table = jacobian(network, X)
    output, by_theta = table[:, -1], table[:, :-1]
    np.testing.assert_array_equal(output, forward(network, X))
    theta, step = pack(network), 1e-6
    for i, column in enumerate(by_theta.T):
        shift = step * np.eye(1, len(theta), i)[0]
        above = forward(unpack(theta + shift, network), X)
        below = forward(unpack(theta - shift, network), X)
        np.testing.assert_allclose(column, (above - below) / (2 * step), atol=1e-7)


def test_unpack_undoes_pack():
    rng = np.random.default_rng(2)
    network, _ = random_network((4, 3, 2), None, ("relu",) * 3, 3, rng)
    again = unpack(pack(network), network)
    for a, b in zip(network.kernels, again.kernels, strict=True):
        np.testing.assert_array_equal(a, b)
    for a, b in zip(network.biases, again.biases, strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_array_equal(network.scales, again.scales)
    assert network.intercept == again.intercept


@pytest.mark.parametrize(
    "activations",
    [
        ("relu", "leaky_relu", "identity"),
        ("relu", "tanh", "identity"),
        ("softplus", "relu", "logistic"),
    ],
)
def test_normalize_and_split_gains_keep_the_function(activations):
    rng = np.random.default_rng(3)
    network, _ = random_network((4, 3, 2), None, activations, 2, rng)
    X = rng.standard_normal((20, 24))
    np.testing.assert_allclose(
        forward(normalize(network), X), forward(network, X), rtol=1e-12
    )
    kernels, gains, scales, biases = split_gains(network)
    for k, gain, name in zip(kernels, gains.T, activations, strict=True):
        np.testing.assert_allclose(np.linalg.norm(k, axis=1), 1, rtol=1e-12)
        if ACTIVATIONS[name].homogeneous:
            np.testing.assert_array_equal(gain, 1)
    rebuilt = network._replace(
        kernels=tuple(k * g[:, None] for k, g in zip(kernels, gains.T, strict=True)),
        scales=scales,
        biases=tuple(biases.T),
    )
    np.testing.assert_allclose(forward(rebuilt, X), forward(network, X), rtol=1e-12)
