"""How often a planted network is recovered exactly, over samples per free weight.

Success is a test R2 above 1 - 1e-6 on 1000 fresh rows; X is Gaussian, y has no noise.
n/dof is samples per free weight of the network. Methods, all on the same data:

DeepTD          DeepTDRegressor() as it comes
moment alone    DeepTDRegressor(polish=False)
1, 10 random    random kernels in place of those of the moment, then the same signs,
                scales and polish; the best training loss of 1 and of 10 starts
CP regression   TensorLy's CPRegressor of rank n_filters, hardly penalised; it is
                linear in X, so that a hidden relu is beyond it
Adam 1, 5       the same network in torch, full batch; the best training loss of 1 and
                of 5 starts

CP regression and Adam get fewer trials, and only the rows of the first three shapes
whose last layer is linear. The first table holds the success rates, the second one the
median of the method's time over DeepTD's on the same data (for DeepTD itself its median
milliseconds).

Two pictures go into the folder --out. recovery_phase.png: success over n/dof, for the
shapes with several n/dof. recovery_saturation.png: |cosine| of the worst layer over n,
with and without the polish.

Run: python benchmarks/recovery.py [--trials 20] [--slow-trials 5] [--out .]
It needs the optional dependencies "benchmarks".
"""

import argparse
import time
import warnings
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import tensorly.regression
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import r2_score

from skdeeptd import DeepTDRegressor
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._init.signs import signed_starts
from skdeeptd._loss import SquaredError
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd._network.network import blank_network, forward
from skdeeptd._solvers.gauss_newton import gauss_newton
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity

SHAPES = {(10, 10, 10): [2, 3, 5, 10], (20, 20): [1.5, 2, 3], (5, 5, 5, 5): [3, 5, 10]}
SATURATION_SHAPES = [(10, 10, 10), (5, 5, 5, 5)]
SATURATION_PER_WEIGHT = [2, 5, 10, 20, 50, 100, 200]
N_TEST = 1000
EPOCHS, PATIENCE = 3000, 500  # of Adam: at most, and without 1 % less loss
LEARNING_RATE, ZERO_LOSS = 0.01, 1e-9


class Case(NamedTuple):
    """One row of the table; ``slow``: the slow methods take part."""

    sizes: tuple
    per_weight: float
    n_filters: int = 1
    output: str = "identity"
    slow: bool = False

    @property
    def n_train(self):
        n_weights = self.n_filters * degrees_of_freedom(self.sizes)
        return round(self.per_weight * n_weights)

    @property
    def activations(self):
        return ("relu",) * (len(self.sizes) - 1) + (self.output,)

    def draw(self, n_samples, seed):
        return make_patch_cnn_regression(
            n_samples,
            self.sizes,
            n_filters=self.n_filters,
            output_activation=self.output,
            random_state=seed,
            return_kernels=True,
        )


def all_cases():
    pairs = [(sizes, ratio) for sizes, ratios in SHAPES.items() for ratio in ratios]
    return [
        *(Case(sizes, ratio, slow=True) for sizes, ratio in pairs),
        Case((8, 8, 8), 5, n_filters=2),
        Case((8, 8, 8), 10, n_filters=4),
        Case((3,) * 6, 20),
        Case((2,) * 10, 20),
        *(Case(sizes, 2 * ratio, output="relu") for sizes, ratio in pairs),
    ]


def deeptd(**parameters):
    def fit(case, X, y):
        return DeepTDRegressor(
            case.sizes,
            n_filters=case.n_filters,
            output_activation=case.output,
            random_state=0,
            **parameters,
        ).fit(X, y)

    return lambda case, X, y: fit(case, X, y).predict


def random_starts(n_starts):
    def fit(case, X, y):
        rng = np.random.RandomState(0)
        rows = RowBlocks(X, y[:, np.newaxis], np.ones(len(y)))
        layout = make_layout(X.shape[1], case.sizes)
        blank = blank_network(layout, case.n_filters, case.activations)
        results = []
        with single_threaded_blas():
            for _ in range(n_starts):
                kernels = [
                    rng.standard_normal((case.n_filters, d)) for d in blank.sizes
                ]
                start = signed_starts(blank, kernels, rows)[0].network
                found = gauss_newton(
                    start, rows, SquaredError(), max_iter=200, tol=1e-8
                )
                results.append(found)
        best = min(results, key=lambda result: result.loss)
        return lambda X_test: forward(best.network, X_test)[:, 0]

    return fit


def cp_regression(case, X, y):
    axes = case.sizes[::-1]
    model = tensorly.regression.CPRegressor(
        case.n_filters, reg_W=1e-6, random_state=0, verbose=0
    )
    model.fit(X.reshape(-1, *axes), y - y.mean())
    return lambda X_test: model.predict(X_test.reshape(-1, *axes)) + y.mean()


def torch_network(sizes):
    layers = []
    for d in sizes[:-1]:
        layers += [torch.nn.Conv1d(1, 1, d, stride=d, bias=False), torch.nn.ReLU()]
    layers += [torch.nn.Conv1d(1, 1, sizes[-1]), torch.nn.Flatten(0)]
    return torch.nn.Sequential(*layers).double()


def train(network, X, y):
    """The training loss after Adam has reached zero, a plateau or its last epoch."""
    optimizer = torch.optim.Adam(network.parameters(), LEARNING_RATE)
    lowest, since = np.inf, 0
    for _ in range(EPOCHS):
        optimizer.zero_grad()
        loss = torch.mean((network(X) - y) ** 2)
        loss.backward()
        optimizer.step()
        since += 1
        if loss.item() < 0.99 * lowest:
            lowest, since = loss.item(), 0
        if lowest < ZERO_LOSS or since == PATIENCE:
            break
    return loss.item()


def adam(n_starts):
    def fit(case, X, y):
        torch.manual_seed(0)
        X, y = torch.as_tensor(X)[:, None], torch.as_tensor(y)
        networks = [torch_network(case.sizes) for _ in range(n_starts)]
        best = min(networks, key=lambda network: train(network, X, y))
        best.requires_grad_(False)
        return lambda X_test: best(torch.as_tensor(X_test)[:, None]).numpy()

    return fit


QUICK = {
    "DeepTD": deeptd(),
    "moment alone": deeptd(polish=False),
    "1 random": random_starts(1),
    "10 random": random_starts(10),
}
SLOW = {"CP regression": cp_regression, "Adam 1": adam(1), "Adam 5": adam(5)}


def trial(case, methods, seed):
    """Test R2 and seconds of every method on the same data, (methods, 2)."""
    X, y, _ = case.draw(case.n_train + N_TEST, seed)
    results = []
    for method in methods.values():
        begin = time.perf_counter()
        predict = method(case, X[: case.n_train], y[: case.n_train])
        seconds = time.perf_counter() - begin
        results.append(
            (r2_score(y[case.n_train :], predict(X[case.n_train :])), seconds)
        )
    return results


def measure(case, n_trials, n_slow):
    """Per method its success rate and its time, as text."""
    measured = {}
    n_slow = min(n_slow, n_trials) if case.slow else 0
    trials = [
        trial(case, QUICK | SLOW if seed < n_slow else QUICK, seed)
        for seed in range(n_trials)
    ]
    for i, name in enumerate(QUICK | SLOW):
        took_part = [results for results in trials if len(results) > i]
        if not took_part:
            continue
        r2, seconds = np.array([results[i] for results in took_part]).T
        ratio = np.median(seconds / [results[0][1] for results in took_part])
        spent = f"{1e3 * np.median(seconds):.0f} ms" if i == 0 else f"x{ratio:.3g}"
        measured[name] = f"{np.mean(r2 > 1 - 1e-6):.2f}", spent
    return measured


def print_table(results, place):
    """Print the success rates (place 0) or the times (place 1)."""
    names = ["kernel sizes", "filters", "last layer", "n/dof", "n", *QUICK, *SLOW]
    print("\n|", " | ".join(names), "|")
    print("|" + "---|" * len(names))
    for case, measured in results:
        row = [case.sizes, case.n_filters, case.output, f"{case.per_weight:g}"]
        row.append(case.n_train)
        row += [measured[m][place] if m in measured else "" for m in QUICK | SLOW]
        print("|", " | ".join(map(str, row)), "|")


def saturation(sizes, n_trials):
    """The sample sizes, and the worst layer's |cosine|, (polish, sizes, trials)."""
    case = Case(sizes, SATURATION_PER_WEIGHT[-1])
    counts = [Case(sizes, ratio).n_train for ratio in SATURATION_PER_WEIGHT]
    worst = np.empty((2, len(counts), n_trials))
    for seed in range(n_trials):
        X, y, kernels = case.draw(case.n_train, seed)
        for polished in (False, True):
            for i, n in enumerate(counts):
                model = DeepTDRegressor(sizes, polish=polished, random_state=0)
                model.fit(X[:n], y[:n])
                similarity = kernel_similarity(model.kernels_, kernels)
                worst[int(polished), i, seed] = similarity.min()
    return np.array(counts), worst


def draw_phase(results, path):
    """A column per shape, a row per last layer."""
    figure, axes = plt.subplots(
        2, len(SHAPES), figsize=(11, 6), sharey=True, layout="constrained"
    )
    for axis_row, output in zip(axes, ("identity", "relu")):
        for axis, sizes in zip(axis_row, SHAPES):
            panel = [
                (case, measured)
                for case, measured in results
                if (case.sizes, case.output) == (sizes, output)
            ]
            draw_panel(axis, panel)
            axis.set_title(f"{sizes}, last layer {output}", fontsize=10)
    figure.supxlabel("samples per free weight (n/dof)", fontsize=10)
    figure.supylabel("success rate", fontsize=10)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=len(labels))
    figure.savefig(path, dpi=120)
    plt.close(figure)


def draw_panel(axis, panel):
    """A line per method; they are shifted sideways so that none hides another."""
    for i, (name, marker) in enumerate(zip(QUICK | SLOW, "osD^vPX")):
        points = [(x, float(m[name][0])) for x, (_, m) in enumerate(panel) if name in m]
        if points:
            x, success = np.array(points).T
            style = {"marker": marker, "markersize": 5, "linewidth": 1}
            axis.plot(x + 0.09 * (i - 3), success, color=f"C{i}", label=name, **style)
    axis.set_xticks(range(len(panel)), [f"{case.per_weight:g}" for case, _ in panel])


def draw_saturation(n_trials, path):
    """Median and quartiles, a panel per shape."""
    figure, axes = plt.subplots(
        1, len(SATURATION_SHAPES), figsize=(9, 3.8), sharey=True, layout="constrained"
    )
    for axis, sizes in zip(axes, SATURATION_SHAPES):
        counts, worst = saturation(sizes, n_trials)
        for name, of_method in zip(("moment alone", "with the polish"), worst):
            low, middle, high = np.quantile(of_method, [0.25, 0.5, 0.75], axis=1)
            axis.plot(counts, middle, marker="o", markersize=4, label=name)
            axis.fill_between(counts, low, high, alpha=0.2)
        axis.set_xscale("log")
        axis.set_ylim(0, 1.03)
        axis.set_title(f"{sizes}", fontsize=10)
        axis.set_xlabel("samples n")
    axes[0].set_ylabel("|cosine| of the worst layer")
    axes[0].legend(loc="lower right")
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--slow-trials", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    warnings.simplefilter("ignore", ConvergenceWarning)
    torch.set_num_threads(1)
    print(
        f"{options.trials} networks per row, {options.slow_trials} of them for "
        f"{', '.join(SLOW)}: success rate, time over DeepTD's"
    )
    results = []
    for case in all_cases():
        measured = measure(case, options.trials, options.slow_trials)
        results.append((case, measured))
        print(*case, measured, flush=True)
    for place in (0, 1):
        print_table(results, place)
    draw_phase(results, options.out / "recovery_phase.png")
    draw_saturation(options.trials, options.out / "recovery_saturation.png")


if __name__ == "__main__":
    main()
