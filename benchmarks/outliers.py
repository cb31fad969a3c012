"""What outliers of y cost, and what Huber's loss costs where there are none.

Planted relu networks, 200 rows with normal noise of 0.2 standard deviations of the
clean y. With outliers, 10 of the rows are 20 such deviations off, up or down. Over the
seeds:

R2              of the clean y of 2000 other rows: the mean, the worst seed, and the
                seeds above 0.95
excess risk     without outliers: mean squared error of the clean y, the sum over the
                seeds, over that of DeepTD with squared error
time            of all fits, over that of DeepTD with squared error

The rivals are scikit-learn's with their defaults, but for HuberRegressor(max_iter=1000)
and SVR(C=10), whose y is centred by its median and scaled by its quartiles.

Run: python benchmarks/outliers.py [--seeds 20]
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.base import clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import HuberRegressor
from sklearn.metrics import r2_score
from sklearn.preprocessing import RobustScaler
from sklearn.svm import SVR

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression

SHAPES = [(4, 4), (5, 4)]
N_TRAIN, N_TEST, NOISE = 200, 2000, 0.2
N_OUTLIERS, SIZE = 10, 20
NOISE_SEED = 10_000  # far from the seeds of the networks
ENOUGH = 0.95


def methods(sizes):
    return {
        "DeepTD, squared error": DeepTDRegressor(sizes, random_state=0),
        "DeepTD, huber": DeepTDRegressor(sizes, loss="huber", random_state=0),
        "HuberRegressor": HuberRegressor(max_iter=1000),
        "RandomForestRegressor": RandomForestRegressor(random_state=0),
        "SVR": TransformedTargetRegressor(SVR(C=10), transformer=RobustScaler()),
    }


def planted(sizes, n_outliers, seed):
    """Rows to fit, and clean ones to test."""
    X, y = make_patch_cnn_regression(N_TRAIN + N_TEST, sizes, random_state=seed)
    rng, size = np.random.RandomState(NOISE_SEED + seed), y.std()
    noisy = y[:N_TRAIN] + NOISE * size * rng.standard_normal(N_TRAIN)
    rows = rng.choice(N_TRAIN, n_outliers, replace=False)
    noisy[rows] += SIZE * size * rng.choice([-1, 1], len(rows))
    return X[:N_TRAIN], noisy, X[N_TRAIN:], y[N_TRAIN:]


def trial(model, data):
    """R2 and seconds of one fit."""
    X, y, X_test, y_test = data
    begin = time.perf_counter()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Few rows hold most of the sum")
        warnings.filterwarnings("ignore", "The fit of output")
        fitted = clone(model).fit(X, y)
    seconds = time.perf_counter() - begin
    return r2_score(y_test, fitted.predict(X_test)), seconds


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    n_seeds = parser.parse_args().seeds
    print(f"{n_seeds} seeds, {N_OUTLIERS} outliers in {N_TRAIN} rows")
    print(
        "| kernel sizes | method | R2 | R2, outliers | worst, outliers | above .95 "
        "| excess risk | time | time, outliers |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    for sizes in SHAPES:
        first = None
        for name, model in methods(sizes).items():
            (clean, seconds), (dirty, seconds_dirty) = (
                np.transpose(
                    [trial(model, planted(sizes, n, seed)) for seed in range(n_seeds)]
                )
                for n in (0, N_OUTLIERS)
            )
            costs = np.array([1 - clean, seconds, seconds_dirty]).sum(axis=1)
            first = costs if first is None else first
            risk, taken, taken_dirty = costs / first
            print(
                f"| {sizes} | {name} | {clean.mean():.3f} | {dirty.mean():.3f} "
                f"| {dirty.min():.3f} | {np.count_nonzero(dirty > ENOUGH)} "
                f"| {risk:.3g} | x{taken:.2g} | x{taken_dirty:.2g} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
