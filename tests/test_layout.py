"""Which values each patch holds, against patches by loops."""

import itertools
import math

import numpy as np
import pytest

from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.layout import degrees_of_freedom


def patches_by_loops(sample, kernel_shapes):
    """Features of the first layer's patches, in the order that layer 2 takes them."""
    if not kernel_shapes:
        return [sample]
    *below, top = kernel_shapes
    steps = [n // d for n, d in zip(sample.shape, top, strict=True)]
    order = []
    for corner in itertools.product(*(range(d) for d in top)):
        part = tuple(
            slice(c * s, (c + 1) * s) for c, s in zip(corner, steps, strict=True)
        )
        order += patches_by_loops(sample[part], below)
    return order


@pytest.mark.parametrize(
    ("input_shape", "shapes"),
    [
        ((4, 6), ((2, 3), (2, 2))),
        ((8, 9), ((2, 3), (4, 1), (1, 3))),
        ((6, 8, 3), ((3, 2, 3), (1, 2, 1), (2, 2, 1))),
    ],
)
def test_order_is_that_of_explicit_patches(input_shape, shapes):
    n_features = math.prod(input_shape)
    layout = make_layout(n_features, shapes, input_shape)
    sample = np.arange(n_features).reshape(input_shape)
    expected = [int(a.squeeze()) for a in patches_by_loops(sample, shapes)]
    np.testing.assert_array_equal(layout.orders[0], expected)


def test_one_axis_keeps_its_order():
    layout = make_layout(24, (4, 6))
    assert layout.orders[0] is None
    assert layout.sizes == layout.kernel_sizes == (4, 6)
    as_two_axes = make_layout(24, ((4, 1), (6, 1)), (24, 1))
    np.testing.assert_array_equal(as_two_axes.orders[0], None)


def test_short_tuples_and_numbers_stand_for_full_shapes():
    full = make_layout(144, ((3, 2, 3), (1, 2, 1), (2, 2, 1)), (6, 8, 3))
    short = make_layout(144, ((3, 2, 3), (1, 2), (2, 2)), (6, 8, 3))
    np.testing.assert_array_equal(full.orders[0], short.orders[0])
    assert short.kernel_shapes == ((3, 2, 3), (1, 2), (2, 2))
    assert make_layout(64, (4, 2), (8, 8)).kernel_shapes == ((4, 4), (2, 2))
    assert make_layout(48, ((2, 2, 3), 2), (4, 4, 3)).kernel_shapes[1] == (2, 2, 1)


@pytest.mark.parametrize(
    ("input_shape", "shapes"),
    [
        ((97,), ((10,), (10,))),
        ((5, 7), ((2, 3), (2, 1), (2, 3))),
        ((28, 28), ((5, 5), (6, 6))),
    ],
)
def test_sizes_above_the_length_see_zeros_at_the_end_of_each_axis(input_shape, shapes):
    n_features = math.prod(input_shape)
    layout = make_layout(n_features, shapes, input_shape)
    padded = np.full(np.prod(shapes, axis=0), -1)
    padded[tuple(slice(n) for n in input_shape)] = np.arange(n_features).reshape(
        input_shape
    )
    expected = [int(a.squeeze()) for a in patches_by_loops(padded, shapes)]
    np.testing.assert_array_equal(layout.orders[0], expected)


# Strides

OVERLAPPING = {  # input shape, kernel sizes, strides
    "one axis": ((14,), (4, -1), 2),
    "two layers": ((20,), (4, 3, -1), (2, 1)),
    "three layers": ((30,), (4, 3, 5, -1), (2, 3, 1)),
    "above tiles": ((24,), (4, 3, -1), (4, 1)),
    "below tiles": ((12,), (3, 5, -1), (1, 5)),
    "padded": ((17,), (3, 4, -1), (1, 4)),
    "no layer above": ((9,), (-1,), 1),
    "two axes": ((5, 6), ((3, 2), -1), ((2, 1),)),
    "one axis of two": ((6, 4), ((2, 2), (2, 1), -1), ((2, 1), 1)),
    "padded axes": ((6, 5), ((3, 2), 2, -1), (2, 1)),
    "channels": ((6, 4, 3), ((3, 3, 3), (2, 1), -1), ((2, 1, 3), 1)),
    "three axes": ((5, 4, 3), (2, 2, -1), 1),
    "four axes": ((3, 4, 2, 3), ((2, 3, 1, 2), (1, 2), -1), ((1, 2, 1, 1), 1)),
}


def in_patches_by_orders(layout):
    """What meets the last kernel, as patches of patches, of features and zeros."""
    values = list(range(math.prod(layout.input_shape)))
    for order, d in zip(layout.orders, layout.sizes, strict=True):
        if order is not None:
            values = [values[i] if i >= 0 else "zero" for i in order]
        assert len(values) % d == 0
        values = [tuple(values[i : i + d]) for i in range(0, len(values), d)]
    (last,) = values
    return last


def in_patches_by_loops(input_shape, shapes, steps):
    """The same, from the places in an array; beyond its end are zeros."""
    features = {at: i for i, at in enumerate(np.ndindex(*input_shape))}

    def patch(layer, place):
        if layer < 0:
            return features.get(place, "zero")
        begin = [p * s for p, s in zip(place, steps[layer], strict=True)]
        entries = itertools.product(*map(range, shapes[layer]))
        return tuple(
            patch(layer - 1, tuple(b + e for b, e in zip(begin, entry, strict=True)))
            for entry in entries
        )

    return patch(len(shapes) - 1, (0,) * len(input_shape))


def on_every_axis(shapes, n_axes):
    return [(*shape, *(1,) * (n_axes - len(shape))) for shape in shapes]


@pytest.mark.parametrize("case", OVERLAPPING)
def test_orders_of_overlapping_patches_are_those_of_explicit_places(case):
    input_shape, kernel_sizes, strides = OVERLAPPING[case]
    n_axes = len(input_shape)
    layout = make_layout(math.prod(input_shape), kernel_sizes, input_shape, strides)
    shapes = on_every_axis(layout.kernel_shapes, n_axes)
    steps = on_every_axis((*layout.steps, layout.kernel_shapes[-1]), n_axes)
    expected = in_patches_by_loops(input_shape, shapes, steps)
    assert in_patches_by_orders(layout) == expected
    end = np.zeros(n_axes, dtype=int)
    for shape, step in zip(shapes[::-1], steps[::-1], strict=True):
        end = end * step + np.array(shape) - 1
    np.testing.assert_array_equal(layout.covered_shape, end + 1)
    has_zeros = any(order is not None and np.any(order < 0) for order in layout.orders)
    assert (layout.covered_shape != input_shape) == has_zeros


def test_strides_as_large_as_the_kernels_are_none_at_all():
    for sizes, input_shape in [
        ((4, 3, 2), (24,)),
        (((2, 3), (2, 1), (1, 2)), (4, 6)),
        (((2, 2, 3), (2, 2, 1)), (4, 4, 3)),
    ]:
        n_features = math.prod(input_shape)
        plain = make_layout(n_features, sizes, input_shape)
        strided = make_layout(n_features, sizes, input_shape, strides=sizes[:-1])
        rest = make_layout(n_features, (*sizes[:-1], -1), input_shape)
        for other in (strided, rest):
            assert other[:3] == plain[:3]
            for mine, own in zip(other.orders, plain.orders, strict=True):
                np.testing.assert_array_equal(mine, own)


def test_short_forms_of_strides_stand_for_full_ones():
    full = make_layout(
        72, ((3, 2, 3), (2, 1, 1), -1), (6, 4, 3), ((2, 1, 3), (1, 1, 1))
    )
    for strides in [((2, 1), 1), ((2, 1, 3), (1,)), [[2, 1], np.int64(1)]]:
        short = make_layout(72, ((3, 2, 3), (2, 1), -1), (6, 4, 3), strides)
        for mine, own in zip(short.orders, full.orders, strict=True):
            np.testing.assert_array_equal(mine, own)
    # A number is for the axes on which there is more than one patch.
    channels = make_layout(75, ((3, 3, 3), -1), (5, 5, 3), strides=1)
    assert channels.strides == ((1, 1, 3),)
    assert make_layout(12, (1, 4, -1), strides=2).strides == (1, 2)


@pytest.mark.parametrize("sizes", [(7,), (4, 6), (3, 2, 5)])
def test_free_weights_are_the_rank_of_the_outer_product(sizes):
    """The dimension of the set of outer products of the kernels, by its tangents."""
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal(d) for d in sizes]
    tangents = []
    for layer, d in enumerate(sizes):
        for direction in np.eye(d):
            moved = [*kernels[:layer], direction, *kernels[layer + 1 :]]
            product = moved[0]
            for k in moved[1:]:
                product = np.multiply.outer(product, k)
            tangents.append(product.ravel())
    assert degrees_of_freedom(sizes) == np.linalg.matrix_rank(tangents)
