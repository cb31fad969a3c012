"""What a fit costs, in multiples of one read of X.

The yardstick is ``X.T @ y`` (for predict ``X @ w``) on the same array with one BLAS
thread; it reads X once, near the bandwidth of the memory. Every time is taken beside
its yardstick, in turns; the tables hold the median of the ratios and in brackets the
smallest and the largest. X is Gaussian, 100 000 x 1024, kernel sizes (16, 8, 8).

passes      fits, one Gauss-Newton pass over all rows, predictions; with 1 and 2 jobs
one_row     predict for one row over that of kernel ridge regression, 150 x 64
filters     what several filters, many layers and a choice cost, beside one filter,
            one start, or scikit-learn
defaults    seconds of the calls without arguments, random walks and digits; one
            pass of the likelihood over a squared one; how many of 20 planted
            networks DeepTDAutoRegressor() finds exactly from ten rows for each weight
kernels     ways to compute the first layer and its Jacobian on blocks of several sizes
layouts     the same fit from X in other layouts
scaling     seconds over n and over p, and their slope on log axes
memory      most memory beside X that a fit takes, of an array and of a 2 GiB file
peers       other regressors on 20 000 x 1024: seconds over DeepTD's, and test R2
dask        DaskDeepTDRegressor, two workers that hold the data, over the plain class
against     processor seconds of whole fits over those of the source tree --other: a
            process per case and tree, in turns, the median of 7 fits after a first one

Run: python benchmarks/speed.py [section ...] [--repeats 7] [--rows 100000] [--other .]
It needs the optional dependencies "benchmarks", and "dask" for the last section.
"""

import argparse
import math
import os
import subprocess
import sys
import tempfile
import time
import tracemalloc
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.neural_network import MLPRegressor
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

import skdeeptd
from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDRegressor,
    DeepTDRegressorCV,
)
from skdeeptd._data.rows import RowBlocks
from skdeeptd._fit import fit_rows
from skdeeptd._init.multi_start import Spec
from skdeeptd._loss import Multinomial, SquaredError
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network
from skdeeptd._solvers.gauss_newton import gauss_newton
from skdeeptd._solvers.normal_equations import normal_equations
from skdeeptd.datasets import make_patch_cnn_regression

SIZES = (16, 8, 8)
GIB = 2**30


def seconds_of(function):
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def ratios(function, yardstick, repeats):
    """Time over that of the yardstick, measured in turns, after one call of each."""
    function(), yardstick()
    return [seconds_of(function) / seconds_of(yardstick) for _ in range(repeats)]


def spread(values):
    low, middle, high = np.quantile(values, [0, 0.5, 1])
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def table(*columns):
    print(f"\n| {' | '.join(columns)} |\n|{'---|' * len(columns)}")


def row(*cells):
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def planted(n_rows, dtype=np.float64, noise=0.0, sizes=SIZES):
    X, y = make_patch_cnn_regression(n_rows, sizes, noise=noise, random_state=0)
    return X.astype(dtype, copy=False), y


def deeptd(**parameters):
    return DeepTDRegressor(SIZES, random_state=0, **parameters)


def network_of(kernels, layout=None):
    """Return the network of the kernels of each layer, (filters, size), with relus.

    The last kernels are the head. None is the layout of patches that do not overlap.
    """
    *hidden, last = kernels
    sizes = tuple(k.shape[1] for k in kernels)
    layout = layout or make_layout(math.prod(sizes), sizes)
    activations = ("relu",) * len(hidden) + ("identity",)
    blank = blank_network(layout, len(last), activations)
    return blank._replace(kernels=tuple(hidden), heads=last[np.newaxis])


def random_network(sizes, n_filters=1, layout=None):
    rng = np.random.default_rng(0)
    return network_of([rng.standard_normal((n_filters, d)) for d in sizes], layout)


def a_pass(network, X, y, alpha=0.0, n_jobs=1):
    """Carry out one Gauss-Newton pass over all rows, the derivatives included."""
    rows = RowBlocks(X, y[:, np.newaxis], np.ones(len(y)), n_jobs)
    normal_equations(network, rows, SquaredError(), alpha)


def passes(options):
    table("what", "dtype", "n_jobs=1", "n_jobs=2", "2 jobs against 1")
    for dtype in (np.float64, np.float32):
        X, y = planted(options.rows, dtype)
        noisy = y + 0.3 * np.random.default_rng(0).standard_normal(len(y))
        column, w = y.astype(dtype), np.ones(X.shape[1], dtype)
        one_pass = partial(a_pass, random_network(SIZES), X, y, 0.0)
        exact, rough = deeptd().fit(X, y), deeptd().fit(X, noisy)
        read, multiply = (lambda X=X, c=column: X.T @ c), (lambda X=X, w=w: X @ w)
        cases = {
            "fit(polish=False)": (
                lambda jobs, X=X, y=y: deeptd(polish=False, n_jobs=jobs).fit(X, y),
                read,
            ),
            f"fit, no noise: 1 - R2 = {1 - exact.score(X, y):.0e}": (
                lambda jobs, X=X, y=y: deeptd(n_jobs=jobs).fit(X, y),
                read,
            ),
            f"fit, noise of 0.3: {rough.n_iter_} passes over all rows": (
                lambda jobs, X=X, y=noisy: deeptd(n_jobs=jobs).fit(X, y),
                read,
            ),
            "one Gauss-Newton pass": (one_pass, read),
            "predict": (
                lambda jobs, X=X, m=exact: m.set_params(n_jobs=jobs).predict(X),
                multiply,
            ),
        }
        for name, (function, yardstick) in cases.items():
            cells = [
                ratios(partial(function, jobs), yardstick, options.repeats)
                for jobs in (1, 2)
            ]
            gain = ratios(partial(function, 1), partial(function, 2), options.repeats)
            row(name, np.dtype(dtype).name, *map(spread, [*cells, gain]))


def one_row(options):
    """The network's shape is given; the default call averages several models."""
    table("predict(X[:1])", "over KernelRidge", "microseconds")
    X, y = planted(150, noise=0.3, sizes=(8, 8))
    models = [
        DeepTDRegressor((8, 8), random_state=0),
        DeepTDRegressorCV(random_state=0),
    ]
    one, calls = X[:1], 50 * options.repeats
    yardstick = partial(KernelRidge().fit(X, y).predict, one)
    for model in models:
        predict = partial(model.fit(X, y).predict, one)
        ratio = np.median(ratios(predict, yardstick, calls))
        micros = 1e6 * np.median([seconds_of(predict) for _ in range(calls)])
        row(type(model).__name__, f"{ratio:.2f}", f"{micros:.0f}")


def noisy_spectra(n_rows=300, n_features=400, noise=0.05):
    """Mixtures of eight bands, standardised; the target is not linear in them."""
    rng = np.random.default_rng(0)
    at, shares = np.linspace(0, 1, n_features), rng.random((n_rows, 8))
    centres, widths = rng.random((8, 1)), rng.uniform(0.02, 0.1, (8, 1))
    X = shares @ np.exp(-(((at - centres) / widths) ** 2) / 2)
    X += noise * rng.standard_normal(X.shape)
    y = 2 * shares[:, 0] + shares[:, 1] ** 2 + np.maximum(shares[:, 2] - 0.5, 0)
    y += noise * rng.standard_normal(n_rows)
    return (X - X.mean(axis=0)) / X.std(axis=0), y


def digits_choice(activation):
    X, digit = load_digits(return_X_y=True)
    some = np.random.RandomState(0).permutation(len(X))[:600]
    X, y = StandardScaler().fit_transform(X[some]), digit[some] % 2
    shapes = [((2, 2), (4, 4)), ((4, 4), (2, 2)), ((2, 4), (4, 2)), ((4, 2), (2, 4))]
    grid = {
        "kernel_sizes": shapes,
        "n_filters": [8, 16],
        "alpha": [1.0, 10.0, 100.0],
        "activation": [activation],
        "hidden_bias": [activation == "tanh"],
        "n_init": [2],
        "max_iter": [60],
        "tol": [1e-3],
    }
    search = DeepTDRegressorCV(grid, input_shape=(8, 8), cv=5, random_state=0)
    return lambda: search.fit(X, y)


def filters(options):
    table("what", "over", "ratio", "seconds")

    def compare(name, over, function, yardstick, repeats=options.repeats):
        ratio = spread(ratios(function, yardstick, repeats))
        row(name, over, ratio, f"{seconds_of(function):.3f}")

    for sizes, n_rows in {(8, 8): 2000, (16, 8, 8): 20_000}.items():
        X, y = planted(n_rows, sizes=sizes)
        networks = [random_network(sizes, n_filters) for n_filters in (16, 1)]
        passes = [partial(a_pass, network, X, y, 1.0) for network in networks]
        compare(f"a pass, 16 filters, {n_rows} x {X.shape[1]}", "1 filter", *passes)
    X, y = noisy_spectra()
    fits = [
        partial(
            DeepTDRegressor((20, 20), n_filters=3, random_state=0, **more).fit, X, y
        )
        for more in ({}, {"n_init": 1})
    ]
    compare("fit of noisy spectra, 3 filters", "one start", *fits, repeats=3)
    wide = np.random.default_rng(0).standard_normal((80, 700))
    target = wide[:, 0] + np.random.default_rng(1).standard_normal(80)
    blank = blank_network(make_layout(700, (700,)), 1, ("identity",))
    spec = Spec(blank, alpha=1.0)
    rows = RowBlocks(wide, target[:, np.newaxis], np.ones(80))
    compare(
        "linear candidate of a choice, 80 x 700",
        "RidgeCV",
        partial(fit_rows, rows, spec),
        partial(RidgeCV(np.logspace(-3, 3, 7)).fit, wide, target),
    )
    for activation in ("relu", "tanh"):
        name = f"choice on digits, 24 candidates, {activation}"
        row(name, "", "", f"{seconds_of(digits_choice(activation)):.1f}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of budgets that are used up
        X, y = planted(500, sizes=(8, 8))
        many = DeepTDRegressor(
            (8, 8), n_filters=64, n_init=1, alpha=1.0, random_state=0
        )
        seconds = seconds_of(partial(many.fit, X, y))
        row("fit, 64 filters, 500 x 64, one start", "", "", f"{seconds:.1f}")
        X, y = make_patch_cnn_regression(
            500, (2,) * 12, activation="tanh", random_state=0
        )
        deep = DeepTDRegressor((2,) * 12, activation="tanh", n_init=1, random_state=0)
        seconds = seconds_of(partial(deep.fit, X, y))
        row("fit, 12 tanh layers, 500 x 4096, one start", "", "", f"{seconds:.1f}")


def likelihood_pass(repeats):
    """Return the time of a pass for ten classes over one of squared errors.

    Both are passes of a Gauss-Newton fit, the steps between them included.
    """
    X, digit = load_digits(return_X_y=True)
    layout = make_layout(64, ((4, 4), (2, 2)), input_shape=(8, 8))
    blank = blank_network(layout, 8, ("relu", "identity"), n_heads=10)
    rng = np.random.default_rng(0)
    kernels = tuple(rng.standard_normal(k.shape) for k in blank.kernels)
    network = blank._replace(kernels=kernels)
    rows = RowBlocks(X / 16, np.eye(10)[digit], np.ones(len(X)))

    def seconds_of_a_pass(loss):
        begin = time.perf_counter()
        found = gauss_newton(network, rows, loss, alpha=1.0, max_iter=15, tol=0.0)
        return (time.perf_counter() - begin) / found.n_iter

    pairs = [(Multinomial(), SquaredError()) for _ in range(repeats + 1)]
    return [seconds_of_a_pass(a) / seconds_of_a_pass(b) for a, b in pairs][1:]


def defaults(options):
    table("what", "of", "found")
    rng = np.random.default_rng(0)
    for n_rows, n_features in [(150, 150), (150, 700), (1000, 400)]:
        X = np.cumsum(rng.standard_normal((n_rows, n_features)), axis=1)
        y = np.tanh(X[:, n_features // 3] - X[:, n_features // 2])
        y += 0.1 * rng.standard_normal(n_rows)
        seconds = seconds_of(partial(DeepTDAutoRegressor(random_state=0).fit, X, y))
        row("DeepTDAutoRegressor()", f"{n_rows} x {n_features}", f"{seconds:.1f} s")
    X, digit = load_digits(return_X_y=True)
    some = np.random.RandomState(0).permutation(len(X))[:1347]
    fit = partial(DeepTDAutoClassifier(random_state=0).fit, X.reshape(-1, 8, 8)[some])
    row(
        "DeepTDAutoClassifier()",
        "1347 digits",
        f"{seconds_of(partial(fit, digit[some])):.1f} s",
    )
    row(
        "one likelihood step over a squared one",
        "10 classes",
        spread(likelihood_pass(options.repeats)),
    )
    exact = 0
    for seed in range(20):
        X, y = make_patch_cnn_regression(600, (8, 8), random_state=seed)
        model = DeepTDAutoRegressor(random_state=0).fit(X[:150], y[:150])
        exact += model.score(X[150:], y[150:]) > 1 - 1e-6
    row("found exactly by DeepTDAutoRegressor()", "(8, 8), 150 rows", f"{exact} of 20")


def kernels(options):
    """Each function on all blocks of X; ``back`` are the factors of its patches."""
    X, y = planted(options.rows // 2)
    d = SIZES[0]
    k, wide = np.ones(d), np.kron(np.eye(4), np.ones((d, 1)))
    layer = {
        "GEMV of all patches": lambda block, _: block.reshape(-1, d) @ k,
        "matmul per row": lambda block, _: block.reshape(len(block), -1, d) @ k,
        "GEMM of 4 patches": lambda block, _: block.reshape(-1, 4 * d) @ wide,
        "einsum": lambda block, _: np.einsum("ij,j", block.reshape(-1, d), k),
    }
    jacobian = {
        "matmul per row": lambda block, back: (
            back[:, np.newaxis] @ block.reshape(len(block), -1, d)
        ),
        "einsum": lambda block, back: np.einsum(
            "ij,ijk->ik", back, block.reshape(len(block), -1, d)
        ),
        "product and sum": lambda block, back: np.sum(
            back[..., np.newaxis] * block.reshape(len(block), -1, d), axis=1
        ),
    }
    lengths = [32, 128, 512, 2048]
    table("first layer", "by", *(f"blocks of {n} rows" for n in lengths))
    for title, functions in {"output": layer, "Jacobian": jacobian}.items():
        for name, function in functions.items():
            cells = []
            for length in lengths:
                back = np.ones((length, X.shape[1] // d))

                def all_blocks(length=length, back=back, function=function):
                    for i in range(0, len(X), length):
                        block = X[i : i + length]
                        function(block, back[: len(block)])

                cells.append(ratios(all_blocks, lambda: X.T @ y, 3))
            row(title, name, *map(spread, cells))


def layouts(options):
    table("X", "fit", "predict")
    X, y = planted(options.rows // 4)
    single = X.astype(np.float32)
    arrays = {
        "C order": X,
        "Fortran order": np.asfortranarray(X),
        "every second row of a larger X": np.repeat(X, 2, axis=0)[::2],
        "every second column of a larger X": np.repeat(X, 2, axis=1)[:, ::2],
        "float32": single,
    }
    for name, array in arrays.items():
        model = deeptd().fit(array, y)
        cells = [
            ratios(partial(function, array), lambda: X.T @ y, options.repeats)
            for function in (lambda array: deeptd().fit(array, y), model.predict)
        ]
        row(name, *map(spread, cells))


def scaling(options):
    table("grows", "1", "2", "4", "8", "slope of fit", "slope of one read")
    base = options.rows // 8
    shapes = {
        "n": [(base * f, SIZES) for f in (1, 2, 4, 8)],
        "p": [(2 * base, (16, 8, f)) for f in (1, 2, 4, 8)],
    }
    for name, cases in shapes.items():
        times = []
        for n_rows, sizes in cases:
            X, y = planted(n_rows, noise=0.3, sizes=sizes)
            model = DeepTDRegressor(sizes, random_state=0)
            pair = (partial(model.fit, X, y), lambda X=X, y=y: X.T @ y)
            taken = [[seconds_of(f) for f in pair] for _ in range(options.repeats)]
            times.append(np.median(taken, axis=0))
        fit, read = np.transpose(times)
        steps = np.log([1, 2, 4, 8])
        slopes = [f"{np.polyfit(steps, np.log(t), 1)[0]:.2f}" for t in (fit, read)]
        row(name, *(f"{1e3 * t:.0f} ms" for t in fit), *slopes)


FILE_FIT = """
import sys, threading, time
import numpy as np
from skdeeptd import DeepTDRegressor
rows, path, dtype = int(sys.argv[1]), sys.argv[2], sys.argv[3]
X = np.memmap(path, dtype=dtype, mode="r", shape=(rows, 1024))
y = np.load(path + ".y.npy")
def anonymous():
    with open("/proc/self/status") as status:
        lines = dict(line.split(":", 1) for line in status)
    return int(lines["RssAnon"].split()[0]) / 1024
DeepTDRegressor((16, 8, 8), random_state=0).fit(X[:5000], y[:5000])
before, peak, done = anonymous(), 0, False
def watch():
    global peak
    while not done:
        peak = max(peak, anonymous())
        time.sleep(0.002)
watcher = threading.Thread(target=watch)
watcher.start()
begin = time.perf_counter()
model = DeepTDRegressor((16, 8, 8), random_state=0).fit(X, y)
seconds = time.perf_counter() - begin
done = True
watcher.join()
print(f"{peak - before:.0f} MiB | {seconds:.1f} s, {1 - model.score(X, y):.0e}")
"""


def memory(options):
    table("X", "most memory beside it", "seconds, 1 - R2")
    X, y = planted(options.rows)
    tracemalloc.start()
    deeptd().fit(X, y)
    peak = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    row(f"array of {X.nbytes / 2**20:.0f} MiB", f"{peak:.0f} MiB", "")
    for dtype in (np.float64, np.float32):
        n_rows = 2 * GIB // (1024 * np.dtype(dtype).itemsize)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "X")
            # the rows of X again and again: only their size matters here
            with open(path, "wb") as file:
                for begin in range(0, n_rows, len(X)):
                    file.write(X[: n_rows - begin].astype(dtype).tobytes())
            np.save(path + ".y.npy", np.resize(y, n_rows))
            command = [sys.executable, "-c", FILE_FIT, str(n_rows), path]
            done = subprocess.run(
                [*command, np.dtype(dtype).name],
                check=True,
                capture_output=True,
                text=True,
            )
        name = np.dtype(dtype).name
        row(f"np.memmap of 2 GiB, {name}", *done.stdout.strip().split(" | "))


def peers(options):
    from recovery import cp_regression, Case, torch_network  # noqa: I001 needs torch
    import torch

    n_train = options.rows // 5
    X, y = planted(n_train + 5000, noise=0.3)
    train, test = (X[:n_train], y[:n_train]), (X[n_train:], y[n_train:])

    def adam(X, y):
        """Mini-batches of 256, a new start after 20 epochs, until R2 is DeepTD's."""
        torch.manual_seed(0)
        X, y, begin = torch.as_tensor(X)[:, None], torch.as_tensor(y), time.time()
        while time.time() - begin < 300:
            network = torch_network(SIZES)
            optimizer = torch.optim.Adam(network.parameters(), 0.003)

            def predict(X_test, network=network):
                with torch.no_grad():
                    return network(torch.as_tensor(X_test)[:, None]).numpy()

            for _ in range(20):
                for batch in torch.randperm(len(X)).split(256):
                    optimizer.zero_grad()
                    torch.mean((network(X[batch]) - y[batch]) ** 2).backward()
                    optimizer.step()
                if r2_score(test[1], predict(test[0])) > target:
                    return predict
        return predict

    methods = {
        "DeepTD": lambda X, y: deeptd().fit(X, y).predict,
        "Ridge(solver='cholesky')": lambda X, y: (
            Ridge(solver="cholesky").fit(X, y).predict
        ),
        "MLPRegressor, 20 epochs": lambda X, y: (
            MLPRegressor(max_iter=20, random_state=0).fit(X, y).predict
        ),
        "CPRegressor of TensorLy": partial(cp_regression, Case(SIZES, 0)),
        "the same network by Adam, in torch, to this R2": adam,
    }
    table("method", "seconds", "over DeepTD", "test R2")
    for name, method in methods.items():
        begin = time.perf_counter()
        predict = method(*train)
        taken, r2 = time.perf_counter() - begin, r2_score(test[1], predict(test[0]))
        if name == "DeepTD":
            first, target = taken, r2 - 1e-3
        row(name, f"{taken:.2f}", f"{taken / first:.0f}", f"{r2:.4f}")


def dask(options):
    import dask.array
    from distributed import Client, LocalCluster, wait

    from skdeeptd.dask import DaskDeepTDRegressor

    X, y = planted(options.rows, noise=0.3)
    chunks = (options.rows // 8, -1)
    warnings.filterwarnings("ignore", "Sending large graph")
    table("data", "over n_jobs=1", "over n_jobs=2")
    with (
        LocalCluster(2, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        # copied by the workers, as if they had read the data themselves
        sent = [dask.array.from_array(a, chunks=chunks[: a.ndim]) for a in (X, y)]
        held = client.persist([array.map_blocks(np.copy) for array in sent])
        wait(held)
        model = DaskDeepTDRegressor(deeptd(), client=client)
        cells = [
            ratios(
                partial(model.fit, *held),
                partial(deeptd(n_jobs=jobs).fit, X, y),
                options.repeats,
            )
            for jobs in (1, 2)
        ]
        row("noise of 0.3, 8 chunks", *map(spread, cells))


FIT_CASE = """
import math, sys, time, warnings
import numpy as np
import skdeeptd
from sklearn.datasets import load_digits
from skdeeptd import DeepTDClassifier, DeepTDRegressor
assert skdeeptd.__file__.startswith(sys.argv[1])
def planted(n_rows, sizes, noise, n_filters=1):
    rng, y = np.random.default_rng(0), 0.0
    X = rng.standard_normal((n_rows, math.prod(sizes)))
    for _ in range(n_filters):
        h = X
        for layer, d in enumerate(sizes):
            k = rng.standard_normal(d)
            k *= np.sign(k.sum()) / np.linalg.norm(k)  # most relus are alive
            h = (h if layer == 0 else np.maximum(h, 0)).reshape(n_rows, -1, d) @ k
        y = y + rng.choice([-1, 1]) * h[:, 0]
    return X, y / y.std() + noise * rng.standard_normal(n_rows)
def digits(n_rows, one_hot):
    X, y = load_digits(return_X_y=True)
    return X[:n_rows] / 16, (np.eye(10)[y] if one_hot else y)[:n_rows]
warnings.simplefilter("ignore")
model, (X, y) = eval(sys.argv[2]), eval(sys.argv[3])
model.set_params(random_state=0).fit(X, y)
times = []
for _ in range(7):
    begin = time.process_time()
    model.fit(X, y)
    times.append(time.process_time() - begin)
print(np.median(times), model.score(X, y))
"""
DIGITS = "((4, 4), (2, 2)), input_shape=(8, 8), n_filters=8"
SHARED = "share_filters=True, alpha=1.0, n_init=4, max_iter=30"
FIT_CASES = {
    "DeepTDRegressor((8, 8))": "planted(450, (8, 8), 0.3)",
    "DeepTDRegressor((4, 4, 4), n_filters=3)": "planted(900, (4, 4, 4), 0.3, 3)",
    "DeepTDRegressor((5, 5, 4))": "planted(150, (5, 5, 4), 0.0)",
    "DeepTDRegressor((10, 10, 10))": "planted(140, (10, 10, 10), 0.3)",
    "DeepTDRegressor((16, 8, 8))": "planted(20_000, (16, 8, 8), 0.3)",
    f"DeepTDRegressor({DIGITS}, {SHARED})": "digits(1000, True)",
    f"DeepTDClassifier({DIGITS}, n_init=2)": "digits(600, False)",
}


def against(options, n_turns=5):
    if options.other is None:
        return

    def seconds_and_score(tree, *case):
        done = subprocess.run(
            [sys.executable, "-c", FIT_CASE, str(tree), *case],
            check=True,
            capture_output=True,
            text=True,
            cwd=tree,
            env=os.environ | {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
        )
        return np.array(done.stdout.split(), float)

    trees = Path(skdeeptd.__file__).parents[1], options.other.resolve()
    table("fit", "data", "new / other", "processor s, new", "score, new, other")
    for case in FIT_CASES.items():
        turns = [[seconds_and_score(t, *case) for t in trees] for _ in range(n_turns)]
        new, other = np.array(turns).swapaxes(0, 1)
        scores = f"{new[0, 1]:.4f}, {other[0, 1]:.4f}"
        ratio = spread(new[:, 0] / other[:, 0])
        row(*case, ratio, f"{np.median(new[:, 0]):.3f}", scores)


SECTIONS = [
    passes,
    one_row,
    filters,
    defaults,
    kernels,
    layouts,
    scaling,
    memory,
    peers,
    dask,
    against,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = [section.__name__ for section in SECTIONS]
    parser.add_argument("sections", nargs="*", metavar="section", help=", ".join(names))
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--other", type=Path, help="a source tree, for against")
    options = parser.parse_args()
    if "against" in options.sections and options.other is None:
        parser.error("the section against needs --other PATH")
    if unknown := set(options.sections) - set(names):
        parser.error(f"no section {', '.join(unknown)}; there are {', '.join(names)}")
    with threadpool_limits(1):
        for section in SECTIONS:
            if not options.sections or section.__name__ in options.sections:
                section(options)


if __name__ == "__main__":
    main()
