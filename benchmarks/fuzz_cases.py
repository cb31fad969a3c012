"""Draw estimators, their parameters, and data of any kind: the cases of ``fuzz.py``."""

import math
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import polars as pl
from numpy.lib.stride_tricks import sliding_window_view
from sklearn.base import is_classifier
from sklearn.dummy import DummyClassifier, DummyRegressor
from sklearn.model_selection import KFold, LeaveOneOut

import skdeeptd
from skdeeptd import DeepTDFeatures, SignalScaler
from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd.dask import DaskDeepTDClassifier, DaskDeepTDRegressor

N_NEW = 40  # held-out rows
SHARES = {  # of the fits, in percent
    "DeepTDRegressor": 25,
    "DeepTDClassifier": 12,
    "DeepTDRidge": 18,
    "DeepTDRidgeClassifier": 9,
    "DeepTDFeatures": 6,
    "SignalScaler": 4,
    "DeepTDRegressorCV": 6,
    "DeepTDClassifierCV": 5,
    "DeepTDAutoRegressor": 5,
    "DeepTDAutoClassifier": 4,
    "DaskDeepTDRegressor": 4,
    "DaskDeepTDClassifier": 2,
}
STREAMS = ["DeepTDRegressor", "DeepTDRegressor", "DeepTDClassifier"]


class Data(NamedTuple):
    X: Any  # in any container, as y
    y: Any
    weight: np.ndarray | None
    X_new: Any  # held-out rows
    mean_new: np.ndarray  # of y in the held-out rows
    is_bad: bool  # must be refused
    is_fair: bool  # y has noise of one variance, and held-out rows are like the others


class Case(NamedTuple):
    name: str
    model: Any
    parts: list  # of Data: one, or the chunks of a stream


def chance(rng, share):
    return rng.random() < share


def pick(rng, options, shares=None):
    return options[rng.choice(len(options), p=shares)]


# Parameters


def draw_shape(rng):
    """Draw the shape of a sample: a signal, an image, or a signal with channels."""
    image = tuple(rng.integers(1, 9, 2).tolist())
    channels = (int(rng.integers(2, 4)), int(rng.integers(1, 20)))
    length = int(pick(rng, [rng.integers(1, 9), rng.integers(1, 65)]))
    return pick(rng, [(length,), image, channels], [0.7, 0.2, 0.1])


def draw_sizes(rng, n, n_layers, tile):
    """Draw kernel sizes for an axis of length n."""
    sizes = []
    for _ in range(n_layers - 1):
        fits = [d for d in range(1, n + 1) if not tile or n % d == 0]
        sizes.append(int(rng.choice(fits)))
        n = -(-n // sizes[-1])
    return [*sizes, n]


def draw_layers(rng, shape):
    """Draw kernel sizes, strides and activations."""
    n_layers, tile, names = int(rng.integers(1, 4)), chance(rng, 0.5), list(ACTIVATIONS)
    sizes = [draw_sizes(rng, n, n_layers, tile) for n in shape]
    sizes = list(zip(*sizes, strict=True))
    strides = [tuple(int(rng.integers(1, d + 1)) for d in s) for s in sizes[:-1]]
    one, each = str(pick(rng, names)), rng.choice(names, n_layers - 1).tolist()
    kinds = [
        {"kernel_sizes": sizes, "activation": each},
        {"kernel_sizes": [*sizes[:-1], -1], "strides": strides, "activation": each},
        {"kernel_sizes": None, "activation": one},
        {"kernel_sizes": rng.integers(-1, 9, n_layers).tolist(), "activation": one},
    ]
    return pick(rng, kinds, [0.55, 0.27, 0.15, 0.03])


def network_params(rng, shape):
    """Draw the parameters that DeepTDRegressor and DeepTDClassifier share."""
    alphas = [0.0, 1.0, 10 ** rng.uniform(-3, 3), 10 ** rng.uniform(-300, 308)]
    return draw_layers(rng, shape) | {
        "output_activation": str(pick(rng, [*["identity"] * 8, *ACTIVATIONS])),
        "n_filters": int(pick(rng, [1, 1, 2, 3, 4])),
        "fit_intercept": chance(rng, 0.75),
        "hidden_bias": chance(rng, 0.3),
        "alpha": pick(rng, alphas, [0.4, 0.2, 0.2, 0.2]),
        "polish": chance(rng, 0.8),
        "max_iter": int(pick(rng, [1, 3, 20, 500])),
        "tol": pick(rng, [0.0, 1e-6, 1e-2]),
        "n_init": "auto" if chance(rng, 0.1) else int(rng.integers(1, 7)),
        "n_jobs": pick(rng, [None, None, 2]),
    }


def regressor_params(rng, shape):
    params = network_params(rng, shape)
    loss = pick(rng, ["squared_error", "huber", "poisson"], [0.7, 0.15, 0.15])
    is_plain = loss == "squared_error" and params["output_activation"] == "identity"
    if is_plain and chance(rng, 0.3):
        params["alpha"] = "loo"
    shares = loss != "huber" and chance(rng, 0.3)
    epsilon = float(pick(rng, [1.35, 1.35, 1, 3, 1e6]))
    return params | {"loss": loss, "epsilon": epsilon, "share_filters": shares}


def classifier_params(rng, shape):
    params = network_params(rng, shape)
    n_filters = pick(rng, [None, params["n_filters"]])
    weight = pick(rng, [None, "balanced"])
    return params | {"n_filters": n_filters, "class_weight": weight}


def scaler_params(rng, shape):
    has_view = len(shape) == 1 and shape[0] > 2
    return {"view": pick(rng, [None, "derivative", "snv"]) if has_view else None}


def features_params(rng, shape):
    sizes = rng.integers(1, min(shape[0], 9) + 1, 2).tolist()
    has_sizes = len(shape) == 1 and chance(rng, 0.4)
    return scaler_params(rng, shape) | {
        "kernel_sizes": sorted(set(sizes)) if has_sizes else None,
        "dilations": pick(rng, [None, None, [1]]),
        "n_filters": int(pick(rng, [16, 3, 0])),
        "n_random_filters": int(pick(rng, [16, 2, 1])),
        "pooling": pick(rng, ["global", "local", 2, 4, ["global", 3], ["local", 2]]),
    }


def ridge_classifier_params(rng, shape):
    kernel = pick(rng, ["linear", "rbf", "laplace"])
    scaler = SignalScaler(**scaler_params(rng, shape))
    features = DeepTDFeatures(**features_params(rng, shape))
    is_learned = kernel != "linear" and chance(rng, 0.5)
    return {
        "features": pick(rng, [None, scaler, features]),
        "kernel": kernel,
        "metric": "learned" if is_learned else "euclidean",
        "gamma": 10 ** rng.uniform(-20, 20) if chance(rng, 0.2) else None,
        "n_landmarks": int(rng.integers(1, 12)) if chance(rng, 0.2) else None,
        "cv": pick(rng, [None, None, 2, KFold(3), LeaveOneOut()]),
    }


def ridge_params(rng, shape):
    per_target = {"alpha_per_target": pick(rng, ["auto", True, False])}
    return ridge_classifier_params(rng, shape) | per_target


def search_params(rng, scorings):
    shuffled = KFold(3, shuffle=True, random_state=0)
    return {
        "max_time": pick(rng, [None, 0.5]),
        "cv": pick(rng, [None, None, None, 2, shuffled, LeaveOneOut()]),
        "scoring": pick(rng, [None, None, None, *scorings]),
    }


def grid_params(scorings, rng, shape):
    """Draw a grid, or none: with a time limit mostly."""
    layers = [draw_layers(rng, shape)["kernel_sizes"] for _ in range(2)]
    grid = {"kernel_sizes": layers, "n_filters": [1, 2], "alpha": [1.0], "n_init": [2]}
    params = search_params(rng, scorings)
    has_grid = chance(rng, 0.4 if params["max_time"] else 0.9)
    return params | {"param_grid": grid if has_grid else None}


def auto_params(extra, scorings, rng, _):
    extra = [("constant", extra)] if chance(rng, 0.2) else None
    params = {"ensemble_size": pick(rng, [8, 8, 1]), "extra_estimators": extra}
    return params | search_params(rng, scorings)


OF_NUMBERS = "r2", "neg_mean_absolute_error"
OF_CLASSES = "accuracy", "neg_log_loss", "roc_auc"
PARAMS = {
    "DeepTDRegressor": regressor_params,
    "DeepTDClassifier": classifier_params,
    "DeepTDRidge": ridge_params,
    "DeepTDRidgeClassifier": ridge_classifier_params,
    "DeepTDFeatures": features_params,
    "SignalScaler": scaler_params,
    "DeepTDRegressorCV": partial(grid_params, OF_NUMBERS),
    "DeepTDClassifierCV": partial(grid_params, OF_CLASSES),
    "DeepTDAutoRegressor": partial(auto_params, DummyRegressor(), OF_NUMBERS),
    "DeepTDAutoClassifier": partial(auto_params, DummyClassifier(), OF_CLASSES),
}


def draw_model(rng, name, shape):
    if name == "DaskDeepTDRegressor":
        return DaskDeepTDRegressor(draw_model(rng, "DeepTDRegressor", shape))
    if name == "DaskDeepTDClassifier":
        return DaskDeepTDClassifier(draw_model(rng, "DeepTDClassifier", shape))
    params = PARAMS[name](rng, shape)
    if name != "SignalScaler":
        params["random_state"] = int(rng.integers(100))
    if len(shape) > 1:
        params["input_shape"] = shape
    return getattr(skdeeptd, name)(**params)


# Data


def draw_size(rng):
    """Draw a unit: mostly 1, sometimes huge or tiny."""
    exponents = [0, rng.uniform(-8, 8), rng.uniform(-300, 300)]
    return 10.0 ** pick(rng, exponents, [0.65, 0.25, 0.1])


def draw_X(rng, n, p):
    """Draw rows, and tell whether they are alike and independent given a walk."""
    noise, walk = rng.standard_normal((n, p)), rng.standard_normal(n + p).cumsum()
    smooth, whole = np.cumsum(noise, axis=1), rng.integers(-2, 3, (n, p)).astype(float)
    X = pick(rng, [noise, noise, smooth, whole, sliding_window_view(walk, p)[:n]])
    X, is_fair = X.copy(), True
    if chance(rng, 0.2):
        X[:, rng.random(p) < pick(rng, [0.3, 0.7, 1])] = pick(rng, [0, 1, 240 / 255])
    if chance(rng, 0.2):
        X[:, rng.integers(p)] = X[:, rng.integers(p)]
    if chance(rng, 0.1):
        X[rng.random(n) < 0.4], is_fair = X[0], False
    if chance(rng, 0.1):
        X[rng.integers(n), rng.integers(p)] *= 10 ** rng.uniform(2, 12)
        is_fair = False
    return X, is_fair


def draw_mean(rng, X):
    """Draw a function of X for one to three outputs, or zeros."""
    n_outputs = int(pick(rng, [1, 2, 3], [0.8, 0.1, 0.1]))
    a, b = rng.standard_normal((2, X.shape[1], n_outputs))
    mean = np.maximum(X @ a, 0) + 0.5 * (X @ b)
    return mean / np.maximum(mean.std(axis=0), 1e-9) * (not chance(rng, 0.2))


def draw_y(rng, mean, is_counts):
    """Draw y around its mean; return both, and whether the noise has one variance."""
    (n, n_outputs), noise = mean.shape, rng.standard_normal(mean.shape)
    if is_counts:
        return rng.poisson(np.exp(np.clip(mean, -5, 5))).astype(float), mean, False
    sigma = pick(rng, [0, 0.5, 0.5, 2])
    y, one_row = mean + sigma * noise, np.zeros_like(mean)
    one_row[rng.integers(n)] = 1
    outliers = (rng.random(mean.shape) < 0.05) * 10 ** rng.uniform(2, 8)
    constant = 1 + 1e-16 * rng.integers(-2, 3, mean.shape)
    one_hot = np.eye(n_outputs)[rng.integers(n_outputs, size=n)]
    odd = [one_row, y + outliers, constant, one_hot, np.round(y), mean * (1 + noise)]
    is_plain = chance(rng, 0.7)
    y, size = y if is_plain else pick(rng, odd), draw_size(rng)
    offset = 10 ** rng.uniform(0, 8) if chance(rng, 0.2) else 0
    return size * (y + offset), size * (mean + offset), is_plain and sigma > 0


def draw_names(rng):
    """Draw the names of two to five classes."""
    n, words = int(pick(rng, [2, 2, 2, 3, 5])), np.array(["a", "b", "cc", "d", "e"])
    names = [np.arange(5), np.arange(5.0), words, words.astype(object)]
    return pick(rng, [*names, np.array([False, True])])[:n]


def draw_labels(rng, mean, names):
    """Draw classes, some of them rare, from ranges of one output and noise."""
    latent = mean[:, 0] + pick(rng, [0, 0.5, 2]) * rng.standard_normal(len(mean))
    edges = np.sort(rng.normal(size=len(names) - 1)) * pick(rng, [0.3, 0.3, 1.5])
    return names[np.searchsorted(edges, latent)]


def draw_weight(rng, n):
    random = rng.random(n) + 1e-3
    kinds = [random, random * (rng.random(n) < 0.5), rng.integers(0, 4, n)]
    kinds += [10 ** rng.uniform(0, 15, n), random * 10 ** rng.uniform(-200, 200)]
    return None if chance(rng, 0.4) else pick(rng, kinds)


def reversed_view(array):
    return array[::-1, ::-1].copy()[::-1, ::-1]


def read_only(array):
    array.flags.writeable = False
    return array


def as_pandas(array):
    return pd.DataFrame(array, columns=[f"x{i}" for i in range(array.shape[1])])


def as_polars(array):
    array = array.astype(float) if array.dtype == object else array
    return pl.DataFrame(np.ascontiguousarray(array), schema=list(as_pandas(array)))


def in_pandas(y):
    return pd.Series(y) if y.ndim == 1 else pd.DataFrame(y)


def draw_form(rng, shape):
    """Draw a dtype, and a function that puts rows into this dtype and a container."""
    dtype = pick(rng, ["f8", "f4", "i4", "?", "O"], [0.6, 0.25, 0.05, 0.04, 0.06])
    forms = [np.asarray] * 4 + [lambda a: a.reshape(-1, *shape)] * 2
    forms += [np.asfortranarray, reversed_view, read_only]
    container = pick(rng, [*forms, np.ndarray.tolist, as_pandas, as_polars])

    def form(X):
        X = np.clip(3 * X, -1e6, 1e6) if dtype in ("i4", "?") else X
        with np.errstate(all="ignore"):
            return container(X.astype(dtype))

    return dtype, form


def spoiled(rng, X, y, weight):
    """Return data with one value or shape that must be refused."""
    X, row, value = X.astype(float), rng.integers(len(X)), pick(rng, [np.nan, np.inf])
    weight = np.ones(len(X)) if weight is None else weight.astype(float)
    kind = pick(rng, ["X", "string", "weight", "length", "y"])
    if kind == "X":
        X[row, rng.integers(X.shape[1])] = value
    elif kind == "string":
        X = X.astype(object)
        X[row, -1] = "abc"
    elif kind == "weight":
        weight[row] = pick(rng, [value, -1])
    elif kind == "y" and y.dtype.kind == "f":
        y[row] = value
    else:
        weight = np.ones(len(X) + 1)
    return X, y, weight


def draw_data(rng, model, shape, names, share_bad=0.05):
    n = int(rng.integers(1, pick(rng, [6, 61, 300], [0.25, 0.72, 0.03])))
    X, is_fair = draw_X(rng, n + N_NEW, math.prod(shape))
    mean, is_noisy, is_far = draw_mean(rng, X), False, chance(rng, 0.2)
    if is_classifier(model) or (isinstance(model, DeepTDFeatures) and chance(rng, 0.3)):
        y = draw_labels(rng, mean, names)
    else:
        loss = getattr(getattr(model, "estimator", model), "loss", None)
        is_counts = loss == "poisson" and chance(rng, 0.95)
        y, mean, is_noisy = draw_y(rng, mean, is_counts)
        y = y[:, 0] if y.shape[1] == 1 and chance(rng, 0.8) else y
    X = draw_size(rng) * (X + is_far * 10 ** rng.uniform(0, 10))
    order, (dtype, form) = np.arange(n), draw_form(rng, shape)
    if chance(rng, 0.1):
        order = np.argsort(y[:n].reshape(n, -1)[:, 0], kind="stable")
    X_new, rows, y = form(X[n:]), X[:n][order], y[:n][order]
    weight = draw_weight(rng, n)
    if chance(rng, share_bad):
        rows, y, weight = spoiled(rng, rows, y, weight)
        return Data(rows, y, weight, X_new, mean[n:], True, False)
    rows = form(rows)
    is_bad = not np.all(np.isfinite(np.asarray(rows, float)))
    is_fair &= weight is None and n >= 20 and not is_far
    is_fair &= is_noisy and dtype in ("f8", "f4", "O")
    y = pick(rng, [y] * 7 + [y.tolist(), y.astype(object), in_pandas(y)])
    return Data(rows, y, weight, X_new, mean[n:], is_bad, is_fair)


def draw_case(rng, is_stream, names=tuple(SHARES)):
    """Draw a fit of one of these estimators, or a stream."""
    shares = np.array([SHARES[name] for name in names], float)
    name = pick(
        rng,
        STREAMS if is_stream else names,
        None if is_stream else shares / shares.sum(),
    )
    shape, classes = draw_shape(rng), draw_names(rng)
    model = draw_model(rng, name, shape)
    if not is_stream:
        return Case(name, model, [draw_data(rng, model, shape, classes)])
    model.set_params(**{} if name == "DeepTDRegressor" else {"class_weight": None})
    n_chunks = rng.integers(2, 7)
    chunks = [draw_data(rng, model, shape, classes, 0.3) for _ in range(n_chunks)]
    return Case(f"{name}, stream", model, chunks)
