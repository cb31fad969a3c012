"""Scorers and splitters of the searches do what they do in GridSearchCV."""

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.exceptions import FitFailedWarning
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.metrics import (
    get_scorer,
    make_scorer,
    mean_absolute_error,
    mean_poisson_deviance,
)
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    HalvingRandomSearchCV,
    KFold,
    LeaveOneOut,
    ShuffleSplit,
)

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
)

GRID = {"kernel_sizes": [(2, 4), (4, 2)], "n_init": [2], "max_iter": [30]}
REGRESSION = [DeepTDRegressorCV, DeepTDAutoRegressor]
CLASSIFICATION = [DeepTDClassifierCV, DeepTDAutoClassifier]
SEARCHES = REGRESSION + CLASSIFICATION
WITH_GRID = [DeepTDRegressorCV, DeepTDClassifierCV]
pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:Few rows hold most"),
]


def data(n_rows=60):
    rng = np.random.RandomState(0)
    X = rng.standard_normal((n_rows, 8))
    return X, np.maximum(X[:, :4] @ [1, -1, 2, 1], 0) + 0.1 * rng.standard_normal(
        n_rows
    )


def data_for(search, n_rows=60):
    X, y = data(n_rows)
    return (X, (y > np.median(y)).astype(int)) if search in CLASSIFICATION else (X, y)


def make(search, **options):
    """Return a search over two networks, or the default models."""
    grid = {"param_grid": GRID} if search in WITH_GRID else {}
    return search(**{"random_state": 0, "cv": KFold(3), **grid, **options})


def grid_search(search, **options):
    """Return the search of scikit-learn over the same networks."""
    is_class = search in CLASSIFICATION
    network = DeepTDClassifier if is_class else DeepTDRegressor
    options = {"cv": KFold(3), **options}
    return GridSearchCV(network(random_state=0), GRID, **options)


# Scorers that fail


class Failing:
    """Score the R2 or the accuracy, but fail in some calls, by their number."""

    def __init__(self, fails, how):
        self.fails, self.how, self.n_calls = fails, how, 0

    def __call__(self, estimator, X, y):
        self.n_calls += 1
        if self.fails(estimator, X):
            if self.how == "raises":
                raise ZeroDivisionError("no score here")
            return np.nan
        return estimator.score(X, y)


def fails_for_one_candidate(estimator, X):
    return getattr(estimator, "kernel_sizes", None) == (4, 2)


def fails_for_one_fold(first_row):
    def fails(estimator, X):
        is_fold = np.array_equal(X[0], first_row)
        return is_fold and getattr(estimator, "kernel_sizes", None) == (4, 2)

    return fails


NO_SCORE = "3 fits|1 fits|Scoring failed|test scores are non-finite"
HOW = ["raises", "nan"]


def both_searches(search, data, fails, how):
    """Return the fitted search and that of scikit-learn, which both warn."""
    found = []
    for make_search in (make, grid_search):
        model = make_search(search, scoring=Failing(fails, how))
        with pytest.warns((FitFailedWarning, UserWarning), match=NO_SCORE):
            found.append(model.fit(*data))
    return found


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("search", WITH_GRID)
def test_a_score_that_fails_for_one_candidate_is_nan(search, how):
    found = both_searches(search, data_for(search), fails_for_one_candidate, how)
    ours, theirs = (model.cv_results_["mean_test_score"] for model in found)
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)
    assert found[0].best_params_ == found[1].best_params_
    assert found[0].best_params_["kernel_sizes"] == (2, 4)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("search", WITH_GRID)
def test_a_score_that_fails_on_one_fold_is_nan_there(search, how):
    X, y = data_for(search)
    found = both_searches(search, (X, y), fails_for_one_fold(X[20]), how)
    assert np.isnan(found[0].cv_results_["split1_test_score"]).tolist() == [False, True]
    for name in ("split0_test_score", "split1_test_score", "mean_test_score"):
        ours, theirs = (model.cv_results_[name][:1] for model in found)
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_score_that_always_fails_is_an_error_that_gives_its_reason(search):
    X, y = data_for(search, 30)
    with pytest.raises(ValueError, match="ZeroDivisionError: no score here"):
        make(search, scoring=Failing(lambda estimator, X: True, "raises")).fit(X, y)


# What scorers get


@pytest.mark.parametrize("search", SEARCHES)
def test_a_callable_gets_a_fitted_estimator_and_the_rows_that_are_held_out(search):
    X, y = data_for(search, 45)
    kinds, shapes = set(), set()

    def scorer(estimator, rows, of_rows):
        kinds.add(type(estimator).__name__)
        shapes.add(rows.shape)
        places = [np.flatnonzero((row == X).all(axis=1)).item() for row in rows]
        np.testing.assert_array_equal(places, np.arange(places[0], places[0] + 15))
        np.testing.assert_array_equal(of_rows, y[places])
        others = np.random.RandomState(1).standard_normal(rows.shape)
        assert estimator.predict(others).shape == (15,)
        method = getattr(estimator, "predict_proba", estimator.predict)
        assert not np.array_equal(method(others), method(rows))
        return estimator.score(rows, of_rows)

    make(search, scoring=scorer).fit(X, y)
    assert shapes == {(15, 8)}
    assert not any(name.startswith("_") for name in kinds)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_callable_that_asks_for_other_rows_gets_their_predictions(search):
    X, y = data_for(search, 45)

    def scorer(estimator, rows, of_rows):
        far = rows + 100 * np.random.RandomState(1).standard_normal(rows.shape)
        return estimator.score(far, of_rows)

    kept = make(search, scoring=scorer).fit(X, y).cv_results_["mean_test_score"]
    plain = make(search, scoring="r2" if search in REGRESSION else "accuracy")
    plain = plain.fit(X, y).cv_results_["mean_test_score"]
    assert np.nanmax(kept) < np.nanmax(plain) - 0.1


@pytest.mark.parametrize("name", ["neg_mean_absolute_error", "made"])
def test_scorers_with_weights_are_those_of_a_grid_search_with_routing(name):
    X, y = data()
    weight = np.random.RandomState(2).uniform(0.1, 2, len(y))
    scorer = get_scorer("neg_mean_absolute_error")
    if name == "made":
        scorer = make_scorer(mean_absolute_error, greater_is_better=False)
    ours = make(DeepTDRegressorCV, scoring=scorer).fit(X, y, sample_weight=weight)
    with sklearn.config_context(enable_metadata_routing=True):
        network = DeepTDRegressor(random_state=0).set_fit_request(sample_weight=True)
        routed = scorer.set_score_request(sample_weight=True)
        theirs = GridSearchCV(network, GRID, cv=KFold(3), scoring=routed)
        theirs.fit(X, y, sample_weight=weight)
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(ours.best_score_, theirs.best_score_, rtol=1e-6)


@pytest.mark.parametrize(
    "scoring", [["r2"], ("r2", "neg_mean_squared_error"), {"a": "r2"}]
)
@pytest.mark.parametrize("search", SEARCHES)
def test_several_scorers_are_refused_with_a_sentence(search, scoring):
    X, y = data_for(search, 30)
    with pytest.raises(
        (TypeError, ValueError), match=r"(?s)scoring.*(one|str|callable)"
    ):
        make(search, scoring=scoring).fit(X, y)


@pytest.mark.parametrize("search", SEARCHES)
def test_the_name_of_no_scorer_is_refused(search):
    X, y = data_for(search, 30)
    with pytest.raises(ValueError, match=r"scoring"):
        make(search, scoring="r3").fit(X, y)


@pytest.mark.parametrize("search", CLASSIFICATION)
def test_a_fold_lacks_a_class(search):
    """The likelihood of the other classes is known; log_loss asks for all classes."""
    X, _ = data(60)
    y = np.random.RandomState(0).randint(2, size=60)
    y[40:42] = 2  # held out in the last fold only
    assert np.isfinite(make(search).fit(X, y).best_score_)
    with pytest.raises(ValueError, match=r"no candidate.*different number of classes"):
        make(search, scoring="neg_log_loss").fit(X, y)


def test_a_deviance_of_negative_predictions_is_nan_for_this_candidate():
    X, _ = data(60)
    y = np.random.RandomState(1).poisson(np.exp(1.5 * X[:, 0] - 1)).astype(float)
    scorer = make_scorer(mean_poisson_deviance, greater_is_better=False)
    grid = {"kernel_sizes": [(2, 4)], "loss": ["squared_error", "poisson"]}
    model = make(DeepTDRegressorCV, scoring=scorer, param_grid=grid)
    with pytest.warns(FitFailedWarning, match="strictly positive"):
        model.fit(X, y)
    assert model.best_params_["loss"] == "poisson"
    assert np.isnan(model.cv_results_["mean_test_score"]).tolist() == [True, False]


def test_a_deviance_of_negative_predictions_of_all_is_an_error():
    X, _ = data(60)
    y = np.random.RandomState(1).poisson(np.exp(1.5 * X[:, 0] - 1)).astype(float)
    scorer = make_scorer(mean_poisson_deviance, greater_is_better=False)
    with pytest.raises(ValueError, match=r"no candidate.*strictly positive"):
        make(DeepTDAutoRegressor, scoring=scorer).fit(X, y)


# Folds


@pytest.mark.parametrize("search", SEARCHES)
def test_no_folds_are_an_error(search):
    X, y = data_for(search, 30)
    for cv in ([], iter([])):
        with pytest.raises(ValueError, match=r"no folds|fold"):
            make(search, cv=cv).fit(X, y)


@pytest.mark.parametrize("bad", [30, -31])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_fold_with_rows_that_do_not_exist_names_them(search, bad):
    X, y = data_for(search, 30)
    folds = [(np.arange(15), np.arange(15, 30)), (np.arange(15), np.array([20, bad]))]
    with pytest.raises((ValueError, IndexError), match=rf"fold 1.*{bad}"):
        make(search, cv=folds).fit(X, y)


@pytest.mark.parametrize("routing", [False, True])
@pytest.mark.parametrize("search", SEARCHES)
def test_a_generator_of_folds_gives_the_scores_of_their_list(search, routing):
    X, y = data_for(search, 45)
    folds = list(KFold(3).split(X))
    with sklearn.config_context(enable_metadata_routing=routing):
        expected, found = (
            make(search, cv=cv).fit(X, y).cv_results_["mean_test_score"]
            for cv in (folds, (fold for fold in folds))
        )
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("search", SEARCHES)
def test_a_generator_of_folds_with_weights_and_routing(search):
    X, y = data_for(search, 45)
    folds, weight = list(KFold(3).split(X)), np.ones(45)
    with sklearn.config_context(enable_metadata_routing=True):
        model = make(search, cv=(fold for fold in folds))
        model.set_fit_request(sample_weight=True).fit(X, y, sample_weight=weight)
    assert model.n_splits_ == 3


@pytest.mark.parametrize("search", SEARCHES)
def test_groups_reach_the_splitter_without_routing(search):
    X, y = data_for(search, 45)
    groups = np.random.RandomState(0).randint(5, size=45)
    folds = list(GroupKFold(3).split(X, y, groups))
    expected = make(search, cv=folds).fit(X, y).cv_results_["mean_test_score"]
    model = make(search, cv=GroupKFold(3)).fit(X, y, groups=groups)
    np.testing.assert_array_equal(model.cv_results_["mean_test_score"], expected)
    if search in WITH_GRID:  # as GridSearchCV does
        grid_search(search, cv=GroupKFold(3)).fit(X, y, groups=groups)


@pytest.mark.parametrize("search", SEARCHES)
def test_arguments_that_no_splitter_takes_are_refused(search):
    X, y = data_for(search, 45)
    with pytest.raises((TypeError, ValueError), match="group"):
        make(search).fit(X, y, group=np.zeros(45))


@pytest.mark.parametrize("search", REGRESSION)
@pytest.mark.parametrize("cv", [LeaveOneOut(), ShuffleSplit(4, random_state=0)])
def test_splitters_of_scikit_learn(search, cv):
    X, y = data_for(search, 20)
    model = make(search, cv=cv, scoring="neg_mean_absolute_error").fit(X, y)
    assert np.isfinite(model.best_score_)
    assert model.n_splits_ == cv.get_n_splits(X)


# Searches of scikit-learn over single estimators


@pytest.mark.parametrize("n_rows", [12, 25])
@pytest.mark.parametrize(
    ("estimator", "grid"),
    [
        (DeepTDRidge(random_state=0), {"kernel": ["linear", "rbf", "laplace"]}),
        (DeepTDRegressor(random_state=0), {**GRID, "alpha": [0.1, 1.0, "loo"]}),
    ],
)
@pytest.mark.parametrize("search", [GridSearchCV, HalvingRandomSearchCV])
def test_searches_of_scikit_learn_with_few_rows(search, estimator, grid, n_rows):
    X, y = data(n_rows)
    options = {"cv": 2, "error_score": "raise"}
    if search is HalvingRandomSearchCV:
        options |= {"random_state": 0, "min_resources": 8, "factor": 2}
    model = search(clone(estimator), grid, **options).fit(X, y)
    assert model.predict(X).shape == (n_rows,)
    assert not isinstance(model.best_score_, complex)
    assert np.isfinite(model.best_score_)
