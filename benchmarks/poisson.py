"""How near a fit with the Poisson loss is to the best possible one.

Per case, over repetitions with fresh kernels, X and counts, at 30 samples per weight.
The log-means have standard deviation 1, the counts have mean 2. On fresh rows:

excess          mean KL divergence of the predicted from the planted means, times
                2 n / weights; maximum likelihood on that many weights, the intercept
                among them, has 1 + 1 / weights for large n
deviance        mean Poisson deviance of fresh counts; the planted means themselves
                have the value in the last column

`PoissonRegressor` takes its alpha by 5-fold cross-validation, the gradient boosting its
defaults.

Run: python benchmarks/poisson.py [--trials 20]
"""

import argparse

import numpy as np
from scipy.special import xlogy
from sklearn.ensemble import HistGradientBoostingRegressor
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance
from sklearn.model_selection import GridSearchCV

from skdeeptd import DeepTDRegressor
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd.datasets import make_patch_cnn_regression

CASES = [((8, 8), 1), ((6, 5, 4), 1), ((8, 8), 2)]
SAMPLES_PER_WEIGHT, N_TEST = 30, 10_000
MEAN_COUNT, COUNT_SEED = (
    2.0,
    10_000,
)  # the seeds of counts are far from those of kernels


def planted(sizes, n_filters, n_train, seed):
    """Return X, counts and their means, of training and of fresh rows."""
    X, eta = make_patch_cnn_regression(
        n_train + N_TEST, sizes, n_filters=n_filters, random_state=seed
    )
    mean = np.exp((eta - eta.mean()) / eta.std())
    mean *= MEAN_COUNT / mean.mean()
    counts = np.random.RandomState(COUNT_SEED + seed).poisson(mean).astype(float)
    return X, counts, mean


def models(sizes, n_filters):
    """Return the methods by name."""
    network = DeepTDRegressor(
        sizes, n_filters=n_filters, loss="poisson", random_state=0
    )
    linear = PoissonRegressor(max_iter=1000)
    return {
        "DeepTDRegressor": network,
        "PoissonRegressor": GridSearchCV(linear, {"alpha": np.logspace(-3, 2, 11)}),
        "HistGradientBoosting": HistGradientBoostingRegressor(
            loss="poisson", random_state=0
        ),
    }


def trial(sizes, n_filters, seed):
    """Return excess and deviance of each method, and the deviance of the truth."""
    n_weights = n_filters * degrees_of_freedom(sizes)
    n = SAMPLES_PER_WEIGHT * n_weights
    X, counts, mean = planted(sizes, n_filters, n, seed)
    result = []
    for model in models(sizes, n_filters).values():
        found = model.fit(X[:n], counts[:n]).predict(X[n:])
        divergence = np.mean(xlogy(mean[n:], mean[n:] / found) - mean[n:] + found)
        excess = divergence * 2 * n / n_weights
        result.append((excess, mean_poisson_deviance(counts[n:], found)))
    return np.array(result), mean_poisson_deviance(counts[n:], mean[n:])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    n_trials = parser.parse_args().trials
    print(f"means over {n_trials} networks, n = {SAMPLES_PER_WEIGHT} per weight")
    print("| kernel sizes | filters | method | excess (std) | deviance | of truth |")
    print("|---|---|---|---|---|---|")
    for sizes, n_filters in CASES:
        results = [trial(sizes, n_filters, seed) for seed in range(n_trials)]
        found, truth = zip(*results, strict=True)
        for i, name in enumerate(models(sizes, n_filters)):
            excess, deviance = np.transpose([f[i] for f in found])
            print(
                f"| {sizes} | {n_filters} | {name} | {excess.mean():.2f} "
                f"({excess.std():.2f}) | {deviance.mean():.3f} "
                f"| {np.mean(truth):.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
