"""What fits and streams of any kind end with: a sound model, or a clear error.

Parameters, dtypes, sizes from 1e-200 to 1e200, large means, constant and equal columns,
weights, memory layouts and bad values are drawn. Printed is how often each of these was
the outcome, and for each bad one, the third and all after it, how to repeat it:

a model             no worse than the best constant on the training rows, within
                    rounding of the dtype and of the size of y; all numbers finite
a clear error       a ValueError or TypeError that skdeeptd or scikit-learn raised
worse               a model that is worse than the best constant
a bare error        any other error
a false error       data of ordinary size are said to be out of range
a leaked warning    from numpy, say
not finite          a fitted attribute or a prediction
a model in spite    of an error, or a stream that a refused chunk changed
another moment      a stream whose moment is not that of all accepted rows
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

import numpy as np
from skdeeptd._model.activations import ACTIVATIONS

from skdeeptd import DeepTDRegressor

STREAMS_FROM = 1_000_000  # the number of the first stream
MOST_SECONDS = 30
ROUNDING = 16  # units in the last place of the largest |y|
ORDINARY, SAFE = 1e8, 1e70  # never out of range; can be multiplied by each other
SIZE_SHARES = [0.6, 0.25, 0.15]  # of data of size 1, not far from it, and any
NAN_IF_FEW = ("covariance_", "noise_variance_")  # rows


class Bad(Exception):
    """An outcome that should not be; its arguments are its name and details."""


def chance(rng, share):
    return rng.random() < share


def draw_sizes(rng, n, n_layers, tile):
    """Kernel sizes for an axis of length n."""
    sizes = []
    for _ in range(n_layers - 1):
        fits = [d for d in range(1, n + 1) if not tile or n % d == 0]
        sizes.append(int(rng.choice(fits)))
        n = -(-n // sizes[-1])
    return [*sizes, n]


def draw_params(rng):
    """The number of features, and the parameters of an estimator."""
    n_layers, tile = int(rng.integers(1, 4)), chance(rng, 0.5)
    shape = tuple(rng.integers(1, 9, 2).tolist()) if chance(rng, 0.2) else None
    lengths = shape or [int(rng.integers(1, 65))]
    axes = [draw_sizes(rng, n, n_layers, tile) for n in lengths]
    sizes = list(zip(*axes, strict=True)) if shape else axes[0]
    sizes = rng.integers(-1, 9, n_layers).tolist() if chance(rng, 0.03) else sizes
    names = list(ACTIVATIONS)
    each, one = rng.choice(names, n_layers - 1).tolist(), str(rng.choice(names))
    default = chance(rng, 0.15)
    alphas = [0.0, 0.0, 10 ** rng.uniform(-300, 308), 10 ** rng.uniform(-3, 3)]
    params = {
        "kernel_sizes": None if default else sizes,
        "input_shape": shape,
        "n_filters": int(rng.choice([1, 1, 2, 3, 4])),
        "activation": one if default or chance(rng, 0.3) else each,
        "output_activation": str(rng.choice([*["identity"] * 5, *names])),
        "fit_intercept": chance(rng, 0.75),
        "hidden_bias": chance(rng, 0.3),
        "alpha": float(rng.choice(alphas)),
        "polish": chance(rng, 0.8),
        "max_iter": int(rng.choice([1, 3, 20, 500])),
        "tol": float(rng.choice([0, 1e-6, 1e-2])),
        "n_init": "auto" if chance(rng, 0.1) else int(rng.integers(1, 7)),
        "random_state": int(rng.integers(100)),
    }
    if chance(rng, 0.3):
        params |= overlapping(rng, axes, bool(shape))
    if params["output_activation"] == "identity" and chance(rng, 0.3):
        params["alpha"] = "loo"
    return math.prod(lengths), params


def overlapping(rng, axes, several):
    """Parameters for strides at random, from 1 to the kernel size."""
    hidden = list(zip(*(sizes[:-1] for sizes in axes), strict=True))
    steps = [tuple(int(rng.integers(1, d + 1)) for d in sizes) for sizes in hidden]
    if not several:
        hidden, steps = ([size for (size,) in a] for a in (hidden, steps))
    return {"kernel_sizes": [*hidden, -1], "strides": steps}


def in_some_form(rng, array):
    """The array times a size, in another dtype and layout."""
    sizes = [0, rng.uniform(-8, 8), rng.uniform(-200, 200)]
    size = 10 ** rng.choice(sizes, p=SIZE_SHARES)
    dtype = rng.choice(["f8", "f4", "i4", "?", "O"], p=[0.5, 0.3, 0.06, 0.07, 0.07])
    with np.errstate(all="ignore"):
        array = ((3.0 if dtype in ("i4", "?") else size) * array).astype(dtype)
    double = np.repeat(np.repeat(array, 2, axis=0), 2, axis=1)
    forms = [array, np.asfortranarray(array), double[::2, ::2], array[::-1, ::-1]]
    form = forms[rng.integers(len(forms))]
    form.flags.writeable = chance(rng, 0.8)
    return form


def draw_X(rng, n, p):
    X = rng.standard_normal((n, p))
    constant = rng.random(p) < rng.choice([0, 0.3, 1], p=[0.8, 0.15, 0.05])
    X[:, constant] = X[0, constant]
    X[:, rng.integers(p)] = X[:, rng.integers(p)]
    X[rng.random(n) < rng.choice([0, 0.3], p=[0.9, 0.1])] = X[0]
    return in_some_form(rng, X + chance(rng, 0.2) * 10 ** rng.uniform(0, 12))


def draw_y(rng, X):
    n, n_outputs = len(X), int(rng.choice([1, 2], p=[0.85, 0.15]))
    y = rng.standard_normal((n, n_outputs))
    with np.errstate(all="ignore"):
        told = np.maximum(X.astype(float) @ rng.standard_normal(X.shape[1]), 0)
        told = np.nan_to_num(told / told.max(), posinf=0)
    y += 3 * chance(rng, 0.5) * told[:, np.newaxis]
    if chance(rng, 0.1):
        y[:, 0] = y[0, 0] * (1 + 1e-16 * rng.integers(-2, 3, n))
    if chance(rng, 0.1):
        y[np.arange(n) != rng.integers(n)] = 0
    y = in_some_form(rng, y + chance(rng, 0.2) * 10 ** rng.uniform(0, 12))
    return y[:, 0] if n_outputs == 1 and chance(rng, 0.8) else y


def draw_weight(rng, n):
    random = rng.random(n) + 1e-3
    kinds = [None, random, random * (rng.random(n) < 0.5), rng.integers(0, 4, n)]
    kinds += [10 ** rng.uniform(0, 15, n), random * 10 ** rng.uniform(-200, 200)]
    return kinds[rng.integers(len(kinds))]


def spoiled(rng, X, y, weight):
    """Data that are not as they should be."""
    row, value = rng.integers(len(X)), rng.choice([np.nan, np.inf, -np.inf])
    wide = X.astype(object if chance(rng, 0.2) else float)
    wide[row, -1] = "abc" if wide.dtype == object else value
    bad_y, bad_weight = y.astype(float), np.ones(len(X))
    bad_y[row], bad_weight[row] = value, rng.choice([value, -1])
    with np.errstate(over="ignore"):
        huge = 1e200 * X.astype(float)
    of_X = [wide, X[:, :-1], X[:-1], X[0], huge]
    cases = [(bad, y, weight) for bad in of_X]
    cases += [(X, bad_y, weight), (X, y, bad_weight)]
    return cases[rng.integers(len(cases))]


def draw_data(rng, p, most_rows=60, share_bad=0.05):
    n = int(rng.choice([rng.integers(1, 6), rng.integers(1, most_rows + 1)]))
    X = draw_X(rng, n, p)
    data = X, draw_y(rng, X), draw_weight(rng, n)
    return spoiled(rng, *data) if chance(rng, share_bad) else data


def is_clear(error):
    """Whether scikit-learn's validation raised it, or a ``raise`` of this package."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    last, file = error.__traceback__, frame.f_code.co_filename
    while last.tb_next is not None:
        last = last.tb_next
    by_raise = dis.opname[frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
    ours = by_raise and "/skdeeptd/" in file
    theirs = "/sklearn/utils/" in file or "/sklearn/base.py" in file
    return type(error) in (ValueError, TypeError) and (ours or theirs)


def bare(error):
    last = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error} ({last.filename}:{last.lineno})"
    return Bad("a bare error", text)


@contextlib.contextmanager
def watched():
    """Raise for a warning that leaks, and for what takes too long."""

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
        if not issubclass(w.category, UserWarning):
            raise Bad("a leaked warning", f"{w.message} ({w.filename}:{w.lineno})")


def is_ordinary(params, X, y, weight):
    arrays = [np.asarray(a, float) for a in (X, y, 1.0 if weight is None else weight)]
    alpha = 0.0 if params["alpha"] == "loo" else params["alpha"]
    sizes = np.array([np.abs(a).max() for a in arrays] + [alpha])
    return np.all((sizes == 0) | ((sizes > 1 / ORDINARY) & (sizes < ORDINARY)))


def refuses(model, fit, data):
    """Whether the data are refused, as they should be; raises for other errors."""
    before = pickle.dumps(vars(model))
    try:
        with watched():
            fit(*data)
    except (ValueError, TypeError) as error:
        if not is_clear(error):
            raise bare(error) from error
        out_of_range = "too large or too small" in str(error)
        if out_of_range and is_ordinary(model.get_params(), *data):
            raise Bad("a false error", str(error)) from error
        if fit == model.fit and hasattr(model, "kernels_"):
            raise Bad("a model in spite", f"of: {error}") from error
        if fit == model.partial_fit and pickle.dumps(vars(model)) != before:
            raise Bad("a model in spite", f"of: {error}") from error
        return True
    return False


def rows_of(chunks):
    """The rows that count, y with an axis of outputs, and weights of at most 1."""
    parts = []
    for X, y, weight in chunks:
        weight = np.ones(len(X)) if weight is None else np.asarray(weight, float)
        parts.append((X, np.asarray(y, float).reshape(len(X), -1), weight))
    X, y, weight = (np.concatenate(part) for part in zip(*parts, strict=True))
    counts, share = weight > 0, weight / weight.max()
    return X[counts], y[counts], share[counts], weight.sum()


def check_model(model, chunks):
    """Raise where it is not finite, or worse than a constant."""
    X, y, weight, n_samples = rows_of(chunks)
    X = X.astype(model.kernels_[0].dtype)
    with watched():
        predicted = model.predict(X).astype(float).reshape(y.shape)
    numbers = vars(model) | {"the prediction": predicted}
    numbers |= dict(enumerate(numbers.pop("kernels_")))
    parts = [*model.kernels_, model.scales_, model.biases_]
    few = min(len(X), n_samples) <= max(3, 1 + sum(part[0].size for part in parts))
    for name, value in numbers.items():
        is_number = isinstance(value, float | np.ndarray)
        may_be = name in NAN_IF_FEW and few
        if is_number and not (may_be or np.isfinite(value).all()):
            raise Bad("not finite", name)
    unit = np.abs(y).max(axis=0)
    unit, eps = np.where(unit > 0, unit, 1), np.finfo(X.dtype).eps
    y, predicted = y / unit, predicted / unit
    constant = np.average(y, axis=0, weights=weight) * model.fit_intercept
    losses, of_constant = weight @ (y - predicted) ** 2, weight @ (y - constant) ** 2
    slack = of_constant * ROUNDING * eps + weight.sum() * (ROUNDING * eps) ** 2
    if np.any(losses > of_constant + slack):
        raise Bad("worse", f"losses {losses} against {of_constant}, in {X.dtype}")


def fit_case(rng):
    p, params = draw_params(rng)
    model, data = DeepTDRegressor(**params), draw_data(rng, p)
    if refuses(model, model.fit, data):
        return "a clear error"
    check_model(model, [data])
    return "a model"


def check_moment(model, chunks):
    """Raise where the stream's moment is not that of the rows of all chunks."""
    X, y, weight, _ = rows_of(chunks)
    X, share = X.astype(float), weight / weight.sum()
    size = max(np.abs(X).max(), 1 / SAFE), max(np.abs(y).max(), 1 / SAFE)
    expected = ((y - share @ y) * share[:, np.newaxis]).T @ (X - share @ X)
    stored = model._stream["moment"]
    error = np.abs(stored["cross"] / stored["weight"] - expected).max()
    if max(size) < SAFE and error > 1e-12 * len(X) * math.prod(size):
        raise Bad("another moment", f"off by {error:.2g}")


def stream_case(rng):
    p, params = draw_params(rng)
    params["n_init"] = int(rng.integers(1, 4))
    model, accepted = DeepTDRegressor(**params), []
    for _ in range(rng.integers(2, 7)):
        chunk = draw_data(rng, p, 40, share_bad=0.3)
        if not refuses(model, model.partial_fit, chunk):
            accepted.append(chunk)
            check_moment(model, accepted)
            check_model(model, accepted)
    return "a model" if accepted else "a clear error"


def run(seed, number):
    """The kind of a case, its outcome and, where it is bad, the error."""
    kind, case = ("fits", fit_case)
    if number >= STREAMS_FROM:
        kind, case = ("streams", stream_case)
    try:
        return kind, case(np.random.default_rng([seed, number])), None
    except Bad as bad:
        return kind, bad.args[0], bad
    except Exception as error:
        bad = bare(error)
        bad.__cause__ = error
        return kind, bad.args[0], bad


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
        kind, outcome, bad = run(args.seed, number)
        counts[kind, outcome] += 1
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
