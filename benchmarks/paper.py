"""The claims of the paper as experiments: what the moment alone finds, unpolished.

Oymak and Soltanolkotabi (arXiv:1805.06523) decompose sum_i (y_i - mean) x_i, reshaped
to an axis per layer, into all kernels at once. Measured, on planted networks with
Gaussian X and without noise, is the |cosine| of each layer's kernel with the planted
one, over n/dof, the samples per free weight:

centring        with and without centring y, for networks whose y has a mean
shapes          over depth and kernel sizes: are all kernels found closely?
activations     hidden layers and last layer: does it matter which?
threshold       samples from which the worst layer's |cosine| is above 0.9: do they
                grow like the number of free weights?
concentration   error of the moment against one of very many samples, over n: as a
                tensor, and in its largest rank-1 direction, which alone matters to
                the decomposition

"Worst" is the layer with the least |cosine| of a trial; figures are medians over the
trials. After each table a line says whether the claim holds in these figures. Each
experiment draws paper_<its name>.png into the folder --out.

Run: python benchmarks/paper.py [--trials 20] [--out .]
It needs the optional dependencies "benchmarks".
"""

import argparse
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
import numpy as np
from skdeeptd._model.network import PatchCNN, forward
from skdeeptd._solver.decomposition import moment_tensor, spectral_rank_one

from skdeeptd import DeepTDRegressor
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity

PER_WEIGHT = [2, 5, 10, 20, 50, 100, 200]
SHAPES = [(20, 20), (10, 10, 10), (5, 5, 5, 5), (2,) * 8, (30, 3, 3), (3, 3, 30)]
ACTIVATIONS = ["identity", "relu", "leaky_relu", "tanh", "softplus"]
FOUND = 0.9  # least worst |cosine| that the threshold asks for
GROWING = {2: [8, 14, 25, 40], 3: [4, 6, 10, 16], 4: [3, 4, 6, 8]}
FINE_PER_WEIGHT = np.geomspace(1.5, 48, 8)
REFERENCE, BLOCK = 1_000_000, 10_000  # samples of the reference moment, and at a time


class Planted(NamedTuple):
    """A kind of network and what the moment alone makes of samples from one."""

    sizes: tuple
    activation: str = "relu"
    output: str = "identity"

    def n_samples(self, per_weight):
        return round(per_weight * degrees_of_freedom(self.sizes))

    def draw(self, n_samples, seed):
        return make_patch_cnn_regression(
            n_samples,
            self.sizes,
            activation=self.activation,
            output_activation=self.output,
            random_state=seed,
            return_kernels=True,
        )

    def centred(self, X, y):
        model = DeepTDRegressor(
            self.sizes,
            activation=self.activation,
            output_activation=self.output,
            polish=False,
            random_state=0,
        )
        return model.fit(X, y).kernels_

    def uncentred(self, X, y):
        tensor = np.ascontiguousarray(moment_tensor(y @ X / len(y), self.sizes))
        return [v[None, None] for v in spectral_rank_one(tensor).vectors]

    def cosines(self, estimate, per_weight, n_trials):
        """|cosine|, (n/dof, trials, layers); smaller samples are prefixes of larger."""
        counts = [self.n_samples(ratio) for ratio in per_weight]
        result = np.empty((len(counts), n_trials, len(self.sizes)))
        for seed in range(n_trials):
            X, y, kernels = self.draw(counts[-1], seed)
            for i, n in enumerate(counts):
                estimated = estimate(self, X[:n], y[:n])
                result[i, seed] = kernel_similarity(estimated, kernels)
        return result


def median_worst(cosines):
    return np.median(cosines.min(axis=2), axis=1)


def end_of(worst):
    """Whether a curve stops or still rises at its end, in words.

    Of an estimate without bias, 1 - |cosine| falls like 1/n, by 4 over the last two
    steps of n/dof; here less than a factor of 2 is a stop.
    """
    stopped = 1 - worst[-3] < 2 * (1 - worst[-1])
    return f"{'stops at' if stopped else 'still rises at'} {worst[-1]:.3f}"


def print_table(title, header, rows):
    print(f"\n### {title}\n")
    print("|", " | ".join(map(str, header)), "|")
    print("|" + "---|" * len(header))
    for row in rows:
        print("|", " | ".join(map(str, row)), "|")


def print_verdict(claim, holds, figures):
    verdict = "holds" if holds else "does NOT hold"
    print(f"\nClaim: {claim}. It {verdict} here: {figures}.", flush=True)


def draw_cosines(panels, path):
    """Median and quartiles of the worst layer over n/dof; panels: title -> lines.

    On log axes, so that an error that falls like 1/n is a straight line.
    """
    figure, axes = plt.subplots(
        1,
        len(panels),
        figsize=(1.5 + 4 * len(panels), 4.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axis, (title, lines) in zip(axes[0], panels.items()):
        for (name, cosines), marker in zip(lines.items(), "osD^vP"):
            errors = 1 - cosines.min(axis=2)
            low, middle, high = np.quantile(errors, [0.25, 0.5, 0.75], axis=1)
            style = {"marker": marker, "markersize": 6, "fillstyle": "none"}
            axis.loglog(PER_WEIGHT, middle, label=name, **style)
            axis.fill_between(PER_WEIGHT, low, high, alpha=0.08)
        axis.set_xticks(PER_WEIGHT, PER_WEIGHT)
        axis.set_xticks([], minor=True)
        axis.set_xlabel("samples per free weight (n/dof)")
        axis.set_title(title, fontsize=10)
    axes[0, 0].set_ylabel("1 - |cosine| of the worst layer")
    axes[0, 0].legend(loc="lower left", fontsize=9)
    save(figure, path)


def save(figure, path):
    figure.savefig(path, dpi=120)
    plt.close(figure)


def centring(n_trials, path):
    sizes, panels, rows, gains, ends = (5, 5, 5, 5), {}, [], [], []
    for activation, output in (
        ("relu", "identity"),
        ("relu", "relu"),
        ("softplus", "identity"),
    ):
        planted = Planted(sizes, activation, output)
        both = [
            planted.cosines(estimate, PER_WEIGHT, n_trials)
            for estimate in (Planted.centred, Planted.uncentred)
        ]
        name = f"hidden {activation}, last {output}"
        panels[name] = dict(zip(("centred", "not centred"), both))
        worst = [median_worst(cosines) for cosines in both]
        gains.append(worst[0] - worst[1])
        ends.append(f"{end_of(worst[0])} ({name})")
        layers = [np.median(cosines, axis=1) for cosines in both]
        for i, ratio in enumerate(PER_WEIGHT):
            cells = zip([*layers[0][i], worst[0][i]], [*layers[1][i], worst[1][i]])
            rows.append([name, ratio, *(f"{c:.2f} / {u:.2f}" for c, u in cells)])
    names = [f"layer {layer + 1}" for layer in range(len(sizes))]
    header = ["activations", "n/dof", *names, "worst"]
    print_table(f"Centring, {sizes}: centred / not centred", header, rows)
    means = [f"{gain.mean():.2f} ({name})" for gain, name in zip(gains, panels)]
    print_verdict(
        "centring y helps",
        min(gain.mean() for gain in gains) > 0,
        f"over all n/dof the median worst cosine gains {', '.join(means)} on average, "
        f"at n/dof {PER_WEIGHT[-1]} at most {max(gain[-1] for gain in gains):.2f}; "
        f"centred it {', '.join(ends)}",
    )
    draw_cosines(panels, path)


def shapes(n_trials, path):
    measured = {
        str(sizes): Planted(sizes).cosines(Planted.centred, PER_WEIGHT, n_trials)
        for sizes in SHAPES
    }
    worst = {name: median_worst(cosines) for name, cosines in measured.items()}
    rows = []
    for name, cosines in measured.items():
        layers = " ".join(f"{c:.2f}" for c in np.median(cosines[-1], axis=0))
        rows.append([name, *(f"{c:.2f}" for c in worst[name]), layers])
    header = ["kernel sizes", *PER_WEIGHT, f"layer by layer at {PER_WEIGHT[-1]}"]
    print_table("Shapes: worst layer over n/dof, hidden relu", header, rows)
    print_verdict(
        f"all kernels are found closely (median worst cosine above {FOUND})",
        all(of_shape[-1] > FOUND for of_shape in worst.values()),
        "it " + ", ".join(f"{end_of(w)} for {name}" for name, w in worst.items()),
    )
    draw_cosines({"hidden layers relu, last layer linear": measured}, path)


def activations(n_trials, path):
    sizes, panels, worst = (6, 6, 6), {}, {}
    for output in ("identity", "relu"):
        lines = {
            hidden: Planted(sizes, hidden, output).cosines(
                Planted.centred, PER_WEIGHT, n_trials
            )
            for hidden in ACTIVATIONS
        }
        panels[f"{sizes}, last layer {output}"] = lines
        worst |= {(hidden, output): median_worst(c) for hidden, c in lines.items()}
    rows = [[*names, *(f"{c:.3f}" for c in w), end_of(w)] for names, w in worst.items()]
    header = ["hidden", "last layer", *PER_WEIGHT, "at the end it"]
    print_table(f"Activations, {sizes}: worst layer over n/dof", header, rows)
    stopped = [f"{h}, {o}" for (h, o), w in worst.items() if "stops" in end_of(w)]
    lowest = min(worst, key=lambda names: worst[names][-1])
    print_verdict(
        f"it works for relu as for smooth activations (above {FOUND})",
        worst[lowest][-1] > FOUND,
        f"at n/dof {PER_WEIGHT[-1]} the least median worst cosine is "
        f"{worst[lowest][-1]:.3f} ({', '.join(lowest)}); it stops short of 1 for "
        f"{len(stopped)} of {len(worst)}: {'; '.join(stopped)}",
    )
    draw_cosines(panels, path)


def crossing(planted, worst):
    """Samples at which the worst |cosine| stays above FOUND; NaN if it does not."""
    counts = [planted.n_samples(ratio) for ratio in FINE_PER_WEIGHT]
    below = np.flatnonzero(worst < FOUND)
    if len(below) == 0 or below[-1] == len(worst) - 1:
        return np.nan
    around = slice(below[-1], below[-1] + 2)
    return float(np.exp(np.interp(FOUND, worst[around], np.log(counts[around]))))


def slope(x, y):
    """Of the line through the points on log axes; NaN where one of them is."""
    return float(np.polyfit(np.log(x), np.log(y), 1)[0]) if np.all(y > 0) else np.nan


def threshold(n_trials, path):
    rows, lines = [], {}
    for activation in ("identity", "relu"):
        for depth, lengths in GROWING.items():
            line = lines[f"{depth} layers, {activation}"] = []
            for d in lengths:
                planted = Planted((d,) * depth, activation)
                dof = degrees_of_freedom(planted.sizes)
                cosines = planted.cosines(Planted.centred, FINE_PER_WEIGHT, n_trials)
                worst = median_worst(cosines)
                n = crossing(planted, worst)
                cells = f"{n:.0f}", f"{n / dof:.2f}", f"{worst[-1]:.2f}"
                rows.append([activation, planted.sizes, dof, *cells])
                line.append((dof, n))
    last = f"worst at n/dof {FINE_PER_WEIGHT[-1]:.0f}"
    header = ["hidden", "kernel sizes", "dof", "n", "n/dof", last]
    print_table(f"Threshold: n where the worst layer passes {FOUND}", header, rows)
    slopes = {name: slope(*np.transpose(line)) for name, line in lines.items()}
    never = [str(row[1]) for row in rows if row[3] == "nan"]
    print_verdict(
        "the samples needed grow like the number of free weights (slope 1 on log axes)",
        all(abs(s - 1) < 0.25 for s in slopes.values()),
        "the slope is "
        + ", ".join(f"{s:.2f} ({name})" for name, s in slopes.items())
        + f"; the moment alone never gets there for {', '.join(never) or 'none'}",
    )
    draw_threshold(lines, path)


def draw_threshold(lines, path):
    figure, axis = plt.subplots(figsize=(6, 4.5), layout="constrained")
    for i, (name, line) in enumerate(lines.items()):
        style = ("o-", "s--")[i // len(GROWING)]
        axis.loglog(
            *np.transpose(line), style, color=f"C{i % len(GROWING)}", label=name
        )
    for set_ticks, ticks in (
        (axis.set_xticks, [10, 20, 40, 80]),
        (axis.set_yticks, [25, 50, 100, 200, 400]),
    ):
        set_ticks(ticks, ticks)
        set_ticks([], minor=True)
    axis.set_xlabel("free weights of the network")
    axis.set_ylabel(f"samples until the worst |cosine| passes {FOUND}")
    axis.legend(fontsize=9)
    save(figure, path)


def sampled_moment(network, n_samples, n_features, rng):
    """The centred moment of fresh samples, drawn block by block."""
    with_target, total, target = np.zeros(n_features), np.zeros(n_features), 0.0
    for begin in range(0, n_samples, BLOCK):
        X = rng.standard_normal((min(BLOCK, n_samples - begin), n_features))
        y = forward(network, X)
        with_target += y @ X
        total += X.sum(axis=0)
        target += y.sum()
    return (with_target - target / n_samples * total) / n_samples


def moment_errors(sizes, counts, n_trials):
    """Relative to the moment of REFERENCE samples, (n, trials, 2 norms)."""
    rng = np.random.RandomState(0)
    kernels = Planted(sizes).draw(1, seed=0)[2]
    activations = ("relu",) * (len(sizes) - 1) + ("identity",)
    network = PatchCNN(tuple(k[0] for k in kernels), np.ones(1), 0.0, activations)

    def moment(n_samples):
        flat = sampled_moment(network, n_samples, np.prod(sizes), rng)
        return np.ascontiguousarray(moment_tensor(flat, sizes))

    def norms(tensor):
        return np.linalg.norm(tensor), spectral_rank_one(tensor).weight

    reference = moment(REFERENCE)
    errors = [[norms(moment(n) - reference) for _ in range(n_trials)] for n in counts]
    return np.array(errors) / norms(reference)


def concentration(n_trials, path):
    sizes, counts = (6, 6, 6), np.array([100, 300, 1000, 3000, 10000, 30000])
    errors = np.median(moment_errors(sizes, counts, n_trials), axis=1)
    slopes = [slope(counts, of_norm) for of_norm in errors.T]
    header = ["n", "whole tensor", "largest rank-1 direction"]
    rows = [[n, *(f"{e:.3g}" for e in of_n)] for n, of_n in zip(counts, errors)]
    print_table(f"Relative error of the moment, {sizes}, hidden relu", header, rows)
    n_features, n_weights = np.prod(sizes), degrees_of_freedom(sizes)
    print_verdict(
        "the error falls with the square root of n (slope -1/2), and is smaller in "
        "its largest rank-1 direction",
        all(abs(s + 0.5) < 0.05 for s in slopes)
        and np.all(errors[:, 1] < errors[:, 0]),
        f"slopes {slopes[0]:.2f} and {slopes[1]:.2f}; the rank-1 error is "
        f"{np.median(errors[:, 1] / errors[:, 0]):.2f} of that of the whole tensor, "
        f"where the root of dof over features is "
        f"{np.sqrt(n_weights / n_features):.2f}",
    )
    figure, axis = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, of_norm, s in zip(header[1:], errors.T, slopes):
        axis.loglog(counts, of_norm, "o-", label=f"{name}, slope {s:.2f}")
    expected = errors[-1, 0] * np.sqrt(counts[-1] / counts)
    axis.loglog(counts, expected, "k:", label="slope -1/2")
    axis.set_xlabel("samples n")
    axis.set_ylabel("relative error of the moment")
    axis.legend(fontsize=9)
    save(figure, path)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    for experiment in (centring, shapes, activations, threshold, concentration):
        path = options.out / f"paper_{experiment.__name__}.png"
        experiment(options.trials, path)


if __name__ == "__main__":
    main()
