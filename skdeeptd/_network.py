"""The patch network: forward pass, Jacobian, and its parameters as one vector.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
x           ``X``               (rows, features)
d_l         ``k.shape[1]``      kernel size of layer l
k_l         ``kernels[l]``      (filters, d_l); need not have unit norm
h_l         ``h``               (rows, patches), the output of layer l
z_l         ``z``               (rows, patches), its pre-activation
scale_r     ``scales``          (filters,)
b_l         ``biases[l]``       (filters,), of the hidden layers; there may be none
theta       ``pack(network)``   per filter k_1, ..., k_D, scale, b_1, ..., b_D-1;
                                then intercept
==========  ==================  ===============================================

Layer l cuts the output of layer l-1 into non-overlapping patches of d_l numbers,
takes the inner product of each with k_l, adds b_l and applies phi_l; one number per
filter is left after layer D. Nothing is fitted here.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._activations import ACTIVATIONS


class PatchCNN(NamedTuple):
    """y = intercept + sum over filters of scale times the filter's last output.

    ``activations`` holds one name per layer, ``order`` the features in the order in
    which the patches take them (None: as they are; -1: a zero), ``biases`` an array
    per hidden layer, or nothing.
    """

    kernels: tuple
    scales: np.ndarray
    intercept: float
    activations: tuple
    order: np.ndarray | None = None
    biases: tuple = ()

    def astype(self, dtype):
        return self._replace(
            kernels=tuple(k.astype(dtype) for k in self.kernels),
            scales=self.scales.astype(dtype),
            biases=tuple(b.astype(dtype) for b in self.biases),
            intercept=np.dtype(dtype).type(self.intercept),
        )


def alike(network, other):
    """Whether two networks differ in their numbers only."""
    structures = [
        (n.activations, [k.shape for k in n.kernels], len(n.biases))
        for n in (network, other)
    ]
    return structures[0] == structures[1] and np.array_equal(network.order, other.order)


def patch_order(network, X):
    """X with its features in the order in which the patches take them."""
    if network.order is None:
        return X
    ordered = X[:, network.order]
    ordered[:, network.order < 0] = 0
    return ordered


def layers_forward(kernels, biases, activations, X):
    """Per layer of one filter its input as patches and its pre-activation; the output.

    The features of X are in patch order.
    """
    h, inputs, pre_activations = X, [], []
    for layer, (k, name) in enumerate(zip(kernels, activations, strict=True)):
        patches = h.reshape(-1, len(k))
        z = (patches @ k).reshape(len(X), -1)
        if layer < len(biases):
            z += biases[layer]
        inputs.append(patches.reshape(len(X), -1, len(k)))
        pre_activations.append(z)
        h = ACTIVATIONS[name].value(z)
    return inputs, pre_activations, h[:, 0]


def filter_kernels(network, r):
    return [k[r] for k in network.kernels]


def filter_biases(network, r):
    return [b[r] for b in network.biases]


def forward(network, X):
    """The network's output, shape (rows,), in the dtype of X and the kernels.

    NaN in the rows where a pre-activation of the first layer is not finite, as it is
    where X is not: an activation could hide it.
    """
    X = patch_order(network, X)
    output = np.full(len(X), network.intercept, dtype=X.dtype)
    for r, scale in enumerate(network.scales):
        kernels, biases = filter_kernels(network, r), filter_biases(network, r)
        with np.errstate(over="ignore", invalid="ignore"):
            _, z, value = layers_forward(kernels, biases, network.activations, X)
            lost = ~np.isfinite(np.sum(z[0], axis=1))
        output += scale * value
        output[lost] = np.nan
    return output


def _write_jacobian(kernels, biases, activations, X, by_kernels, by_biases):
    """Write the derivatives of one filter's output into views; return the output."""
    inputs, pre_activations, output = layers_forward(kernels, biases, activations, X)
    end = by_kernels.shape[1]
    back = np.ones((len(X), 1), dtype=X.dtype)
    for layer in reversed(range(len(kernels))):
        k = kernels[layer]
        derivative = ACTIVATIONS[activations[layer]].derivative(pre_activations[layer])
        back = back * derivative
        of_layer = by_kernels[:, np.newaxis, end - len(k) : end]
        np.matmul(back[:, np.newaxis, :], inputs[layer], out=of_layer)
        if layer < len(biases):
            by_biases[:, layer] = back.sum(axis=1)
        end -= len(k)
        if layer:
            back = np.repeat(back, len(k), axis=1) * np.tile(k, back.shape[1])
    return output


def jacobian(network, X):
    """Derivatives by ``pack(network)`` and the output, (rows, parameters + 1).

    The last column is the output: one product of the table with itself gives all sums
    of the normal equations.
    """
    X = patch_order(network, X)
    n_filters = len(network.scales)
    table = np.empty((len(X), len(pack(network)) + 1), dtype=X.dtype)
    table[:, -2], table[:, -1] = 1, network.intercept
    by_filters = table[:, :-2].reshape(len(X), n_filters, -1)
    n_weights = sum(k.shape[1] for k in network.kernels)
    for r, scale in enumerate(network.scales):
        by_filter = by_filters[:, r]
        value = _write_jacobian(
            filter_kernels(network, r),
            filter_biases(network, r),
            network.activations,
            X,
            by_filter[:, :n_weights],
            by_filter[:, n_weights + 1 :],
        )
        by_filter *= scale
        by_filter[:, n_weights] = value
        table[:, -1] += scale * value
    return table


def pack(network):
    """All parameters as one vector."""
    per_filter = np.column_stack([*network.kernels, network.scales, *network.biases])
    return np.append(per_filter.ravel(), network.intercept)


def unpack(theta, like):
    """The network with parameters ``theta`` and the structure of ``like``."""
    per_filter = theta[:-1].reshape(len(like.scales), -1)
    bounds = np.cumsum([*(k.shape[1] for k in like.kernels), 1])
    *kernels, scales, biases = np.split(per_filter, bounds, axis=1)
    return like._replace(
        kernels=tuple(kernels),
        scales=scales[:, 0],
        biases=tuple(biases.T),
        intercept=theta[-1],
    )


def normalize(network):
    """The same function with the norms moved forward as far as they go.

    The norm of the kernel of a homogeneous layer moves to the next kernel, that of
    the last one into the scale; a bias is divided by the norm of its kernel. A layer
    that is not homogeneous keeps its norm.
    """
    carried = np.ones(len(network.scales))
    kernels, biases = [], list(network.biases)
    for layer, (k, name) in enumerate(
        zip(network.kernels, network.activations, strict=True)
    ):
        k = k * carried[:, np.newaxis]
        carried = np.ones(len(carried))
        if ACTIVATIONS[name].homogeneous:
            carried = np.linalg.norm(k, axis=1)
            carried = np.where(carried > 0, carried, 1)
            k = k / carried[:, np.newaxis]
            if layer < len(biases):
                biases[layer] = biases[layer] / carried
        kernels.append(k)
    scales = network.scales * carried
    return network._replace(kernels=tuple(kernels), scales=scales, biases=tuple(biases))


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
