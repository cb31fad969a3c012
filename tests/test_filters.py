"""Filters from pooled moments, and the pooled statistics of their responses."""

import itertools

import numpy as np
import pytest

from skdeeptd._data import rows as row_blocks
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.signals import channel_units, signal_layout
from skdeeptd._init.filters import (
    EACH_POSITION,
    QUANTILE_WIDTH,
    QUANTILES,
    column_names,
    default_dilations,
    default_taps,
    filter_responses,
    geometry,
    learn_filters,
    moment_directions,
    pooled,
    pooled_moments,
    statistics_of,
)

SEEDS = range(5)
SHAPES = [((40,), (5,)), ((3, 24), (4,)), ((24, 3), (4,)), ((8, 9), (2, 3))]
SHAPES += [((6, 7, 2), (3, 2))]
DILATIONS = pytest.mark.parametrize("dilation", [1, 2])
OVER_SHAPES = pytest.mark.parametrize(("shape", "taps"), SHAPES)


def draw(shape, n_rows=60, seed=0, n_outputs=2):
    rng = np.random.default_rng(seed)
    X = 5 + 3 * rng.standard_normal((n_rows, int(np.prod(shape))))
    y = np.column_stack([X[:, 0] * X[:, 1], *X[:, 2 : n_outputs + 1].T])
    return RowBlocks(X, y, rng.uniform(0.5, 2, n_rows))


def learn(rows, shape, *shapes, view=None, n=6, n_random=4, pooling=(1,), seed=0):
    rng = np.random.RandomState(seed)
    layout = signal_layout(shape)
    return learn_filters(rows, layout, view, shapes, (n, n_random), pooling, rng)


def standard_signals(rows, shape):
    """Return rows of standardised channels, (rows, channels, *lengths)."""
    layout = signal_layout(shape)
    X = rows.X.reshape(-1, *shape).transpose(0, *(1 + a for a in layout.order))
    signals = X.reshape(len(X), layout.n_channels, *layout.lengths)
    axes = tuple(range(2, signals.ndim))
    weight = rows.weight / rows.weight.sum()
    mean = np.tensordot(weight, signals.mean(axis=axes), axes=1)
    mean = mean.reshape(1, -1, *(1 for _ in axes))
    variance = np.tensordot(weight, ((signals - mean) ** 2).mean(axis=axes), axes=1)
    return (signals - mean) / np.sqrt(variance).reshape(mean.shape)


def patches_by_loops(signal, taps, dilation):
    """Return the patches of one signal (channels, *lengths), flat, in order."""
    counts = [
        n - (k - 1) * dilation for n, k in zip(signal.shape[1:], taps, strict=True)
    ]
    return [
        [
            signal[c, *(p + dilation * t for p, t in zip(place, tap, strict=True))]
            for c in range(len(signal))
            for tap in np.ndindex(*taps)
        ]
        for place in np.ndindex(*counts)
    ]


def all_patches(rows, shape, taps, dilation):
    """Return patches (rows, positions, d)."""
    return np.array(
        [
            patches_by_loops(signal, taps, dilation)
            for signal in standard_signals(rows, shape)
        ]
    )


# Positions


@pytest.mark.parametrize(
    ("lengths", "taps", "dilation", "n_axis", "step"),
    [
        ((1008,), (9,), 1, 1000, 1),
        ((1009,), (9,), 1, 501, 2),
        ((2009,), (9,), 1, 667, 3),
        ((3000,), (9,), 64, 830, 3),
        ((33, 33), (3, 3), 1, 31, 1),
        ((34, 34), (3, 3), 1, 16, 2),
        ((50,), (1,), 1, 50, 1),
    ],
)
def test_at_most_1000_positions_are_taken_evenly(lengths, taps, dilation, n_axis, step):
    index, grid = geometry(lengths, taps, dilation)
    assert grid == (n_axis,) * len(lengths)
    assert index.shape == (np.prod(taps), np.prod(grid))
    assert np.prod(grid) <= 1000
    places = np.unravel_index(index, lengths)
    for axis, n in enumerate(lengths):
        first = np.unique(places[axis][0])
        np.testing.assert_array_equal(first, step * np.arange(n_axis))
        assert places[axis].max() < n
        assert places[axis].max() + step >= n
        reach = places[axis][-1] - places[axis][0]
        assert set(reach) == {(taps[axis] - 1) * dilation}


@pytest.mark.parametrize(
    ("lengths", "taps", "dilations"),
    [
        ((100,), (9,), (1, 2, 4, 8)),  # 8 x 8 + 1 of 100 values
        ((65,), (9,), (1, 2, 4, 8)),
        ((64,), (9,), (1, 2, 4)),
        ((12,), (6,), (1, 2)),
        ((3,), (1,), (1,)),
        ((8, 8), (3, 3), (1, 2)),
        ((28, 9), (3, 3), (1, 2, 4)),
        ((2, 3), (1, 1), (1,)),
    ],
)
def test_default_patches_have_at_most_half_of_an_axis_and_dilations_that_fit(
    lengths, taps, dilations
):
    assert default_taps(lengths) == taps
    assert default_dilations(lengths, taps) == dilations


# Moments and learned filters


@DILATIONS
@OVER_SHAPES
def test_pooled_moments_equal_explicit_loops(shape, taps, dilation):
    rows, layout = draw(shape, 12), signal_layout(shape)
    share = rows.weight / rows.weight.sum()
    standard = standard_signals(rows, shape).reshape(12, -1)
    found = pooled_moments(
        RowBlocks(standard, rows.y, share),
        layout,
        geometry(layout.lengths, taps, dilation)[0],
    )
    patches = all_patches(rows, shape, taps, dilation)
    first, second, cross = 0.0, 0.0, np.zeros(2)[:, np.newaxis, np.newaxis]
    for s, y, of_row in zip(share, rows.y, patches, strict=True):
        mean_square = sum(np.outer(x, x) for x in of_row) / len(of_row)
        first = first + s * sum(of_row) / len(of_row)
        second = second + s * mean_square
        cross = cross + s * np.multiply.outer(y, mean_square)
    for moment, expected in zip(found, (first, second, cross), strict=True):
        np.testing.assert_allclose(moment, expected, atol=1e-12 * np.abs(cross).max())


def test_directions_maximise_the_mean_square_that_y_explains():
    """The first has the largest |k'Mk| of all k with k'Sk = 1; S has full rank."""
    rng = np.random.default_rng(0)
    root, cross = rng.standard_normal((7, 7)), rng.standard_normal((7, 7))
    second, cross = root @ root.T + np.eye(7), cross + cross.T
    found = moment_directions(second, cross[np.newaxis], 7, rng, ridge=1e-14)
    np.testing.assert_allclose(found @ second @ found.T, np.eye(7), atol=1e-10)
    explained = found @ cross @ found.T
    np.testing.assert_allclose(explained, np.diag(np.diag(explained)), atol=1e-10)
    sizes = np.abs(np.diag(explained))
    assert np.all(np.diff(sizes) < 0)
    k = rng.standard_normal((1000, 7))
    ratio = np.einsum("ri,ij,rj->r", k, cross, k) / np.einsum(
        "ri,ij,rj->r", k, second, k
    )
    assert np.abs(ratio).max() <= sizes[0]


def test_several_outputs_count_by_the_squares_of_their_moments():
    """Of W'M_oW, so that opposite signs in two outputs do not cancel."""
    rng = np.random.default_rng(0)
    q = np.linalg.qr(rng.standard_normal((5, 5)))[0]
    cross = np.array([np.outer(v, v) for v in q[:2]])
    cross = np.stack([3 * cross[0] + cross[1], -3 * cross[0] + 2 * cross[1]])
    found = moment_directions(np.eye(5), cross, 2, rng)
    cosines = np.abs(np.sum(found * q[:2], axis=1)) / np.linalg.norm(found, axis=1)
    np.testing.assert_allclose(cosines, 1)


def test_more_filters_than_directions_are_drawn():
    rows = draw((20,))
    kernels = learn(rows, (20,), ((3,), 1), n=12, n_random=0)[0].banks[0].kernels
    other = learn(rows, (20,), ((3,), 1), n=12, n_random=0, seed=1)[0].banks[0].kernels
    same = [np.allclose(a, b) for a, b in zip(kernels, other, strict=True)]
    # Of each half three directions, or two without the mean, are learned.
    assert same == [True] * 3 + [False] * 3 + [True] * 2 + [False] * 4


def with_pattern(seed, pattern, dilation=1, n_rows=300, n_places=60):
    """Return signals that hold the pattern somewhere with a random sign; y says how."""
    rng = np.random.default_rng(seed)
    X = 0.4 * rng.standard_normal((n_rows, n_places))
    y = rng.uniform(0, 2, n_rows)
    reach = dilation * np.arange(len(pattern))
    for signal, size in zip(X, y, strict=True):
        place = rng.integers(n_places - reach[-1])
        signal[place + reach] += rng.choice([-1, 1]) * size * pattern
    return RowBlocks(X, y[:, np.newaxis], np.ones(n_rows))


def wave(seed):
    """Return a short oscillation of a random frequency and phase, of norm one."""
    rng = np.random.default_rng(100 + seed)
    frequency, phase = rng.uniform(0.7, 2.4), rng.uniform(0, 2 * np.pi)
    pattern = np.hanning(11)[1:-1] * np.cos(frequency * np.arange(9) + phase)
    return pattern / np.linalg.norm(pattern)


def share_in_span(kernels, pattern):
    """Return the norm of the part of the pattern in the span of two kernels."""
    return np.linalg.norm(np.linalg.qr(kernels[:2].T)[0].T @ pattern)


@DILATIONS
def test_learned_filters_find_a_pattern_that_occurs_anywhere(dilation):
    """Its sign is random, so that no first moment shows it.

    Two leading filters hold it in any phase, as sine and cosine; two random ones do
    not. Neither do learned ones of a target that is noise.
    """
    learned, random, of_noise = [], [], []
    for seed in range(10):
        rows = with_pattern(seed, wave(seed), dilation)
        noise = np.random.default_rng(seed).permutation(rows.y)
        for y, n, n_random, shares in (
            (rows.y, 4, 0, learned),
            (rows.y, 0, 4, random),
            (noise, 4, 0, of_noise),
        ):
            of_y = RowBlocks(rows.X, y, rows.weight)
            shape = (9,), dilation
            filters, _ = learn(of_y, (60,), shape, n=n, n_random=n_random, seed=seed)
            shares.append(share_in_span(filters.banks[0].kernels, wave(seed)))
    assert min(learned) > 0.85
    assert np.mean(random) < 0.6
    assert np.mean(of_noise) < 0.7


def test_a_pattern_in_one_of_many_outputs_is_found():
    """More than ten outputs are mixed."""
    shares = []
    for seed in range(10):
        rows = with_pattern(seed, wave(seed), n_rows=600)
        others = np.random.default_rng(seed).standard_normal((600, 14))
        rows = RowBlocks(rows.X, np.column_stack([others, rows.y]), rows.weight)
        filters, _ = learn(rows, (60,), ((9,), 1), n=4, n_random=0, seed=seed)
        shares.append(share_in_span(filters.banks[0].kernels, wave(seed)))
    assert np.mean(shares) > 0.85


@OVER_SHAPES
@DILATIONS
def test_kernels_of_the_mean_free_half_sum_to_zero_in_each_channel(
    shape, taps, dilation
):
    (bank,) = learn(draw(shape), shape, (taps, dilation))[0].banks
    kernels = bank.kernels.reshape(10, -1, np.prod(taps))
    sums = np.abs(kernels.sum(axis=2)).max(axis=1)
    size = np.abs(kernels).max(axis=(1, 2))
    # Three learned and two random filters in each half.
    assert np.all(sums[5:] < 1e-12 * size[5:])
    assert np.all(sums[:5] > 0.01 * size[:5])


@OVER_SHAPES
@DILATIONS
def test_responses_before_pooling_have_mean_zero_and_spread_one(shape, taps, dilation):
    rows = draw(shape)
    (bank,) = learn(rows, shape, (taps, dilation))[0].banks
    patches = all_patches(rows, shape, taps, dilation)
    z = patches @ bank.kernels.T + bank.biases
    mean = np.average(z.mean(axis=1), axis=0, weights=rows.weight)
    square = np.average((z**2).mean(axis=1), axis=0, weights=rows.weight)
    np.testing.assert_allclose(mean, 0, atol=1e-10)
    np.testing.assert_allclose(square, 1, rtol=1e-9)


# Pooling


@OVER_SHAPES
@DILATIONS
def test_ramps_begin_and_end_at_weighted_quantiles_of_the_responses(
    shape, taps, dilation
):
    rows = draw(shape)
    (bank,) = learn(rows, shape, (taps, dilation))[0].banks
    assert bank.ramps.shape == (10, len(QUANTILES), 2)
    patches = all_patches(rows, shape, taps, dilation)
    z = patches @ bank.kernels.T + bank.biases
    thinned = np.linspace(0, z.shape[1] - 1, min(z.shape[1], 24)).astype(int)
    z = z[:, thinned]
    share = np.repeat(rows.weight / rows.weight.sum(), z.shape[1]) / z.shape[1]
    for of_filter, ramps in zip(z.reshape(-1, 10).T, bank.ramps, strict=True):
        order = np.argsort(of_filter)
        total = np.cumsum(share[order])
        for quantile, ends in zip(QUANTILES, ramps, strict=True):
            for side, end in zip((-0.5, 0.5), ends, strict=True):
                reached = total >= (quantile + side * QUANTILE_WIDTH) * (1 - 1e-9)
                np.testing.assert_allclose(end, of_filter[order][reached][0], atol=1e-9)


def test_shares_over_all_rows_are_one_less_the_quantiles():
    """Whatever the distribution of the responses is."""
    for seed, draw_values in enumerate(("standard_normal", "exponential", "laplace")):
        rng = np.random.default_rng(seed)
        X = getattr(rng, draw_values)(size=(200, 60))
        rows = RowBlocks(X, X[:, :1], rng.uniform(0.5, 2, 200))
        filters, _ = learn(rows, (60,), ((5,), 1))
        means = filters.center.reshape(-1, 10)[: len(QUANTILES)]
        expected = np.tile(1 - np.array(QUANTILES)[:, np.newaxis], 10)
        np.testing.assert_allclose(means, expected, atol=0.02)


@pytest.mark.parametrize("n_parts", [1, 2, 3, 8, EACH_POSITION])
@pytest.mark.parametrize("grid", [(20,), (7,), (1,), (4, 6), (1, 5), (9, 2)])
def test_pooled_statistics_equal_explicit_loops(grid, n_parts):
    rng = np.random.default_rng(0)
    z, ramps = 2 * rng.standard_normal((3, 2, *grid)), np.empty((2, 5, 2))
    ramps[:, :, 0] = rng.standard_normal((2, 5))
    ramps[:, :, 1] = ramps[:, :, 0] + rng.uniform(0.1, 1, (2, 5))

    def share(values, low, high):
        ramp = [min(max((v - low) / (high - low), 0), 1) for v in values.ravel()]
        return np.mean(ramp)

    def statistic(name, values, number):
        if name.startswith("share"):
            return share(values, *ramps[number, int(name[5:])])
        return {"mean": np.mean, "max": np.max}.get(name, lambda v: np.mean(np.abs(v)))(
            values
        )

    parts = []
    for n in grid:
        p = min(n, n_parts)
        ends = [i * n // p for i in range(p + 1)]
        parts.append([slice(a, b) for a, b in itertools.pairwise(ends)])
    parts = list(itertools.product(*parts))
    found = pooled(z.reshape(3, 2, -1), ramps, grid, n_parts)
    names = statistics_of(grid, n_parts)
    for name, values in zip(names, found, strict=True):
        assert values.shape == (3, 2, len(parts))
        for row, number, part in np.ndindex(values.shape):
            some = z[row, number][parts[part]]
            np.testing.assert_allclose(
                values[row, number, part], statistic(name, some, number), atol=1e-12
            )


def test_all_of_the_statistics_are_taken_over_all_positions_only():
    shares = tuple(f"share{i}" for i in range(5))
    assert statistics_of((30,), 1) == (*shares, "max", "abs", "mean")
    assert statistics_of((30,), 4) == ("max", "abs", "mean")
    assert statistics_of((3, 30), 4) == ("max", "abs", "mean")
    assert statistics_of((30,), 30) == ("abs", "mean")
    assert statistics_of((1,), 1) == ("abs", "mean")


# Responses


@pytest.mark.parametrize("pooling", [(1,), (3,), (1, EACH_POSITION)])
@OVER_SHAPES
def test_responses_equal_explicit_loops(shape, taps, pooling):
    rows = draw(shape)
    shapes = (taps, 1), (taps, 2)
    filters, of_fit = learn(rows, shape, *shapes, pooling=pooling, n=3, n_random=2)
    columns = []
    for bank in filters.banks:
        patches = all_patches(rows, shape, taps, bank.dilation)
        z = (patches @ bank.kernels.T + bank.biases).swapaxes(1, 2)
        _, grid = geometry(filters.layout.lengths, taps, bank.dilation)
        for n_parts in pooling:
            columns += [c.reshape(60, -1) for c in pooled(z, bank.ramps, grid, n_parts)]
    raw = np.concatenate(columns, axis=1)
    mean = np.average(raw, axis=0, weights=rows.weight)
    spread = np.sqrt(np.average((raw - mean) ** 2, axis=0, weights=rows.weight))
    typical = np.median(spread[spread > 1e-3 * spread.max()])
    expected = np.clip((raw - mean) / np.maximum(spread, typical / 10), -5, 5)
    expected[:, spread <= 0.01 * typical] = 0
    np.testing.assert_allclose(filter_responses(filters, rows.X), expected, atol=1e-8)
    np.testing.assert_allclose(of_fit, expected, atol=1e-8)


@pytest.mark.parametrize("view", [None, "derivative", "snv"])
def test_responses_of_the_fit_are_those_of_the_filters(view):
    rows = draw((2, 40))
    filters, of_fit = learn(rows, (2, 40), ((5,), 1), ((5,), 4), view=view)
    np.testing.assert_allclose(of_fit, filter_responses(filters, rows.X), atol=1e-10)


@pytest.mark.parametrize("unit", [1e-200, 1e-6, 1e6, 1e200])
def test_units_and_levels_of_channels_and_targets_do_not_matter(unit):
    rows = draw((3, 24))
    filters, expected = learn(rows, (3, 24), ((5,), 1), ((5,), 2))
    units = unit * np.repeat([1.0, 7, 0.1], 24)
    moved = RowBlocks(units * (rows.X + 2), (rows.y + 1) * [unit, 3], rows.weight)
    found, responses = learn(moved, (3, 24), ((5,), 1), ((5,), 2))
    np.testing.assert_allclose(responses, expected, atol=1e-8)
    for bank, other in zip(filters.banks, found.banks, strict=True):
        np.testing.assert_allclose(other.kernels, bank.kernels, atol=1e-8)


def test_permuted_channels_have_permuted_kernels():
    rows, order = draw((4, 24), 200), [2, 0, 3, 1]
    X = rows.X.reshape(-1, 4, 24)[:, order].reshape(200, -1)
    shapes = ((5,), 1), ((5,), 2)
    filters, expected = learn(rows, (4, 24), *shapes, n_random=0)
    permuted = RowBlocks(X, rows.y, rows.weight)
    found, responses = learn(permuted, (4, 24), *shapes, n_random=0)
    for bank, other in zip(filters.banks, found.banks, strict=True):
        kernels = bank.kernels.reshape(-1, 4, 5)[:, order].reshape(-1, 20)
        np.testing.assert_allclose(other.kernels, kernels, atol=1e-8)
    np.testing.assert_allclose(responses, expected, atol=1e-8)


@pytest.mark.parametrize(
    ("n_rows", "n_places"),
    [
        (60, 24),
        (60, 80),
        (100, 24),
    ],
)
def test_whole_weights_are_repeated_rows(n_rows, n_places):
    rows = draw((3, n_places), n_rows)
    weight = np.random.default_rng(1).integers(1, 4, n_rows)
    shapes = ((5,), 1), ((5,), 2)
    weighted = RowBlocks(rows.X, rows.y, weight.astype(float))
    repeated = [np.repeat(a, weight, axis=0) for a in (rows.X, rows.y)]
    repeated = RowBlocks(*repeated, np.ones(weight.sum()))
    found, expected = (
        filter_responses(learn(r, (3, n_places), *shapes)[0], rows.X)
        for r in (weighted, repeated)
    )
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_the_number_of_jobs_changes_no_bit(monkeypatch):
    monkeypatch.setattr(row_blocks, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(row_blocks, "BLOCK_ROWS", 7)
    found = []
    for n_jobs in (1, 2):
        rows = draw((3, 24), 300)
        rows = RowBlocks(rows.X, rows.y, rows.weight, n_jobs)
        filters, of_fit = learn(rows, (3, 24), ((5,), 1), ((5,), 2))
        found.append((of_fit, filter_responses(filters, rows.X, n_jobs)))
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("shape", [(24,), (2, 24)])
def test_a_constant_target_takes_no_part(shape):
    rows = draw(shape)
    with_constant = np.column_stack([rows.y, np.full(60, 0.1)])
    constant = RowBlocks(rows.X, with_constant, rows.weight)
    found, expected = (learn(r, shape, ((5,), 1))[1] for r in (constant, rows))
    np.testing.assert_allclose(found, expected, atol=1e-9)
    alone = RowBlocks(rows.X, with_constant[:, 2:], rows.weight)
    filters, responses = learn(alone, shape, ((5,), 1))
    assert np.isfinite(responses).all()
    norms = np.linalg.norm(filters.banks[0].kernels, axis=1)
    assert norms.min() > 0


@pytest.mark.parametrize("value", [0.0, 1.0, 240 / 255, -7e5])
def test_a_constant_channel_has_responses_of_the_others_only(value):
    rows = draw((2, 24))
    X = rows.X.copy()
    X[:, 24:] = value
    filters, expected = learn(RowBlocks(X, rows.y, rows.weight), (2, 24), ((5,), 1))
    assert np.all(np.isinf(filters.scale[1]))
    moved = X.copy()
    moved[:, 24:] += rows.X[:, 24:]
    np.testing.assert_allclose(filter_responses(filters, moved), expected, atol=1e-10)


def test_a_signal_without_any_variation_has_responses_of_zero():
    rows = draw((24,))
    for value in (0.0, 240 / 255):
        constant = RowBlocks(np.full((60, 24), value), rows.y, rows.weight)
        filters, responses = learn(constant, (24,), ((5,), 1))
        assert not np.any(responses)
        assert not np.any(filter_responses(filters, rows.X))


def test_responses_that_hardly_vary_are_zero():
    """A scaler after the transformer would make them large."""
    rng = np.random.default_rng(0)
    X, new = rng.standard_normal((2, 100, 24))
    X[:, :12] *= 1e-4
    rows = RowBlocks(X, X[:, -1:], np.ones(100))
    filters, responses = learn(rows, (24,), ((4,), 1), pooling=(EACH_POSITION,))
    still = ~np.isfinite(filters.unit)
    place = np.tile(np.arange(21), 20)
    assert np.array_equal(np.unique(place[still]), np.arange(9))
    assert not np.any(responses[:, still])
    assert not np.any(filter_responses(filters, new)[:, still])


def test_a_single_row_has_responses_of_zero():
    rows = draw((24,), 1)
    filters, responses = learn(rows, (24,), ((5,), 1))
    assert not np.any(responses)
    assert np.isfinite(filters.banks[0].kernels).all()


def test_responses_of_nearly_equal_rows_are_nearly_equal():
    """Shares are ramps, not steps."""
    rows = draw((60,), 200)
    filters, responses = learn(rows, (60,), ((5,), 1), pooling=(1, 4))
    noise = 1e-6 * np.random.default_rng(0).standard_normal(rows.X.shape)
    change = filter_responses(filters, rows.X + noise) - responses
    assert np.abs(change).max() < 1e-4


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rows_that_are_not_finite_have_no_responses(bad):
    rows = draw((24,))
    filters, responses = learn(rows, (24,), ((5,), 1))
    some = rows.X[:3].copy()
    some[1, 3] = bad
    found = filter_responses(filters, some)
    assert np.isnan(found[1]).all()
    np.testing.assert_allclose(found[[0, 2]], responses[[0, 2]], atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_far_rows_have_responses_within_the_clip(dtype):
    rows = draw((24,))
    filters, _ = learn(rows, (24,), ((5,), 1))
    signs = np.sign(rows.X - 5)
    for size in (1e6, 1e30, np.finfo(dtype).max):
        found = filter_responses(filters, (size * signs).astype(dtype))
        assert found.dtype == dtype
        assert np.abs(found).max() == filters.clip == 5


def test_responses_in_single_precision_are_those_in_double():
    rows = draw((3, 24))
    filters, expected = learn(rows, (3, 24), ((5,), 1))
    found = filter_responses(filters, rows.X.astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_spreads_that_overflow_are_refused():
    rows = draw((24,))
    X = rows.X.copy()
    X[0, 0] = np.inf
    with pytest.raises(FloatingPointError, match="spread of a feature overflows"):
        learn(RowBlocks(X, rows.y, rows.weight), (24,), ((5,), 1))


@pytest.mark.parametrize("pooling", [(1,), (4,), (EACH_POSITION,), (1, 4, 8)])
@OVER_SHAPES
def test_every_column_has_a_name_of_its_own(shape, taps, pooling):
    filters, responses = learn(
        draw(shape), shape, (taps, 1), (taps, 2), pooling=pooling
    )
    names = column_names(filters)
    assert len(set(names)) == len(names) == responses.shape[1]


def test_channel_units_are_those_of_the_signals():
    rows = draw((3, 24))
    share = rows.weight / rows.weight.sum()
    filters, _ = learn(rows, (3, 24), ((5,), 1))
    shift, scale = channel_units(rows.X.reshape(-1, 3, 24), share)
    np.testing.assert_array_equal(filters.shift, shift)
    np.testing.assert_array_equal(filters.scale, scale)
