import itertools
import math
import re
import time
from collections import Counter

import numpy as np
import pytest

from skdeeptd import kernel_size_grid
from skdeeptd._model.layout import (
    LONGEST_AXIS,
    MOST_SHAPES,
    Tilings,
    default_grid,
    default_kernel_shapes,
    degrees_of_freedom,
    divisors,
    make_layout,
    most_even,
    nearest_factors,
)


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


@pytest.mark.parametrize("n_features", [*range(1, 130), 997, 1000, 1024])
def test_default_sizes_fit_every_number_of_features(n_features):
    sizes = make_layout(n_features).sizes
    assert math.prod(sizes) == n_features
    is_prime_or_one = len(divisors(n_features)) <= 2
    assert len(sizes) == (1 if is_prime_or_one else 2)


def test_default_sizes_are_the_most_even_ones():
    assert make_layout(30).sizes == (6, 5)
    assert make_layout(64, None, (8, 8)).kernel_shapes == ((4, 4), (2, 2))
    assert make_layout(35, None, (5, 7)).kernel_shapes == ((5, 7),)
    for n in (12, 36, 120, 1000):
        two_layers = [(d, n // d) for d in divisors(n)[1:-1]]
        fewest = min(map(degrees_of_freedom, two_layers))
        assert degrees_of_freedom(make_layout(n).sizes) == fewest


@pytest.mark.parametrize("wanted", [(4, 5), (5, 5), (7, 2, 2), (100, 100), (1, 1, 1)])
@pytest.mark.parametrize("n", [1, 23, 24, 120, 97 * 2])
def test_suggested_sizes_are_valid(n, wanted):
    suggested = nearest_factors(n, wanted)
    assert math.prod(suggested) == n
    assert len(suggested) == len(wanted)


def test_divisors():
    assert divisors(1) == [1]
    assert divisors(36) == [1, 2, 3, 4, 6, 9, 12, 18, 36]


@pytest.mark.parametrize(
    ("input_shape", "shapes"),
    [
        ((97,), ((10,), (10,))),
        ((5, 7), ((2, 3), (2, 1), (2, 3))),
        ((28, 28), ((5, 5), (6, 6))),
    ],
)
def test_padding_is_zeros_at_the_end_of_each_axis(input_shape, shapes):
    n_features = math.prod(input_shape)
    layout = make_layout(n_features, shapes, input_shape, "same")
    padded = np.full(np.prod(shapes, axis=0), -1)
    padded[tuple(slice(n) for n in input_shape)] = np.arange(n_features).reshape(
        input_shape
    )
    expected = [int(a.squeeze()) for a in patches_by_loops(padded, shapes)]
    np.testing.assert_array_equal(layout.orders[0], expected)


@pytest.mark.parametrize("n_features", [*range(1, 130), 997])
def test_default_sizes_with_padding_are_even_for_every_length(n_features):
    sizes = make_layout(n_features, padding="same").sizes
    assert math.prod(sizes) >= n_features
    assert sum(sizes) <= 2 * math.sqrt(n_features) + 1
    same_again = make_layout(n_features, sizes, padding="same")
    assert same_again.sizes == sizes


def count_ordered_factorisations(lengths):
    """Inclusion and exclusion over the layers that are 1 on all axes."""

    def exponents(n):
        found = []
        for prime in range(2, n + 1):
            count = 0
            while n % prime == 0:
                n, count = n // prime, count + 1
            found += [count] if count else []
        return found

    powers = [e for n in lengths for e in exponents(n)]
    return sum(
        (-1) ** (layers - kept)
        * math.comb(layers, kept)
        * math.prod(math.comb(e + kept - 1, e) for e in powers)
        for layers in range(1, sum(powers) + 1)
        for kept in range(1, layers + 1)
    )


@pytest.mark.parametrize(
    "lengths", [(12,), (64,), (97,), (360,), (4, 6), (8, 8), (6, 8, 3), (2, 2, 2)]
)
def test_grid_holds_every_shape_once(lengths):
    grid = kernel_size_grid(lengths)
    assert len(grid) == len(set(grid)) == count_ordered_factorisations(lengths)
    for shapes in grid:
        layout = make_layout(math.prod(lengths), shapes, lengths)
        assert layout.kernel_sizes == shapes
        assert min(layout.sizes) >= 2


def test_grid_is_ordered_and_bounded():
    assert kernel_size_grid(8) == [(8,), (2, 4), (4, 2), (2, 2, 2)]
    assert kernel_size_grid((8,)) == kernel_size_grid(8)
    assert kernel_size_grid(1) == []
    everything = kernel_size_grid((8, 12))
    keys = [(len(shapes), shapes) for shapes in everything]
    assert keys == sorted(keys)
    bounds = {"min_layers": 2, "max_layers": 3, "min_size": 4, "max_size": 16}
    bounded = kernel_size_grid((8, 12), **bounds)
    assert bounded == [
        shapes
        for shapes in everything
        if 2 <= len(shapes) <= 3 and all(4 <= math.prod(s) <= 16 for s in shapes)
    ]
    assert bounded


GRID_BOUNDS = [
    {},
    {"min_layers": 3},
    {"max_layers": 2},
    {"min_size": 3, "max_size": 8},
    {"min_layers": 2, "max_layers": 3, "min_size": 4},
]


@pytest.mark.parametrize("bounds", GRID_BOUNDS)
def test_as_many_are_counted_as_are_listed(bounds):
    sizes = bounds.get("min_size", 2), bounds.get("max_size", math.inf)
    fewest, most = bounds.get("min_layers", 1), bounds.get("max_layers", 8)
    for lengths in [*((n,) for n in range(1, 129)), (4, 6), (6, 8, 3)]:
        tilings = Tilings(lengths, *sizes)
        by_layers = Counter(map(len, kernel_size_grid(lengths, **bounds)))
        for n_layers in range(fewest, most + 1):
            assert tilings.count(lengths, n_layers) == by_layers.pop(n_layers, 0)
        assert not by_layers


@pytest.mark.parametrize(
    ("lengths", "bounds"),
    [
        (2**20, {}),
        (10**6, {}),
        (963_761_198_400, {}),
        (963_761_198_400, {"min_layers": 5}),
        ((224, 224, 3), {}),
        ((224, 224, 3), {"max_layers": 5}),
        ((1024, 1024, 1024), {"min_size": 60, "max_size": 70}),
        ((720_720, 720_720), {}),
        (2**61 - 1, {}),
    ],
)
def test_a_grid_too_large_is_refused_at_once(lengths, bounds):
    begin = time.perf_counter()
    with pytest.raises(ValueError, match=f"{MOST_SHAPES}|{LONGEST_AXIS}"):
        kernel_size_grid(lengths, **bounds)
    assert time.perf_counter() - begin < 2


def test_a_refusal_says_what_would_be_right():
    advised = (
        r"1048576.*larger min_size or a smaller max_size, or max_layers=6 for (\d+)"
    )
    with pytest.raises(ValueError, match=advised) as refused:
        kernel_size_grid(2**20)
    allowed = re.search(advised, str(refused.value)).group(1)
    assert len(kernel_size_grid(2**20, max_layers=6)) == int(allowed)
    with pytest.raises(ValueError, match=r"smaller max_size$"):
        kernel_size_grid(2**20, min_layers=10)


def test_bounds_leave_few_of_many():
    assert kernel_size_grid(2**20, min_layers=20) == [(2,) * 20]
    assert kernel_size_grid(2**20, min_size=2**10) == [(2**20,), (2**10, 2**10)]
    assert kernel_size_grid(np.int64(999_999_999_989)) == [(999_999_999_989,)]


@pytest.mark.parametrize("lengths", [(10**4,), (28, 28), (64, 64, 3), (224, 224, 3)])
def test_three_layers_of_usual_images_can_be_listed(lengths):
    assert 0 < len(kernel_size_grid(lengths, max_layers=3)) <= MOST_SHAPES


@pytest.mark.parametrize("lengths", [(12,), (8, 8), (28, 28), (10**4,)])
def test_a_default_grid_of_few_shapes_holds_all_of_them(lengths):
    assert default_grid(lengths, 3, 1000) == kernel_size_grid(lengths, max_layers=3)


@pytest.mark.parametrize(
    "lengths", [(1080, 1920, 3), (64, 64, 64), (720_720,), (4320, 7680, 3)]
)
def test_a_default_grid_of_many_shapes_is_bounded(lengths):
    grid = default_grid(lengths, 3, 1000)
    assert {len(shapes) for shapes in grid} == {1, 2, 3}
    assert len(set(grid)) == len(grid) <= max(10, 2**27 // math.prod(lengths))
    for shapes in grid:
        assert np.prod(np.array(shapes).reshape(len(shapes), -1), axis=0) == (
            pytest.approx(lengths)
        )


@pytest.mark.parametrize("lengths", [(24, 36), (360,), (16, 18, 3)])
@pytest.mark.parametrize("n_layers", [2, 3])
def test_the_most_even_shapes_are_those_of_the_smallest_parts(lengths, n_layers):
    def parts(shapes):
        relative = np.array(shapes).reshape(n_layers, -1) / lengths ** (
            np.ones(len(lengths)) / n_layers
        )
        return np.sum(relative)

    of_all = sorted(
        map(parts, kernel_size_grid(lengths, min_layers=n_layers, max_layers=n_layers))
    )
    found = most_even(lengths, n_layers, 8, [False] * len(lengths))
    assert len(found) == 8
    np.testing.assert_allclose(sorted(map(parts, found)), of_all[:8])


@pytest.mark.parametrize(
    ("arguments", "bounds", "message"),
    [
        (0, {}, "at least 1, got 0"),
        (4.5, {}, "got 4.5"),
        ((4, "6"), {}, "got '6'"),
        (12, {"min_size": 1}, "min_size must be at least 2, got 1"),
        (12, {"max_layers": 0}, "max_layers.*got 0"),
        (12, {"min_layers": 1.5}, "min_layers.*got 1.5"),
        (12, {"max_size": -1}, "max_size.*got -1"),
    ],
)
def test_bad_bounds_of_a_grid_are_named(arguments, bounds, message):
    with pytest.raises((ValueError, TypeError), match=message):
        kernel_size_grid(arguments, **bounds)


# Strides

OVERLAPPING = {  # input shape, kernel sizes, strides, padding
    "one axis": ((14,), (4, -1), 2, "valid"),
    "two layers": ((20,), (4, 3, -1), (2, 1), "valid"),
    "three layers": ((30,), (4, 3, 5, -1), (2, 3, 1), "same"),
    "above tiles": ((24,), (4, 3, -1), (4, 1), "valid"),
    "below tiles": ((12,), (3, 5, -1), (1, 5), "valid"),
    "padded": ((17,), (3, 4, -1), (1, 4), "same"),
    "no layer above": ((9,), (-1,), 1, "valid"),
    "two axes": ((5, 6), ((3, 2), -1), ((2, 1),), "valid"),
    "one axis of two": ((6, 4), ((2, 2), (2, 1), -1), ((2, 1), 1), "valid"),
    "padded axes": ((6, 5), ((3, 2), 2, -1), (2, 1), "same"),
    "channels": ((6, 4, 3), ((3, 3, 3), (2, 1), -1), ((2, 1, 3), 1), "same"),
    "three axes": ((5, 4, 3), (2, 2, -1), 1, "valid"),
    "four axes": ((3, 4, 2, 3), ((2, 3, 1, 2), (1, 2), -1), ((1, 2, 1, 1), 1), "same"),
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
    input_shape, kernel_sizes, strides, padding = OVERLAPPING[case]
    n_axes = len(input_shape)
    layout = make_layout(
        math.prod(input_shape), kernel_sizes, input_shape, padding, strides
    )
    shapes = on_every_axis(layout.kernel_shapes, n_axes)
    steps = on_every_axis((*layout.steps, layout.kernel_shapes[-1]), n_axes)
    expected = in_patches_by_loops(input_shape, shapes, steps)
    assert in_patches_by_orders(layout) == expected
    end = np.zeros(n_axes, dtype=int)
    for shape, step in zip(shapes[::-1], steps[::-1], strict=True):
        end = end * step + np.array(shape) - 1
    np.testing.assert_array_equal(layout.covered_shape, end + 1)
    if padding == "valid":
        assert layout.covered_shape == input_shape


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
        72, ((3, 2, 3), (2, 1, 1), -1), (6, 4, 3), "same", ((2, 1, 3), (1, 1, 1))
    )
    for strides in [((2, 1), 1), ((2, 1, 3), (1,)), [[2, 1], np.int64(1)]]:
        short = make_layout(72, ((3, 2, 3), (2, 1), -1), (6, 4, 3), "same", strides)
        for mine, own in zip(short.orders, full.orders, strict=True):
            np.testing.assert_array_equal(mine, own)
    # A number is for the axes on which there is more than one patch.
    channels = make_layout(75, ((3, 3, 3), -1), (5, 5, 3), strides=1)
    assert channels.strides == ((1, 1, 3),)
    assert make_layout(12, (1, 4, -1), strides=2).strides == (1, 2)


@pytest.mark.parametrize("n_features", [*range(1, 40), 97, 100])
def test_default_kernels_fit_the_stride_one(n_features):
    layout = make_layout(n_features, strides=1)
    first = math.ceil(math.sqrt(n_features))
    assert layout.sizes[0] == first
    assert sum(layout.sizes) == n_features + len(layout.sizes) - 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((14,), (4, -1), 5), r"layer 1 .* size 4 on axis 0 and stride 5.* 1 to 4 fit"),
        (
            ((5, 6), ((3, 2), -1), ((2, 3),)),
            r"layer 1 .* size 2 on axis 1 and stride 3.* 1 to 2 fit",
        ),
        (
            ((20,), (4, 3, -1), (2, 4)),
            r"layer 2 .* size 3 on axis 0 and stride 4.* 1 to 3 fit",
        ),
        (((14,), (4, -1), 0), r"strides of layer 1 .* at least 1, got 0"),
        (((20,), (4, 3, -1), (2, -1)), r"strides of layer 2 .* at least 1, got -1"),
        (((14,), (4, -1), (2, 2)), r"each of 1 hidden layers, got 2: \(2, 2\)"),
        (((20,), (4, 3, -1), (2,)), r"each of 2 hidden layers, got 1: \(2,\)"),
        (((5, 6), ((3, 2), -1), ((2, 1, 1),)), r"layer 1 has 3 axes.*\(3, 2\) has 2"),
        (((14,), (4, -1), (1.5,)), r"strides of layer 1 .* integers, got 1.5"),
        (((14,), (4, -1), (True,)), r"strides of layer 1 .* integers, got True"),
        (((14,), (4, -1), "two"), r"strides of layer 1 .* integers, got 'two'"),
        (((14,), (-1, 4), 1), r"-1.* last layer only.* layer 1, where 14 is left"),
        (
            ((5, 6), ((3, 2), -1, -1), ((2, 1), 1)),
            r"last layer only.* layer 2, where \(2, 5\) is left; give it a size",
        ),
    ],
)
def test_strides_that_cannot_be_are_named(arguments, message):
    input_shape, kernel_sizes, strides = arguments
    with pytest.raises((ValueError, TypeError), match=message):
        make_layout(math.prod(input_shape), kernel_sizes, input_shape, strides=strides)


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize(
    ("input_shape", "kernel_sizes", "strides", "where"),
    [
        ((14,), (4, 5), 2, "layer 2, got size 5"),
        ((20,), (4, 3, 5), (2, 1), "layer 3, got size 5"),
        ((5, 6), ((3, 2), (2, 4)), ((2, 1),), "layer 2 on axis 1, got size 4"),
    ],
)
def test_the_last_size_in_the_message_fits(
    padding, input_shape, kernel_sizes, strides, where
):
    def layout(sizes):
        n = math.prod(input_shape)
        return make_layout(n, sizes, input_shape, padding, strides)

    with pytest.raises(ValueError, match=f"{where}; write ([0-9]+), or -1") as refused:
        layout(kernel_sizes)
    size = int(re.search("write ([0-9]+)", str(refused.value)).group(1))
    *below, last = kernel_sizes
    fitting = size if isinstance(last, int) else (*last[:-1], size)
    assert layout((*below, fitting))[:3] == layout((*below, -1))[:3]


@pytest.mark.parametrize("n", range(3, 24))
def test_first_sizes_in_the_message_fit(n):
    """Of each kernel and stride that do not end with the axis, on either axis."""
    for d, s in itertools.product(range(1, n + 3), repeat=2):
        if s > d:
            continue
        for axis, shape in enumerate([(n, 4), (4, n)]):

            def fit(size, padding="valid", stride=s, axis=axis, shape=shape):
                kernel, step = [2, 2], [2, 2]
                kernel[axis], step[axis] = size, stride
                sizes = (tuple(kernel), -1)
                return make_layout(4 * n, sizes, shape, padding, (tuple(step),))

            if d <= n and (n - d) % s == 0:
                fit(d)
                continue
            where = rf"layer 1 on axis {axis}"
            with pytest.raises(ValueError, match=where) as refused:
                fit(d)
            message = str(refused.value)
            if d > n:
                assert f"sizes from 1 to {n} fit" in message
                continue
            sizes = re.search(r"example kernel size ([0-9]+)( or ([0-9]+))?", message)
            found = [int(size) for size in sizes.group(1, 3) if size]
            fitting = [k for k in range(s, n + 1) if (n - k) % s == 0]
            nearest = max([k for k in fitting if k < d], default=None)
            assert found == [
                k for k in (nearest, min(k for k in fitting if k > d)) if k
            ]
            for size in found:
                fit(size)
            fit(d, stride=1)
            fit(d, padding="same")


@pytest.mark.parametrize("padding", ["valid", "same"])
@pytest.mark.parametrize("n_channels", [2, 4, 6, 8, 12])
def test_the_first_kernel_spans_the_channels_wherever_they_stand(n_channels, padding):
    first, last = (n_channels, 60), (60, n_channels)
    shapes = default_kernel_shapes(first, padding)
    assert [shape[0] for shape in shapes] == [n_channels, 1]
    assert [s[::-1] for s in shapes] == list(default_kernel_shapes(last, padding))


def test_a_search_tries_kernels_that_take_many_channels_first():
    """Of shapes that split all axes evenly hardly any does."""
    grid = default_grid((96, 12), 3, 60)
    spanning = [s for s in grid if s[0][1] == 12]
    assert len(spanning) > 15
    assert ((8, 12), (12, 1)) in spanning
    assert len(grid) == len(set(grid)) <= 60


def test_a_search_also_tries_kernels_that_take_the_channels_later():
    """A network may look at each channel by itself first."""
    for lengths, step in (((60, 3), 1), ((3, 60), -1)):
        grid = default_grid(lengths, 3, 60)
        for shapes in (((10, 3), (6, 1)), ((10, 1), (6, 3))):
            assert tuple(s[::step] for s in shapes) in grid


def test_a_short_axis_is_split_where_no_longer_one_can_be():
    assert default_kernel_shapes((61, 8)) == ((61, 4), (1, 2))
