"""What it is worth that outputs share hidden layers, and what it costs.

planted   Hidden layers that all outputs share, y with noise of standard deviation 0.5.
          "excess" is the mean squared error of the mean over what least squares on the
          free weights has for large n; then the mean squared errors of shared and of
          separate networks. Where the last layer has size 1, outputs share all kernels
          and differ in scales; separate networks then have no such layer.
passes    Milliseconds of one Gauss-Newton pass (loss, gradient and curvature) for a
          network of one output, and for ten outputs that share hidden layers, on
          20 000 rows.
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
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score
from sklearn.model_selection import KFold, ShuffleSplit
from sklearn.preprocessing import StandardScaler

from skdeeptd import DeepTDRegressor
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._loss import SquaredError
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network
from skdeeptd._solvers.normal_equations import gram_of_entries_pays, normal_equations
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
    print("| kernel sizes | excess | shared | separate | ratio |\n|" + "---|" * 5)
    for sizes in SHAPES:
        found = np.array([planted_errors(sizes, seed) for seed in range(n_trials)])
        excess, shared, separate = found.mean(axis=0)
        spread = found[:, 0].std(ddof=1) / np.sqrt(n_trials)
        print(
            f"| {sizes} | {excess:.2f} +- {spread:.2f} | {shared:.4f} "
            f"| {separate:.4f} | {separate / shared:.1f} |",
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
    """Return milliseconds of a pass for one output alone, and for ten that share.

    Before the derivatives of several heads the solver refits the heads, unless one Gram
    matrix gives the sums for all of them.
    """
    rng = np.random.RandomState(0)
    X = rng.standard_normal((PASS_ROWS, np.prod(sizes)))
    y, weight = rng.standard_normal((PASS_ROWS, N_OUTPUTS)), np.ones(PASS_ROWS)

    def random_network(sizes, n_heads):
        layout = make_layout(X.shape[1], sizes)
        hidden = activations(sizes)[: len(sizes) - 1]
        how = (*hidden, "identity"), False, n_heads
        blank = blank_network(layout, N_FILTERS, *how)
        return blank._replace(
            kernels=tuple(rng.standard_normal(k.shape) for k in blank.kernels),
            heads=rng.standard_normal(blank.heads.shape),
        )

    shared = random_network(sizes, N_OUTPUTS)
    own = random_network(sizes[:-1] if sizes[-1] == 1 else sizes, 1)
    of_one, of_all = RowBlocks(X, y[:, :1].copy(), weight), RowBlocks(X, y, weight)

    def together():
        network, loss = shared, SquaredError()
        if not gram_of_entries_pays(network):
            refitted = normal_equations(network, of_all, loss, with_hidden=False)
            network = refitted.network
        normal_equations(network, of_all, loss)

    with single_threaded_blas(), reusing():
        alone = fastest(lambda: normal_equations(own, of_one, SquaredError()))
        return alone, fastest(together)


def passes():
    print("\n| kernel sizes | ms, one output | ms, ten outputs | ratio |")
    print("|---|---|---|---|")
    for sizes in SHAPES:
        alone, together = pass_times(sizes)
        print(
            f"| {sizes} | {alone:.0f} | {together:.0f} | {together / alone:.1f} |",
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
    print("\n| network | test R2 | seconds |\n|---|---|---|")
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
            f"| {name} | {np.mean(scores):.3f} +- {np.std(scores):.3f} "
            f"| {np.mean(seconds):.0f} |",
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
