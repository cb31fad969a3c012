"""Read kernel sizes and strides, choose default ones, and list them for a search.

The rule for all of them: on each axis every weight of a kernel must meet a value, and
the last kernel must take all values that are left. Kernel sizes that divide an axis
evenly tile it; others see zeros beyond its end.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Sequence
from numbers import Integral

import numpy as np

from skdeeptd._data.signals import is_short
from skdeeptd._network.layout import (
    arrange_patches,
    count_patches,
    covered_lengths,
    fill_axes,
    readable,
)


def make_layout(n_features, kernel_sizes=None, input_shape=None, strides=None):
    """Check kernel sizes and strides against each other and arrange the patches.

    Parameters
    ----------
    n_features : int
    kernel_sizes : sequence of int or of tuple of int, or None
        First layer first; None for ``default_kernel_shapes``. A tuple shorter than
        ``input_shape`` has size 1 on the axes that it leaves out; a number holds for
        every axis that the layers before it have not used up. The last entry may be
        -1, for all that is left.
    input_shape : sequence of int or None
        None for one axis of ``n_features``.
    strides : int, sequence of int or of tuple of int, or None
        An entry per hidden layer, a number for all of them, None for the kernel sizes.
        A number holds for every axis on which there is more than one patch.

    Returns
    -------
    Layout

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer or the sizes do not fit each other.
    """
    input_shape = _sizes((n_features,) if input_shape is None else input_shape)
    if math.prod(input_shape) != n_features:
        raise ValueError(
            f"input_shape {input_shape} holds {math.prod(input_shape)} numbers, "
            f"but X has {n_features} features"
        )
    if kernel_sizes is None:
        kernel_sizes = default_kernel_shapes(input_shape, tile=strides is None)
    shapes, steps = _parse(kernel_sizes, strides, input_shape)
    _check_fit(shapes, steps, input_shape, tile=strides is None)
    return arrange_patches(input_shape, shapes, steps)


def infer_n_features(kernel_sizes, input_shape=None, strides=None):
    """Count the entries of ``input_shape``, or the features that the patches cover.

    Raises
    ------
    TypeError, ValueError
        If a size is not a positive integer, or is -1 without an ``input_shape``.
    """
    if input_shape is not None:
        return math.prod(_sizes(input_shape))
    if np.iterable(kernel_sizes) and any(map(_is_rest, kernel_sizes)):
        raise ValueError(
            f"kernel_sizes {tuple(kernel_sizes)} hold -1, all that is left of a "
            f"sample, but there is no input_shape to tell how much; give it"
        )
    sizes = _sizes(kernel_sizes, "kernel_sizes")
    n_hidden, length = len(sizes) - 1, sizes[-1]
    for layer in reversed(range(n_hidden)):
        step = sizes[layer]
        if strides is not None and step > 1:
            stride = _entry(strides, layer, n_hidden)
            step = _size(stride, f"strides of layer {layer + 1}")
        (length,) = covered_lengths((length,), (sizes[layer],), (step,))
    return length


def _size(value, name):
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must hold integers, got {value!r}; write 4, not 4.0")
    if value < 1:
        raise ValueError(f"{name} must hold sizes of at least 1, got {value}")
    return int(value)


def _sizes(values, name="input_shape"):
    if isinstance(values, str) or not np.iterable(values):
        raise TypeError(f"{name} must be a sequence of sizes, got {values!r}")
    if len(values) == 0:
        raise ValueError(f"{name} is empty; give at least one size, for example (4,)")
    return tuple(_size(value, name) for value in values)


def _parse(kernel_sizes, strides, input_shape):
    """Return the kernel shape of each layer and the stride of each hidden layer."""
    if isinstance(kernel_sizes, str) or not np.iterable(kernel_sizes):
        raise TypeError(
            f"kernel_sizes must be a sequence with a size per layer, "
            f"got {kernel_sizes!r}; for one layer write ({kernel_sizes!r},)"
        )
    if len(kernel_sizes) == 0:
        raise ValueError(
            "kernel_sizes is empty; give a size per layer, "
            f"for example {readable(default_kernel_shapes(input_shape))}"
        )
    n_hidden = len(kernel_sizes) - 1
    left, shapes, steps = input_shape, [], []
    for layer, sizes in enumerate(kernel_sizes[:-1]):
        shapes.append(_kernel_shape(sizes, layer, left))
        stride = shapes[-1] if strides is None else _entry(strides, layer, n_hidden)
        steps.append(_step(stride, layer, shapes[-1], left))
        left = count_patches(left, shapes[-1], steps[-1])
    last = kernel_sizes[-1]
    shapes.append(left if _is_rest(last) else _kernel_shape(last, n_hidden, left))
    return tuple(shapes), tuple(steps)


def _is_rest(sizes):
    return isinstance(sizes, Integral) and not isinstance(sizes, bool) and sizes == -1


def _kernel_shape(sizes, layer, left):
    """Return the shape of one kernel; a number holds for the axes with values left."""
    if not np.iterable(sizes) or isinstance(sizes, str):
        if _is_rest(sizes):
            raise ValueError(
                f"kernel_sizes may hold -1, all that is left, for the last layer only, "
                f"got it for layer {layer + 1}, where {readable([left])[0]} is left; "
                f"give it a size"
            )
        size = _size(sizes, "kernel_sizes")
        return (size,) if len(left) == 1 else tuple(size if n > 1 else 1 for n in left)
    shape = _sizes(sizes, "kernel_sizes")
    if len(shape) > len(left):
        raise ValueError(
            f"kernel size {shape} has {len(shape)} axes, but a sample has {len(left)}"
        )
    return shape


def _entry(strides, layer, n_hidden):
    """Return the stride that is given for a hidden layer."""
    if isinstance(strides, str) or not np.iterable(strides):
        return strides
    if len(strides) != n_hidden:
        raise ValueError(
            f"strides must hold an entry for each of {n_hidden} hidden layers, got "
            f"{len(strides)}: {strides!r}; the last layer has one patch and no stride"
        )
    return strides[layer]


def _step(stride, layer, shape, left):
    """Return the stride of a layer on each axis of its kernel."""
    name = f"strides of layer {layer + 1}"
    if isinstance(stride, str) or not np.iterable(stride):
        stride = _size(stride, name)
        step = tuple(d if d in (1, n) else stride for d, n in zip(shape, left))
    else:
        step = _sizes(stride, name)
        if len(step) > len(shape):
            raise ValueError(
                f"stride {step} of layer {layer + 1} has {len(step)} axes, but its "
                f"kernel size {shape} has {len(shape)}"
            )
        step += shape[len(step) :]
    for axis, (s, d) in enumerate(zip(step, shape, strict=True)):
        if s > d:
            raise ValueError(
                f"layer {layer + 1} has kernel size {d} on axis {axis} and stride {s}, "
                f"which leaves values out; strides from 1 to {d} fit"
            )
    return step


def _check_fit(shapes, steps, input_shape, tile):
    """Raise ValueError unless each weight meets a value and the last kernel takes all.

    If ``tile`` is true, the message names kernel sizes that divide the axes evenly.
    """
    left, full = input_shape, [fill_axes(shape, len(input_shape)) for shape in shapes]
    for layer, shape in enumerate(full):
        is_last = layer == len(steps)
        for axis, (d, n) in enumerate(zip(shape, left, strict=True)):
            if d == n or (d < n and not is_last):
                continue
            if is_last:
                message = (
                    f"the last kernel must take all that is left, which is {n} for "
                    f"layer {layer + 1} on axis {axis}, got size {d}; write {n} or -1"
                )
            else:
                message = (
                    f"kernel size {d} of layer {layer + 1} is above the {n} values "
                    f"that it has on axis {axis}, so that some weights would meet "
                    f"zeros only; sizes from 1 to {n} fit"
                )
            if tile:
                sizes = tuple(shape[axis] for shape in full)
                message = (
                    f"kernel_sizes {sizes} multiply to {math.prod(sizes)} on an axis "
                    f"of length {input_shape[axis]}: {message}; to divide it evenly "
                    f"write for example {_nearest_tiling(full, input_shape)}"
                )
            raise ValueError(message)
        if not is_last:
            left = count_patches(left, shape, steps[layer])


def _nearest_tiling(shapes, input_shape):
    """Return kernel sizes close to ``shapes`` that divide each axis evenly."""
    by_axis = map(nearest_factors, input_shape, zip(*shapes, strict=True))
    nearest = [shape for shape in zip(*by_axis, strict=True) if math.prod(shape) > 1]
    return readable(nearest or [input_shape])


def divisors(n, longest=10**12):
    """List the divisors of n in ascending order; refuse n above ``longest``."""
    if n > longest:
        raise ValueError(
            f"input_shape holds the length {n}, whose divisors would take long to "
            f"find; lengths of at most {longest} are allowed"
        )
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return small + [n // d for d in reversed(small) if d * d != n]


def nearest_factors(n, wanted):
    """Return factors of n, each as close by ratio to the ``wanted`` one as can be."""
    factors, left = [], n
    for size in wanted[:-1]:
        nearest = min(divisors(left), key=lambda d: abs(math.log(d / size)))
        factors.append(nearest)
        left //= nearest
    return (*factors, left)


def default_kernel_shapes(input_shape, tile=True):
    """Return two kernel shapes that split each axis about evenly, the first one larger.

    The first kernel has about the root of the length of each axis: the next divisor
    above if ``tile`` is true and there is one, or else the root rounded up. A short
    axis, as that of channels often is, lies whole in the first kernel. The second shape
    is the number of patches, or -1 if strides may change it (``tile`` is false). One
    shape is left if no axis is longer than 2.
    """
    first = []
    for n in input_shape:
        root = math.isqrt(n - 1) + 1
        divisor = next(d for d in divisors(n) if d >= root) if tile else n
        split = root if divisor == n else divisor
        first.append(n if is_short(n, input_shape) else split)
    first = tuple(first)
    if first == input_shape:
        return (first,)
    return first, count_patches(input_shape, first, first) if tile else -1


def kernel_size_grid(
    input_shape: int | Sequence[int],
    *,
    min_layers: int = 1,
    max_layers: int | None = None,
    min_size: int = 2,
    max_size: int | None = None,
) -> list[tuple]:
    """List all kernel sizes that divide an input evenly, ready for a grid search.

    >>> from skdeeptd import kernel_size_grid
    >>> kernel_size_grid(12)
    [(12,), (2, 6), (3, 4), (4, 3), (6, 2), (2, 2, 3), (2, 3, 2), (3, 2, 2)]
    >>> kernel_size_grid((4, 6), max_layers=2, min_size=4)
    [((4, 6),), ((1, 6), (4, 1)), ((2, 2), (2, 3)), ((2, 3), (2, 2)), ((4, 1), (1, 6))]

    Parameters
    ----------
    input_shape : int or sequence of int
        Length of each axis; an int for one axis.
    min_layers : int, default=1
        Smallest number of layers.
    max_layers : int, default=None
        Largest number of layers; None for no bound.
    min_size : int, default=2
        Smallest number of weights of a kernel, over all its axes. It is at least 2,
        because a kernel of one weight can be merged into the layer above.
    max_size : int, default=None
        Largest number of weights of a kernel; None for no bound.

    Returns
    -------
    list of tuple
        Values for ``kernel_sizes`` of :class:`~skdeeptd.DeepTDRegressor`: ints for
        one axis, tuples for several. The list is sorted by the number of layers, then
        by the size of the first kernel, then of the second, and so on.

    Raises
    ------
    TypeError, ValueError
        If a bound or a length is not an integer in its range.
    ValueError
        If more than 20 000 kernel sizes lie within the bounds, or if a length is above
        10**12. Give ``max_layers``, a larger ``min_size`` or a smaller ``max_size``.
    """
    if isinstance(input_shape, Integral):
        input_shape = (input_shape,)
    lengths = _sizes(input_shape)
    min_layers, min_size = _size(min_layers, "min_layers"), _size(min_size, "min_size")
    max_layers = math.inf if max_layers is None else _size(max_layers, "max_layers")
    max_size = math.inf if max_size is None else _size(max_size, "max_size")
    if min_size < 2:
        raise ValueError(f"min_size must be at least 2, got {min_size}")

    tilings = Tilings(lengths, min_size, max_size)
    most_layers = min(max_layers, math.prod(lengths).bit_length())
    n_layers = range(min_layers, most_layers + 1)
    tilings.check_count(n_layers)
    return [readable(s) for n in n_layers for s in tilings.generate(lengths, n)]


def default_grid(lengths, max_layers, max_shapes, min_shapes=10, max_bytes=2**30):
    """List kernel sizes for a search: the default ones and those that divide evenly.

    If more than ``max_shapes`` divide evenly, the list has the most even ones, the same
    number for each number of layers; half of them have the short axes whole in the
    first kernel. The gather indices of all of them take at most ``max_bytes``, unless
    they are fewer than ``min_shapes``.
    """
    n_layers, tilings = range(1, max_layers + 1), Tilings(lengths, 2, math.inf)
    max_shapes = min(max_shapes, max_bytes // (8 * math.prod(lengths)))
    max_shapes = max(min_shapes, max_shapes)
    if sum(tilings.count(lengths, n) for n in n_layers) <= max_shapes:
        grid = {s for n in n_layers for s in tilings.generate(lengths, n)}
    else:
        whole = {(False,) * len(lengths), tuple(is_short(n, lengths) for n in lengths)}
        each = max_shapes // (max_layers * len(whole))
        grid = {
            s for n in n_layers for w in whole for s in most_even(lengths, n, each, w)
        }
    grid.add(default_kernel_shapes(lengths))
    return [readable(s) for s in sorted(grid, key=lambda s: (len(s), s))]


def most_even(lengths, n_layers, max_shapes, whole):
    """List the shapes that divide the axes most evenly, larger kernels first.

    Axes that are ``whole`` lie in the first kernel.
    """
    best = [(0.0, ((),) * n_layers)]
    for n, in_first in zip(lengths, whole, strict=True):
        splits = [(n, *(1,) * (n_layers - 1))]
        if not in_first:
            tilings = Tilings((n,), 1, n).generate((n,), n_layers)
            splits = [tuple(d for (d,) in shapes) for shapes in tilings]
        scored = [(sum(split) / n ** (1 / n_layers), split) for split in splits]
        longer = (
            (a + b, tuple((*shape, d) for shape, d in zip(shapes, split, strict=True)))
            for a, shapes in best
            for b, split in scored
        )
        best = heapq.nsmallest(
            max_shapes,
            longer,
            key=lambda one: (one[0], [-math.prod(s) for s in one[1]]),
        )
    return [shapes for _, shapes in best if min(map(math.prod, shapes)) > 1]


class Tilings:
    """Count and generate the kernel shapes that divide an input evenly.

    ``left`` is the number of values that the layers below leave on each axis.

    Parameters
    ----------
    lengths : tuple of int
    smallest, largest : int or inf
        Bounds on the weights of a kernel.
    max_shapes : int, default=20000
        Most shapes that are counted or generated.
    """

    def __init__(self, lengths, smallest, largest, max_shapes=20_000):
        self.lengths, self.smallest, self.largest = lengths, smallest, largest
        self.max_shapes = max_shapes
        self._divisors = [divisors(n) for n in lengths]
        n_shapes = math.prod(map(len, self._divisors))
        if n_shapes > max_shapes:
            raise ValueError(
                f"{n_shapes} shapes of a kernel divide input_shape {lengths}, and only "
                f"{max_shapes} can be tried; write down the kernel sizes to be "
                f"compared instead"
            )
        self.count = functools.cache(self._count)

    def _count(self, left, n_layers):
        """Count the shapes with ``n_layers``, or stop above ``max_shapes``."""
        size = math.prod(left)
        if not self.smallest**n_layers <= size <= self.largest**n_layers:
            return 0
        if n_layers == 1:
            return 1
        total = 0
        for _, rest in self._first_kernels(left):
            total += self.count(rest, n_layers - 1)
            if total > self.max_shapes:
                break
        return total

    def check_count(self, numbers_of_layers):
        """Raise ValueError if there are more than ``max_shapes``."""
        total = 0
        for n_layers in numbers_of_layers:
            fewer, total = total, total + self.count(self.lengths, n_layers)
            if total > self.max_shapes:
                advice = "give a larger min_size or a smaller max_size"
                if fewer:
                    advice += f", or max_layers={n_layers - 1} for {fewer} of them"
                raise ValueError(
                    f"more than {self.max_shapes} kernel sizes tile input_shape "
                    f"{self.lengths} within these bounds; {advice}"
                )

    def generate(self, left, n_layers):
        """Generate tuples of ``n_layers`` shapes in ascending order."""
        if not self.count(left, n_layers):
            return
        if n_layers == 1:
            yield (left,)
            return
        for shape, rest in self._first_kernels(left):
            for above in self.generate(rest, n_layers - 1):
                yield (shape, *above)

    def _first_kernels(self, left):
        """Generate each shape of a first kernel with the lengths that it leaves."""
        by_axis = (
            [d for d in axis if n % d == 0]
            for axis, n in zip(self._divisors, left, strict=True)
        )
        for shape in itertools.product(*by_axis):
            if self.smallest <= math.prod(shape) <= self.largest:
                yield shape, tuple(n // d for n, d in zip(left, shape, strict=True))
