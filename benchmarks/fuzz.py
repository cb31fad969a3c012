"""Fit every public estimator to data of any kind, and judge each outcome.

``fuzz_cases.py`` draws an estimator, its parameters, and data: few rows, constant
columns, huge and tiny units, outliers, weights of zero, any container, bad values. A
case ends with one of these outcomes.

model           the training error is at most that of the best constant, up to rounding,
                and predictions and fitted attributes are finite
error           a ValueError or TypeError raised by skdeeptd, or by a check of
                scikit-learn that skdeeptd called
worse           the training error is larger than that of the best constant
bare error      any other error, or any error of ``predict``
false error     data of ordinary size are "too large or too small"
accepted        a fit to NaN, infinity or strings
state           an estimator that is fitted after an error, or a stream that changed
warning         a warning that is neither a UserWarning nor a FitFailedWarning
not finite      a fitted attribute or a prediction
std             negative standard deviations, or some that are 20 times smaller than the
                error of held-out rows
NaN std         standard deviations that are NaN without a warning
moment          the moment of a stream is not that of all accepted rows
slow            more than 30 seconds of the processor, or 120 in all

Run: OMP_NUM_THREADS=1 python benchmarks/fuzz.py [--fits 4000] [--streams 500]
One case, with its parameters and its traceback: python benchmarks/fuzz.py --case 17
"""

import argparse
import contextlib
import dis
import math
import multiprocessing
import pickle
import re
import signal
import sys
import time
import traceback
import warnings
from collections import Counter, defaultdict
from functools import partial
from typing import NamedTuple

import dask
import dask.array as da
import numpy as np
from fuzz_cases import draw_case
from scipy.special import xlogy
from sklearn.base import is_classifier, is_regressor
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.utils.validation import check_is_fitted

from skdeeptd import SignalScaler
from skdeeptd._classifier import with_class_weight

STREAMS_FROM = 1_000_000  # the number of the first stream
MOST_SECONDS = 30
ROUNDING = 16  # units in the last place of the largest |y|
HUBER_SLACK = 0.02  # relative; the scale is estimated too, up to tol
LOG_LOSS_SLACK = 0.1  # of a ridge classifier, which does not maximize the likelihood
ORDINARY, SAFE = 1e8, 1e70  # never out of range; can be multiplied by each other
CHECKS = (
    "/sklearn/utils/",
    "/sklearn/base.py",
    "/sklearn/model_selection/",
)
NOT_FINITE = "covariance_", "noise_variance_", "variance_scale_", "unit_", "scale_"
NOT_FINITE += "conformity_scores_", "loo_r2_"  # NaN like the covariance


class Bad(BaseException):
    """An outcome that should not be, which no fit may catch: its name and details."""


class Outcome(NamedTuple):
    estimator: str
    kind: str
    detail: str
    seconds: float


def is_clear(error):
    """Tell whether scikit-learn's checks raised it, or a ``raise`` of this package."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    last, file = error.__traceback__, frame.f_code.co_filename
    while last.tb_next is not None:
        last = last.tb_next
    by_raise = dis.opname[frame.f_code.co_code[last.tb_lasti]] == "RAISE_VARARGS"
    ours, theirs = by_raise and "/skdeeptd/" in file, any(f in file for f in CHECKS)
    return type(error) in (ValueError, TypeError) and (ours or theirs)


def bare(error):
    """Return the outcome of an error, with the last line of this package."""
    frames = traceback.extract_tb(error.__traceback__)
    last = ([f for f in frames if "/skdeeptd/" in f.filename] or frames)[-1]
    place = f"{last.filename.split('/')[-1]}:{last.lineno}"
    return Bad("bare error", f"{type(error).__name__}: {error} ({place})")


@contextlib.contextmanager
def watched():
    """Collect warnings; raise for a warning of numpy, say, and for a slow call."""

    def stop(*_):
        raise Bad("slow", f"more than {MOST_SECONDS} s")

    timers = {signal.ITIMER_PROF: 1, signal.ITIMER_REAL: 4}  # a hang uses no processor
    signal.signal(signal.SIGPROF, stop)
    signal.signal(signal.SIGALRM, stop)
    try:
        for timer, factor in timers.items():
            signal.setitimer(timer, factor * MOST_SECONDS)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            yield caught
    finally:
        for timer in timers:
            signal.setitimer(timer, 0)
    for w in caught:
        if not issubclass(w.category, UserWarning | FitFailedWarning):
            place = f"{w.filename.split('/')[-1]}:{w.lineno}"
            raise Bad("warning", f"{w.message} ({place})")


def called(method, X, **options):
    """Return what a method of a fitted model returns; any error is bad."""
    try:
        with watched():
            return dask.compute(method(X, **options))[0]
    except Bad:
        raise
    except Exception as error:
        raise bare(error) from error


# Refusals


def in_chunks(data):
    """Return the data with X, y and the weights as dask arrays of a few rows."""
    size = max(1, len(data.X) // 3)
    X, y, weight = (None if a is None else np.asarray(a) for a in data[:3])
    X, y = (da.from_array(a, chunks=(size, *a.shape[1:])) for a in (X, y))
    weight = None if weight is None else da.from_array(weight, chunks=size)
    return data._replace(X=X, y=y, weight=weight)


def is_ordinary(model, data):
    arrays = [data.X, 0 if is_classifier(model) else data.y]
    arrays = [np.asarray(a, float) for a in [*arrays, data.weight] if a is not None]
    alpha = getattr(getattr(model, "estimator", model), "alpha", 0)
    sizes = [np.abs(a).max() for a in arrays] + [0 if alpha == "loo" else alpha]
    return all(size == 0 or 1 / ORDINARY < size < ORDINARY for size in sizes)


def is_fitted(model):
    try:
        check_is_fitted(model)
    except NotFittedError:
        return False
    return True


def fitted(model, fit, data):
    """Return None and the warnings of a fit, or the error of data that are refused."""
    before = pickle.dumps(vars(model))
    try:
        with watched() as caught:
            fit(data.X, data.y, sample_weight=data.weight)
    except (ValueError, TypeError) as error:
        if not is_clear(error):
            raise bare(error) from error
        if "too large or too small" in str(error) and is_ordinary(model, data):
            raise Bad("false error", str(error)) from error
        is_stream = fit.__name__ == "partial_fit"
        if pickle.dumps(vars(model)) != before if is_stream else is_fitted(model):
            raise Bad("state", f"after: {error}") from error
        return error, caught
    if data.is_bad and not isinstance(model, SignalScaler):  # which ignores y
        raise Bad("accepted", "bad data")
    return None, caught


# Models


def rows_of(parts, *predicted):
    """Return y, predictions and weights of at most 1 of the rows that count."""
    y = np.concatenate([np.asarray(p.y).reshape(len(p.y), -1) for p in parts])
    weights = [np.ones(len(p.y)) if p.weight is None else p.weight for p in parts]
    weight = np.concatenate(weights).astype(float)
    return [a[weight > 0] for a in (y, *predicted, weight / weight.max())]


def check_attributes(model):
    network = getattr(model, "best_estimator_", getattr(model, "estimator_", model))
    for name, value in [*vars(model).items(), *vars(network).items()]:
        parts = value if isinstance(value, list) else [value]
        floats = [v for v in parts if isinstance(v, float | np.ndarray)]
        floats = [a for a in map(np.asarray, floats) if a.dtype.kind == "f"]
        public = name.endswith("_") and name not in NOT_FINITE
        if public and not all(np.isfinite(a).all() for a in floats):
            raise Bad("not finite", name)


def finite(model, method, X):
    """Return numbers that a method predicts; raise if they are not finite."""
    predicted = called(getattr(model, method), X)
    if not np.isfinite(predicted).all():
        raise Bad("not finite", method)
    return predicted


def losses(network, y, predicted, unit):
    """Return the loss of each row, as the estimator minimizes it, for y over unit."""
    loss, error = getattr(network, "loss", "squared_error"), np.abs(y - predicted)
    if loss == "poisson":
        return 2 * (xlogy(y, y) - xlogy(y, predicted) - y + predicted)
    if loss == "huber":
        most = np.maximum(network.epsilon * network.scale_ / unit, 1e-300)
        small = np.minimum(error, most)
        return small * (error - small / 2) / most
    return error**2


def check_numbers(model, parts, predicted, eps):
    """Raise if predicted numbers are worse than the best constant."""
    network = getattr(model, "estimator_", model)
    predicted = predicted.astype(float).reshape(len(predicted), -1)
    y, predicted, weight = rows_of(parts, predicted)
    unit = np.abs(y.astype(float)).max(axis=0)
    unit[unit == 0] = 1
    y, predicted = y.astype(float) / unit, predicted / unit
    loss = getattr(network, "loss", "squared_error")
    constant = np.average(y, axis=0, weights=weight)
    if loss == "huber":
        how = {"weights": weight, "method": "inverted_cdf"}
        constant = np.array([np.quantile(column, 0.5, **how) for column in y.T])
    if not getattr(network, "fit_intercept", True):
        constant = 1 / unit if loss == "poisson" else 0 * unit
    constant = np.broadcast_to(constant, y.shape)
    found, best = (weight @ losses(network, y, q, unit) for q in (predicted, constant))
    slack = (ROUNDING * eps) ** 2 if loss == "squared_error" else 1e4 * eps
    factor = 1 + (HUBER_SLACK if loss == "huber" else ROUNDING * eps)
    if np.any(found > best * factor + weight.sum() * slack):
        raise Bad("worse", f"losses {found} against {best}, eps {eps:.0e}")


def check_classes(model, parts, logs):
    """Raise if log-probabilities are worse than those of the shares of the classes."""
    network, classes = getattr(model, "estimator_", model), model.classes_
    if np.abs(np.exp(logs.astype(float)).sum(axis=1) - 1).max() > 1e-4:
        raise Bad("not finite", "probabilities do not sum to one")
    y, logs, weight = rows_of(parts, logs.astype(float))
    given = getattr(network, "class_weight", None)
    weight = with_class_weight(given, y[:, 0], weight)
    is_class = y == classes
    shares = np.average(is_class, axis=0, weights=weight)
    if not getattr(network, "fit_intercept", True):
        shares = np.full(len(classes), 1 / len(classes))
    found = weight @ -logs[is_class] / weight.sum()
    best = weight @ -np.log(shares[is_class.argmax(axis=1)]) / weight.sum()
    by_likelihood = hasattr(network, "intercept_")
    if found > best * (1 + 1e-6) + (1e-4 if by_likelihood else LOG_LOSS_SLACK):
        raise Bad("worse", f"log loss {found:.6g} against {best:.6g}")


def check_std(model, data, caught):
    """Raise for standard deviations that are not finite, or far too small."""
    try:
        with watched() as more:
            found = dask.compute(model.predict(data.X_new, return_std=True))[0]
    except ValueError as error:
        if is_clear(error):
            return
        raise bare(error) from error
    mean, std = (np.reshape(a, (len(a), -1)).astype(float) for a in found)
    if np.any(std < 0) or np.any(np.isinf(std)):
        raise Bad("std", f"{std.min()} to {std.max()}")
    told = [w for w in [*caught, *more] if "standard dev" in str(w.message)]
    if np.any(np.isnan(std)) and not told:
        raise Bad("NaN std", "without a warning")
    network = getattr(model, "best_estimator_", getattr(model, "estimator_", model))
    n_weights = getattr(network, "covariance_", np.zeros(1)).shape[-1]
    if data.is_fair and not np.isnan(std).any() and len(data.X) >= 2 * n_weights:
        error = np.sqrt(
            np.mean((mean - data.mean_new.reshape(mean.shape)) ** 2, axis=0)
        )
        typical = np.sqrt(np.mean(std**2, axis=0))
        if np.any(error > 20 * typical):
            raise Bad("std", f"{typical} for an error of {error}")


def check_moment(model, parts):
    """Raise if the moment of a stream is not that of the rows of all parts."""
    X = np.concatenate([np.asarray(p.X, float).reshape(len(p.y), -1) for p in parts])
    y, X, weight = rows_of(parts, X)
    y, share = y.astype(float), weight / weight.sum()
    size = [max(np.abs(a).max(), 1 / SAFE) for a in (X, y)]
    expected = ((y - share @ y) * share[:, np.newaxis]).T @ (X - share @ X)
    stored = model._stream["moment"]
    error = np.abs(stored["cross"] / stored["weight"] - expected).max()
    if max(size) < SAFE and error > 1e-12 * len(X) * math.prod(size):
        raise Bad("moment", f"off by {error:.2g}")


def check_model(model, parts, caught):
    """Raise if the model is not sound on the rows that it was fitted to."""
    check_attributes(model)
    method = "transform"
    if is_regressor(model) or is_classifier(model):
        method = "predict_log_proba" if is_classifier(model) else "predict"
    finite(model, method, parts[-1].X_new)
    predicted = [finite(model, method, p.X) for p in parts]
    rows = [np.asarray(p.X) for p in parts]
    floats = [a.dtype for a in [*rows, *predicted] if a.dtype.kind == "f"]
    predicted = np.concatenate(predicted)
    if method == "transform" and np.abs(predicted).max() > 5:
        raise Bad("not finite", "features beyond 5")
    if is_classifier(model):
        check_classes(model, parts, predicted)
        if not np.isin(called(model.predict, parts[-1].X_new), model.classes_).all():
            raise Bad("not finite", "an unknown class")
    if is_regressor(model):
        eps = max(np.finfo(dtype).eps for dtype in floats)
        check_numbers(model, parts, predicted, eps)
        is_fair = parts[0].is_fair and len(parts) == 1
        check_std(model, parts[-1]._replace(is_fair=is_fair), caught)


# Cases


def judge(case):
    """Fit, and return the kind of the outcome with its detail; or raise."""
    model, accepted, refused = case.model, [], None
    is_stream = len(case.parts) > 1
    for data in case.parts:
        part = in_chunks(data) if case.name.startswith("Dask") else data
        fit = model.partial_fit if is_stream else model.fit
        error, caught = fitted(model, fit, part)
        refused = error or refused
        if error is None:
            accepted.append(data)
            is_squared = getattr(model, "loss", None) == "squared_error"
            if is_stream and is_squared:
                check_moment(model, accepted)
            check_model(model, accepted, caught)
    return ("model", "") if accepted else ("error", str(refused))


def run(seed, number, names=None):
    """Return the outcome of a case, and the error if the outcome is bad."""
    rng, begin = np.random.default_rng([seed, number]), time.process_time()
    case = draw_case(rng, number >= STREAMS_FROM, *([names] if names else []))
    trouble = None
    try:
        kind, detail = judge(case)
    except Bad as bad:
        trouble = bad
    except Exception as error:
        trouble = bare(error)
        trouble.__cause__ = error
    if trouble is not None:
        kind, detail = trouble.args
    return Outcome(case.name, kind, detail, time.process_time() - begin), trouble, case


def outcome_of(seed, number):
    return number, run(seed, number)[0]


def print_tables(outcomes):
    """Print the outcomes of each estimator, and the errors by the kind of message."""
    counts, slowest, messages = defaultdict(Counter), {}, defaultdict(list)
    for number, (name, kind, detail, seconds) in outcomes:
        counts[name][kind if kind in ("model", "error") else "bad"] += 1
        slowest[name] = max(slowest.get(name, (0, 0)), (seconds, number))
        if kind == "error":
            text = re.sub(r"[-+]?\d[\d.]*(e[-+]?\d+)?", "#", detail)
            messages[name, " ".join(text.split())[:45]].append(number)
    print("| estimator | models | errors | bad | slowest | case |\n" + 6 * "|---" + "|")
    for name, of_kind in sorted(counts.items()):
        row = [of_kind[kind] for kind in ("model", "error", "bad")]
        seconds, number = slowest[name]
        print("|", " | ".join(map(str, [name, *row, f"{seconds:.1f} s", number])), "|")
    print("\n| estimator | error | cases | first |\n" + 4 * "|---" + "|")
    for (name, text), numbers in sorted(messages.items()):
        print(f"| {name} | {text} | {len(numbers)} | {numbers[0]} |")


def show(seed, number):
    """Print one case with its parameters, the outcome and the traceback."""
    outcome, bad, case = run(seed, number)
    print(case.model)
    for part in case.parts:
        print(*(f"{a!r:.400}" for a in part[:3]), sep="\n")
    print(outcome)
    if bad is not None:
        traceback.print_exception(bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fits", type=int, default=4000)
    parser.add_argument("--streams", type=int, default=500)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--case", type=int, help="run this one alone")
    args = parser.parse_args()
    if args.case is not None:
        return show(args.seed, args.case)
    numbers = [*range(args.first, args.first + args.fits)]
    start = STREAMS_FROM + args.first
    numbers += range(start, start + args.streams)
    outcomes = []
    with multiprocessing.Pool(args.jobs) as pool:
        for number, outcome in pool.imap(partial(outcome_of, args.seed), numbers):
            outcomes.append((number, outcome))
            if outcome.kind not in ("model", "error"):
                print(f"{outcome.estimator}: {outcome.kind}: {outcome.detail}")
                print(f"    --seed {args.seed} --case {number}", flush=True)
    print_tables(outcomes)
    return None


if __name__ == "__main__":
    sys.exit(main())
