import copy
import importlib.util
import io
import itertools
import pickle
import subprocess
import sys

import numpy as np
import pytest
from scipy.special import expit, softmax
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.ensemble import VotingRegressor
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

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
from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd.datasets import make_patch_cnn_classification
from skdeeptd.export import register_skl2onnx, to_onnx, to_torch

# Input shape, kernel sizes, activation of the hidden layers, strides.
CASES = {
    "one axis": ((24,), (4, 3, 2), ("relu", "leaky_relu")),
    "one layer": ((7,), (7,), ()),
    "gains": ((24,), (4, 3, 2), ("tanh", "softplus")),
    "padded": ((23,), (4, 3, 2), ("relu", "logistic")),
    "two axes": ((4, 6), ((2, 3), (2, 1), (1, 2)), ("relu", "tanh")),
    "padded axes": ((5, 7), ((2, 3), (3, 3)), ("softplus",)),
    "channels": ((4, 4, 3), ((2, 2, 3), (2, 2)), ("relu",)),
    "late channels": ((4, 4, 3), ((2, 2), (2, 2, 3)), ("identity",)),
    "four axes": ((2, 4, 2, 3), ((2, 2, 1, 3), (1, 2, 2)), ("logistic",)),
    "overlap": ((14,), (4, -1), ("tanh",), 2),
    "overlap in two layers": ((20,), (4, 3, -1), ("relu", "tanh"), (2, 1)),
    "overlap above tiles": ((24,), (4, 3, -1), ("tanh",) * 2, (4, 1)),
    "overlap of padded": ((17,), (3, 4, -1), ("softplus", "relu"), (2, 3)),
    "overlap on two axes": ((5, 6), ((3, 2), -1), ("tanh",), ((2, 1),)),
    "overlap of padded axes": ((6, 5), (3, 2, -1), ("tanh", "relu"), 2),
    "overlap of channels": (
        (6, 4, 3),
        ((3, 3, 3), (2, 1), -1),
        ("leaky_relu", "tanh"),
        ((2, 1, 3), 1),
    ),
    "overlap on three axes": ((4, 3, 3), (2, 2, -1), ("tanh",) * 2, 1),
    "overlap on four axes": (
        (3, 4, 2, 3),
        ((2, 3, 1, 2), (1, 2, 2), -1),
        ("tanh", "relu"),
        ((1, 2, 1, 1), 1),
    ),
}
RTOL = {np.float64: 1e-12, np.float32: 1e-6}


def random_model(
    input_shape=(24,),
    kernel_sizes=(4, 3, 2),
    activation="tanh",
    strides=None,
    *,
    dtype=np.float64,
    n_filters=3,
    n_outputs=2,
    **parameters,
):
    """A fitted model whose gains, biases, scales and intercepts were drawn anew."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, *input_shape)).astype(dtype)
    features = X.reshape(60, -1)
    y = features @ rng.standard_normal((features.shape[1], n_outputs or 1))
    y = y if n_outputs else y[:, 0]
    model = DeepTDRegressor(
        kernel_sizes,
        activation=activation,
        strides=strides,
        n_filters=n_filters,
        polish=False,
        random_state=0,
        **parameters,
    ).fit(X, y)
    draw_anew(model, rng, dtype)
    return model, X


def draw_anew(model, rng, dtype):
    for name in ("gains_", "biases_", "scales_", "intercept_"):
        drawn = rng.standard_normal(getattr(model, name).shape).astype(dtype)
        setattr(model, name, drawn)


def assert_as_predicted(output, model, X):
    expected = model.predict(X)
    assert output.shape == expected.shape
    assert output.dtype == expected.dtype
    atol = RTOL[X.dtype.type] * np.abs(expected).max()
    np.testing.assert_allclose(output, expected, rtol=0, atol=atol)


def run_torch(model, X):
    torch = pytest.importorskip("torch")
    return to_torch(model)(torch.from_numpy(X)).detach().numpy()


def run_onnx(model, X):
    pytest.importorskip("onnx")
    return run_graph(to_onnx(model), X.reshape(len(X), -1))


def run_graph(graph, X):
    (output,) = outputs_of_graph(graph, X).values()
    return output


def outputs_of_graph(graph, X):
    """By name."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(
        graph.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, {"X": X}), strict=True))


def needs(*modules):
    """Skip a test before anything is fitted."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"could not import {missing}")


in_torch = needs("torch")
both = pytest.mark.parametrize(
    "run",
    [
        pytest.param(run_torch, marks=in_torch),
        pytest.param(run_onnx, marks=needs("onnx", "onnxruntime")),
    ],
)
of_dtypes = pytest.mark.parametrize("dtype", RTOL)


@both
@pytest.mark.parametrize(
    ("dtype", "hidden_bias"), [(np.float64, True), (np.float32, False)]
)
@pytest.mark.parametrize("case", CASES)
def test_output_is_that_of_predict(run, dtype, hidden_bias, case):
    model, X = random_model(*CASES[case], dtype=dtype, hidden_bias=hidden_bias)
    for n_samples in (1, 2, 60):
        assert_as_predicted(run(model, X[:n_samples]), model, X[:n_samples])


@both
@pytest.mark.parametrize("n_outputs", [None, 1, 2])
@pytest.mark.parametrize("n_filters", [1, 2])
def test_output_has_the_shape_of_y(run, n_outputs, n_filters):
    model, X = random_model(n_outputs=n_outputs, n_filters=n_filters)
    assert_as_predicted(run(model, X), model, X)


@both
@of_dtypes
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_are_exact_far_from_zero(run, dtype, name):
    """One layer of one weight: the output is the activation."""
    model, _ = random_model((1,), (1,), activation=(), output_activation=name)
    for attribute in ("gains_", "scales_"):
        setattr(model, attribute, np.ones_like(getattr(model, attribute)))
    model.kernels_ = [np.ones((2, 3, 1), dtype)]
    model.gains_, model.scales_ = np.ones((2, 3, 1), dtype), np.eye(2, 3, dtype=dtype)
    model.intercept_ = np.zeros(2, dtype)
    z = np.append(np.linspace(-80, 80, 1601), [-1e3, 1e3]).astype(dtype)[:, np.newaxis]
    tiny = np.finfo(dtype).tiny
    np.testing.assert_allclose(
        run(model, z), model.predict(z), rtol=RTOL[dtype], atol=tiny
    )


# Filters, ridge regression on them, and averages of models

FEATURES = {
    "a signal": (40,),
    "a long signal": (900,),  # not every position has a patch
    "a short signal": (3,),
    "an image": (7, 8),
    "channels first": (3, 30),
    "channels last": (6, 7, 2),
    "three axes": (4, 3, 4),
    "four axes": (3, 4, 2, 3),
}
POOLING = ["global", "local", 3, ["local", "global", 2]]
VIEWS = (None, "derivative", "snv")


def rows_of(shape, dtype=np.float64, n_outputs=None):
    """One feature hardly varies; a second set of rows is far from the first.

    The last rows are constant, and nearly constant.
    """
    rng = np.random.default_rng(0)
    X = 3 + rng.standard_normal((120, *shape))
    X.reshape(120, -1)[:, 1] = 3 + 1e-4 * rng.standard_normal(120)
    X[60:] *= 3
    X[-2:] = 0.1
    X[-1].flat[0] += 1e-16
    y = np.maximum(X, 3).reshape(120, -1) @ rng.uniform(
        size=(X[0].size, n_outputs or 1)
    )
    y += 0.1 * rng.standard_normal(y.shape)
    return X.astype(dtype), y if n_outputs else y[:, 0]


def labels_of(y, classes):
    """As many samples of each class, nearly."""
    edges = np.quantile(y[:60], np.arange(1, len(classes)) / len(classes))
    return np.array(classes)[np.digitize(y, edges)]


def features_on(shape=(40,), dtype=np.float64, **parameters):
    X, y = rows_of(shape, dtype)
    parameters = {"n_filters": 4, "n_random_filters": 3, **parameters}
    return DeepTDFeatures(random_state=0, **parameters).fit(X[:60], y[:60]), X


def scaler_on(shape=(40,), dtype=np.float64, view=None):
    X, _ = rows_of(shape, dtype)
    return SignalScaler(view).fit(X[:60]), X


def transformers(view=None, **common):
    filters = {"n_filters": 4, "n_random_filters": 3, "random_state": 0}
    return {
        "signal": SignalScaler(view, **common),
        "filters": DeepTDFeatures(view=view, pooling=[1, 3], **filters, **common),
    }


def ridge_on(shape=(40,), dtype=np.float64, n_outputs=None, on="filters", **parameters):
    """The model, and rows of which the last sixty are not those of the fit."""
    X, y = rows_of(shape, dtype, n_outputs)
    model = DeepTDRidge(transformers()[on], random_state=0, **parameters)
    return model.fit(X[:60], y[:60]), X


def learned_on(*args, **parameters):
    return ridge_on(*args, kernel="laplace", metric="learned", **parameters)


def ridge_classifier_on(classes=("no", "yes"), on="signal", **parameters):
    X, y = rows_of((40,))
    model = DeepTDRidgeClassifier(transformers()[on], random_state=0, **parameters)
    return model.fit(X[:60], labels_of(y, classes)[:60]), X


def average_on(shape=(40,), dtype=np.float64, n_outputs=None):
    """A model whose members and weights were put in its place."""
    X, y = rows_of(shape, dtype, n_outputs)
    rows, targets = X[:60].reshape(60, -1), y[:60]
    model = DeepTDAutoRegressor(max_time=1e-9, cv=2, input_shape=shape)
    with pytest.warns(UserWarning, match="max_time"):
        model.fit(rows, targets)
    kinds = transformers(input_shape=shape)
    network = DeepTDRegressor((4, -1), strides=2, input_shape=shape, random_state=0)
    members = [
        network.set_params(polish=False),
        DeepTDRidge(kinds["filters"], random_state=0),
        DeepTDRidge(kinds["signal"], kernel="rbf", random_state=0),
    ]
    model.estimators_ = [member.fit(rows, targets) for member in members]
    model.weights_ = drawn_weights(3, n_outputs or 1)
    return model, X


def average_of_classes_on(classes=("no", "perhaps", "yes")):
    X, y = rows_of((40,))
    labels = labels_of(y, classes)[:60]
    model = DeepTDAutoClassifier(max_time=1e-9, cv=2)
    with pytest.warns(UserWarning, match="max_time"):
        model.fit(X[:60], labels)
    network = DeepTDClassifier((4, -1), strides=2, random_state=0)
    members = [
        network.set_params(polish=False, n_init=1),
        DeepTDRidgeClassifier(transformers()["filters"], random_state=0),
        DeepTDRidgeClassifier(transformers()["signal"], kernel="laplace"),
    ]
    model.estimators_ = [member.fit(X[:60], labels) for member in members]
    model.weights_ = drawn_weights(3, 1)[:, 0]
    return model, X


def drawn_weights(*shape):
    drawn = np.random.default_rng(1).uniform(size=shape)
    return drawn / drawn.sum(axis=0)


def assert_as_computed(output, expected, dtype=np.float64, rtol=1e-10):
    """Relative to the largest number."""
    assert output.shape == expected.shape
    assert output.dtype == dtype
    atol = {np.float64: rtol, np.float32: 1e-4}[dtype] * np.abs(expected).max()
    np.testing.assert_allclose(output, expected, rtol=0, atol=atol)


@both
@pytest.mark.parametrize("pooling", POOLING)
@pytest.mark.parametrize("case", FEATURES)
def test_features_are_those_of_transform(run, pooling, case):
    features, X = features_on(FEATURES[case], pooling=pooling)
    table = features.transform(X)
    assert np.any(np.abs(table) == 5)
    for n_samples in (1, 120):
        assert_as_computed(run(features, X[:n_samples]), table[:n_samples])


@both
@pytest.mark.parametrize("pooling", POOLING)
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(4,), (40,), (3, 30)])
def test_features_of_views_are_those_of_transform(run, shape, view, pooling):
    features, X = features_on(shape, view=view, pooling=pooling)
    assert_as_computed(run(features, X), features.transform(X))


@both
def test_features_of_other_sizes_and_dilations(run):
    sizes = {"kernel_sizes": [(2, 3), (1, 1)], "dilations": [1]}
    features, X = features_on((7, 8), **sizes, pooling=["local", 5])
    assert_as_computed(run(features, X), features.transform(X))
    features, X = features_on(kernel_sizes=[5, 2], dilations=[1, 3, 7])
    assert_as_computed(run(features, X), features.transform(X))


@both
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("shape", [(3,), (4,), (40,), (3, 30), (30, 2)])
def test_scaled_signals_are_those_of_transform(run, shape, view):
    scaler, X = scaler_on(shape, view=view)
    table = scaler.transform(X)
    assert shape == (3,) or np.any(np.abs(table) == 5) or view == "snv"
    assert_as_computed(run(scaler, X), table)


@both
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("make", [scaler_on, features_on])
def test_constant_signals_and_channels(run, make, view):
    """No division by zero, also in gradients with respect to X."""
    transformer, X = make((3, 30), view=view)
    X[:, 1] = 0.1
    transformer.fit(X[:60], X[:60, 0, 0])
    X[5], X[6, 0], X[6, 2] = 0.0, 7.0, -50.0
    table = transformer.transform(X)
    assert np.all(np.isfinite(table))
    assert_as_computed(run(transformer, X), table)
    torch = pytest.importorskip("torch")
    X = torch.tensor(X, requires_grad=True)
    to_torch(transformer)(X).square().sum().backward()
    assert torch.all(torch.isfinite(X.grad))


RIDGES = [
    {"kernel": "linear"},
    {"kernel": "rbf"},
    {"kernel": "laplace"},
    {"kernel": "rbf", "metric": "learned"},
    {"kernel": "laplace", "metric": "learned"},
    {"kernel": "rbf", "n_landmarks": 20},
    {"kernel": "laplace", "metric": "learned", "n_landmarks": 20},
]


@both
@pytest.mark.parametrize("n_outputs", [None, 2])
@pytest.mark.parametrize("on", ["signal", "filters"])
@pytest.mark.parametrize("parameters", RIDGES)
def test_ridge_is_that_of_predict(run, parameters, on, n_outputs):
    """Distances from a row to itself are rounding, and "laplace" takes the root."""
    ridge, X = ridge_on(on=on, n_outputs=n_outputs, **parameters)
    output, expected = run(ridge, X), ridge.predict(X)
    assert_as_computed(output[60:], expected[60:])
    rtol = 1e-6 if ridge.kernel_ == "laplace" else 1e-10
    assert_as_computed(output, expected, rtol=rtol)


def test_metrics_and_landmarks_were_compared():
    ridge, _ = learned_on()
    assert hasattr(ridge, "components_")
    ridge, _ = learned_on(n_landmarks=20)
    assert hasattr(ridge, "components_")
    assert len(ridge.X_fit_) < 60


@both
@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("on", ["signal", "filters"])
def test_ridge_of_views(run, on, view):
    X, y = rows_of((40,))
    ridge = DeepTDRidge(transformers(view)[on], kernel="rbf").fit(X[:60], y[:60])
    assert_as_computed(run(ridge, X), ridge.predict(X))


@both
@pytest.mark.parametrize("kernel", ["linear", "rbf"])
def test_parameters_set_after_fit_are_not_exported(run, kernel):
    ridge, X = ridge_on(kernel=kernel)
    expected = ridge.predict(X)
    ridge.set_params(kernel="rbf" if kernel == "linear" else "linear")
    ridge.features_.set_params(view="snv", pooling="local", n_filters=1)
    assert_as_computed(run(ridge, X), expected)


@both
def test_a_statistic_without_translation_is_an_error(run, monkeypatch):
    features, X = features_on()
    name = "skdeeptd._export.layers.statistics_of"
    monkeypatch.setattr(name, lambda *_: ("median",))
    with pytest.raises(ValueError, match=r"statistic 'median' cannot .*share0.* max"):
        run(features, X)


@both
@pytest.mark.parametrize("name", ["view", "kernel"])
def test_a_view_or_a_kernel_without_translation_is_an_error(run, name):
    model, X = ridge_on(kernel="rbf")
    setattr(model.features_ if name == "view" else model, f"{name}_", "cosine")
    with pytest.raises(ValueError, match=f"the {name} 'cosine' cannot be exported"):
        run(model, X)


@both
@pytest.mark.parametrize("n_outputs", [None, 1, 2])
@pytest.mark.parametrize("shape", [(40,), (6, 7)])
def test_an_average_is_that_of_predict(run, shape, n_outputs):
    model, X = average_on(shape, n_outputs=n_outputs)
    assert_as_computed(run(model, X), model.predict(X))


@both
@pytest.mark.parametrize("n_outputs", [None, 2])
def test_an_average_as_it_was_fitted(run, n_outputs):
    X, y = load_digits(return_X_y=True)
    X, y = X[:150].reshape(-1, 8, 8), y[:150]
    y = y if n_outputs is None else np.column_stack([y, X[:, 3, 4]])
    model = DeepTDAutoRegressor(cv=3, random_state=0).fit(X[:100], y[:100])
    assert len(model.estimators_) > 1
    assert_as_computed(run(model, X[100:]), model.predict(X[100:]))


def searched(kind, y):
    """A search with one network."""
    X, _ = rows_of((12,))
    grid = {"kernel_sizes": [(4, 3)], "tol": [0.1], "n_init": [1]}
    return kind(grid, cv=2, random_state=0).fit(X[:60], y[:60]), X


@both
def test_a_search_is_a_member_of_an_average(run):
    _, y = rows_of((12,))
    search, X = searched(DeepTDRegressorCV, y)
    model = DeepTDAutoRegressor(
        extra_estimators=[("search", search)], cv=2, ensemble_size=1, random_state=0
    ).fit(X[:60], y[:60])
    model.estimators_ = [search]
    assert_as_computed(run(model, X), search.predict(X))


def test_an_average_with_another_member_is_refused():
    model, _ = average_on()
    model.estimators_ = [*model.estimators_, Ridge()]
    for export in (to_torch, to_onnx):
        with pytest.raises(TypeError, match=r"not a Ridge.*extra_estimators"):
            export(model)


@pytest.mark.parametrize(
    "make", [features_on, scaler_on, ridge_on, learned_on, average_on]
)
def test_torch_in_float32(make):
    torch = pytest.importorskip("torch")
    model, X = make(dtype=np.float32)
    method = "predict" if hasattr(model, "predict") else "transform"
    with torch.no_grad():
        output = to_torch(model).float()(torch.from_numpy(X)).numpy()
    assert_as_computed(output, getattr(model, method)(X), np.float32)


def test_torch_kernel_of_a_row_with_itself_is_one_in_float32():
    """The difference of squares of float32 would give a distance of 1e-3."""
    torch = pytest.importorskip("torch")
    ridge, _ = ridge_on(kernel="laplace")
    kernel = to_torch(ridge).float().kernel
    rows = kernel.rows.clone().requires_grad_()
    gram = kernel(rows)
    assert torch.all(gram.diagonal() == 1)
    gram.sum().backward()
    assert torch.all(torch.isfinite(rows.grad))


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("make", [features_on, scaler_on])
def test_a_fit_to_float32_is_exported_in_float64(make, view):
    pytest.importorskip("torch")
    model, X = make(dtype=np.float32, view=view)
    X = X.astype(float)
    for run in (run_torch, run_onnx):
        assert_as_computed(run(model, X), model.transform(X))


def test_torch_of_an_average_is_made_of_small_pieces():
    pytest.importorskip("torch")
    module = to_torch(average_on()[0])
    names = [[name for name, _ in m.named_children()] for m in module.members]
    assert names[1:] == [
        ["features", "ridge", "output"],
        ["features", "kernel", "ridge", "output"],
    ]
    assert next(name for name, _ in module.members[0].named_children()) == "input"
    module = to_torch(learned_on()[0])
    names = [name for name, _ in module.named_children()]
    assert names == ["features", "metric", "kernel", "ridge", "output"]
    names = [name for name, _ in module.features.named_children()]
    assert names == ["input", "signals", "standard", "banks", "output"]
    assert "view" in dict(to_torch(scaler_on(view="snv")[0]).named_children())


@pytest.mark.parametrize(
    "make", [average_on, ridge_on, learned_on, average_of_classes_on]
)
def test_torch_module_of_features_is_trained_copied_and_saved(make):
    torch = pytest.importorskip("torch")
    model, X = make()
    module, X = to_torch(model), torch.from_numpy(X)
    before = module(X).detach()
    module(X).square().mean().backward()
    parameters = list(module.parameters())
    assert any("conv" in name for name, _ in module.named_parameters())
    assert all(torch.any(p.grad != 0) for p in parameters)
    assert all(torch.all(torch.isfinite(p.grad)) for p in parameters)
    with torch.no_grad():
        for parameter in parameters:
            parameter += 0.01
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    others = [torch.load(file, weights_only=False), pickle.loads(pickle.dumps(module))]
    for other in (copy.deepcopy(module), *others):
        assert torch.equal(other(X), module(X))
        assert not torch.allclose(other(X), before)
    blank = to_torch(model)
    blank.load_state_dict(module.state_dict())
    assert torch.equal(blank(X), module(X))


@pytest.mark.parametrize("kernel", ["linear", "rbf"])
@pytest.mark.parametrize("make", ["regressor", "classifier"])
def test_torch_state_has_all_numbers_of_the_model(make, kernel):
    """The state of one model in the module of another."""
    torch = pytest.importorskip("torch")
    X, y = rows_of((40,))
    kind = DeepTDRidge if make == "regressor" else DeepTDRidgeClassifier
    y = y if make == "regressor" else labels_of(y, ["no", "yes"])
    modules = [
        to_torch(kind(transformers()["filters"], kernel=kernel).fit(scale * X, y))
        for scale, X, y in ((1, X[:60], y[:60]), (2, X[2:62], y[2:62]))
    ]
    with torch.no_grad():
        expected = modules[0](torch.from_numpy(X))
        assert not torch.allclose(modules[1](torch.from_numpy(X)), expected)
        modules[1].load_state_dict(modules[0].state_dict())
        assert torch.equal(modules[1](torch.from_numpy(X)), expected)


def test_torch_trains_the_kernels_of_features():
    """The gradient of every kernel whose responses vary."""
    torch = pytest.importorskip("torch")
    features, X = features_on(view="derivative", pooling=[1, 3])
    module, X = to_torch(features), torch.from_numpy(X[:60])
    target = torch.from_numpy(np.random.default_rng(1).standard_normal(60))
    optimizer = torch.optim.SGD(module.parameters(), lr=1e-3)
    losses = []
    for _ in range(3):
        optimizer.zero_grad()
        loss = torch.mean((module(X).mean(1) - target) ** 2)
        loss.backward()
        for _, bank in module.banks.parts.named_children():
            assert torch.all(bank.conv.weight.grad.abs().sum((1, 2)) > 0)
        optimizer.step()
        losses.append(loss.item())
    assert losses[2] < losses[1] < losses[0]


ALL_KINDS = [
    average_on,
    ridge_on,
    learned_on,
    features_on,
    scaler_on,
    ridge_classifier_on,
    average_of_classes_on,
]


@pytest.mark.parametrize("make", ALL_KINDS)
def test_onnx_of_features_is_valid(make):
    onnx = pytest.importorskip("onnx")
    graph = to_onnx(make()[0])
    onnx.checker.check_model(graph, full_check=True)
    assert (graph.opset_import[0].version, graph.ir_version) == (17, 8)


# Pipelines, and the dtype of the graph

SCALERS = {
    "both": (StandardScaler(),),
    "no mean": (StandardScaler(with_mean=False),),
    "no spread": ("passthrough", StandardScaler(with_std=False)),
    "neither": (StandardScaler(with_mean=False, with_std=False), None),
    "signals": (StandardScaler(), SignalScaler("snv")),
    "pipeline": (make_pipeline(StandardScaler(), StandardScaler()),),
}
NETWORK = DeepTDRegressor((4, 3), polish=False, random_state=0)


def pipeline_on(scalers, last, dtype=np.float64, classes=None):
    """The units of the features differ, so that a scaler that is missing shows."""
    X, y = rows_of((12,))
    X = (X * np.arange(1, 13)).astype(dtype)
    y = y if classes is None else labels_of(y, classes)
    return make_pipeline(*SCALERS[scalers], last).fit(X[:60], y[:60]), X


@both
@pytest.mark.parametrize("scalers", SCALERS)
@pytest.mark.parametrize(
    ("last", "dtype"),
    [
        (NETWORK, np.float64),
        (NETWORK, np.float32),
        (DeepTDRidge(SignalScaler()), np.float64),
    ],
)
def test_a_pipeline_is_that_of_predict(run, last, dtype, scalers):
    pipeline, X = pipeline_on(scalers, last, dtype)
    assert_as_computed(run(pipeline, X), pipeline.predict(X), dtype)


@pytest.mark.parametrize(
    ("last", "classes"),
    [
        (DeepTDClassifier((4, 3), n_init=1), ("no", "yes")),
        (DeepTDRidgeClassifier(SignalScaler()), (7, -2, 4)),
    ],
)
def test_a_pipeline_of_classes_is_that_of_predict_proba(last, classes):
    require_both()
    pipeline, X = pipeline_on("signals", last, classes=classes)
    assert_classes_as_computed(pipeline, X)


@both
def test_a_pipeline_is_a_member_of_an_average(run):
    model, X = average_on()
    member = make_pipeline(StandardScaler(), model.estimators_[1])
    model.estimators_[1] = member.fit(X[:60], X[:60, 0])
    assert_as_computed(run(model, X), model.predict(X))


@pytest.mark.parametrize("make", [*ALL_KINDS, random_model])
def test_onnx_in_float32_of_a_fit_to_float64(make):
    pytest.importorskip("onnx")
    model, X = make()
    X = X.astype(np.float32)
    *_, output = outputs_of_graph(to_onnx(model, "float32"), X).values()
    methods = ("predict_proba", "predict", "transform")
    method = next(m for m in methods if hasattr(model, m))
    assert_as_computed(output, getattr(model, method)(X), np.float32)


def test_onnx_in_float64_of_a_fit_to_float32():
    pytest.importorskip("onnx")
    model, X = random_model(dtype=np.float32)
    X = X.astype(float)
    output = run_graph(to_onnx(model, np.float64), X)
    assert_as_computed(output, model.predict(X), rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", int])
def test_onnx_in_another_dtype_is_an_error(dtype):
    with pytest.raises(ValueError, match="dtype must be float32 or float64, got"):
        to_onnx(random_model()[0], dtype)


@of_dtypes
@pytest.mark.parametrize(
    "steps",
    [
        (DeepTDFeatures(view="derivative", random_state=0), Ridge()),
        (DeepTDFeatures(pooling=["local", 3], random_state=0), Ridge()),
        (SignalScaler("snv"), Ridge()),
        (DeepTDRidge(random_state=0),),
        (DeepTDRidge(SignalScaler("derivative"), kernel="rbf"),),
        (DeepTDRidge(kernel="laplace", metric="learned", random_state=0),),
        (DeepTDAutoRegressor(cv=2, random_state=0),),
    ],
)
def test_features_in_a_pipeline_by_skl2onnx(dtype, steps):
    skl2onnx, onnx = map(pytest.importorskip, ("skl2onnx", "onnx"))
    register_skl2onnx()
    X, y = rows_of((30,))
    pipeline = make_pipeline(StandardScaler(), *map(clone, steps)).fit(X[:60], y[:60])
    X = X[60:118].astype(dtype)
    graph = skl2onnx.to_onnx(pipeline, X, target_opset=17)
    onnx.checker.check_model(graph, full_check=True)
    output = run_graph(graph, X)
    assert output.shape == (58, 1)
    assert_as_computed(output[:, 0], pipeline.predict(X), dtype)


@of_dtypes
@pytest.mark.parametrize(
    "transformer", [DeepTDFeatures(random_state=0), SignalScaler("snv")]
)
def test_transformers_by_skl2onnx(dtype, transformer):
    skl2onnx = pytest.importorskip("skl2onnx")
    register_skl2onnx()
    X, y = rows_of((30,), dtype)
    transformer = clone(transformer).fit(X[:60], y[:60])
    output = run_graph(skl2onnx.to_onnx(transformer, X[60:], target_opset=17), X[60:])
    assert_as_computed(output, transformer.transform(X[60:]), dtype)


def test_slopes_of_large_signals_in_float32_by_skl2onnx():
    """Products of float32 would be off by a hundredth."""
    skl2onnx = pytest.importorskip("skl2onnx")
    register_skl2onnx()
    X, _ = rows_of((30,))
    X = (1e4 + X[:60]).astype(np.float32)
    scaler = SignalScaler("derivative").fit(X)
    output = run_graph(skl2onnx.to_onnx(scaler, X, target_opset=17), X)
    assert_as_computed(output, scaler.transform(X), np.float32)


# Classes of ridge regressions and averages

CLASSES = [("no", "yes"), (7, -2, 4), ("a", "c", "b", "d")]
of_all_classes = pytest.mark.parametrize("classes", CLASSES)


def probabilities_of(logits):
    """As torch.nn.BCEWithLogitsLoss and CrossEntropyLoss take them."""
    if logits.ndim == 1:
        return np.column_stack([expit(-logits), expit(logits)])
    return softmax(logits, axis=1)


def assert_classes_as_computed(model, X, rtol=1e-10):
    expected = model.predict_proba(X)
    logits = run_torch(model, X)
    n_classes = expected.shape[1]
    assert logits.shape == ((len(X),) if n_classes == 2 else expected.shape)
    assert_as_computed(probabilities_of(logits), expected, rtol=rtol)
    logs = np.log(expected)
    logs = logs[:, 1] - logs[:, 0] if n_classes == 2 else logs
    np.testing.assert_allclose(logits, logs, rtol=0, atol=100 * rtol)
    outputs = outputs_of_graph(to_onnx(model), X.reshape(len(X), -1))
    assert list(outputs) == ["label", "probabilities"]
    assert_as_computed(outputs["probabilities"], expected, rtol=rtol)
    np.testing.assert_array_equal(outputs["label"], model.predict(X))


def require_both():
    for package in ("torch", "onnx", "onnxruntime"):
        pytest.importorskip(package)


@pytest.mark.parametrize("on", ["signal", "filters"])
@pytest.mark.parametrize(
    ("parameters", "classes"), list(zip(RIDGES, itertools.cycle(CLASSES)))
)
def test_ridge_classes_are_those_of_predict_proba(parameters, on, classes):
    require_both()
    model, X = ridge_classifier_on(classes, on, **parameters)
    assert_classes_as_computed(model, X[60:])
    assert_classes_as_computed(model, X[:60], rtol=1e-6)


@of_all_classes
def test_averages_of_classes_are_those_of_predict_proba(classes):
    require_both()
    model, X = average_of_classes_on(classes)
    assert_classes_as_computed(model, X[60:])


@pytest.mark.parametrize("n_classes", [2, 3, 10])
def test_an_average_of_classes_as_it_was_fitted(n_classes):
    require_both()
    X, y = load_digits(n_class=max(n_classes, 3), return_X_y=True)
    X, labels = X.reshape(-1, 8, 8)[::3], np.array(list("abcdefghij"))[y % n_classes]
    model = DeepTDAutoClassifier(cv=2, random_state=0).fit(X[:100], labels[::3][:100])
    assert len(model.estimators_) > 1
    assert_classes_as_computed(model, X[100:])


def test_a_search_is_a_member_of_an_average_of_classes():
    require_both()
    model, X = average_of_classes_on()
    _, y = rows_of((40,))
    grid = {"kernel_sizes": [(4, -1)], "tol": [0.1], "n_init": [1]}
    search = DeepTDClassifierCV(grid, cv=2, random_state=0)
    model.estimators_[0] = search.fit(X[:60], labels_of(y, model.classes_)[:60])
    assert_classes_as_computed(model, X[60:])


def test_torch_logits_of_an_average_are_finite_if_probabilities_are_zero():
    torch = pytest.importorskip("torch")
    model, X = average_of_classes_on()
    network = model.estimators_[0]
    model.estimators_, model.weights_ = [network], np.ones(1)
    network.scales_ *= 1e6
    assert np.min(model.predict_proba(X)) == 0
    module, labels = to_torch(model), torch.zeros(len(X), dtype=int)
    loss = torch.nn.CrossEntropyLoss()(module(torch.from_numpy(X)), labels)
    loss.backward()
    assert np.isfinite(loss.item())
    assert all(torch.all(torch.isfinite(p.grad)) for p in module.parameters())


@pytest.mark.parametrize("classes", [("no", "yes"), (2, 0, 1)])
@pytest.mark.parametrize("make", [ridge_classifier_on, average_of_classes_on])
def test_torch_loss_of_classes_is_that_of_the_probabilities(make, classes):
    torch = pytest.importorskip("torch")
    model, X = make(classes)
    labels = np.random.default_rng(0).integers(0, len(classes), len(X))
    logits = to_torch(model)(torch.from_numpy(X))
    if len(classes) == 2:
        targets = torch.from_numpy(labels.astype(float))
        loss = torch.nn.BCEWithLogitsLoss()(logits, targets)
    else:
        loss = torch.nn.CrossEntropyLoss()(logits, torch.from_numpy(labels))
    log_p = np.log(model.predict_proba(X))[np.arange(len(X)), labels]
    assert loss.item() == pytest.approx(-np.mean(log_p), rel=1e-8)
    loss.backward()


@pytest.mark.parametrize("make", [ridge_classifier_on, average_of_classes_on])
def test_torch_of_classes_in_float32(make):
    torch = pytest.importorskip("torch")
    model, X = make()
    with torch.no_grad():
        logits = to_torch(model).float()(torch.from_numpy(X).float()).numpy()
    expected = model.predict_proba(X.astype(np.float32))
    np.testing.assert_allclose(probabilities_of(logits), expected, atol=1e-4)


@of_dtypes
@pytest.mark.parametrize(
    ("model", "classes"),
    [
        (DeepTDRidgeClassifier(random_state=0), ("no", "yes")),
        (DeepTDRidgeClassifier(SignalScaler(), kernel="laplace"), (7, -2, 4)),
        (DeepTDAutoClassifier(cv=2, ensemble_size=2, random_state=0), CLASSES[2]),
    ],
)
def test_classes_in_a_pipeline_by_skl2onnx(model, classes, dtype):
    skl2onnx, onnx = map(pytest.importorskip, ("skl2onnx", "onnx"))
    register_skl2onnx()
    X, y = rows_of((30,))
    pipeline = make_pipeline(StandardScaler(), clone(model))
    pipeline.fit(X[:60], labels_of(y, classes)[:60])
    X = X[60:118].astype(dtype)
    options = {id(pipeline[-1]): {"zipmap": False}}
    graph = skl2onnx.to_onnx(pipeline, X, options=options, target_opset=17)
    onnx.checker.check_model(graph, full_check=True)
    outputs, expected = outputs_of_graph(graph, X), pipeline.predict_proba(X)
    assert_as_computed(outputs["probabilities"], expected, dtype)
    second, first = np.sort(expected, axis=1)[:, -2:].T
    sure = first - second > 2e-4
    assert np.mean(sure) > 0.9
    np.testing.assert_array_equal(outputs["label"][sure], pipeline.predict(X)[sure])


# Networks again


@both
def test_of_a_model_that_predicts_a_constant(run):
    X = np.vstack([np.eye(4), -np.eye(4)])
    with pytest.warns(UserWarning, match="Nothing could be learned"):
        model = DeepTDRegressor((2, 2)).fit(X, np.abs(X).sum(axis=1))
    assert_as_predicted(run(model, X), model, X)


AXES_OF_TORCH = {name: case for name, case in CASES.items() if len(case[0]) <= 3}


@pytest.mark.parametrize("case", AXES_OF_TORCH)
def test_torch_has_a_convolution_of_each_kernel_size_and_stride(case):
    """Sizes on all axes, also where the case leaves some out."""
    torch = pytest.importorskip("torch")
    model, _ = random_model(*CASES[case])
    network, n_axes = to_torch(model), len(model.input_shape_)
    shapes = [k.shape[2:] for k in model.kernels_]
    steps = [*map(np.atleast_1d, model.strides_), shapes[-1]]
    conv_of_axes = (None, torch.nn.Conv1d, torch.nn.Conv2d, torch.nn.Conv3d)[n_axes]
    for number, (shape, step) in enumerate(zip(shapes, steps, strict=True), 1):
        conv = getattr(network, f"conv{number}")
        assert type(conv) is conv_of_axes
        assert conv.kernel_size == (*shape, *(1,) * (n_axes - len(shape)))
        assert conv.stride == (*step, *(1,) * (n_axes - len(step)))
        assert conv.groups == (1 if number == 1 else 6)
        assert conv.out_channels == 6
    assert not any(name.startswith("patches") for name, _ in network.named_children())
    padded = case.startswith(("padded", "overlap of padded", "overlap of channels"))
    assert hasattr(network, "pad") == padded


def test_torch_reads_like_a_network_written_by_hand():
    torch = pytest.importorskip("torch")
    model, X = random_model((8, 8), ((3, 3), -1), "relu", 1, n_filters=8)
    network = to_torch(model)
    assert repr(network.conv1) == (
        "Conv2d(1, 16, kernel_size=(3, 3), stride=(1, 1), bias=False)"
    )
    by_hand = torch.nn.Sequential(
        torch.nn.Conv2d(1, 16, 3, bias=False),
        torch.nn.ReLU(),
        torch.nn.Conv2d(16, 16, 6, groups=16, bias=False),
        torch.nn.Identity(),
        torch.nn.Conv2d(16, 2, 1, groups=2),
        torch.nn.Flatten(),
    ).double()
    by_hand.load_state_dict(
        dict(zip(by_hand.state_dict(), network.state_dict().values(), strict=True))
    )
    output = by_hand(torch.from_numpy(X).unsqueeze(1)).detach().numpy()
    assert_as_predicted(output, model, X)


@in_torch
@pytest.mark.parametrize(
    "case", ["channels", "padded axes", "four axes", "overlap of channels"]
)
def test_torch_takes_samples_as_rows_and_as_arrays(case):
    model, X = random_model(*CASES[case])
    rows = X.reshape(len(X), -1)
    np.testing.assert_array_equal(run_torch(model, rows), run_torch(model, X))


@in_torch
@pytest.mark.parametrize("shape", [(5, 3, 4, 4), (5, 12, 4), (5, 49), (48,), (5, 0)])
def test_torch_refuses_samples_of_another_shape(shape):
    model, _ = random_model(*CASES["channels"])
    with pytest.raises(ValueError, match=r"\(n_samples, 48\) or \(n_samples, 4, 4, 3"):
        run_torch(model, np.zeros(shape))


@pytest.mark.parametrize("hidden_bias", [False, True])
def test_torch_has_the_weights_of_the_model_and_no_others(hidden_bias):
    pytest.importorskip("torch")
    model, _ = random_model(*CASES["two axes"], hidden_bias=hidden_bias)
    network = to_torch(model)
    attributes = [model.scales_, model.intercept_, model.biases_, *model.kernels_]
    n_weights = sum(array.size for array in attributes)
    assert sum(p.numel() for p in network.parameters()) == n_weights
    assert sum(p.numel() for p in network.state_dict().values()) == n_weights
    assert all(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("case", ["two axes", "overlap on two axes", "four axes"])
def test_torch_trains_every_weight(case):
    torch = pytest.importorskip("torch")
    model, X = random_model(*CASES[case], hidden_bias=True)
    network, X = to_torch(model), torch.from_numpy(X)
    y = torch.from_numpy(np.random.default_rng(1).standard_normal((60, 2)))
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(2):
        optimizer.zero_grad()
        loss = torch.mean((network(X) - y) ** 2)
        loss.backward()
        assert all(torch.all(p.grad != 0) for p in network.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert losses[1] < losses[0]


@pytest.mark.parametrize("case", ["overlap of padded axes", "overlap on four axes"])
def test_torch_module_is_copied_and_saved_whole(case):
    torch = pytest.importorskip("torch")
    model, X = random_model(*CASES[case])
    network, X = to_torch(model), torch.from_numpy(X)
    file = io.BytesIO()
    torch.save(network, file)
    file.seek(0)
    for other in (copy.deepcopy(network), torch.load(file, weights_only=False)):
        assert torch.equal(other(X), network(X))
    blank = to_torch(random_model(*CASES[case], n_filters=3)[0])
    with torch.no_grad():
        blank.conv1.weight.zero_()
    blank.load_state_dict(network.state_dict())
    assert torch.equal(blank(X), network(X))
    elsewhere = copy.deepcopy(network.to("meta"))
    tensors = [*elsewhere.parameters(), *elsewhere.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"meta"}


def test_torch_does_not_touch_its_random_state_or_the_model():
    torch = pytest.importorskip("torch")
    model, X = random_model()
    before, predicted = torch.get_rng_state(), model.predict(X)
    network = to_torch(model)
    assert torch.equal(torch.get_rng_state(), before)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
    np.testing.assert_array_equal(model.predict(X), predicted)


@of_dtypes
@pytest.mark.parametrize("case", CASES)
def test_onnx_model_is_valid(dtype, case):
    onnx = pytest.importorskip("onnx")
    model, _ = random_model(*CASES[case], dtype=dtype)
    graph = to_onnx(model)
    onnx.checker.check_model(graph, full_check=True)
    assert (graph.opset_import[0].version, graph.ir_version) == (17, 8)


def pipeline_and_data(dtype, model):
    rng = np.random.default_rng(0)
    X, y = 3 + 2 * rng.standard_normal((60, 24)), rng.standard_normal(60)
    return make_pipeline(StandardScaler(), model).fit(X, y), X.astype(dtype)


@of_dtypes
@pytest.mark.parametrize(
    "model",
    [
        DeepTDRegressor((4, 3, 2), n_filters=2, polish=False),
        DeepTDRegressor((4, 3, -1), strides=(2, 1), n_filters=2, polish=False),
    ],
)
def test_onnx_of_a_pipeline(dtype, model):
    skl2onnx, onnx = map(pytest.importorskip, ("skl2onnx", "onnx"))
    register_skl2onnx()
    pipeline, X = pipeline_and_data(dtype, model)
    graph = skl2onnx.to_onnx(pipeline, X, target_opset=17)
    onnx.checker.check_model(graph, full_check=True)
    output = run_graph(graph, X)
    assert output.shape == (60, 1)
    assert_as_predicted(output[:, 0], pipeline, X)


def test_onnx_inside_another_regressor():
    skl2onnx = pytest.importorskip("skl2onnx")
    register_skl2onnx()
    network = DeepTDRegressor((4, 3, 2), polish=False)
    pipeline, X = pipeline_and_data(np.float64, network)
    members = [("network", pipeline), ("linear", LinearRegression())]
    voting = VotingRegressor(members).fit(X, X[:, 0] ** 2)
    output = run_graph(skl2onnx.to_onnx(voting, X), X)
    assert_as_predicted(output[:, 0], voting, X)


def test_onnx_of_a_pipeline_before_fit_is_an_error():
    skl2onnx = pytest.importorskip("skl2onnx")
    register_skl2onnx()
    with pytest.raises(NotFittedError):
        skl2onnx.to_onnx(DeepTDRegressor(), np.zeros((2, 4)))


def test_onnx_of_several_outputs_axes_and_integers_by_skl2onnx():
    skl2onnx = pytest.importorskip("skl2onnx")
    register_skl2onnx()
    model, _ = random_model(*CASES["padded axes"])
    X = np.random.default_rng(0).integers(-9, 9, (10, 35))
    output = run_graph(skl2onnx.to_onnx(model, X, target_opset=17), X)
    assert output.dtype == np.float32  # as of all regressors there
    expected = model.predict(X)
    np.testing.assert_allclose(output, expected, atol=1e-6 * np.abs(expected).max())


# Classes


def random_classifier(
    input_shape=(24,),
    kernel_sizes=(4, 3, 2),
    activation="tanh",
    strides=None,
    *,
    dtype=np.float64,
    classes=("no", "perhaps", "yes"),
    **parameters,
):
    """A fitted classifier of three filters whose numbers were drawn anew."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, *input_shape))
    features = X.reshape(60, -1)
    scores = features @ rng.standard_normal((features.shape[1], len(classes)))
    model = DeepTDClassifier(
        kernel_sizes,
        activation=activation,
        strides=strides,
        n_filters=3,
        polish=False,
        n_init=1,
        random_state=0,
        **parameters,
    ).fit(X, np.array(classes)[scores.argmax(axis=1)])
    draw_anew(model, rng, dtype)
    model.kernels_ = [k.astype(dtype) for k in model.kernels_]
    return model, X.astype(dtype)


def tolerance_of_logits(model, X):
    return RTOL[X.dtype.type] * max(1, np.abs(model.decision_function(X)).max())


def assert_logits(output, model, X):
    expected = model.decision_function(X)
    assert output.shape == expected.shape
    assert output.dtype == expected.dtype == X.dtype
    np.testing.assert_allclose(
        output, expected, rtol=0, atol=tolerance_of_logits(model, X)
    )


def assert_labels_and_probabilities(outputs, model, X):
    """Labels where rounding does not choose the most probable class."""
    assert list(outputs) == ["label", "probabilities"]
    label, found = outputs.values()
    expected, atol = model.predict_proba(X), tolerance_of_logits(model, X)
    assert found.shape == expected.shape
    assert found.dtype == X.dtype
    np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
    second, first = np.sort(expected, axis=1)[:, -2:].T
    sure = first - second > 2 * atol
    assert np.mean(sure) > 0.9 or len(X) == 1
    assert label.shape == (len(X),)
    np.testing.assert_array_equal(label[sure], model.predict(X)[sure])


of_classes = pytest.mark.parametrize(
    ("classes", "dtype"), [(("no", "yes"), np.float32), ((7, -2, 4), np.float64)]
)


@in_torch
@of_classes
@pytest.mark.parametrize("case", CASES)
def test_torch_of_a_classifier_gives_logits(dtype, classes, case):
    model, X = random_classifier(
        *CASES[case], dtype=dtype, classes=classes, hidden_bias=True
    )
    for n_samples in (1, 2, 60):
        assert_logits(run_torch(model, X[:n_samples]), model, X[:n_samples])


@of_classes
@pytest.mark.parametrize("case", CASES)
def test_onnx_of_a_classifier_gives_labels_and_probabilities(dtype, classes, case):
    onnx = pytest.importorskip("onnx")
    model, X = random_classifier(
        *CASES[case], dtype=dtype, classes=classes, hidden_bias=True
    )
    graph = to_onnx(model)
    onnx.checker.check_model(graph, full_check=True)
    for n_samples in (1, 2, 60):
        rows = X[:n_samples].reshape(n_samples, -1)
        outputs = outputs_of_graph(graph, rows)
        assert outputs["label"].dtype == (object if "no" in classes else np.int64)
        assert_labels_and_probabilities(outputs, model, rows)


@pytest.mark.parametrize("classes", [(False, True), (0.0, 3.0, 1.0, 2.0)])
def test_onnx_has_integers_for_booleans_and_for_floats(classes):
    pytest.importorskip("onnx")
    model, X = random_classifier(classes=classes)
    outputs = outputs_of_graph(to_onnx(model), X)
    assert outputs["label"].dtype == np.int64
    assert_labels_and_probabilities(outputs, model, X)


def test_onnx_refuses_a_class_that_int64_does_not_hold():
    pytest.importorskip("onnx")
    model, _ = random_classifier(classes=np.array([0, 2**64 - 1], np.uint64))
    with pytest.raises(ValueError, match=f"int64 or strings, but .*{2**64 - 1}"):
        to_onnx(model)


def test_onnx_probabilities_of_logits_far_from_zero():
    """Whose exponentials overflow, as do those of the other class."""
    pytest.importorskip("onnx")
    for classes in ((0, 1), (0, 1, 2)):
        model, X = random_classifier(classes=classes)
        model.scales_ *= 1e4
        assert np.abs(model.decision_function(X)).max() > 1e3
        outputs = outputs_of_graph(to_onnx(model), X)
        assert_labels_and_probabilities(outputs, model, X)


def planted_classes(n_classes):
    """A classifier as it was fitted, and rows that it has not seen."""
    X, y = make_patch_cnn_classification(
        400, (4, 3), n_classes=n_classes, random_state=0
    )
    model = DeepTDClassifier((4, 3), n_init=1, tol=1e-3, random_state=0)
    return make_pipeline(StandardScaler(), model).fit(X[:300], y[:300]), X[300:]


@pytest.mark.parametrize("n_classes", [2, 4])
def test_torch_loss_of_the_logits_is_that_of_the_probabilities(n_classes):
    torch = pytest.importorskip("torch")
    (_, model), X = planted_classes(n_classes)
    labels = np.random.default_rng(0).integers(0, n_classes, len(X))
    logits = to_torch(model)(torch.from_numpy(X))
    if n_classes == 2:
        targets = torch.from_numpy(labels.astype(float))
        loss = torch.nn.BCEWithLogitsLoss()(logits, targets)
    else:
        loss = torch.nn.CrossEntropyLoss()(logits, torch.from_numpy(labels))
    log_p = model.predict_log_proba(X)[np.arange(len(X)), labels]
    assert loss.item() == pytest.approx(-np.mean(log_p), rel=1e-12)
    loss.backward()


@of_dtypes
@pytest.mark.parametrize("n_classes", [2, 4])
def test_onnx_of_a_pipeline_of_classes(dtype, n_classes):
    skl2onnx, onnx = map(pytest.importorskip, ("skl2onnx", "onnx"))
    register_skl2onnx()
    pipeline, X = planted_classes(n_classes)
    X = X.astype(dtype)
    options = {id(pipeline[-1]): {"zipmap": False}}
    graph = skl2onnx.to_onnx(pipeline, X, options=options, target_opset=17)
    onnx.checker.check_model(graph, full_check=True)
    assert_labels_and_probabilities(outputs_of_graph(graph, X), pipeline, X)


def test_onnx_of_a_pipeline_maps_classes_to_probabilities():
    """The default of skl2onnx, for which onnxruntime has float32 only."""
    skl2onnx = pytest.importorskip("skl2onnx")
    register_skl2onnx()
    model, X = random_classifier(dtype=np.float32)
    outputs = outputs_of_graph(skl2onnx.to_onnx(model, X, target_opset=17), X)
    label, maps = outputs["output_label"], outputs["output_probability"]
    found = {
        "label": label,
        "probabilities": np.array(
            [[of_row[c] for c in model.classes_] for of_row in maps], np.float32
        ),
    }
    assert_labels_and_probabilities(found, model, X)


exports = pytest.mark.parametrize(
    ("export", "module"), [(to_torch, "torch"), (to_onnx, "onnx")]
)


@exports
@pytest.mark.parametrize(
    ("other", "name"),
    [
        (Ridge(), "Ridge"),
        (make_pipeline(MinMaxScaler(), DeepTDRegressor()), "MinMaxScaler"),
        (np.zeros(3), "ndarray"),
    ],
)
def test_what_is_no_network_is_an_error(export, module, other, name):
    with pytest.raises(TypeError, match=f"not a {name}; .* use skl2onnx"):
        export(other)


@exports
def test_before_fit_is_an_error(export, module):
    with pytest.raises(NotFittedError):
        export(DeepTDRegressor())


@exports
def test_attributes_that_were_changed_are_an_error(export, module):
    pytest.importorskip(module)
    model, _ = random_model()
    model.kernel_sizes_ = (2, 3, 4)
    with pytest.raises(ValueError, match=r"kernel_sizes_ is \(2, 3, 4\), but"):
        export(model)


@exports
def test_an_activation_without_counterpart_is_an_error(export, module):
    pytest.importorskip(module)
    model, _ = random_model()
    model.activations_ = ("tanh", "sine", "identity")
    with pytest.raises(
        ValueError, match=r"'sine' cannot .* known are relu, leaky_relu"
    ):
        export(model)


@exports
def test_a_missing_package_is_named(export, module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    name = "skdeeptd._export.torch_modules"
    monkeypatch.delitem(sys.modules, name, raising=False)
    with pytest.raises(ImportError, match=rf'{module}, which .* install "{module}>='):
        export(random_model()[0])


def test_a_missing_skl2onnx_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "skl2onnx", None)
    with pytest.raises(ImportError, match=r'skl2onnx, which .* install .*"skl2onnx>='):
        register_skl2onnx()


def test_import_needs_no_extra():
    names = "{'torch', 'onnx', 'skl2onnx'}"
    code = f"import sys, skdeeptd.export; assert not {names} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def sharing(shape):
    """A model whose outputs share hidden layers, and rows to look at."""
    more = {
        "scales": {"kernel_sizes": (4, 3), "output_activation": "tanh"},
        "overlap": {"kernel_sizes": (4, -1), "strides": 2, "hidden_bias": True},
    }[shape]
    rng = np.random.default_rng(0)
    X = rng.standard_normal((80, 12))
    y = np.tanh(X @ rng.standard_normal((12, 3)))
    model = DeepTDRegressor(
        **more,
        n_filters=2,
        activation="softplus",
        share_filters=True,
        n_init=1,
        max_iter=20,
        tol=0.1,
        random_state=0,
    )
    return model.fit(X, y), X


@pytest.mark.parametrize("shape", ["scales", "overlap"])
def test_shared_filters_are_exported(shape):
    torch = pytest.importorskip("torch")
    runtime = pytest.importorskip("onnxruntime")
    model, X = sharing(shape)
    expected = model.predict(X)
    with torch.no_grad():
        found = to_torch(model)(torch.tensor(X)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)
    session = runtime.InferenceSession(to_onnx(model).SerializeToString())
    [found] = session.run(None, {session.get_inputs()[0].name: X})
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


# Losses

LOSSES = ("squared_error", "huber", "poisson")


def counts_of(shape):
    """Rows, and counts that no loss refuses."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((120, *shape))
    rate = np.exp(np.tanh(X.reshape(120, -1) @ rng.standard_normal(X[0].size) / 3))
    return X, rng.poisson(rate).astype(float)


@both
@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_fit_of_every_loss_is_exported(run, activation, loss):
    X, y = counts_of((12,))
    model = DeepTDRegressor(
        (4, 3), n_filters=2, activation=activation, loss=loss, random_state=0
    ).set_params(n_init=1, alpha=1.0, tol=0.1)
    assert_as_computed(run(model.fit(X, y), X), model.predict(X), np.float64)


@both
@of_dtypes
@pytest.mark.parametrize("loss", ["squared_error", "poisson"])
def test_covariates_of_a_network(run, loss, dtype):
    """Columns between those of the signal, in another order, and in other units."""
    X, y = counts_of((14,))
    X[:, [3, 9]] *= 10
    y *= np.exp(X[:, 3] / 40 - X[:, 9] / 20)
    model = DeepTDRegressor((4, 3), covariates=[9, 3], loss=loss, random_state=0)
    model.set_params(alpha=1.0, tol=0.1, n_init=1)
    X = X.astype(dtype)
    model.fit(X, y)
    assert_as_computed(run(model, X), model.predict(X), dtype)


@both
@pytest.mark.parametrize("parameters", RIDGES[:5])
def test_covariates_of_a_ridge_regression(run, parameters):
    X, y = rows_of((14,))
    X[:, [3, 9]] *= 10
    model = DeepTDRidge(SignalScaler(), covariates=[9, 3], random_state=0, **parameters)
    model.fit(X[:60], y[:60] + X[:60, 3] / 10 - X[:60, 9] / 5)
    assert np.all(np.abs(model.covariate_coef_) > 0.01)
    assert_as_computed(run(model, X[60:]), model.predict(X[60:]))


@pytest.mark.parametrize("parameters", RIDGES[:2])
def test_covariates_of_classes_by_ridge_regression(parameters):
    require_both()
    X, y = rows_of((14,))
    model = DeepTDRidgeClassifier(SignalScaler(), covariates=[-1, 0], **parameters)
    model.fit(X[:60], labels_of(y, (7, -2, 4))[:60])
    assert_classes_as_computed(model, X[60:])


@pytest.mark.parametrize("classes", [("no", "yes"), (7, -2, 4)])
def test_covariates_of_classes(classes):
    require_both()
    X, y = rows_of((14,))
    model = DeepTDClassifier((4, 3), covariates=[-1, 0], n_init=1, random_state=0)
    model.fit(X[:60], labels_of(y, classes)[:60])
    logits = run_torch(model, X)
    np.testing.assert_allclose(logits, model.decision_function(X), rtol=1e-9)
    outputs = outputs_of_graph(to_onnx(model), X)
    assert_as_computed(outputs["probabilities"], model.predict_proba(X))


@pytest.mark.parametrize("loss", LOSSES)
def test_torch_has_an_exponential_with_counts_only(loss):
    pytest.importorskip("torch")
    X, y = counts_of((12,))
    model = DeepTDRegressor((4, 3), loss=loss, polish=False, random_state=0)
    names = [name for name, _ in to_torch(model.fit(X, y)).named_children()]
    link = ["mean"] if loss == "poisson" else []
    assert names[-2 - len(link) :] == ["sum", *link, "output"]


@both
@pytest.mark.parametrize("loss", LOSSES)
def test_a_search_is_its_best_network(run, loss):
    X, y = counts_of((30,))
    grid = {
        "kernel_sizes": [(6, 5), (5, 6)],
        "activation": ["tanh"],
        "loss": [loss],
        "alpha": [1.0],
        "tol": [0.1],
    }
    search = DeepTDRegressorCV(grid, cv=2, random_state=0).fit(X, y)
    assert search.best_estimator_.loss == loss
    assert_as_computed(run(search, X), search.predict(X), np.float64)
    best = run(search.best_estimator_, X)
    assert_as_computed(best, search.predict(X), np.float64)
