"""Kernel sizes and strides: parsing, errors, default sizes and grids."""

import itertools
import math
import re
from collections import Counter

import numpy as np
import pytest

from skdeeptd import DeepTDRegressor, kernel_size_grid
from skdeeptd._network.kernel_sizes import (
    Tilings,
    default_grid,
    default_kernel_shapes,
    divisors,
    make_layout,
    most_even,
    nearest_factors,
)
from skdeeptd._network.layout import degrees_of_freedom

# Default sizes


@pytest.mark.parametrize("n_features", [*range(1, 130), 997, 1000, 1024])
def test_default_sizes_divide_evenly_unless_the_length_is_prime(n_features):
    sizes = make_layout(n_features).sizes
    assert len(sizes) == (1 if n_features <= 2 else 2)
    if len(divisors(n_features)) <= 2 < n_features:
        root = math.ceil(math.sqrt(n_features))
        assert sizes == (root, math.ceil(n_features / root))
    else:
        assert math.prod(sizes) == n_features


def test_default_sizes_are_the_most_even_ones():
    assert make_layout(30).sizes == (6, 5)
    assert make_layout(97).sizes == (10, 10)
    assert make_layout(64, None, (8, 8)).kernel_shapes == ((4, 4), (2, 2))
    assert make_layout(35, None, (5, 7)).kernel_shapes == ((3, 3), (2, 3))
    for n in (12, 36, 120, 1000):
        two_layers = [(d, n // d) for d in divisors(n)[1:-1]]
        fewest = min(map(degrees_of_freedom, two_layers))
        assert degrees_of_freedom(make_layout(n).sizes) == fewest


def test_a_prime_number_of_columns_has_a_network_by_default():
    X = np.random.default_rng(0).standard_normal((60, 31))
    y = np.maximum(X[:, 0], 0)
    model = DeepTDRegressor(n_init=1, random_state=0).fit(X, y)
    assert model.kernel_sizes_ == (6, 6)
    assert np.any(model.predict(X) + model.predict(-X) != 2 * model.predict(0 * X[:1]))


@pytest.mark.parametrize(
    ("input_shape", "first"),
    [
        ((8, 16), (4, 4)),  # a half is not less than a half
        ((8, 17), (8, 5)),
        ((20, 10), (5, 5)),
        ((21, 10), (7, 10)),
        ((8, 8, 3), (4, 4, 3)),  # three colors are whole even beside short axes
        ((3, 3), (2, 2)),
        ((14, 30), (14, 6)),
        ((61, 8), (8, 8)),
    ],
)
def test_axes_of_less_than_a_half_lie_whole_in_the_first_kernel(input_shape, first):
    assert default_kernel_shapes(input_shape)[0] == first


@pytest.mark.parametrize("tile", [True, False])
@pytest.mark.parametrize("n_channels", [2, 4, 6, 8, 12])
def test_the_first_kernel_spans_the_channels_wherever_they_stand(n_channels, tile):
    shapes = default_kernel_shapes((n_channels, 60), tile)
    assert shapes[0][0] == n_channels
    reversed_shapes = default_kernel_shapes((60, n_channels), tile)
    assert shapes[0][::-1] == reversed_shapes[0]
    if tile:
        assert shapes[1][::-1] == reversed_shapes[1] == (shapes[1][1], 1)


# Sizes that do not divide evenly


@pytest.mark.parametrize(
    ("input_shape", "sizes", "padded_shape"),
    [
        ((23,), (5, 5), (25,)),
        ((23,), (4, 3, 2), (24,)),
        ((5, 7), ((2, 3), (3, 3)), (6, 9)),
        ((4, 5, 3), ((2, 2, 3), (2, 3)), (4, 6, 3)),
    ],
)
def test_sizes_above_the_length_equal_zeros_that_the_user_appends(
    input_shape, sizes, padded_shape
):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((200, *input_shape))
    y = np.maximum(X.reshape(200, -1) @ rng.standard_normal(X[0].size), 0)
    ends = [(0, b - a) for a, b in zip(input_shape, padded_shape, strict=True)]
    padded = np.pad(X, [(0, 0), *ends])
    parameters = {"n_init": 1, "alpha": 1.0, "random_state": 0}
    model = DeepTDRegressor(sizes, **parameters).fit(X, y)
    by_hand = DeepTDRegressor(sizes, **parameters).fit(padded, y)
    assert by_hand.input_shape_ == padded_shape
    scale = np.abs(by_hand.predict(padded)).max()
    np.testing.assert_allclose(
        model.predict(X), by_hand.predict(padded), atol=1e-6 * scale
    )


@pytest.mark.parametrize("n", [1, 2, 3, 7, 12, 13])
def test_sizes_fit_if_and_only_if_every_weight_meets_a_value_and_every_value_a_weight(
    n,
):
    """By two layers, and by brute force over the places of the features."""
    for a, b in itertools.product(range(1, n + 3), repeat=2):
        features = np.arange(a * b).reshape(b, a) < n
        fits = a * b >= n and features.any(axis=0).all() and features.any(axis=1).all()
        if fits:
            layout = make_layout(n, (a, b))
            assert layout.covered_shape == (a * b,)
            continue
        with pytest.raises(
            ValueError, match=rf"to {a * b} on .* length {n}"
        ) as refused:
            make_layout(n, (a, b))
        message = str(refused.value)
        even = re.search(r"for example (\(.*\))$", message).group(1)
        assert math.prod(eval(even)) == n
        if a <= n:
            left = int(re.search("write ([0-9]+) or -1", message).group(1))
            assert make_layout(n, (a, left))[:3] == make_layout(n, (a, -1))[:3]
        else:
            assert f"kernel size {a} of layer 1" in message
            assert f"sizes from 1 to {n} fit" in message


@pytest.mark.parametrize("wanted", [(4, 5), (5, 5), (7, 2, 2), (100, 100), (1, 1, 1)])
@pytest.mark.parametrize("n", [1, 23, 24, 120, 97 * 2])
def test_suggested_sizes_are_valid(n, wanted):
    suggested = nearest_factors(n, wanted)
    assert math.prod(suggested) == n
    assert len(suggested) == len(wanted)


@pytest.mark.parametrize(
    ("n", "wanted", "nearest"), [(10, (3, 9), (2, 5)), (16, (3, 9), (4, 4))]
)
def test_suggested_sizes_are_the_nearest_by_ratio(n, wanted, nearest):
    assert nearest_factors(n, wanted) == nearest


def test_one_feature_gets_a_suggestion_too():
    with pytest.raises(ValueError, match=r"write 1 or -1; .* for example \(1,\)$"):
        make_layout(1, (5,))


def test_divisors():
    assert divisors(1) == [1]
    assert divisors(36) == [1, 2, 3, 4, 6, 9, 12, 18, 36]


# Grids


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
def test_a_grid_too_large_is_refused_before_it_is_listed(lengths, bounds, monkeypatch):
    monkeypatch.setattr(Tilings, "generate", None)
    with pytest.raises(ValueError, match=f"{20_000}|{10**12}"):
        kernel_size_grid(lengths, **bounds)


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
    assert 0 < len(kernel_size_grid(lengths, max_layers=3)) <= 20_000


@pytest.mark.parametrize("lengths", [(12,), (8, 8), (28, 28), (10**4,)])
def test_a_default_grid_of_few_shapes_holds_all_of_them(lengths):
    assert default_grid(lengths, 3, 1000) == kernel_size_grid(lengths, max_layers=3)


@pytest.mark.parametrize("lengths", [(97,), (7, 11), (8, 31)])
def test_a_default_grid_holds_the_default_sizes(lengths):
    tiles = kernel_size_grid(lengths, max_layers=3)
    grid = default_grid(lengths, 3, 1000)
    default = make_layout(math.prod(lengths), None, lengths).kernel_sizes
    assert default not in tiles
    assert sorted(grid) == sorted([*tiles, default])


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


@pytest.mark.parametrize(
    ("input_shape", "kernel_sizes", "strides", "where"),
    [
        ((14,), (4, 5), 2, "layer 2 on axis 0, got size 5"),
        ((20,), (4, 3, 5), (2, 1), "layer 3 on axis 0, got size 5"),
        ((5, 6), ((3, 2), (2, 4)), ((2, 1),), "layer 2 on axis 1, got size 4"),
        ((4, 6), (2, (2, 2)), None, "layer 2 on axis 1, got size 2"),
    ],
)
def test_the_last_size_in_the_message_fits(input_shape, kernel_sizes, strides, where):
    def layout(sizes):
        return make_layout(math.prod(input_shape), sizes, input_shape, strides)

    with pytest.raises(ValueError, match=f"{where}; write ([0-9]+) or -1") as refused:
        layout(kernel_sizes)
    size = int(re.search("write ([0-9]+)", str(refused.value)).group(1))
    *below, last = kernel_sizes
    fitting = size if isinstance(last, int) else (*last[:-1], size)
    assert layout((*below, fitting))[:3] == layout((*below, -1))[:3]


@pytest.mark.parametrize("n", range(3, 24))
def test_the_last_patch_may_reach_beyond_the_end(n):
    """For each kernel and stride, on either axis."""
    for d, s in itertools.product(range(1, n + 3), repeat=2):
        if s > d:
            continue
        for axis, shape in enumerate([(n, 4), (4, n)]):
            kernel, step = [2, 2], [2, 2]
            kernel[axis], step[axis] = d, s
            arguments = 4 * n, (tuple(kernel), -1), shape, (tuple(step),)
            if d <= n:
                beyond = make_layout(*arguments).covered_shape[axis] - n
                assert 0 <= beyond == -(n - d) % s
                continue
            message = (
                f"size {d} of layer 1 is above the {n} .* axis {axis},.* 1 to {n} fit"
            )
            with pytest.raises(ValueError, match=message):
                make_layout(*arguments)


def test_a_search_tries_kernels_that_take_many_channels_first():
    """Shapes that split all axes evenly hardly ever have such a kernel."""
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
