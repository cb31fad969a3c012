"""Input shape, kernel sizes and strides -> the layout of the patches.

==========  =====================  ===============================================
symbol      name                   meaning
==========  =====================  ===============================================
p           ``n_features``         numbers in one sample
d_l         ``sizes[l]``           weights of the kernel of layer l (all its axes)
s_l         ``strides[l]``         from one patch of layer l to the next
P_l                                patches of layer l; one in the last layer
D           ``len(sizes)``         layers
dof         ``degrees_of_freedom`` free weights of one filter: sum d_l - (D - 1)
==========  =====================  ===============================================

On an axis of length n a layer of kernel size d and stride s has P patches, where
(P - 1) s + d = n, and leaves P numbers to the next layer; the last layer has one patch.
The paper's network has s_l = d_l: no patches overlap, and on each axis the kernel sizes
multiply to its length. With ``padding="same"`` the patches may reach beyond the end of
the axis, where zeros stand.

An input of several axes is the case of one axis after a fixed permutation of its
features: the patches of layer 1 side by side, in the order in which layer 2 takes
them, and so on. Where patches overlap, the order holds a feature several times.
"""

from __future__ import annotations

import functools
import heapq
import itertools
import math
from collections.abc import Sequence
from numbers import Integral
from typing import NamedTuple

import numpy as np

MOST_SHAPES = 20_000  # that a grid may hold: more than a search could try
FEWEST_DEFAULT = 10  # shapes that a search is given by default
ORDER_BYTES = 2**30  # that the layouts of these take
SHORT = 4  # an axis is short where another is more than so many times as long
LONGEST_AXIS = 10**12  # whose divisors are found in a moment


class Layout(NamedTuple):
    """Which values each patch holds.

    ``kernel_shapes`` holds a kernel shape per layer, first layer first, ``steps`` a
    stride per hidden layer with as many axes. ``orders`` holds per layer the values of
    the layer below (the features, for the first one) in patch order, -1 for a zero, or
    None where that is the order they have.
    """

    input_shape: tuple
    kernel_shapes: tuple
    steps: tuple
    orders: tuple

    @property
    def sizes(self):
        return tuple(math.prod(shape) for shape in self.kernel_shapes)

    @property
    def kernel_sizes(self):
        """As a user writes them: plain numbers where the input has one axis."""
        return self._as_written(self.kernel_shapes)

    @property
    def strides(self):
        """As a user writes them."""
        return self._as_written(self.steps)

    @property
    def full_shapes(self):
        """``kernel_shapes`` with a size on every axis of the input."""
        return tuple(_on_every_axis(s, self.input_shape) for s in self.kernel_shapes)

    @property
    def full_steps(self):
        """A stride per layer and axis; the last layer's is its size."""
        steps = (*self.steps, self.kernel_shapes[-1])
        return tuple(_on_every_axis(s, self.input_shape) for s in steps)

    @property
    def covered_shape(self):
        """What the patches cover: ``input_shape`` and the zeros at the end."""
        covered = (1,) * len(self.input_shape)
        for shape, step in zip(self.full_shapes[::-1], self.full_steps[::-1]):
            covered = _below(covered, shape, step)
        return covered

    def _as_written(self, shapes):
        one_axis = len(self.input_shape) == 1
        return tuple(shape[0] for shape in shapes) if one_axis else shapes


def degrees_of_freedom(sizes):
    """Free weights of one filter: the scales of all layers but one are redundant."""
    return sum(sizes) - len(sizes) + 1


def make_layout(
    n_features, kernel_sizes=None, input_shape=None, padding="valid", strides=None
):
    """Check sizes and strides against each other and lay the patches out.

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
    padding : {"valid", "same"}
        Whether the patches must end where each axis does, or may reach beyond.
    strides : int, sequence of int or of tuple of int, or None
        An entry per hidden layer, a number for all of them, None for the kernel sizes.
        A number holds for every axis on which there is more than one patch.

    Returns
    -------
    Layout

    Raises
    ------
    TypeError, ValueError
        Where a size is not a positive integer or the sizes do not fit each other.
    """
    if input_shape is None:
        input_shape = (n_features,)
    else:
        input_shape = _sizes(input_shape, "input_shape")
        if math.prod(input_shape) != n_features:
            raise ValueError(
                f"input_shape {input_shape} holds {math.prod(input_shape)} numbers, "
                f"but X has {n_features} features"
            )
    if kernel_sizes is None and strides is not None:
        kernel_sizes = (_root(input_shape), -1) if max(input_shape) > 1 else (1,)
    if kernel_sizes is None:
        shapes = default_kernel_shapes(input_shape, padding)
        steps = shapes[:-1]
    else:
        shapes, steps = _shapes_and_steps(kernel_sizes, strides, input_shape, padding)
    if strides is not None:
        _check_patches(shapes, steps, input_shape, padding)
    elif kernel_sizes is not None:
        check = _check_cover if padding == "same" else _check_tiling
        columns = zip(*(_on_every_axis(s, input_shape) for s in shapes), strict=True)
        for axis, sizes in enumerate(columns):
            check(sizes, axis, input_shape, shapes)
    layout = Layout(input_shape, shapes, steps, ())
    return layout._replace(orders=_orders(layout))


def n_features_of(kernel_sizes, input_shape=None, strides=None):
    """Entries of ``input_shape``, or else of the one axis that the patches cover.

    Raises
    ------
    TypeError, ValueError
        Where a size is not a positive integer, or -1 without an ``input_shape``.
    """
    if input_shape is not None:
        return math.prod(_sizes(input_shape, "input_shape"))
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
            step = _size(_entry(strides, layer, n_hidden), _stride_of(layer))
        (length,) = _below((length,), (sizes[layer],), (step,))
    return length


def _size(value, name):
    if isinstance(value, bool | np.bool_) or not isinstance(value, Integral):
        raise TypeError(f"{name} must hold integers, got {value!r}; write 4, not 4.0")
    if value < 1:
        raise ValueError(f"{name} must hold sizes of at least 1, got {value}")
    return int(value)


def _sizes(values, name):
    if isinstance(values, str) or not np.iterable(values):
        raise TypeError(f"{name} must be a sequence of sizes, got {values!r}")
    if len(values) == 0:
        raise ValueError(f"{name} is empty; give at least one size, for example (4,)")
    return tuple(_size(value, name) for value in values)


def _shapes_and_steps(kernel_sizes, strides, input_shape, padding):
    """The kernel shape of each layer, and the stride of each hidden one."""
    if isinstance(kernel_sizes, str) or not np.iterable(kernel_sizes):
        raise TypeError(
            f"kernel_sizes must be a sequence with a size per layer, "
            f"got {kernel_sizes!r}; for one layer write ({kernel_sizes!r},)"
        )
    if len(kernel_sizes) == 0:
        raise ValueError(
            "kernel_sizes is empty; give a size per layer, "
            f"for example {_readable(default_kernel_shapes(input_shape, padding))}"
        )
    n_hidden = len(kernel_sizes) - 1
    left, shapes, steps = input_shape, [], []
    for layer, sizes in enumerate(kernel_sizes):
        if layer == n_hidden and _is_rest(sizes):
            shapes.append(left)
            break
        shape = _kernel_shape(sizes, layer, left)
        shapes.append(shape)
        if layer < n_hidden:
            stride = shape if strides is None else _entry(strides, layer, n_hidden)
            steps.append(_step(stride, layer, shape, left))
            left = n_patches(left, shape, steps[-1])
    return tuple(shapes), tuple(steps)


def _is_rest(sizes):
    return isinstance(sizes, Integral) and not isinstance(sizes, bool) and sizes == -1


def _kernel_shape(sizes, layer, left):
    """Of one layer; a number holds for the axes of which something is left."""
    if not np.iterable(sizes) or isinstance(sizes, str):
        if _is_rest(sizes):
            raise ValueError(
                f"kernel_sizes may hold -1, all that is left, for the last layer only, "
                f"got it for layer {layer + 1}, where {_readable([left])[0]} is left; "
                f"give it a size"
            )
        size = _size(sizes, "kernel_sizes")
        shape = tuple(size if n > 1 else 1 for n in left)
        return (size,) if len(left) == 1 else shape
    shape = _sizes(sizes, "kernel_sizes")
    if len(shape) > len(left):
        raise ValueError(
            f"kernel size {shape} has {len(shape)} axes, but a sample has {len(left)}"
        )
    return shape


def _entry(strides, layer, n_hidden):
    """The stride that is given for a hidden layer."""
    if isinstance(strides, str) or not np.iterable(strides):
        return strides
    if len(strides) != n_hidden:
        raise ValueError(
            f"strides must hold an entry for each of {n_hidden} hidden layers, got "
            f"{len(strides)}: {strides!r}; the last layer has one patch and no stride"
        )
    return strides[layer]


def _stride_of(layer):
    return f"strides of layer {layer + 1}"


def _step(stride, layer, shape, left):
    """The stride of a layer on each axis of its kernel."""
    name = _stride_of(layer)
    sizes = zip(shape, left[: len(shape)], strict=True)
    if isinstance(stride, str) or not np.iterable(stride):
        stride = _size(stride, name)
        step = tuple(d if d in (1, n) else stride for d, n in sizes)
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


def n_patches(left, shape, step):
    """On each axis, the last one beyond the end where they do not fit in."""
    shape, step = _on_every_axis(shape, left), _on_every_axis(step, left)
    return tuple(
        max(0, -(-(n - d) // s)) + 1 for n, d, s in zip(left, shape, step, strict=True)
    )


def _check_patches(shapes, steps, input_shape, padding):
    """Patches must end with the axis, or every weight must meet a value."""
    left, n_axes = input_shape, len(input_shape)
    for layer, shape in enumerate(shapes):
        step = steps[layer] if layer < len(steps) else shape
        full = zip(left, *(_on_every_axis(s, left) for s in (shape, step)), strict=True)
        for axis, (n, d, s) in enumerate(full):
            where = f"layer {layer + 1}" + f" on axis {axis}" * (n_axes > 1)
            if layer == len(steps) and d != n:
                raise ValueError(
                    f"the last kernel must take all that is left, which is {n} for "
                    f"{where}, got size {d}; write {n}, or -1 for the last layer"
                )
            if d > n:
                raise ValueError(
                    f"kernel size {d} of {where} is above the {n} values that it has; "
                    f"sizes from 1 to {n} fit"
                )
            if padding == "valid" and (n - d) % s:
                nearest = n - -(-(n - d) // s) * s, n - (n - d) // s * s
                fitting = [size for size in nearest if s <= size <= n]
                raise ValueError(
                    f"kernel size {d} with stride {s} of {where} does not end with its "
                    f"{n} values; for example kernel size "
                    f'{" or ".join(map(str, fitting))}, stride 1, or padding="same"'
                )
        left = n_patches(left, shape, step)


def _on_every_axis(shape, input_shape):
    return shape + (1,) * (len(input_shape) - len(shape))


def _below(n_patches, shape, step):
    """On each axis, how many values these patches of a layer cover."""
    axes = zip(n_patches, shape, step, strict=True)
    return tuple((n - 1) * s + d for n, d, s in axes)


def _readable(shapes):
    return tuple(s[0] if len(s) == 1 else s for s in shapes)


def _check_tiling(sizes, axis, input_shape, shapes):
    product, length = math.prod(sizes), input_shape[axis]
    if product == length:
        return
    full = [_on_every_axis(shape, input_shape) for shape in shapes]
    by_axis = [nearest_factors(*a) for a in zip(input_shape, zip(*full), strict=True)]
    nearest = [shape for shape in zip(*by_axis, strict=True) if math.prod(shape) > 1]
    example = f'for example {_readable(nearest or full[:1])}, or padding="same"'
    if len(input_shape) == 1:
        raise ValueError(
            f"kernel_sizes {sizes} multiply to {product}, but X has {length} "
            f"features; {example}"
        )
    raise ValueError(
        f"kernel_sizes multiply to {product} on axis {axis} ({sizes}), but that "
        f"axis of input_shape {input_shape} has length {length}; {example}"
    )


def _check_cover(sizes, axis, input_shape, _):
    """Every weight must meet a value that is not padding, and one value be left."""
    left, example = input_shape[axis], []
    for layer, size in enumerate(sizes, 1):
        example.append(min(size, left) if layer < len(sizes) else left)
        left = -(-left // example[-1])
    if tuple(example) != sizes:
        raise ValueError(
            f"kernel_sizes {sizes} on axis {axis} do not end with one value, or have "
            f"weights that only meet padding: the axis of input_shape {input_shape} "
            f"has length {input_shape[axis]}; for example {tuple(example)}"
        )


def divisors(n):
    small = [d for d in range(1, math.isqrt(n) + 1) if n % d == 0]
    return small + [n // d for d in reversed(small) if d * d != n]


def nearest_factors(n, wanted):
    """Factors of n that follow the ``wanted`` ones layer by layer."""
    factors, left = [], n
    for size in wanted[:-1]:
        nearest = min(divisors(left), key=lambda d: abs(math.log(d / size)))
        factors.append(nearest)
        left //= nearest
    return (*factors, left)


def default_kernel_shapes(input_shape, padding="valid"):
    """Two layers, each axis split as evenly as can be, the larger part first.

    A short axis, as that of channels often is, lies in the first kernel whole.
    """
    if padding == "same":
        first = _root(input_shape)
        second = tuple(-(-n // d) for n, d in zip(input_shape, first, strict=True))
    else:
        second = tuple(
            1 if whole else _even_divisor(n)
            for n, whole in zip(input_shape, _lie_whole(input_shape), strict=True)
        )
        first = tuple(n // d for n, d in zip(input_shape, second, strict=True))
    return (first, second) if math.prod(second) > 1 else (first,)


def is_short(n, lengths):
    """Whether an axis is as short beside the others as one of channels."""
    return n * SHORT < max(lengths)


def _lie_whole(lengths):
    """Per axis whether it is short, and a longer one can be split in its place."""
    short = [is_short(n, lengths) for n in lengths]
    splits = [_even_divisor(n) > 1 for n in lengths]
    longer_splits = any(d and not s for d, s in zip(splits, short, strict=True))
    return [s and longer_splits for s in short]


def _even_divisor(n):
    """The largest one up to the root."""
    return max(d for d in divisors(n) if d <= math.isqrt(n))


def default_of_two_layers(input_shape):
    """What to write beside ``kernel_sizes=None`` for two layers, and their sizes."""
    padded = default_kernel_shapes(input_shape, "same")
    if len(padded) > 1:
        return 'padding="same"', _readable(padded)
    first = _root(input_shape)
    rest = n_patches(input_shape, first, (1,) * len(first))
    return "strides=1", _readable((first, rest))


def _root(input_shape):
    """A kernel of about the root of each axis, and of a short one the whole."""
    return tuple(
        n if is_short(n, input_shape) else math.isqrt(n - 1) + 1 for n in input_shape
    )


def _orders(layout):
    """``orders`` of a ``Layout``, from the last layer down.

    Where patches do not overlap, the layer below has its values in patch order.
    """
    n_axes = len(layout.input_shape)
    orders, wanted, grid = [], np.zeros(1, dtype=int), (1,) * n_axes
    layers = zip(reversed(layout.full_shapes), reversed(layout.full_steps), strict=True)
    for shape, step in layers:
        corners = np.array(np.unravel_index(wanted, grid)).T * step
        cells = corners[:, np.newaxis] + np.argwhere(np.ones(shape))
        grid = _below(grid, shape, step)
        order = np.ravel_multi_index(np.moveaxis(cells, -1, 0), grid).ravel()
        tiles = len(order) == math.prod(grid)
        wanted = order if tiles else np.arange(math.prod(grid))
        orders.append(None if tiles else order)
    features = np.full(grid, -1)
    own = np.arange(math.prod(layout.input_shape)).reshape(layout.input_shape)
    features[tuple(slice(n) for n in layout.input_shape)] = own
    first = features.ravel()[order]
    orders[-1] = None if np.array_equal(first, own.ravel()) else first
    return tuple(reversed(orders))


def kernel_size_grid(
    input_shape: int | Sequence[int],
    *,
    min_layers: int = 1,
    max_layers: int | None = None,
    min_size: int = 2,
    max_size: int | None = None,
) -> list[tuple]:
    """List all kernel sizes that tile an input, ready for a grid search.

    Parameters
    ----------
    input_shape : int or sequence of int
        The length of each axis; an int for one axis.
    min_layers : int, default=1
    max_layers : int, default=None
        None for no bound.
    min_size : int, default=2
        Fewest weights of a kernel, over all its axes; at least 2, since a kernel of
        one weight can be put into the layer above.
    max_size : int, default=None
        Most weights of a kernel; None for no bound.

    Returns
    -------
    list of tuple
        Values for ``kernel_sizes`` of :class:`~skdeeptd.DeepTDRegressor`: of ints for
        one axis, of tuples for several. Fewer layers come first; among as many, the
        smaller first kernel, then the smaller second one, and so on.

    Raises
    ------
    TypeError, ValueError
        Where a bound or a length is not an integer in its range.
    ValueError
        Where more than 20 000 kernel sizes lie within the bounds, before any of them is
        listed. Then give ``max_layers``, a larger ``min_size`` or a smaller
        ``max_size``. Lengths above 10**12 are refused too.

    Examples
    --------
    >>> from skdeeptd import kernel_size_grid
    >>> kernel_size_grid(12)
    [(12,), (2, 6), (3, 4), (4, 3), (6, 2), (2, 2, 3), (2, 3, 2), (3, 2, 2)]
    >>> kernel_size_grid((4, 6), max_layers=2, min_size=4)
    [((4, 6),), ((1, 6), (4, 1)), ((2, 2), (2, 3)), ((2, 3), (2, 2)), ((4, 1), (1, 6))]
    """
    if isinstance(input_shape, Integral):
        input_shape = (input_shape,)
    lengths = _sizes(input_shape, "input_shape")
    min_layers, min_size = _size(min_layers, "min_layers"), _size(min_size, "min_size")
    max_layers = math.inf if max_layers is None else _size(max_layers, "max_layers")
    max_size = math.inf if max_size is None else _size(max_size, "max_size")
    if min_size < 2:
        raise ValueError(f"min_size must be at least 2, got {min_size}")

    tilings = Tilings(lengths, min_size, max_size)
    most_layers = min(max_layers, math.prod(lengths).bit_length())
    n_layers = range(min_layers, most_layers + 1)
    tilings.check_count(n_layers)
    grid = [shapes for n in n_layers for shapes in tilings.of_layers(lengths, n)]
    return [_readable(s) for s in grid] if len(lengths) == 1 else grid


def default_grid(lengths, max_layers, most):
    """All kernel sizes of at most ``max_layers``, or the most even ``most`` of them.

    Of each number of layers as many. Where there are short axes, half of them have
    these whole in the first kernel.
    """
    n_layers, tilings = range(1, max_layers + 1), Tilings(lengths, 2, math.inf)
    most = min(most, ORDER_BYTES // (8 * math.prod(lengths)))
    most = max(FEWEST_DEFAULT, most)
    if sum(tilings.count(lengths, n) for n in n_layers) <= most:
        return kernel_size_grid(lengths, max_layers=max_layers)
    nowhere, short = [False] * len(lengths), _lie_whole(lengths)
    kinds = [nowhere, short] if any(short) else [nowhere]
    each = most // (max_layers * len(kinds))
    grid = [
        shapes
        for n in n_layers
        for shapes in sorted({s for k in kinds for s in most_even(lengths, n, each, k)})
    ]
    return [_readable(s) for s in grid] if len(lengths) == 1 else grid


def most_even(lengths, n_layers, most, whole):
    """At most so many shapes that split the axes most evenly, larger kernels first.

    Axes that are to be ``whole`` lie in the first kernel.
    """
    best = [(0.0, ((),) * n_layers)]
    for n, in_first in zip(lengths, whole, strict=True):
        products = _products(n, n_layers)
        if in_first:
            products = [(n, *(1,) * (n_layers - 1))]
        splits = [(sum(s) / n ** (1 / n_layers), s) for s in products]
        longer = (
            (a + b, tuple((*shape, d) for shape, d in zip(shapes, split, strict=True)))
            for a, shapes in best
            for b, split in splits
        )
        best = heapq.nsmallest(most, longer, key=_unevenness)
    return sorted(shapes for _, shapes in best if min(map(math.prod, shapes)) > 1)


def _products(n, n_factors):
    """All tuples of ``n_factors`` that multiply to n."""
    if n_factors == 1:
        yield (n,)
        return
    for d in divisors(n):
        for others in _products(n // d, n_factors - 1):
            yield (d, *others)


def _unevenness(scored):
    score, shapes = scored
    return score, [-math.prod(shape) for shape in shapes]


class Tilings:
    """All kernel shapes that tile an input, counted before they are listed.

    ``left`` is what the layers below have left of the length of each axis.

    Parameters
    ----------
    lengths : tuple of int
    smallest, largest : int or inf
        Bounds on the weights of a kernel.
    """

    def __init__(self, lengths, smallest, largest):
        self.lengths, self.smallest, self.largest = lengths, smallest, largest
        self._divisors = [divisors(n) for n in _short_enough(lengths)]
        n_shapes = math.prod(map(len, self._divisors))
        if n_shapes > MOST_SHAPES:
            raise ValueError(
                f"{n_shapes} shapes of a kernel divide input_shape {lengths}, and only "
                f"{MOST_SHAPES} can be tried; write down the kernel sizes to be "
                f"compared instead"
            )
        self.count = functools.cache(self._count)

    def _count(self, left, n_layers):
        """Tilings by ``n_layers``; above ``MOST_SHAPES`` only that they are more."""
        size = math.prod(left)
        if not self.smallest**n_layers <= size <= self.largest**n_layers:
            return 0
        if n_layers == 1:
            return 1
        total = 0
        for _, rest in self._first_kernels(left):
            total += self.count(rest, n_layers - 1)
            if total > MOST_SHAPES:
                break
        return total

    def check_count(self, numbers_of_layers):
        """Raise ValueError where they are more than ``MOST_SHAPES``."""
        total = 0
        for n_layers in numbers_of_layers:
            fewer, total = total, total + self.count(self.lengths, n_layers)
            if total > MOST_SHAPES:
                advice = "give a larger min_size or a smaller max_size"
                if fewer:
                    advice += f", or max_layers={n_layers - 1} for {fewer} of them"
                raise ValueError(
                    f"more than {MOST_SHAPES} kernel sizes tile input_shape "
                    f"{self.lengths} within these bounds; {advice}"
                )

    def of_layers(self, left, n_layers):
        """Tuples of ``n_layers`` shapes, first layer first, in ascending order."""
        if not self.count(left, n_layers):
            return
        if n_layers == 1:
            yield (left,)
            return
        for shape, rest in self._first_kernels(left):
            for above in self.of_layers(rest, n_layers - 1):
                yield (shape, *above)

    def _first_kernels(self, left):
        """Each shape that the first kernel may have, and what it leaves."""
        by_axis = (
            [d for d in axis if n % d == 0]
            for axis, n in zip(self._divisors, left, strict=True)
        )
        for shape in itertools.product(*by_axis):
            if self.smallest <= math.prod(shape) <= self.largest:
                yield shape, tuple(n // d for n, d in zip(left, shape, strict=True))


def _short_enough(lengths):
    if max(lengths) > LONGEST_AXIS:
        raise ValueError(
            f"input_shape holds the length {max(lengths)}, whose divisors would take "
            f"long to find; lengths of at most {LONGEST_AXIS} are allowed"
        )
    return lengths
