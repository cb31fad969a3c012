import io
import pickle
import re
import warnings
from contextlib import redirect_stdout

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import sklearn
from joblib import parallel_config
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_digits
from sklearn.ensemble import BaggingRegressor
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skdeeptd import DeepTDRegressor, DeepTDRegressorCV
from skdeeptd._data import rows as row_blocks
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._solvers.ridge import penalties
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity

SIZES = (4, 3, 2)


@pytest.fixture(scope="module")
def noisy():
    return make_patch_cnn_regression(200, SIZES, noise=0.1, random_state=0)[:2]


@pytest.fixture(scope="module")
def several_outputs():
    return make_patch_cnn_regression(
        200, SIZES, n_outputs=3, random_state=1, return_kernels=True
    )


def model(**parameters):
    return DeepTDRegressor(**{"kernel_sizes": SIZES, "random_state": 0, **parameters})


def same_model(a, b, rtol=1e-9):
    for name in ("kernels_", "gains_", "scales_", "intercept_", "moment_"):
        mine, other = getattr(a, name), getattr(b, name)
        mine, other = (mine, other) if isinstance(mine, list) else ([mine], [other])
        for m, o in zip(mine, other, strict=True):
            np.testing.assert_allclose(m, o, rtol=rtol, atol=rtol, err_msg=name)


# What is stored


def test_attributes_have_their_shapes(several_outputs):
    X, y, _ = several_outputs
    fitted = model(n_filters=2).fit(X, y)
    assert [k.shape for k in fitted.kernels_] == [(3, 2, d) for d in SIZES]
    assert fitted.gains_.shape == (3, 2, 3)
    assert fitted.scales_.shape == (3, 2)
    assert fitted.intercept_.shape == (3,)
    assert fitted.moment_.shape == (3, 24)
    assert fitted.kernel_sizes_ == SIZES
    assert fitted.input_shape_ == (24,)
    assert fitted.activations_ == ("relu", "relu", "identity")
    assert fitted.n_features_in_ == 24
    for k in fitted.kernels_:
        np.testing.assert_allclose(np.linalg.norm(k, axis=2), 1, rtol=1e-12)


def test_moment_is_the_covariance_in_the_shape_of_the_input():
    X, y = make_patch_cnn_regression(
        100, ((2, 3), (2, 2)), input_shape=(4, 6), random_state=0
    )
    fitted = DeepTDRegressor(((2, 3), (2, 2)), input_shape=(4, 6)).fit(X, y)
    expected = (y - y.mean()) @ X / 100
    without = clone(fitted).set_params(fit_intercept=False).fit(X, y)
    np.testing.assert_allclose(without.moment_, fitted.moment_, rtol=1e-9)
    np.testing.assert_allclose(fitted.moment_, expected.reshape(1, 4, 6), rtol=1e-9)


def test_every_output_is_recovered(several_outputs):
    X, y, kernels = several_outputs
    fitted = model().fit(X, y)
    assert fitted.predict(X).shape == y.shape
    assert fitted.score(X, y) > 1 - 1e-12
    np.testing.assert_allclose(kernel_similarity(fitted.kernels_, kernels), 1)


def test_outputs_do_not_influence_each_other():
    rng = np.random.RandomState(0)
    X, y = rng.randn(60, 24), rng.randn(60, 3)
    alone = model().fit(X, y[:, 1]).predict(X)
    np.testing.assert_allclose(model().fit(X, y).predict(X)[:, 1], alone, atol=1e-9)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
def test_predict_is_the_formula_of_the_docstring(several_outputs, activation):
    X, y, _ = several_outputs
    fitted = model(activation=activation, n_filters=2, max_iter=5, n_init=1)
    with pytest.warns(ConvergenceWarning):
        fitted.fit(X, y)
    phi = {
        "relu": lambda z: np.maximum(z, 0),
        "tanh": np.tanh,
        "softplus": lambda z: np.log1p(np.exp(z)),
    }[activation]
    expected = np.tile(fitted.intercept_, (len(X), 1))
    for output in range(3):
        for r in range(2):
            h = X
            for layer, (k, d) in enumerate(zip(fitted.kernels_, SIZES, strict=True)):
                h = h.reshape(len(X), -1, d) @ k[output, r]
                h = h * fitted.gains_[output, r, layer]
                h = phi(h) if layer < 2 else h
            expected[:, output] += fitted.scales_[output, r] * h[:, 0]
    np.testing.assert_allclose(fitted.predict(X), expected, rtol=1e-9, atol=1e-12)


# Data types and containers


@pytest.mark.parametrize("polish", [True, False])
def test_float32_in_float32_out(noisy, polish):
    X, y = noisy
    X32, y32 = X.astype(np.float32), y.astype(np.float32)
    single = model(polish=polish).fit(X32, y32)
    for array in [
        *single.kernels_,
        *(single.gains_, single.scales_, single.intercept_, single.moment_),
        single.predict(X32),
    ]:
        assert array.dtype == np.float32
    assert single.predict(X).dtype == np.float64
    double = model(polish=polish).fit(X, y).predict(X)
    np.testing.assert_allclose(single.predict(X32), double, atol=2e-5)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_keep_their_column_names(noisy, frame):
    X, y = noisy
    names = [f"t{i}" for i in range(24)]
    series = pd.Series if frame is pd.DataFrame else pl.Series
    table = frame(dict(zip(names, X.T, strict=True)))
    fitted = model().fit(table, series(y))
    np.testing.assert_array_equal(fitted.feature_names_in_, names)
    plain = model().fit(X, y).predict(X)
    np.testing.assert_allclose(fitted.predict(table), plain, atol=1e-9)
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(table[names[::-1]])


@pytest.mark.parametrize("order", ["C", "F"])
def test_memory_layout_and_read_only_data_do_not_matter(noisy, order):
    X, y = noisy
    other = np.array(X, order=order)
    strided = np.repeat(other, 2, axis=1)[:, ::2]
    for version in (other, strided):
        version.flags.writeable = False
        np.testing.assert_allclose(
            model().fit(version, y).predict(version), model().fit(X, y).predict(X)
        )


def test_a_column_y_gives_column_predictions(noisy):
    X, y = noisy
    column = model().fit(X, y[:, np.newaxis]).predict(X)
    assert column.shape == (200, 1)
    np.testing.assert_array_equal(column[:, 0], model().fit(X, y).predict(X))


# Inputs of several axes


def images(n_samples=200):
    shapes = ((2, 3), (2, 2))
    X, y = make_patch_cnn_regression(
        n_samples, shapes, input_shape=(4, 6), noise=0.1, random_state=0
    )
    return X, y, shapes


def test_arrays_of_several_axes_are_taken_as_they_are():
    X, y, shapes = images()
    flat = DeepTDRegressor(shapes, input_shape=(4, 6), random_state=0).fit(X, y)
    whole = DeepTDRegressor(shapes, random_state=0).fit(X.reshape(-1, 4, 6), y)
    assert whole.input_shape_ == (4, 6)
    assert whole.n_features_in_ == 24
    np.testing.assert_array_equal(flat.predict(X), whole.predict(X))
    np.testing.assert_array_equal(flat.predict(X.reshape(-1, 4, 6)), whole.predict(X))
    given = DeepTDRegressor(shapes, input_shape=[4, 6]).fit(X.reshape(-1, 4, 6), y)
    assert given.input_shape_ == (4, 6)


@pytest.mark.parametrize("polish", [True, False])
def test_several_axes_are_one_axis_after_a_permutation(polish):
    X, y, shapes = images()
    order = make_layout(24, shapes, (4, 6)).orders[0]
    whole = DeepTDRegressor(shapes, polish=polish, random_state=0, n_init=1)
    one_axis = DeepTDRegressor((6, 4), polish=polish, random_state=0, n_init=1)
    whole.fit(X.reshape(-1, 4, 6), y)
    one_axis.fit(X[:, order], y)
    np.testing.assert_allclose(
        whole.predict(X), one_axis.predict(X[:, order]), atol=1e-9
    )


def test_samples_of_another_shape_are_an_error():
    X, y, shapes = images()
    turned = X.reshape(-1, 6, 4)
    with pytest.raises(ValueError, match=r"shape \(6, 4\), but.*\(4, 6\)"):
        DeepTDRegressor(shapes, input_shape=(4, 6)).fit(turned, y)
    fitted = DeepTDRegressor(shapes, random_state=0).fit(X.reshape(-1, 4, 6), y)
    with pytest.raises(ValueError, match=r"shape \(6, 4\), but.*\(4, 6\)"):
        fitted.predict(turned)


def test_a_planted_network_with_channels_is_recovered():
    shapes = ((3, 2, 3), (1, 2), (2, 2))
    X, y, kernels = make_patch_cnn_regression(
        600, shapes, input_shape=(6, 8, 3), random_state=0, return_kernels=True
    )
    fitted = DeepTDRegressor(shapes, random_state=0).fit(X.reshape(-1, 6, 8, 3), y)
    assert [k.shape[2:] for k in fitted.kernels_] == list(shapes)
    np.testing.assert_allclose(kernel_similarity(fitted.kernels_, kernels), 1)
    assert fitted.score(X, y) > 1 - 1e-12


@pytest.mark.parametrize("kernel_sizes", [(10, 10), None])
def test_sizes_above_the_length_are_the_same_as_zeros_by_hand(kernel_sizes):
    X, y = make_patch_cnn_regression(300, (10, 10), noise=0.1, random_state=0)
    X[:, 97:] = 0
    by_hand = DeepTDRegressor((10, 10), random_state=0).fit(X, y)
    padded = DeepTDRegressor(kernel_sizes, random_state=0)
    padded.fit(X[:, :97], y)
    assert padded.kernel_sizes_ == (10, 10)
    assert padded.moment_.shape == (1, 97)
    np.testing.assert_allclose(padded.predict(X[:, :97]), by_hand.predict(X), atol=1e-9)


def test_images_that_do_not_divide_get_a_network():
    X, y = np.random.RandomState(0).randn(50, 28, 28), np.arange(50.0)
    fitted = DeepTDRegressor(((5, 5), (3, 3), (2, 2)), polish=False)
    fitted.fit(X, y)
    assert fitted.predict(X).shape == (50,)


@pytest.mark.parametrize("sizes", [((2, 2), (4, 4)), (4, 16)])
def test_a_few_filters_beat_ridge_on_images_of_digits(sizes):
    X, digit = load_digits(return_X_y=True)
    X, y = X / 16, np.where(digit % 2, 1.0, -1.0)
    cv = KFold(3, shuffle=True, random_state=0)
    network = DeepTDRegressor(
        sizes,
        input_shape=(8, 8) if isinstance(sizes[0], tuple) else None,
        n_filters=4,
        alpha=1.0,
        output_activation="relu",
        random_state=0,
    )
    of_ridge = cross_val_score(RidgeCV(), X, y, cv=cv).mean()
    assert cross_val_score(network, X, y, cv=cv).mean() > of_ridge + 0.05


# Default kernel sizes


def of_shape(shape):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, *shape))
    return X, np.maximum(X.reshape(60, -1)[:, 0], 0) + 0.1 * rng.standard_normal(60)


def quick(**parameters):
    return DeepTDRegressor(n_init=1, alpha="loo", random_state=0, **parameters)


@pytest.mark.parametrize(
    "shape", [(1,), (4,), (30,), (97 * 2,), (8, 8), (28, 28), (3, 100), (5, 6), (1, 9)]
)
def test_samples_of_any_shape_fit_without_kernel_sizes(shape):
    X, y = of_shape(shape)
    fitted = quick().fit(X, y)
    assert len(fitted.kernel_sizes_) == (1 if shape == (1,) else 2)
    flat = quick(input_shape=shape).fit(X.reshape(60, -1), y)
    np.testing.assert_array_equal(flat.predict(X), fitted.predict(X))


@pytest.mark.parametrize("shape", [(3,), (7,), (31,), (97,), (5, 7), (2, 3), (3, 3)])
def test_prime_lengths_have_a_network_by_default(shape):
    X, y = of_shape(shape)
    assert len(quick(input_shape=shape).fit(X.reshape(60, -1), y).kernel_sizes_) == 2


@pytest.mark.parametrize("shape", [(2,), (2, 1), (2, 2)])
def test_the_warning_of_a_linear_network_says_what_to_write(shape):
    X, y = of_shape(shape)
    with pytest.warns(UserWarning, match="The network is linear") as told:
        linear = quick().fit(X, y)
    assert len(linear.kernel_sizes_) == 1
    hidden, one_layer = re.findall(
        r"write kernel_sizes=(.*?)[;.]", str(told[0].message)
    )
    fitted = quick(kernel_sizes=eval(hidden)).fit(X, y)
    assert len(fitted.kernel_sizes_) == 2
    again = quick(kernel_sizes=eval(one_layer)).fit(X, y)
    np.testing.assert_array_equal(again.predict(X), linear.predict(X))


# Weights


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"alpha": 1.0},
        {"n_filters": 2},
        {"polish": False},
        {"activation": "tanh"},
        {"activation": "softplus"},
    ],
)
def test_integer_weights_are_repeated_rows(parameters):
    planted = {k: v for k, v in parameters.items() if k in ("n_filters", "activation")}
    X, y = make_patch_cnn_regression(200, SIZES, noise=0.1, random_state=0, **planted)
    weight = np.random.RandomState(0).randint(0, 4, size=200)
    order = np.random.RandomState(1).permutation(weight.sum())
    X_repeated, y_repeated = np.repeat(X, weight, axis=0), np.repeat(y, weight)
    weighted = model(**parameters).fit(X, y, sample_weight=weight)
    repeated = model(**parameters).fit(X_repeated[order], y_repeated[order])
    np.testing.assert_allclose(weighted.predict(X), repeated.predict(X), rtol=1e-5)


def test_only_the_ratio_of_weights_matters_and_none_means_equal(noisy):
    X, y = noisy
    weight = np.random.RandomState(0).rand(200)
    same_model(model().fit(X, y, weight), model().fit(X, y, 1e-200 * weight), 1e-7)
    same_model(model().fit(X, y), model().fit(X, y, np.full(200, 7.0)), 1e-7)


# Patches that overlap

OVERLAPPING = [
    {"kernel_sizes": (4, -1), "input_shape": (16,), "strides": 2},
    {"kernel_sizes": ((3, 3), -1), "input_shape": (6, 5), "strides": 1},
    {
        "kernel_sizes": ((3, 2, 2), (2, 1), -1),
        "input_shape": (8, 4, 2),
        "strides": ((2, 1, 2), 1),
    },
]
overlapping = pytest.mark.parametrize("shape", OVERLAPPING)


def overlapping_data(shape, noise=0.1, **parameters):
    return make_patch_cnn_regression(
        600, **shape, noise=noise, random_state=0, **parameters, return_kernels=True
    )


@overlapping
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_planted_kernels_of_overlapping_patches_are_found(shape, n_outputs):
    X, y, kernels = overlapping_data(shape, 0.0, n_outputs=n_outputs)
    fitted = DeepTDRegressor(**shape, random_state=0).fit(X, y)
    assert fitted.predict(X).shape == y.shape
    assert fitted.score(X, y) > 1 - 1e-9
    np.testing.assert_allclose(kernel_similarity(fitted.kernels_, kernels), 1)
    centred = (y - y.mean(axis=0)).reshape(600, -1)
    np.testing.assert_allclose(
        fitted.moment_.reshape(n_outputs, -1), centred.T @ X / 600, atol=1e-12
    )


@overlapping
def test_weights_of_overlapping_networks_are_repeated_rows(shape):
    X, y, _ = overlapping_data(shape)
    weight = np.random.RandomState(0).randint(0, 4, size=600)
    estimator = DeepTDRegressor(**shape, tol=1e-12, random_state=0)
    weighted = clone(estimator).fit(X, y, weight).predict(X)
    rows = np.repeat(np.arange(600), weight)
    repeated = clone(estimator).fit(X[rows], y[rows]).predict(X)
    np.testing.assert_allclose(weighted, repeated, atol=1e-5)
    assert np.abs(weighted - clone(estimator).fit(X, y).predict(X)).max() > 1e-3


@overlapping
def test_overlapping_networks_in_float32(shape):
    X, y, _ = overlapping_data(shape)
    estimator = DeepTDRegressor(**shape, random_state=0)
    double = clone(estimator).fit(X, y).predict(X)
    single = clone(estimator).fit(X.astype("f4"), y.astype("f4"))
    assert {k.dtype for k in single.kernels_} == {np.dtype("f4")}
    predicted = single.predict(X.astype("f4"))
    assert predicted.dtype == np.float32
    np.testing.assert_allclose(predicted, double, atol=2e-4)


@overlapping
def test_jobs_and_files_change_no_bit_of_overlapping_networks(
    monkeypatch, tmp_path, shape
):
    monkeypatch.setattr(row_blocks, "PARALLEL_BYTES", 0)
    X, y = make_patch_cnn_regression(9000, **shape, noise=0.1, random_state=0)
    mapped = np.memmap(tmp_path / "X", X.dtype, "w+", shape=X.shape)
    mapped[:] = X
    one = DeepTDRegressor(**shape, random_state=0).fit(X, y)
    two = DeepTDRegressor(**shape, n_jobs=2, random_state=0).fit(mapped, y)
    joblib.dump(two, tmp_path / "model")
    for other in (
        two,
        pickle.loads(pickle.dumps(one)),
        joblib.load(tmp_path / "model"),
    ):
        assert other.strides_ == one.strides_
        np.testing.assert_array_equal(other.predict(mapped), one.predict(X))
        std, expected = (m.predict(X, return_std=True)[1] for m in (other, one))
        np.testing.assert_array_equal(std, expected)


# Shifts and scales


@pytest.mark.parametrize("factor", [1e-150, 1e-3, 1e12, 1e150])
def test_rescaling_y_rescales_the_prediction(noisy, factor):
    X, y = noisy
    expected = factor * model(alpha=1.0).fit(X, y).predict(X)
    found = model(alpha=1.0).fit(X, factor * y).predict(X)
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-9 * factor)


def test_shifting_y_shifts_the_intercept_alone(noisy):
    X, y = noisy
    plain, shifted = model().fit(X, y), model().fit(X, y + 1000)
    np.testing.assert_allclose(shifted.predict(X), plain.predict(X) + 1000, rtol=1e-9)


def test_fit_intercept_false_leaves_none(noisy):
    X, y = noisy
    fitted = model(fit_intercept=False).fit(X, y)
    assert fitted.intercept_ == 0
    centred = y - y.mean()
    assert model(fit_intercept=False).fit(X, centred).score(X, centred) < fitted.score(
        X, y
    )


# Single layers, where other estimators say what is right


@pytest.mark.parametrize("n_features", [1, 7])
def test_one_layer_is_linear_regression(n_features):
    rng = np.random.RandomState(0)
    X, y = rng.randn(50, n_features), rng.randn(50)
    fitted = DeepTDRegressor((n_features,), tol=1e-14).fit(X, y)
    assert fitted.kernel_sizes_ == (n_features,)
    np.testing.assert_allclose(
        fitted.predict(X), LinearRegression().fit(X, y).predict(X), atol=1e-7
    )


@pytest.mark.parametrize("alpha", [0.01, 1.0, 100.0])
def test_one_layer_with_alpha_is_ridge(alpha):
    rng = np.random.RandomState(0)
    X, y, weight = rng.randn(20, 31), rng.randn(20), rng.randint(0, 3, 20)
    fitted = DeepTDRegressor((31,), alpha=alpha, tol=1e-14).fit(X, y, weight)
    ridge = Ridge(alpha=alpha).fit(X, y, weight)
    np.testing.assert_allclose(fitted.predict(X), ridge.predict(X), atol=1e-6)


def test_more_alpha_gives_smaller_weights(noisy):
    X, y = noisy
    scales = [
        np.abs(model(alpha=alpha).fit(X, y).scales_.item())
        for alpha in (0, 1, 10, 100, 1000)
    ]
    assert np.all(np.diff(scales) < 0)


# Nothing of an earlier fit is left


def test_a_second_fit_is_as_a_first_one(noisy):
    X, y = noisy
    X2, y2 = make_patch_cnn_regression(150, (3, 5), n_outputs=2, random_state=3)
    used = DeepTDRegressor(random_state=0).fit(pd.DataFrame(X).add_prefix("t"), y)
    used.fit(X2, y2)
    fresh = DeepTDRegressor(random_state=0).fit(X2, y2)
    assert set(vars(used)) == set(vars(fresh))
    np.testing.assert_array_equal(used.predict(X2), fresh.predict(X2))


def test_a_fit_that_fails_leaves_no_model(noisy):
    X, y = noisy
    fitted = model().fit(X, y)
    with pytest.raises(ValueError, match="multiply to 24"):
        fitted.fit(X[:, :12], y)
    with pytest.raises(NotFittedError):
        check_is_fitted(fitted)
    with pytest.raises(NotFittedError):
        fitted.predict(X)
    fitted.fit(X, y)
    with pytest.raises(ValueError, match="n_filters"):
        fitted.set_params(n_filters=0).fit(X, y)
    with pytest.raises(NotFittedError):
        check_is_fitted(fitted)


def test_changing_a_parameter_after_fit_does_not_change_the_prediction(noisy):
    X, y = noisy
    fitted = model().fit(X, y)
    expected = fitted.predict(X)
    fitted.set_params(kernel_sizes=(6, 4), activation="tanh", n_filters=5)
    np.testing.assert_array_equal(fitted.predict(X), expected)


# Features with a large mean


@pytest.mark.parametrize("offset", [1e3, 1e5, 1e6])
def test_a_large_mean_of_the_features_does_no_harm_to_a_linear_model(offset):
    rng = np.random.RandomState(0)
    X = rng.randn(300, 24) + offset
    y = X @ np.arange(24.0)
    for sizes in ((24,), None):
        fitted = DeepTDRegressor(sizes, activation="identity", random_state=0)
        linear = sizes == (24,)
        score = fitted.fit(X, y).score(X, y)
        assert score > (1 - 1e-6 if linear else 0.9)


def test_one_column_of_large_numbers_among_others():
    rng = np.random.RandomState(0)
    X = rng.randn(200, 4)
    X[:, 2] = 1.7e9 + 60.0 * np.arange(200)
    y = X @ [1.0, -2.0, 1e-3, 3.0]
    assert DeepTDRegressor((4,)).fit(X, y).score(X, y) > 1 - 1e-6


# Degenerate data


def degenerate_cases():
    rng = np.random.RandomState(0)
    X, y = rng.randn(30, 12), rng.randn(30)
    return {
        "constant y": (X, np.full(30, 3.5)),
        "constant y of 0.1": (X, np.full(30, 0.1)),
        "constant y that is not its own mean": (X[:21], np.full(21, 1 / 3)),
        "one sample": (X[:1], y[:1]),
        "all-zero X": (np.zeros_like(X), y),
        "constant columns": (np.ones_like(X) * np.arange(12), y),
        "one large constant": (np.full_like(X, 1e8), y),
    }


@pytest.mark.parametrize("case", degenerate_cases())
@pytest.mark.parametrize(
    "parameters", [{}, {"polish": False}, {"n_filters": 3}, {"activation": "tanh"}]
)
def test_where_nothing_can_be_learned_the_mean_is_predicted(case, parameters):
    X, y = degenerate_cases()[case]
    fitted = DeepTDRegressor((3, 4), random_state=0, **parameters)
    with pytest.warns(UserWarning, match=r"learned for output \[0\]") as record:
        fitted.fit(X, y)
    assert record[0].filename == __file__
    np.testing.assert_allclose(fitted.predict(X), y.mean(), rtol=1e-12)
    np.testing.assert_allclose(fitted.predict(X + 1), y.mean(), rtol=1e-12)


def test_one_constant_output_among_others(several_outputs):
    X, y, _ = several_outputs
    y = y.copy()
    y[:, 1] = 5.0
    fitted = model()
    with pytest.warns(UserWarning, match=r"output \[1\]"):
        fitted.fit(X, y)
    np.testing.assert_allclose(fitted.predict(X), y, atol=1e-6)


def test_an_even_target_has_no_moment_but_the_model_is_finite():
    X = np.vstack([np.eye(12), -np.eye(12)])
    y = np.abs(X).sum(axis=1) * np.tile(np.arange(12.0), 2)
    fitted = DeepTDRegressor((3, 4))
    with pytest.warns(UserWarning, match="moment with X is zero"):
        fitted.fit(X, y)
    np.testing.assert_allclose(fitted.predict(X), y.mean())


def test_without_an_intercept_a_constant_is_fitted_as_ridge_does():
    X = np.random.RandomState(0).randn(100, 6) + 1
    y = np.full(100, 5.0)
    ridge = Ridge(alpha=1.0, fit_intercept=False).fit(X, y)
    ours = DeepTDRegressor((6,), alpha=1.0, fit_intercept=False, tol=1e-14).fit(X, y)
    np.testing.assert_allclose(ours.predict(X), ridge.predict(X), atol=1e-6)


@pytest.mark.parametrize("size", [1e-30, 1e-25])
def test_a_network_that_float32_cannot_hold_is_an_error(noisy, size):
    X, y = noisy
    with pytest.raises(ValueError, match=r"overflows float32.*rescale"):
        model().fit((size * X).astype(np.float32), 1e15 * y)


def test_rows_of_weight_zero_may_hold_anything_finite(noisy):
    X, y = noisy
    X_spoilt, y_spoilt, weight = X.copy(), y.copy(), np.ones(200)
    X_spoilt[0], y_spoilt[1], weight[:2] = 1e170, 1e200, 0
    spoilt = model().fit(X_spoilt, y_spoilt, weight)
    clean = model().fit(X[2:], y[2:])
    np.testing.assert_array_equal(spoilt.predict(X), clean.predict(X))


@pytest.mark.parametrize("n_samples", [2, 3, 5, 10])
@pytest.mark.parametrize("n_filters", [1, 4])
def test_fewer_samples_than_weights_give_a_finite_model(n_samples, n_filters):
    rng = np.random.RandomState(n_samples)
    X, y = rng.randn(n_samples, 60), rng.randn(n_samples)
    fitted = DeepTDRegressor((6, 10), n_filters=n_filters, random_state=0).fit(X, y)
    assert np.all(np.isfinite(fitted.predict(rng.randn(50, 60))))
    assert fitted.score(X, y) >= 0


@pytest.mark.parametrize("seed", range(5))
def test_a_constant_column_among_others_does_no_harm(seed):
    X, y = make_patch_cnn_regression(300, (4, 3), random_state=seed)
    X[:, 5] = 2.0
    fitted = DeepTDRegressor((4, 3), random_state=0).fit(X, y)
    assert np.all(np.isfinite(fitted.predict(X)))
    assert fitted.score(X, y) > 0


# Warnings and reports


def test_warns_exactly_where_the_budget_ran_out(noisy):
    X, y = noisy
    needed = model().fit(X, y).n_iter_
    assert needed > 1
    fitted = model(max_iter=needed - 1)
    with pytest.warns(ConvergenceWarning, match=f"max_iter={needed - 1} passes"):
        fitted.fit(X, y)
    assert fitted.n_iter_ == needed - 1
    assert model(max_iter=needed).fit(X, y).n_iter_ == needed
    assert model(polish=False, max_iter=1).fit(X, y).n_iter_ == 1


def test_verbose_prints_the_stages_and_silence_nothing(noisy):
    for verbose in (0, 1):
        out = io.StringIO()
        with redirect_stdout(out):
            model(verbose=verbose).fit(*noisy)
        stages = ["moment: 200 rows of 24 features", "start 1", "final:"]
        printed = [stage in out.getvalue() for stage in stages]
        assert printed == [bool(verbose)] * 3
        assert verbose or not out.getvalue()


# In the company of scikit-learn


@pytest.fixture(scope="module")
def large():
    """Enough rows for several tasks of row blocks."""
    return make_patch_cnn_regression(9000, (16, 32), noise=0.1, random_state=0)[:2]


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_the_number_of_jobs_does_not_change_a_bit(monkeypatch, large, n_jobs):
    X, y = large
    monkeypatch.setattr(row_blocks, "PARALLEL_BYTES", 0)
    one = DeepTDRegressor((16, 32), random_state=0).fit(X, y)
    several = DeepTDRegressor((16, 32), random_state=0, n_jobs=n_jobs).fit(X, y)
    np.testing.assert_array_equal(one.predict(X), several.predict(X))
    with parallel_config("loky", n_jobs=n_jobs):
        loky = DeepTDRegressor((16, 32), random_state=0).fit(X, y)
    np.testing.assert_array_equal(one.predict(X), loky.predict(X))


def test_pipeline_cross_validation_and_clone(noisy):
    X, y = noisy
    pipeline = make_pipeline(StandardScaler(), model())
    scores = cross_val_score(clone(pipeline), X, y, cv=4)
    assert scores.min() > 0.9


def test_pickle_keeps_the_predictions(noisy):
    X, y = noisy
    fitted = model(n_filters=2).fit(X, y)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))


def test_grid_search_finds_the_planted_shape():
    shapes = [(120,), (12, 10), (10, 12), (20, 6), (6, 5, 4), (4, 5, 6), (2, 6, 10)]
    X, y = make_patch_cnn_regression(300, (4, 5, 6), noise=0.2, random_state=0)
    search = GridSearchCV(
        DeepTDRegressor(random_state=0, alpha=1e-3), {"kernel_sizes": shapes}, cv=3
    )
    assert search.fit(X, y).best_params_ == {"kernel_sizes": (4, 5, 6)}


def test_meta_estimators(noisy):
    X, y = noisy
    bagging = BaggingRegressor(model(), n_estimators=3, n_jobs=2, random_state=0)
    assert bagging.fit(X, y).score(X, y) > 0.9
    scaled = TransformedTargetRegressor(model(), transformer=StandardScaler())
    assert scaled.fit(X, y).score(X, y) > 0.9


def test_weights_are_routed_through_a_grid_search(noisy):
    X, y = noisy
    weight = np.repeat([1.0, 0.0], 100)
    with sklearn.config_context(enable_metadata_routing=True):
        estimator = model().set_fit_request(sample_weight=True)
        estimator.set_score_request(sample_weight=True)
        search = GridSearchCV(estimator, {"kernel_sizes": [SIZES, (6, 4)]}, cv=2)
        routed = make_pipeline(search).fit(X, y, sample_weight=weight + 1e-9)
    direct = model().fit(X, y, weight)
    np.testing.assert_allclose(routed.predict(X), direct.predict(X), atol=1e-4)


# What once gave a wild model, or lost something


def saturated_problem(step):
    """Draws of a stream of small problems, the step-th of them."""
    rng = np.random.RandomState(0)
    for _ in range(step + 1):
        n = int(rng.choice([5, 10, 20]))
        X, y = rng.standard_normal((n, 12)).astype("f4"), rng.standard_normal(n)
    return X, y


@pytest.mark.parametrize("step", [36, 135, 186, 228, 239])
@pytest.mark.parametrize("activation", ["logistic", "tanh", "softplus"])
def test_float32_networks_that_saturate_are_no_worse_than_the_mean(step, activation):
    X, y = saturated_problem(step)
    fitted = DeepTDRegressor(
        (4, 3),
        n_filters=2,
        activation=activation,
        hidden_bias=True,
        n_init=2,
        max_iter=100,
        random_state=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the budget, of a constant
        fitted.fit(X, y)
    assert fitted.kernels_[0].dtype == np.float32
    assert fitted.score(X, y) >= -1e-6


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("output_activation", ["identity", "softplus"])
def test_constant_features_with_weights_give_a_constant(seed, output_activation):
    rng = np.random.RandomState(seed)
    y = rng.standard_normal(20)
    weight = rng.randint(0, 3, size=20).astype(float)
    fitted = DeepTDRegressor((24,), output_activation=output_activation, n_init=3)
    with pytest.warns(UserWarning, match="Nothing could be learned"):
        fitted.fit(np.ones((20, 24)), y, weight)
    np.testing.assert_allclose(
        fitted.predict(np.ones((1, 24))), np.average(y, weights=weight)
    )


@pytest.mark.parametrize("size", [1e153, 1e160, 1e300])
def test_a_variance_that_overflows_is_an_error(noisy, size):
    X, y = noisy
    with pytest.raises(ValueError, match=r"variance of y overflows.*rescale"):
        model().fit(X, size * y)


def test_an_alpha_beyond_all_bounds_is_not_blamed_on_x(noisy):
    X, y = noisy
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        fitted = model(alpha=1e308).fit(X, y)
    np.testing.assert_allclose(fitted.predict(X), y.mean(), atol=1e-6)


def test_more_features_than_memory_has_room_for_are_solved_by_the_rows():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20, 30_000))
    fitted = DeepTDRegressor((30_000,)).fit(X, X[:, 0])
    assert fitted.score(X, X[:, 0]) > 1 - 1e-12
    assert not hasattr(fitted, "covariance_")
    with pytest.raises(ValueError, match=r"30002 weights.*GiB"):
        fitted.predict(X, return_std=True)
    with pytest.raises(ValueError, match=r"15003 unknowns.*GiB.*polish=False"):
        DeepTDRegressor((15_000, 2)).fit(X, X[:, 0])


def test_warnings_name_the_line_of_the_caller(noisy):
    X, y = noisy
    short = {"max_iter": 1, "n_init": 1, "random_state": 0}
    grid = {"kernel_sizes": [(4, 6), (6, 4)], "max_iter": [1], "n_init": [1]}
    for fit in (
        DeepTDRegressor((4, 6), **short).fit,
        DeepTDRegressor((4, 6), **short).partial_fit,
        DeepTDRegressorCV(grid, random_state=0).fit,
        make_pipeline(StandardScaler(), DeepTDRegressor((4, 6), **short)).fit,
    ):
        with pytest.warns(ConvergenceWarning) as record:
            fit(X, y)
        assert {w.filename for w in record} == {__file__}


def test_attributes_that_were_changed_are_refused(noisy):
    X, y = noisy
    fitted = model().fit(X, y)
    fitted.kernel_sizes_ = fitted.kernel_sizes_[::-1]
    with pytest.raises(ValueError, match="changed after the fit"):
        fitted.predict(X)


def smooth_problem(n_rows=120, seed=0):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, 20)).cumsum(axis=1) / 3
    y = np.tanh(X @ rng.standard_normal(20)) + 0.3 * rng.standard_normal(n_rows)
    return X, y


@pytest.mark.parametrize("n_filters", [1, 3])
def test_loo_of_one_linear_layer_is_ridge_with_the_same_choice(n_filters):
    X, y = smooth_problem()
    weight = np.random.default_rng(1).uniform(0.5, 3, len(y))
    fitted = model(kernel_sizes=(20,), alpha="loo", n_filters=n_filters).fit(
        X, y, weight
    )
    share = weight / weight.sum()
    table = (X - share @ X) * np.sqrt(weight)[:, np.newaxis]
    alphas = penalties(np.linalg.norm(table, 2, keepdims=True) ** 2)
    ridge = RidgeCV(alphas).fit(X, y, weight)
    np.testing.assert_allclose(fitted.alpha_, [n_filters * ridge.alpha_], rtol=1e-6)
    np.testing.assert_allclose(fitted.predict(X), ridge.predict(X), rtol=1e-6)


@pytest.mark.parametrize("hidden_bias", [False, True])
def test_loo_without_a_polish_is_ridge_on_what_the_hidden_layer_gives(hidden_bias):
    X, y = smooth_problem()
    options = {"strides": 2, "n_filters": 4, "alpha": "loo", "hidden_bias": hidden_bias}
    fitted = model(kernel_sizes=(4, -1), polish=False, **options).fit(X, y)
    kernels, biases = fitted.kernels_[0][0], fitted.biases_[0]
    patches = np.lib.stride_tricks.sliding_window_view(X, 4, axis=1)[:, ::2]
    z = np.einsum("npd,rd->nrp", patches, kernels)
    z += biases if hidden_bias else 0
    features = np.maximum(z, 0).reshape(len(X), -1)
    ridge = Ridge(fitted.alpha_[0]).fit(features, y)
    expected = ridge.predict(features)
    np.testing.assert_allclose(fitted.predict(X), expected, atol=1e-4 * y.std())
    polished = model(kernel_sizes=(4, -1), **options, n_init=1, tol=1e-3).fit(X, y)
    assert polished.score(X, y) > fitted.score(X, y)


def test_alpha_of_loo_follows_the_units_of_X_and_weights_but_not_of_y():
    X, y = smooth_problem()
    options = {"strides": 2, "n_filters": 2, "alpha": "loo", "polish": False}
    alpha = model(kernel_sizes=(4, -1), **options).fit(X, y).alpha_
    other = (
        model(kernel_sizes=(4, -1), **options)
        .fit(8 * X, 64 * y, np.full(len(y), 4.0))
        .alpha_
    )
    np.testing.assert_allclose(other, 4 * 64 * alpha, rtol=1e-9)
    two = model(kernel_sizes=(4, -1), **options).fit(X, np.column_stack([y, y[::-1]]))
    np.testing.assert_allclose(two.alpha_[0], alpha[0], rtol=1e-9)
    assert two.alpha_[1] > alpha[0]  # of a y that has nothing to do with X


def test_loo_asks_for_a_linear_last_layer():
    X, y = smooth_problem()
    with pytest.raises(ValueError, match="output_activation is 'relu'"):
        model(kernel_sizes=(4, 5), alpha="loo", output_activation="relu").fit(X, y)


def test_the_mean_of_fits_that_differ_in_their_seed_is_of_several_networks():
    X, y = smooth_problem()
    options = {"kernel_sizes": (4, -1), "strides": 2, "n_filters": 4, "alpha": "loo"}
    options |= {"hidden_bias": True, "n_init": 1, "tol": 0.1}
    fits = [model(**options, random_state=seed).fit(X, y) for seed in (0, 0, 1)]
    first, again, other = (fit.predict(X) for fit in fits)
    np.testing.assert_array_equal(first, again)
    assert np.any(first != other)


def test_each_output_has_the_penalty_that_it_chose():
    X, y = smooth_problem()
    options = {"kernel_sizes": (4, -1), "strides": 2, "alpha": "loo", "polish": False}
    with pytest.warns(UserWarning, match=r"learned for output \[1\]"):
        both = model(**options).fit(X, np.column_stack([y, np.ones(len(y))]))
    alone = model(**options).fit(X, y)
    np.testing.assert_allclose(both.alpha_, [*alone.alpha_, 0], rtol=1e-12)


def test_filters_with_biases_are_learned_behind_an_output_activation():
    X, y = smooth_problem()
    options = {"n_filters": 3, "hidden_bias": True, "output_activation": "relu"}
    fitted = model(kernel_sizes=(4, 5), n_init=1, tol=1e-3, **options).fit(X, y)
    assert fitted.score(X, y) > 0.3
