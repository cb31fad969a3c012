"""Planted networks whose patches overlap: how often they come back; cost of a pass.

Success is a test R2 above 1 - 1e-6 on 1000 fresh rows; X is Gaussian, y has no noise,
and there are 10 samples for each free weight. The default call of DeepTDRegressor with
the planted shape fits them. Then one Gauss-Newton pass over the same X with patches
that overlap by half, over that of patches that do not: it does twice the arithmetic.

Run: OMP_NUM_THREADS=1 python benchmarks/overlap.py [--trials 20]
"""

import argparse
import time
from typing import NamedTuple

import numpy as np
from skdeeptd._model.network import blank_network
from skdeeptd._model.parameters import n_parameters, unpack
from skdeeptd._solver.normal_equations import Objective, normal_equations
from sklearn.metrics import r2_score
from speed import ratios, spread

from skdeeptd import DeepTDRegressor
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import reusing
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd.datasets import make_patch_cnn_regression

N_FEATURES, N_TEST, PER_WEIGHT = 64, 1000, 10
PASS_ROWS, PASS_FEATURES, REPEATS = 20_000, 1024, 15


class Case(NamedTuple):
    kernel_sizes: tuple
    strides: int | tuple
    n_filters: int = 1
    hidden_bias: bool = False

    @property
    def n_train(self):
        sizes = make_layout(N_FEATURES, self.kernel_sizes, strides=self.strides).sizes
        of_filter = degrees_of_freedom(sizes) + self.hidden_bias * (len(sizes) - 1)
        return PER_WEIGHT * self.n_filters * of_filter


CASES = [
    *(Case((8, -1), s, n) for s in (4, 2, 1) for n in (1, 2, 4)),
    *(Case((8, -1), s, 4, True) for s in (4, 2, 1)),
    Case((8, 7, -1), (4, 2)),
    Case((4, 3, -1), 2),
    Case((4, 4, -1), 1),
]


def trial(case, seed):
    """Test R2, and the seconds of the fit."""
    X, y = make_patch_cnn_regression(
        case.n_train + N_TEST,
        **case._asdict(),
        input_shape=(N_FEATURES,),
        random_state=seed,
    )
    model = DeepTDRegressor(**case._asdict(), random_state=0)
    begin = time.process_time()
    model.fit(X[: case.n_train], y[: case.n_train])
    spent = time.process_time() - begin
    return r2_score(y[case.n_train :], model.predict(X[case.n_train :])), spent


def rates(n_trials):
    print("| kernel sizes | strides | filters | biases | n | success | median s |")
    print("|---|---|---|---|---|---|---|")
    for case in CASES:
        r2, seconds = np.array([trial(case, seed) for seed in range(n_trials)]).T
        biases = "yes" if case.hidden_bias else "no"
        cells = [case.kernel_sizes, case.strides, case.n_filters, biases, case.n_train]
        cells += [f"{np.mean(r2 > 1 - 1e-6):.2f}", f"{np.median(seconds):.2f}"]
        print("|", " | ".join(map(str, cells)), "|", flush=True)


def pass_of(layout, n_filters, X, y):
    rng = np.random.default_rng(0)
    blank = blank_network(layout, n_filters, ("relu", "identity"))
    theta = rng.standard_normal(n_parameters(blank))
    rows = RowBlocks(X, y, np.ones(len(y)), 1)
    like = unpack(theta, blank)
    return lambda: normal_equations(theta, like, rows, Objective(1.0))


def cost_of_overlap():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((PASS_ROWS, PASS_FEATURES))
    y = rng.standard_normal(PASS_ROWS)
    print(f"\nOne pass, X {X.shape}, half the kernel as stride over all of it:\n")
    print("| kernel | filters | weights | weights, overlap | ratio (least to most) |")
    print("|---|---|---|---|---|")
    for kernel in (16, 32, 64):
        layouts = [
            make_layout(PASS_FEATURES, (kernel, -1), strides=stride)
            for stride in (kernel, kernel // 2)
        ]
        for n_filters in (1, 4):
            weights = [n_filters * (sum(layout.sizes) + 1) for layout in layouts]
            apart, overlap = (pass_of(layout, n_filters, X, y) for layout in layouts)
            with reusing():
                ratio = spread(ratios(overlap, apart, REPEATS))
            cells = [kernel, n_filters, *weights, ratio]
            print("|", " | ".join(map(str, cells)), "|", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    rates(parser.parse_args().trials)
    cost_of_overlap()


if __name__ == "__main__":
    main()
