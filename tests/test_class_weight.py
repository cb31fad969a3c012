"""``class_weight`` means the same for all classifiers: factors of the weights."""

import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDRidgeClassifier,
)

GRID = {"kernel_sizes": [(2, 2)], "alpha": [0.3, 3.0]}
CLASSIFIERS = {
    "network": DeepTDClassifier(random_state=0),
    "ridge": DeepTDRidgeClassifier(random_state=0),
    "cv": DeepTDClassifierCV(GRID, cv=3, random_state=0),
    "auto": DeepTDAutoClassifier(cv=3, random_state=0),
}
OVER_CLASSIFIERS = pytest.mark.parametrize("name", CLASSIFIERS)
COUNTS = {1: 40, 2: 30, 3: 8}
BAD = {
    "negative": ({"a": -2.0, "b": 1.0}, "got -2.0 for class 'a'"),
    "NaN": ({"a": 1.0, "b": np.nan}, "got nan for class 'b'"),
    "infinite": ({"a": np.inf}, "got inf for class 'a'"),
    "text": ({"a": "2"}, "got '2' for class 'a'"),
    "zero for all": ({"a": 0, "b": 0, "c": 0}, "must be above 0 and finite"),
    "overflow": ({"a": 1e308}, "must be above 0 and finite"),
    "zero for all but one": ({"a": 0, "b": 0}, "y holds one class only, 'c'"),
    "other classes": (
        {0: 1.0, "b": 2.0},
        r"has \[0\], which y lacks, but not \['a', 'c'\]; give a weight for each of",
    ),
    "a word": ("balance", "'class_weight' parameter.*'balanced'.*Got 'balance'"),
    "a list": ([1.0, 2.0, 3.0], "'class_weight' parameter.*'dict'"),
}


def data():
    """Return three classes of 40, 30 and 8 rows, weights, and rows to predict."""
    X, label = load_iris(return_X_y=True)
    X = X[50:] + 0.4 * np.random.RandomState(0).standard_normal((100, 4))
    label = label[50:] + (np.arange(100) % 5 == 4)
    rows = np.concatenate([np.flatnonzero(label == k)[:n] for k, n in COUNTS.items()])
    rows = np.random.RandomState(1).permutation(rows)
    weight = np.random.RandomState(2).uniform(0.5, 2.0, len(rows))
    return X[rows], np.array(["a", "b", "c"])[label[rows] - 1], weight


@OVER_CLASSIFIERS
@pytest.mark.parametrize("kind", ["dict", "balanced"])
def test_class_weight_multiplies_the_weights_of_the_samples(name, kind):
    X, y, weight = data()
    classes, group = np.unique(y, return_inverse=True)
    factors, given = np.array([2.0, 1.0, 0.5]), {"a": 2.0, "c": 0.5}
    if kind == "balanced":
        sums = np.bincount(group, weight)
        factors, given = sums.sum() / (3 * sums), "balanced"
    model = clone(CLASSIFIERS[name]).set_params(class_weight=given).fit(X, y, weight)
    by_hand = clone(CLASSIFIERS[name]).fit(X, y, weight * factors[group])
    np.testing.assert_array_equal(model.classes_, classes)
    gap = model.predict_proba(X) - by_hand.predict_proba(X)
    assert np.abs(gap).max() < 1e-6
    if hasattr(model, "best_score_"):
        assert model.best_score_ == pytest.approx(by_hand.best_score_, rel=1e-9)


@OVER_CLASSIFIERS
def test_balanced_classes_without_weights_of_samples(name):
    """The rarest class gains probability."""
    X, y, _ = data()
    plain = clone(CLASSIFIERS[name]).fit(X, y)
    balanced = clone(plain).set_params(class_weight="balanced").fit(X, y)
    shares = [model.predict_proba(X)[:, 2].mean() for model in (plain, balanced)]
    assert shares[0] < 0.15 < 0.2 < shares[1]


@OVER_CLASSIFIERS
def test_a_class_of_weight_zero_is_none(name):
    X, y, _ = data()
    model = clone(CLASSIFIERS[name]).set_params(class_weight={"b": 0}).fit(X, y)
    assert model.classes_.tolist() == ["a", "c"]
    assert model.predict_proba(X).shape == (len(X), 2)


@OVER_CLASSIFIERS
@pytest.mark.parametrize("case", BAD)
def test_a_class_weight_that_makes_no_sense_is_an_error(name, case):
    class_weight, message = BAD[case]
    X, y, weight = data()
    model = clone(CLASSIFIERS[name]).set_params(class_weight=class_weight)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(ValueError, match=message):
            model.fit(X, y, 5 * weight)
    with pytest.raises(NotFittedError):
        check_is_fitted(model)


def test_numbers_may_name_classes_in_any_type():
    X, y, _ = data()
    label = np.searchsorted(["a", "b", "c"], y)
    found = [
        DeepTDClassifier(class_weight=weight, random_state=0).fit(X, label)
        for weight in (
            {1: 3.0},
            {np.int64(1): np.float32(3)},
            {1.0: 3, 0: 1, 2: 1, 9: 1},
        )
    ]
    for model in found[1:]:
        assert np.array_equal(model.predict_proba(X), found[0].predict_proba(X))
