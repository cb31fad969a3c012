"""Coverage and width of 90 % prediction intervals, beside MAPIE and a Gaussian process.

Per data set, number of training samples and method, over draws of the training samples:
the mean share of 300 new y inside their interval and the median width in standard
deviations of y, and in the lines above the table the lowest of the shares too. A good
interval has a mean share of about 0.9 and is narrow. Sets:

spectra     bands of eight substances with baselines, y is nonlinear in three of them
series      windows of 48 steps of a noisy oscillator, y is six steps ahead
network     a relu network with kernels (6, 4) and noise
digits      8 x 8 digits, y is 1 for odd ones
tecator     absorbance of meat (100 wavelengths) and its fat
corn        infrared spectra of corn (700 wavelengths) and a property of the kernels
unequal     as network, with noise that is four times larger for half of the samples
outliers    as network, with one y in twenty shifted by five standard deviations

"nan" says that a network has as many weights as there are samples. Tecator has 215
samples and corn has 80; those not drawn for training are the new ones. A number of
training samples that leaves none is skipped. In "series" the training samples are
consecutive, and the new ones follow.

MAPIE is CrossConformalRegressor (CV+, five folds) around ridge regression and around
DeepTDRidge; the Gaussian process has an RBF kernel with a constant and white noise.

Run: python -m pip install ".[benchmarks]", then with OMP_NUM_THREADS=1
python benchmarks/intervals.py [--trials 20] [--rows 30,60,150] [--sets digits,corn]
    [--methods "DeepTDRidge;MAPIE, ridge"]
"""

import argparse
import warnings

import numpy as np
from mapie.regression import CrossConformalRegressor
from scipy.stats import norm
from sets import corn, tecator
from sklearn.datasets import load_digits
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeeptd import (
    DeepTDAutoRegressor,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
    SignalScaler,
)
from skdeeptd.datasets import make_patch_cnn_regression

COVERAGE, N_NEW = 0.9, 300


def spectra(n_rows, rng):
    """Return absorbances of mixtures on 150 wavelengths, and y."""
    wavelength, centers = np.linspace(0, 1, 150), np.linspace(0.1, 0.9, 8)
    amounts = rng.uniform(size=(n_rows, 8))
    bands = np.exp(-((wavelength - centers[:, np.newaxis]) ** 2) / 0.005)
    baseline = 0.2 * rng.standard_normal((n_rows, 2)) @ [np.ones(150), wavelength]
    X = amounts @ bands + baseline + 0.01 * rng.standard_normal((n_rows, 150))
    y = amounts[:, 1] - 2 * amounts[:, 4] ** 2 + amounts[:, 5] * amounts[:, 6]
    return X, y + 0.05 * rng.standard_normal(n_rows)


def series(n_rows, rng, window=48, ahead=6):
    """Return windows of an oscillator with two frequencies, and later values."""
    steps = np.arange(n_rows + window + ahead)
    phase = rng.uniform(0, 2 * np.pi, 2)
    values = np.sin(steps / 3 + phase[0]) + np.sin(steps / 7.3 + phase[1])
    values = values + 0.3 * rng.standard_normal(len(steps))
    X = np.lib.stride_tricks.sliding_window_view(values, window)[:n_rows]
    return X, values[window + ahead - 1 :][:n_rows]


def network(n_rows, rng):
    seed = rng.randint(2**31)
    return make_patch_cnn_regression(n_rows, (6, 4), noise=0.3, random_state=seed)


def digits(n_rows, rng):
    X, digit = load_digits(return_X_y=True)
    rows = rng.permutation(len(X))[:n_rows]
    return X[rows].reshape(-1, 8, 8), digit[rows] % 2.0


def unequal(n_rows, rng):
    X, y = make_patch_cnn_regression(n_rows, (6, 4), random_state=rng.randint(2**31))
    size = np.where(X[:, 0] > 0, 0.8, 0.2) * np.std(y)
    return X, y + size * rng.standard_normal(n_rows)


def outliers(n_rows, rng):
    X, y = network(n_rows, rng)
    shift = 5 * np.std(y) * rng.choice([-1, 1], n_rows)
    return X, y + shift * (rng.uniform(size=n_rows) < 0.05)


def drawn(load):
    """Return a function that draws rows of a real set, at most all of them."""

    def draw(n_rows, rng):
        found = load()
        X, y = np.asarray(found[0]), np.ravel(found[1])
        rows = rng.permutation(len(X))[:n_rows]
        return X[rows], y[rows]

    return draw


SETS = {f.__name__: f for f in (spectra, series, network, digits, unequal, outliers)}
SETS |= {"tecator": drawn(tecator), "corn": drawn(corn)}


class OwnIntervals:
    """Predict intervals by ``predict_interval`` of a model of this package."""

    def __init__(self, model):
        self.model = model

    def bounds(self, X, y, X_new):
        return self.model.fit(X, y).predict_interval(X_new, COVERAGE)


class Mapie(OwnIntervals):
    """Predict intervals by cross-conformal prediction around a model."""

    def bounds(self, X, y, X_new):
        conformal = CrossConformalRegressor(self.model, confidence_level=COVERAGE, cv=5)
        conformal.fit_conformalize(X.reshape(len(X), -1), y)
        found = conformal.predict_interval(X_new.reshape(len(X_new), -1))[1]
        return found[:, :, 0]


class Gaussian(OwnIntervals):
    """Predict intervals by the deviations of a Gaussian process."""

    def bounds(self, X, y, X_new):
        self.model.fit(X.reshape(len(X), -1), y)
        mean, std = self.model.predict(X_new.reshape(len(X_new), -1), return_std=True)
        half = norm.ppf(0.5 + COVERAGE / 2) * std
        return np.column_stack([mean - half, mean + half])


def methods(shape):
    """Return the methods by name, for samples of a shape."""
    kernel = ConstantKernel() * RBF(5.0, (1e-1, 1e4)) + WhiteKernel()
    process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
    learned = DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned")
    flat = DeepTDRidge(kernel="rbf", input_shape=shape, random_state=0)
    sizes = [(6, 4)] if shape == (24,) else None
    network = DeepTDRegressor(*(sizes or ()), random_state=0)
    return {
        "DeepTDRegressor": OwnIntervals(network),
        "DeepTDRidge": OwnIntervals(DeepTDRidge(random_state=0)),
        "learned metric": OwnIntervals(learned),
        "DeepTDRegressorCV": OwnIntervals(DeepTDRegressorCV(random_state=0)),
        "DeepTDAutoRegressor": OwnIntervals(DeepTDAutoRegressor(random_state=0)),
        "MAPIE, ridge": Mapie(
            make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 6, 19)))
        ),
        "MAPIE, DeepTDRidge": Mapie(flat),
        "Gaussian process": Gaussian(make_pipeline(StandardScaler(), process)),
    }


def trial(name, n_rows, seed, chosen):
    """Return coverage and relative width of each method on one draw.

    None if there are no new samples.
    """
    rng = np.random.RandomState(seed)
    X, y = SETS[name](n_rows + N_NEW, rng)
    if len(X) <= n_rows:
        return None
    X, y = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
    known, new = slice(0, n_rows), slice(n_rows, None)
    found = {}
    for method, intervals in methods(X.shape[1:]).items():
        if chosen and method not in chosen:
            continue
        lower, upper = intervals.bounds(X[known], y[known], X[new]).T
        inside = np.mean((lower <= y[new]) & (y[new] <= upper))
        inside = inside if np.all(np.isfinite(upper - lower)) else np.nan
        found[method] = inside, np.mean(upper - lower) / np.std(y[new])
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--rows", default="30,60,150")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--methods", default="")
    given = parser.parse_args()
    chosen = [m for m in given.methods.split(";") if m]
    warnings.simplefilter("ignore")
    rows = []
    for name in given.sets.split(","):
        for n_rows in map(int, given.rows.split(",")):
            trials = [trial(name, n_rows, s, chosen) for s in range(given.trials)]
            cells = {}
            for method in trials[0] or ():
                inside, width = np.array([t[method] for t in trials]).T
                cells[method] = f"{inside.mean():.2f}, {np.median(width):.2f}"
                lowest = f"lowest coverage {inside.min():.2f}"
                print(name, n_rows, method, cells[method], lowest, flush=True)
            rows.append((name, n_rows, cells))
    names = [m for m in methods((1,)) if not chosen or m in chosen]
    print("\n| set | rows |", " | ".join(names), "|\n|" + "---|" * (2 + len(names)))
    for name, n_rows, cells in rows:
        if cells:
            print(f"| {name} | {n_rows} |", " | ".join(cells[m] for m in names), "|")


if __name__ == "__main__":
    main()
