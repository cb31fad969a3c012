"""Which rows count as a series: neighbours alike, in any unit, and not by sorting."""

import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.datasets import load_digits

from skdeeptd._data.serial import is_sorted, rows_are_serial

SEEDS = range(10)


def oscillation(seed, n=400):
    noise = np.random.default_rng(seed).standard_normal(n)
    return lfilter([1], [1, -1.6, 0.9], noise)


def windows(seed, n_values=20, ahead=3):
    """Return windows of an oscillation, and its value some steps ahead of each."""
    series = oscillation(seed)
    X = np.lib.stride_tricks.sliding_window_view(series, n_values)[:-ahead]
    return X, series[n_values - 1 + ahead :, np.newaxis]


def drifting_spectra(seed, n_rows=100):
    """Return spectra of which each is the one before and a small step."""
    steps = np.random.default_rng(seed).standard_normal((n_rows, 60))
    X = np.cumsum(np.cumsum(steps, axis=1), axis=0)
    return X, X[:, 30:31] - X[:, 40:41]


@pytest.mark.parametrize("draw", [windows, drifting_spectra])
def test_series_are_told_from_the_same_rows_in_random_order(draw):
    for seed in SEEDS:
        X, y = draw(seed)
        assert rows_are_serial(X, y)
        order = np.random.default_rng(seed).permutation(len(X))
        assert not rows_are_serial(X[order], y[order])


def test_independent_spectra_are_no_series():
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        X = np.cumsum(rng.standard_normal((80, 100)), axis=1)
        assert not rows_are_serial(X, X[:, 30:31])


def test_windows_that_move_by_several_steps_are_a_series():
    """Neighbours then are not alike at the same place, but after the shift."""
    for seed in SEEDS:
        X, y = windows(seed, n_values=40)
        X, y = X[::5], y[::5]
        share = np.mean(np.diff(X, axis=0) ** 2) / (2 * X.var())
        assert share > 0.5
        assert rows_are_serial(X, y)


def test_samples_sorted_by_y_or_by_class_are_no_series():
    """Neighbours are alike because y is."""
    X, digit = load_digits(return_X_y=True)
    order = np.argsort(digit[:300], kind="stable")
    one_hot = np.eye(10)[digit[:300][order]]
    assert not rows_are_serial(X[:300][order], one_hot)
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        y = np.sort(rng.uniform(size=100))[:, np.newaxis]
        X = y * np.ones(20) + 0.01 * rng.standard_normal((100, 20))
        assert not rows_are_serial(X, y)
        assert not rows_are_serial(X[::-1], -y[::-1])
        order = np.argsort(rng.uniform(size=100))
        assert not rows_are_serial(X[order], y[order])
        walk = np.cumsum(rng.standard_normal(100))[:, np.newaxis]
        assert rows_are_serial(X, walk)


def test_classes_in_any_order_of_the_blocks_are_sorted():
    label = np.repeat([2, 0, 3, 1], [10, 20, 5, 8])
    assert is_sorted(np.eye(4)[label])
    assert is_sorted(label[:, np.newaxis].astype(float))
    mixed = np.r_[label, 2]
    assert not is_sorted(np.eye(4)[mixed])
    assert not is_sorted(mixed[:, np.newaxis].astype(float))


def test_values_that_all_differ_are_no_classes():
    """As many changes as values are no sign of classes in one block each."""
    for seed in SEEDS:
        y = np.random.default_rng(seed).standard_normal((50, 2))
        assert not is_sorted(y)
        assert not is_sorted(y[:, :1])
        assert is_sorted(np.column_stack([y[:, 0], np.arange(50)]))
        assert not is_sorted(np.column_stack([y[:, 0], np.full(50, 3.0)]))


@pytest.mark.parametrize("value", [0.0, 1.0, 240 / 255, -7e5])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_constant_features_do_not_make_rows_alike(value, dtype):
    rng = np.random.default_rng(0)
    X = np.full((150, 80), value, dtype=dtype)
    X[:, 60:] = rng.standard_normal((150, 20))
    y = rng.standard_normal((150, 1))
    assert not rows_are_serial(X, y)
    assert not rows_are_serial(X[:, :60], y)
    X[:, 60:] = windows(0)[0][:150]
    assert rows_are_serial(X, y)


@pytest.mark.parametrize("unit", [1e-200, 1e-6, 1e6, 1e200])
def test_the_unit_of_the_features_does_not_matter(unit):
    for seed in SEEDS:
        X, y = windows(seed)
        assert rows_are_serial(unit * X, y)
        order = np.random.default_rng(seed).permutation(len(X))
        assert not rows_are_serial(unit * X[order], y[order])


def test_fewer_than_ten_rows_are_no_series():
    X, y = windows(0)
    assert rows_are_serial(X[:10], y[:10])
    assert not rows_are_serial(X[:9], y[:9])
