"""The weights of a patch network as one vector, and what is known of them.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
theta       ``pack(network)``   per filter k_1, ..., k_D, scale, b_1, ..., b_D-1;
                                then the intercept
M           ``width``           weights of a filter
W           never formed        scale * k_D o ... o k_1: the weights that a filter
                                gives the features, were its activations identities
==========  ==================  ===============================================

Only this module knows where in theta a weight stands. The norm of the kernel of a
homogeneous layer can move to the next layer: a direction of theta along which the
function stays as it is.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._network.layout import degrees_of_freedom


def pack(network):
    """All parameters as one vector."""
    per_filter = np.column_stack([*network.kernels, network.scales, *network.biases])
    return np.append(per_filter.ravel(), network.intercept)


def unpack(theta, like):
    """The network with parameters ``theta`` and the structure of ``like``."""
    per_filter = theta[:-1].reshape(len(like.scales), -1)
    kernels, end = [], 0
    for d in like.sizes:
        kernels.append(per_filter[:, end : end + d])
        end += d
    return like._replace(
        kernels=tuple(kernels),
        scales=per_filter[:, end],
        biases=tuple(per_filter[:, end + 1 :].T),
        intercept=theta[-1],
    )


def n_parameters(network):
    """Entries of ``pack(network)``."""
    return len(network.scales) * (sum(network.sizes) + 1 + len(network.biases)) + 1


def free_weights(network):
    """Of one filter: those whose change is not undone by another's, and the biases."""
    return degrees_of_freedom(network.sizes) + len(network.biases)


def units(network, of_y):
    """The unit of each entry of theta where that of y is ``of_y``."""
    ones = unpack(np.ones(n_parameters(network)), network)
    return pack(ones._replace(scales=of_y * ones.scales, intercept=of_y))


def owners(network):
    """For each weight of a filter the number of what it belongs to, in that order."""
    sizes = [*network.sizes, 1, *(1 for _ in network.biases)]
    return np.repeat(np.arange(len(sizes)), sizes)


def readout(network):
    """Entries of theta but the intercept, as a mask: the last kernels, where linear."""
    linear = network.activations[-1] == "identity"
    of_last = owners(network) == len(network.kernels) - 1
    return np.tile(of_last & linear, len(network.scales))


def kernel_slices(network):
    """Where the kernels of each layer stand in a filter's part of theta."""
    ends = np.cumsum(network.sizes)
    return [slice(end - d, end) for d, end in zip(network.sizes, ends, strict=True)]


def normalize(network):
    """The same function with the norms moved forward as far as they go.

    The norm of the kernel of a homogeneous layer moves to the next kernel, that of
    the last one into the scale; a bias is divided by the norm of its kernel. A layer
    that is not homogeneous keeps its norm.
    """
    carried, kernels, biases = None, [], list(network.biases)
    for layer, (k, name) in enumerate(
        zip(network.kernels, network.activations, strict=True)
    ):
        k = k if carried is None else k * carried
        carried = None
        if ACTIVATIONS[name].homogeneous:
            carried = np.sqrt(np.sum(k * k, axis=1, keepdims=True))
            if not carried.all():
                carried[carried == 0] = 1
            k = k / carried
            if layer < len(biases):
                biases[layer] = biases[layer] / carried[:, 0]
        kernels.append(k)
    scales = network.scales if carried is None else network.scales * carried[:, 0]
    return network._replace(kernels=tuple(kernels), scales=scales, biases=tuple(biases))


def with_free_readout(network):
    """The same function as ``normalize`` gives, with the scales in the readout.

    So a filter that comes to nothing keeps the derivatives by which it can come back.
    """
    network = normalize(network)
    if network.activations[-1] != "identity":
        return network
    *hidden, last = network.kernels
    return network._replace(
        kernels=(*hidden, last * network.scales[:, np.newaxis]),
        scales=np.ones_like(network.scales),
    )


def unit_norm_factors(network):
    """What ``normalize`` multiplies theta by, where hidden kernels have their norm."""
    ones = unpack(np.ones(n_parameters(network)), network)
    if network.activations[-1] == "identity":
        size = np.linalg.norm(network.kernels[-1], axis=1)
        size = np.where(size > 0, size, 1.0)
        *hidden, last = ones.kernels
        kernels = (*hidden, last / size[:, np.newaxis])
        ones = ones._replace(kernels=kernels, scales=size)
    return pack(ones)


def split_gains(network):
    """Unit kernels, gains (filters, layers), scales and biases of the same function.

    Gains are 1 wherever the norm of the kernel could move forward. The biases are an
    array (filters, hidden layers), or of no columns.
    """
    network = normalize(network)
    kernels, gains = [], []
    for k, name in zip(network.kernels, network.activations, strict=True):
        gain = np.ones(len(k))
        if not ACTIVATIONS[name].homogeneous:
            gain = np.linalg.norm(k, axis=1)
            k = k / np.where(gain > 0, gain, 1)[:, np.newaxis]
        kernels.append(k)
        gains.append(gain)
    biases = np.reshape(network.biases, (-1, len(network.scales))).T
    return kernels, np.column_stack(gains), network.scales, biases


def as_stored(network, dtype):
    """The network after unit kernels, gains and the rest were rounded to a dtype."""
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        kernels, gains, scales, biases = split_gains(network)
        return network._replace(
            kernels=tuple(
                k.astype(dtype) * gain.astype(dtype)[:, np.newaxis]
                for k, gain in zip(kernels, gains.T, strict=True)
            ),
            scales=scales.astype(dtype),
            biases=tuple(biases.astype(dtype).T),
            intercept=np.dtype(dtype).type(network.intercept),
        )


class Penalty(NamedTuple):
    """Of sum_r |W_r|_F^2: Gauss-Newton curvature and half the gradient per filter."""

    curvature: np.ndarray  # (filters, M, M)
    slope: np.ndarray  # (filters, M)
    value: float


def penalty(network):
    """Sum of |W|_F^2 over the filters; biases have no part in it."""
    weights = np.column_stack([*network.kernels, network.scales])
    n_filters, n_weights = weights.shape
    owner = owners(network)[:n_weights]
    n_factors = len(network.kernels) + 1
    squares = np.column_stack(
        [*(np.sum(k**2, axis=1) for k in network.kernels), network.scales**2]
    )
    other = ~np.eye(n_factors, dtype=bool)
    but_one = np.where(other, squares[:, np.newaxis], 1).prod(axis=2)
    neither = other[:, np.newaxis] & other
    but_two = np.where(neither, squares[:, np.newaxis, np.newaxis], 1).prod(axis=3)
    but_two[:, ~other] = 0
    width = n_weights + len(network.biases)
    curvature = np.zeros((n_filters, width, width))
    of_weights = curvature[:, :n_weights, :n_weights]
    np.multiply(weights[:, :, np.newaxis], weights[:, np.newaxis, :], out=of_weights)
    of_weights *= but_two[:, owner[:, np.newaxis], owner]
    diagonal = np.arange(n_weights)
    curvature[:, diagonal, diagonal] = but_one[:, owner]
    slope = np.zeros((n_filters, width))
    slope[:, :n_weights] = but_one[:, owner] * weights
    return Penalty(curvature, slope, float(squares.prod(axis=1).sum()))


def add_per_filter(hessian, blocks):
    """Add an array (filters, M, M) to the blocks of the filters on the diagonal."""
    n_filters, width, _ = blocks.shape
    each = np.arange(n_filters)
    by_filter = hessian.reshape(n_filters, width, n_filters, width)
    by_filter[each, :, each, :] += blocks


class Gauge(NamedTuple):
    """Per filter and homogeneous layer, in theta without the intercept.

    ``moves``: the direction that leaves the network as it is (the kernel and its bias
    grow, what comes next shrinks); ``norms``: the derivative of the kernel's squared
    norm, halved.
    """

    moves: np.ndarray  # (filters, layers, M)
    norms: np.ndarray  # (filters, layers, M)


def gauge(network):
    n_filters, slices = len(network.scales), kernel_slices(network)
    end = slices[-1].stop
    width = end + 1 + len(network.biases)
    moves, norms = [], []
    for layer, (k, name) in enumerate(
        zip(network.kernels, network.activations, strict=True)
    ):
        if not ACTIVATIONS[name].homogeneous:
            continue
        move, norm = np.zeros((2, n_filters, width))
        norm[:, slices[layer]] = move[:, slices[layer]] = k
        if layer < len(network.biases):
            move[:, end + 1 + layer] = network.biases[layer]
        if layer + 1 < len(slices):
            move[:, slices[layer + 1]] = -network.kernels[layer + 1]
        else:
            move[:, end] = -network.scales
        moves.append(move)
        norms.append(norm)
    shape = (n_filters, len(moves), width)
    return Gauge(
        *(np.reshape(a, (-1, *shape[::2])).swapaxes(0, 1) for a in (moves, norms))
    )


def with_unit_kernels(covariance, network):
    """The covariance of theta where the norms of kernels stay: P C P'."""
    moves, norms = gauge(network)
    n_filters, n_layers, width = moves.shape
    if n_layers == 0:
        return covariance
    meeting = norms @ moves.swapaxes(1, 2)
    layers = np.arange(n_layers)
    of_zeros = meeting[:, layers, layers] == 0  # kernels without a norm
    meeting[:, layers, layers] += of_zeros
    P = np.eye(width) - moves.swapaxes(1, 2) @ np.linalg.solve(meeting, norms)

    def P_times(matrix):
        by_filter = P @ matrix[:-1].reshape(n_filters, width, -1)
        return np.vstack([by_filter.reshape(matrix[:-1].shape), matrix[-1:]])

    return P_times(P_times(covariance).T)


def kernel_stds(network, covariance):
    """Standard deviations of the kernels of unit norm, per layer (filters, d_l).

    Infinite where nothing was learned: where a scale or a kernel is zero. What varies
    in k / |k| is what of k is orthogonal to it.
    """
    n_filters = len(network.scales)
    width, each = (n_parameters(network) - 1) // n_filters, np.arange(n_filters)
    by_filter = covariance[:-1, :-1].reshape(n_filters, width, n_filters, width)
    of_filters = by_filter[each, :, each, :]
    stds = []
    for k, of_layer in zip(network.kernels, kernel_slices(network), strict=True):
        norm = np.linalg.norm(k, axis=1, keepdims=True)
        learned = (norm > 0) & (network.scales[:, np.newaxis] != 0)
        norm = np.where(norm > 0, norm, 1)
        unit = k / norm
        across = np.eye(k.shape[1]) - unit[:, :, np.newaxis] * unit[:, np.newaxis, :]
        variance = np.sum((across @ of_filters[:, of_layer, of_layer]) * across, axis=2)
        std = np.sqrt(np.maximum(variance, 0)) / norm
        stds.append(np.where(learned, std, np.inf))
    return stds
