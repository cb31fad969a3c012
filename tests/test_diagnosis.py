import functools

import numpy as np
import pytest

from skdeeptd import DeepTDRegressor
from skdeeptd._solver.diagnosis import explained_share
from skdeeptd.datasets import make_patch_cnn_regression


def test_share_is_that_of_an_explicit_projection():
    rng = np.random.default_rng(0)
    kernels = [rng.standard_normal((2, d)) for d in (3, 4, 5)]
    tensor = rng.standard_normal((3, 4, 5))
    products = np.array(
        [
            functools.reduce(np.multiply.outer, [k[r] for k in kernels]).ravel()
            for r in range(2)
        ]
    )
    weights = np.linalg.lstsq(products.T, tensor.ravel(), rcond=None)[0]
    expected = np.sum((weights @ products) ** 2) / np.sum(tensor**2)
    np.testing.assert_allclose(explained_share(tensor, kernels), expected, rtol=1e-10)
    twice = [np.vstack([k, k]) for k in kernels]
    np.testing.assert_allclose(explained_share(tensor, twice), expected, rtol=1e-8)
    inside = (products[0] - 3 * products[1]).reshape(3, 4, 5)
    np.testing.assert_allclose(explained_share(inside, kernels), 1, rtol=1e-10)
    assert explained_share(np.zeros((3, 4, 5)), kernels) == 0


@pytest.mark.parametrize("seed", range(5))
def test_planted_shape_stands_out_and_noise_does_not(seed):
    X, y, _ = make_patch_cnn_regression(400, (6, 5, 4), noise=0.2, random_state=seed)
    fitted = DeepTDRegressor((6, 5, 4), random_state=0).fit(X, y)
    assert fitted.explained_moment_[0] > 2 * fitted.explained_by_noise_
    shuffled = np.random.RandomState(seed).permutation(y)
    of_noise = DeepTDRegressor((6, 5, 4), polish=False).fit(X, shuffled)
    share, reference = of_noise.explained_moment_[0], of_noise.explained_by_noise_
    assert 0.5 * reference < share < 1.5 * reference


def test_correlated_features_raise_the_share_of_noise():
    rng = np.random.RandomState(0)
    X, y = rng.randn(300, 120), rng.randn(300)
    smooth = np.cumsum(X, axis=1)
    shares = [
        DeepTDRegressor((12, 10), polish=False).fit(Z, y).explained_by_noise_
        for Z in (X, smooth)
    ]
    assert shares[1] > 2 * shares[0]


def test_one_layer_explains_everything():
    X, y, _ = make_patch_cnn_regression(50, (7,), n_outputs=2, random_state=0)
    fitted = DeepTDRegressor(polish=False).fit(X, y)
    np.testing.assert_allclose(fitted.explained_moment_, [1, 1])
    np.testing.assert_allclose(fitted.explained_by_noise_, 1)


@pytest.mark.filterwarnings("ignore:Nothing could be learned")
def test_where_nothing_is_learned_nothing_is_explained():
    fitted = DeepTDRegressor((3, 4)).fit(np.zeros((20, 12)), np.arange(20.0))
    assert fitted.explained_moment_ == 0
    assert fitted.explained_by_noise_ == 0
