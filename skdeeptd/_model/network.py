"""The patch network: forward pass and Jacobian, all filters at once.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
x           ``X``               (rows, features)
R           ``n_filters``
d_l         ``k.shape[1]``      kernel size of layer l
k_l         ``kernels[l]``      (filters, d_l); need not have unit norm
b_l         ``biases[l]``       (filters,), of the hidden layers; there may be none
h_l         ``h``               (filters, rows, patches), the output of layer l
z_l         ``z``               (filters, rows, patches), its pre-activation
scale_r     ``scales``          (filters,)
==========  ==================  ===============================================

Layer l cuts the output of layer l-1 into patches of d_l numbers, takes the inner
product of each with k_l, adds b_l and applies phi_l; one number per filter is left
after layer D. Which values the patches hold is the layout's business, which gives their
order; patches that overlap are copied out for a block of rows at a time. Nothing is
fitted here.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._data.scratch import empty
from skdeeptd._model.activations import ACTIVATIONS


class PatchCNN(NamedTuple):
    """y = intercept + sum over filters of scale times the filter's last output.

    ``activations`` holds one name per layer, ``orders`` the values of the layer below
    in patch order, as ``Layout`` does, ``biases`` an array per hidden layer, or
    nothing. No ``orders`` are orders of None.
    """

    kernels: tuple
    scales: np.ndarray
    intercept: float
    activations: tuple
    orders: tuple = ()
    biases: tuple = ()

    @property
    def sizes(self):
        return tuple(k.shape[1] for k in self.kernels)

    def order(self, layer):
        """Of the values that a layer takes, from 0."""
        return self.orders[layer] if self.orders else None

    @property
    def is_linear(self):
        """Whether it is linear regression, whatever its weights."""
        return self.activations == ("identity",)

    @property
    def is_homogeneous(self):
        """Whether the norms of all kernels can move into the scales."""
        return all(ACTIVATIONS[name].homogeneous for name in self.activations)

    def astype(self, dtype):
        return self._replace(
            kernels=tuple(k.astype(dtype) for k in self.kernels),
            scales=self.scales.astype(dtype),
            biases=tuple(b.astype(dtype) for b in self.biases),
            intercept=np.dtype(dtype).type(self.intercept),
        )


def blank_network(layout, n_filters, activations, hidden_bias=False):
    """A network of a ``Layout`` whose weights are zero."""
    n_biases = len(layout.sizes) - 1 if hidden_bias else 0
    return PatchCNN(
        kernels=tuple(np.zeros((n_filters, d)) for d in layout.sizes),
        scales=np.zeros(n_filters),
        intercept=0.0,
        activations=activations,
        orders=layout.orders,
        biases=(np.zeros(n_filters),) * n_biases,
    )


class Layer(NamedTuple):
    """``patches`` is (rows, patches, d_1) in the first layer, which all filters share.

    Above it is (filters, rows, patches, d_l); z and h are (filters, rows, patches).
    """

    patches: np.ndarray
    z: np.ndarray
    h: np.ndarray


def alike(network, other):
    """Whether two networks differ in their numbers only."""
    structures = [
        (n.activations, [k.shape for k in n.kernels], len(n.biases))
        for n in (network, other)
    ]
    return structures[0] == structures[1] and all(
        np.array_equal(network.order(layer), other.order(layer))
        for layer in range(len(network.kernels))
    )


def patch_sources(network):
    """For each entry of the product of a filter's kernels the feature that it meets.

    The kernel of the first layer runs fastest, as in ``Layout.orders``; -1 for a zero.
    """
    sources = np.zeros(1, dtype=int)
    for layer in reversed(range(len(network.sizes))):
        order, d = network.order(layer), network.sizes[layer]
        values = (sources[:, np.newaxis] * d + np.arange(d)).ravel()
        sources = values if order is None else order[values]
    return sources


def overlapping_patches(network):
    """Per layer whose patches share values: what each patch holds, (patches, d)."""
    tables = {}
    for layer, d in enumerate(network.sizes):
        order = network.order(layer)
        known = () if order is None else order[order >= 0]
        if len(np.unique(known)) < len(known):
            tables[layer] = order.reshape(-1, d)
    return tables


def numbers_per_row(network):
    """How many numbers a forward pass makes of one row."""
    n_filters, n_patches, total = len(network.scales), 1, copies_per_row(network)
    for layer in reversed(range(len(network.sizes))):
        total += 2 * n_filters * n_patches
        order, n_values = network.order(layer), n_patches * network.sizes[layer]
        n_patches = n_values if order is None else 1 + order.max()
    return total


def copies_per_row(network):
    """How many of these are values in patch order."""
    lengths = [
        0 if order is None else len(order)
        for order in map(network.order, range(len(network.sizes)))
    ]
    return lengths[0] + len(network.scales) * sum(lengths[1:])


def patch_order(network, X):
    """X with its features in the order in which the patches take them."""
    order = network.order(0)
    if order is None:
        return X
    ordered = empty("X", (len(X), len(order)), X.dtype)
    np.take(X, order, axis=1, out=ordered, mode="wrap")
    padding = order < 0
    if padding.any():
        ordered[:, padding] = 0
    return ordered


def first_layer(kernels, X):
    """Patches and pre-activations of the first layer, X in patch order."""
    n_filters, d = kernels.shape
    n_rows, n_patches = len(X), X.shape[1] // d
    patches = X.reshape(n_rows * n_patches, d)
    z = empty("z1", (n_filters, n_rows, n_patches), X.dtype)
    np.matmul(kernels, patches.T, out=z.reshape(n_filters, -1))
    return patches.reshape(n_rows, n_patches, d), z


def next_layer(kernels, h, order, number):
    """Patches and pre-activations of a layer above."""
    d = kernels.shape[1]
    if order is not None:
        copied = empty(f"patches{number}", (*h.shape[:2], len(order)), h.dtype)
        h = np.take(h, order, axis=2, out=copied, mode="wrap")
    n_filters, n_rows, n_values = h.shape
    n_patches = n_values // d
    patches = h.reshape(n_filters, n_rows * n_patches, d)
    z = empty(f"z{number}", (n_filters, n_rows, n_patches), h.dtype)
    np.matmul(patches, kernels[:, :, np.newaxis], out=z.reshape(n_filters, -1, 1))
    return patches.reshape(n_filters, n_rows, n_patches, d), z


def layers_forward(network, X):
    """A ``Layer`` per layer; the output of the last one has one patch.

    The memory of the layers is used again by the next call in a ``reusing`` context.
    """
    layers, h = [], None
    for number, (k, name) in enumerate(
        zip(network.kernels, network.activations, strict=True), 1
    ):
        if layers:
            patches, z = next_layer(k, h, network.order(number - 1), number)
        else:
            patches, z = first_layer(k, X)
        if number <= len(network.biases):
            z += network.biases[number - 1][:, np.newaxis, np.newaxis]
        h = ACTIVATIONS[name].value(z, empty(f"h{number}", z.shape, z.dtype))
        layers.append(Layer(patches, z, h))
    return layers


def forward(network, X):
    """The network's output, shape (rows,), in the dtype of X and the kernels.

    NaN in the rows where a pre-activation of the first layer is not finite, as it is
    where X is not: an activation could hide it.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        layers = layers_forward(network, patch_order(network, X))
        output = network.intercept + network.scales @ layers[-1].h[:, :, 0]
        z = layers[0].z
        if not np.all(np.isfinite(z.sum(axis=(0, 2)))):  # or the sum alone overflows
            output[~np.isfinite(z).all(axis=(0, 2))] = np.nan
    return output


def filter_outputs(network, X):
    """The last output of each filter, (filters, rows)."""
    return layers_forward(network, patch_order(network, X))[-1].h[:, :, 0]


def input_gradient(network, X):
    """Mean over the rows of the derivative by each feature of X, as X has them."""
    layers = layers_forward(network, patch_order(network, X))
    back = network.scales[:, np.newaxis, np.newaxis]
    for number in reversed(range(len(layers))):
        back = through_activation(back, layers[number], network.activations[number])
        if number == 0:
            back = back.mean(axis=1, keepdims=True)
        back = _to_patches(back, network.kernels[number])
        if number:
            back = to_values(back, network, number)
    return sum_by_feature(network.order(0), back.sum(axis=(0, 1)), X.shape[1])


def sum_by_feature(order, in_order, n_features):
    """Sums of what patches hold of each feature, from numbers in patch order."""
    if order is None:
        return in_order
    known = order >= 0
    return np.bincount(order[known], in_order[known], n_features)


def jacobian(network, X):
    """Derivatives by ``pack(network)`` and the output, (rows, parameters + 1).

    The last column is the output: one product of the table with itself gives all sums
    of the normal equations.
    """
    layers = layers_forward(network, patch_order(network, X))
    values = layers[-1].h[:, :, 0]
    n_filters, n_rows = values.shape
    n_weights, n_biases = sum(network.sizes), len(network.biases)
    width = n_weights + 1 + n_biases
    table = empty("jacobian", (n_rows, n_filters * width + 2), X.dtype)
    by_filters = table[:, :-2].reshape(n_rows, n_filters, width)
    by_filters[:, :, n_weights] = values.T
    table[:, -2] = 1
    table[:, -1] = network.intercept + network.scales @ values
    end = n_weights
    back = network.scales[:, np.newaxis, np.newaxis]
    for number in reversed(range(len(layers))):
        k, layer = network.kernels[number], layers[number]
        back = through_activation(back, layer, network.activations[number])
        by_layer = by_filters[:, :, end - k.shape[1] : end]
        _sum_over_patches(back, layer.patches, by_layer)
        if number < n_biases:
            by_filters[:, :, n_weights + 1 + number] = back.sum(axis=2).T
        end -= k.shape[1]
        if number:
            back = to_values(_to_patches(back, k), network, number)
    return table


def through_activation(back, layer, name):
    """``back`` times the derivative of the activation, like z."""
    slope = empty("slope", layer.z.shape, layer.z.dtype)
    ACTIVATIONS[name].derivative(layer.z, layer.h, slope)
    return np.multiply(back, slope, out=slope)


def _to_patches(back, k):
    """Each of (filters, rows, patches) times the kernel of its filter, side by side."""
    n_filters, n_rows, n_patches = back.shape
    product = empty("back", (*back.shape, k.shape[1]), back.dtype)
    np.multiply(back[..., np.newaxis], k[:, np.newaxis, np.newaxis, :], out=product)
    return product.reshape(n_filters, n_rows, n_patches * k.shape[1])


def to_values(back, network, number):
    """What the patches of a layer say of the values of the layer below, summed."""
    order, d = network.order(number), network.sizes[number]
    if order is None:
        return back
    values = np.zeros((*back.shape[:2], 1 + order.max()), back.dtype)
    for entry in range(d):  # of the kernel, which meets no value twice
        values[:, :, order[entry::d]] += back[:, :, entry::d]
    return values


def _sum_over_patches(back, patches, out):
    """Write sum_p back[r, i, p] patches[(r,) i, p, :] to (rows, filters, d)."""
    if patches.ndim == 3:
        np.matmul(back.transpose(1, 0, 2), patches, out=out)
    elif patches.shape[2] == 1:
        np.multiply(back, patches[:, :, 0], out=out.transpose(1, 0, 2))
    else:
        np.matmul(
            back[:, :, np.newaxis, :],
            patches,
            out=out.transpose(1, 0, 2)[:, :, np.newaxis],
        )
