import itertools

import numpy as np
import pandas as pd
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeeptd import DeepTDFeatures, DeepTDRidge

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((60, 20)), RNG.standard_normal((60, 2))


def responses_by_hand(features, x):
    """Compute the local and pooled responses of one sample, not standardized."""
    z = (x - features.shift_) / features.scale_
    columns = []
    layers = zip(
        features.kernels_,
        features.biases_,
        features.kernel_sizes_,
        features.strides_,
        strict=True,
    )
    for kernels, biases, d, s in layers:
        n_patches = -(-(len(z) - d) // s) + 1
        padded = np.r_[z, np.zeros((n_patches - 1) * s + d - len(z))]
        patches = sliding_window_view(padded, d)[::s]
        pre = np.array([[k @ p for p in patches] for k in kernels])
        pre += biases[:, np.newaxis]
        columns.append(np.maximum(pre, 0).ravel())
        parts = [range(n_patches)]
        if n_patches >= 8:
            ends = [i * n_patches // 4 for i in range(5)]
            parts += [range(a, b) for a, b in itertools.pairwise(ends)]
        for part in parts:
            some = pre[:, list(part)]
            columns += [
                np.maximum(some, 0).mean(axis=1),
                (some > 0).mean(axis=1),
                some.max(axis=1),
            ]
    return np.concatenate(columns)


def test_responses_are_those_of_explicit_loops():
    features = DeepTDFeatures(
        (3, 8), strides=(2, 3), n_filters=4, pooling="both", random_state=0
    ).fit(X, Y)
    raw = np.array([responses_by_hand(features, x) for x in X])
    expected = np.clip((raw - features.center_) / features.unit_, -5, 5)
    np.testing.assert_allclose(features.transform(X), expected, atol=1e-12)
    assert features.transform(X).shape[1] == len(features.get_feature_names_out())


def test_what_comes_out_is_standardised_and_clipped():
    features = DeepTDFeatures(random_state=0).fit(X, Y)
    out = features.transform(X)
    inside = np.abs(out).max(axis=0) < 5
    np.testing.assert_allclose(out[:, inside].mean(axis=0), 0, atol=1e-12)
    assert out.std(axis=0).max() < 1 + 1e-12
    assert np.abs(features.transform(1e6 * X)).max() <= 5


def test_a_scaler_behind_makes_nothing_large_that_hardly_varied():
    """The first features vary in new rows as the others do."""
    rng = np.random.default_rng(0)
    X, new = rng.standard_normal((2, 100, 24))
    X[:, :12] *= 1e-5
    features = DeepTDFeatures((4,), strides=4, random_state=0)
    scaler = StandardScaler().fit(features.fit_transform(X, X[:, -1]))
    outputs = features.transform(new)
    assert np.abs(outputs).max() <= 5
    hardly = ~np.isfinite(features.unit_)
    assert np.array_equal(hardly.reshape(16, 6).any(axis=0), np.arange(6) < 3)
    assert not np.any(outputs[:, hardly])
    assert np.abs(scaler.transform(outputs)).max() < 5 / 0.01


def test_filters_of_a_linear_target_are_its_patches():
    """Half of the filters lie in the span of the kernel, moved along y's line."""
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal(5)
    X = rng.standard_normal((20_000, 20))
    y = sum(X[:, 5 * i : 5 * i + 5] @ kernel for i in range(4))
    features = DeepTDFeatures((5,), strides=5, n_filters=2, random_state=0).fit(X, y)
    first = features.kernels_[0][0]
    cosine = first @ kernel / np.linalg.norm(first) / np.linalg.norm(kernel)
    assert abs(cosine) > 0.99


def test_filters_of_an_even_target_come_from_the_second_moment():
    rng = np.random.default_rng(1)
    kernel = rng.standard_normal(5)
    X = rng.standard_normal((20_000, 20))
    y = sum((X[:, 5 * i : 5 * i + 5] @ kernel) ** 2 for i in range(4))
    features = DeepTDFeatures((5,), strides=5, n_filters=2, random_state=0).fit(X, y)
    second = features.kernels_[0][1]
    cosine = second @ kernel / np.linalg.norm(second) / np.linalg.norm(kernel)
    assert abs(cosine) > 0.98


def test_whole_weights_are_repeated_rows():
    weight = np.random.default_rng(2).integers(0, 4, len(X))
    common = {"n_filters": 4, "pooling": "both", "random_state": 0}
    weighted = DeepTDFeatures(**common).fit(X, Y, sample_weight=weight)
    rows = np.repeat(np.arange(len(X)), weight)
    repeated = DeepTDFeatures(**common).fit(X[rows], Y[rows])
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-8)


def test_units_of_features_and_targets_do_not_matter():
    units = 1e-3 * 2.0 ** RNG.integers(-1, 2, 20)
    plain = DeepTDFeatures(random_state=0).fit(X, Y)
    scaled = DeepTDFeatures(random_state=0).fit(X * units + 7, Y * [1e-6, 1e9] - 3)
    np.testing.assert_allclose(
        plain.transform(X), scaled.transform(X * units + 7), atol=1e-6
    )


def filled_spectra(background):
    """Return signals of 48 numbers; the first 28 hold the background."""
    rng = np.random.default_rng(3)
    X = np.full((150, 48), background)
    X[:, 28:] = np.cumsum(rng.standard_normal((150, 20)), axis=1) / 10
    return X, X[:, 33] * X[:, 40] + X[:, 36]


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("standardize", [True, False])
@pytest.mark.parametrize("background", [0.0, 0.1, -7 / 3])
def test_predictions_depend_on_neither_unit_nor_dtype(background, standardize, kernel):
    X, y = filled_spectra(background)
    X = X.astype(np.float32).astype(float)
    features = DeepTDFeatures((6, 12), standardize=standardize, random_state=0)
    model = DeepTDRidge(features, kernel=kernel)
    expected = model.fit(X[:60], y[:60]).predict(X[60:])
    assert np.std(expected) > 0.1 * np.std(y)
    single = model.fit(X[:60].astype(np.float32), y[:60])
    np.testing.assert_allclose(single.predict(X[60:]), expected, rtol=1e-12)
    found = single.predict(X[60:].astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for unit in (1e-200, 1e-6, 1 / 3, 65535, 1e6, 1e200):
        found = model.fit(unit * X[:60], y[:60]).predict(unit * X[60:])
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_features_far_from_zero_lose_no_digits_in_float32():
    X, y = filled_spectra(0.1)
    X = (X + 1000).astype(np.float32)
    features = DeepTDFeatures(pooling="both", random_state=0).fit(X, y)
    double = features.transform(X.astype(float))
    np.testing.assert_allclose(features.transform(X), double, atol=1e-5)


def test_noise_on_a_constant_background_does_not_matter():
    X, y = filled_spectra(0.8)
    noise = 1e-6 * np.random.default_rng(4).standard_normal((150, 28))
    noisy = X + np.pad(noise, ((0, 0), (0, 20)))
    features = DeepTDFeatures((6, 12), random_state=0)
    features.fit(X[:60], y[:60])
    expected = features.transform(X[60:])
    found = features.fit(noisy[:60], y[:60]).transform(noisy[60:])
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=0.05)


@pytest.mark.parametrize("other", [0.3, 0.1 + 0.2])
def test_samples_that_are_constant_up_to_rounding_have_no_responses(other):
    constant = np.where(X[:20, :9] > 0, 0.3, other)
    features = DeepTDFeatures(pooling="both").fit(constant, Y[:20])
    assert not np.any(features.transform(constant + X[:20, :9]))


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_pre_activations_have_unit_mean_square_and_random_signs(activation):
    signs = []
    for seed in range(10):
        features = DeepTDFeatures((4,), activation=activation, random_state=seed)
        kernels = features.fit(3 * X + 1, Y).kernels_[0]
        standard = (3 * X + 1 - features.shift_) / features.scale_
        patches = sliding_window_view(standard, 4, axis=1)[:, :: features.strides_[0]]
        np.testing.assert_allclose(np.mean((patches @ kernels.T) ** 2, (0, 1)), 1)
        signs.append(np.sign(kernels[:4, 0]))
    for of_one_filter in np.transpose(signs):
        assert set(of_one_filter) == {-1, 1}


def test_parameters_set_after_fit_change_nothing():
    features = DeepTDFeatures(n_filters=4, random_state=0).fit(X, Y)
    expected, names = features.transform(X), features.get_feature_names_out()
    features.set_params(
        activation="tanh",
        pooling="both",
        standardize=False,
        kernel_sizes=(2,),
        strides=1,
        n_filters=2,
        input_shape=(4, 5),
        target_type="multiclass",
    )
    np.testing.assert_array_equal(features.transform(X), expected)
    np.testing.assert_array_equal(features.get_feature_names_out(), names)


@pytest.mark.parametrize("pooling", ["local", "global", "both"])
@pytest.mark.parametrize("sizes", [((3, 2), (2, 2)), ((2, 2), (2, 2))])
def test_names_are_unique_and_those_of_the_columns(sizes, pooling):
    images = np.random.default_rng(0).standard_normal((40, 6, 7))
    y = images[:, 2, 3]
    features = DeepTDFeatures(
        sizes, strides=1, n_filters=2, pooling=pooling, random_state=0
    ).set_output(transform="pandas")
    table = features.fit(images, y).transform(images)
    names = list(features.get_feature_names_out())
    assert list(table.columns) == names
    assert len(set(names)) == len(names)
    size = "x".join(map(str, sizes[0]))
    if pooling != "local":
        first = [f"size{size}_filter{i}_mean" for i in (0, 1)]
        place = names.index(first[0])
        assert names[place : place + 2] == first
        assert f"size{size}_filter1_max_part3" in names
    if pooling != "global":
        images[:, 2, 3] += 1
        change = np.any(features.transform(images) != table, axis=0)
        changed = {n for n in table.columns[change] if f"size{size}_filter" in n}
        changed = {n.split("position")[1] for n in changed if "position" in n}
        n_up, n_left = sizes[0]
        assert changed == {
            f"{i}x{j}" for i in range(3 - n_up, 3) for j in range(4 - n_left, 4)
        }


def test_names_of_a_signal():
    features = DeepTDFeatures((5,), strides=5, n_filters=2).fit(X, Y)
    assert list(features.get_feature_names_out()) == [
        f"size5_filter{i}_position{j}" for i in (0, 1) for j in range(4)
    ]
    with pytest.raises(ValueError, match="input_features"):
        features.get_feature_names_out(["a", "b"])


@pytest.mark.parametrize("shape", [(8, 8), (3, 30), (30, 3), (4, 5, 6)])
def test_inputs_of_several_axes(shape):
    X = np.random.default_rng(0).standard_normal((40, *shape))
    y = X.reshape(40, -1)[:, 0]
    features = DeepTDFeatures(n_filters=4, random_state=0).fit(X, y)
    flat = DeepTDFeatures(n_filters=4, input_shape=shape, random_state=0)
    flat.fit(X.reshape(40, -1), y)
    np.testing.assert_array_equal(
        features.transform(X), flat.transform(X.reshape(40, -1))
    )
    assert features.input_shape_ == shape


def test_labels_are_one_target_for_each_class():
    X, digit = load_digits(return_X_y=True)
    X, digit = X[:200].reshape(-1, 8, 8), digit[:200]
    names = np.array([f"n{d}" for d in digit])
    by_name = DeepTDFeatures(random_state=0).fit(X, names)
    by_column = DeepTDFeatures(random_state=0).fit(X, np.eye(10)[digit])
    np.testing.assert_allclose(by_name.transform(X), by_column.transform(X))
    model = make_pipeline(
        DeepTDFeatures(n_filters=8, random_state=0), LogisticRegression(C=0.01)
    )
    assert cross_val_score(model, X, names, cv=2).mean() > 0.9


def test_before_a_ridge_regression_images_gain_much():
    X, digit = load_digits(return_X_y=True)
    alphas = np.logspace(-2, 5, 15)
    gain = []
    for seed in range(3):
        rows = np.random.RandomState(seed).permutation(len(X))
        train, test = rows[:150], rows[150:]
        y = digit % 2
        model = make_pipeline(
            DeepTDFeatures(input_shape=(8, 8), random_state=seed), RidgeCV(alphas)
        )
        linear = RidgeCV(alphas).fit(X[train], y[train]).score(X[test], y[test])
        ours = model.fit(X[train], y[train]).score(X[test], y[test])
        gain.append(ours - linear)
    assert np.mean(gain) > 0.1


def test_dtypes_jobs_frames_and_grids():
    one = DeepTDFeatures(random_state=0).fit(X, Y)
    many = DeepTDFeatures(random_state=0, n_jobs=2).fit(X, Y)
    np.testing.assert_array_equal(one.transform(X), many.transform(X))
    single = one.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, one.transform(X), atol=1e-4)
    frame = DeepTDFeatures(n_filters=2).set_output(transform="pandas")
    assert isinstance(frame.fit(X, Y).transform(X), pd.DataFrame)
    grid = GridSearchCV(
        make_pipeline(DeepTDFeatures(random_state=0), RidgeCV()),
        {"deeptdfeatures__kernel_sizes": [(3,), (5, 10)]},
        cv=2,
    )
    grid.fit(X, Y[:, 0])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel_sizes": ()}, "kernel_sizes is empty"),
        ({"kernel_sizes": (21,)}, "21"),
        ({"kernel_sizes": (0,)}, "0"),
        ({"kernel_sizes": (3, 4), "strides": (1,)}, "strides has 1 entries"),
        ({"kernel_sizes": (3,), "strides": 4}, "stride"),
        ({"pooling": "some"}, "pooling"),
        ({"activation": "sine"}, "activation"),
        ({"n_filters": 0}, "n_filters"),
        ({"input_shape": (3, 7)}, "21"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        DeepTDFeatures(**parameters).fit(X, Y)


def test_bad_data():
    with pytest.raises(NotFittedError):
        DeepTDFeatures().get_feature_names_out()
    with pytest.raises(NotFittedError):
        DeepTDFeatures().transform(X)
    features = DeepTDFeatures(random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="19 features"):
        features.transform(X[:, :19])
    for bad in (np.nan, np.inf):
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            features.transform(np.where(X > 2, bad, X))
        with pytest.raises(ValueError, match=r"NaN|infinity"):
            DeepTDFeatures().fit(np.where(X > 2, bad, X), Y)
    with pytest.raises(ValueError, match="requires y"):
        DeepTDFeatures().fit(X, None)
