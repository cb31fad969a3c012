"""Networks as the attributes of a fitted estimator, and back.

==========  ==================  ===============================================
symbol      attribute           axes
==========  ==================  ===============================================
k_l         ``kernels_[l]``     (outputs, filters) + kernel size, unit norm
g_l         ``gains_``          (outputs, filters, layers): factor of k_l
scale_r     ``scales_``         (outputs, filters)
b_l         ``biases_``         (outputs, filters, hidden layers), or of none
b           ``covariate_coef_`` (outputs, covariates), only with covariates
==========  ==================  ===============================================

Attributes are plain arrays, tuples and numbers, so that any way to save an estimator
saves them.
"""

import functools

import numpy as np

from skdeeptd._data.rows import concatenate_blocks
from skdeeptd._data.standardize import has_room
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import Network, forward, numbers_per_row
from skdeeptd._network.parameters import last_kernel_and_scale, split_gains


def attributes_of(networks, layout, activations, dtype, n_filters):
    """Return the attributes of a network per output, in ``dtype``.

    The filters of a single linear layer are the same, and share its weights evenly.

    Raises
    ------
    FloatingPointError
        If a number is beyond the range of the dtype.
    """
    found = []
    for network in networks:
        network, gains = split_gains(network)
        if activations[-1] == "identity":
            unit, size = last_kernel_and_scale(network)
            kernels = [*network.kernels, unit[0]]
            gains = np.column_stack([gains, np.ones(len(gains))])
        else:
            kernels, size = network.kernels, network.heads[:, :, 0]
        repeats = n_filters // network.n_filters
        found.append(
            (
                [np.repeat(k, repeats, axis=0) for k in kernels],
                np.repeat(gains, repeats, axis=0),
                np.repeat(size[0], repeats) / repeats,
                np.reshape(network.biases, (-1, n_filters)).T,
                network.intercept[0],
                network.slopes[0],
            )
        )
    kernels, *numbers = zip(*found, strict=True)
    names = ["gains_", "scales_", "biases_", "intercept_"]
    if networks[0].n_covariates:
        names.append("covariate_coef_")
    values = zip(names, map(np.array, numbers))
    return {
        "kernels_": [
            np.stack(of_layer).reshape(len(networks), -1, *shape).astype(dtype)
            for of_layer, shape in zip(zip(*kernels), layout.kernel_shapes)
        ],
        **{name: _in_range(name, value, dtype) for name, value in values},
        "kernel_sizes_": layout.kernel_sizes,
        "strides_": layout.strides,
        "input_shape_": layout.input_shape,
        "activations_": activations,
    }


def _in_range(name, value, dtype):
    with np.errstate(over="ignore", under="ignore"):
        rounded = value.astype(dtype)
    lost = ~np.isfinite(rounded) | ((rounded == 0) & (value != 0))
    if name in ("intercept_", "covariate_coef_"):
        lost &= rounded != 0
    if np.any(lost):
        raise FloatingPointError(
            f"{name} holds {value[lost][0]:.3g}, which "
            f"{'under' if abs(value[lost][0]) < 1 else 'over'}flows "
            f"{np.dtype(dtype).name}"
        )
    return rounded


def layout_of(estimator):
    """Return the ``Layout`` of a fitted estimator.

    Raises
    ------
    ValueError
        If its attributes do not fit each other, as if a file was changed.
    """
    shapes = tuple(k.shape[2:] for k in estimator.kernels_)
    if shapes != tuple(map(tuple, map(np.atleast_1d, estimator.kernel_sizes_))):
        raise ValueError(
            f"kernel_sizes_ is {estimator.kernel_sizes_}, but kernels_ has kernels of "
            f"the shapes {shapes}: the attributes were changed after the fit"
        )
    covariates = getattr(estimator, "covariate_coef_", np.zeros((1, 0)))
    n_features = estimator.n_features_in_ - covariates.shape[1]
    sizes = shapes, estimator.input_shape_, estimator.strides_
    return _cached_layout(n_features, *map(_hashable, sizes))


def _hashable(sizes):
    if isinstance(sizes, list | tuple | np.ndarray):
        return tuple(map(_hashable, sizes))
    return sizes


_cached_layout = functools.lru_cache(maxsize=32)(make_layout)


def network_of(kernels, scales, biases, intercept, activations, orders):
    """Return the ``Network`` of one output; filters of a single linear layer add up.

    ``kernels`` holds an array (filters, d_l) for each layer, ``scales`` is (filters,).
    """
    *hidden, last = kernels
    heads = last * scales[:, np.newaxis]
    if activations[-1] == "identity":
        activations = activations[:-1]
    else:
        hidden, heads, orders = kernels, scales[:, np.newaxis], (*orders, None)
    if not hidden:
        heads = heads.sum(axis=0, keepdims=True)
    return Network(
        tuple(hidden), tuple(activations), heads[np.newaxis], intercept, orders, biases
    )


def networks_of(estimator):
    """Return a ``Network`` per output of a fitted estimator.

    Raises
    ------
    ValueError
        As ``layout_of``.
    """
    layout, activations = layout_of(estimator), estimator.activations_
    n_outputs, n_filters = estimator.kernels_[0].shape[:2]
    for name in ("gains_", "scales_", "biases_", "intercept_"):
        shape = getattr(estimator, name).shape
        expected = (n_outputs, n_filters)[: 1 if name == "intercept_" else 2]
        if shape[: len(expected)] != expected:
            raise ValueError(
                f"{name} has the shape {shape}, but kernels_ has {n_outputs} outputs "
                f"and {n_filters} filters: the attributes were changed after the fit"
            )
    networks = []
    slopes = getattr(estimator, "covariate_coef_", np.zeros((n_outputs, 0)))
    for o in range(n_outputs):
        kernels = [
            k[o].reshape(n_filters, -1) * gain[:, np.newaxis]
            for k, gain in zip(estimator.kernels_, estimator.gains_[o].T, strict=True)
        ]
        biases, intercept = tuple(estimator.biases_[o].T), estimator.intercept_[[o]]
        others = biases, intercept, activations, layout.orders
        network = network_of(kernels, estimator.scales_[o], *others)
        networks.append(network._replace(slopes=slopes[[o]]))
    return networks


def predictions(networks, X, n_jobs=None):
    """Return the outputs of the networks, (rows, outputs), in the dtype of X.

    They are float64 if float32 cannot hold the weights or the outputs.
    """
    for dtype in dict.fromkeys([X.dtype, np.dtype(float)]):
        if not all(_fits(network, dtype) for network in networks):
            continue
        in_dtype = [network.astype(dtype) for network in networks]

        def outputs(block, dtype=dtype, in_dtype=in_dtype):
            block = block.astype(dtype, copy=False)
            return np.column_stack([forward(network, block) for network in in_dtype])

        width = numbers_per_row(networks[0])
        found = concatenate_blocks(outputs, X, n_jobs, width)
        if np.all(np.isfinite(found)):
            break
    return found


def _fits(network, dtype):
    """Return whether a dtype has room for the outputs of a network; float64 has."""
    heads, intercept = np.abs(network.flat_heads).max(), np.abs(network.intercept).max()
    largest = max(heads, intercept)
    return dtype == np.float64 or has_room(dtype, heads or largest, largest)
