"""What fits and streams of any kind end with: a sound model, or a clear error.

Draws parameters, dtypes, sizes from 1e-200 to 1e200, large means, constant and equal
columns, weights, memory layouts and bad values, fits, and prints how often each of
these was the outcome, of single fits and of streams:

a model             no worse than the best constant on the training rows, within
                    rounding of the dtype and of the size of y; all numbers finite
a clear error       a ValueError or TypeError that skdeeptd or scikit-learn raised

and of these, which are bad, with a command that repeats each one:

worse               a model that is worse than the best constant
a bare error        any other error
a leaked warning    from numpy, say
not finite          a fitted attribute or a prediction
another moment      a stream whose moment is not that of all accepted rows
a changed state     after a chunk that was refused
slow                more than 30 seconds

Run: python benchmarks/fuzz.py [--fits 4000] [--streams 500] [--seed 0]
Of one case, with its traceback: python benchmarks/fuzz.py --case 17
"""

import argparse
import contextlib
import dis
import math
import pickle
import signal
import sys
import traceback
import warnings
from collections import Counter
from typing import NamedTuple

import numpy as np

from skdeeptd import DeepTDRegressor
from skdeeptd._model.activations import ACTIVATIONS

GOOD = ("a model", "a clear error")
MOST_SECONDS = 30
STREAMS_FROM = 1_000_000  # the number of the first stream
ROUNDING = 16  # units in the last place of the largest |y|
SAFE = 1e70  # sizes whose products the checks here can form
NAN_MAY_BE = ("covariance_", "noise_variance_", "held_out_r2_")


class Bad(Exception):
    """An outcome that should not be; its arguments are a name of it and details."""


class Data(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray | None


def chance(rng, share):
    return rng.random() < share


def draw_factors(rng, n, n_layers):
    """Kernel sizes of one axis that multiply to n."""
    sizes = []
    for _ in range(n_layers - 1):
        sizes.append(int(rng.choice([d for d in range(1, n + 1) if n % d == 0])))
        n //= sizes[-1]
    return [*sizes, n]


def draw_cover(rng, n, n_layers):
    """Kernel sizes of one axis for padding="same"."""
    sizes = []
    for _ in range(n_layers - 1):
        sizes.append(int(rng.integers(1, n + 1)))
        n = -(-n // sizes[-1])
    return [*sizes, n]


def draw_shape(rng):
    """The shape of a sample, and parameters that fit it, as a rule."""
    shape = (int(rng.integers(1, 65)),)
    if chance(rng, 0.2):
        shape = tuple(int(n) for n in rng.integers(1, 9, 2))
    n_layers = int(rng.integers(1, 4))
    padding = "same" if chance(rng, 0.3) else "valid"
    draw = draw_cover if padding == "same" else draw_factors
    axes = [draw(rng, n, n_layers) for n in shape]
    sizes = list(zip(*axes, strict=True)) if len(shape) > 1 else axes[0]
    params = {"kernel_sizes": sizes, "padding": padding}
    if chance(rng, 0.15):
        params["kernel_sizes"] = None
    elif chance(rng, 0.03):
        params["kernel_sizes"] = rng.integers(-1, 9, n_layers).tolist()
    if len(shape) > 1:
        params["input_shape"] = shape
    names = list(ACTIVATIONS)
    activation = [str(rng.choice(names)) for _ in range(n_layers - 1)]
    if params["kernel_sizes"] is None or chance(rng, 0.3):
        activation = str(rng.choice(names))
    return math.prod(shape), params | {"activation": activation}


def draw_params(rng):
    """The number of features, and the parameters of an estimator."""
    n_features, params = draw_shape(rng)
    alphas = [0.0, 0.0, 10 ** rng.uniform(-300, 308), 10 ** rng.uniform(-3, 3)]
    return n_features, params | {
        "n_filters": int(rng.choice([1, 1, 2, 3, 4])),
        "output_activation": str(rng.choice([*["identity"] * 5, *ACTIVATIONS])),
        "fit_intercept": chance(rng, 0.75),
        "hidden_bias": chance(rng, 0.3),
        "alpha": float(rng.choice(alphas)),
        "polish": chance(rng, 0.8),
        "max_iter": int(rng.choice([1, 3, 20, 500])),
        "tol": float(rng.choice([0, 1e-6, 1e-2])),
        "n_init": "auto" if chance(rng, 0.1) else int(rng.integers(1, 7)),
        "random_state": int(rng.integers(100)),
    }


def draw_scale(rng):
    exponent = rng.choice([0, rng.uniform(-8, 8), rng.uniform(-200, 200)], p=SCALES)
    return 10**exponent


SCALES = [0.6, 0.25, 0.15]  # how often the sizes are 1, not far from it, and any


def draw_X(rng, n, p):
    X = rng.standard_normal((n, p))
    columns = rng.random(p) < rng.choice([0, 0, 0.3, 1], p=[0.5, 0.3, 0.15, 0.05])
    X[:, columns] = X[0, columns]  # constant ones
    if chance(rng, 0.1):
        X[:, rng.integers(p)] = X[:, rng.integers(p)]
    X[rng.random(n) < rng.choice([0, 0.3], p=[0.9, 0.1])] = X[0]
    if chance(rng, 0.2):
        X += 10 ** rng.uniform(0, 12)
    dtype = rng.choice(["f8", "f4", "i4", "i1", "?", "O"], p=[0.5, 0.3, *[0.05] * 4])
    scale = draw_scale(rng) if dtype in ("f8", "f4", "O") else 3.0
    with np.errstate(all="ignore"):
        return in_memory(rng, (scale * X).astype(dtype))


def draw_y(rng, X):
    n, n_outputs = len(X), int(rng.choice([1, 2], p=[0.85, 0.15]))
    y = rng.standard_normal((n, n_outputs))
    with np.errstate(all="ignore"):
        signal_of_X = np.maximum(X.astype(float) @ rng.standard_normal(X.shape[1]), 0)
        size = np.abs(signal_of_X).max()
    if chance(rng, 0.5) and 0 < size < np.inf:
        y = 0.3 * y + (signal_of_X / size)[:, np.newaxis]
    if chance(rng, 0.1):
        y[:, 0] = y[0, 0] * (1 + 1e-16 * rng.integers(-2, 3, n))
    if chance(rng, 0.1):
        y[np.arange(n) != rng.integers(n)] = 0
    if chance(rng, 0.2):
        y += 10 ** rng.uniform(0, 12)
    dtype = rng.choice(["f8", "f4", "i4", "?", "O"], p=[0.7, *[0.075] * 4])
    scale = draw_scale(rng) if dtype in ("f8", "f4", "O") else 3.0
    with np.errstate(all="ignore"):
        y = in_memory(rng, (scale * y).astype(dtype))
    return y[:, 0] if n_outputs == 1 and chance(rng, 0.8) else y


def draw_weight(rng, n):
    kind = rng.choice(["none", "random", "zeros", "whole", "wide", "tiny"])
    weight = rng.random(n) + 1e-3
    if kind == "zeros":
        weight[rng.random(n) < 0.5] = 0
    if kind == "whole":
        weight = rng.integers(0, 4, n)
    if kind == "wide":
        weight = 10 ** rng.uniform(0, 15, n)
    if kind == "tiny":
        weight *= 10 ** rng.uniform(-200, 200)
    return None if kind == "none" else weight


def in_memory(rng, array):
    """The same numbers in another layout."""
    kind = rng.choice(["C", "F", "strided", "reversed", "read-only"])
    if kind == "F":
        array = np.asfortranarray(array)
    if kind == "strided":
        array = np.repeat(np.repeat(array, 2, axis=0), 2, axis=1)[::2, ::2]
    if kind == "reversed":
        array = array[::-1, ::-1]
    if kind == "read-only":
        array.flags.writeable = False
    return array


def spoiled(rng, data):
    """Data that are not as they should be."""
    X, y, weight = (None if a is None else np.array(a) for a in data)
    kind = rng.choice(["value", "text", "shape", "y", "weight", "axes", "huge"])
    row, value = rng.integers(len(X)), rng.choice([np.nan, np.inf, -np.inf])
    if kind == "value":
        X = X.astype(float) if X.dtype.kind in "biu" else X
        X[row, rng.integers(X.shape[1])] = value
    if kind == "text":
        X = X.astype(object)
        X[row, 0] = "abc"
    if kind == "shape":
        X = X[:, :-1] if chance(rng, 0.5) else X[:-1]
    if kind == "y":
        y = y.astype(float)
        y[row] = value
    if kind == "weight":
        weight = np.ones(len(X))
        weight[row] = rng.choice([value, -1.0])
    if kind == "axes":
        X = X[0]
    if kind == "huge":
        with np.errstate(over="ignore"):
            X = X.astype(float) * 1e200
    return Data(X, y, weight)


def draw_data(rng, n_features, most_rows=60, share_bad=0.05):
    n = int(rng.choice([rng.integers(1, 6), rng.integers(1, most_rows + 1)]))
    X = draw_X(rng, n, n_features)
    data = Data(X, draw_y(rng, X), draw_weight(rng, n))
    return spoiled(rng, data) if chance(rng, share_bad) else data


def is_ours(error):
    """Whether scikit-learn's validation raised it, or a ``raise`` of this package."""
    last = error.__traceback__
    while last.tb_next is not None:
        last = last.tb_next
    code = last.tb_frame.f_code
    if "/sklearn/utils/" in code.co_filename or "/sklearn/base.py" in code.co_filename:
        return True
    is_raise = dis.opname[code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
    return "/skdeeptd/" in code.co_filename and is_raise


def where(error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    return f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"


@contextlib.contextmanager
def watched():
    """Raise for what leaks from a fit, and for one that takes too long."""

    def stop(*_):
        raise Bad("slow", f"more than {MOST_SECONDS} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(MOST_SECONDS)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield
    finally:
        signal.alarm(0)
    for w in caught:
        if issubclass(w.category, RuntimeWarning | DeprecationWarning):
            raise Bad("a leaked warning", f"{w.message} ({w.filename}:{w.lineno})")


def refused(fit, data):
    """The message of a clear error, or None; raises for any other."""
    try:
        with watched():
            fit(data.X, data.y, data.weight)
    except Bad:
        raise
    except (ValueError, TypeError) as error:
        if type(error) not in (ValueError, TypeError) or not is_ours(error):
            raise Bad("a bare error", where(error)) from error
        return str(error)
    except Exception as error:
        raise Bad("a bare error", where(error)) from error
    return None


def as_numbers(data):
    """The rows that count in float64, y with an axis of outputs, and their weights."""
    n = len(data.X)
    weight = np.ones(n) if data.weight is None else np.asarray(data.weight, float)
    y = np.asarray(data.y, float).reshape(n, -1)
    return data.X[weight > 0], y[weight > 0], weight[weight > 0] / weight.max()


def check_finite(model, predicted, n_rows):
    n_weights = sum(k[0].size for k in model.kernels_) + model.scales_[0].size
    n_weights += model.biases_[0].size + 1
    for name, value in [*vars(model).items(), ("the prediction", predicted)]:
        if not name.endswith("_") and name != "the prediction":
            continue
        values = value if name == "kernels_" else [value]
        values = value.values() if name == "held_out_r2_" else values
        for v in values:
            is_number = isinstance(v, float | np.ndarray)
            if name in NAN_MAY_BE and n_rows <= max(n_weights, 3):
                continue
            if is_number and not np.all(np.isfinite(v)):
                raise Bad("not finite", name)


def check_model(model, data):
    """Raise where it is not finite, or worse than a constant."""
    X, y, weight = as_numbers(data)
    with watched():
        predicted = model.predict(X)
    n_samples = len(X) if data.weight is None else min(len(X), np.sum(data.weight))
    check_finite(model, predicted, n_samples)
    largest = np.abs(y).max(axis=0)
    unit = np.where(largest > 0, largest, 1)
    predicted = np.asarray(predicted, float).reshape(y.shape) / unit
    y, eps = y / unit, np.finfo(model.predict(X[:1]).dtype).eps
    constant = np.average(y, axis=0, weights=weight) * model.fit_intercept
    losses, of_constant = weight @ (y - predicted) ** 2, weight @ (y - constant) ** 2
    slack = of_constant * ROUNDING * eps + weight.sum() * (ROUNDING * eps) ** 2
    if np.any(losses > of_constant + slack):
        raise Bad("worse", f"losses {losses} against {of_constant}, in {X.dtype}")


def fit_case(rng):
    n_features, params = draw_params(rng)
    data = draw_data(rng, n_features)
    model = DeepTDRegressor(**params)
    if refused(model.fit, data) is not None:
        return "a clear error"
    check_model(model, data)
    return "a model"


def check_moment(model, chunks):
    """Raise where the stream's moment is not that of the rows of all chunks."""
    parts = [as_numbers(chunk)[:2] for chunk in chunks]
    X, y = (np.concatenate(a).astype(float) for a in zip(*parts, strict=True))
    given = [np.ones(len(c.X)) if c.weight is None else c.weight for c in chunks]
    weight = np.concatenate(given).astype(float)
    weight = weight[weight > 0] / weight.max()
    sizes = np.abs(X).max(), np.abs(y).max()
    if not all(1 / SAFE < size < SAFE for size in sizes):
        return
    share = weight / weight.sum()
    expected = ((y - share @ y) * share[:, np.newaxis]).T @ (X - share @ X)
    stored = model.stream_["moment"]
    found = stored["cross"] / stored["weight"]
    if np.abs(found - expected).max() > 1e-12 * len(X) * math.prod(sizes):
        raise Bad("another moment", f"off by {np.abs(found - expected).max():.2g}")


def stream_case(rng):
    n_features, params = draw_params(rng)
    params["n_init"] = int(rng.integers(1, 4))
    model, accepted = DeepTDRegressor(**params), []
    for _ in range(rng.integers(2, 7)):
        chunk = draw_data(rng, n_features, 40, share_bad=0.3)
        before = pickle.dumps(vars(model))
        if refused(model.partial_fit, chunk) is not None:
            if pickle.dumps(vars(model)) != before:
                raise Bad("a changed state", "after a refused chunk")
            continue
        accepted.append(chunk)
        check_moment(model, accepted)
    return "a model" if accepted else "a clear error"


def run(seed, number):
    """The outcome of a case and, where it is bad, the error."""
    case = stream_case if number >= STREAMS_FROM else fit_case
    try:
        return case(np.random.default_rng([seed, number])), None
    except Bad as bad:
        return bad.args[0], bad
    except Exception as error:
        return "a bare error", Bad("a bare error", f"after the fit: {where(error)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=4000)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--case", type=int, help="run this one alone")
    args = parser.parse_args()
    numbers = [*range(args.fits), *range(STREAMS_FROM, STREAMS_FROM + args.streams)]
    counts, failed = Counter(), False
    for number in numbers if args.case is None else [args.case]:
        outcome, bad = run(args.seed, number)
        counts["streams" if number >= STREAMS_FROM else "fits", outcome] += 1
        if bad is not None:
            failed = True
            again = f"python benchmarks/fuzz.py --seed {args.seed} --case {number}"
            print(f"{outcome}: {bad.args[1]}\n    {again}", flush=True)
        if bad is not None and args.case is not None:
            traceback.print_exception(bad)
    print("| of | outcome | cases |\n|---|---|---|")
    for (kind, outcome), count in sorted(counts.items()):
        print(f"| {kind} | {outcome} | {count} |")
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
