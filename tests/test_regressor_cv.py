import pickle

import numpy as np
import pandas as pd
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skdeeptd import DeepTDRegressor, DeepTDRegressorCV, kernel_size_grid
from skdeeptd._model import layout
from skdeeptd._solver.choice import Scores, best_of
from skdeeptd.datasets import make_patch_cnn_regression

SHAPES = kernel_size_grid(24)


@pytest.fixture(scope="module")
def noisy():
    return make_patch_cnn_regression(150, (4, 3, 2), noise=0.1, random_state=0)[:2]


@pytest.fixture(scope="module")
def fitted(noisy):
    return DeepTDRegressorCV(SHAPES, random_state=0, cv=4).fit(*noisy)


@pytest.mark.usefixtures("without_verdict")
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("sizes", [(6, 5), (3, 2, 5), (30,)])
def test_choice_is_that_of_a_grid_search(sizes, seed):
    X, y, _ = make_patch_cnn_regression(120, sizes, noise=0.1, random_state=seed)
    shapes = kernel_size_grid(30)
    parameters = {"n_init": 10, "max_iter": 1000, "random_state": 0}
    grid = GridSearchCV(
        DeepTDRegressor(**parameters), {"kernel_sizes": shapes}, cv=5
    ).fit(X, y)
    ours = DeepTDRegressorCV(shapes, cv=5, **parameters).fit(X, y)
    assert ours.best_params_["kernel_sizes"] == grid.best_params_["kernel_sizes"]
    np.testing.assert_allclose(ours.best_score_, grid.best_score_, rtol=1e-9)
    np.testing.assert_allclose(ours.predict(X), grid.predict(X), atol=1e-9)


def test_results_are_laid_out_as_those_of_a_grid_search(noisy, fitted):
    grid = GridSearchCV(DeepTDRegressor(), {"kernel_sizes": SHAPES[:2]}, cv=4)
    names = set(grid.fit(*noisy).cv_results_)
    results = fitted.cv_results_
    assert set(results) == names | {"stage", "param_n_filters", "param_alpha"}
    assert all(len(column) == len(SHAPES) for column in results.values())
    scores = np.array([results[f"split{i}_test_score"] for i in range(4)])
    np.testing.assert_allclose(results["mean_test_score"], scores.mean(axis=0))
    np.testing.assert_allclose(results["std_test_score"], scores.std(axis=0))
    assert sorted(results["rank_test_score"]) == list(range(1, len(SHAPES) + 1))
    assert results["rank_test_score"][fitted.best_index_] == 1
    assert results["params"][fitted.best_index_] == fitted.best_params_
    assert set(results["stage"]) <= {1, 2, 3}
    last = results["stage"] == 3
    assert results["rank_test_score"][last].max() == last.sum()
    pd.DataFrame(results)


def test_the_final_model_is_a_plain_fit_with_the_best_parameters(noisy, fitted):
    X, y = noisy
    plain = DeepTDRegressor(random_state=0, **fitted.best_params_).fit(X, y)
    np.testing.assert_array_equal(fitted.predict(X), plain.predict(X))
    for name in [n for n in vars(plain) if n.endswith("_")]:
        assert hasattr(fitted, name), name
    np.testing.assert_array_equal(fitted.moment_, plain.moment_)


def test_filters_and_alpha_are_chosen_too():
    X, y, _ = make_patch_cnn_regression(
        300, (4, 3), n_filters=2, noise=0.3, random_state=1
    )
    search = DeepTDRegressorCV(
        [(4, 3), (3, 4)], n_filters=[1, 2], alphas=[1e-3, 1e6], random_state=0
    ).fit(X, y)
    assert search.best_params_ == {
        "kernel_sizes": (4, 3),
        "n_filters": 2,
        "alpha": 1e-3,
    }
    assert len(search.cv_results_["params"]) == 8


def test_default_candidates_are_all_shapes_of_three_layers():
    X, y, _ = make_patch_cnn_regression(100, (4, 3), random_state=0)
    tried = DeepTDRegressorCV(random_state=0).fit(X, y).cv_results_
    assert list(tried["param_kernel_sizes"]) == kernel_size_grid(12, max_layers=3)


def test_default_candidates_are_few_where_the_shapes_are_many(monkeypatch):
    monkeypatch.setattr(layout, "MOST_DEFAULT", 10)
    X, y, _ = make_patch_cnn_regression(
        100, ((2, 3), (2, 2)), input_shape=(4, 6), random_state=0
    )
    search = DeepTDRegressorCV(random_state=0).fit(X.reshape(-1, 4, 6), y)
    tried = search.cv_results_["param_kernel_sizes"]
    assert len(tried) <= 10 < len(kernel_size_grid((4, 6), max_layers=3))
    assert {len(shapes) for shapes in tried} == {1, 2, 3}
    assert search.best_params_["kernel_sizes"] == ((2, 3), (2, 2))


@pytest.mark.parametrize("n_features", [1, 7])
def test_inputs_that_cannot_be_split_are_linear(n_features):
    rng = np.random.RandomState(0)
    X, y = rng.randn(50, n_features), rng.randn(50)
    search = DeepTDRegressorCV(random_state=0).fit(X, y)
    assert search.best_params_["kernel_sizes"] == (n_features,)


def test_several_axes_and_padding():
    X, y, _ = make_patch_cnn_regression(
        200, ((2, 3), (2, 2)), input_shape=(4, 6), noise=0.1, random_state=0
    )
    search = DeepTDRegressorCV(random_state=0).fit(X.reshape(-1, 4, 6), y)
    assert search.best_params_["kernel_sizes"] == ((2, 3), (2, 2))
    assert search.predict(X.reshape(-1, 4, 6)).shape == (200,)
    padded = DeepTDRegressorCV([(5, 5), (23,)], padding="same", random_state=0)
    assert padded.fit(X[:, :23], y).predict(X[:, :23]).shape == (200,)


def test_several_outputs_and_the_number_of_jobs(noisy):
    X, y = noisy
    Y = np.column_stack([y, -2 * y])
    one = DeepTDRegressorCV(SHAPES[:4], random_state=0).fit(X, Y)
    two = DeepTDRegressorCV(SHAPES[:4], random_state=0, n_jobs=2).fit(X, Y)
    np.testing.assert_array_equal(one.predict(X), two.predict(X))
    for name in ("mean_test_score", "rank_test_score", "stage"):
        np.testing.assert_array_equal(one.cv_results_[name], two.cv_results_[name])


def test_rows_of_weight_zero_count_neither_in_fits_nor_in_scores(noisy):
    X, y = noisy
    weight = np.r_[np.ones(100), np.zeros(50)]
    spoilt = np.where(weight > 0, y, 1e3)
    with_all = list(KFold(3).split(X))
    without = [(a[a < 100], b[b < 100]) for a, b in with_all if np.any(b < 100)]
    with_all = [(a, b) for a, b in with_all if np.any(b < 100)]
    shapes = [(4, 3, 2), (6, 4), (24,)]
    weighted = DeepTDRegressorCV(shapes, cv=with_all, random_state=0)
    weighted.fit(X, spoilt, sample_weight=weight)
    deleted = DeepTDRegressorCV(shapes, cv=without, random_state=0)
    deleted.fit(X[:100], y[:100], sample_weight=np.ones(100))
    np.testing.assert_allclose(
        weighted.cv_results_["mean_test_score"],
        deleted.cv_results_["mean_test_score"],
        rtol=1e-5,
    )
    np.testing.assert_allclose(weighted.predict(X), deleted.predict(X), atol=1e-6)


def test_groups_are_routed_to_the_splitter(noisy):
    X, y = noisy
    groups = np.arange(len(y)) % 3
    search = DeepTDRegressorCV(SHAPES[:3], cv=GroupKFold(3), random_state=0)
    with pytest.raises(ValueError, match=r"groups.*enable_metadata_routing"):
        search.fit(X, y, groups=groups)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = make_pipeline(clone(search)).fit(X, y, groups=groups)
    direct = DeepTDRegressorCV(
        SHAPES[:3], cv=list(GroupKFold(3).split(X, y, groups)), random_state=0
    ).fit(X, y)
    np.testing.assert_array_equal(routed.predict(X), direct.predict(X))


def test_scoring_and_company(noisy, fitted):
    X, y = noisy
    other = DeepTDRegressorCV(
        SHAPES[:3], scoring="neg_mean_absolute_error", random_state=0
    ).fit(X, y)
    assert other.best_score_ < 0
    pipeline = make_pipeline(StandardScaler(), DeepTDRegressorCV([(4, 3, 2), (24,)]))
    assert cross_val_score(pipeline, X, y, cv=3).min() > 0.9
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    assert clone(fitted).get_params() == fitted.get_params()


def test_verbose_tells_the_stages(noisy, capsys):
    DeepTDRegressorCV(SHAPES, verbose=1, random_state=0).fit(*noisy)
    printed = capsys.readouterr().out
    assert f"[DeepTDRegressorCV] stage 1: {len(SHAPES)} candidates" in printed
    assert "stage 3: " in printed
    DeepTDRegressorCV(SHAPES, random_state=0).fit(*noisy)
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel_sizes": []}, "kernel_sizes is empty"),
        ({"kernel_sizes": [(4, 6), (4, 5)]}, r"\(4, 5\) multiply to 20"),
        ({"kernel_sizes": (4, 6)}, r"list of.*got 4.*\[\(4, 6\)\]"),
        ({"n_filters": []}, "n_filters is empty"),
        ({"n_filters": [1, 0]}, "n_filters.*got 0"),
        ({"alphas": [0.1, -1.0]}, "alphas.*got -1.0"),
        ({"alphas": -1.0}, "alphas.*Got -1.0"),
        ({"activation": ["relu"]}, "1 entries"),
        ({"cv": 1}, "cv|n_splits"),
        ({"cv": 200}, "n_splits=200"),
        ({"scoring": "no such score"}, "no such score"),
        ({"padding": "full"}, "padding.*'full'"),
    ],
)
def test_bad_parameters(noisy, parameters, message):
    search = DeepTDRegressorCV(**{"kernel_sizes": SHAPES[:3], **parameters})
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
        DeepTDRegressorCV(SHAPES[:2], cv=splits).fit(X, y, weight)


def test_where_nothing_is_to_be_found_ridge_is_not_much_better():
    rng = np.random.RandomState(0)
    X = rng.randn(200, 12)
    y = X @ rng.randn(12) + rng.randn(200)
    linear = RidgeCV().fit(X[:100], y[:100]).score(X[100:], y[100:])
    ours = DeepTDRegressorCV(random_state=0).fit(X[:100], y[:100])
    assert ours.best_params_["kernel_sizes"] == (12,)
    assert ours.score(X[100:], y[100:]) > linear - 0.05


def test_linear_data_take_a_single_layer_and_all_its_stages_are_full_fits():
    rng = np.random.RandomState(0)
    X = rng.standard_normal((200, 12))
    y = X @ rng.standard_normal(12) + rng.standard_normal(200)
    search = DeepTDRegressorCV([(12,), (3, 4), (6, 2)], n_filters=[1, 2], alphas=1.0)
    search.fit(X, y)
    assert search.best_params_["kernel_sizes"] == (12,)
    ridge = Ridge(1.0).fit(X, y)
    np.testing.assert_allclose(search.predict(X), ridge.predict(X), atol=1e-3)
    tried = [(p["kernel_sizes"], p["n_filters"]) for p in search.cv_results_["params"]]
    assert ((12,), 1) in tried
    assert ((12,), 2) not in tried


@pytest.mark.parametrize(
    ("linear", "network", "chosen"),
    [
        ([0.45, 0.55, 0.5], [0.5, 0.7, 0.6], 1),
        ([0.45, 0.55, 0.5], [0.4, 0.8, 0.5], 0),
        ([0.45, 0.55, 0.5, 0.5], [0.44, 0.95, 0.9, 0.9], 1),
        ([-9.0, -406.0, 0.5], [0.95, 0.96, 0.9], 1),
    ],
)
def test_a_network_must_be_clearly_ahead_of_the_linear_model(linear, network, chosen):
    test = np.array([linear, network])
    scores = Scores(test, test, test, np.array([3, 3]))
    assert best_of(np.array([2, 1]), scores, np.array([True, False])) == chosen
