import itertools
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    ShuffleSplit,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skdeeptd import (
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
    _base_cv,
    kernel_size_grid,
)
from skdeeptd._base_cv import in_stage
from skdeeptd._model.network import blank_network
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._solver.normal_equations import Objective
from skdeeptd._solver.search import Spec
from skdeeptd.datasets import make_patch_cnn_regression

SHAPES = kernel_size_grid(24)


def one_of(shapes, *, cv=None, **parameters):
    """A choice among networks of these shapes, of which one is taken."""
    grid = {"kernel_sizes": shapes, **{k: [v] for k, v in parameters.items()}}
    return DeepTDRegressorCV(grid, ensemble_size=1, cv=cv, random_state=0)


def digits(n_rows, seed=0):
    """Images, and whether the digit is odd, in a random order."""
    X, digit = load_digits(return_X_y=True)
    rows = np.random.RandomState(seed).permutation(len(X))
    X, y = X[rows].reshape(-1, 8, 8), digit[rows] % 2.0
    return (X[:n_rows], y[:n_rows]), (X[n_rows:], y[n_rows:])


@pytest.fixture(scope="module")
def noisy():
    return make_patch_cnn_regression(150, (4, 3, 2), noise=0.1, random_state=0)[:2]


@pytest.fixture(scope="module")
def fitted(noisy):
    return one_of(SHAPES, cv=4).fit(*noisy)


@pytest.fixture(scope="module")
def of_images():
    (X, y), _ = digits(150)
    return DeepTDRegressorCV(cv=3, random_state=0).fit(X, y), X, y


# The default call


def test_images_without_any_argument():
    """Ridge regression reaches .6."""
    scores, names = [], set()
    for seed in range(3):
        train, test = digits(150, seed)
        model = DeepTDRegressorCV(random_state=0).fit(*train)
        scores.append(model.score(*test))
        names |= set(model.cv_results_["param_model"].compressed())
    assert np.mean(scores) > 0.79
    assert names == {
        "ridge",
        "kernel ridge",
        "ridge on filters",
        "kernel ridge on filters",
    }


@pytest.mark.parametrize("sizes", [(6, 5), (4, 3, 5)])
def test_a_planted_network_is_found_exactly_and_alone(sizes):
    n_samples = 10 * (sum(sizes) - len(sizes) + 1)
    found = []
    for seed in range(5):
        X, y = make_patch_cnn_regression(n_samples, sizes, random_state=seed)
        model = DeepTDRegressorCV(random_state=0).fit(X, y)
        alone = len(model.estimators_) == 1
        exact = model.score(X, y) > 1 - 1e-10
        found.append(alone and exact and model.best_params_["kernel_sizes"] == sizes)
    assert sum(found) >= 4


def test_linear_data_are_not_worse_than_ridge_by_more_than_noise():
    rng = np.random.RandomState(0)
    X = rng.randn(200, 12)
    y = X @ rng.randn(12) + rng.randn(200)
    linear = RidgeCV().fit(X[:100], y[:100]).score(X[100:], y[100:])
    ours = DeepTDRegressorCV(random_state=0).fit(X[:100], y[:100])
    assert ours.score(X[100:], y[100:]) > linear - 0.05


def test_noise_is_predicted_by_about_a_constant():
    rng = np.random.RandomState(0)
    X, y = rng.randn(200, 24), rng.randn(200)
    ours = DeepTDRegressorCV(random_state=0).fit(X[:100], y[:100])
    assert ours.score(X[100:], y[100:]) > -0.1


@pytest.mark.parametrize("n_features", [1, 2, 7, 401])
def test_inputs_of_any_length(n_features):
    rng = np.random.RandomState(0)
    X = rng.randn(60, n_features)
    y = X[:, 0] + 0.1 * rng.randn(60)
    model = DeepTDRegressorCV(cv=3, random_state=0).fit(X, y)
    assert model.score(X, y) > 0.5


def test_predictions_stay_bounded_where_training_rows_hardly_varied():
    rng = np.random.RandomState(0)
    X = rng.randn(80, 20)
    y = X[:, 0] + 0.1 * rng.randn(80)
    X[:, 7] = 1e-9 * rng.randn(80)
    model = DeepTDRegressorCV(random_state=0).fit(X[:60], y[:60])
    X[60:, 7] = 1.0
    assert np.abs(model.predict(X[60:])).max() < 3 * np.abs(y).max()


# The mean of several


def test_weights_are_not_negative_and_of_sum_one(of_images):
    model, X, _ = of_images
    assert model.weights_.shape == (len(model.estimators_), 1)
    assert np.all(model.weights_ >= 0)
    np.testing.assert_allclose(model.weights_.sum(axis=0), 1)
    flat = X.reshape(len(X), -1)
    members = [member.predict(flat) for member in model.estimators_]
    np.testing.assert_allclose(model.predict(X), model.weights_[:, 0] @ members)


def test_a_member_is_a_plain_fit(of_images):
    model, X, y = of_images
    flat = X.reshape(len(X), -1)
    for member in model.estimators_:
        again = clone(member).fit(flat, y)
        np.testing.assert_array_equal(again.predict(flat), member.predict(flat))


def test_the_size_of_the_ensemble_has_a_bound(noisy):
    X, y = noisy
    y = y + np.sin(3 * X[:, 0])
    sizes = [
        len(DeepTDRegressorCV(ensemble_size=n, random_state=0).fit(X, y).estimators_)
        for n in (1, 2)
    ]
    assert sizes[0] == 1
    assert sizes[1] <= 2


def test_the_deviation_is_that_of_members_and_between_them(of_images):
    model, X, _ = of_images
    flat = X.reshape(len(X), -1)
    mean, std = model.predict(X, return_std=True)
    of_members = [m.predict(flat, return_std=True) for m in model.estimators_]
    square = sum(
        w * (s**2 + (m - mean) ** 2)
        for w, (m, s) in zip(model.weights_[:, 0], of_members, strict=True)
    )
    np.testing.assert_allclose(std, np.sqrt(square))
    assert np.all(std > 0)


def test_several_outputs_have_weights_of_their_own():
    (X, y), _ = digits(120)
    Y = np.column_stack([y, X[:, 3, 3], -2 * y + 5])
    model = DeepTDRegressorCV(cv=3, random_state=0).fit(X, Y)
    assert model.weights_.shape == (len(model.estimators_), 3)
    np.testing.assert_allclose(model.weights_.sum(axis=0), 1)
    assert model.predict(X).shape == (120, 3)
    mean, std = model.predict(X, return_std=True)
    assert mean.shape == std.shape == (120, 3)


# A grid of networks


@pytest.mark.parametrize("sizes", [(6, 5), (3, 2, 5)])
def test_choice_is_that_of_a_grid_search(sizes):
    X, y = make_patch_cnn_regression(120, sizes, noise=0.1, random_state=1)
    shapes = kernel_size_grid(30)
    parameters = {"n_init": 5, "max_iter": 1000}
    grid = GridSearchCV(
        DeepTDRegressor(random_state=0, **parameters), {"kernel_sizes": shapes}, cv=5
    ).fit(X, y)
    ours = one_of(shapes, cv=5, **parameters).fit(X, y)
    assert ours.best_params_["kernel_sizes"] == sizes
    assert grid.best_params_["kernel_sizes"] == sizes
    np.testing.assert_allclose(ours.best_score_, grid.best_score_, rtol=1e-9)
    np.testing.assert_allclose(ours.predict(X), grid.predict(X), atol=1e-9)


def test_results_are_laid_out_as_those_of_a_grid_search(noisy, fitted):
    grid = GridSearchCV(DeepTDRegressor(), {"kernel_sizes": SHAPES[:2]}, cv=4)
    names = set(grid.fit(*noisy).cv_results_)
    results, n_candidates = fitted.cv_results_, len(SHAPES) + 1
    assert set(results) == names | {"stage", "param_model", "estimator", "weight"}
    assert all(len(column) == n_candidates for column in results.values())
    scores = np.array([results[f"split{i}_test_score"] for i in range(4)])
    np.testing.assert_allclose(results["mean_test_score"], scores.mean(axis=0))
    np.testing.assert_allclose(results["std_test_score"], scores.std(axis=0))
    assert sorted(results["rank_test_score"]) == list(range(1, n_candidates + 1))
    assert results["rank_test_score"][fitted.best_index_] == 1
    assert results["params"][fitted.best_index_] == fitted.best_params_
    assert results["weight"][fitted.best_index_] == 1
    assert results["weight"].sum() == 1
    assert set(results["stage"]) <= {1, 2, 3}
    last = results["stage"] == 3
    assert results["rank_test_score"][last].max() == last.sum()
    pd.DataFrame(results)


def test_the_best_estimator_is_a_plain_fit_with_the_best_parameters(noisy, fitted):
    X, y = noisy
    plain = DeepTDRegressor(random_state=0, **fitted.best_params_).fit(X, y)
    np.testing.assert_array_equal(fitted.predict(X), plain.predict(X))
    (member,) = fitted.estimators_
    assert member is fitted.best_estimator_
    np.testing.assert_array_equal(member.moment_, plain.moment_)


def test_all_parameters_of_networks_can_be_searched():
    X, y = make_patch_cnn_regression(
        300, (4, 9), strides=1, n_filters=2, noise=0.3, random_state=1
    )
    grid = [
        {"kernel_sizes": [(4, 3), (3, 4)], "alpha": [1e-3, 1e6]},
        {
            "kernel_sizes": [(4, -1)],
            "strides": [1, 2],
            "n_filters": [2],
            "hidden_bias": [False],
            "activation": ["relu", "tanh"],
        },
    ]
    search = DeepTDRegressorCV(grid, ensemble_size=1, random_state=0).fit(X, y)
    assert len(search.cv_results_["params"]) == 1 + 4 + 4
    assert search.best_params_["strides"] == 1
    assert search.best_params_["activation"] == "relu"


def test_of_linear_candidates_one_number_of_filters_is_enough(noisy):
    grid = {"kernel_sizes": [(24,), (6, 4)], "n_filters": [1, 2], "alpha": [1.0]}
    tried = DeepTDRegressorCV(grid, cv=3).fit(*noisy).cv_results_["params"]
    tried = [(p["kernel_sizes"], p["n_filters"]) for p in tried[1:]]
    assert sorted(tried) == [((6, 4), 1), ((6, 4), 2), ((24,), 1)]


def test_several_axes_and_sizes_above_the_length():
    X, y = make_patch_cnn_regression(
        200, ((2, 3), (2, 2)), input_shape=(4, 6), noise=0.1, random_state=0
    )
    search = one_of(kernel_size_grid((4, 6)), cv=3).fit(X.reshape(-1, 4, 6), y)
    assert search.best_params_["kernel_sizes"] == ((2, 3), (2, 2))
    assert search.predict(X.reshape(-1, 4, 6)).shape == (200,)
    padded = one_of([(5, 5), (23,)], cv=3)
    assert padded.fit(X[:, :23], y).predict(X[:, :23]).shape == (200,)


# Limits and failures


def test_the_best_so_far_is_taken_where_time_is_short(noisy):
    search = DeepTDRegressorCV(max_time=1e-9, random_state=0)
    with pytest.warns(UserWarning, match=r"max_time=1e-09 was spent before \d+ of"):
        search.fit(*noisy)
    stages = search.cv_results_["stage"]
    assert stages[0] == 3
    assert not np.any(stages[1:])
    assert search.best_params_ == {"model": "ridge"}
    assert search.score(*noisy) > 0


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_limit_that_is_not_reached_changes_nothing(noisy, n_jobs):
    X, y = noisy
    grid = {"kernel_sizes": SHAPES[:4]}
    free, limited = (
        DeepTDRegressorCV(grid, max_time=t, n_jobs=n_jobs, random_state=0).fit(X, y)
        for t in (None, 1e6)
    )
    np.testing.assert_array_equal(free.predict(X), limited.predict(X))
    for name in ("mean_test_score", "stage", "weight"):
        np.testing.assert_array_equal(free.cv_results_[name], limited.cv_results_[name])


@pytest.mark.parametrize(("left", "kept"), [(0.0, 0), (1e6, 1)])
def test_members_for_which_no_time_is_left_are_named(monkeypatch, left, kept):
    """The clock stands at this distance from the end, once all are compared."""
    (X, y), _ = digits(150)
    moments = itertools.chain([0.0], itertools.repeat(1e9 - left))
    monkeypatch.setattr(_base_cv, "clock", lambda: next(moments))
    search = DeepTDRegressorCV(cv=3, max_time=1e9, random_state=0)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        search.fit(X, y)
    n_members = np.count_nonzero(search.cv_results_["weight"])
    assert n_members > 1
    if kept:
        assert not told
        assert len(search.estimators_) == n_members
    else:
        left_out = f"no time to fit {n_members} of {n_members} members"
        assert left_out in str(told[0].message)
        ridge = clone(search.cv_results_["estimator"][0]).fit(X.reshape(150, -1), y)
        np.testing.assert_array_equal(search.predict(X), ridge.predict(X))
        np.testing.assert_array_equal(search.weights_, [[1]])


def test_a_candidate_that_fails_is_named_and_not_chosen(noisy):
    X, y = noisy
    grid = {"kernel_sizes": [(4, 6), (6, 4)], "output_activation": ["identity"]}
    broken = [(np.arange(75), np.arange(75, 150)), (np.arange(75, 150), np.arange(75))]
    y = np.where(np.arange(150) < 75, y, 0)
    X = X.copy()
    X[:75] *= 1e200
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("always", FitFailedWarning)
        with pytest.raises(ValueError, match="too large"):
            DeepTDRegressorCV(grid, cv=broken).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"param_grid": {"kernel_sizes": [(4, 6), (4, 5)]}}, r"\(4, 5\) multiply to"),
        ({"param_grid": {"kernel_sizes": []}}, "kernel_sizes"),
        ({"param_grid": {"no_such": [1]}}, "no_such"),
        ({"param_grid": {"n_filters": [0]}}, "n_filters.*Got 0"),
        ({"param_grid": {"alpha": [-1.0]}}, "alpha.*Got -1.0"),
        ({"param_grid": 3}, "param_grid"),
        ({"ensemble_size": 0}, "ensemble_size.*Got 0"),
        ({"max_time": 0}, "max_time.*Got 0"),
        ({"cv": 1}, "cv|n_splits"),
        ({"cv": 200}, "n_splits=200"),
        ({"scoring": "no such score"}, "no such score"),
    ],
)
def test_bad_parameters(noisy, parameters, message):
    search = DeepTDRegressorCV(
        **{"param_grid": {"kernel_sizes": SHAPES[:3]}, **parameters}
    )
    with pytest.raises((ValueError, TypeError), match=message):
        search.fit(*noisy)
    with pytest.raises(NotFittedError):
        check_is_fitted(search)


@pytest.mark.parametrize(
    ("light", "message"),
    [(0, "all training rows of fold 1"), (1, "all held-out rows of fold 1")],
)
def test_weights_of_zero_on_a_whole_side_of_a_fold_are_named(noisy, light, message):
    X, y = noisy
    rows = np.arange(150)
    splits = [(rows[::2], rows[1::2]), (rows[:50], rows[50:])]
    weight = np.ones(150)
    weight[splits[1][light]] = 0
    with pytest.raises(ValueError, match=f"sample_weight is zero on {message}"):
        one_of(SHAPES[:2], cv=splits).fit(X, y, weight)


# Within scikit-learn


@pytest.mark.parametrize("ensemble_size", [1, 8])
def test_the_number_of_jobs_changes_nothing(noisy, ensemble_size):
    X, y = noisy
    Y = np.column_stack([y, -2 * y])
    one, two = (
        DeepTDRegressorCV(
            {"kernel_sizes": SHAPES[:4]},
            ensemble_size=ensemble_size,
            n_jobs=n_jobs,
            random_state=0,
        ).fit(X, Y)
        for n_jobs in (None, 2)
    )
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    for name in ("mean_test_score", "rank_test_score", "stage", "weight"):
        np.testing.assert_array_equal(one.cv_results_[name], two.cv_results_[name])


def test_rows_of_weight_zero_count_neither_in_fits_nor_in_scores(noisy):
    X, y = noisy
    weight = np.r_[np.ones(100), np.zeros(50)]
    spoilt = np.where(weight > 0, y, 1e3)
    with_all = list(KFold(3).split(X))
    without = [(a[a < 100], b[b < 100]) for a, b in with_all if np.any(b < 100)]
    with_all = [(a, b) for a, b in with_all if np.any(b < 100)]
    weighted = DeepTDRegressorCV(cv=with_all, random_state=0)
    weighted.fit(X, spoilt, sample_weight=weight)
    deleted = DeepTDRegressorCV(cv=without, random_state=0)
    deleted.fit(X[:100], y[:100], sample_weight=np.ones(100))
    np.testing.assert_allclose(
        weighted.cv_results_["mean_test_score"][weighted.cv_results_["stage"] == 3],
        deleted.cv_results_["mean_test_score"][deleted.cv_results_["stage"] == 3],
        rtol=1e-5,
    )
    np.testing.assert_allclose(weighted.predict(X), deleted.predict(X), atol=1e-5)


def test_splits_may_hold_rows_out_twice_or_never(noisy):
    X, y = noisy
    cv = ShuffleSplit(4, test_size=0.3, random_state=0)
    model = DeepTDRegressorCV(cv=cv, random_state=0).fit(X, y)
    np.testing.assert_allclose(model.weights_.sum(), 1)


def test_groups_are_routed_to_the_splitter(noisy):
    X, y = noisy
    groups = np.arange(len(y)) % 3
    search = one_of(SHAPES[:3], cv=GroupKFold(3))
    with pytest.raises(ValueError, match=r"groups.*enable_metadata_routing"):
        search.fit(X, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = make_pipeline(clone(search)).fit(X, y, groups=groups)
    direct = one_of(SHAPES[:3], cv=list(GroupKFold(3).split(X, y, groups))).fit(X, y)
    np.testing.assert_array_equal(routed.predict(X), direct.predict(X))


def test_scoring_and_company(noisy, of_images):
    X, y = noisy
    other = DeepTDRegressorCV(
        {"kernel_sizes": SHAPES[:3]}, scoring="neg_mean_absolute_error", random_state=0
    ).fit(X, y)
    assert other.best_score_ < 0
    pipeline = make_pipeline(StandardScaler(), one_of([(4, 3, 2), (12, 2)]))
    assert cross_val_score(pipeline, X, y, cv=3).min() > 0.9
    model, images, _ = of_images
    again = pickle.loads(pickle.dumps(model))
    np.testing.assert_array_equal(again.predict(images), model.predict(images))
    assert clone(model).get_params() == model.get_params()


def test_frames_and_names(noisy):
    X, y = noisy
    frame = pd.DataFrame(X, columns=[f"t{i}" for i in range(24)])
    model = one_of(SHAPES[:3], cv=3).fit(frame, y)
    assert list(model.feature_names_in_) == list(frame.columns)
    plain = one_of(SHAPES[:3], cv=3).fit(X, y)
    np.testing.assert_allclose(model.predict(frame), plain.predict(X), rtol=1e-6)


def test_verbose_tells_the_stages(noisy, capsys):
    DeepTDRegressorCV({"kernel_sizes": SHAPES}, verbose=1, random_state=0).fit(*noisy)
    printed = capsys.readouterr().out
    assert "[DeepTDRegressorCV] stage 1: 19 of 19 candidates" in printed
    assert "closed form: 2 of 2 candidates" in printed
    assert "stage 3: " in printed
    DeepTDRegressorCV({"kernel_sizes": SHAPES}, random_state=0).fit(*noisy)
    assert not capsys.readouterr().out


def test_members_are_of_two_kinds(of_images):
    model, _, _ = of_images
    assert {type(e) for e in model.estimators_} <= {DeepTDRegressor, DeepTDRidge}


def test_filters_that_candidates_share_are_those_of_each_by_itself():
    """In haste each candidate learns its own, to tell how long it takes."""
    train, _ = digits(100, 0)
    shared = DeepTDRegressorCV(random_state=0).fit(*train)
    apart = DeepTDRegressorCV(random_state=0, max_time=1e6).fit(*train)
    for name in ("mean_test_score", "weight"):
        np.testing.assert_array_equal(shared.cv_results_[name], apart.cv_results_[name])


@pytest.mark.parametrize("stage", [1, 2, 3])
def test_no_stage_takes_more_passes_or_starts_than_asked_for(stage):
    blank = blank_network(make_layout(6, (3, 2)), 1, ("relu", "identity"))
    asked = Spec(blank, Objective(), n_init=3, max_iter=4)
    for before in (None, [blank._replace(scales=np.ones(1))]):
        short, _ = in_stage(asked, stage, before)
        assert short.n_init <= 3
        assert short.max_iter <= 4
        short, _ = in_stage(asked._replace(max_iter=500), stage, before)
        assert (short.max_iter < 500) == (stage < 3)
