"""Planted networks are found again, exactly; where there is none, none is found."""

import numpy as np
import pytest

from skdeeptd import DeepTDRegressor
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity

N_SEEDS, N_TEST = 10, 500


def split(sizes, n_per_weight, seed, n_filters=1, **parameters):
    n_train = int(np.ceil(n_per_weight * n_filters * degrees_of_freedom(sizes)))
    X, y, kernels = make_patch_cnn_regression(
        n_train + N_TEST,
        sizes,
        n_filters=n_filters,
        random_state=seed,
        **parameters,
        return_kernels=True,
    )
    return X[:n_train], y[:n_train], X[n_train:], y[n_train:], kernels


def successes(sizes, n_per_weight, n_filters=1, **parameters):
    """How many of the seeds end with a test R2 of 1 to six digits."""
    count = 0
    for seed in range(N_SEEDS):
        X, y, X_test, y_test, _ = split(
            sizes, n_per_weight, seed, n_filters, **parameters
        )
        fitted = DeepTDRegressor(
            sizes, n_filters=n_filters, random_state=0, **parameters
        ).fit(X, y)
        count += fitted.score(X_test, y_test) > 1 - 1e-6
    return count


@pytest.mark.parametrize(
    ("sizes", "n_per_weight", "at_least"),
    [
        ((10, 10, 10), 3, 10),
        ((20, 20), 1.5, 9),
        ((5, 5, 5, 5), 4, 9),
        ((3,) * 6, 20, 10),
        ((2,) * 10, 20, 10),
    ],
)
def test_relu_networks_are_recovered(sizes, n_per_weight, at_least):
    assert successes(sizes, n_per_weight) >= at_least


@pytest.mark.parametrize("activation", ["identity", "leaky_relu", "tanh", "softplus"])
def test_networks_with_other_activations_are_recovered(activation):
    assert successes((8, 4, 4), 15, activation=activation) >= 9


@pytest.mark.parametrize("output_activation", ["relu", "leaky_relu", "tanh"])
def test_networks_with_an_output_activation_are_recovered(output_activation):
    assert successes((8, 4, 4), 20, output_activation=output_activation) >= 8


@pytest.mark.parametrize(("n_filters", "n_per_weight"), [(2, 5), (4, 10)])
def test_networks_of_several_filters_are_recovered(n_filters, n_per_weight):
    assert successes((8, 8, 8), n_per_weight, n_filters=n_filters) == 10


def test_hidden_biases_are_learned():
    rng, count = np.random.RandomState(0), 0
    for seed in range(N_SEEDS):
        planted = make_patch_cnn_regression(
            1, (6, 5, 4), random_state=seed, return_kernels=True
        )[2]
        first, second, third = (k[0, 0] for k in planted)
        biases = rng.uniform(-0.5, 0.5, 2)
        X = rng.standard_normal((600, 120))
        h = np.maximum(X.reshape(600, 20, 6) @ first + biases[0], 0)
        h = np.maximum(h.reshape(600, 4, 5) @ second + biases[1], 0)
        fitted = DeepTDRegressor((6, 5, 4), hidden_bias=True, random_state=0)
        fitted.fit(X[:300], (h @ third)[:300])
        if fitted.score(X[300:], (h @ third)[300:]) > 1 - 1e-6:
            count += 1
            np.testing.assert_allclose(fitted.biases_, [[biases]], atol=1e-6)
    assert count >= 9


def test_recovered_kernels_are_the_planted_ones():
    X, y, _, _, kernels = split((6, 5, 4), 15, seed=0)
    fitted = DeepTDRegressor((6, 5, 4), random_state=0).fit(X, y)
    similarity = kernel_similarity(fitted.kernels_, kernels)
    np.testing.assert_allclose(similarity, 1, atol=1e-12)


def test_without_the_polish_the_kernels_are_close_but_not_exact():
    X, y, _, _, kernels = split((6, 5, 4), 200, seed=0)
    fitted = DeepTDRegressor((6, 5, 4), polish=False).fit(X, y)
    similarity = kernel_similarity(fitted.kernels_, kernels)
    assert np.all(similarity > 0.9)
    assert similarity.min() < 1 - 1e-4


@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_with_noise_the_fit_is_near_the_best_possible(noise):
    """Excess risk over the noise's own share, dof sigma^2 / n, on average."""
    sizes, n_per_weight = (6, 5, 4), 30
    ratios = []
    for seed in range(N_SEEDS):
        X, y, X_test, y_test, _ = split(sizes, n_per_weight, seed)
        noisy = y + noise * np.random.RandomState(1000 + seed).randn(len(y))
        fitted = DeepTDRegressor(sizes, random_state=0).fit(X, noisy)
        excess = np.mean((fitted.predict(X_test) - y_test) ** 2)
        weights = degrees_of_freedom(sizes) + 1  # the intercept is one more
        ratios.append(excess * len(y) / (weights * noise**2))
    assert 0.5 < np.mean(ratios) < 1.5


@pytest.mark.filterwarnings("ignore:The polish of output")
@pytest.mark.parametrize("n_filters", [1, 2])
def test_pure_noise_gives_no_model_that_predicts(n_filters):
    rng = np.random.RandomState(0)
    scores = []
    for _ in range(N_SEEDS):
        X, y = rng.randn(1000, 120), rng.randn(1000)
        fitted = DeepTDRegressor((6, 5, 4), n_filters=n_filters, random_state=0)
        scores.append(fitted.fit(X, y).score(rng.randn(1000, 120), rng.randn(1000)))
    assert -0.25 < np.mean(scores) < 0


def uniform(rng, shape):
    return rng.uniform(-1, 1, shape)


def binary(rng, shape):
    return rng.choice([-1.0, 1.0], shape)


def not_centred(rng, shape):
    return 2 + rng.standard_normal(shape)


def correlated(rng, shape):
    noise = rng.standard_normal(shape)
    x = noise.copy()
    for i in range(1, shape[1]):
        x[:, i] = 0.9 * x[:, i - 1] + np.sqrt(1 - 0.9**2) * noise[:, i]
    return x


@pytest.mark.parametrize("draw", [uniform, binary, not_centred, correlated])
def test_x_need_not_be_gaussian(draw):
    sizes, count = (8, 4, 4), 0
    for seed in range(N_SEEDS):
        rng = np.random.RandomState(seed)
        X, (first, second, third) = (
            draw(rng, (500, 128)),
            (
                k[0, 0]
                for k in make_patch_cnn_regression(
                    1, sizes, random_state=seed, return_kernels=True
                )[2]
            ),
        )
        h = np.maximum(X.reshape(500, 16, 8) @ first, 0).reshape(500, 4, 4)
        y = np.maximum(h @ second, 0) @ third
        fitted = DeepTDRegressor(sizes, random_state=0).fit(X[:200], y[:200])
        count += fitted.score(X[200:], y[200:]) > 1 - 1e-6
    assert count >= 8


def test_the_training_data_are_never_fitted_worse_than_by_their_mean():
    for seed in range(N_SEEDS):
        rng = np.random.RandomState(seed)
        X, y = rng.standard_normal((40, 24)), rng.standard_normal(40)
        for alpha in (0.0, 10.0, 1e4):
            fitted = DeepTDRegressor((4, 3, 2), alpha=alpha, random_state=0)
            assert fitted.fit(X, y).score(X, y) >= 0


def test_alpha_has_the_unit_of_the_square_of_x():
    X, y = make_patch_cnn_regression(150, (4, 3, 2), noise=0.3, random_state=0)
    fitted = DeepTDRegressor((4, 3, 2), alpha=30.0, tol=1e-10, random_state=0).fit(X, y)
    expected = fitted.predict(X)
    assert fitted.score(X, y) < 0.85
    larger_y = DeepTDRegressor((4, 3, 2), alpha=30.0, tol=1e-10, random_state=0)
    np.testing.assert_allclose(larger_y.fit(X, 7 * y).predict(X), 7 * expected)
    larger_x = DeepTDRegressor((4, 3, 2), alpha=3000.0, tol=1e-10, random_state=0)
    np.testing.assert_allclose(
        larger_x.fit(10 * X, y).predict(10 * X), expected, rtol=1e-4, atol=1e-6
    )
