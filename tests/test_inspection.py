"""Effective weights, against coefficients, gradients and permutations; comparisons with
a linear model, against planted truths and scores of scikit-learn."""

import functools
import warnings
from collections import Counter

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.stats import spearmanr
from sklearn import config_context
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeCV
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    KFold,
    ShuffleSplit,
    cross_val_predict,
    cross_validate,
)
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDFeatures,
    DeepTDRegressor,
    DeepTDRidge,
    SignalScaler,
    inspection,
)
from skdeeptd._network.fitted import networks_of
from skdeeptd._network.network import Network, forward, input_gradient
from skdeeptd.datasets import make_patch_cnn_classification, make_patch_cnn_regression
from skdeeptd.inspection import compare_with_linear, effective_weights

SEEDS = range(7)


def planted(seed, n_samples=400, **parameters):
    """X in units that differ from feature to feature, y, and standardised X."""
    Z, y = make_patch_cnn_regression(
        n_samples, (6, 5), noise=0.1, random_state=seed, **parameters
    )
    units = np.exp(np.random.default_rng(seed).standard_normal(Z.shape[1]))
    return Z * units, y, Z


def gradients(network, X):
    """The derivatives in each row, by the backward pass of the network."""
    return np.array([input_gradient(network, x[np.newaxis]) for x in X])


@pytest.mark.parametrize(
    "last",
    [
        DeepTDRegressor((6, 5), random_state=0),
        DeepTDRidge(DeepTDFeatures(pooling=4, random_state=0)),
        DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned"),
        DeepTDAutoRegressor(random_state=0),
    ],
)
def test_the_order_of_features_is_that_of_permutation_importance(last):
    """Features differ, since each model sees where a pattern is."""
    found = []
    for seed in SEEDS[: 3 if isinstance(last, DeepTDAutoRegressor) else None]:
        X, y, _ = planted(seed)
        model = make_pipeline(StandardScaler(), clone(last)).fit(X[:200], y[:200])
        permuted = permutation_importance(
            model, X[200:320], model.predict(X[200:320]), n_repeats=5, random_state=0
        )
        magnitude = effective_weights(model, X[200:320]).magnitude
        found.append(spearmanr(magnitude, permuted.importances_mean).statistic)
    assert np.median(found) > 0.9


def test_of_a_linear_layer_they_are_coefficient_times_spread():
    X, _, Z = planted(0)
    coef = np.linspace(-2, 2, 30)
    model = DeepTDRegressor((30,), random_state=0).fit(X, Z @ coef)
    (network,) = networks_of(model)
    expected = network.heads[0, 0] * X.std(axis=0)
    found = effective_weights(model, X)
    np.testing.assert_allclose(found.magnitude, np.abs(expected), rtol=1e-9)
    np.testing.assert_allclose(found.sign, np.sign(expected), rtol=1e-9)
    np.testing.assert_allclose(
        found.weights, np.broadcast_to(expected, X.shape), rtol=1e-9
    )
    assert np.all(found.standard_error < 1e-9)
    assert np.isnan(found.refit_std).all()


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_of_smooth_networks_they_are_the_gradients_in_each_row(dtype):
    X, y, _ = planted(0, n_outputs=2)
    model = DeepTDRegressor((6, 5), activation="tanh", random_state=0)
    model.fit(X.astype(dtype), y.astype(dtype))
    X = X[:50].astype(dtype)
    for output, network in enumerate(networks_of(model)):
        found = effective_weights(model, X, output=output)
        exact = gradients(network, X.astype(float)) * X.astype(float).std(axis=0)
        atol = 1e-4 * np.abs(exact).max()
        np.testing.assert_allclose(found.weights, exact, rtol=1e-3, atol=atol)
        magnitude = np.abs(exact).mean(axis=0)
        np.testing.assert_allclose(found.magnitude, magnitude, rtol=1e-3)
        sign = exact.mean(axis=0) / magnitude
        np.testing.assert_allclose(found.sign, sign, atol=1e-3)
        error = np.abs(exact).std(axis=0, ddof=1) / np.sqrt(50)
        np.testing.assert_allclose(found.standard_error, error, rtol=1e-2)


def test_of_relu_networks_kinks_hardly_matter():
    X, y, _ = planted(0)
    model = DeepTDRegressor((6, 5), random_state=0).fit(X, y)
    exact = np.abs(gradients(networks_of(model)[0], X) * X.std(axis=0)).mean(axis=0)
    found = effective_weights(model, X).magnitude
    assert np.max(np.abs(found - exact)) < 0.02 * exact.max()


def test_of_a_mean_they_are_the_mean_of_those_of_its_members():
    X, y, _ = planted(0, n_outputs=2)
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X[:80], y[:80])
    for output in range(2):
        of_members = [
            weight * effective_weights(e, X[80:120], output=output).weights
            for e, weight in zip(
                model.estimators_, model.weights_[:, output], strict=True
            )
        ]
        found = effective_weights(model, X[80:120], output=output).weights
        np.testing.assert_allclose(found, np.sum(of_members, axis=0), atol=1e-9)


def derivative(X):
    return np.gradient(X, axis=1)


def test_a_pipeline_maps_back_to_its_own_input():
    """By the chain rule: the gradient of the network times that of the steps."""
    X, y, _ = planted(0)
    network = DeepTDRegressor((5, 4), activation="tanh", random_state=0)
    steps = [StandardScaler(), FunctionTransformer(derivative), PCA(20)]
    model = make_pipeline(*steps, network).fit(X, y)
    scaler, _, pca, last = (step for _, step in model.steps)
    inner = model[:-1].transform(X[:40])
    back = gradients(networks_of(last)[0], inner) @ pca.components_
    exact = back @ derivative(np.eye(30)).T / scaler.scale_ * X[:40].std(axis=0)
    found = effective_weights(model, X[:40]).weights
    np.testing.assert_allclose(found, exact, atol=1e-3 * np.abs(exact).max())


def test_features_before_an_estimator_of_scikit_learn():
    X, y, _ = planted(0)
    model = make_pipeline(DeepTDFeatures(random_state=0), RidgeCV()).fit(X, y)
    assert np.all(effective_weights(model, X[:50]).magnitude > 0)


@pytest.mark.parametrize("n_classes", [2, 3])
def test_of_classes_they_are_those_of_the_logits(n_classes):
    X, y = make_patch_cnn_classification(
        300, (6, 5), n_classes=n_classes, random_state=0
    )
    model = DeepTDClassifier((6, 5), activation="tanh", alpha=1.0, random_state=0)
    model.fit(X, y)
    for output, network in enumerate(networks_of(model)):
        exact = gradients(network, X[:40]) * X[:40].std(axis=0)
        found = effective_weights(model, X[:40], output=output).weights
        np.testing.assert_allclose(found, exact, atol=1e-3 * np.abs(exact).max())
    with pytest.raises(ValueError, match="output must be an integer from 0 to"):
        effective_weights(model, X, output=n_classes if n_classes > 2 else 1)


class WithoutLogits(ClassifierMixin, BaseEstimator):
    """Probabilities alone, as a mean of classifiers has."""

    def fit(self, X, y):
        self.model_ = LogisticRegression().fit(X, y)
        self.classes_ = self.model_.classes_
        return self

    def predict_log_proba(self, X):
        return self.model_.predict_log_proba(X)


def test_without_logits_they_are_those_of_the_odds():
    X, y = make_patch_cnn_classification(300, (6, 5), random_state=0)
    logits = LogisticRegression().fit(X, y)
    alone = WithoutLogits().fit(X, y)
    expected = logits.coef_[0] * X.std(axis=0)
    for model in (logits, alone):
        found = effective_weights(model, X)
        np.testing.assert_allclose(found.magnitude * found.sign, expected, rtol=1e-6)
    y = np.digitize(X[:, 0], [-0.5, 0.5])
    alone = WithoutLogits().fit(X, y)
    p = np.exp(alone.predict_log_proba(X))[..., np.newaxis]
    coef = alone.model_.coef_
    mean = np.sum(p * coef, axis=1)
    exact = (coef[1] - mean) / (1 - p[:, 1]) * X.std(axis=0)
    found = effective_weights(alone, X, output=1).weights
    np.testing.assert_allclose(found, exact, atol=1e-3 * np.abs(exact).max())


def test_a_choice_of_classes_ranks_features_as_the_planted_logit():
    X, y = make_patch_cnn_classification(400, (30,), random_state=0)
    model = DeepTDAutoClassifier(random_state=0).fit(X[:300], y[:300])
    linear = LogisticRegression(C=1e6).fit(X, y).coef_[0]
    found = effective_weights(model, X[300:])
    assert spearmanr(found.magnitude * found.sign, linear).statistic > 0.9


def test_a_constant_feature_and_one_without_effect_have_none():
    X = np.random.default_rng(0).standard_normal((60, 4))
    X[:, 1] = 0.1
    model = RidgeCV().fit(X, X[:, 0])
    model.coef_[:] = [2, 3, 0, -1]
    found = effective_weights(model, X)
    np.testing.assert_array_equal(found.magnitude[[1, 2]], 0)
    np.testing.assert_allclose(found.sign, [1, 0, 0, -1], atol=1e-9)


@pytest.mark.parametrize("name", ["refits", "input_shape"])
def test_a_number_in_place_of_a_sequence_is_named(name):
    X = np.random.RandomState(0).standard_normal((20, 4))
    model = LinearRegression().fit(X, X[:, 0])
    with pytest.raises(TypeError, match=f"{name} must be a sequence, such as .*got 4"):
        effective_weights(model, X, **{name: 4})


def test_the_spread_over_refits_is_that_of_their_magnitudes():
    X, y, _ = planted(0)
    model = DeepTDRegressor((6, 5), random_state=0)
    refits = cross_validate(model, X, y, return_estimator=True)["estimator"]
    found = effective_weights(model.fit(X, y), X[:50], refits=refits)
    each = [effective_weights(e, X[:50]).magnitude for e in refits]
    np.testing.assert_allclose(found.refit_std, np.std(each, axis=0, ddof=1))
    assert np.all(found.refit_std > 0)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
@pytest.mark.filterwarnings("error:X does not have valid feature names")
def test_frames_are_predicted_as_frames(frame):
    X, y, _ = planted(0)
    names = [f"f{i}" for i in range(30)]
    X_frame = frame(dict(zip(names, X.T, strict=True)))
    model = make_pipeline(StandardScaler(), DeepTDRegressor((6, 5), random_state=0))
    found = effective_weights(model.fit(X_frame, y), X_frame)
    expected = effective_weights(model.fit(X, y), X)
    np.testing.assert_allclose(found.magnitude, expected.magnitude, rtol=1e-9)


def test_results_have_the_shape_of_a_sample():
    X, y = make_patch_cnn_regression(
        100, ((2, 3), (2, 2)), input_shape=(4, 6), random_state=0
    )
    images = X.reshape(-1, 4, 6)
    plain = DeepTDRegressor(((2, 3), (2, 2)), random_state=0).fit(images, y)
    channels = make_pipeline(
        FunctionTransformer(np.moveaxis, kw_args={"source": 1, "destination": 2}), plain
    ).fit(np.moveaxis(images, 2, 1), y)
    scaled = make_pipeline(StandardScaler(), DeepTDRidge(random_state=0)).fit(X, y)
    ridge = DeepTDRidge(random_state=0).fit(images, y)
    for model, given, more, shape in [
        (plain, X, {}, (4, 6)),
        (plain, images, {}, (4, 6)),
        (channels, np.moveaxis(images, 2, 1), {}, (6, 4)),
        (scaled, X, {}, (24,)),
        (scaled, X, {"input_shape": (4, 6)}, (4, 6)),
        (ridge, X, {}, (4, 6)),
    ]:
        found = effective_weights(model, given, **more)
        assert found.magnitude.shape == found.sign.shape == shape
        assert found.weights.shape == (100, *shape)


def test_blocks_of_features_change_nothing(monkeypatch):
    X, y, _ = planted(0)
    model = DeepTDRidge(random_state=0).fit(X, y)
    whole = effective_weights(model, X).weights
    few = functools.partial(inspection._feature_weights, block_numbers=14 * X.size)
    monkeypatch.setattr(inspection, "_feature_weights", few)
    np.testing.assert_allclose(effective_weights(model, X).weights, whole, atol=1e-10)


def test_bad_input():
    X, y, _ = planted(0)
    model = DeepTDRegressor((6, 5), max_iter=100, random_state=0).fit(X, y)
    with pytest.raises(NotFittedError):
        effective_weights(DeepTDRegressor(), X)
    with pytest.raises(TypeError, match="a regressor or a classifier, got DeepTDFeat"):
        effective_weights(DeepTDFeatures().fit(X, y), X)
    with pytest.raises(ValueError, match=r"29 features, but .* expecting 30"):
        effective_weights(model, X[:, :29])
    with pytest.raises(ValueError, match="minimum of 2 is required"):
        effective_weights(model, X[:1])
    with pytest.raises(ValueError, match="NaN"):
        effective_weights(model, np.where(X > 1, np.nan, X))
    with pytest.raises(ValueError, match="from 0 to 0, got 1"):
        effective_weights(model, X, output=1)
    with pytest.raises(ValueError, match=r"\(4, 6\) has 24 entries, but X has 30"):
        effective_weights(model, X, input_shape=(4, 6))
    with pytest.raises(ValueError, match=r"holds one estimator; .* at least two"):
        effective_weights(model, X, refits=[model])
    with pytest.raises(NotFittedError):
        effective_weights(model, X, refits=[model, DeepTDRegressor()])
    few, many = (LogisticRegression().fit(X, np.digitize(y, [0] * n)) for n in (1, 2))
    many.classes_ = np.array([0, 2])
    with pytest.raises(ValueError, match=r"must have the classes \[0 1\], got"):
        effective_weights(few, X, refits=[few, many])
    with pytest.raises(TypeError, match="must be of one kind"):
        effective_weights(model, X, refits=[model, few])


# Comparison with a linear model

SIZES, N_SEEDS, N_ROWS = (8, 8), 10, 400


def auto_regressive(rng):
    X = rng.standard_normal((N_ROWS, 64))
    for j in range(1, 64):
        X[:, j] = 0.9 * X[:, j - 1] + np.sqrt(1 - 0.9**2) * X[:, j]
    return X


def images(rng):
    X = load_digits().data
    return X[rng.permutation(len(X))[:N_ROWS]] / 16


def random_network(X, rng):
    """Output of a random network that is open for more than half of the rows."""
    while True:
        kernel, head = (rng.standard_normal((1, d)) for d in SIZES)
        network = Network(
            kernels=(kernel,),
            activations=("relu",),
            heads=head[np.newaxis],
            intercept=np.zeros(1),
            orders=(None, None),
        )
        y = forward(network, X)[:, 0]
        if np.mean(y != np.median(y)) > 0.5:
            return y / y.std()


def random_line(X, rng):
    y = X @ rng.standard_normal(X.shape[1])
    return y / y.std()


def nothing(X, rng):
    return np.zeros(len(X))


@pytest.mark.parametrize("inputs", [auto_regressive, images])
@pytest.mark.parametrize(
    ("target", "conclusion"),
    [(random_network, "network"), (random_line, "linear"), (nothing, "nothing")],
)
def test_the_conclusion_is_the_planted_truth(inputs, target, conclusion):
    found = Counter()
    for seed in range(N_SEEDS):
        rng = np.random.default_rng(seed)
        X = inputs(rng)
        y = target(X, rng) + 0.3 * rng.standard_normal(N_ROWS)
        model = DeepTDRegressor(SIZES, n_init=2, max_iter=20, tol=1e-2, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            found.update(compare_with_linear(model, X, y).conclusion)
    assert found[conclusion] >= 0.9 * N_SEEDS, found


def test_a_shuffled_y_holds_nothing():
    X, y = make_patch_cnn_regression(300, SIZES, random_state=0)
    model = DeepTDRegressor(SIZES, n_init=2, random_state=0)
    assert compare_with_linear(model, X, y).conclusion == ["network"]
    np.random.default_rng(0).shuffle(y)
    result = compare_with_linear(model, X, y)
    assert result.conclusion == ["nothing"]
    assert max(result.network[0], result.linear[0]) < 0.1


def test_two_models_that_fit_exactly_are_equal():
    X = np.random.default_rng(0).standard_normal((100, 8))
    y = X @ np.arange(8)
    result = compare_with_linear(LinearRegression(), X, y)
    assert result.conclusion == ["linear"]
    np.testing.assert_allclose([result.network, result.linear], 1)


def noisy_outputs(n_samples=200):
    """Noise, a network and a line."""
    rng = np.random.default_rng(0)
    X, y = make_patch_cnn_regression(n_samples, SIZES, noise=0.3, random_state=0)
    return X, np.column_stack([rng.standard_normal(n_samples), y, random_line(X, rng)])


def test_each_output_has_a_conclusion_and_a_sentence():
    X, y = noisy_outputs()
    model = DeepTDRegressor(SIZES, random_state=0)
    result = compare_with_linear(model, X, y)
    assert result.conclusion == ["nothing", "network", "linear"]
    neither, better, not_better = result.text
    score = f"(R2 {result.network[0]:.2f} +- {result.network_se[0]:.2f})"
    assert neither.startswith(f"Neither the network {score} nor the linear model")
    assert "is clearly better than the linear model" in better
    assert "is not clearly better than the linear model" in not_better
    one = compare_with_linear(model, X, y[:, 1])
    np.testing.assert_allclose(one.network, result.network[1], rtol=1e-6)
    np.testing.assert_allclose(one.linear_se, result.linear_se[1], rtol=1e-6)


def test_scores_are_those_of_predictions_of_held_out_rows():
    X, y = noisy_outputs()
    linear = PLSRegression(3)
    result = compare_with_linear(KNeighborsRegressor(), X, y, cv=10, linear=linear)
    means = np.empty_like(y)
    for train, test in KFold(10).split(X):
        means[test] = y[train].mean(axis=0)
    for name, model in (("network", KNeighborsRegressor()), ("linear", linear)):
        predicted = cross_val_predict(model, X, y, cv=KFold(10))
        squares = np.sum((y - predicted) ** 2, axis=0)
        expected = 1 - squares / np.sum((y - means) ** 2, axis=0)
        np.testing.assert_allclose(result[name], expected)
        plain = r2_score(y, predicted, multioutput="raw_values")
        np.testing.assert_allclose(result[name], plain, atol=0.05)


def test_standard_errors_are_the_spread_over_samples_of_rows():
    """The model learns nothing, so that the folds are independent."""
    rng = np.random.default_rng(0)
    spread, said = [], []
    for _ in range(200):
        X = rng.standard_normal((100, 2))
        y = X[:, 0] + 0.5 * rng.standard_normal(100)
        result = compare_with_linear(First(), X, y, cv=3, linear=LinearRegression())
        spread.append([result.network[0], result.linear[0]])
        said.append([result.network_se[0], result.linear_se[0]])
    np.testing.assert_allclose(np.mean(said, axis=0), np.std(spread, axis=0), rtol=0.2)


def test_equally_good_models_are_told_apart_as_rarely_as_two_standard_errors_say():
    rng = np.random.default_rng(0)
    errors = rng.standard_normal((3, 100, 1000)) * [[[2.0]], [[1.0]], [[1.0]]]
    found = Counter(inspection._compare_errors(errors, np.ones(100)).conclusion)
    assert found["nothing"] == 0
    assert 10 <= found["network"] <= 40


class First(RegressorMixin, BaseEstimator):
    """Predicts the first feature."""

    def fit(self, X, y):
        self.fitted_ = True
        return self

    def predict(self, X):
        return np.asarray(X)[:, 0]


def test_weights_count_like_repeated_rows():
    X, y = noisy_outputs(150)
    rng = np.random.default_rng(1)
    counts, fold = rng.integers(0, 4, 150), rng.integers(0, 3, 150)
    rows = np.repeat(np.arange(150), counts)
    model = DeepTDRegressor(SIZES, n_init=2, random_state=0)
    weighted, repeated = (
        compare_with_linear(
            make_pipeline(StandardScaler(), "passthrough", make_pipeline(model)),
            X[rows],
            y[rows],
            sample_weight=weight,
            linear=make_pipeline(StandardScaler(), RidgeCV([10.0])),
            cv=[(np.flatnonzero(f != k), np.flatnonzero(f == k)) for k in range(3)],
        )
        for rows, weight, f in [
            (np.arange(150), counts, fold),
            (rows, None, fold[rows]),
        ]
    )
    np.testing.assert_allclose(weighted.linear, repeated.linear, rtol=1e-6)
    np.testing.assert_allclose(weighted.network, repeated.network, atol=0.02)


def test_the_unit_of_weights_does_not_matter():
    X, y = noisy_outputs(150)
    weight = np.random.default_rng(0).uniform(0.5, 2, 150)
    one, other = (
        compare_with_linear(
            RidgeCV(),
            X,
            y,
            sample_weight=unit * weight,
            linear=make_pipeline(StandardScaler(), LinearRegression()),
        )
        for unit in (1, 1000)
    )
    assert one.conclusion == other.conclusion
    np.testing.assert_allclose(one.linear_se, other.linear_se, atol=1e-12)


def test_rows_of_weight_zero_have_no_part():
    X, y = noisy_outputs(150)
    X[:9], y[:9] = 1e9 * X[:9], 1e9 * y[:9]
    folds = [f + 9 for f in np.array_split(np.arange(141), 3)]
    splits = [(np.setdiff1d(np.arange(9, 150), f), f) for f in folds]
    train, test = splits[0]
    cv = [(train, np.r_[np.arange(9), test]), *splits[1:]]
    result = compare_with_linear(
        DeepTDRidge(random_state=0), X, y, cv=cv, sample_weight=np.arange(150) > 8
    )
    without = [(train - 9, test - 9) for train, test in splits]
    expected = compare_with_linear(
        DeepTDRidge(random_state=0), X[9:], y[9:], cv=without
    )
    for name in ("network", "linear", "network_se", "linear_se"):
        np.testing.assert_allclose(result[name], expected[name], rtol=1e-6, atol=1e-12)


def test_weights_arrive_if_metadata_routing_is_on():
    X, y = noisy_outputs(60)
    weight = np.arange(60) % 3
    expected = compare_with_linear(RidgeCV(), X, y, sample_weight=weight)
    with config_context(enable_metadata_routing=True):
        result = compare_with_linear(RidgeCV(), X, y, sample_weight=weight)
    np.testing.assert_array_equal(result.linear, expected.linear)


def test_the_linear_model_sees_samples_of_several_axes_flat():
    X, y = make_patch_cnn_regression(
        150, ((2, 3), (2, 2)), input_shape=(4, 6), noise=0.2, random_state=0
    )
    model = DeepTDRegressor(((2, 3), (2, 2)), random_state=0)
    result = compare_with_linear(model, X.reshape(-1, 4, 6), y)
    flat = compare_with_linear(model.set_params(input_shape=(4, 6)), X, y)
    np.testing.assert_array_equal(result.network, flat.network)
    np.testing.assert_array_equal(result.linear, flat.linear)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_are_compared_like_arrays(frame):
    X, y = noisy_outputs(100)
    names = [f"f{i}" for i in range(64)]
    model = make_pipeline(StandardScaler(), DeepTDRidge(random_state=0))
    result = compare_with_linear(
        model,
        frame(dict(zip(names, X.T, strict=True))),
        frame(dict(zip("abc", y.T, strict=True))),
    )
    expected = compare_with_linear(model, X, y)
    np.testing.assert_allclose(result.network, expected.network)
    np.testing.assert_allclose(result.linear, expected.linear)


@pytest.mark.parametrize("unit", [1e-180, 1e180])
def test_the_unit_of_y_does_not_matter(unit):
    X, y = noisy_outputs(100)
    linear = KNeighborsRegressor(20)
    result = compare_with_linear(KNeighborsRegressor(), X, unit * y, linear=linear)
    expected = compare_with_linear(KNeighborsRegressor(), X, y, linear=linear)
    assert result.conclusion == expected.conclusion
    np.testing.assert_allclose(result.network_se, expected.network_se)


def test_the_estimators_are_left_as_they_were():
    X, y = noisy_outputs(60)
    model, linear = DeepTDRidge(random_state=0), RidgeCV()
    compare_with_linear(model, X, y, linear=linear)
    assert not hasattr(model, "coef_")
    assert not hasattr(linear, "coef_")


@pytest.mark.parametrize(("n_rows", "n_folds"), [(9, 3), (14, 4), (40, 5)])
def test_few_rows_have_fewer_folds(n_rows, n_folds):
    X, y = noisy_outputs(n_rows)
    cv = KFold(n_folds, shuffle=True, random_state=0)
    result = compare_with_linear(KNeighborsRegressor(2), X, y)
    expected = compare_with_linear(KNeighborsRegressor(2), X, y, cv=cv)
    np.testing.assert_array_equal(result.network, expected.network)


def test_comparisons_of_bad_input_are_errors():
    X, y = noisy_outputs(30)
    labels = y[:, 0] > 0
    with pytest.raises(TypeError, match="must be a regressor, got DeepTDClassifier"):
        compare_with_linear(DeepTDClassifier(), X, labels)
    with pytest.raises(TypeError, match="linear must be a regressor, got Logistic"):
        compare_with_linear(RidgeCV(), X, y, linear=LogisticRegression())
    with pytest.raises(TypeError, match="cross_val_score of the classifier"):
        compare_with_linear(make_pipeline(LogisticRegression()), X, labels)
    with pytest.raises(ValueError, match=r"at least 9 samples .* needed, got 8"):
        compare_with_linear(RidgeCV(), X[:8], y[:8])
    with pytest.raises(ValueError, match=r"at least 9 samples .* needed, got 8"):
        compare_with_linear(RidgeCV(), X, y, sample_weight=np.arange(30) < 8)
    with pytest.raises(ValueError, match=r"output \[1\] of y is constant"):
        compare_with_linear(RidgeCV(), X, np.column_stack([y[:, 0], np.ones(30)]))
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        compare_with_linear(RidgeCV(), X[:20], y)
    with pytest.raises(ValueError, match="y contains NaN"):
        compare_with_linear(RidgeCV(), X, np.where(y > 1, np.nan, y))
    with pytest.raises(ValueError, match="X contains NaN"):
        compare_with_linear(RidgeCV(), np.where(X > 2, np.nan, X), y)
    with pytest.raises(ValueError, match="could not convert string to float"):
        compare_with_linear(RidgeCV(), X, np.where(labels, "a", "b"))
    with pytest.raises(ValueError, match="only works for partitions"):
        compare_with_linear(RidgeCV(), X, y, cv=ShuffleSplit())
    with pytest.raises(
        TypeError, match="got an unexpected keyword argument 'sample_weight'"
    ):
        compare_with_linear(PLSRegression(), X, y, sample_weight=np.ones(30))
    with pytest.raises(ValueError, match="must not be negative, got -1 at row 0"):
        compare_with_linear(RidgeCV(), X, y, sample_weight=np.arange(30) - 1.0)
    with pytest.raises(ValueError, match="predictions of Diverging contains infinity"):
        compare_with_linear(Diverging(), X, y[:, 0])


class Diverging(First):
    def predict(self, X):
        return np.full(len(X), np.inf)
