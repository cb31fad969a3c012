"""What a fitted model holds: public types, annotated in its class, that are saved."""

import importlib
import io
import os
import subprocess
import sys
import types
import typing

import joblib
import numpy as np
import pytest
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import skdeeptd
from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDFeatures,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
    DeepTDRidgeClassifier,
    SignalScaler,
)
from skdeeptd.dask import DaskDeepTDClassifier, DaskDeepTDRegressor
from skdeeptd.export import TRUSTED_TYPES

GRID = {"kernel_sizes": [(4, 3)], "n_init": [1], "tol": [0.1]}
NETWORK = {"kernel_sizes": (4, 3), "n_init": 1, "tol": 0.1, "random_state": 0}
SHARED = {"share_filters": True, "strides": 1, "kernel_sizes": (4, -1)}
MODELS = [
    DeepTDRegressor(**NETWORK, alpha=1.0, loss="huber"),
    DeepTDRegressor(**NETWORK, alpha="loo"),
    DeepTDRegressor(**{**NETWORK, **SHARED}, polish=False),
    DeepTDRegressor((4, 2), covariates=[-1, 0, 1, 2], random_state=0),
    DeepTDClassifier(**NETWORK),
    DeepTDFeatures(n_filters=2, random_state=0),
    SignalScaler("snv"),
    DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned", random_state=0),
    DeepTDRidge(SignalScaler(), kernel="laplace", n_landmarks=20, random_state=0),
    DeepTDRidge(DeepTDFeatures(n_filters=2, random_state=0)),
    DeepTDRidgeClassifier(SignalScaler()),
    DeepTDRegressorCV(GRID, cv=2, random_state=0),
    DeepTDClassifierCV(GRID, cv=2, random_state=0),
    DeepTDAutoRegressor(cv=2, random_state=0),
    DeepTDAutoClassifier(cv=2, scoring="accuracy", random_state=0),
    DaskDeepTDRegressor(DeepTDRegressor(**NETWORK)),
    DaskDeepTDClassifier(DeepTDClassifier(**NETWORK)),
    make_pipeline(StandardScaler(), DeepTDRegressor(**NETWORK)),
]


def data_for(model):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 12))
    y = np.tanh(X[:, :4].sum(axis=1)) + X[:, 5]
    is_classifier = type(model).__name__.startswith(("DeepTD", "Dask")) and hasattr(
        model, "predict_proba"
    )
    return X, np.where(y > 0, "high", "low") if is_classifier else y


NAMES = [f"{type(m).__name__}{number}" for number, m in enumerate(MODELS)]


@pytest.fixture(scope="module", params=MODELS, ids=NAMES)
def model(request):
    """Return a fitted model, after two batches if the model can learn from batches."""
    model = clone(request.param)
    X, y = data_for(model)
    model.fit(X, y)
    if hasattr(model, "partial_fit") and model.covariates is None:
        model.partial_fit(X[:40], y[:40]).partial_fit(X[40:], y[40:])
    return model


def by_joblib(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


def by_skops(model):
    skops = pytest.importorskip("skops.io")
    saved = skops.dumps(model)
    assert set(skops.get_untrusted_types(data=saved)) <= set(TRUSTED_TYPES)
    return skops.loads(saved, trusted=TRUSTED_TYPES)


ways = pytest.mark.parametrize("save_and_load", [by_joblib, by_skops])


@ways
def test_a_fitted_model_is_saved(model, save_and_load):
    loaded, (X, _) = save_and_load(model), data_for(model)
    assert vars(loaded).keys() == vars(model).keys()
    for method in ("predict", "predict_proba", "transform"):
        if hasattr(model, method):
            found, expected = (getattr(m, method)(X) for m in (loaded, model))
            np.testing.assert_array_equal(found, expected)


@ways
def test_a_loaded_model_learns_the_next_batch_alike(save_and_load):
    model = DeepTDRegressor(**NETWORK)
    X, y = data_for(model)
    loaded = save_and_load(model.partial_fit(X[:40], y[:40]))
    for other in (model, loaded):
        other.partial_fit(X[40:], y[40:])
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))


@ways
@pytest.mark.parametrize("model", MODELS, ids=NAMES)
def test_a_model_before_fit_is_saved(model, save_and_load):
    assert repr(save_and_load(model)) == repr(model)


def test_all_estimators_are_trusted_and_nothing_else():
    modules = skdeeptd, importlib.import_module("skdeeptd.dask")
    own = {
        f"{value.__module__}.{value.__name__}"
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, type) and value.__module__.startswith("skdeeptd")
        if issubclass(value, BaseEstimator)
    }
    assert set(TRUSTED_TYPES) == own
    saved = {f"{type(m).__module__}.{type(m).__name__}" for m in MODELS}
    assert own <= saved


def test_fitted_attributes_have_the_annotated_types(model):
    if type(model).__module__.startswith("sklearn"):
        pytest.skip("a class of scikit-learn")
    hints = typing.get_type_hints(type(model))
    for name, value in vars(model).items():
        if name.endswith("_"):
            kind = kind_of(hints[name])
            assert kind is typing.Any or isinstance(value, kind), name


def kind_of(hint):
    """Return what ``isinstance`` takes: list for list[int]."""
    is_union = isinstance(hint, types.UnionType)
    return hint if is_union else typing.get_origin(hint) or hint


MLFLOW = """
import mlflow.sklearn, numpy as np, os, pathlib, sys
from sklearn.pipeline import make_pipeline
from skdeeptd import DeepTDAutoRegressor, SignalScaler
from skdeeptd.export import TRUSTED_TYPES
os.chdir(sys.argv[1])
X = np.random.default_rng(0).standard_normal((60, 12))
y = np.tanh(X[:, :4].sum(axis=1))
model = DeepTDAutoRegressor(cv=2, random_state=0).fit(X, y)
options = {"skops_trusted_types": TRUSTED_TYPES}
mlflow.sklearn.save_model(model, "saved", pip_requirements=[], **options)
loaded = mlflow.sklearn.load_model("saved")
assert np.array_equal(loaded.predict(X), model.predict(X))
mlflow.set_tracking_uri(pathlib.Path("runs").absolute().as_uri())
mlflow.sklearn.autolog()
with mlflow.start_run() as run:
    pipeline = make_pipeline(SignalScaler(), model).fit(X, y)
assert mlflow.get_run(run.info.run_id).data.metrics["training_r2_score"] > 0
[logged] = mlflow.search_logged_models(output_format="list")
loaded = mlflow.sklearn.load_model(logged.model_uri)
assert np.array_equal(loaded.predict(X), pipeline.predict(X))
"""


def test_mlflow_saves_and_logs(tmp_path):
    """Run where mlflow-skinny is installed, which takes minutes to install."""
    pytest.importorskip("mlflow.sklearn")
    environment = {**os.environ, "MLFLOW_ALLOW_FILE_STORE": "true"}
    command = [sys.executable, "-c", MLFLOW, str(tmp_path)]
    subprocess.run(command, check=True, env=environment)
