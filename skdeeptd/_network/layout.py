"""Compute which values each patch of a network holds.

==========  ======================  ==============================================
symbol      name                    meaning
==========  ======================  ==============================================
p           ``n_features``          numbers in one sample
d_l         ``sizes[l]``            weights of the kernel of layer l (all its axes)
s_l         ``strides[l]``          from one patch of layer l to the next
P_l                                 patches of layer l; one in the last layer
D           ``len(sizes)``          layers
dof         ``degrees_of_freedom``  free weights of one filter: sum d_l - (D - 1)
==========  ======================  ==============================================

On an axis of length n, a layer with kernel size d and stride s has P patches: the
smallest number with (P - 1) s + d >= n. It passes P numbers to the next layer; the last
layer has one patch. If (P - 1) s + d is larger than n, the last patch reaches beyond
the end of the axis and sees zeros there. In the paper's network s_l = d_l: patches do
not overlap, and on each axis the kernel sizes multiply to its length.

A fixed permutation of the features reduces an input with several axes to one axis. The
patches of layer 1 are side by side, in the order of the patches of layer 2, and so on.
If patches overlap, a feature appears several times.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np


class Layout(NamedTuple):
    """Hold the shapes of a network's patches and the values in each patch.

    ``kernel_shapes`` has a kernel shape per layer, first layer first. ``steps`` has a
    stride per hidden layer, with as many axes as its kernel. ``orders`` has gather
    indices per layer: the values of the layer below (the features, for the first
    layer) in patch order, -1 for a zero, or None if they have this order already.
    """

    input_shape: tuple
    kernel_shapes: tuple
    steps: tuple
    orders: tuple

    @property
    def sizes(self):
        """Number of weights of each kernel."""
        return tuple(math.prod(shape) for shape in self.kernel_shapes)

    @property
    def kernel_sizes(self):
        """Kernel shapes, as plain numbers if the input has one axis."""
        return self._as_written(self.kernel_shapes)

    @property
    def strides(self):
        """Strides, as plain numbers if the input has one axis."""
        return self._as_written(self.steps)

    @property
    def full_shapes(self):
        """Kernel shapes with a size for every axis of the input."""
        return tuple(fill_axes(s, len(self.input_shape)) for s in self.kernel_shapes)

    @property
    def full_steps(self):
        """Strides per layer and axis; the stride of the last layer is its size."""
        steps = (*self.steps, self.kernel_shapes[-1])
        return tuple(fill_axes(s, len(self.input_shape)) for s in steps)

    @property
    def covered_shape(self):
        """Shape of the input with the zeros that the last patches see."""
        covered = (1,) * len(self.input_shape)
        for shape, step in zip(self.full_shapes[::-1], self.full_steps[::-1]):
            covered = covered_lengths(covered, shape, step)
        return covered

    def _as_written(self, shapes):
        return readable(shapes) if len(self.input_shape) == 1 else shapes


def degrees_of_freedom(sizes):
    """Count the free weights of one filter, since only one scale of D layers counts."""
    return sum(sizes) - len(sizes) + 1


def count_patches(lengths, shape, step):
    """Count the patches on each axis that meet at least one value."""
    shape, step = fill_axes(shape, len(lengths)), fill_axes(step, len(lengths))
    axes = zip(lengths, shape, step)
    return tuple(max(0, -(-(n - d) // s)) + 1 for n, d, s in axes)


def covered_lengths(n_patches, shape, step):
    """Return the number of values on each axis that patches of a layer cover."""
    axes = zip(n_patches, shape, step, strict=True)
    return tuple((n - 1) * s + d for n, d, s in axes)


def fill_axes(shape, n_axes):
    """Append size 1 for each axis that a shape leaves out."""
    return shape + (1,) * (n_axes - len(shape))


def readable(shapes):
    """Write shapes with one axis as plain numbers."""
    return tuple(s[0] if len(s) == 1 else s for s in shapes)


def arrange_patches(input_shape, kernel_shapes, steps):
    """Return the ``Layout`` for kernel shapes and strides that fit an input.

    Its ``orders`` are computed from the last layer down. If the patches of a layer do
    not overlap, the layer below is computed in patch order, so that it needs no
    indices.
    """
    layout = Layout(input_shape, kernel_shapes, steps, ())
    orders, wanted, grid = [], np.zeros(1, dtype=int), (1,) * len(input_shape)
    for shape, step in zip(layout.full_shapes[::-1], layout.full_steps[::-1]):
        corners = np.array(np.unravel_index(wanted, grid)).T * step
        cells = corners[:, np.newaxis] + np.argwhere(np.ones(shape))
        grid = covered_lengths(grid, shape, step)
        order = np.ravel_multi_index(np.moveaxis(cells, -1, 0), grid).ravel()
        is_permutation = len(order) == math.prod(grid)
        wanted = order if is_permutation else np.arange(math.prod(grid))
        orders.append(None if is_permutation else order)
    features = np.full(grid, -1)
    own = np.arange(math.prod(input_shape)).reshape(input_shape)
    features[tuple(map(slice, input_shape))] = own
    first = features.ravel()[order]
    orders[-1] = None if np.array_equal(first, own.ravel()) else first
    return layout._replace(orders=tuple(reversed(orders)))
