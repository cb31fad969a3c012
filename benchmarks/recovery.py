"""How often a planted network is recovered exactly, over samples per free weight.

Success is a test R2 above 1 - 1e-6 on 1000 fresh rows; X is Gaussian, y has no noise,
the last layer is linear. n/dof is samples per free weight of the network. Methods:

DeepTD          DeepTDRegressor() as it comes
moment alone    DeepTDRegressor(polish=False)
1, 10 random    random kernels in place of those of the moment, then the same signs,
                scales and polish; the best training loss of 1 and of 10 starts

Run: python benchmarks/recovery.py [--trials 20]
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score

from skdeeptd import DeepTDRegressor
from skdeeptd._calibration import calibrate
from skdeeptd._geometry import degrees_of_freedom
from skdeeptd._network import PatchCNN, forward
from skdeeptd._polish import Objective, polish
from skdeeptd._rows import RowBlocks, single_threaded_blas
from skdeeptd.datasets import make_patch_cnn_regression

SHAPES = [(10, 10, 10), (20, 20), (5, 5, 5, 5)]
SAMPLES_PER_WEIGHT = [3, 5, 10, 20]
N_TEST = 1000


def deeptd(**parameters):
    def predict(X, y, X_test, sizes):
        return (
            DeepTDRegressor(sizes, random_state=0, **parameters)
            .fit(X, y)
            .predict(X_test)
        )

    return predict


def random_starts(n_starts):
    def predict(X, y, X_test, sizes):
        rng = np.random.RandomState(0)
        rows = RowBlocks(X, y, np.ones(len(y)))
        activations = ("relu",) * (len(sizes) - 1) + ("identity",)
        results = []
        with single_threaded_blas():
            for _ in range(n_starts):
                kernels = tuple(rng.standard_normal((1, d)) for d in sizes)
                blank = PatchCNN(kernels, np.zeros(1), 0.0, activations)
                start = calibrate(blank, rows, Objective())[0].network
                results.append(polish(start, rows, Objective(), max_iter=200, tol=1e-8))
        best = min(results, key=lambda result: result.loss)
        return forward(best.network, X_test)

    return predict


METHODS = {
    "DeepTD": deeptd(),
    "moment alone": deeptd(polish=False),
    "1 random": random_starts(1),
    "10 random": random_starts(10),
}


def trial(method, sizes, n_train, seed):
    """Whether the method succeeds, and its seconds."""
    X, y, _ = make_patch_cnn_regression(n_train + N_TEST, sizes, random_state=seed)
    begin = time.perf_counter()
    predicted = method(X[:n_train], y[:n_train], X[n_train:], sizes)
    seconds = time.perf_counter() - begin
    return r2_score(y[n_train:], predicted) > 1 - 1e-6, seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    n_trials = parser.parse_args().trials
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(f"success rate over {n_trials} networks (and median milliseconds per fit)")
    print("| kernel sizes | n/dof | n |", " | ".join(METHODS), "|")
    print("|---|---|---|" + "---|" * len(METHODS))
    for sizes in SHAPES:
        for per_weight in SAMPLES_PER_WEIGHT:
            n_train = per_weight * degrees_of_freedom(sizes)
            cells = []
            for method in METHODS.values():
                results = [trial(method, sizes, n_train, s) for s in range(n_trials)]
                success, seconds = np.array(results).T
                cells.append(f"{success.mean():.2f} ({1e3 * np.median(seconds):.0f})")
            row = [str(sizes), str(per_weight), str(n_train), *cells]
            print("|", " | ".join(row), "|", flush=True)


if __name__ == "__main__":
    main()
