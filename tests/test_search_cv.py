import warnings

import numpy as np
import pandas as pd
import pytest
import sklearn
from joblib import parallel_config
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    StratifiedKFold,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skdeeptd import (
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDRegressor,
    DeepTDRegressorCV,
    kernel_size_grid,
)
from skdeeptd._search_cv import network_candidate
from skdeeptd.datasets import make_patch_cnn_regression

SHAPES = kernel_size_grid(24)


def search_of(shapes, **options):
    return DeepTDRegressorCV({"kernel_sizes": shapes}, random_state=0, **options)


def two_classes(n_rows=200, seed=0, imbalance=0.0):
    rng = np.random.RandomState(seed)
    X, k, v = rng.randn(n_rows, 16), rng.randn(4), rng.randn(4)
    z = np.maximum(X.reshape(n_rows, 4, 4) @ k, 0) @ v
    logit = 4 * (z - z.mean()) / z.std() - imbalance
    return X, (rng.rand(n_rows) < 1 / (1 + np.exp(-logit))).astype(int)


@pytest.fixture(scope="module")
def noisy():
    return make_patch_cnn_regression(150, (4, 3, 2), noise=0.1, random_state=0)[:2]


@pytest.fixture(scope="module")
def fitted(noisy):
    return search_of(SHAPES, cv=4).fit(*noisy)


# The best network


def test_the_result_is_that_of_a_grid_search():
    sizes = (3, 2, 5)
    X, y = make_patch_cnn_regression(120, sizes, noise=0.1, random_state=1)
    grid = {"kernel_sizes": kernel_size_grid(30), "n_init": [5], "max_iter": [1000]}
    theirs = GridSearchCV(DeepTDRegressor(random_state=0), grid, cv=5).fit(X, y)
    ours = DeepTDRegressorCV(grid, cv=5, random_state=0).fit(X, y)
    assert ours.best_params_["kernel_sizes"] == sizes
    assert theirs.best_params_["kernel_sizes"] == sizes
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=1e-9)
    np.testing.assert_allclose(ours.predict(X), theirs.predict(X), atol=1e-9)


def test_scores_of_the_last_stage_are_those_of_cross_validation(noisy, fitted):
    results = fitted.cv_results_
    for i in np.flatnonzero(results["stage"] == 3):
        network = DeepTDRegressor(random_state=0, **results["params"][i])
        expected = cross_val_score(network, *noisy, cv=4)
        ours = [results[f"split{fold}_test_score"][i] for fold in range(4)]
        np.testing.assert_allclose(ours, expected, rtol=1e-9)


def test_results_are_laid_out_as_those_of_a_grid_search(noisy, fitted):
    grid = GridSearchCV(DeepTDRegressor(), {"kernel_sizes": SHAPES[:2]}, cv=4)
    names = set(grid.fit(*noisy).cv_results_)
    results, n_candidates = fitted.cv_results_, len(SHAPES)
    assert set(results) == names | {"stage"}
    assert all(len(column) == n_candidates for column in results.values())
    scores = np.array([results[f"split{i}_test_score"] for i in range(4)])
    np.testing.assert_allclose(results["mean_test_score"], scores.mean(axis=0))
    np.testing.assert_allclose(results["std_test_score"], scores.std(axis=0))
    assert sorted(results["rank_test_score"]) == list(range(1, n_candidates + 1))
    assert results["rank_test_score"][fitted.best_index_] == 1
    assert results["params"][fitted.best_index_] == fitted.best_params_
    assert results["mean_test_score"][fitted.best_index_] == fitted.best_score_
    assert set(results["stage"]) <= {1, 2, 3}
    last = results["stage"] == 3
    assert results["rank_test_score"][last].max() == last.sum()
    assert fitted.n_splits_ == 4
    pd.DataFrame(results)


def test_the_best_estimator_is_a_plain_fit_with_the_best_parameters(noisy, fitted):
    X, y = noisy
    plain = DeepTDRegressor(random_state=0, **fitted.best_params_).fit(X, y)
    np.testing.assert_array_equal(fitted.predict(X), plain.predict(X))
    for ours, theirs in zip(
        fitted.predict(X, return_std=True),
        plain.predict(X, return_std=True),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert type(fitted.best_estimator_) is DeepTDRegressor
    assert not hasattr(fitted, "weights_")


def test_the_default_grid_has_networks_with_few_weights(noisy):
    X, y = noisy
    search = DeepTDRegressorCV(cv=3, random_state=0).fit(X, y)
    tried = [params["kernel_sizes"] for params in search.cv_results_["params"]]
    assert (4, 3, 2) in tried
    for sizes in tried:
        assert 2 <= len(sizes) <= 3
        assert 8 * (sum(sizes) - len(sizes) + 1) <= 100
    assert search.best_params_["kernel_sizes"] == (4, 3, 2)


def test_the_default_grid_has_a_network_for_very_few_rows(noisy):
    X, y = noisy
    search = DeepTDRegressorCV(cv=2, random_state=0).fit(X[:12], y[:12])
    assert search.best_params_ == {"kernel_sizes": None}
    assert search.best_estimator_.kernel_sizes_ == (6, 4)


@pytest.mark.parametrize(("n_rows", "n_splits"), [(3, 3), (7, 7), (19, 19), (20, 5)])
def test_few_rows_are_held_out_one_by_one(noisy, n_rows, n_splits):
    """R2 is then relative to the variance of all rows; a scorer gets two rows."""
    X, y = noisy[0][:n_rows], noisy[1][:n_rows]
    search = search_of([(6, 4)]).fit(X, y)
    assert search.n_splits_ == n_splits
    assert np.isfinite(search.best_score_)
    given = search_of([(6, 4)], cv=LeaveOneOut()).fit(X, y)
    if n_splits == n_rows:
        assert given.best_score_ == search.best_score_
    scored = search_of([(6, 4)], scoring="r2")
    if n_rows > 3:
        assert scored.fit(X, y).n_splits_ == min(5, n_rows // 2)


def test_one_sample_cannot_be_compared(noisy):
    with pytest.raises(ValueError, match="needs at least two samples, got 1"):
        search_of([(6, 4)]).fit(noisy[0][:1], noisy[1][:1])
    weight = np.eye(len(noisy[1]))[0]
    with pytest.raises(ValueError, match="needs at least two samples, got 1"):
        search_of([(6, 4)]).fit(*noisy, sample_weight=weight)


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
    search = DeepTDRegressorCV(grid, random_state=0).fit(X, y)
    assert len(search.cv_results_["params"]) == 4 + 4
    assert search.best_params_["strides"] == 1
    assert search.best_params_["activation"] == "relu"


def test_several_axes(noisy):
    X, y = make_patch_cnn_regression(
        200, ((2, 3), (2, 2)), input_shape=(4, 6), noise=0.1, random_state=0
    )
    search = search_of(kernel_size_grid((4, 6)), cv=3).fit(X.reshape(-1, 4, 6), y)
    assert search.best_params_["kernel_sizes"] == ((2, 3), (2, 2))
    assert search.predict(X.reshape(-1, 4, 6)).shape == (200,)
    flat = clone(search).set_params(input_shape=(4, 6)).fit(X, y)
    np.testing.assert_array_equal(flat.predict(X), search.predict(X))


# Stages


@pytest.mark.parametrize("max_iter", [4, 500])
def test_no_stage_takes_more_passes_or_starts_than_asked_for(max_iter):
    network = DeepTDRegressor((3, 2), n_init=3, max_iter=max_iter)
    candidate = network_candidate(network, {"kernel_sizes": (3, 2)})
    first, second = candidate.early
    assert first["polish"] is False
    assert "polish" not in second
    for early in (first, second):
        assert early["n_init"] == 1
        assert early["max_iter"] == max_iter if max_iter == 4 else 5 <= 12


def test_a_linear_network_is_fitted_in_full_at_once():
    linear = DeepTDRegressor((6,))
    assert not network_candidate(linear, {}).early
    assert network_candidate(DeepTDRegressor((6,), output_activation="relu"), {}).early


def test_networks_that_differ_in_alpha_only_are_a_path():
    grid = [
        {"kernel_sizes": sizes, "alpha": alpha}
        for alpha in (1.0, 100, "loo", 10.0)
        for sizes in ((4, 3), (6, 2))
    ]
    paths = [network_candidate(DeepTDRegressor(**p), p).path for p in grid]
    assert paths[4:6] == [None, None]
    names = [path and path[0] for path in paths]
    assert names[0] == names[2] == names[6] != names[1]
    assert paths[2] < paths[6] < paths[0]  # the largest alpha first


@pytest.mark.filterwarnings("ignore:Nothing could be learned")
def test_what_a_network_of_the_same_rows_has_learned_is_reused(noisy):
    """The moment, if the targets are the same; the kernels, if only alpha differs."""
    X, y = noisy
    network = DeepTDRegressor((4, 3, 2), alpha=10.0, random_state=0).fit(X, y)
    plain = DeepTDRegressor((4, 3, 2), alpha=0.1, random_state=0).fit(X, y)
    spoilt = clone(network).fit(X, y)
    for other, warm_start in [({}, True), ({"n_filters": 2}, False)]:
        reusing = clone(plain).set_params(**other)
        expected = clone(reusing).fit(X, y)
        reusing._fit_reusing(X, y, None, network)
        np.testing.assert_allclose(reusing.predict(X), expected.predict(X), atol=1e-3)
        spoilt.moment_ = np.zeros_like(spoilt.moment_)
        reusing._fit_reusing(X, y, None, spoilt)
        assert np.ptp(reusing.predict(X)) == 0, "the moment is that of the other"
        assert warm_start or reusing.n_filters == 2
    huber = clone(plain).set_params(loss="huber")
    expected = clone(huber).fit(X, y)
    huber._fit_reusing(X, y, None, spoilt)
    np.testing.assert_array_equal(huber.predict(X), expected.predict(X))


# Classes


def test_a_grid_of_networks_of_classes():
    X, y = two_classes(400)
    grid = {"kernel_sizes": [(4, 4), (2, 8)], "alpha": [0.1, 1.0]}
    search = DeepTDClassifierCV(grid, cv=3, random_state=0).fit(X, y)
    assert search.best_params_["kernel_sizes"] == (4, 4)
    assert len(search.cv_results_["params"]) == 4
    assert search.best_estimator_.alpha == search.best_params_["alpha"]
    plain = DeepTDClassifier(random_state=0, **search.best_params_).fit(X, y)
    for name in (
        "predict",
        "predict_proba",
        "predict_log_proba",
        "decision_function",
    ):
        ours, theirs = (getattr(e, name)(X) for e in (search, plain))
        np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(search.classes_, [0, 1])


def test_class_weight_counts_on_folds():
    X, y = two_classes(240, imbalance=2.0)
    scores = []
    for weight in (None, "balanced", {0: 1.0, 1: 20.0}):
        grid = {"kernel_sizes": [(4, 4)], "class_weight": [weight]}
        search = DeepTDClassifierCV(grid, cv=3, scoring="balanced_accuracy")
        search.set_params(random_state=0).fit(X, y)
        expected = cross_val_score(
            DeepTDClassifier((4, 4), class_weight=weight, random_state=0),
            X,
            y,
            cv=StratifiedKFold(3),
            scoring="balanced_accuracy",
        )
        np.testing.assert_allclose(search.best_score_, expected.mean(), rtol=1e-9)
        assert search.best_estimator_.class_weight == weight
        scores.append(search.best_score_)
    assert max(scores) > scores[0] + 0.02


def test_the_default_score_of_classes_is_the_mean_log_likelihood():
    X, y = two_classes()
    search = DeepTDClassifierCV({"kernel_sizes": [(4, 4)]}, cv=3, random_state=0)
    search.fit(X, y)
    expected = cross_val_score(
        DeepTDClassifier((4, 4), random_state=0), X, y, cv=3, scoring="neg_log_loss"
    )
    np.testing.assert_allclose(search.best_score_, expected.mean(), rtol=1e-6)


# Limits and failures


def test_time_that_suffices_changes_no_score_of_classes(noisy):
    X, y = noisy[0][:60], noisy[1][:60] > 0
    grid = {"kernel_sizes": [(6, 4), (4, 6)], "alpha": [0.1, 1.0]}
    free, limited = (
        DeepTDClassifierCV(grid, cv=3, max_time=seconds, random_state=0).fit(X, y)
        for seconds in (None, 1e6)
    )
    for name in ("split0_test_score", "mean_test_score", "stage"):
        np.testing.assert_array_equal(free.cv_results_[name], limited.cv_results_[name])


def test_the_best_so_far_is_taken_if_time_is_short(noisy):
    shapes = [(4, 6), (6, 4), (3, 8)]
    search = search_of(shapes, cv=3, max_time=1e-9)
    with pytest.warns(
        UserWarning, match="max_time=1e-09 was too short to compare 2 of 3"
    ):
        search.fit(*noisy)
    assert search.cv_results_["stage"].tolist() == [1, 0, 0]
    assert search.best_params_ == {"kernel_sizes": (4, 6)}
    assert search.best_estimator_.kernel_sizes_ == (4, 6)


@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_limit_that_is_not_reached_changes_nothing(noisy, n_jobs):
    X, y = noisy
    free, limited = (
        search_of(SHAPES[:4], cv=3, max_time=t, n_jobs=n_jobs).fit(X, y)
        for t in (None, 1e6)
    )
    np.testing.assert_array_equal(free.predict(X), limited.predict(X))
    for name in ("mean_test_score", "stage"):
        np.testing.assert_array_equal(free.cv_results_[name], limited.cv_results_[name])


def test_kernel_sizes_that_do_not_fit_are_named_and_not_chosen(noisy):
    search = search_of([(4, 5), (4, 6)], cv=3)
    with pytest.warns(FitFailedWarning, match=r"sizes \(4, 5\).*multiply to"):
        search.fit(*noisy)
    assert search.best_params_["kernel_sizes"] == (4, 6)
    assert np.isnan(search.cv_results_["mean_test_score"][0])
    with pytest.raises(ValueError, match=r"no candidate has.*\(4, 5\) multiply to"):
        search_of([(4, 5)], cv=3).fit(*noisy)


def test_a_fold_that_fails_for_all_is_an_error(noisy):
    X, y = noisy
    halves = [(np.arange(75), np.arange(75, 150)), (np.arange(75, 150), np.arange(75))]
    X = np.where(np.arange(150)[:, np.newaxis] < 75, X * 1e200, X)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        with pytest.raises(ValueError, match="too large"):
            search_of([(4, 6), (6, 4)], cv=halves).fit(X, y)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"param_grid": {"kernel_sizes": []}}, "kernel_sizes"),
        ({"param_grid": {"no_such": [1]}}, "no_such"),
        (
            {"param_grid": {"kernel_sizes": (4, 6)}},
            r"such as \[\(4, 12\)\], got .* 4 as",
        ),
        ({"param_grid": {"n_filters": [0]}}, "n_filters.*Got 0"),
        ({"param_grid": {"alpha": [-1.0]}}, "alpha.*Got -1.0"),
        ({"param_grid": 3}, "param_grid"),
        ({"max_time": 0}, "max_time.*Got 0"),
        ({"cv": 1}, "cv|n_splits"),
        ({"cv": 200}, "n_splits=200"),
        ({"cv": [(np.arange(0), np.arange(9))]}, "cv gives no training rows of fold 0"),
        ({"cv": [(np.arange(9), np.arange(0))]}, "cv gives no held-out rows of fold 0"),
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
    with pytest.raises(NotFittedError):
        search.predict(noisy[0])


def test_weights_of_zero_on_a_whole_side_of_a_fold(noisy):
    """Training rows are needed; without held-out rows there is no fold."""
    X, y = noisy
    rows = np.arange(150)
    splits = [(rows[::2], rows[1::2]), (rows[:50], rows[50:])]
    message = "sample_weight is zero on all training rows of fold 1"
    with pytest.raises(ValueError, match=message):
        search_of(SHAPES[:2], cv=splits).fit(X, y, 1.0 * (rows >= 50))
    search = search_of(SHAPES[:2], cv=splits).fit(X, y, 1.0 * (rows < 50))
    assert search.n_splits_ == 1


# Within scikit-learn


def test_the_number_of_jobs_changes_nothing(noisy):
    X, y = noisy
    Y = np.column_stack([y, -2 * y])
    grid = {"kernel_sizes": SHAPES[:4], "alpha": [0.0, 1.0]}
    one, two = (
        DeepTDRegressorCV(grid, cv=3, n_jobs=n_jobs, random_state=0).fit(X, Y)
        for n_jobs in (None, 2)
    )
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    for name in ("mean_test_score", "rank_test_score", "stage"):
        np.testing.assert_array_equal(one.cv_results_[name], two.cv_results_[name])


def test_rows_of_weight_zero_count_for_nothing(noisy):
    X, y = noisy
    weight = np.r_[np.full(100, 2.0), np.zeros(50)]
    spoilt = np.where(weight > 0, y, 1e3)
    with_all = [(a, b) for a, b in KFold(3).split(X) if np.any(b < 100)]
    without = [(a[a < 100], b[b < 100]) for a, b in with_all]
    weighted = search_of(SHAPES[:3], cv=with_all).fit(X, spoilt, weight)
    deleted = search_of(SHAPES[:3], cv=without).fit(X[:100], y[:100], weight[:100])
    np.testing.assert_array_equal(weighted.predict(X), deleted.predict(X))
    assert weighted.best_score_ == deleted.best_score_


def test_groups_are_routed_to_the_splitter(noisy):
    X, y = noisy
    groups = np.arange(len(y)) % 3
    search = search_of(SHAPES[:3], cv=GroupKFold(3))
    plain = clone(search).fit(X, y, groups=groups)
    with pytest.raises(ValueError, match=r"'other'.*enable_metadata_routing"):
        search.fit(X, y, groups=groups, other=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = make_pipeline(clone(search)).fit(X, y, groups=groups)
    direct = search_of(SHAPES[:3], cv=list(GroupKFold(3).split(X, y, groups)))
    np.testing.assert_array_equal(routed.predict(X), direct.fit(X, y).predict(X))
    np.testing.assert_array_equal(routed.predict(X), plain.predict(X))


def test_scorers_and_pipelines(noisy):
    X, y = noisy
    scoring = "neg_mean_absolute_error"
    other = search_of(SHAPES[:3], cv=3, scoring=scoring).fit(X, y)
    single = DeepTDRegressor(**other.best_params_, random_state=0)
    expected = cross_val_score(single, X, y, cv=3, scoring=scoring).mean()
    assert other.best_score_ == pytest.approx(expected)
    pipeline = make_pipeline(StandardScaler(), search_of([(4, 3, 2), (12, 2)], cv=3))
    assert cross_val_score(pipeline, X, y, cv=3).min() > 0.9


def test_a_scorer_gets_the_network_and_the_held_out_rows(noisy):
    X, y = noisy
    seen = []

    def scorer(estimator, X, y):
        seen.append(len(X))
        return -len(estimator.kernel_sizes_)

    search = search_of([(4, 3, 2), (12, 2)], cv=3, scoring=scorer).fit(X, y)
    assert search.best_params_["kernel_sizes"] == (12, 2)
    assert set(seen) == {50}


def test_frames_and_names(noisy):
    X, y = noisy
    frame = pd.DataFrame(X, columns=[f"t{i}" for i in range(24)])
    search = search_of(SHAPES[:3], cv=3).fit(frame, y)
    assert list(search.feature_names_in_) == list(frame.columns)
    plain = search_of(SHAPES[:3], cv=3).fit(X, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_allclose(search.predict(frame), plain.predict(X), rtol=1e-6)


@pytest.mark.parametrize("backend", ["multiprocessing", "threading"])
def test_backends_change_nothing(noisy, backend):
    search = search_of(SHAPES[:3], cv=3)
    plain = search.fit(*noisy).cv_results_["mean_test_score"]
    with parallel_config(backend, n_jobs=2):
        found = search.fit(*noisy).cv_results_["mean_test_score"]
    np.testing.assert_array_equal(found, plain)


def test_the_leaderboard_has_the_best_network_first(noisy):
    grid = {"kernel_sizes": SHAPES[:3], "alpha": [0.1], "n_filters": [1, 2]}
    search = DeepTDRegressorCV(grid, cv=3, random_state=0).fit(*noisy)
    board, best = search.leaderboard(), search.best_params_
    columns = ["model", "mean_score", "standard_error", "seconds", "stage"]
    assert list(board.columns) == columns
    sizes, n_filters = best["kernel_sizes"], best["n_filters"]
    name = f"network, kernel sizes {sizes}, n_filters={n_filters}"
    assert board["model"][0] == name
    assert board["mean_score"][0] == search.best_score_
    assert len(set(board["model"])) == 6


def test_verbose_prints_the_stages(noisy, capsys):
    search_of(SHAPES, cv=3, verbose=1).fit(*noisy)
    printed = capsys.readouterr().out
    n_networks = sum(len(sizes) > 1 for sizes in SHAPES)
    of_all = f"{n_networks} of {n_networks} candidates in "
    assert f"[DeepTDRegressorCV] step 3 of 6, networks, stage 1: {of_all}" in printed
    assert "step 1 of 6, first fold: 1 of 1 candidates in " in printed
    assert "step 6 of 6, fit of all samples: 1 of 1 candidates in " in printed


def test_a_generator_of_folds_serves_one_fit(noisy):
    X, y = noisy
    search = search_of([(4, 6)], cv=KFold(3).split(X))
    with sklearn.config_context(enable_metadata_routing=True):
        assert search.fit(X, y).n_splits_ == 3
    with pytest.raises(ValueError, match="gives no folds; a generator can be used for"):
        search.fit(X, y)


@pytest.mark.parametrize("n_rows", [12, 40])
def test_labels_of_python_objects_are_labels(n_rows):
    """pandas stores strings as Python objects."""
    X = np.random.RandomState(0).standard_normal((n_rows, 8))
    y = np.where(X[:, 0] > 0, "a", "b")
    grid = {"kernel_sizes": [(2, 4)]}
    plain, objects = (
        DeepTDClassifierCV(grid, random_state=0).fit(X, labels)
        for labels in (y, y.astype(object))
    )
    np.testing.assert_array_equal(objects.predict(X), plain.predict(X))
