import pickle

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from skdeeptd import DeepTDAutoRegressor, DeepTDRegressor, DeepTDRegressorCV
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.stream import empty_stream, extend, merge, moment_of
from skdeeptd.datasets import make_patch_cnn_regression

SIZES = (4, 3, 3)


def parts(*arrays, cuts=(30, 31, 200)):
    return zip(*(np.split(array, cuts) for array in arrays), strict=True)


def streamed(model, X, y, *weight, cuts=(30, 31, 200)):
    for part in parts(X, y, *weight, cuts=cuts):
        model.partial_fit(*part)
    return model


@pytest.fixture(scope="module")
def data():
    X, y = make_patch_cnn_regression(400, SIZES, n_outputs=2, noise=0.1, random_state=0)
    return X + 3, y, np.random.default_rng(0).random(400)


def covariance(X, y, weight):
    X = X - np.average(X, axis=0, weights=weight)
    y = y - np.average(y, axis=0, weights=weight)
    return (y * weight[:, np.newaxis]).T @ X / weight.sum()


def test_the_moment_of_a_stream_is_that_of_fit(data):
    stream = streamed(DeepTDRegressor(SIZES, polish=False), *data)
    whole = DeepTDRegressor(SIZES, polish=False).fit(*data)
    np.testing.assert_allclose(stream.moment_, covariance(*data), rtol=1e-10)
    np.testing.assert_allclose(stream.moment_, whole.moment_, rtol=1e-10)


OVERLAPPING = {"kernel_sizes": (4, 3, -1), "strides": (2, 1), "input_shape": (18,)}


def test_a_stream_of_an_overlapping_network_has_its_moment_and_kernels():
    X, y = make_patch_cnn_regression(400, **OVERLAPPING, random_state=0)
    weight = np.random.default_rng(0).random(400) + 0.5
    stream = streamed(DeepTDRegressor(**OVERLAPPING, random_state=0), X, y, weight)
    expected = covariance(X, y[:, np.newaxis], weight)
    np.testing.assert_allclose(stream.moment_, expected, rtol=1e-10)
    assert stream.strides_ == (2, 1)
    assert stream.score(X, y) > 1 - 1e-9


def test_merged_moments_are_that_of_all_rows_in_any_order(data):
    X, y, weight = data
    cut = [moment_of(RowBlocks(*part)) for part in parts(X, y, weight)]
    expected = moment_of(RowBlocks(X, y, weight))
    for order in ([0, 1, 2, 3], [3, 1, 0, 2]):
        merged = cut[order[0]]
        for i in order[1:]:
            merged = merge(merged, cut[i])
        for value, wanted in zip(merged, expected, strict=True):
            np.testing.assert_allclose(value, wanted, rtol=1e-10)


@pytest.mark.parametrize("shift_of_y", [0, 1e4])
def test_a_large_mean_costs_float32_no_digits(data, shift_of_y):
    X, y, weight = data
    X = (X + 1e4).astype(np.float32)
    expected = covariance(X.astype(float), y, weight)
    cut = [moment_of(RowBlocks(*p)) for p in parts(X, y + shift_of_y, weight)]
    merged = cut[0]
    for moment in cut[1:]:
        merged = merge(merged, moment)
    error = np.linalg.norm(merged.covariance() - expected)
    assert error < 1e-9 * np.linalg.norm(expected)
    model = streamed(DeepTDRegressor(SIZES, polish=False), X, y, weight)
    whole = DeepTDRegressor(SIZES, polish=False).fit(X, y, weight)
    for fitted in (model, whole):
        error = np.linalg.norm(fitted.moment_ - expected)
        assert error < 1e-6 * np.linalg.norm(expected)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("n_outputs", [1, 2])
def test_planted_kernels_are_exact_after_every_part(seed, n_outputs):
    X, y = make_patch_cnn_regression(
        3000, SIZES, n_outputs=n_outputs, random_state=seed
    )
    model = DeepTDRegressor(SIZES, random_state=0)
    for part in parts(X, y, cuts=(150, 160, 1500)):
        model.partial_fit(*part)
        assert model.score(X, y) > 1 - 1e-9
    assert model.predict(X).shape == y.shape


def test_a_stream_ends_near_the_fit_on_all_rows():
    X, y = make_patch_cnn_regression(4000, SIZES, noise=0.3, random_state=0)
    model = DeepTDRegressor(SIZES, random_state=0)
    streamed(model, X, y, cuts=range(500, 4000, 500))
    whole = DeepTDRegressor(SIZES, random_state=0).fit(X, y)
    assert model.score(X, y) > whole.score(X, y) - 0.003
    assert model.noise_variance_ == pytest.approx(whole.noise_variance_, rel=0.15)


@pytest.mark.parametrize("alpha", [0.0, 30.0])
def test_one_linear_layer_is_ridge_on_all_rows(data, alpha):
    X, y, weight = data
    model = DeepTDRegressor((36,), alpha=alpha, tol=1e-14)
    streamed(model, X, y, weight)
    expected = Ridge(alpha=alpha).fit(X, y, weight)
    np.testing.assert_allclose(model.predict(X), expected.predict(X), atol=1e-6)


def test_alpha_has_the_weight_of_all_rows_when_some_are_kept():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((40_000, 4))
    y = X @ [1.0, 2, 3, 4] + 0.1 * rng.standard_normal(40_000)
    alpha = 40_000.0
    model = streamed(DeepTDRegressor((4,), alpha=alpha), X, y, cuts=(10_000,))
    expected = Ridge(alpha=alpha).fit(X, y)
    assert len(model._stream["sample"]["X"]) == 1000
    difference = model.predict(X) - expected.predict(X)
    assert np.std(difference) < 0.1 * np.std(expected.predict(X))
    assert np.std(expected.predict(X)) < 0.6 * np.std(y)


def test_all_rows_are_kept_while_they_are_few(data):
    model = streamed(DeepTDRegressor(SIZES), *data)
    sample = model._stream["sample"]
    for name, array in zip(("X", "y", "weight"), data, strict=True):
        np.testing.assert_array_equal(sample[name], array)


def sampled(X, y, weight, capacity, seed, cuts):
    sample, rng = empty_stream(X, y, seed).sample, np.random.RandomState(seed)
    for part in parts(X, y, weight, cuts=cuts):
        sample = extend(sample, *part, capacity, rng)
    return sample


def test_what_the_sample_says_of_a_sum_is_right_on_average():
    rng = np.random.default_rng(0)
    X, weight = rng.standard_normal((300, 1)), rng.exponential(size=300) ** 2
    y = np.ones((300, 1))
    values = []
    for seed in range(1000):
        sample = sampled(X, y, weight, 40, seed, cuts=(7, 100))
        assert len(sample.X) == 40
        stands_for = np.maximum(sample.weight, sample.threshold)
        values.append(stands_for @ sample.X[:, 0])
    error = np.std(values) / np.sqrt(len(values))
    assert abs(np.mean(values) - weight @ X[:, 0]) < 3.5 * error
    assert error < 0.1 * np.sqrt(np.sum(weight**2))
    balanced = sample.balanced_weight()
    np.testing.assert_allclose(balanced / stands_for, balanced[0] / stands_for[0])
    np.testing.assert_allclose(balanced.sum(), sample.weight.sum())


def test_the_sample_is_bounded_and_depends_on_random_state_alone():
    X, y = make_patch_cnn_regression(5000, SIZES, noise=0.1, random_state=0)
    kept = [
        streamed(DeepTDRegressor(SIZES, random_state=seed), X, y, cuts=(2000, 2500))
        for seed in (0, 0, 1)
    ]
    samples = [model._stream["sample"]["X"] for model in kept]
    assert samples[0].shape == (100 * (4 + 3 + 3 + 1), 36)
    np.testing.assert_array_equal(samples[0], samples[1])
    np.testing.assert_array_equal(kept[0].scales_, kept[1].scales_)
    assert not np.array_equal(samples[0], samples[2])


def test_float32_stays_float32(data):
    X, y, _ = data
    model = streamed(DeepTDRegressor(SIZES), X.astype(np.float32), y)
    assert {k.dtype for k in model.kernels_} == {np.dtype(np.float32)}
    assert model._stream["sample"]["X"].dtype == np.float32
    assert model._stream["moment"]["cross"].dtype == np.float64


BAD_PARTS = {
    "another width": (np.ones((5, 35)), np.ones((5, 2)), "35 features.*expecting 36"),
    "NaN in X": (np.full((5, 36), np.nan), np.ones((5, 2)), "X contains NaN"),
    "inf in y": (np.ones((5, 36)), np.full((5, 2), np.inf), "y contains infinity"),
    "another y": (np.ones((5, 36)), np.ones(5), "y has 1 outputs.*had 2"),
    "huge X": (np.full((5, 36), 1e300), np.ones((5, 2)), "too large"),
}


@pytest.mark.parametrize("case", BAD_PARTS)
def test_a_part_that_is_rejected_leaves_everything_as_it_was(data, case):
    X, y, message = BAD_PARTS[case]
    model = DeepTDRegressor(SIZES, random_state=0).partial_fit(*data[:2])
    before = pickle.dumps(vars(model))
    with pytest.raises(ValueError, match=message):
        model.partial_fit(X, y)
    assert pickle.dumps(vars(model)) == before


def test_a_first_part_that_is_rejected_leaves_no_model(data):
    model = DeepTDRegressor(SIZES)
    with pytest.raises(ValueError, match="X contains NaN"):
        model.partial_fit(*BAD_PARTS["NaN in X"][:2])
    assert vars(model) == vars(DeepTDRegressor(SIZES))


def test_without_the_polish_nothing_is_polished():
    X, y = make_patch_cnn_regression(900, SIZES, noise=0.1, random_state=0)
    model = DeepTDRegressor(SIZES, polish=False, random_state=0)
    streamed(model, X, y, cuts=(300, 500, 700))
    assert model.n_iter_ == 1
    expected = DeepTDRegressor(SIZES, polish=False, random_state=0).fit(X, y)
    np.testing.assert_allclose(model.predict(X), expected.predict(X), rtol=1e-6)


def test_kernels_so_far_are_where_the_polish_begins():
    X, y = make_patch_cnn_regression(600, SIZES, random_state=0)
    model = DeepTDRegressor(SIZES, random_state=0).partial_fit(X[:500], y[:500])
    assert model.n_iter_ > 1
    assert model.partial_fit(X[500:], y[500:]).n_iter_ == 1


@pytest.mark.parametrize("alpha", [0.0, 1000.0])
def test_noise_and_std_are_those_of_the_sample(alpha):
    X, y = make_patch_cnn_regression(9000, (10,), noise=0.5, random_state=0)
    model = streamed(DeepTDRegressor((10,), alpha=alpha), X, y, cuts=(3000, 6000))
    whole = DeepTDRegressor((10,), alpha=alpha).fit(X, y)
    assert model.noise_variance_ == pytest.approx(whole.noise_variance_, rel=0.2)
    ratio = model.predict(X, return_std=True)[1] / whole.predict(X, return_std=True)[1]
    assert np.median(ratio) == pytest.approx(3, rel=0.15)


def test_nothing_of_an_earlier_fit_is_left(data):
    X, y, _ = data
    model = DeepTDRegressor(SIZES, random_state=0).fit(X, y)
    model.set_params(polish=False).partial_fit(X, y)
    assert not hasattr(model, "covariance_")
    model.set_params(polish=True).partial_fit(X, y)
    assert hasattr(model, "covariance_")
    model.set_params(polish=False).partial_fit(X, y)
    assert not hasattr(model, "covariance_")


@pytest.mark.parametrize("bad", [{"alpha": -5}, {"max_iter": 0}, {"hidden_bias": 2}])
def test_parameters_are_checked_at_every_part(data, bad):
    model = DeepTDRegressor(SIZES, random_state=0).partial_fit(*data[:2])
    with pytest.raises(ValueError, match=next(iter(bad))):
        model.set_params(**bad).partial_fit(*data[:2])


def test_a_pickled_stream_goes_on_as_if_nothing_had_been(data):
    X, y, _ = data
    first = DeepTDRegressor(SIZES, random_state=0).partial_fit(X[:200], y[:200])
    copy = pickle.loads(pickle.dumps(first))
    expected = first.partial_fit(X[200:], y[200:]).predict(X)
    np.testing.assert_array_equal(
        copy.partial_fit(X[200:], y[200:]).predict(X), expected
    )


def test_fit_drops_the_stream_and_partial_fit_after_it_begins_one(data):
    X, y, weight = data
    model = streamed(DeepTDRegressor(SIZES, random_state=0), X, y, weight)
    again = model.fit(X[:100], y[:100])
    assert not hasattr(again, "_stream")
    again.partial_fit(X[100:], y[100:])
    np.testing.assert_allclose(
        again.moment_, covariance(X[100:], y[100:], np.ones(300)), rtol=1e-10
    )


def test_kernel_sizes_may_change_within_a_stream():
    X, y = make_patch_cnn_regression(1000, SIZES, random_state=0)
    model = DeepTDRegressor((6, 6), random_state=0).partial_fit(X[:700], y[:700])
    model.set_params(kernel_sizes=SIZES).partial_fit(X[700:], y[700:])
    assert model.score(X, y) > 1 - 1e-9


def test_an_output_that_was_constant_so_far_is_learned_later():
    X, y = make_patch_cnn_regression(300, SIZES, random_state=0)
    y[:200] = 0
    model = DeepTDRegressor(SIZES, random_state=0)
    with pytest.warns(UserWarning, match="Nothing could be learned"):
        model.partial_fit(X[:200], y[:200])
    model.partial_fit(X[200:], y[200:])
    expected = DeepTDRegressor(SIZES, random_state=0).fit(X, y)
    assert model.score(X, y) > expected.score(X, y) - 1e-3


def test_a_bad_beginning_is_made_up_for_when_there_are_more_rows():
    exact = []
    for seed in range(8):
        X, y = make_patch_cnn_regression(480, (5, 5, 5), random_state=seed)
        model = DeepTDRegressor((5, 5, 5), n_init=4, random_state=0)
        streamed(model, X, y, cuts=(15, 30, 60, 120, 240))
        exact.append(model.score(X, y) > 1 - 1e-9)
    assert sum(exact) >= 7


def test_samples_of_several_axes_are_taken_as_they_are():
    X, y = make_patch_cnn_regression(
        300, ((2, 3), (2, 1)), input_shape=(4, 3), random_state=0
    )
    X = X.reshape(-1, 4, 3)
    model = DeepTDRegressor(((2, 3), (2, 1)), random_state=0)
    assert streamed(model, X, y, cuts=(100,)).score(X, y) > 1 - 1e-9


def test_a_search_over_shapes_has_no_partial_fit():
    assert not hasattr(DeepTDRegressorCV(), "partial_fit")
    assert not hasattr(DeepTDAutoRegressor(), "partial_fit")


def test_a_part_that_adds_no_row_to_the_sample_leaves_its_threshold():
    rng = np.random.RandomState(0)
    X, y, weight = (
        rng.standard_normal((50, 3)),
        rng.standard_normal((50, 1)),
        np.ones(50),
    )
    sample = empty_stream(X, y, 0).sample
    sample = extend(sample, X, y, weight, 20, rng)
    assert sample.threshold > 0
    later = extend(sample, X, y, 1e-9 * weight, 20, rng)
    assert later.threshold == sample.threshold
    np.testing.assert_array_equal(later.X, sample.X)


@pytest.mark.parametrize("size", [1e160, 1e200])
def test_a_part_whose_squares_overflow_is_refused_and_forgotten(size):
    X, y = make_patch_cnn_regression(60, (4, 3), random_state=0)
    model = DeepTDRegressor((4, 3), random_state=0).partial_fit(X[:20], y[:20])
    before = pickle.dumps(vars(model))
    for part in [(size * X[20:21], y[20:21]), (X[20:21], [size])]:
        with pytest.raises(ValueError, match="too large"):
            model.partial_fit(*part)
        assert pickle.dumps(vars(model)) == before
    assert model.partial_fit(X[20:], y[20:]).score(X, y) > 0.5


def test_the_first_part_says_how_many_axes_predictions_have():
    X, y = make_patch_cnn_regression(60, (4, 3), random_state=0)
    model = DeepTDRegressor((4, 3), random_state=0).partial_fit(X[:30], y[:30])
    model.partial_fit(X[30:], y[30:, np.newaxis])
    assert model._y_ndim == model.predict(X).ndim == 1


def test_a_stream_that_goes_on_without_an_intercept_has_none():
    X, y = make_patch_cnn_regression(600, SIZES, noise=0.1, random_state=0)
    y = y + 3
    model = DeepTDRegressor(SIZES, random_state=0).partial_fit(X[:400], y[:400])
    assert model.intercept_.item() > 1
    model.set_params(fit_intercept=False).partial_fit(X[400:], y[400:])
    np.testing.assert_array_equal(model.intercept_, 0)
