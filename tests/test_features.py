"""DeepTDFeatures: the contract of the transformer, invariances and errors."""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeeptd import DeepTDFeatures, DeepTDRidge
from skdeeptd._data import rows as row_blocks

RNG = np.random.default_rng(0)
X, Y = RNG.standard_normal((60, 20)), RNG.standard_normal((60, 2))
SHAPES = pytest.mark.parametrize(
    "shape", [(100,), (6, 30), (30, 6), (8, 8), (8, 8, 2), (14, 30), (4, 5, 6)]
)
VIEWS = [None, "derivative", "snv"]


def signals(shape, n_rows=40, seed=0):
    rng = np.random.default_rng(seed)
    X = 5 + 2 * np.cumsum(rng.standard_normal((n_rows, *shape)), axis=1)
    return X, X.reshape(n_rows, -1)[:, :2]


def shape_of_channels(features):
    return features.kernels_[0].shape[1]


# Shapes of samples


@SHAPES
def test_flat_rows_and_arrays_have_the_same_features(shape):
    X, y = signals(shape)
    features = DeepTDFeatures(n_filters=4, random_state=0).fit(X, y)
    flat = DeepTDFeatures(n_filters=4, input_shape=shape, random_state=0)
    flat.fit(X.reshape(40, -1), y)
    assert features.input_shape_ == flat.input_shape_ == shape
    np.testing.assert_array_equal(
        features.transform(X), flat.transform(X.reshape(40, -1))
    )
    for kernels, biases, size in zip(
        features.kernels_, features.biases_, features.kernel_sizes_, strict=True
    ):
        assert kernels.shape == (4 + 16, len(features.shift_), *size)
        assert biases.shape == (4 + 16,)
    n_columns = len(features.get_feature_names_out())
    assert features.transform(X).shape == (40, n_columns)
    assert features.center_.shape == features.unit_.shape == (n_columns,)


def test_the_place_of_the_channel_axis_does_not_matter():
    X, y = signals((6, 30))
    first = DeepTDFeatures(random_state=0).fit(X, y)
    last = DeepTDFeatures(random_state=0).fit(X.swapaxes(1, 2), y)
    np.testing.assert_array_equal(first.transform(X), last.transform(X.swapaxes(1, 2)))


def test_default_patches_and_dilations():
    X, y = signals((100,))
    features = DeepTDFeatures(random_state=0).fit(X, y)
    assert features.kernel_sizes_ == ((9,),) * 4
    assert features.dilations_ == (1, 2, 4, 8)
    assert features.pooling_ == (1,)
    images, y = signals((8, 8, 2))
    features.fit(images, y)
    assert features.kernel_sizes_ == ((3, 3),) * 2
    assert features.dilations_ == (1, 2)


def test_each_size_has_each_dilation():
    X, y = signals((6, 30))
    features = DeepTDFeatures((3, (5,)), dilations=(1, 4), random_state=0).fit(X, y)
    assert features.kernel_sizes_ == ((3,), (3,), (5,), (5,))
    assert features.dilations_ == (1, 4, 1, 4)


@pytest.mark.parametrize(("n_filters", "n_random"), [(5, 0), (0, 5), (3, 2), (1, 0)])
def test_numbers_of_filters(n_filters, n_random):
    features = DeepTDFeatures(n_filters=n_filters, n_random_filters=n_random)
    features.fit(X, Y)
    assert {len(k) for k in features.kernels_} == {n_filters + n_random}


def test_half_of_the_kernels_sum_to_zero_in_each_channel():
    X, y = signals((6, 30))
    features = DeepTDFeatures(n_filters=4, n_random_filters=2, random_state=0)
    for kernels in features.fit(X, y).kernels_:
        sums = np.abs(kernels.sum(axis=2)).max(axis=1)
        size = np.abs(kernels).max(axis=(1, 2))
        assert np.array_equal(sums < 1e-10 * size, [False] * 3 + [True] * 3)


def test_learned_filters_do_not_depend_on_the_seed():
    kernels = [
        DeepTDFeatures(random_state=seed).fit(X, Y).kernels_[0] for seed in (0, 1)
    ]
    same = np.isclose(*kernels).all(axis=(1, 2))
    # 8 learned and 8 random filters in each half; 9 directions, or 8 without the mean.
    assert np.array_equal(same, ([True] * 8 + [False] * 8) * 2)


# Columns


def test_columns_are_standardised_and_clipped():
    features = DeepTDFeatures(pooling=(1, 4), random_state=0).fit(X, Y)
    out = features.transform(X)
    inside = np.abs(out).max(axis=0) < 5
    np.testing.assert_allclose(out[:, inside].mean(axis=0), 0, atol=1e-12)
    assert out.std(axis=0).max() < 1 + 1e-12
    assert np.median(out.std(axis=0)) > 0.9
    assert np.abs(features.transform(1e6 * X)).max() == 5


def test_a_scaler_behind_makes_nothing_large_that_hardly_varied():
    """The first features vary in new rows as the others do."""
    rng = np.random.default_rng(0)
    X, new = rng.standard_normal((2, 100, 24))
    X[:, :12] *= 1e-5
    features = DeepTDFeatures((4,), pooling="local", random_state=0)
    scaler = StandardScaler().fit(features.fit_transform(X, X[:, -1]))
    hardly = ~np.isfinite(features.unit_)
    assert 0.1 < np.mean(hardly) < 0.5
    outputs = features.transform(new)
    assert np.abs(outputs).max() <= 5
    assert not np.any(outputs[:, hardly])
    assert np.abs(scaler.transform(outputs)).max() < 5 / 0.01


@pytest.mark.parametrize(
    "pooling", ["global", "local", 3, ["global", 4], (1, 3, "local")]
)
@pytest.mark.parametrize("shape", [(20,), (2, 20), (12, 13)])
def test_names_are_unique_and_those_of_the_columns(shape, pooling):
    X, y = signals(shape)
    features = DeepTDFeatures(n_filters=2, n_random_filters=1, pooling=pooling)
    table = features.set_output(transform="pandas").fit(X, y).transform(X)
    names = list(features.get_feature_names_out())
    assert list(table.columns) == names
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(
    ("n_places", "pooling"), [(33, (1, 4)), (9, (1, "local")), (20, (30, "local"))]
)
def test_names_are_unique_if_there_are_fewer_positions_than_parts(n_places, pooling):
    X, y = signals((n_places,))
    features = DeepTDFeatures((9,), pooling=pooling, random_state=0).fit(X, y)
    names = features.get_feature_names_out()
    assert len(set(names)) == len(names) == features.transform(X).shape[1]


def test_names_say_size_dilation_filter_statistic_and_part():
    X, y = signals((2, 20))
    features = DeepTDFeatures(
        (3,), dilations=(2,), n_filters=2, n_random_filters=0, pooling=(1, 4)
    )
    names = list(features.fit(X, y).get_feature_names_out())
    statistics = [*(f"share{i}" for i in range(5)), "max", "abs", "mean"]
    prefix = "size3_dilation2_filter"
    assert names[:16] == [f"{prefix}{i}_{s}" for s in statistics for i in (0, 1)]
    assert names[16:] == [
        f"{prefix}{i}_{s}_part{p}of4"
        for s in ("max", "abs", "mean")
        for i in (0, 1)
        for p in range(4)
    ]
    images, y = signals((6, 7))
    features = DeepTDFeatures(pooling=2, dilations=(1,)).fit(images, y)
    assert features.get_feature_names_out()[3] == (
        "size3x3_dilation1_filter0_max_part1x1of2x2"
    )
    with pytest.raises(ValueError, match="input_features"):
        features.get_feature_names_out(["a", "b"])


def test_a_change_in_one_place_changes_the_columns_whose_names_say_so():
    images, y = signals((8, 9))
    features = DeepTDFeatures(
        ((3, 2),), dilations=(2,), pooling="local", random_state=0
    ).fit(images, y)
    before, names = features.transform(images), features.get_feature_names_out()
    images[:, 5, 4] += 1
    changed = names[np.any(features.transform(images) != before, axis=0)]
    found = {name.split("_part")[1].split("of")[0] for name in changed}
    # A patch has three values on the first axis and two on the second, two apart.
    assert found == {f"{i}x{j}" for i in (1, 3) for j in (2, 4)}


# Invariances


def test_global_features_do_not_say_where_a_pattern_is():
    """But those of parts do."""
    rng = np.random.default_rng(0)
    X, y = np.zeros((80, 100)), rng.standard_normal(80)
    pattern = np.array([1.0, -2, 3, -1, 2])
    places = rng.integers(20, 75, 80)
    for row, place, size in zip(X, places, y, strict=True):
        row[place : place + 5] = size * pattern
    moved = np.array([np.roll(row, 50 - p) for row, p in zip(X, places, strict=True)])
    for pooling, is_invariant in (("global", True), (4, False), ("local", False)):
        features = DeepTDFeatures(
            (5,), dilations=(1, 2), pooling=pooling, random_state=0
        ).fit(X, y)
        out, of_moved = features.transform(X), features.transform(moved)
        assert np.allclose(out, of_moved, atol=1e-8) == is_invariant


@pytest.mark.parametrize("unit", [1e-6, 1e-3, 1.0, 1e3, 1e6])
@pytest.mark.parametrize("view", [None, "derivative"])
def test_units_and_levels_of_channels_and_targets_do_not_matter(view, unit):
    X, y = signals((3, 40))
    units = unit * np.array([[1.0], [7.0], [0.2]])
    moved = units * X + 5 * unit
    features = DeepTDFeatures(view=view, random_state=0)
    expected = features.fit(X, y).transform(X)
    found = features.fit(moved, unit * y - 3 * unit).transform(moved)
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_with_snv_unit_and_level_of_each_signal_do_not_matter():
    X, y = signals((3, 40))
    rng = np.random.default_rng(1)
    moved = rng.uniform(0.1, 10, (40, 3, 1)) * X + rng.uniform(-9, 9, (40, 3, 1))
    features = DeepTDFeatures(view="snv", random_state=0)
    expected = features.fit(X, y).transform(X)
    np.testing.assert_allclose(features.transform(moved), expected, atol=1e-8)


def test_permuted_channels_have_the_same_learned_features():
    X, y = signals((6, 30), 100)
    order = [3, 0, 5, 1, 4, 2]
    features = DeepTDFeatures(n_random_filters=0, random_state=0)
    expected = features.fit(X, y).transform(X)
    kernels = features.kernels_
    found = features.fit(X[:, order], y).transform(X[:, order])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    for permuted, of_channels in zip(features.kernels_, kernels, strict=True):
        np.testing.assert_allclose(permuted, of_channels[:, order], atol=1e-6)


def test_whole_weights_are_repeated_rows():
    weight = np.random.default_rng(2).integers(0, 4, len(X))
    common = {"n_filters": 4, "pooling": (1, 4), "random_state": 0}
    weighted = DeepTDFeatures(**common).fit(X, Y, sample_weight=weight)
    rows = np.repeat(np.arange(len(X)), weight)
    repeated = DeepTDFeatures(**common).fit(X[rows], Y[rows])
    np.testing.assert_allclose(weighted.transform(X), repeated.transform(X), atol=1e-8)
    scaled = DeepTDFeatures(**common).fit(X, Y, sample_weight=1e-6 * weight)
    np.testing.assert_allclose(weighted.transform(X), scaled.transform(X), atol=1e-8)


def test_the_number_of_jobs_changes_no_bit(monkeypatch):
    monkeypatch.setattr(row_blocks, "PARALLEL_BYTES", 0)
    monkeypatch.setattr(row_blocks, "BLOCK_ROWS", 5)
    one, two = (
        DeepTDFeatures(random_state=0, n_jobs=n).fit_transform(X, Y) for n in (1, 2)
    )
    np.testing.assert_array_equal(one, two)


def filled_spectra(background):
    """Return signals of 48 numbers; the first 28 hold the background."""
    rng = np.random.default_rng(3)
    X = np.full((150, 48), background)
    X[:, 28:] = np.cumsum(rng.standard_normal((150, 20)), axis=1) / 10
    return X, X[:, 33] * X[:, 40] + X[:, 36]


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("background", [0.0, 0.1, -7 / 3])
def test_predictions_depend_on_neither_unit_nor_dtype(background, view, kernel):
    X, y = filled_spectra(background)
    X = X.astype(np.float32).astype(float)
    features = DeepTDFeatures((6, 12), view=view, random_state=0)
    model = DeepTDRidge(features, kernel=kernel)
    expected = model.fit(X[:60], y[:60]).predict(X[60:])
    assert np.std(expected) > 0.1 * np.std(y)
    single = model.fit(X[:60].astype(np.float32), y[:60])
    np.testing.assert_allclose(single.predict(X[60:]), expected, rtol=1e-12)
    found = single.predict(X[60:].astype(np.float32))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for unit in (1e-200, 1e-6, 1 / 3, 65535, 1e6, 1e200):
        found = model.fit(unit * X[:60], y[:60]).predict(unit * X[60:])
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_features_far_from_zero_lose_few_digits_in_float32():
    X, y = filled_spectra(0.1)
    X = (X + 1000).astype(np.float32)
    features = DeepTDFeatures(pooling=(1, 4), random_state=0).fit(X, y)
    double = features.transform(X.astype(float))
    np.testing.assert_allclose(features.transform(X), double, atol=2e-3)


def test_noise_on_a_constant_background_does_not_hide_the_signal():
    X, y = filled_spectra(0.8)
    noise = 1e-6 * np.random.default_rng(4).standard_normal((150, 28))
    noisy = X + np.pad(noise, ((0, 0), (0, 20)))
    plain, found = (
        DeepTDRidge(random_state=0).fit(Z[:60], y[:60]).score(Z[60:], y[60:])
        for Z in (X, noisy)
    )
    assert plain > 0.5
    assert found > plain - 0.1


@pytest.mark.parametrize("n_places", [10, 14, 17])
def test_more_filters_than_directions_are_no_rounding_errors(n_places):
    """Patches of fewer than nine values have fewer than eight mean-free directions."""
    X, y = signals((n_places,), 100)
    features = DeepTDFeatures(n_random_filters=0, random_state=0)
    kernels = features.fit(X, y).kernels_
    for unit in (1 / 3, 1e6):
        found = features.fit(unit * X, y).kernels_
        for of_unit, expected in zip(found, kernels, strict=True):
            np.testing.assert_allclose(of_unit, expected, atol=1e-6)


@pytest.mark.parametrize("other", [0.3, 0.1 + 0.2])
@pytest.mark.parametrize("view", VIEWS)
def test_samples_that_are_constant_up_to_rounding_have_no_responses(view, other):
    constant = np.where(X[:20, :9] > 0, 0.3, other)
    features = DeepTDFeatures(pooling=(1, "local"), view=view)
    out = features.fit(constant, Y[:20]).transform(constant + X[:20, :9])
    if view != "derivative" or other == 0.3:
        assert not np.any(out)
    assert np.abs(out).max() <= 5


def test_a_constant_target_and_a_single_row_have_features():
    constant = DeepTDFeatures(random_state=0).fit(X, np.full(60, 3.0))
    assert np.isfinite(constant.transform(X)).all()
    assert np.abs(constant.transform(X)).max() > 1
    single = DeepTDFeatures(random_state=0).fit(X[:1], Y[:1])
    assert not np.any(single.transform(X))


# Contract


@pytest.mark.parametrize("view", VIEWS)
def test_parameters_set_after_fit_change_nothing(view):
    features = DeepTDFeatures(n_filters=4, view=view, random_state=0).fit(X, Y)
    expected, names = features.transform(X), features.get_feature_names_out()
    features.set_params(
        pooling="local",
        kernel_sizes=(2,),
        dilations=(3,),
        n_filters=2,
        n_random_filters=0,
        view="snv" if view is None else None,
        input_shape=(4, 5),
        target_type="multiclass",
        random_state=7,
    )
    np.testing.assert_array_equal(features.transform(X), expected)
    np.testing.assert_array_equal(features.get_feature_names_out(), names)


def test_copies_by_pickle_and_clones_have_the_same_features():
    features = DeepTDFeatures(pooling=(1, 4), random_state=0).fit(X, Y)
    expected = features.transform(X)
    copy = pickle.loads(pickle.dumps(features))
    np.testing.assert_array_equal(copy.transform(X), expected)
    np.testing.assert_array_equal(clone(features).fit_transform(X, Y), expected)


def test_labels_are_one_target_for_each_class():
    X, digit = load_digits(return_X_y=True)
    X, digit = X[:200].reshape(-1, 8, 8), digit[:200]
    names = np.array([f"n{d}" for d in digit])
    features = DeepTDFeatures(random_state=0)
    expected = features.fit(X, np.eye(10)[digit]).transform(X)
    found = features.fit(X, names).transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    numbers = DeepTDFeatures(target_type="multiclass", random_state=0)
    found = numbers.fit(X, digit).transform(X)
    np.testing.assert_allclose(found, expected, atol=1e-8)
    continuous = features.fit(X, digit).transform(X)
    assert np.abs(continuous - expected).max() > 0.1
    two = DeepTDFeatures(random_state=0).fit(X, digit > 4).transform(X)
    by_column = features.fit(X, (digit > 4).astype(float)).transform(X)
    np.testing.assert_allclose(two, by_column, atol=1e-8)


def test_dtypes_frames_and_grids():
    features = DeepTDFeatures(random_state=0).fit(X, Y)
    single = features.transform(X.astype(np.float32))
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, features.transform(X), atol=1e-4)
    frame = DeepTDFeatures(n_filters=2).set_output(transform="pandas")
    assert isinstance(frame.fit(X, Y).transform(X), pd.DataFrame)
    grid = GridSearchCV(
        make_pipeline(DeepTDFeatures(random_state=0), RidgeCV()),
        {"deeptdfeatures__kernel_sizes": [(3,), (5, 10)]},
        cv=2,
    )
    grid.fit(X, Y[:, 0])


# Quality


def test_before_a_logistic_regression_digits_are_classified():
    X, digit = load_digits(return_X_y=True)
    X, names = X[:300].reshape(-1, 8, 8), np.array([f"n{d}" for d in digit[:300]])
    features = DeepTDFeatures(pooling=(1, 2), random_state=0)
    model = make_pipeline(features, LogisticRegression(C=0.01))
    assert cross_val_score(model, X, names, cv=3).mean() > 0.9


def test_before_a_ridge_regression_patterns_that_occur_anywhere_gain_much():
    """Two kinds of oscillation at random places; y is how strong one of them is."""
    alphas, gain, learned_gain = np.logspace(-2, 5, 15), [], []
    for seed in range(5):
        rng = np.random.default_rng(seed)
        X, y = 0.3 * rng.standard_normal((600, 80)), rng.uniform(size=600)
        wave = np.hanning(20) * np.cos(1.2 * np.arange(20))
        other = np.hanning(20) * np.cos(2.0 * np.arange(20))
        for row, size in zip(X, y, strict=True):
            for pattern, s in ((wave, size), (other, rng.uniform())):
                place = rng.integers(60)
                row[place : place + 20] += rng.choice([-1, 1]) * s * pattern
        train, test = slice(0, 100), slice(100, 600)
        scores = [
            make_pipeline(first, RidgeCV(alphas))
            .fit(X[train], y[train])
            .score(X[test], y[test])
            for first in (
                StandardScaler(),
                DeepTDFeatures(n_filters=0, n_random_filters=4, random_state=seed),
                DeepTDFeatures(n_filters=4, n_random_filters=0, random_state=seed),
            )
        ]
        gain.append(scores[2] - scores[0])
        learned_gain.append(scores[2] - scores[1])
    assert np.mean(gain) > 0.3
    assert np.mean(learned_gain) > 0.1


# Errors


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel_sizes": ()}, "kernel_sizes is empty"),
        ({"kernel_sizes": (21,)}, r"21 is longer than .*\(20,\); use at most \(20,\)"),
        ({"kernel_sizes": (0,)}, r"0 must have a positive integer .* as \(9,\)"),
        ({"kernel_sizes": ((3, 3),)}, r"\(3, 3\) must have .* the 1 axes"),
        ({"kernel_sizes": (2.5,)}, "2.5"),
        ({"kernel_sizes": (True,)}, "True must have a positive integer"),
        ({"kernel_sizes": (3, 3)}, r"must be different.*\(3, 3\)"),
        ({"kernel_sizes": 3}, "kernel_sizes.*Got 3"),
        ({"dilations": ()}, "at least one of each"),
        ({"dilations": (1, 1)}, "must be different"),
        ({"dilations": (3,)}, r"3 does not fit .*\(9,\) in \(20,\); .* from 1 to 2"),
        ({"dilations": (0,)}, "0 does not fit.* from 1 to 2"),
        ({"dilations": (1.5,)}, "1.5 does not fit"),
        ({"dilations": (True,)}, "True does not fit"),
        ({"pooling": "some"}, "pooling"),
        ({"pooling": 0}, "pooling"),
        ({"pooling": ()}, r"at least one, got \(\)"),
        ({"pooling": (1, "global")}, "must hold different"),
        ({"pooling": (1, True)}, r"'local', a number .* got \(1, True\)"),
        ({"pooling": ("both",)}, "'both'"),
        ({"view": "second derivative"}, "view"),
        ({"n_filters": -1}, "n_filters"),
        ({"n_filters": 0, "n_random_filters": 0}, "at least one filter"),
        ({"input_shape": (3, 7)}, r"\(3, 7\) has 21 entries, but X has 20"),
        ({"input_shape": (4, 5), "view": "derivative"}, r"\(4, 5\); use view=None"),
        ({"input_shape": (4, 5), "kernel_sizes": (3,)}, r"such as \(2, 2\)"),
        ({"target_type": "binary"}, "target_type"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        DeepTDFeatures(**parameters).fit(X, Y)


@pytest.mark.parametrize(
    ("shape", "size", "largest"),
    [((20,), (6,), 3), ((20,), (20,), 1), ((6, 30), (4,), 9), ((8, 9), (3, 2), 3)],
)
def test_the_largest_dilation_that_an_error_names_fits(shape, size, largest):
    X, y = signals(shape)
    with pytest.raises(ValueError, match=f"integer from 1 to {largest}$"):
        DeepTDFeatures((size,), dilations=(largest + 1,)).fit(X, y)
    features = DeepTDFeatures((size,), dilations=(largest,), random_state=0)
    assert np.isfinite(features.fit(X, y).transform(X)).all()


def test_bad_data():
    with pytest.raises(NotFittedError):
        DeepTDFeatures().get_feature_names_out()
    with pytest.raises(NotFittedError):
        DeepTDFeatures().transform(X)
    features = DeepTDFeatures(random_state=0).fit(X, Y)
    with pytest.raises(ValueError, match="19 features"):
        features.transform(X[:, :19])
    with pytest.raises(ValueError, match="requires y"):
        DeepTDFeatures().fit(X, None)
    with pytest.raises(ValueError, match=r"\(4, 5\), but input_shape is \(5, 4\)"):
        DeepTDFeatures(input_shape=(5, 4)).fit(X.reshape(-1, 4, 5), Y)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_named(bad, view):
    features = DeepTDFeatures(view=view, random_state=0).fit(X, Y)
    some = X.copy()
    some[3, 4] = bad
    with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
        features.transform(some)
    with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
        DeepTDFeatures(view=view).fit(some, Y)


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_new_values_near_the_largest_number_have_features(dtype, view):
    features = DeepTDFeatures(view=view, random_state=0).fit(X, Y)
    for size in (0.3, 1.0):
        large = (np.sign(X) * size * np.finfo(dtype).max).astype(dtype)
        assert np.abs(features.transform(large)).max() <= 5


@pytest.mark.parametrize("view", VIEWS)
def test_a_fit_to_large_values_is_that_to_their_signs(view):
    features = DeepTDFeatures(view=view, random_state=0)
    expected = features.fit_transform(np.sign(X), Y)
    large = 1e300 * np.sign(X)
    np.testing.assert_allclose(features.fit_transform(large, Y), expected, atol=1e-6)
