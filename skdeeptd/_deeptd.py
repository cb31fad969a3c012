"""DeepTD for one output: from the moment and the rows to a network.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
S           ``moment``          (features,), the cross-moment, in patch order
T           ``tensor``          (d_1, ..., d_D), S with an axis per layer
k_1 .. k_D  ``candidate``       per layer (filters, d_l): factors of T
==========  ==================  ==================================================
"""

import itertools
from typing import NamedTuple

import numpy as np

from skdeeptd._calibration import calibrate
from skdeeptd._decomposition import candidate_batches, moment_tensor
from skdeeptd._polish import Polished, polish

SIGNS_PER_CANDIDATE = 4
SHORT_POLISH = 10  # passes over the rows that every start gets
ZERO_LOSS = 1e-26  # relative to the loss of no model: residuals at rounding error
EXACT = 1e-10  # relative loss of a short polish that can only be the planted network
ROUNDING = 1e-10  # relative gain on a constant that may be rounding error
SAME_LOSS = 1e-3  # relative difference of two losses that are one minimum


class Search(NamedTuple):
    """How long to look: the parameters of DeepTDRegressor of the same names."""

    polish: bool
    max_iter: int
    tol: float
    n_init: int


def learn(moment, rows, blank, objective, search, rng, report):
    """The network of one output.

    Parameters
    ----------
    moment : array of shape (features,)
        In patch order.
    rows : RowBlocks
    blank : PatchCNN
        Any network with the wanted kernel sizes, filters, activations and order.
    objective : Objective
    search : Search
    rng : numpy.random.RandomState
    report : callable
        Takes a line of text on the progress.

    Returns
    -------
    Polished
        With all scales zero where nothing does better than a constant.
    """
    constant = _constant(rows, blank, objective)
    if not np.any(moment) or constant.loss == 0:
        return constant
    sizes = tuple(k.shape[1] for k in blank.kernels)
    tensor = moment_tensor(moment / np.abs(moment).max(), sizes)
    batches = candidate_batches(tensor, len(blank.scales), search.n_init, rng)
    starts = _calibrated_batches(batches, rows, blank, objective)
    if search.polish:
        result = _polish_best(starts, rows, objective, search, constant.loss, report)
    else:
        network, loss = next(starts)[0]
        result = Polished(network, loss, 1, True)
    better = result.loss < constant.loss * (1 - ROUNDING)
    return result if better else constant


def _constant(rows, blank, objective):
    """The best network whose scales are zero."""

    def statistic(_, y, weight):
        return np.sum(weight), weight @ y, weight @ y**2

    weight, total, square = rows.reduce(statistic)
    mean = total / weight if objective.fit_intercept else 0.0
    network = blank._replace(scales=np.zeros(len(blank.scales)), intercept=mean)
    return Polished(network, square - mean * total, 1, True)


def _calibrated_batches(batches, rows, blank, objective):
    """Per batch of candidates, their best sign patterns, the smallest loss first."""
    for batch in batches:
        calibrated = [
            start
            for candidate in batch
            for start in calibrate(
                blank._replace(kernels=tuple(candidate)),
                rows,
                objective,
                SIGNS_PER_CANDIDATE,
            )
        ]
        yield sorted(calibrated, key=lambda start: start.loss)


def _polish_best(batches, rows, objective, search, constant_loss, report):
    """Polish the start that a short polish brings lowest until it converges."""
    best = _best_start(batches, rows, objective, search, constant_loss, report)
    goes_on = best.loss <= EXACT * constant_loss or not best.converged
    if goes_on and best.n_iter < search.max_iter:
        rest = polish(
            best.network,
            rows,
            objective,
            max_iter=search.max_iter - best.n_iter,
            tol=search.tol,
            zero_loss=ZERO_LOSS * constant_loss,
        )
        best = rest._replace(n_iter=best.n_iter + rest.n_iter)
    report(f"polish: {best.n_iter} passes, loss {best.loss / constant_loss:.3g}")
    return best


def _best_start(batches, rows, objective, search, constant_loss, report):
    """The start that a short polish brings lowest, after that polish.

    The search ends before ``n_init`` starts where a loss is zero to rounding, or where
    two starts agree on the lowest one.
    """
    best = None
    starts = itertools.islice(itertools.chain.from_iterable(batches), search.n_init)
    for number, start in enumerate(starts, 1):
        result = polish(
            start.network,
            rows,
            objective,
            max_iter=min(SHORT_POLISH, search.max_iter),
            tol=search.tol,
            zero_loss=EXACT * constant_loss,
        )
        report(
            f"start {number}: loss {start.loss / constant_loss:.3g} of that of a "
            f"constant, {result.loss / constant_loss:.3g} after a short polish"
        )
        agrees = best is not None and np.isclose(
            result.loss, best.loss, rtol=SAME_LOSS, atol=0
        )
        if best is None or result.loss < best.loss:
            best = result
        if agrees or best.loss <= EXACT * constant_loss:
            break
    return best
