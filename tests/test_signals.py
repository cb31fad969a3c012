"""Signals: channels and places, derivative and standard normal variate, and units."""

import numpy as np
import pandas as pd
import pytest
from sklearn.exceptions import NotFittedError

from skdeeptd import SignalScaler
from skdeeptd._data.signals import (
    as_signals,
    channel_units,
    derivative,
    derivative_window,
    feature_units,
    floored,
    mean_and_spread,
    signal_layout,
    standard_normal_variate,
    typical_spread,
)

RNG = np.random.default_rng(0)
CONSTANTS = [0.0, 1.0, 240 / 255, -7 / 3, 4e5]
DTYPES = [np.float64, np.float32]
VIEWS = [None, "derivative", "snv"]
BAD = [np.nan, np.inf, -np.inf]


# Layouts


@pytest.mark.parametrize(
    ("shape", "n_channels", "lengths", "order"),
    [
        ((100,), 1, (100,), (0,)),
        ((6, 100), 6, (100,), (0, 1)),
        ((100, 6), 6, (100,), (1, 0)),
        ((8, 8), 1, (8, 8), (0, 1)),
        ((8, 8, 2), 2, (8, 8), (2, 0, 1)),
        ((2, 8, 8), 2, (8, 8), (0, 1, 2)),
        ((14, 30), 14, (30,), (0, 1)),
        ((15, 30), 1, (15, 30), (0, 1)),
        ((3, 100, 4), 12, (100,), (0, 2, 1)),
        ((3, 4), 3, (4,), (0, 1)),
        ((3, 3), 1, (3, 3), (0, 1)),
        ((1,), 1, (1,), (0,)),
        ((1, 50), 1, (50,), (0, 1)),
    ],
)
def test_an_axis_of_less_than_half_of_another_holds_channels(
    shape, n_channels, lengths, order
):
    layout = signal_layout(shape)
    assert layout == (shape, order, n_channels, lengths)


@pytest.mark.parametrize("shape", [(6, 20), (20, 6), (8, 8, 2), (3, 20, 4), (5, 7)])
def test_signals_hold_each_value_in_its_channel_and_place(shape):
    layout = signal_layout(shape)
    X = RNG.standard_normal((4, *shape))
    signals = as_signals(X.reshape(4, -1), layout)
    is_channel = [n not in layout.lengths for n in shape]
    own = [n for n, c in zip(shape, is_channel, strict=True) if c] or [1]
    assert signals.shape == (4, np.prod(own), np.prod(layout.lengths))
    for index in np.ndindex(*shape):
        of_channel = [i for i, c in zip(index, is_channel, strict=True) if c] or [0]
        of_place = [i for i, c in zip(index, is_channel, strict=True) if not c]
        channel = np.ravel_multi_index(of_channel, own)
        place = np.ravel_multi_index(of_place, layout.lengths)
        np.testing.assert_array_equal(signals[:, channel, place], X[:, *index])


# Derivative


def test_a_derivative_is_the_slope_of_a_polynomial_fit():
    signals = RNG.standard_normal((3, 2, 40))
    found = derivative(signals)
    steps = np.arange(-7, 8)
    for row, channel, place in np.ndindex(3, 2, 26):
        values = signals[row, channel, place : place + 15]
        slope = np.polyfit(steps, values, 2)[1]
        np.testing.assert_allclose(found[row, channel, place + 7], slope, atol=1e-12)


def test_the_first_and_the_last_value_are_repeated_beyond_the_ends():
    signals = RNG.standard_normal((3, 2, 40))
    longer = np.pad(signals, ((0, 0), (0, 0), (7, 7)), mode="edge")
    expected = derivative(longer)[:, :, 7:-7]
    np.testing.assert_allclose(derivative(signals), expected, atol=1e-12)


def test_the_derivative_of_a_parabola_is_exact_away_from_the_ends():
    place = np.arange(50)
    signals = (3 - 2 * place + 0.5 * place**2)[np.newaxis, np.newaxis]
    found = derivative(signals)[0, 0, 7:-7]
    np.testing.assert_allclose(found, (place - 2.0)[7:-7], atol=1e-10)


@pytest.mark.parametrize(
    ("n_places", "window"), [(3, 3), (4, 3), (5, 5), (14, 13), (15, 15), (16, 15)]
)
def test_short_signals_have_a_shorter_window(n_places, window):
    assert derivative_window(n_places) == window
    line = np.arange(float(n_places))[np.newaxis, np.newaxis]
    slopes = derivative(4 * line)[0, 0]
    inside = slice(window // 2, n_places - window // 2)
    np.testing.assert_allclose(slopes[inside], 4)


# Standard normal variate


def test_snv_equals_explicit_loops():
    signals = 5 + RNG.standard_normal((4, 3, 20))
    found = standard_normal_variate(signals)
    for row, channel in np.ndindex(4, 3):
        signal = signals[row, channel]
        expected = (signal - signal.mean()) / signal.std()
        np.testing.assert_allclose(found[row, channel], expected, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-300, 1e-6, 1e6, 1e300])
def test_snv_does_not_depend_on_the_unit_and_the_level_of_a_signal(unit):
    signals = RNG.standard_normal((4, 3, 20))
    expected = standard_normal_variate(signals)
    factor, level = RNG.uniform(0.5, 2, (4, 3, 1)), RNG.uniform(-3, 3, (4, 3, 1))
    moved = unit * (factor * signals + level)
    np.testing.assert_allclose(standard_normal_variate(moved), expected, atol=1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", CONSTANTS)
def test_constant_signals_have_views_of_zeros(value, dtype):
    signals = RNG.standard_normal((3, 2, 31)).astype(dtype)
    signals[1] = value
    snv = standard_normal_variate(signals)
    assert snv.dtype == dtype
    assert not np.any(snv[1])
    np.testing.assert_allclose(snv[[0, 2]].std(axis=2), 1, rtol=1e-5)
    slopes = derivative(signals)
    assert slopes.dtype == dtype
    assert np.abs(slopes[1]).max() <= 10 * np.finfo(dtype).eps * abs(value)


def test_signals_that_are_constant_up_to_rounding_count_as_constant():
    signals = np.where(RNG.standard_normal((30, 1, 40)) > 0, 0.3, 0.1 + 0.2)
    assert signals.std() > 0
    assert not np.any(standard_normal_variate(signals))
    _, spread, _ = mean_and_spread(signals[:, 0], np.full(30, 1 / 30))
    assert not np.any(spread)
    assert np.isinf(channel_units(signals, np.full(30, 1 / 30))[1])


# Units


def test_the_units_of_a_channel_are_those_of_its_values_in_all_places():
    signals = 3 + RNG.standard_normal((10, 2, 7)) * [[[1.0], [1e-3]]]
    share = RNG.dirichlet(np.ones(10))
    shift, scale = channel_units(signals, share)
    assert shift.shape == scale.shape == (2, 1)
    for channel in range(2):
        values, weight = signals[:, channel].ravel(), np.repeat(share, 7)
        mean = np.average(values, weights=weight)
        variance = np.average((values - mean) ** 2, weights=weight)
        np.testing.assert_allclose(shift[channel], mean)
        np.testing.assert_allclose(scale[channel], np.sqrt(variance))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", CONSTANTS)
def test_a_constant_channel_has_an_infinite_scale(value, dtype):
    signals = RNG.standard_normal((150, 2, 9)).astype(dtype)
    signals[:, 1] = value
    share = RNG.dirichlet(np.ones(150))
    _, scale = channel_units(signals.astype(float), share)
    assert np.isfinite(scale[0])
    assert np.isinf(scale[1])


def test_whole_weights_are_repeated_rows():
    values, weight = RNG.standard_normal((20, 3)), RNG.integers(0, 4, 20)
    weighted = mean_and_spread(values, weight / weight.sum())
    repeated = np.repeat(values, weight, axis=0)
    expected = repeated.mean(axis=0), repeated.std(axis=0)
    np.testing.assert_allclose(weighted[:2], expected, atol=1e-12)


@pytest.mark.parametrize("unit", [1e-200, 1e-6, 1e6, 1e200])
def test_squares_neither_overflow_nor_underflow(unit):
    values, share = RNG.standard_normal((20, 3)), np.full(20, 1 / 20)
    mean, spread, size = mean_and_spread(unit * values, share)
    np.testing.assert_allclose(mean / unit, values.mean(axis=0), atol=1e-12)
    np.testing.assert_allclose(spread / unit, values.std(axis=0))
    np.testing.assert_allclose(size / unit, np.abs(values).max(axis=0))


def test_a_large_level_costs_no_digits():
    values = RNG.integers(-8, 8, (50, 3)).astype(float)
    _, spread, _ = mean_and_spread(values + 2.0**40, np.full(50, 0.02))
    np.testing.assert_allclose(spread, values.std(axis=0), rtol=1e-3)


def test_a_spread_that_overflows_is_refused():
    with (
        np.errstate(invalid="ignore"),
        pytest.raises(FloatingPointError, match="spread of a feature overflows"),
    ):
        mean_and_spread(np.array([[1.0], [np.inf]]), np.full(2, 0.5))


def test_the_typical_spread_is_that_of_the_columns_that_vary():
    spread = np.array([1.0, 2.0, 3.0, 1e-5, 0.0])
    assert typical_spread(spread, np.ones(5)) == 2.0
    small_column = typical_spread(np.array([1e-5, 1.0]), np.array([1e-5, 1.0]))
    assert small_column == (1 + 1e-5) / 2  # small, but not beside its own size
    assert typical_spread(np.zeros(3), np.ones(3)) == 0


def test_a_spread_has_a_floor_of_a_tenth_of_the_typical_one():
    np.testing.assert_allclose(floored(np.array([2.0, 0.1]), 3.0), [2, 0.3])
    assert np.all(np.isinf(floored(np.zeros(2), 0.0)))
    columns = 5 + RNG.standard_normal((50, 5)) * [1, 1, 1, 1e-4, 0]
    _, scale = feature_units(columns, np.full(50, 0.02))
    spread = columns[:, :3].std(axis=0)
    np.testing.assert_allclose(scale[:3], spread)
    np.testing.assert_allclose(scale[3:], 0.1 * np.median(spread))


# SignalScaler

X = 3 + RNG.standard_normal((60, 20)) * np.linspace(1, 4, 20)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(40,), (4, 10), (10, 4)])
def test_features_are_those_of_the_view_standardised(shape, view):
    signals = RNG.standard_normal((50, *shape))
    flat = signals.reshape(50, -1)
    columns = as_signals(flat, signal_layout(shape), view).reshape(50, -1)
    scaler = SignalScaler(view, input_shape=shape).fit(flat)
    expected = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    np.testing.assert_allclose(scaler.transform(flat), expected, atol=1e-10)
    of_arrays = SignalScaler(view).fit_transform(signals)
    np.testing.assert_array_equal(of_arrays, scaler.transform(flat))


def test_features_that_hardly_vary_are_not_amplified_and_all_are_clipped():
    hardly = X.copy()
    hardly[:, 2] = 5 + 1e-4 * X[:, 2]
    hardly[:, 3] = 7.0
    scaler = SignalScaler().fit(hardly)
    typical = np.median(np.delete(hardly.std(axis=0), [2, 3]))
    np.testing.assert_allclose(scaler.scale_[2:4], typical / 10)
    np.testing.assert_allclose(scaler.transform(hardly + 1)[:, 3], 10 / typical)
    assert np.abs(scaler.transform(1e300 * X)).max() == 5


def test_sample_weights_are_repetitions():
    weight = RNG.integers(0, 3, 60)
    weighted = SignalScaler().fit(X, sample_weight=weight)
    repeated = SignalScaler().fit(np.repeat(X, weight, axis=0))
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-12)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("unit", [1e-200, 1e-6, 1e6, 1e200])
def test_the_unit_of_x_does_not_matter(unit, view):
    expected = SignalScaler(view).fit_transform(X)
    found = SignalScaler(view).fit_transform(unit * X)
    np.testing.assert_allclose(found, expected, atol=1e-10)


@pytest.mark.parametrize("view", VIEWS)
def test_constant_samples_are_zeros(view):
    for value in CONSTANTS:
        scaler = SignalScaler(view).fit(np.full((30, 20), value))
        assert not np.any(scaler.transform(np.full((2, 20), value)))


@pytest.mark.parametrize("view", VIEWS)
def test_dtypes_jobs_and_frames(view):
    double = SignalScaler(view).fit(X)
    single = double.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, double.transform(X), atol=1e-4)
    two_jobs = SignalScaler(view, n_jobs=2).fit(X)
    np.testing.assert_array_equal(two_jobs.transform(X), double.transform(X))
    frame = pd.DataFrame(X, columns=[f"f{i}" for i in range(20)])
    table = SignalScaler(view).set_output(transform="pandas").fit_transform(frame)
    assert list(table.columns) == [f"x{i}" for i in range(20)]
    np.testing.assert_allclose(table, double.transform(X), atol=1e-12)


def test_names_say_channel_and_place():
    """In the order of the columns: one value of X changes one of them."""
    signals = RNG.standard_normal((30, 12, 2))
    scaler = SignalScaler().fit(signals)
    names = scaler.get_feature_names_out()
    assert list(names) == [f"channel{c}_x{p}" for c in (0, 1) for p in range(12)]
    before = scaler.transform(signals)
    signals[:, 5, 1] += 1
    changed = np.any(scaler.transform(signals) != before, axis=0)
    assert list(names[changed]) == ["channel1_x5"]
    images = SignalScaler().fit(RNG.standard_normal((30, 3, 4, 5)))
    assert images.get_feature_names_out()[-1] == "channel2_x3x4"
    with pytest.raises(ValueError, match="input_features"):
        scaler.get_feature_names_out(["a", "b"])


def test_parameters_set_after_fit_change_nothing():
    scaler = SignalScaler("snv").fit(X)
    expected = scaler.transform(X)
    scaler.set_params(view="derivative", input_shape=(4, 5))
    np.testing.assert_array_equal(scaler.transform(X), expected)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("bad", BAD)
def test_values_that_are_not_finite_are_named(bad, view):
    with_bad = X.copy()
    with_bad[3, 4] = bad
    with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
        SignalScaler(view).fit(with_bad)
    scaler = SignalScaler(view).fit(X)
    with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
        scaler.transform(with_bad)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_large_new_values_have_finite_features(dtype, view):
    largest = np.finfo(dtype).max
    scaler = SignalScaler(view).fit(X)
    new = (np.sign(X - 3) * largest).astype(dtype)
    found = scaler.transform(new)
    assert np.abs(found).max() <= 5
    assert np.isfinite(SignalScaler(view).fit(new).transform(X.astype(dtype))).all()


def test_errors_say_what_would_be_right():
    with pytest.raises(NotFittedError):
        SignalScaler().transform(X)
    with pytest.raises(NotFittedError):
        SignalScaler().get_feature_names_out()
    with pytest.raises(ValueError, match=r"\(3, 7\) has 21 entries, but X has 20"):
        SignalScaler(input_shape=(3, 7)).fit(X)
    with pytest.raises(ValueError, match=r"shape \(4, 5\); use view=None"):
        SignalScaler("derivative", input_shape=(4, 5)).fit(X)
    with pytest.raises(ValueError, match=r"3 values or more.* \(2,\); use view=None"):
        SignalScaler("derivative").fit(X[:, :2])
    with pytest.raises(ValueError, match="19 features"):
        SignalScaler().fit(X).transform(X[:, :19])
    with pytest.raises(ValueError, match="view"):
        SignalScaler("second derivative").fit(X)
