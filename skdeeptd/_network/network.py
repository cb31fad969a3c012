"""The patch network: hidden layers and linear heads, all filters at once.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
x           ``X``               (rows, features)
Q, R, P     sizes               heads (outputs), filters, entries of a head
d_l         ``k.shape[1]``      kernel size of hidden layer l
k_l         ``kernels[l]``      (R, d_l); need not have unit norm
b_l         ``biases[l]``       (R,), of the hidden layers; empty without biases
z_l, h_l    ``z``, ``h``        (R, rows, patches): pre-activation and output
F           ``features``        (rows, R P + q): the values that the heads see, and
                                the covariates
V           ``heads``           (Q, R, P): the last kernels of each output
b           ``slopes``          (Q, q): coefficients of the covariates, which are
                                the last q columns of X
J           ``out``             (rows, K, R, M): derivatives of F B_k by the M
                                hidden weights of each filter, for readouts B_k
==========  ==================  ===============================================

Hidden layer l cuts the output of layer l-1 into patches of d_l numbers, multiplies each
patch by k_l, adds b_l and applies phi_l. The heads are linear: output q is F V_q plus
an intercept and the slopes times the covariates, columns that no filter sees. A
network whose last layer is not linear has a head of size 1 on top of
that layer, and linear regression has no hidden layer. The layout gives the order in
which the patches of a layer take the values below.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._data.scratch import empty
from skdeeptd._network.activations import ACTIVATIONS


class Network(NamedTuple):
    """Hidden layers with linear heads.

    ``orders`` holds, for each hidden layer and for the heads, the values of the layer
    below in patch order, or None if they have that order already.
    """

    kernels: tuple
    activations: tuple
    heads: np.ndarray
    intercept: np.ndarray
    orders: tuple
    biases: tuple = ()
    slopes: np.ndarray = np.zeros((1, 0))

    @property
    def n_covariates(self):
        return self.slopes.shape[1]

    @property
    def n_filters(self):
        return self.heads.shape[1]

    @property
    def sizes(self):
        """Weights of a kernel of each layer, the heads last."""
        return (*(k.shape[1] for k in self.kernels), self.heads.shape[2])

    @property
    def n_hidden_weights(self):
        """M: hidden weights of one filter."""
        return self.n_kernel_weights + len(self.biases)

    @property
    def n_kernel_weights(self):
        """Hidden weights of one filter without the biases."""
        return sum(self.sizes[:-1])

    @property
    def flat_heads(self):
        """Return V and b as (Q, R P + q)."""
        flat = self.heads.reshape(len(self.heads), -1)
        return np.hstack([flat, self.slopes]) if self.n_covariates else flat

    def with_flat_heads(self, flat):
        """Return the network with heads and slopes of an array like ``flat_heads``."""
        n_entries = self.heads[0].size
        heads = flat[:, :n_entries].reshape(len(flat), *self.heads.shape[1:])
        slopes = flat[:, n_entries:] if self.n_covariates else self.slopes
        return self._replace(heads=heads, slopes=slopes)

    @property
    def n_weights(self):
        """Weights of one output, the intercept included."""
        of_filter = self.n_hidden_weights + self.sizes[-1]
        return self.n_filters * of_filter + self.n_covariates + 1

    @property
    def n_free_weights(self):
        """Weights of one filter without those that rescaling makes redundant."""
        return self.n_hidden_weights + self.sizes[-1] - len(self.kernels)

    @property
    def is_homogeneous(self):
        """Return whether the norms of all hidden kernels can move into the heads."""
        return all(ACTIVATIONS[name].homogeneous for name in self.activations)

    def astype(self, dtype):
        return self._replace(
            kernels=tuple(k.astype(dtype) for k in self.kernels),
            heads=self.heads.astype(dtype),
            intercept=self.intercept.astype(dtype),
            biases=tuple(b.astype(dtype) for b in self.biases),
            slopes=self.slopes.astype(dtype),
        )

    def head(self, output):
        """Return the network of one output."""
        one = slice(output, output + 1)
        return self._replace(
            heads=self.heads[one],
            intercept=self.intercept[one],
            slopes=self.slopes[one] if self.n_covariates else self.slopes,
        )


def blank_network(
    layout, n_filters, activations, hidden_bias=False, n_heads=1, n_covariates=0
):
    """Return a network of a ``Layout`` whose weights are zero.

    ``activations`` has a name for every layer of the layout. A last layer with another
    activation than the identity becomes a hidden layer below heads of size 1. All
    filters of a single linear layer are the same, so it has one.
    """
    *hidden, last = layout.sizes
    orders = layout.orders
    if activations[-1] != "identity":
        hidden, last, orders = [*hidden, last], 1, (*orders, None)
    else:
        activations = activations[:-1]
    n_filters = n_filters if hidden else 1
    n_biases = len(layout.sizes) - 1 if hidden_bias else 0
    return Network(
        tuple(np.zeros((n_filters, d)) for d in hidden),
        tuple(activations),
        np.zeros((n_heads, n_filters, last)),
        np.zeros(n_heads),
        tuple(orders),
        (np.zeros(n_filters),) * n_biases,
        np.zeros((n_heads, n_covariates)),
    )


class Layer(NamedTuple):
    """``patches`` is (rows, patches, d_1) in the first layer, which all filters share.

    Above the first layer it is (filters, rows, patches, d_l).
    """

    patches: np.ndarray
    z: np.ndarray
    h: np.ndarray


def same_structure(network, other):
    """Return whether two networks differ in their numbers only."""
    alike, others = (
        (n.activations, n.sizes, n.heads.shape, len(n.biases), n.n_covariates)
        for n in (network, other)
    )
    is_alike = alike == others and len(network.orders) == len(other.orders)
    return is_alike and all(map(np.array_equal, network.orders, other.orders))


def patch_sources(network):
    """Return the feature that meets each entry of the product of a filter's kernels.

    The kernel of the first layer runs fastest, as in ``Layout.orders``; -1 is a zero.
    """
    sources = np.zeros(1, dtype=int)
    for order, d in zip(network.orders[::-1], network.sizes[::-1], strict=True):
        values = (sources[:, np.newaxis] * d + np.arange(d)).ravel()
        sources = values if order is None else order[values]
    return sources


def overlapping_patches(network):
    """Return the values of each patch, (patches, d), per layer with overlap."""
    tables = {}
    for layer, (order, d) in enumerate(zip(network.orders, network.sizes, strict=True)):
        known = () if order is None else order[order >= 0]
        if len(np.unique(known)) < len(known):
            tables[layer] = order.reshape(-1, d)
    return tables


def numbers_per_row(network):
    """Return how many numbers a forward pass makes of one row."""
    n_patches, total = 1, 0
    layers = zip(network.orders[::-1], network.sizes[::-1])
    for number, (order, d) in enumerate(layers):
        is_first = number == len(network.kernels)
        n_filters = 1 if is_first else network.n_filters
        n_values = n_patches * d
        if number:
            total += 2 * network.n_filters * n_patches
        if order is not None:
            total += n_filters * n_values
        n_patches = n_values if order is None else 1 + order.max()
    return total


def in_patch_order(values, order, name):
    """Return values with their last axis in patch order, with zeros for -1."""
    if order is None:
        return values
    ordered = empty(name, (*values.shape[:-1], len(order)), values.dtype)
    np.take(values, order, axis=-1, out=ordered, mode="wrap")
    padding = order < 0
    if padding.any():
        ordered[..., padding] = 0
    return ordered


def pre_activations(kernels, h, order, number):
    """Return patches and pre-activations of a layer; h is X in layer 1."""
    h = in_patch_order(h, order, f"patches{number}")
    n_filters, d = kernels.shape
    n_rows, n_patches = h.shape[-2], h.shape[-1] // d
    z = empty(f"z{number}", (n_filters, n_rows, n_patches), h.dtype)
    if h.ndim == 2:
        patches = h.reshape(n_rows, n_patches, d)
        np.matmul(kernels, h.reshape(-1, d).T, out=z.reshape(n_filters, -1))
    else:
        patches = h.reshape(n_filters, n_rows, n_patches, d)
        np.matmul(
            h.reshape(n_filters, -1, d),
            kernels[:, :, np.newaxis],
            out=z.reshape(n_filters, -1, 1),
        )
    return patches, z


def hidden_forward(network, X):
    """Return a ``Layer`` per hidden layer.

    The next call in a ``reusing`` context uses the memory of the layers again.
    """
    layers, h = [], signal_columns(network, X)
    for number, (k, name) in enumerate(zip(network.kernels, network.activations), 1):
        patches, z = pre_activations(k, h, network.orders[number - 1], number)
        if number <= len(network.biases):
            z += network.biases[number - 1][:, np.newaxis, np.newaxis]
        h = ACTIVATIONS[name].value(z, empty(f"h{number}", z.shape, z.dtype))
        layers.append(Layer(patches, z, h))
    return layers


def head_features(network, layers, X):
    """Return F, (rows, R P + q), above the hidden ``layers`` of X."""
    below = layers[-1].h if layers else signal_columns(network, X)
    values = in_patch_order(below, network.orders[-1], "features")
    values = values.transpose(1, 0, 2).reshape(len(X), -1) if layers else values
    if network.n_covariates:
        return np.hstack([values, X[:, -network.n_covariates :]])
    return values


def signal_columns(network, X):
    """Return the columns of X that the filters see, all but the covariates."""
    return X[:, : X.shape[1] - network.n_covariates]


def forward(network, X):
    """Return the outputs, (rows, Q), in the dtype of X and the kernels.

    A row is NaN if a pre-activation of its first layer is not finite, because an
    activation could hide NaN or inf in X.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        layers = hidden_forward(network, X)
        features = head_features(network, layers, X)
        outputs = network.intercept + features @ network.flat_heads.T
        first = layers[0].z if layers else features[np.newaxis, :, :]
        if not np.all(np.isfinite(first.sum(axis=(0, 2)))):
            outputs[~np.isfinite(first).all(axis=(0, 2))] = np.nan
    return outputs


def input_gradient(network, X):
    """Return the mean over the rows of the derivative of output 0 by each feature."""
    layers = hidden_forward(network, X)
    back = network.heads[0][:, np.newaxis, :]
    for number in reversed(range(len(layers))):
        back = back_to_values(
            back, network.orders[number + 1], network.sizes[number + 1]
        )
        back = through_activation(back, layers[number], network.activations[number])
        if number == 0:
            back = back.mean(axis=1, keepdims=True)
        back = _to_patches(back, network.kernels[number])
    n_features = signal_columns(network, X).shape[1]
    return sum_by_feature(network.orders[0], back.sum(axis=(0, 1)), n_features)


def sum_by_feature(order, in_order, n_features):
    """Return the sums per feature of numbers in patch order."""
    if order is None:
        return in_order
    known = order >= 0
    return np.bincount(order[known], in_order[known], n_features)


def hidden_jacobian(network, layers, basis, out):
    """Write the derivatives J of F B_k by the hidden weights.

    Parameters
    ----------
    network : Network
    layers : list of Layer
        Result of ``hidden_forward``.
    basis : array of shape (K, R, P)
        The readouts B_k; the heads, for the derivatives of the outputs.
    out : array of shape (rows, K, R, M)
    """
    n_readouts, n_filters = basis.shape[:2]
    n_rows, end = len(out), network.n_kernel_weights
    back = basis.reshape(n_readouts * n_filters, 1, -1).astype(out.dtype, copy=False)
    for number in reversed(range(len(layers))):
        layer, k = layers[number], network.kernels[number]
        back = back_to_values(
            back, network.orders[number + 1], network.sizes[number + 1]
        )
        back = back.reshape(n_readouts, n_filters, *back.shape[1:])
        back = through_activation(back, layer, network.activations[number])
        part = out[:, :, :, end - k.shape[1] : end]
        _sum_over_patches(back, layer.patches, part)
        if number < len(network.biases):
            place = network.n_kernel_weights + number
            out[:, :, :, place] = back.sum(axis=3).transpose(2, 0, 1)
        end -= k.shape[1]
        if number:
            back = _to_patches(back, k).reshape(n_readouts * n_filters, n_rows, -1)


def through_activation(back, layer, name):
    """Return ``back``, (..., filters, rows or 1, patches), times phi'(z)."""
    slope = empty("slope", layer.z.shape, layer.z.dtype)
    ACTIVATIONS[name].derivative(layer.z, layer.h, slope)
    shape = np.broadcast_shapes(back.shape, slope.shape)
    return np.multiply(back, slope, out=empty("back", shape, slope.dtype))


def _to_patches(back, k):
    """Return each of (..., filters, rows, patches) times the kernel of its filter."""
    wide = back[..., np.newaxis] * k[:, np.newaxis, np.newaxis, :]
    return wide.reshape(*back.shape[:-1], -1)


def back_to_values(back, order, d):
    """Return sums per value of the layer below, from numbers in patch order."""
    if order is None:
        return back
    values = np.zeros((*back.shape[:-1], 1 + order.max()), back.dtype)
    for entry in range(d):  # a kernel meets no value twice
        values[..., order[entry::d]] += back[..., entry::d]
    return values


def _sum_over_patches(back, patches, out):
    """Write sum_p back[k, r, i, p] patches[(r,) i, p, :] to (rows, K, R, d)."""
    n_rows, n_patches = back.shape[2:]
    if patches.ndim == 3:
        by_row = back.transpose(2, 0, 1, 3).reshape(n_rows, -1, n_patches)
        np.matmul(by_row, patches, out=out.reshape(n_rows, by_row.shape[1], -1))
    elif patches.shape[2] == 1:
        np.multiply(back, patches[:, :, 0], out=out.transpose(1, 2, 0, 3))
    else:
        np.matmul(
            back[:, :, :, np.newaxis, :],
            patches,
            out=out.transpose(1, 2, 0, 3)[:, :, :, np.newaxis],
        )
