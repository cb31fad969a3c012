"""The explained part of a moment, against loops over the features."""

import numpy as np
import pytest

from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, patch_sources
from skdeeptd._network.parameters import explained_part

CASES = [
    ((24,), (4, 3, 2)),
    ((11,), (4, 3)),
    ((4, 6), ((2, 3), (2, 2))),
    ((3, 4, 2), ((2, 2), (2, 2, 2))),
]


def random_network(input_shape, kernel_sizes, n_filters=3):
    layout = make_layout(np.prod(input_shape), kernel_sizes, input_shape)
    rng = np.random.default_rng(0)
    activations = ("tanh",) * len(layout.sizes)
    activations = (*activations[1:], "identity")
    network = blank_network(layout, n_filters, activations)
    kernels = tuple(rng.standard_normal(k.shape) for k in network.kernels)
    return network._replace(
        kernels=kernels, heads=rng.standard_normal(network.heads.shape)
    )


def products(network):
    """Multiply the weights of each filter on the way up, by position in patch order."""
    table = np.ones((network.n_filters, np.prod(network.sizes)))
    for r, position in np.ndindex(table.shape):
        at = position
        for k in (*network.kernels, network.heads[0]):
            at, within = divmod(at, k.shape[1])
            table[r, position] *= k[r, within]
    return table


def by_least_squares(network, moment):
    table = products(network)
    seen = np.zeros((len(table), len(moment)))
    for position, feature in enumerate(patch_sources(network)):
        if feature >= 0:
            seen[:, feature] += table[:, position]
    basis, _ = np.linalg.qr(seen.T)
    return basis @ (basis.T @ moment)


@pytest.mark.parametrize("case", CASES)
def test_part_is_the_projection_on_the_outer_products(case):
    network = random_network(*case)
    moment = np.random.default_rng(1).standard_normal(np.prod(case[0]))
    expected = by_least_squares(network, moment)
    assert 0 < np.linalg.norm(expected) < np.linalg.norm(moment)
    np.testing.assert_allclose(explained_part(network, moment), expected, atol=1e-12)


def test_a_moment_made_of_the_products_is_explained_whole():
    network = random_network(*CASES[0])
    moment = np.ones(3) @ products(network)
    np.testing.assert_allclose(explained_part(network, moment), moment, rtol=1e-9)


def test_norms_do_not_change_the_part():
    network = random_network(*CASES[0])
    moment = np.random.default_rng(1).standard_normal(24)
    expected = explained_part(network, moment)
    scaled = network._replace(
        kernels=tuple(k * [[1e-4], [1], [1e4]] for k in network.kernels)
    )
    np.testing.assert_allclose(explained_part(scaled, moment), expected, atol=1e-9)


def test_filters_alike_but_for_single_precision_count_once():
    network = random_network(*CASES[0])
    rng = np.random.default_rng(1)
    moment = rng.standard_normal(24)
    kernels = tuple(k[[0, 1, 2, 2]] for k in network.kernels)
    for k in kernels:
        k[3] += 1e-7 * rng.standard_normal(k.shape[1])
    alike = network._replace(kernels=kernels, heads=network.heads[:, [0, 1, 2, 2]])
    expected = explained_part(network, moment)
    np.testing.assert_allclose(explained_part(alike, moment), expected, atol=1e-5)


def test_kernels_of_zeros_explain_nothing():
    network = random_network(*CASES[0])
    zeros = network._replace(kernels=tuple(0 * k for k in network.kernels))
    assert not explained_part(zeros, np.ones(24)).any()


def test_single_precision_is_projected_in_double():
    network = random_network(*CASES[0]).astype(np.float32)
    moment = np.random.default_rng(1).standard_normal(24)
    expected = by_least_squares(network.astype(float), moment)
    np.testing.assert_allclose(explained_part(network, moment), expected, atol=1e-12)
