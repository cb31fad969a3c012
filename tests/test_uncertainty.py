"""The stated standard deviations are those that repetition shows."""

import numpy as np
import pytest
from skdeeptd._model.fitted import networks_of
from skdeeptd._model.network import forward
from skdeeptd._model.parameters import pack, unpack

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_one_linear_layer_has_the_covariance_of_weighted_least_squares(
    alpha, fit_intercept
):
    rng = np.random.default_rng(0)
    X, y = 3 + rng.standard_normal((60, 7)), 100 * rng.standard_normal(60)
    weight = rng.integers(1, 4, 60).astype(float)
    fitted = DeepTDRegressor((7,), alpha=alpha, fit_intercept=fit_intercept, tol=1e-12)
    fitted.fit(X, y, weight)

    design = np.column_stack([X, np.ones(60)]) if fit_intercept else X
    gram = design.T @ (weight[:, None] * design)
    prior = np.diag([alpha] * 7 + [0] * fit_intercept)
    inverse = np.linalg.inv(gram + prior)
    coefficients = inverse @ design.T @ (weight * y)
    left = weight.sum() - np.trace(inverse @ gram)
    noise = np.sum(weight * (y - design @ coefficients) ** 2) / left
    np.testing.assert_allclose(fitted.noise_variance_, [noise], rtol=1e-6)
    fresh = 3 + rng.standard_normal((5, 7))
    by_theta = np.column_stack([fresh, np.ones(5)]) if fit_intercept else fresh
    expected = np.sqrt(noise * np.sum((by_theta @ inverse) * by_theta, axis=1))
    mean, std = fitted.predict(fresh, return_std=True)
    np.testing.assert_array_equal(mean, fitted.predict(fresh))
    np.testing.assert_allclose(std, expected, rtol=1e-4)


def test_squares_that_float32_cannot_hold_are_no_error_where_rows_are_few():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((4, 6)).astype(np.float32), rng.standard_normal(4)
    large = X * np.float32(1e19)
    model = DeepTDRegressor((6,), fit_intercept=False).fit(large, y)
    np.testing.assert_allclose(model.predict(large), y, rtol=1e-3)
    assert np.isnan(model.noise_variance_).all()  # nothing is left to estimate it from


@pytest.mark.parametrize("hidden_bias", [False, True])
@pytest.mark.parametrize(
    "shape",
    [
        {"kernel_sizes": (4, 3, -1), "strides": (2, 1), "input_shape": (16,)},
        {"kernel_sizes": ((3, 2), -1), "strides": 1, "input_shape": (6, 4)},
    ],
)
def test_std_of_an_overlapping_network_is_that_of_the_delta_method(shape, hidden_bias):
    """By finite differences of the output by each weight."""
    X, y = make_patch_cnn_regression(
        500, **shape, activation="tanh", noise=0.2, random_state=0
    )
    fitted = DeepTDRegressor(
        **shape, activation="tanh", hidden_bias=hidden_bias, random_state=0
    ).fit(X, y)
    (network,) = networks_of(fitted)
    theta = pack(network)
    steps = 1e-6 * np.eye(len(theta))
    above, below = (
        [forward(unpack(theta + sign * step, network), X) for step in steps]
        for sign in (1, -1)
    )
    by_theta = (np.array(above) - below).T / 2e-6
    squares = (y - fitted.predict(X)) ** 2
    variance = squares.sum() / (500 - len(theta))
    np.testing.assert_allclose(fitted.noise_variance_, [variance], rtol=0.01)
    inverse = np.linalg.pinv(by_theta.T @ by_theta, rcond=1e-11, hermitian=True)
    variances = np.sum((by_theta @ inverse) * by_theta, axis=1)
    _, std = fitted.predict(X, return_std=True)
    expected = np.sqrt(fitted.noise_variance_ * variances)
    np.testing.assert_allclose(std, expected, rtol=1e-3)


def test_intervals_cover_the_truth_as_often_as_they_say():
    """95 % intervals of the mean: one network, 60 fits with fresh X and noise."""
    sizes, noise, n_train, n_fits = (6, 5, 4), 0.5, 400, 60
    X, y = make_patch_cnn_regression(n_fits * 600, sizes, random_state=0)
    rng = np.random.RandomState(1000)
    covered, variances = [], []
    for part, of_part in zip(np.split(X, n_fits), np.split(y, n_fits), strict=True):
        noisy = of_part[:n_train] + noise * rng.standard_normal(n_train)
        fitted = DeepTDRegressor(sizes, random_state=0).fit(part[:n_train], noisy)
        mean, std = fitted.predict(part[n_train:], return_std=True)
        covered.append(np.mean(np.abs(mean - of_part[n_train:]) < 1.96 * std))
        variances.append(fitted.noise_variance_[0])
    assert 0.93 < np.mean(covered) < 0.97
    np.testing.assert_allclose(np.mean(variances), noise**2, rtol=0.03)


def test_units_shapes_and_order_of_the_covariance():
    X, y = make_patch_cnn_regression(
        200, (4, 3), n_outputs=2, n_filters=2, noise=0.1, random_state=0
    )
    model = DeepTDRegressor((4, 3), n_filters=2, hidden_bias=True, random_state=0)
    fitted = model.fit(X, y)
    n_weights = 2 * (4 + 3 + 1 + 1) + 1
    assert fitted.covariance_.shape == (2, n_weights, n_weights)
    assert fitted.noise_variance_.shape == (2,)
    mean, std = fitted.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape
    assert np.all(std > 0)
    covariance = fitted.covariance_
    # Scales and intercept have the unit of y, kernels and biases have none.
    larger = model.fit(X, 1000 * y)
    factor = np.ones(n_weights)
    factor[[7, 16, 18]] = 1000
    np.testing.assert_allclose(
        larger.covariance_, covariance * np.outer(factor, factor), rtol=1e-3, atol=1e-9
    )
    np.testing.assert_allclose(
        larger.predict(X, return_std=True)[1], 1000 * std, rtol=1e-3
    )


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_covariance_is_that_of_the_weights_in_repeated_fits(activation):
    """Unit kernels do not vary in norm; the rest does as 300 fits with new noise do."""
    X, y = make_patch_cnn_regression(400, (4, 3), activation=activation, random_state=0)
    model = DeepTDRegressor((4, 3), activation=activation, random_state=0)
    weights, stated = [], []
    for seed in range(300):
        noise = 0.1 * np.random.RandomState(1000 + seed).standard_normal(400)
        fitted = model.fit(X, y + noise)
        first, second = (
            k[0, 0] * gain
            for k, gain in zip(fitted.kernels_, fitted.gains_[0, 0], strict=True)
        )
        # The signs that the function does not depend on, so that fits can be compared.
        flips = np.array([np.sign(first[0]) if activation == "tanh" else 1.0] * 2)
        flips[1] = np.sign(second[0])
        flips = np.append(flips, np.prod(flips))
        signs = np.repeat(flips, [4, 3, 1])
        weights.append(np.hstack([first, second, fitted.scales_[0]]) * signs)
        stated.append(fitted.covariance_[0, :-1, :-1] * np.outer(signs, signs))
    expected = np.cov(np.transpose(weights))
    stated = np.mean(stated, axis=0)
    error = np.linalg.norm(stated - expected) / np.linalg.norm(expected)
    assert error < 0.2
    unit = fitted.kernels_[1][0, 0]
    assert unit @ fitted.covariance_[0, 4:7, 4:7] @ unit < 1e-12


def test_weights_count_as_repeated_rows():
    X, y = make_patch_cnn_regression(90, (4, 3), noise=0.3, random_state=0)
    weight = np.random.RandomState(0).randint(1, 4, 90)
    weighted = DeepTDRegressor((4, 3), random_state=0).fit(X, y, weight)
    repeated = DeepTDRegressor((4, 3), random_state=0).fit(
        np.repeat(X, weight, axis=0), np.repeat(y, weight)
    )
    np.testing.assert_allclose(
        weighted.predict(X, return_std=True)[1],
        repeated.predict(X, return_std=True)[1],
        rtol=1e-4,
    )


def test_where_the_mean_is_predicted_its_standard_error_is_given():
    X = np.random.RandomState(0).choice([-1.0, 1.0], (50, 6))
    X = np.vstack([X, -X])
    y = np.tile([-1.0, 1.0], 50)  # even in X: the moment is zero
    with pytest.warns(UserWarning, match="Nothing could be learned"):
        fitted = DeepTDRegressor((3, 2)).fit(X, y)
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(mean, y.mean())
    np.testing.assert_allclose(std, y.std(ddof=1) / 10)


def test_no_more_samples_than_weights_leave_no_estimate():
    rng = np.random.RandomState(0)
    fitted = DeepTDRegressor((12,)).fit(rng.standard_normal((10, 12)), rng.rand(10))
    assert np.all(np.isnan(fitted.noise_variance_))
    heavy = DeepTDRegressor((12,)).fit(rng.randn(10, 12), rng.rand(10), np.full(10, 9))
    assert np.all(np.isnan(heavy.covariance_))
    assert np.all(np.isnan(fitted.predict(np.ones((3, 12)), return_std=True)[1]))


def test_without_the_polish_there_is_no_standard_deviation():
    X, y = make_patch_cnn_regression(100, (4, 3), random_state=0)
    fitted = DeepTDRegressor((4, 3), polish=False).fit(X, y)
    assert not hasattr(fitted, "covariance_")
    with pytest.raises(ValueError, match="return_std=True needs a fit with polish"):
        fitted.predict(X, return_std=True)


def test_float32_gives_float32():
    X, y = make_patch_cnn_regression(100, (4, 3), noise=0.1, random_state=0)
    fitted = DeepTDRegressor((4, 3), random_state=0).fit(X.astype(np.float32), y)
    mean, std = fitted.predict(X.astype(np.float32), return_std=True)
    assert mean.dtype == std.dtype == np.float32
