"""What holds for any fit and any stream, on data that hypothesis draws.

``benchmarks/fuzz.py`` draws wilder ones, of all estimators; some of them are run here.
"""

import importlib
import pickle
import re
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skdeeptd import DeepTDRegressor
from skdeeptd._network.activations import ACTIVATIONS

settings.register_profile("fuzz", derandomize=True, deadline=None, database=None)
FUZZ = settings.get_profile("fuzz")
ROUNDING = 16  # units in the last place of the largest |y|
OUT_OF_RANGE = r"too large or too small.* \|X\| is \S+, the largest \|y\| \S+;"
SHAPES = [(1,), (6,), (3, 4), (4, 2, 3), (1, 5, 1), (24,)]  # kernel sizes
FLOATS = [np.float64, np.float32]

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Data(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray


def with_value(array, value):
    array = np.array(array, dtype=float)
    array[len(array) // 2] = value
    return array


BAD = {  # makes bad data of good ones, and what the error says
    "NaN in X": (lambda X, y, w: (with_value(X, np.nan), y, w), "X contains NaN"),
    "inf in X": (lambda X, y, w: (with_value(X, np.inf), y, w), "X contains infinity"),
    "NaN in y": (lambda X, y, w: (X, with_value(y, np.nan), w), "y contains NaN"),
    "text in y": (lambda X, y, w: (X, y.astype(str), w), "y holds strings"),
    "a short y": (lambda X, y, w: (X, y[1:], w), "inconsistent numbers|minimum of 1"),
    "one axis": (lambda X, y, w: (X[0], y, w), "Expected 2D array"),
    "no features": (lambda X, y, w: (X[:, :0], y, w), "0 feature"),
    "weight -2": (lambda X, y, w: (X, y, with_value(w, -2)), "negative, got -2 at row"),
    "weight NaN": (
        lambda X, y, w: (X, y, with_value(w, np.nan)),
        "weight contains NaN",
    ),
    "no weight": (lambda X, y, w: (X, y, 0 * w), "(?i)weights? .*zero"),
}
BAD_CHUNKS = BAD | {
    "huge X": (lambda X, y, w: (1e200 + 0 * X.astype(float), y, w), OUT_OF_RANGE),
}


@st.composite
def parameters(draw):
    """Parameters that go with each other, and the number of features."""
    sizes = draw(st.sampled_from(SHAPES))
    names = st.sampled_from(sorted(ACTIVATIONS))
    n_hidden = len(sizes) - 1
    params = {
        "kernel_sizes": draw(st.sampled_from([sizes, None]))
        if n_hidden == 1
        else sizes,
        "n_filters": draw(st.integers(1, 3)),
        "activation": draw(st.lists(names, min_size=n_hidden, max_size=n_hidden)),
        "output_activation": draw(st.just("identity") | names),
        "fit_intercept": draw(st.booleans()),
        "hidden_bias": draw(st.booleans()),
        "alpha": draw(st.sampled_from([0.0, 1e-300, 0.1, 10.0, 1e160, 1e300])),
        "polish": draw(st.booleans()),
        "max_iter": draw(st.sampled_from([1, 5, 50])),
        "tol": draw(st.sampled_from([0.0, 1e-6])),
        "n_init": draw(st.integers(1, 3)),
        "random_state": draw(st.integers(0, 9)),
    }
    if draw(st.booleans()):
        steps = [draw(st.integers(1, d)) for d in sizes[:-1]]
        params |= {"kernel_sizes": [*sizes[:-1], -1], "strides": steps}
    if params["output_activation"] == "identity" and draw(st.booleans()):
        params["alpha"] = "loo"
    return int(np.prod(sizes)), params


@st.composite
def arrays_X(draw, n, p, widest=150):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    X = rng.standard_normal((n, p))
    X += 10.0 ** draw(st.sampled_from([-np.inf, -np.inf, 2, 7, 11]))
    X[:, rng.random(p) < draw(st.sampled_from([0, 0, 0.5, 1]))] = X[0, 0]
    exponents = st.just(0) | st.integers(-8, 8) | st.integers(-widest, widest)
    size = draw(exponents.map(lambda e: 10.0**e))
    dtype = draw(st.sampled_from(FLOATS))
    X = np.clip(size * X, -1e38, 1e38) if dtype is np.float32 else size * X
    return draw(st.sampled_from([np.asarray, np.asfortranarray]))(X.astype(dtype))


@st.composite
def arrays_y(draw, n, widest=150):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    y = rng.standard_normal(n) + 10.0 ** draw(st.sampled_from([-np.inf, 0, 6, 12]))
    y[rng.random(n) < draw(st.sampled_from([0, 0, 0.7, 1]))] = y[0]
    exponents = st.just(0) | st.integers(-8, 8) | st.integers(-widest, widest)
    return draw(exponents.map(lambda e: 10.0**e)) * y


@st.composite
def weights(draw, n):
    rng = np.random.default_rng(draw(st.integers(0, 999)))
    kinds = [
        np.ones(n),
        rng.random(n),
        rng.integers(0, 3, n),
        10 ** rng.uniform(0, 15, n),
    ]
    weight = draw(st.sampled_from(kinds))
    return weight if weight.any() else np.ones(n)


@st.composite
def rows(draw, p, most=40, widest=150):
    n = draw(st.integers(1, 5) | st.integers(1, most))
    X = draw(arrays_X(n, p, widest))
    return Data(X, draw(arrays_y(n, widest)), draw(weights(n)))


@st.composite
def fits(draw):
    p, params = draw(parameters())
    return params, draw(rows(p))


@st.composite
def streams(draw):
    """Parameters, and chunks each with the name of what is bad about it, or None."""
    p, params = draw(parameters())
    bad = st.none() | st.sampled_from(sorted(BAD_CHUNKS))
    chunks = st.lists(st.tuples(rows(p, 15, widest=3), bad), min_size=1, max_size=4)
    return params, draw(chunks)


def refusal(fit, data):
    """The error of data that are out of range, or None; any other is raised."""
    try:
        fit(*data)
    except ValueError as error:
        if re.search(OUT_OF_RANGE, str(error)):
            return error
        raise
    return None


def assert_no_worse_than_a_constant(model, data):
    """Up to rounding of the dtype of X and of the size of y."""
    X, y, weight = (a[data.weight > 0] for a in data)
    unit = np.abs(y).max() or 1.0
    weight, y = weight / weight.max(), y / unit
    error = y - model.predict(X).astype(float) / unit
    constant = np.average(y, weights=weight) * model.fit_intercept
    eps, loss = np.finfo(X.dtype).eps, weight @ (y - constant) ** 2
    slack = ROUNDING * eps * loss + (ROUNDING * eps) ** 2 * weight.sum()
    assert weight @ error**2 <= loss + slack


def assert_finite(model, n_samples):
    numbers = [*model.kernels_, model.gains_, model.scales_, model.biases_]
    numbers += [model.intercept_, model.moment_]
    n_weights = sum(a[0].size for a in numbers[:-1])
    if n_samples > max(n_weights, 3):  # else nothing is left to tell the noise from
        numbers += [getattr(model, "noise_variance_", 0)]
        numbers += [getattr(model, "covariance_", 0)]
    assert all(np.all(np.isfinite(a)) for a in numbers)


@settings(FUZZ, max_examples=300)
@given(case=fits())
def test_a_fit_is_no_worse_than_a_constant_or_out_of_range(case):
    params, data = case
    model = DeepTDRegressor(**params)
    if refusal(model.fit, data) is not None:
        assert "kernels_" not in vars(model)
        alpha = 0.0 if params["alpha"] == "loo" else params["alpha"]
        sizes = [np.abs(data.X).max(), np.abs(data.y).max(), 1 + alpha]
        assert not all(1e-20 < size < 1e20 for size in sizes if size)
        return
    assert_no_worse_than_a_constant(model, data)
    counted = data.weight[data.weight > 0]
    assert_finite(model, min(len(counted), counted.sum()))


@settings(FUZZ, max_examples=100)
@given(case=fits(), bad=st.sampled_from(sorted(BAD)))
def test_a_bad_fit_is_an_error_that_says_why(case, bad):
    params, data = case
    spoil, message = BAD[bad]
    model = DeepTDRegressor(**params)
    with pytest.raises((ValueError, TypeError), match=message):
        model.fit(*spoil(*data))
    assert "kernels_" not in vars(model)


def covariance_of(chunks):
    """Return the covariance of y and X over all rows, and the size of its rounding."""
    X, y, weight = (np.concatenate(a).astype(float) for a in zip(*chunks, strict=True))
    share = weight / weight.sum()
    covariance = (share * (y - share @ y)) @ (X - share @ X)
    return covariance, np.abs(X).max() * np.abs(y).max()


@settings(FUZZ, max_examples=150)
@given(case=streams())
def test_a_stream_is_that_of_the_chunks_it_accepted(case):
    params, chunks = case
    model, accepted = DeepTDRegressor(**params), []
    for data, bad in chunks:
        before = pickle.dumps(vars(model))
        if bad is not None:
            spoil, message = BAD_CHUNKS[bad]
            with pytest.raises((ValueError, TypeError), match=message):
                model.partial_fit(*spoil(*data))
            assert pickle.dumps(vars(model)) == before
            continue
        if refusal(model.partial_fit, data) is not None:
            assert pickle.dumps(vars(model)) == before
            continue
        accepted.append(data)
        expected, size = covariance_of(accepted)
        moment = model._stream["moment"]
        error = moment["cross"][0] / moment["weight"] - expected
        assert np.abs(error).max() <= 1e-12 * size


QUICK = (
    "DeepTDRegressor",
    "DeepTDClassifier",
    "DeepTDRidge",
    "DeepTDRidgeClassifier",
    "DeepTDFeatures",
    "SignalScaler",
)


def test_every_estimator_ends_with_a_sound_model_or_an_error_of_its_own(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[1] / "benchmarks")
    fuzz = importlib.import_module("fuzz")
    outcomes = {number: fuzz.run(1, number, QUICK)[0] for number in range(80)}
    bad = {n: o for n, o in outcomes.items() if o.kind not in ("model", "error")}
    assert bad == {}
    assert sum(outcome.kind == "model" for outcome in outcomes.values()) > 40
