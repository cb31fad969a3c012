"""How near a noisy fit is to the best possible one, and what its intervals are worth.

Per case, over repetitions with fresh kernels, X and noise, at 30 samples per weight:

excess          (mean squared error of the mean) * n / (weights * sigma^2); 1 is what
                least squares on that many weights has for large n
coverage        share of 95 % intervals of the mean that hold the planted mean
noise           the estimated standard deviation of the noise over the planted one

The weights are those that change the function, the intercept among them.

Run: python benchmarks/noise.py [--trials 200]
"""

import argparse

import numpy as np

from skdeeptd import DeepTDRegressor
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd.datasets import make_patch_cnn_regression

CASES = [((6, 5, 4), 1), ((10, 10, 10), 1), ((20, 20), 1), ((8, 8, 8), 2)]
NOISE = [0.1, 0.5]
SAMPLES_PER_WEIGHT, N_TEST = 30, 1000
NOISE_SEED = 10_000  # far from the seeds of the networks


def trial(sizes, n_filters, noise, seed):
    """Excess, coverage and noise ratio of one planted network."""
    n_weights = n_filters * degrees_of_freedom(sizes)
    n_train = SAMPLES_PER_WEIGHT * n_weights
    X, y = make_patch_cnn_regression(
        n_train + N_TEST, sizes, n_filters=n_filters, random_state=seed
    )
    rng = np.random.RandomState(NOISE_SEED + seed)
    noisy = y[:n_train] + noise * rng.standard_normal(n_train)
    model = DeepTDRegressor(sizes, n_filters=n_filters, random_state=0)
    model.fit(X[:n_train], noisy)
    mean, std = model.predict(X[n_train:], return_std=True)
    error = np.abs(mean - y[n_train:])
    excess = np.mean(error**2) * n_train / ((n_weights + 1) * noise**2)
    ratio = np.sqrt(model.noise_variance_[0]) / noise
    return excess, np.mean(error < 1.96 * std), ratio


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    n_trials = parser.parse_args().trials
    print(f"means over {n_trials} networks, n = {SAMPLES_PER_WEIGHT} per weight")
    print("| kernel sizes | filters | sigma | excess (median) | coverage | noise |")
    print("|---|---|---|---|---|---|")
    for sizes, n_filters in CASES:
        for noise in NOISE:
            results = [trial(sizes, n_filters, noise, s) for s in range(n_trials)]
            excess, coverage, ratio = np.transpose(results)
            print(
                f"| {sizes} | {n_filters} | {noise} | {excess.mean():.2f} "
                f"({np.median(excess):.2f}) | {coverage.mean():.3f} "
                f"| {ratio.mean():.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
