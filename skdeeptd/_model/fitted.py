"""Convert networks to the attributes of a fitted estimator, and back.

==========  ==================  ===============================================
symbol      attribute           axes
==========  ==================  ===============================================
k_l         ``kernels_[l]``     (outputs, filters) + kernel size, unit norm
g_l         ``gains_``          (outputs, filters, layers): factor of k_l
scale_r     ``scales_``         (outputs, filters)
b_l         ``biases_``         (outputs, filters, hidden layers), or of none
==========  ==================  ===============================================

Attributes are plain arrays, tuples and numbers, so that any way to save an estimator
saves them. Whoever needs the network builds it from them.
"""

import functools

import numpy as np

from skdeeptd._data.rows import concatenate_blocks
from skdeeptd._model.network import PatchCNN, forward, numbers_per_row
from skdeeptd._model.parameters import split_gains
from skdeeptd._network.kernel_sizes import make_layout


def attributes_of(networks, layout, dtype):
    """Return the attributes for a network per output, in ``dtype``.

    Raises
    ------
    FloatingPointError
        If a number is beyond the range of the dtype.
    """
    kernels, gains, scales, biases = zip(*map(split_gains, networks), strict=True)
    intercepts = [network.intercept for network in networks]
    numbers = {
        "gains_": np.array(gains),
        "scales_": np.array(scales),
        "biases_": np.array(biases),
        "intercept_": np.array(intercepts),
    }
    return {
        "kernels_": [
            np.stack(kernels_of_layer).reshape(len(networks), -1, *shape).astype(dtype)
            for kernels_of_layer, shape in zip(
                zip(*kernels, strict=True), layout.kernel_shapes, strict=True
            )
        ],
        **{name: _in_range(name, value, dtype) for name, value in numbers.items()},
        "kernel_sizes_": layout.kernel_sizes,
        "strides_": layout.strides,
        "input_shape_": layout.input_shape,
        "activations_": networks[0].activations,
    }


def _in_range(name, value, dtype):
    with np.errstate(over="ignore", under="ignore"):
        rounded = value.astype(dtype)
    lost = ~np.isfinite(rounded) | ((rounded == 0) & (value != 0))
    if name == "intercept_":
        lost &= rounded != 0
    if np.any(lost):
        raise FloatingPointError(
            f"{name} holds {value[lost][0]:.3g}, which "
            f"{'under' if abs(value[lost][0]) < 1 else 'over'}flows "
            f"{np.dtype(dtype).name}"
        )
    return rounded


def layout_of(estimator):
    """Return the Layout of a fitted estimator.

    Raises
    ------
    ValueError
        If the attributes do not fit each other, for example in a file that was changed.
    """
    shapes = tuple(k.shape[2:] for k in estimator.kernels_)
    if shapes != tuple(map(tuple, map(np.atleast_1d, estimator.kernel_sizes_))):
        raise ValueError(
            f"kernel_sizes_ is {estimator.kernel_sizes_}, but kernels_ has kernels of "
            f"the shapes {shapes}: the attributes were changed after the fit"
        )
    return fitted_layout(
        estimator.n_features_in_, shapes, estimator.input_shape_, estimator.strides_
    )


def fitted_layout(n_features, kernel_sizes, input_shape, strides):
    """Return the Layout for sizes that a fit has checked, parsed at the first call.

    Patches that end with the input are a case of padding="same".
    """
    sizes = map(_hashable, (kernel_sizes, input_shape, strides))
    return _cached_layout(n_features, *sizes)


def _hashable(sizes):
    if isinstance(sizes, list | tuple | np.ndarray):
        return tuple(map(_hashable, sizes))
    return sizes


@functools.lru_cache(maxsize=32)
def _cached_layout(n_features, kernel_sizes, input_shape, strides):
    return make_layout(n_features, kernel_sizes, input_shape, strides)


def networks_of(estimator):
    """Return a PatchCNN per output of a fitted estimator.

    Raises
    ------
    ValueError
        If the attributes do not fit each other.
    """
    layout = layout_of(estimator)
    n_outputs, n_filters = estimator.kernels_[0].shape[:2]
    for name, n_axes in {
        "gains_": 2,
        "scales_": 2,
        "biases_": 2,
        "intercept_": 1,
    }.items():
        shape = getattr(estimator, name).shape
        if shape[:n_axes] != (n_outputs, n_filters)[:n_axes]:
            raise ValueError(
                f"{name} has the shape {shape}, but kernels_ has {n_outputs} outputs "
                f"and {n_filters} filters: the attributes were changed after the fit"
            )
    return [
        PatchCNN(
            kernels=tuple(
                k[output].reshape(n_filters, -1) * gain[:, np.newaxis]
                for k, gain in zip(
                    estimator.kernels_, estimator.gains_[output].T, strict=True
                )
            ),
            scales=estimator.scales_[output],
            intercept=estimator.intercept_[output],
            activations=estimator.activations_,
            orders=layout.orders,
            biases=tuple(estimator.biases_[output].T),
        )
        for output in range(n_outputs)
    ]


def predictions(networks, X, n_jobs=None):
    """Return the outputs of the networks, (rows, outputs), in the dtype of X."""
    in_dtype = [network.astype(X.dtype) for network in networks]

    def outputs(block):
        return np.column_stack([forward(network, block) for network in in_dtype])

    return concatenate_blocks(outputs, X, n_jobs, numbers_per_row(networks[0]))
