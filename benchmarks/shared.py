"""What it is worth that outputs share hidden layers, and what it costs.

planted   Hidden layers that all outputs share, y with noise of standard deviation 0.5.
          "excess" is the mean squared error of the mean over what least squares on the
          free weights has for large n; then the mean squared errors of shared and of
          separate networks. Where the last layer has size 1, outputs share all kernels
          and differ in scales; separate networks then have no such layer.
passes    Milliseconds of one evaluation of the loss, its gradient and curvature, of one
          output's own network and of ten outputs that share, on 20 000 rows.
digits    Test R2 of the ten digits: 600 rows, splits and scaling of real_data.py, and
          the seconds of a fit, choosing included. Shared: 32 filters of relu or tanh
          with hidden biases, 20 passes, chosen by three folds of the training part, the
          mean of five fits; 16 filters are what separate networks have there.

Run: python -m pip install ".[benchmarks]", then with OMP_NUM_THREADS=1
python benchmarks/shared.py [--trials 5] [--splits 5] [--parts planted,passes,digits]
"""

import argparse
import time
import warnings

import numpy as np
from skdeeptd._model.network import blank_network
from skdeeptd._model.parameters import pack
from skdeeptd._model.trunk import pack_trunk, unit_trunk, unpack_trunk
from skdeeptd._solver.normal_equations import Objective, normal_equations
from skdeeptd._solver.shared import best_readout, shared_equations
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.preprocessing import StandardScaler

from skdeeptd import DeepTDRegressor
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd.datasets import make_patch_cnn_regression

SHAPES = [(8, 8, 1), (8, 8), (16, 4)]
N_OUTPUTS, N_FILTERS, NOISE = 10, 8, 0.5
N_TRAIN, N_TEST = 2000, 2000
PASS_ROWS, REPEATS = 20_000, 7
FITS, FOLDS = 5, 3
DIGITS = [{"activation": "tanh"}, {"activation": "relu"}]


def activations(sizes):
    """Of the hidden layers: a layer that a last one of size 1 follows is linear."""
    return ("relu", "identity") if sizes[-1] == 1 else ("relu",)


def planted_errors(sizes, seed):
    """Excess, and the errors of shared and of separate networks."""
    X, y = make_patch_cnn_regression(
        N_TRAIN + N_TEST,
        sizes,
        activation=activations(sizes),
        n_filters=N_FILTERS,
        n_outputs=N_OUTPUTS,
        share_filters=True,
        random_state=seed,
    )
    rng = np.random.RandomState(10_000 + seed)
    noisy = y[:N_TRAIN] + NOISE * rng.standard_normal((N_TRAIN, N_OUTPUTS))
    alone = sizes[:-1] if sizes[-1] == 1 else sizes
    errors = []
    for shape, hidden, shares in (
        (sizes, activations(sizes), True),
        (alone, ("relu",), False),
    ):
        model = DeepTDRegressor(
            shape,
            activation=hidden,
            n_filters=N_FILTERS,
            share_filters=shares,
            random_state=0,
        ).fit(X[:N_TRAIN], noisy)
        errors.append(np.mean((model.predict(X[N_TRAIN:]) - y[N_TRAIN:]) ** 2))
    shared = N_FILTERS * (sum(sizes[:-1]) - len(sizes) + 1)
    n_weights = shared / N_OUTPUTS + N_FILTERS * sizes[-1] + 1
    return errors[0] * N_TRAIN / (NOISE**2 * n_weights), *errors


def planted(n_trials):
    print("sizes       excess          shared   separate  ratio")
    for sizes in SHAPES:
        found = np.array([planted_errors(sizes, seed) for seed in range(n_trials)])
        excess, shared, separate = found.mean(axis=0)
        spread = found[:, 0].std(ddof=1) / np.sqrt(n_trials)
        print(
            f"{sizes!s:<11} {excess:.2f} +- {spread:.2f}    {shared:.4f}   "
            f"{separate:.4f}    {separate / shared:.1f}",
            flush=True,
        )


def fastest(function):
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)


def pass_times(sizes):
    """Of one output alone, and of ten that share."""
    rng = np.random.RandomState(0)
    X = rng.standard_normal((PASS_ROWS, np.prod(sizes)))
    y, weight = rng.standard_normal((PASS_ROWS, N_OUTPUTS)), np.ones(PASS_ROWS)
    objective = Objective()

    def blank(sizes):
        layout = make_layout(X.shape[1], sizes, None, None)
        hidden = activations(sizes)[: len(sizes) - 1]
        return blank_network(layout, N_FILTERS, (*hidden, "identity"))

    trunk = blank(sizes)
    theta = rng.standard_normal(pack_trunk(trunk).shape)
    trunk, _ = unit_trunk(unpack_trunk(theta, trunk))
    own = blank(sizes[:-1] if sizes[-1] == 1 else sizes)
    kernels = tuple(rng.standard_normal(k.shape) for k in own.kernels)
    own = own._replace(kernels=kernels, scales=np.ones(N_FILTERS))
    of_one = RowBlocks(X, y[:, 0].copy(), weight)
    of_all = RowBlocks(X, y, weight)

    def together():
        shared_equations(best_readout(trunk, of_all, objective), of_all, objective)

    with single_threaded_blas(), reusing():
        alone = fastest(lambda: normal_equations(pack(own), own, of_one, objective))
        return alone, fastest(together)


def passes():
    print("sizes       one output   ten outputs   ratio")
    for sizes in SHAPES:
        alone, together = pass_times(sizes)
        print(
            f"{sizes!s:<11} {alone:10.0f}   {together:11.0f}   {together / alone:5.1f}",
            flush=True,
        )


def model_of(candidate, seed=0, n_filters=32, share_filters=True):
    return DeepTDRegressor(
        ((4, 4), -1),
        input_shape=(8, 8),
        strides=1,
        n_filters=n_filters,
        hidden_bias=True,
        share_filters=share_filters,
        alpha="loo",
        n_init=1,
        max_iter=20,
        tol=1e-3,
        random_state=seed,
        **candidate,
    )


def chosen(X, y, **options):
    """The candidate with the best mean score on the folds."""
    splits = list(KFold(FOLDS, shuffle=True, random_state=0).split(X))
    means = []
    for candidate in DIGITS:
        scores = []
        for train, test in splits:
            model = model_of(candidate, **options).fit(X[train], y[train])
            scores.append(r2_score(y[test], model.predict(X[test])))
        means.append(np.mean(scores))
    return DIGITS[int(np.argmax(means))]


def digits(n_splits):
    X, digit = load_digits(return_X_y=True)
    rows = np.random.RandomState(0).permutation(len(X))[:600]
    X, y = X[rows], np.eye(10)[digit[rows]]
    ways = {
        "shared, 16 filters": {"n_filters": 16},
        "shared, 32 filters": {},
        "separate, 16 filters": {"n_filters": 16, "share_filters": False},
    }
    splits = list(ShuffleSplit(n_splits, test_size=0.25, random_state=0).split(X))
    for name, options in ways.items():
        scores, seconds = [], []
        for train, test in splits:
            of_X, of_y = (StandardScaler().fit(a[train]) for a in (X, y))
            A, b = of_X.transform(X[train]), of_y.transform(y[train])
            n_fits = FITS if options.get("share_filters", True) else 2
            begin = time.perf_counter()
            candidate = chosen(A, b, **options)
            models = [
                model_of(candidate, seed, **options).fit(A, b) for seed in range(n_fits)
            ]
            seconds.append(time.perf_counter() - begin)
            held = of_X.transform(X[test])
            predicted = np.mean([model.predict(held) for model in models], axis=0)
            scores.append(r2_score(of_y.transform(y[test]), predicted))
        print(
            f"{name:<22} {np.mean(scores):.3f} +- {np.std(scores):.3f}   "
            f"{np.mean(seconds):.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=5)
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--parts", default="planted,passes,digits")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    if "planted" in given.parts:
        planted(given.trials)
    if "passes" in given.parts:
        passes()
    if "digits" in given.parts:
        digits(given.splits)
