"""The hidden layers of a network as what several readouts share.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
Q, R, P     sizes               outputs, filters, entries of a last kernel
theta       ``theta``           (filters, M): hidden kernels, then hidden biases
F           ``features``        (rows, filters * entries): what the last layer takes
V           ``readout``         (outputs, filters, entries): last kernels
B           ``basis``           (K, filters, entries): readouts of which J is wanted
J           ``jacobian``        (rows, K, filters, M): of F B_k by theta
==========  ==================  ===============================================

A trunk is a ``PatchCNN`` whose last layer is linear, and of which the last kernels and
the scales say nothing: output o is F V_o + b_o. Where the last activation is another
one, a linear layer of one weight is put on top, and outputs differ in scales only.
"""

import numpy as np
from scipy import linalg

from skdeeptd._data.scratch import empty
from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._model.network import (
    layers_forward,
    numbers_per_row,
    patch_order,
    through_activation,
    to_values,
)
from skdeeptd._model.parameters import normalize, penalty


def with_linear_end(network):
    """The same function of a network whose last layer is linear."""
    if network.activations[-1] == "identity":
        return network
    return network._replace(
        kernels=(*network.kernels, network.scales[:, np.newaxis]),
        scales=np.ones_like(network.scales),
        activations=(*network.activations, "identity"),
        orders=(*network.orders, None) if network.orders else (),
    )


def networks_of_trunk(trunk, readout, intercepts, like):
    """A network per output, of the structure of ``like``."""
    networks = []
    for of_output, intercept in zip(readout, intercepts, strict=True):
        network = trunk._replace(
            kernels=(*trunk.kernels[:-1], of_output),
            scales=of_output.any(axis=1).astype(float),
            intercept=float(intercept),
        )
        if like.activations[-1] != "identity":
            network = network._replace(
                kernels=trunk.kernels[:-1],
                scales=of_output[:, 0],
                activations=like.activations,
                orders=like.orders,
            )
        networks.append(network)
    return networks


def trunk_weights(trunk):
    """M: of a filter."""
    return sum(trunk.sizes[:-1]) + len(trunk.biases)


def pack_trunk(trunk):
    return np.column_stack([*trunk.kernels[:-1], *trunk.biases])


def unpack_trunk(theta, like):
    ends = np.cumsum(like.sizes[:-1])
    parts = np.split(theta, ends, axis=1)
    *kernels, biases = parts
    return like._replace(
        kernels=(*kernels, like.kernels[-1]),
        biases=tuple(biases.T) if like.biases else (),
    )


def _with_last(trunk, last):
    return trunk._replace(
        kernels=(*trunk.kernels[:-1], last), scales=np.ones(len(last))
    )


def unit_trunk(trunk):
    """The trunk after ``normalize``, and what that takes out of F, (filters,)."""
    moved = normalize(_with_last(trunk, np.ones((len(trunk.scales), 1))))
    return _with_last(moved, trunk.kernels[-1]), moved.scales


def stepped(trunk, step):
    """``unit_trunk`` of the trunk whose theta has moved by a step."""
    theta = pack_trunk(trunk)
    return unit_trunk(unpack_trunk(theta + step.reshape(theta.shape), trunk))


def trunk_penalty(trunk):
    """The ``Penalty`` of W without its last factor, by theta, and |W|^2 per filter."""
    found = penalty(_with_last(trunk, np.ones((len(trunk.scales), 1))))
    n_kernels = sum(trunk.sizes[:-1])
    width = found.slope.shape[1]
    ours = np.r_[0:n_kernels, width - len(trunk.biases) : width]
    squares = np.ones(len(trunk.scales))
    for k in trunk.kernels[:-1]:
        squares = squares * np.sum(k**2, axis=1)
    curvature = found.curvature[:, ours[:, np.newaxis], ours]
    return curvature, found.slope[:, ours], squares


def trunk_tangent(trunk):
    """Projection on the moves of theta that keep the norms which could move forward."""
    n_filters, width = len(trunk.scales), trunk_weights(trunk)
    blocks = np.tile(np.eye(width), (n_filters, 1, 1))
    end = 0
    for k, name in zip(trunk.kernels[:-1], trunk.activations, strict=False):
        begin, end = end, end + k.shape[1]
        if ACTIVATIONS[name].homogeneous:
            square = np.sum(k**2, axis=1)[:, np.newaxis, np.newaxis]
            along = k[:, :, np.newaxis] * k[:, np.newaxis, :]
            blocks[:, begin:end, begin:end] -= along / np.where(square > 0, square, 1)
    return linalg.block_diag(*blocks)


def trunk_forward(trunk, X):
    """The layers and F."""
    layers = layers_forward(trunk, patch_order(trunk, X))
    if len(layers) == 1:
        return layers, np.tile(layers[0].patches[:, 0], (1, len(trunk.scales)))
    patches = layers[-1].patches[:, :, 0]
    return layers, patches.transpose(1, 0, 2).reshape(len(X), -1)


def trunk_width(trunk, n_readouts):
    """Numbers that ``trunk_jacobian`` makes for each row."""
    return numbers_per_row(trunk) * (1 + n_readouts)


def trunk_jacobian(trunk, layers, basis):
    """J, for the layers of ``trunk_forward``."""
    n_rows, (n_readouts, n_filters, _) = len(layers[0].patches), basis.shape
    width, end = trunk_weights(trunk), sum(trunk.sizes[:-1])
    table = empty("trunk", (n_rows, n_readouts, n_filters, width), layers[0].z.dtype)
    at = len(layers) - 1
    back = basis.reshape(n_readouts * n_filters, 1, -1).astype(table.dtype)
    back = to_values(back, trunk, at).reshape(n_readouts, n_filters, 1, -1)
    for number in reversed(range(at)):
        layer, k = layers[number], trunk.kernels[number]
        slope = through_activation(1.0, layer, trunk.activations[number])
        back = back * slope
        out = table[:, :, :, end - k.shape[1] : end]
        if number == 0:
            by_row = back.transpose(2, 0, 1, 3).reshape(n_rows, -1, back.shape[3])
            found = (by_row @ layer.patches).reshape(out.shape)
            out[...] = found
        else:
            found = back[:, :, :, np.newaxis, :] @ layer.patches
            out[...] = found[:, :, :, 0].transpose(2, 0, 1, 3)
        if number < len(trunk.biases):
            place = sum(trunk.sizes[:-1]) + number
            table[:, :, :, place] = back.sum(axis=3).transpose(2, 0, 1)
        end -= k.shape[1]
        if number:
            wide = back[..., np.newaxis] * k[:, np.newaxis, np.newaxis, :]
            wide = wide.reshape(n_readouts * n_filters, n_rows, -1)
            back = to_values(wide, trunk, number)
            back = back.reshape(n_readouts, n_filters, n_rows, -1)
    return table
