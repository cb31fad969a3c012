"""How often a planted network is found where X is not Gaussian.

Kernel sizes (8, 8, 4), hidden relus, a linear last layer, no noise, 180 rows: ten for
each free weight. Success is a test R2 above 1 - 1e-6 on 1000 fresh rows of the same
kind. "fits exactly" counts the networks that fit the training rows without error:
where these are more than the successes, the rows did not tell the network from others.
Networks whose output is the same for three quarters of the training rows are left out.

Run: python benchmarks/inputs.py [--trials 40]
"""

import argparse
import math

import numpy as np
from skdeeptd._model.network import PatchCNN, forward
from sklearn.datasets import load_digits
from sklearn.metrics import r2_score

from skdeeptd import DeepTDRegressor
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd.datasets import _is_alive, make_patch_cnn_regression

SIZES, N_TEST = (8, 8, 4), 1000
N_TRAIN = 10 * degrees_of_freedom(SIZES)
EXACT = 1e-6


def autoregressive(rng, shape, correlation=0.99):
    steps = np.sqrt(1 - correlation**2) * rng.standard_normal(shape)
    X = np.empty(shape)
    X[:, 0] = rng.standard_normal(shape[0])
    for i in range(1, shape[1]):
        X[:, i] = correlation * X[:, i - 1] + steps[:, i]
    return X


def four_digits(rng, shape):
    """Four images of digits side by side, 8 x 8 pixels from 0 to 1 each."""
    images = load_digits().data / 16
    chosen = rng.randint(len(images), size=(shape[0], 4))
    return images[chosen].reshape(shape)


INPUTS = {
    "normal": lambda rng, shape: rng.standard_normal(shape),
    "uniform, -1 to 1": lambda rng, shape: rng.uniform(-1, 1, shape),
    "binary, -1 or 1": lambda rng, shape: rng.choice([-1.0, 1.0], shape),
    "Laplace": lambda rng, shape: rng.laplace(size=shape),
    "normal, mean 2": lambda rng, shape: 2 + rng.standard_normal(shape),
    "AR(1), 0.99": autoregressive,
    "images of digits": four_digits,
}


def trial(draw, seed):
    """Training and test R2, or None for a network that is dead on these rows."""
    X = draw(np.random.RandomState(seed), (N_TRAIN + N_TEST, math.prod(SIZES)))
    kernels = make_patch_cnn_regression(
        1, SIZES, random_state=seed, return_kernels=True
    )[2]
    activations = ("relu", "relu", "identity")
    network = PatchCNN(tuple(k[0] for k in kernels), np.ones(1), 0.0, activations)
    y = forward(network, X)
    if not _is_alive(y[:N_TRAIN]):
        return None
    fitted = DeepTDRegressor(SIZES, random_state=0).fit(X[:N_TRAIN], y[:N_TRAIN])
    predicted = fitted.predict(X)
    return (
        r2_score(y[:N_TRAIN], predicted[:N_TRAIN]),
        r2_score(y[N_TRAIN:], predicted[N_TRAIN:]),
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=40)
    n_trials = parser.parse_args().trials
    print(f"{n_trials} networks, kernel sizes {SIZES}, {N_TRAIN} rows")
    print("| X | alive networks | success | fits exactly |")
    print("|---|---|---|---|")
    for name, draw in INPUTS.items():
        results = [trial(draw, seed) for seed in range(n_trials)]
        alive = np.array([r for r in results if r is not None])
        exact, success = np.mean(alive > 1 - EXACT, axis=0)
        print(f"| {name} | {len(alive)} | {success:.2f} | {exact:.2f} |", flush=True)


if __name__ == "__main__":
    main()
