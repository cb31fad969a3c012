"""DeepTDRegressorCV beside GridSearchCV over the same grid, on planted networks.

Per network: do both choose the same kernel sizes, are they the planted ones, and how
much longer does the grid search take (the same run, one job each)?

Run: python benchmarks/choice.py [--seeds 20]
"""

import argparse
import time
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GridSearchCV

from skdeeptd import DeepTDRegressor, DeepTDRegressorCV, kernel_size_grid
from skdeeptd.datasets import make_patch_cnn_regression

# Planted kernel sizes, samples, noise, and the grid.
CASES = [
    ((4, 5, 6), 300, 0.2, {"max_layers": 3, "min_size": 3}),
    ((12, 10), 100, 0.2, {"max_layers": 3, "min_size": 3}),
    ((8, 4, 4), 150, 0.1, {"max_layers": 4}),
]


def timed_fit(search, X, y):
    begin = time.perf_counter()
    search.fit(X, y)
    return search.best_params_.get("kernel_sizes"), time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20)
    n_seeds = parser.parse_args().seeds
    warnings.simplefilter("ignore", ConvergenceWarning)
    print(
        "| true sizes | n | noise | shapes | same choice | true sizes found "
        "| grid / CV time |"
    )
    print("|---|---|---|---|---|---|---|")
    for sizes, n_samples, noise, bounds in CASES:
        shapes = kernel_size_grid(int(np.prod(sizes)), **bounds)
        same, right, ratios = 0, 0, []
        for seed in range(n_seeds):
            X, y = make_patch_cnn_regression(
                n_samples, sizes, noise=noise, random_state=seed
            )
            grid = GridSearchCV(
                DeepTDRegressor(random_state=0), {"kernel_sizes": shapes}, cv=5
            )
            ours = DeepTDRegressorCV({"kernel_sizes": shapes}, cv=5, random_state=0)
            theirs, grid_time = timed_fit(grid, X, y)
            mine, our_time = timed_fit(ours, X, y)
            same += mine == theirs
            right += mine == sizes
            ratios.append(grid_time / our_time)
        row = [sizes, n_samples, noise, len(shapes)]
        row += [f"{same}/{n_seeds}", f"{right}/{n_seeds}"]
        low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
        row.append(f"{middle:.1f} ({low:.1f} to {high:.1f})")
        print("|", " | ".join(map(str, row)), "|", flush=True)


if __name__ == "__main__":
    main()
