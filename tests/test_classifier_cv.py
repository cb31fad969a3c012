import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline

from skdeeptd import DeepTDClassifier, DeepTDClassifierCV
from skdeeptd._classifier import one_hot
from skdeeptd._classifier_cv import _fit, codes_of, mean_log_likelihood
from skdeeptd._solver.choice import LogLoss, stacked


def digits(n_rows, seed=0):
    """Images and their digits, in a random order."""
    X, digit = load_digits(return_X_y=True)
    rows = np.random.RandomState(seed).permutation(len(X))
    X, digit = X[rows].reshape(-1, 8, 8), digit[rows]
    return (X[:n_rows], digit[:n_rows]), (X[n_rows:], digit[n_rows:])


def planted(n_rows, seed, size=8):
    """Two classes, whose logit is a planted network with patches of ``size``."""
    rng = np.random.RandomState(seed)
    k = rng.randn(size)
    X = rng.randn(n_rows, size * size)
    z = np.maximum(X.reshape(n_rows, size, size) @ k, 0) @ rng.randn(size)
    logit = 8 * (z - z.mean()) / z.std()
    return X, (rng.rand(n_rows) < 1 / (1 + np.exp(-logit))).astype(int)


@pytest.fixture(scope="module")
def fitted():
    (X, y), test = digits(150)
    return DeepTDClassifierCV(random_state=0).fit(X, y), test


def test_images_without_any_argument():
    """Logistic regression of pixels, its penalty chosen, reaches .91."""
    ours, theirs = [], []
    for seed in range(3):
        (X, y), (X_test, y_test) = digits(150, seed)
        ours.append(DeepTDClassifierCV(random_state=0).fit(X, y).score(X_test, y_test))
        flat = X.reshape(len(X), -1), X_test.reshape(len(X_test), -1)
        grid = {"C": np.logspace(-3, 1, 5)}
        linear = GridSearchCV(LogisticRegression(max_iter=1000), grid, cv=3)
        flat = [part / 16 for part in flat]
        theirs.append(linear.fit(flat[0], y).score(flat[1], y_test))
    assert np.mean(ours) > np.mean(theirs) + 0.02
    assert np.mean(ours) > 0.93


def test_probabilities_are_those_of_the_members(fitted):
    model, (X, y) = fitted
    p = sum(
        w * e.predict_proba(X.reshape(len(X), -1))
        for w, e in zip(model.weights_, model.estimators_, strict=True)
    )
    np.testing.assert_allclose(model.predict_proba(X), p, rtol=1e-12)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-10)
    np.testing.assert_array_equal(model.predict(X), model.classes_[p.argmax(axis=1)])
    np.testing.assert_allclose(np.exp(model.predict_log_proba(X)), p, atol=1e-14)
    assert model.weights_.min() > 0
    np.testing.assert_allclose(model.weights_.sum(), 1)
    assert log_loss(y, p) < 0.3


def test_members_are_what_a_user_could_write(fitted):
    model, (X, _) = fitted
    X = X.reshape(len(X), -1)
    for estimator in model.estimators_:
        assert isinstance(estimator, Pipeline)
        table = estimator[:-1].transform(X)
        np.testing.assert_array_equal(
            estimator[-1].predict_proba(table), estimator.predict_proba(X)
        )


def test_results_hold_every_candidate(fitted):
    model, _ = fitted
    results = model.cv_results_
    n_candidates = len(results["params"])
    assert {len(column) for column in results.values()} == {n_candidates}
    assert model.best_score_ == results["mean_test_score"].max()
    np.testing.assert_allclose(np.sum(results["weight"]), 1)
    by_model = {}
    for params, weight in zip(results["params"], results["weight"], strict=True):
        others = repr({k: v for k, v in params.items() if k != "C"})
        by_model[others] = by_model.get(others, 0) + (weight > 0)
    assert max(by_model.values()) == 1


def test_scores_are_those_of_predictions_of_rows_held_out():
    (X, y), _ = digits(100)
    model = DeepTDClassifierCV(cv=3, ensemble_size=1, random_state=0).fit(X, y)
    flat = X.reshape(len(X), -1)
    found = []
    for train, test in StratifiedKFold(3).split(flat, y):
        best = model.cv_results_["estimator"][model.best_index_]
        again = _fit(best, flat[train], y[train], np.ones(len(train)))
        found.append(mean_log_likelihood(again, flat[test], y[test]))
    np.testing.assert_allclose(np.mean(found), model.best_score_, rtol=1e-6)


def test_a_planted_network_is_preferred_and_near_the_truth():
    chosen = []
    for seed in range(2):
        X, y = planted(2000, seed)
        model = DeepTDClassifierCV(random_state=0).fit(X[:1000], y[:1000])
        chosen.append(isinstance(model.best_estimator_, DeepTDClassifier))
        linear = model.cv_results_["mean_test_score"][:6].max()
        assert mean_log_likelihood(model, X[1000:], y[1000:]) > linear + 0.05
    assert any(chosen)


def test_noise_is_predicted_by_about_the_shares():
    rng = np.random.RandomState(0)
    X, y = rng.randn(300, 24), rng.randint(3, size=300)
    model = DeepTDClassifierCV(random_state=0).fit(X[:150], y[:150])
    assert log_loss(y[150:], model.predict_proba(X[150:])) < np.log(3) + 0.05


def test_a_grid_of_networks_and_the_best_alone():
    X, y = planted(600, 0, size=4)
    grid = {"kernel_sizes": [(4, 4), (2, 8)], "alpha": [0.1, 1.0]}
    model = DeepTDClassifierCV(grid, ensemble_size=1, cv=3, random_state=0).fit(X, y)
    assert len(model.estimators_) == 1
    assert model.best_params_["kernel_sizes"] == (4, 4)
    assert len(model.cv_results_["params"]) == 4 + 6
    best = model.best_estimator_
    assert best.alpha == model.best_params_["alpha"]


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "roc_auc"])
def test_scorers_of_scikit_learn(scoring):
    X, y = planted(200, 0, size=4)
    y = np.array(["no", "yes"])[y]
    model = DeepTDClassifierCV(scoring=scoring, cv=3, random_state=0).fit(X, y)
    assert np.isfinite(model.best_score_)
    assert set(model.predict(X)) <= {"no", "yes"}


def test_a_rare_class_may_be_missing_in_a_fold():
    (X, y), _ = digits(100)
    keep = (y < 3) | (np.cumsum(y == 3) * (y == 3) == 1)
    X, y = X[keep], y[keep]
    with pytest.warns(UserWarning, match="least populated class"):
        model = DeepTDClassifierCV(cv=3, random_state=0).fit(X, y)
    assert model.predict_proba(X).shape == (len(X), 4)
    assert np.all(np.isfinite(model.predict_log_proba(X)))


def test_results_do_not_depend_on_the_number_of_jobs():
    (X, y), (X_test, _) = digits(100)
    models = [
        DeepTDClassifierCV(cv=3, n_jobs=n, random_state=0).fit(X, y) for n in (1, 2)
    ]
    np.testing.assert_array_equal(*[m.predict_proba(X_test) for m in models])


def test_little_time_leaves_logistic_regression():
    (X, y), _ = digits(100)
    with pytest.warns(UserWarning, match="was spent before"):
        model = DeepTDClassifierCV(max_time=1e-6, random_state=0).fit(X, y)
    assert model.best_params_["model"] == "logistic regression"


def test_the_candidates_can_be_drawn(fitted):
    pytest.importorskip("matplotlib")
    from skdeeptd.plotting import CandidatesDisplay

    model, _ = fitted
    display = CandidatesDisplay.from_estimator(model, n_best=5)
    assert display.labels[0].startswith(model.best_params_["model"])


# The mean


def test_weights_have_the_largest_likelihood():
    rng = np.random.RandomState(0)
    likelihood = rng.beta([[4.0], [3.0], [2.0], [1.0]], 1.0, (4, 500))
    mixture = LogLoss(likelihood, rng.uniform(0.5, 2, 500))
    weights = mixture.best_weights(np.arange(4))
    np.testing.assert_allclose(weights.sum(), 1)
    # at the optimum the slope is one where a weight is free, and no more elsewhere
    share = mixture.weight / mixture.weight.sum()
    slope = likelihood @ (share / (weights @ likelihood))
    np.testing.assert_allclose(slope[weights > 0.01], 1, atol=0.01)
    assert np.all(slope < 1.01)


def test_a_sure_model_is_alone():
    likelihood = np.stack([np.full(100, 0.9), np.ones(100), np.full(100, 0.5)])
    mixture = LogLoss(likelihood, np.ones(100))
    weights = stacked(mixture, np.arange(100) % 5, best=1, linear=0, most=8)
    np.testing.assert_array_equal(weights, [0, 1, 0])


@pytest.mark.parametrize("n_classes", [2, 3])
def test_codes_are_the_inverse_of_columns(n_classes):
    labels = np.array(list("abc"))[:n_classes]
    codes = np.arange(20) % n_classes
    np.testing.assert_array_equal(codes_of(one_hot(labels[codes], labels)), codes)
