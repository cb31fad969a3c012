"""The classifier: against scikit-learn, certificates, planted networks, contracts."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
from scipy.special import expit, log_softmax
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.ensemble import VotingClassifier
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
)

from skdeeptd import DeepTDClassifier
from skdeeptd.datasets import make_patch_cnn_regression

SMALL = {"kernel_sizes": (4, 3), "random_state": 0}


def planted(n_samples, n_classes=2, seed=0, spread=3.0, sizes=(4, 3), n_filters=1):
    """X, labels and the logarithms of their probabilities, (n_samples, n_classes)."""
    two = n_classes == 2
    X, logits = make_patch_cnn_regression(
        n_samples,
        sizes,
        n_filters=n_filters,
        n_outputs=1 if two else n_classes,
        share_filters=not two,
        random_state=seed,
    )
    logits = logits.reshape(n_samples, -1) * spread
    if two:
        logits = np.column_stack([np.zeros(n_samples), logits[:, 0]])
    rng = np.random.RandomState(1000 + seed)
    y = (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return X, y, log_softmax(logits, axis=1)


def linear(n_features, **options):
    """One linear layer, as logistic regression."""
    return DeepTDClassifier((n_features,), n_filters=1, **options)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_one_linear_layer_is_logistic_regression(n_classes, weighted, fit_intercept):
    X, y, _ = planted(150, n_classes)
    X = X + 0.3
    rng = np.random.RandomState(0)
    weight = rng.uniform(0, 3, len(y)) if weighted else None
    model = linear(12, alpha=0.4, fit_intercept=fit_intercept).fit(X, y, weight)
    peer = LogisticRegression(
        C=1 / 0.4, tol=1e-10, solver="newton-cholesky", fit_intercept=fit_intercept
    ).fit(X, y, weight)
    found, expected = model.decision_function(X), peer.decision_function(X)
    if n_classes > 2:
        found = found - found.mean(axis=1, keepdims=True)
        expected = expected - expected.mean(axis=1, keepdims=True)
    assert np.abs(found - expected).max() < 1e-5
    assert (model.intercept_ == 0).all() == (not fit_intercept)


def logits_by_loops(X, hidden, last, intercept):
    """Compute logits with kernels (filters, 4) and (outputs, filters, 3)."""
    logits = np.tile(np.asarray(intercept, float), (len(X), 1))
    for o, of_output in enumerate(last):
        for k, v in zip(hidden, of_output, strict=True):
            for patch in range(len(v)):
                z = X[:, patch * len(k) : (patch + 1) * len(k)] @ k
                logits[:, o] += v[patch] * np.tanh(z)
    return logits


def weights_of(model):
    """What the loops take: the gains belong to the kernels, the scales to the last."""
    hidden, last = (
        kernels * model.gains_[:, :, layer, np.newaxis]
        for layer, kernels in enumerate(model.kernels_)
    )
    assert np.allclose(hidden, hidden[:1])  # the outputs share it
    return hidden[0], last * model.scales_[:, :, np.newaxis], model.intercept_


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_penalised_likelihood_is_stationary_at_the_end(n_classes):
    X, y, _ = planted(400, n_classes)
    model = DeepTDClassifier(
        (4, 3), activation="tanh", alpha=2.0, tol=1e-10, random_state=0
    ).fit(X, y)
    weights = weights_of(model)
    ends = np.cumsum([w.size for w in weights])[:-1]

    def objective(flat):
        parts = np.split(flat, ends)
        hidden, last, b = (
            p.reshape(w.shape) for p, w in zip(parts, weights, strict=True)
        )
        logits = logits_by_loops(X, hidden, last, b)
        if n_classes == 2:
            logits = np.column_stack([np.zeros(len(X)), logits])
        loss = -log_softmax(logits, axis=1)[np.arange(len(X)), y].sum()
        of_filters = [
            np.sum(np.outer(k, v) ** 2)
            for of_output in last
            for k, v in zip(hidden, of_output, strict=True)
        ]
        return loss + 2.0 / 2 * np.sum(of_filters)

    at = np.concatenate([w.ravel() for w in weights])
    logits = logits_by_loops(X, *weights)
    found = model.decision_function(X).reshape(logits.shape)
    assert np.abs(found - logits).max() < 1e-10
    loss, step = objective(at), 1e-3
    for i in range(len(at)):
        e = step * (np.arange(len(at)) == i)
        up, down = objective(at + e), objective(at - e)
        slope, curvature = (up - down) / (2 * step), (up - 2 * loss + down) / step**2
        assert curvature > 0
        assert slope**2 / (2 * curvature) < 1e-5 * loss


@pytest.mark.parametrize("n_classes", [2, 3])
def test_integer_weights_are_repeated_rows(n_classes):
    X, y, _ = planted(200, n_classes)
    weight = np.random.RandomState(0).randint(0, 4, len(y))
    model = DeepTDClassifier(**SMALL).fit(X, y, weight)
    repeated = DeepTDClassifier(**SMALL).fit(
        np.repeat(X, weight, axis=0), np.repeat(y, weight)
    )
    difference = model.predict_log_proba(X) - repeated.predict_log_proba(X)
    assert np.abs(difference).max() < 1e-6


@pytest.mark.parametrize(
    ("n_classes", "sizes", "n_filters"),
    [(2, (2, 6), 1), (4, (2, 6), 3), (9, (2, 6), 4), (9, (6, 2), 8), (9, (12,), 1)],
)
def test_default_filters_are_no_more_than_patches_can_tell_apart(
    n_classes, sizes, n_filters
):
    X = np.random.RandomState(0).standard_normal((90, 12))
    model = DeepTDClassifier(sizes, n_init=1, max_iter=2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model.fit(X, np.arange(90) % n_classes)
    assert model.kernels_[0].shape[1] == n_filters


def test_labels_may_be_strings():
    X, y, _ = planted(200, 3)
    names = np.array(["wren", "auk", "kite"])
    model = DeepTDClassifier(**SMALL).fit(X, names[y])
    numbers = DeepTDClassifier(**SMALL).fit(X, np.array([2, 0, 1])[y])
    assert model.classes_.tolist() == ["auk", "kite", "wren"]
    assert np.array_equal(model.predict_proba(X), numbers.predict_proba(X))
    assert np.array_equal(model.predict(X), model.classes_[numbers.predict(X)])


def test_a_class_without_weight_is_none():
    X, y, _ = planted(200, 3)
    model = DeepTDClassifier(**SMALL).fit(X, y, (y != 1).astype(float))
    without = DeepTDClassifier(**SMALL).fit(X[y != 1], y[y != 1])
    assert model.classes_.tolist() == [0, 2]
    assert np.abs(model.predict_proba(X) - without.predict_proba(X)).max() < 1e-9


@pytest.mark.parametrize("weight", [None, "only ones"])
def test_one_class_is_an_error_and_nothing_is_fitted(weight):
    X, y, _ = planted(60)
    model = DeepTDClassifier(**SMALL).fit(X, y)
    labels = np.ones_like(y) if weight is None else y
    weight = None if weight is None else (y == 1).astype(float)
    with pytest.raises(ValueError, match="one class only"):
        model.fit(X, labels, weight)
    assert not hasattr(model, "classes_")
    with pytest.raises(NotFittedError):
        model.predict(X)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.linspace(0, 1, 60), "Unknown label type: continuous"),
        (np.eye(2)[np.arange(60) % 2], "1d array"),
        (np.ones((60, 2), int), "1d array"),
    ],
)
def test_a_y_of_no_classes_is_an_error(y, message):
    X, labels, _ = planted(60)
    model = DeepTDClassifier(**SMALL).fit(X, labels)
    with pytest.raises(ValueError, match=message):
        model.fit(X, y)
    assert not hasattr(model, "kernels_")


def test_an_error_in_a_parameter_forgets_the_earlier_fit():
    X, y, _ = planted(60)
    model = DeepTDClassifier(**SMALL).fit(X, y)
    with pytest.raises(ValueError, match="alpha"):
        model.set_params(alpha=-1.0).fit(X, y)
    assert not hasattr(model, "kernels_")


def test_class_weight_multiplies_the_weight_of_the_samples():
    X, y, _ = planted(200, 3)
    weight = np.random.RandomState(0).uniform(0.5, 2, len(y))
    model = DeepTDClassifier(**SMALL, class_weight={0: 3.0, 2: 0.5}).fit(X, y, weight)
    by_hand = np.array([3.0, 1.0, 0.5])[y] * weight
    same = DeepTDClassifier(**SMALL).fit(X, y, by_hand)
    assert np.abs(model.predict_proba(X) - same.predict_proba(X)).max() < 1e-9


def test_balanced_classes_have_the_same_sum_of_weights():
    X, y, _ = planted(200, 3)
    counts = np.random.RandomState(0).randint(0, 4, len(y)) * (1 + (y == 1))
    sums = np.bincount(y, counts)
    by_hand = counts * (sums.sum() / (3 * sums))[y]
    model = DeepTDClassifier(**SMALL, class_weight="balanced", tol=1e-10)
    found = clone(model).fit(X, y, counts).predict_log_proba(X)
    plain = DeepTDClassifier(**SMALL, tol=1e-10).fit(X, y, by_hand)
    assert np.abs(found - plain.predict_log_proba(X)).max() < 1e-6
    repeated = clone(model).fit(np.repeat(X, counts, axis=0), np.repeat(y, counts))
    assert np.abs(found - repeated.predict_log_proba(X)).max() < 1e-6


@pytest.mark.parametrize("sizes", [(12,), (4, 3)])
def test_separable_classes_without_penalty_warn(sizes):
    X, _, log_p = planted(60)
    y = log_p.argmax(axis=1) if sizes == (4, 3) else (X[:, 0] > 0).astype(int)
    model = DeepTDClassifier(sizes, alpha=0.0, random_state=0)
    with pytest.warns(UserWarning, match="alpha=0 puts no bound on the weights"):
        model.fit(X, y)
    assert np.all(np.isfinite(model.predict_proba(X)))
    assert np.array_equal(model.predict(X), y)
    model.set_params(alpha=1.0).fit(X, y)  # no warning: it would be an error


@pytest.mark.parametrize("n_classes", [2, 4])
def test_predictions_agree(n_classes):
    X, y, _ = planted(200, n_classes)
    model = DeepTDClassifier(**SMALL).fit(X, y)
    p, logits = model.predict_proba(X), model.decision_function(X)
    assert p.shape == (200, n_classes)
    assert np.allclose(p.sum(axis=1), 1, rtol=1e-12)
    assert np.allclose(np.log(p), model.predict_log_proba(X), rtol=1e-10)
    assert np.array_equal(model.predict(X), model.classes_[p.argmax(axis=1)])
    if n_classes == 2:
        assert logits.shape == (200,)
        assert np.allclose(p[:, 1], expit(logits), rtol=1e-12)
    else:
        assert logits.shape == (200, n_classes)
        assert np.allclose(np.log(p), log_softmax(logits, axis=1), rtol=1e-10)
    assert model.score(X, y) == np.mean(model.predict(X) == y)


def test_without_an_intercept_a_sample_of_zeros_has_even_odds():
    X, y, _ = planted(200, 3)
    model = DeepTDClassifier(**SMALL, fit_intercept=False).fit(X, y)
    assert np.all(model.intercept_ == 0)
    assert np.allclose(model.predict_proba(np.zeros((1, 12))), 1 / 3, rtol=1e-12)


def test_float32_gives_nearly_the_same():
    X, y, _ = planted(300, 3)
    double = DeepTDClassifier(**SMALL).fit(X, y)
    single = DeepTDClassifier(**SMALL).fit(X.astype(np.float32), y)
    assert single.kernels_[0].dtype == np.float32
    p = single.predict_proba(X.astype(np.float32))
    assert np.abs(p - double.predict_proba(X)).max() < 1e-3


@pytest.mark.parametrize(
    "options",
    [
        {"kernel_sizes": ((2, 2), -1)},
        {"kernel_sizes": ((2, 2, 2), -1), "input_shape": (4, 4, 2)},
        {"kernel_sizes": ((3, 3), -1), "strides": 1, "hidden_bias": True},
        {"kernel_sizes": ((3, 3), -1), "strides": 2},
    ],
)
def test_images_are_taken_as_they_are(options):
    X, y, _ = planted(200, 3, sizes=(4, 8 if "input_shape" in options else 4))
    images = X.reshape(len(X), 4, 4, -1)
    if "input_shape" not in options:
        images = images[..., 0]
    model = DeepTDClassifier(activation="tanh", random_state=0, **options)
    model.fit(images, y)
    assert model.input_shape_ == images.shape[1:]
    assert model.biases_.any() == options.get("hidden_bias", False)
    flat = clone(model).set_params(input_shape=images.shape[1:]).fit(X, y)
    assert np.array_equal(model.predict_proba(images), flat.predict_proba(X))
    share = np.bincount(y) / len(y)
    loss = -model.predict_log_proba(images)[np.arange(len(y)), y].mean()
    assert loss < -share @ np.log(share)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_have_names_of_features(frame):
    X, y, _ = planted(60)
    names = [f"x{i}" for i in range(12)]
    table = frame(dict(zip(names, X.T, strict=True)))
    model = DeepTDClassifier(**SMALL).fit(table, y)
    assert model.feature_names_in_.tolist() == names
    plain = DeepTDClassifier(**SMALL).fit(X, y)
    difference = model.predict_proba(table) - plain.predict_proba(X)
    assert np.abs(difference).max() < 1e-6  # pandas hands over columns


def test_a_memory_map_gives_the_same_bits(tmp_path):
    X, y, _ = planted(200)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    found = DeepTDClassifier(**SMALL).fit(mapped, y).predict_proba(mapped)
    assert np.array_equal(found, DeepTDClassifier(**SMALL).fit(X, y).predict_proba(X))


def test_threads_give_the_same_bits():
    X, y, _ = planted(5000, 3)
    one, two = (
        DeepTDClassifier(**SMALL, n_jobs=n_jobs).fit(X, y).predict_proba(X)
        for n_jobs in (1, 2)
    )
    assert np.array_equal(one, two)


def relative_excess(n_classes, seed, spread, n_filters=1, per_weight=100):
    """KL to the truth, times what it is divided by where the likelihood is normal."""
    n_logits = 1 if n_classes == 2 else n_classes - 1
    n_weights = n_filters * (7 + 8 * n_logits) + n_logits
    n = per_weight * n_weights
    X, y, log_p = planted(n + 4000, n_classes, seed, spread, (8, 8), n_filters)
    model = DeepTDClassifier((8, 8), n_filters=n_filters, alpha=0.01, random_state=0)
    model.fit(X[:n], y[:n])
    X, log_p = X[n:], log_p[n:]
    divergence = np.sum(np.exp(log_p) * (log_p - model.predict_log_proba(X)), axis=1)
    return divergence.mean() * 2 * n / n_weights


@pytest.mark.parametrize(
    ("n_classes", "n_filters", "n_seeds", "spread"),
    [(2, 1, 6, 3.0), (2, 1, 6, 8.0), (4, 2, 3, 3.0)],
)
def test_planted_networks_are_found_up_to_noise(n_classes, n_filters, n_seeds, spread):
    found = [
        relative_excess(n_classes, seed, spread, n_filters) for seed in range(n_seeds)
    ]
    assert np.mean(found) < 1.5


def test_works_where_scikit_learn_takes_a_classifier():
    X, y, _ = planted(300, 3)
    names = np.array(["a", "b", "c"])[y]
    folds = StratifiedKFold(3)
    model = DeepTDClassifier(**SMALL)
    p = cross_val_predict(model, X, names, cv=folds, method="predict_proba")
    assert np.mean(names == np.array(["a", "b", "c"])[p.argmax(axis=1)]) > 0.5
    assert cross_val_score(model, X, names, cv=folds, scoring="neg_log_loss").max() < 0
    calibrated = CalibratedClassifierCV(model, cv=folds).fit(X, names)
    assert calibrated.score(X, names) > 0.5
    vote = VotingClassifier(
        [("network", model), ("linear", LogisticRegression())], voting="soft"
    ).fit(X, names)
    mean = (
        vote.estimators_[0].predict_proba(X) + vote.estimators_[1].predict_proba(X)
    ) / 2
    assert np.allclose(vote.predict_proba(X), mean, rtol=1e-12)


def test_a_grid_search_finds_the_planted_kernel_sizes():
    X, y, _ = planted(1500, 2, spread=5.0)
    grid = {"kernel_sizes": [(4, 3), (2, 6), (6, 2)], "alpha": [0.1, 300.0]}
    search = GridSearchCV(
        DeepTDClassifier(random_state=0), grid, cv=3, scoring="neg_log_loss"
    ).fit(X, y)
    assert search.best_params_ == {"kernel_sizes": (4, 3), "alpha": 0.1}


def test_pickles_and_clones():
    X, y, _ = planted(100, 3)
    model = DeepTDClassifier(**SMALL, class_weight="balanced").fit(X, y)
    loaded = pickle.loads(pickle.dumps(model))
    assert np.array_equal(loaded.predict_proba(X), model.predict_proba(X))
    copy = clone(model)
    assert copy.get_params() == model.get_params()
    assert not hasattr(copy, "classes_")


# Streams


def of_three_classes(n_rows):
    rng = np.random.RandomState(0)
    X = rng.randn(n_rows, 12)
    logits = np.maximum(X.reshape(-1, 3, 4) @ rng.randn(4, 3), 0).sum(axis=1)
    labels = (4 * logits + rng.gumbel(size=logits.shape)).argmax(axis=1)
    return X, np.array(["a", "b", "c"])[labels]


def test_a_stream_is_the_fit_of_all_its_rows():
    X, y = of_three_classes(900)
    stream = DeepTDClassifier((4, 3), random_state=0)
    for part in (slice(0, 300), slice(300, 600), slice(600, 900)):
        stream.partial_fit(X[part], y[part], classes=["c", "b", "a"])
    whole = DeepTDClassifier((4, 3), random_state=0).fit(X, y)
    np.testing.assert_array_equal(stream.classes_, ["a", "b", "c"])
    np.testing.assert_allclose(stream.moment_, whole.moment_, rtol=1e-9, atol=1e-12)
    gap = np.abs(stream.predict_proba(X) - whole.predict_proba(X)).mean()
    assert gap < 0.01


def test_a_part_that_does_not_fit_the_stream_changes_nothing():
    X, y = of_three_classes(300)
    model = DeepTDClassifier((4, 3), random_state=0)
    one = y == "a"
    with pytest.raises(ValueError, match="one class only"):
        model.partial_fit(X[one], y[one])
    with pytest.raises(ValueError, match=r"two classes, got \['a'\]"):
        model.partial_fit(X[one], y[one], classes=["a"])
    assert not hasattr(model, "_stream")
    known = y != "c"
    model.partial_fit(X[known], y[known])
    before = pickle.dumps(model)
    with pytest.raises(ValueError, match=r"y holds \['c'\], but the classes are"):
        model.partial_fit(X, y)
    with pytest.raises(ValueError, match="those of the stream"):
        model.partial_fit(X[known], y[known], classes=["a", "b", "c"])
    assert pickle.dumps(model) == before
    model.partial_fit(X[one], y[one])
    np.testing.assert_array_equal(model.classes_, ["a", "b"])


def test_balanced_classes_have_no_stream():
    model = DeepTDClassifier(class_weight="balanced")
    assert not hasattr(model, "partial_fit")


def test_the_first_batch_of_a_stream_may_lack_classes():
    X, y, _ = planted(400, 3)
    model = DeepTDClassifier(**SMALL)
    is_first = y < 2
    model.partial_fit(X[is_first], y[is_first], classes=[0, 1, 2])
    assert model.predict_proba(X)[:, 2].max() < 1e-3
    model.partial_fit(X[~is_first], y[~is_first])
    assert model.score(X, y) > DeepTDClassifier(**SMALL).fit(X, y).score(X, y) - 0.05


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_the_first_batches_of_a_stream_may_hold_one_class(n_classes, alpha):
    X, y, _ = planted(400, n_classes)
    model = DeepTDClassifier(**SMALL, alpha=alpha, class_weight={1: 2.0})
    is_first = y == 1
    for part in (slice(0, 20), slice(20, None)):
        batch = X[is_first][part], y[is_first][part]
        model.partial_fit(*batch, classes=range(n_classes))
        assert np.all(model.predict_proba(X)[:, 1] > 0.99)
        assert np.all(model.predict_proba(X) > 0)
    model.partial_fit(X[~is_first], y[~is_first])
    whole = clone(model).fit(X, y)
    assert model.score(X, y) > whole.score(X, y) - 0.05


def test_a_batch_whose_warning_is_an_error_does_not_count():
    X, y, _ = planted(200)
    model = DeepTDClassifier(**SMALL).partial_fit(X[:100], y[:100])
    before = pickle.dumps(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ConvergenceWarning):
            model.set_params(max_iter=1).partial_fit(X[100:], y[100:])
    assert pickle.dumps(model.set_params(max_iter=500)) == before


def test_a_stream_whose_unit_grows_is_no_worse_than_the_shares_of_the_classes():
    """Far samples of a likelihood have no curvature, so that no step comes back."""
    for seed in range(5):
        rng = np.random.RandomState(seed)
        X = rng.standard_normal((60, 6))
        y = (X[:, 0] + rng.standard_normal(60) > 0).astype(int)
        X[40:] *= 1e4
        model = DeepTDClassifier((2, 3), random_state=0)
        model.partial_fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
        shares = np.bincount(y) / 60
        assert log_loss(y, model.predict_proba(X)) <= -np.log(shares) @ shares + 1e-6
