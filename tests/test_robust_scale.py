import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq
from scipy.stats import norm

from skdeeptd._loss import huber_consistency
from skdeeptd._solvers.robust_scale import (
    dominated_by_outliers,
    huber_scale,
    median_scale,
    weighted_median,
    winsorised,
)


@pytest.mark.parametrize("epsilon", [1.0, 1.35, 2.0, 50.0])
def test_consistency_is_a_mean_over_the_normal_distribution(epsilon):
    mean, _ = quad(
        lambda z: min(z**2, epsilon**2) * norm.pdf(z),
        *(-10, 10),
        points=[-min(epsilon, 9), min(epsilon, 9)],
    )
    assert huber_consistency(epsilon) == pytest.approx(mean, rel=1e-7)


@pytest.mark.parametrize("epsilon", [1.0, 1.35, 3.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_scale_is_the_root_of_its_equation(epsilon, seed):
    rng = np.random.RandomState(seed)
    residual, weight = rng.standard_t(2, 60), rng.uniform(size=60)

    def left_over(scale):
        clipped = np.clip(residual, -epsilon * scale, epsilon * scale)
        wanted = huber_consistency(epsilon) * scale**2 * np.sum(weight)
        return weight @ clipped**2 - wanted

    expected = brentq(left_over, 1e-3, 100, xtol=1e-14)
    found = huber_scale(residual, weight, epsilon)
    assert found == pytest.approx(expected, rel=1e-9)


def test_the_scale_of_residuals_most_of_which_are_zero_is_zero():
    assert huber_scale(np.r_[np.zeros(90), np.ones(10)], np.ones(100), 1.35) == 0


def test_a_weight_in_a_median_is_a_repeated_row():
    rng = np.random.RandomState(0)
    for _ in range(20):
        values, counts = rng.standard_normal(9), rng.randint(1, 4, 9)
        repeated = np.sort(np.repeat(values, counts))
        expected = repeated[(len(repeated) - 1) // 2]
        assert weighted_median(values, counts / 3) == expected


def test_the_median_scale_of_normal_residuals_is_their_standard_deviation():
    quantiles = 3.0 * norm.ppf((np.arange(20_000) + 0.5) / 20_000)
    assert median_scale(quantiles, np.ones(20_000)) == pytest.approx(3, rel=1e-3)


def test_each_column_is_cut_off_two_scales_from_its_own_median():
    rng = np.random.RandomState(0)
    y = rng.standard_normal((99, 2)) * [1.0, 100.0] + [0.0, 1e3]
    y[0] = 50.0, -1e6
    cut = winsorised(y, np.ones(99))
    for column, found in zip(y.T, cut.T, strict=True):
        middle = np.median(column)
        most = 2 * np.median(np.abs(column - middle)) * 1.482602218505602
        np.testing.assert_allclose(found, np.clip(column, middle - most, middle + most))
        assert found[0] != column[0]


def test_a_column_with_one_value_in_most_rows_is_not_cut_off():
    y = np.r_[np.zeros(60), np.arange(40.0)][:, np.newaxis]
    np.testing.assert_array_equal(winsorised(y, np.ones(100)), y)


def rows_with_outliers(n_far, size=50.0, n_rows=100):
    y = np.random.RandomState(0).standard_normal(n_rows)
    residual = y.copy()
    residual[:n_far] += size * np.sign(residual[:n_far])
    return y, residual, np.ones(n_rows)


@pytest.mark.parametrize(
    ("n_far", "size", "expected"),
    [(0, 50, False), (3, 50, True), (1, 2, False), (25, 50, False)],
)
def test_few_rows_far_out_with_most_of_the_squares_dominate(n_far, size, expected):
    assert dominated_by_outliers(*rows_with_outliers(n_far, size)) is expected


def test_outliers_of_little_weight_dominate_nothing():
    y, residual, weight = rows_with_outliers(3)
    weight[:3] = 1e-3
    assert not dominated_by_outliers(y, residual, weight)


def test_many_rows_of_little_weight_are_few():
    y, residual, weight = rows_with_outliers(25)
    weight[:25] = 0.1
    assert dominated_by_outliers(y, residual, weight)


def test_labels_few_rows_and_exact_fits_have_no_outliers():
    y, residual, weight = rows_with_outliers(3)
    assert dominated_by_outliers(y, residual, weight)
    assert not dominated_by_outliers(np.sign(y), residual, weight)
    assert not dominated_by_outliers(y[:19], residual[:19], weight[:19])
    assert not dominated_by_outliers(y, np.where(residual > 10, residual, 0), weight)
