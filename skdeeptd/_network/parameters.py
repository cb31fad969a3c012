"""The hidden weights as one array, their penalty, and the weights as stored.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
theta       ``pack(network)``   (R, M): per filter k_1, ..., then its biases
V           ``heads``           (Q, R, P)
W           never formed        V_qr o k_D-1 o ... o k_1: the weights that filter r
                                gives the features if all activations are the
                                identity
N_r         ``norms``           (R,): product of the squared norms of the hidden
                                kernels, so that |W_qr|^2 = N_r |V_qr|^2
u, s        ``unit``, ``size``  unit last kernel and scale, V = s u
==========  ==================  ===============================================

The norm of the kernel of a homogeneous layer can move to the layer above without any
change of the function, so ``normalize`` sets it to 1.

Stored weights of one output are, per filter, the kernels (each times its gain), the
scale and the biases, then the slopes of the covariates and the intercept.
"""

import functools

import numpy as np
from scipy import linalg

from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd._network.network import (
    head_features,
    hidden_forward,
    hidden_jacobian,
    patch_sources,
    sum_by_feature,
)


def pack(network):
    """Return theta."""
    empty = np.empty((network.n_filters, 0))
    return np.column_stack([empty, *network.kernels, *network.biases])


def unpack(theta, like):
    """Return the network with hidden weights ``theta`` and all else of ``like``."""
    *kernels, biases = np.split(theta, np.cumsum(like.sizes[:-1]), axis=1)
    return like._replace(
        kernels=tuple(kernels), biases=tuple(biases.T) if like.biases else ()
    )


def layer_of_weight(network):
    """Return the number of the kernel or bias that each of the M weights belongs to."""
    sizes = np.array([*network.sizes[:-1], *(1 for _ in network.biases)], dtype=int)
    return np.repeat(np.arange(len(sizes)), sizes)


def normalize(network):
    """Move the norm of each kernel of a homogeneous layer to the layer above.

    A kernel that is zero stays zero.
    """
    carried, kernels, biases = 1.0, [], list(network.biases)
    for layer, (k, name) in enumerate(zip(network.kernels, network.activations)):
        k, carried = k * carried, 1.0
        if ACTIVATIONS[name].homogeneous:
            carried = np.linalg.norm(k, axis=1, keepdims=True)
            carried = np.where(carried > 0, carried, 1.0)
            k = k / carried
            if layer < len(biases):
                biases[layer] = biases[layer] / carried[:, 0]
        kernels.append(k)
    return network._replace(
        kernels=tuple(kernels), biases=tuple(biases), heads=network.heads * carried
    )


def squared_norms(network):
    """Return N, (R,)."""
    return _squares(network).prod(axis=1)


def _squares(network):
    """Return the squared norms of the hidden kernels, (R, hidden layers)."""
    squares = np.array([np.sum(k**2, axis=1) for k in network.kernels])
    return squares.reshape(len(network.kernels), network.n_filters).T


def penalty(network):
    """Return the Gauss-Newton curvature (R, M, M) and half the gradient (R, M) of N_r.

    Also N, (R,). Biases are not penalised.
    """
    owner, theta = layer_of_weight(network), pack(network)
    n_layers, n_kernel_weights = len(network.kernels), network.n_kernel_weights
    squares = _squares(network)
    other = ~np.eye(n_layers, dtype=bool)
    but_one = np.where(other, squares[:, np.newaxis], 1).prod(axis=2)
    neither = other[:, np.newaxis] & other
    but_two = np.where(neither, squares[:, np.newaxis, np.newaxis], 1).prod(axis=3)
    but_two[:, ~other] = 0
    curvature = np.zeros((*theta.shape, theta.shape[1]))
    slope, ours = np.zeros_like(theta), slice(0, n_kernel_weights)
    k, owner = theta[:, ours], owner[ours]
    curvature[:, ours, ours] = k[:, :, np.newaxis] * k[:, np.newaxis, :]
    curvature[:, ours, ours] *= but_two[:, owner[:, np.newaxis], owner]
    diagonal = np.arange(n_kernel_weights)
    curvature[:, diagonal, diagonal] = but_one[:, owner]
    slope[:, ours] = but_one[:, owner] * k
    return curvature, slope, squares.prod(axis=1)


def tangent(network):
    """Return the projection of theta on directions that keep the norms at 1."""
    theta, owner = pack(network), layer_of_weight(network)
    blocks = np.tile(np.eye(theta.shape[1]), (len(theta), 1, 1))
    for layer, name in enumerate(network.activations):
        if ACTIVATIONS[name].homogeneous:
            k = np.where(owner == layer, theta, 0.0)
            square = np.sum(k**2, axis=1)[:, np.newaxis, np.newaxis]
            along = k[:, :, np.newaxis] * k[:, np.newaxis, :]
            blocks -= along / np.where(square > 0, square, 1.0)
    return linalg.block_diag(*blocks)


def last_kernel_and_scale(network):
    """Return u (Q, R, P) and s (Q, R) of the heads; u is zero for a zero head."""
    largest = np.abs(network.heads).max(axis=2)  # whose square may overflow
    scaled = network.heads / np.where(largest > 0, largest, 1.0)[:, :, np.newaxis]
    norm = np.linalg.norm(scaled, axis=2)
    return scaled / np.where(norm > 0, norm, 1.0)[:, :, np.newaxis], largest * norm


def split_gains(network):
    """Return unit hidden kernels, and gains (R, hidden layers) of the same function.

    A gain is 1 if the norm of the kernel can move to the layer above.
    """
    network = normalize(network)
    kernels, gains = [], np.ones((network.n_filters, len(network.kernels)))
    for layer, (k, name) in enumerate(zip(network.kernels, network.activations)):
        if not ACTIVATIONS[name].homogeneous:
            gains[:, layer] = np.linalg.norm(k, axis=1)
            k = k / np.where(gains[:, [layer]] > 0, gains[:, [layer]], 1.0)
        kernels.append(k)
    return network._replace(kernels=tuple(kernels)), gains


def stored_weights(network, has_linear_end):
    """Return the derivatives of the stored weights by theta and V_0.

    Parameters
    ----------
    network : Network
        Normalised, of one output.
    has_linear_end : bool
        Whether the head is the last kernel times a scale; else it is the scale.

    Returns
    -------
    matrix : array of shape (stored weights - 1, R M + R P + q)
        Row j holds the derivatives of stored weight j by theta, V_0 and the slopes, so
        that a covariance C of these becomes ``matrix @ C @ matrix.T``.
    """
    R, M, P = network.n_filters, network.n_hidden_weights, network.sizes[-1]
    unit, size = last_kernel_and_scale(network)
    n_head = P + 1 if has_linear_end else 1
    matrix, begin = np.zeros((R, M + n_head, R * (M + P))), network.n_kernel_weights
    end = begin + n_head
    is_hidden = np.r_[:begin, end : M + n_head]
    for r, (u, s) in enumerate(zip(unit[0], size[0], strict=True)):
        of_head = np.ones((1, 1))
        if has_linear_end:
            across = (np.eye(P) - np.outer(u, u)) / (s if s > 0 else 1.0)
            of_head = np.vstack([across, u])
        matrix[r, is_hidden, r * M + np.arange(M)] = 1
        matrix[r, begin:end, R * M + r * P : R * M + (r + 1) * P] = of_head
    return linalg.block_diag(np.concatenate(matrix), np.eye(network.n_covariates))


def stored_jacobian(network, has_linear_end, X):
    """Return the derivatives of output 0 by its stored weights, (rows, weights)."""
    network = normalize(network)
    n_rows, M = len(X), network.n_hidden_weights
    shape = (n_rows, 1, network.n_filters, M)
    layers, by_theta = hidden_forward(network, X), np.empty(shape, X.dtype)
    features = head_features(network, layers, X)
    n_entries = network.heads[0].size
    features, covariates = features[:, :n_entries], features[:, n_entries:]
    features = features.reshape(n_rows, network.n_filters, -1)
    hidden_jacobian(network, layers, network.heads[:1], by_theta)
    n_kernel_weights = network.n_kernel_weights
    parts = [by_theta[:, 0, :, :n_kernel_weights]]
    if has_linear_end:
        unit, size = last_kernel_and_scale(network)
        parts += [
            features * size[0][:, np.newaxis],
            np.sum(features * unit[0], axis=2, keepdims=True),
        ]
    else:
        parts.append(features)
    parts.append(by_theta[:, 0, :, n_kernel_weights:])
    by_filter = np.concatenate(parts, axis=2).reshape(n_rows, -1)
    return np.column_stack([by_filter, covariates, np.ones(n_rows, X.dtype)])


def explained_part(network, moment, singular=1e-5):
    """Return the part of a moment that kernels explain, (features,).

    The products k_D o ... o k_1 of the kernels of each filter are summed over patches
    that share a feature; the part is the projection of the moment on their span.
    Singular values below ``singular`` of the largest count as zero.
    """
    network, _ = split_gains(network.astype(float))
    unit, _ = last_kernel_and_scale(network)
    sources = patch_sources(network)
    products = np.array(
        [
            sum_by_feature(sources, product, len(moment))
            for product in functools.reduce(_outer, [*network.kernels, unit[0]])
        ]
    )
    factors = np.linalg.lstsq(products.T, moment, rcond=singular)[0]
    return factors @ products


def _outer(products, k):
    """Return products with one layer more; the layers so far run fastest."""
    return (k[:, :, np.newaxis] * products[:, np.newaxis, :]).reshape(len(k), -1)
