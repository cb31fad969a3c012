"""T2 and Q residuals of new samples, their limits, and their display."""

import matplotlib
import numpy as np
import pandas as pd
import pytest
from sklearn.decomposition import PCA
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdeeptd import (
    DeepTDAutoRegressor,
    DeepTDFeatures,
    DeepTDRegressor,
    DeepTDRidge,
    DeepTDRidgeClassifier,
    SignalScaler,
)
from skdeeptd.inspection import novelty
from skdeeptd.plotting import NoveltyDisplay

matplotlib.use("Agg")
import matplotlib.pyplot as plt

PLACES = np.linspace(0, 1, 50)
PEAKS = np.exp(-(((PLACES - np.linspace(0.15, 0.85, 4)[:, np.newaxis]) / 0.1) ** 2))


def spectra(n_rows, seed, noise=0.02):
    rng = np.random.default_rng(seed)
    amounts = rng.gamma(4, 0.25, (n_rows, 4))
    return amounts @ PEAKS + noise * rng.standard_normal((n_rows, 50)), amounts[:, 0]


def white(n_rows, seed):
    X = np.random.default_rng(seed).standard_normal((n_rows, 50))
    return X, X[:, 0]


X, Y = spectra(80, 0)
LINEAR = LinearRegression().fit(X, Y)


@pytest.mark.parametrize(("n_rows", "n_draws"), [(40, 20), (150, 6)])
@pytest.mark.parametrize("draw", [spectra, white])
def test_few_fresh_samples_are_novel(draw, n_rows, n_draws):
    """The mean over the draws has a standard error of 0.8 %."""
    shares = []
    for seed in range(n_draws):
        train, new = draw(n_rows, 2 * seed), draw(300, 2 * seed + 1)
        model = LinearRegression().fit(*train)
        shares.append(novelty(model, new[0], train[0]).is_novel.mean())
    assert 0.03 < np.mean(shares) < 0.08


def test_limits_of_samples_that_the_components_have_seen_would_be_too_small():
    train, new = white(60, 0)[0], white(400, 1)[0]
    limit = np.quantile(novelty(LINEAR, train, train).q, 0.95)
    assert np.mean(novelty(LINEAR, new, train).q > limit) > 0.3


@pytest.mark.parametrize("coverage", [0.8, 0.95])
def test_the_limits_hold_the_coverage_of_held_out_samples(coverage):
    result = novelty(LINEAR, X, X, coverage=coverage)
    t2, q = (limit * (1 + 1e-9) for limit in (result.t2_limit, result.q_limit))
    inside = (result.t2_train <= t2) & (result.q_train <= q)
    assert np.sum(inside) == np.ceil(81 * coverage)  # conformal, of 80 samples


@pytest.mark.parametrize(
    "model",
    [
        DeepTDRidge(SignalScaler(), kernel="rbf"),
        DeepTDRidge(DeepTDFeatures(random_state=0)),
        DeepTDRegressor((10, 5), n_init=1, max_iter=5),
        make_pipeline(FunctionTransformer(lambda X: 2 * X), Ridge()),
    ],
    ids=["signal", "filters", "network", "pipeline"],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_samples_of_another_kind_are_novel(model):
    model.fit(X, Y)
    new, _ = spectra(100, 1)
    rng = np.random.default_rng(2)
    for other in (
        new + 1.0,
        np.roll(new, 5, axis=1),
        new + 0.2 * rng.standard_normal(new.shape),
        5 * new,
        1e200 * new,
        np.sin(20 * PLACES) + new,
    ):
        assert novelty(model, other, X).is_novel.mean() > 0.9
    assert novelty(model, new, X).is_novel.mean() < 0.2


def test_t2_and_q_are_those_of_scikit_learn():
    new, _ = spectra(30, 1)
    result = novelty(LINEAR, new, X, n_components=3)
    scaler = StandardScaler().fit(X)  # no feature has a small spread
    pca = PCA(3).fit(scaler.transform(X))
    scores = pca.transform(scaler.transform(new))
    rest = scaler.transform(new) - pca.inverse_transform(scores)
    np.testing.assert_allclose(result.t2, scores**2 @ (1 / pca.explained_variance_))
    np.testing.assert_allclose(result.q, np.sum(rest**2, axis=1))


def test_t2_is_the_leverage_of_a_regression_on_the_components():
    result = novelty(LINEAR, X, X, n_components=3)
    scores = PCA(3).fit_transform(StandardScaler().fit_transform(X))
    design = np.column_stack([np.ones(80), scores])
    leverage = np.diag(design @ np.linalg.pinv(design))
    np.testing.assert_allclose(1 / 80 + result.t2 / 79, leverage)


def test_a_share_takes_at_most_a_fifth_as_many_components_as_samples():
    train, new = white(60, 0)[0], white(20, 1)[0]
    given = novelty(LINEAR, new, train, n_components=12)
    np.testing.assert_allclose(novelty(LINEAR, new, train).q, given.q)


def test_results_do_not_depend_on_the_unit_or_the_container():
    new, _ = spectra(30, 1)
    expected = novelty(LINEAR, new, X)
    for name, found in novelty(LINEAR, 1e6 * new, 1e6 * X).items():
        np.testing.assert_allclose(found, expected[name], rtol=1e-6)
    names = [f"x{i}" for i in range(50)]
    frames = pd.DataFrame(X, columns=names), pd.DataFrame(new, columns=names)
    model = LinearRegression().fit(frames[0], Y)
    np.testing.assert_allclose(novelty(model, *frames[::-1]).q, expected.q)
    deep = DeepTDAutoRegressor(cv=2, ensemble_size=1, random_state=0)
    deep.fit(X.reshape(-1, 5, 10), Y)
    found = novelty(deep, new.reshape(-1, 5, 10), X.reshape(-1, 5, 10))
    np.testing.assert_allclose(found.q, expected.q)


def test_a_ridge_is_inspected_on_its_features():
    """The standard normal variate removes an offset of all wavelengths."""
    new, _ = spectra(50, 1)
    model = DeepTDRidge(SignalScaler("snv")).fit(X, Y)
    result = novelty(model, new, X)
    np.testing.assert_allclose(novelty(model, new + 3.0, X).q, result.q, rtol=1e-6)
    classifier = DeepTDRidgeClassifier(SignalScaler("snv")).fit(X, Y > 1)
    np.testing.assert_allclose(novelty(classifier, new, X).q, result.q)


def test_training_samples_without_noise_leave_no_residual():
    """Rounding errors of samples on the plane are not novel; a sample beside it is."""
    flat, _ = spectra(100, 0, noise=0)
    result = novelty(LINEAR, flat[80:], flat[:80], n_components=4)
    assert np.all(result.q <= result.q_limit)
    beside = flat[80:] + 1e-3 * np.sin(20 * PLACES)
    assert novelty(LINEAR, beside, flat[:80], n_components=4).is_novel.all()


def test_samples_that_are_alike_need_folds_of_blocks():
    twice = np.repeat(X, 5, axis=0)
    result = novelty(LINEAR, X, twice, cv=KFold(20))
    assert result.q_limit > 1.2 * novelty(LINEAR, X, twice).q_limit


def test_bad_input():
    with pytest.raises(NotFittedError):
        novelty(DeepTDRidge(), X, X)
    with pytest.raises(ValueError, match=r"needs 19 training samples.* has 18"):
        novelty(LINEAR, X, X[:18])
    with pytest.raises(ValueError, match=r"needs 10 training samples.* has 9"):
        novelty(LINEAR, X, X[:9], coverage=0.5)
    with pytest.raises(ValueError, match="holds the same sample only"):
        novelty(LINEAR, X, X[[0] * 30])
    with pytest.raises(ValueError, match="expecting 50 features"):
        novelty(LINEAR, X[:, :9], X)
    with pytest.raises(ValueError, match="NaN"):
        novelty(LINEAR, np.where(X > 2, np.nan, X), X)
    with pytest.raises(ValueError, match="partitions"):
        novelty(LINEAR, X, X, cv=[(np.arange(40), np.arange(40, 80))])
    for name, value in (("coverage", 1.0), ("n_components", 0), ("n_components", 1.0)):
        with pytest.raises(ValueError, match=f"'{name}' parameter of novelty must be"):
            novelty(LINEAR, X, X, **{name: value})


def test_a_covariate_beyond_the_training_samples_is_novel():
    temperature = np.random.default_rng(0).uniform(15, 25, len(X))
    rows = np.column_stack([X, temperature])
    model = DeepTDRidge(SignalScaler(), covariates=[-1]).fit(rows, X[:, 3])
    warm = rows.copy()
    warm[:, -1] = 60
    assert novelty(model, rows, rows).is_novel.mean() < 0.15
    assert novelty(model, warm, rows).is_novel.all()


def test_the_display_draws_samples_groups_and_limits():
    new, _ = spectra(20, 1)
    samples, labels = np.vstack([new, new + 1]), np.repeat(["same", "offset"], 20)
    display = NoveltyDisplay.from_estimator(LINEAR, samples, X, labels=labels)
    result = novelty(LINEAR, samples, X)
    training, same, offset, vertical, horizontal = display.ax_.lines
    np.testing.assert_allclose(training.get_xdata(), result.t2_train)
    np.testing.assert_allclose(training.get_ydata(), result.q_train)
    np.testing.assert_allclose(same.get_xdata(), result.t2[:20])
    np.testing.assert_allclose(offset.get_ydata(), result.q[20:])
    assert vertical.get_xdata()[0] == result.t2_limit
    assert horizontal.get_ydata()[0] == result.q_limit
    texts = [text.get_text() for text in display.ax_.get_legend().get_texts()]
    assert texts == ["training", "same", "offset"]
    assert display.ax_.get_xscale() == display.ax_.get_yscale() == "log"
    own = plt.figure().subplots()
    assert NoveltyDisplay(result).plot(own).ax_ is own
    with pytest.raises(ValueError, match="one for each of 40 samples"):
        NoveltyDisplay(result, labels=["a"]).plot()
    plt.close("all")
