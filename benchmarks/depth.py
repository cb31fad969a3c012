"""What a rank-1 approximation of a tensor with many modes finds, and what it costs.

A planted unit rank-1 tensor of 20 modes of size 2 (2^20 entries) plus Gaussian noise of
a given norm. A method has found it where its inner product with the planted tensor is
that of power iteration started at the truth, to 1e-3; "loss" is the most that any trial
falls short of that. "Converged" is what a method says of itself, where it says so. Time
is in passes: one product of the tensor, as a square matrix, with a vector, timed on the
same tensor just before, with one BLAS thread. Methods, all as they come:

first start     skdeeptd: power iteration from the balanced unfolding
all starts      skdeeptd: from the other spectral starts, too; the largest weight
cp_als          pyttb: alternating least squares
parafac         TensorLy: alternating least squares
parafac_power   TensorLy: parafac_power_iteration, 10 random starts of 10 sweeps

The last two get fewer trials. The first table holds what one sweep over all modes
costs: of power iteration, and of alternating least squares with 4 terms.

Run: python benchmarks/depth.py [--trials 20] [--slow-trials 5] [--modes 20]
It needs the optional dependencies "benchmarks".
"""

import argparse
import functools
import time
from typing import NamedTuple

import numpy as np
import pyttb
from skdeeptd._solver.decomposition import (
    alternating_least_squares,
    outer_product,
    power_iteration,
    rank_one_batches,
    spectral_rank_one,
)
from tensorly.decomposition import parafac, parafac_power_iteration
from threadpoolctl import threadpool_limits

NOISE = [0.5, 1, 16]  # norms; that of the planted tensor is 1
FOUND = 1e-3
REPEATS, N_TERMS = 51, 4
PARAFAC_SWEEPS, CP_ALS_SWEEPS = 100, 1000  # the most, by default


class Problem(NamedTuple):
    tensor: np.ndarray
    of_pyttb: pyttb.tensor
    true: list
    best: float
    seed: int


def inner(vectors, true):
    """Inner product of the unit rank-1 tensors."""
    cosines = [
        np.ravel(u) @ v / np.linalg.norm(u) for u, v in zip(vectors, true, strict=True)
    ]
    return abs(np.prod(cosines))


def planted(n_modes, noise, seed):
    rng = np.random.default_rng(seed)
    true = [v / np.linalg.norm(v) for v in rng.standard_normal((n_modes, 2))]
    draw = rng.standard_normal((2,) * n_modes)
    tensor = outer_product(true).reshape(draw.shape)
    tensor += noise * draw / np.linalg.norm(draw)
    best = inner(power_iteration(tensor, true).vectors, true)
    return Problem(tensor, pyttb.tensor(tensor), true, best, seed)


def first_start(problem):
    return next(rank_one_batches(problem.tensor))[0].vectors, None


def all_starts(problem):
    return spectral_rank_one(problem.tensor).vectors, None


def tensorly_als(problem, init):
    terms, errors = parafac(
        problem.tensor, 1, init=init, random_state=problem.seed, return_errors=True
    )
    return terms.factors, len(errors) < PARAFAC_SWEEPS


def tensorly_power(problem):
    np.random.seed(problem.seed)
    return parafac_power_iteration(problem.tensor, 1)[1], None


def pyttb_als(problem, init):
    np.random.seed(problem.seed)
    terms, _, info = pyttb.cp_als(problem.of_pyttb, 1, init=init, printitn=0)
    return terms.factor_matrices, info["iters"] + 1 < CP_ALS_SWEEPS


METHODS = {
    "first start": first_start,
    "all starts": all_starts,
    "cp_als, nvecs": functools.partial(pyttb_als, init="nvecs"),
    "cp_als, random": functools.partial(pyttb_als, init="random"),
    "parafac, svd": functools.partial(tensorly_als, init="svd"),
    "parafac, random": functools.partial(tensorly_als, init="random"),
    "parafac_power": tensorly_power,
}
SLOW = {"parafac, svd", "parafac, random", "parafac_power"}


def seconds(call, repeats=REPEATS):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return np.median(times)


def one_pass(tensor):
    matrix = tensor.reshape(2 ** (tensor.ndim // 2), -1)
    vector = np.ones(matrix.shape[1])
    return seconds(lambda: matrix @ vector)


def spread(values):
    return f"{np.median(values):.3g} ({min(values):.3g} to {max(values):.3g})"


def sweep_costs(n_modes, n_trials):
    """Passes of one sweep, on each of several tensors."""
    rank_one, least_squares = [], []
    for seed in range(n_trials):
        tensor, rng = planted(n_modes, 1, seed).tensor, np.random.default_rng(seed)
        factors = list(rng.standard_normal((n_modes, N_TERMS, 2)))
        vectors = [factor[0] for factor in factors]
        unit = one_pass(tensor)
        sweep = functools.partial(power_iteration, tensor, vectors, max_sweeps=1)
        rank_one.append(seconds(sweep) / unit)
        sweep = functools.partial(
            alternating_least_squares, tensor, factors, max_sweeps=1
        )
        least_squares.append(seconds(sweep) / unit)
    print(f"one pass over {tensor.size} numbers, the last time: {1e3 * unit:.3g} ms")
    print("| one sweep | passes |")
    print("|---|---|")
    print(f"| rank 1 | {spread(rank_one)} |")
    print(f"| rank {N_TERMS} | {spread(least_squares)} |", flush=True)


def trial(problem, method):
    """Loss, what it says of its convergence, passes."""
    unit = one_pass(problem.tensor)
    start = time.perf_counter()
    vectors, converged = method(problem)
    passes = (time.perf_counter() - start) / unit
    return problem.best - inner(vectors, problem.true), converged, passes


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--slow-trials", type=int, default=5)
    parser.add_argument("--modes", type=int, default=20)
    args = parser.parse_args()
    with threadpool_limits(1):
        sweep_costs(args.modes, args.trials)
        print(f"\n{args.modes} modes of size 2; median (least to most) of passes")
        print("| noise | method | found | loss | converged | passes |")
        print("|---|---|---|---|---|---|")
        for noise in NOISE:
            for name, method in METHODS.items():
                n_trials = args.slow_trials if name in SLOW else args.trials
                problems = (planted(args.modes, noise, s) for s in range(n_trials))
                results = [trial(problem, method) for problem in problems]
                loss, converged, passes = zip(*results, strict=True)
                found = sum(one <= FOUND for one in loss)
                says = "" if None in converged else f"{sum(converged)} of {n_trials}"
                print(
                    f"| {noise} | {name} | {found} of {n_trials} | {max(loss):.0e} "
                    f"| {says} | {spread(passes)} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
