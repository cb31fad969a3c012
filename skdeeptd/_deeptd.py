"""DeepTD for one output: from the moment and the rows to a network.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
S           ``moment``          (features,), the cross-moment, in patch order
T           ``tensor``          (d_1, ..., d_D), S with an axis per layer
k_1 .. k_D  ``candidate``       per layer (filters, d_l): factors of T
==========  ==================  ==================================================

The search is an iterated local search. The spectral candidates of T come first, then
those of the whitened moment, each with the signs that fit best and a short polish.
Where they do not settle it, about half of the layers of the best start so far get the
kernels of another candidate, from T with noise of its own size; after some of these in
vain the search moves to a start of such kernels only.
"""

import functools
import math
from typing import NamedTuple

import numpy as np

from skdeeptd._calibration import calibrate
from skdeeptd._decomposition import (
    candidate_batches,
    moment_tensor,
    perturbed_candidate,
)
from skdeeptd._moments import whitened_moment
from skdeeptd._network import PatchCNN, patch_order
from skdeeptd._polish import Objective, Polished, polish
from skdeeptd._rows import RowBlocks

SIGNS_PER_CANDIDATE = 4
WHITENING_STEPS = 10
SHORT_POLISH, SHORT_TOL = 10, 1e-2  # passes over the rows that every start gets
PATIENCE = 20  # starts around one network that do not improve it
AGREEING = 6  # starts that end at the lowest loss and so end the search
ZERO_LOSS = 1e-26  # relative to the loss of no model: residuals at rounding error
EXACT = 1e-10  # relative loss of a short polish that can only be the planted network
ROUNDING = 1e-10  # relative gain on a constant that may be rounding error
SAME_LOSS = 1e-3  # relative difference of two losses that are one minimum
FEWEST_STARTS, MOST_STARTS = 20, 1000
STARTS_AT_ONE = 8000  # with one sample per weight, were there no bound


class Search(NamedTuple):
    """How long to look: the parameters of DeepTDRegressor of the same names."""

    polish: bool
    max_iter: int
    tol: float
    n_init: int


def automatic_starts(n_samples, n_weights):
    """Bound of the search: the more, the fewer samples there are for each weight.

    Fewer samples than weights fit exactly in many ways, of which more starts would
    not find a better one.
    """
    per_weight = n_samples / n_weights
    if per_weight <= 1:
        return FEWEST_STARTS
    starts = math.ceil(STARTS_AT_ONE / per_weight**3)
    return min(max(starts, FEWEST_STARTS), MOST_STARTS)


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
    if is_linear(blank):
        search = search._replace(n_init=1)
    problem = _Local(rows, blank, objective, constant.loss)
    if search.polish:
        result = _polish_best(tensor, problem, search, rng, report)
    else:
        first = next(candidate_batches(tensor, len(blank.scales), rng))
        network, loss = problem.starts(first)[0]
        result = Polished(network, loss, 1, True)
    better = result.loss < constant.loss * (1 - ROUNDING)
    return result if better else constant


def is_linear(network):
    """One layer that is linear: every start ends at the same minimum."""
    return network.activations == ("identity",)


def _constant(rows, blank, objective):
    """The best network whose scales are zero."""

    def statistic(_, y, weight):
        return np.sum(weight), weight @ y, weight @ y**2

    weight, total, square = rows.reduce(statistic)
    mean = total / weight if objective.fit_intercept else 0.0
    network = blank._replace(scales=np.zeros(len(blank.scales)), intercept=mean)
    return Polished(network, square - mean * total, 1, True)


class _Local(NamedTuple):
    """What every start shares: the data, the network's shape, the loss of no model."""

    rows: RowBlocks
    blank: PatchCNN
    objective: Objective
    constant_loss: float

    def starts(self, candidates):
        """The best sign patterns of candidates, the smallest loss first."""
        calibrated = [
            start
            for candidate in candidates
            for start in calibrate(
                self.blank._replace(kernels=tuple(candidate)),
                self.rows,
                self.objective,
                SIGNS_PER_CANDIDATE,
            )
        ]
        return sorted(calibrated, key=lambda start: start.loss)

    def whitened(self, tensor):
        """The tensor of the whitened moment."""
        in_order = functools.partial(patch_order, self.blank)
        moment = tensor.transpose().ravel()
        moment = whitened_moment(self.rows, moment, in_order, WHITENING_STEPS)
        return moment_tensor(moment / np.abs(moment).max(), tensor.shape)

    def share(self, loss):
        return loss / self.constant_loss

    def polish(self, network, max_iter, tol, zero_loss):
        return polish(
            network,
            self.rows,
            self.objective,
            max_iter=max_iter,
            tol=tol,
            zero_loss=zero_loss * self.constant_loss,
        )


def _polish_best(tensor, problem, search, rng, report):
    """Polish the start that a short polish brings lowest until it converges."""
    best = _best_start(tensor, problem, search, rng, report)
    left = search.max_iter - best.n_iter
    if left > 0:
        rest = problem.polish(best.network, left, search.tol, ZERO_LOSS)
        best = rest._replace(n_iter=best.n_iter + rest.n_iter)
    else:
        best = best._replace(converged=problem.share(best.loss) <= EXACT)
    report(f"polish: {best.n_iter} passes, loss {problem.share(best.loss):.3g}")
    return best


def _best_start(tensor, problem, search, rng, report):
    """The start that a short polish brings lowest, after that polish.

    The search ends before ``n_init`` starts where a loss is zero to rounding, or where
    ``AGREEING`` starts agree on the lowest one.
    """
    n_filters = len(problem.blank.scales)
    batches = _spectral_batches(tensor, problem, rng)
    spectral = (start for batch in batches for start in problem.starts(batch))
    best = centre = None
    agreeing = in_vain = 0
    for number in range(1, search.n_init + 1):
        start = next(spectral, None)
        if start is None:
            candidate = perturbed_candidate(tensor, n_filters, rng)
            if in_vain < PATIENCE:
                candidate = _exchange(centre.network.kernels, candidate, rng)
            else:
                centre = None
            start = problem.starts([candidate])[0]
        budget = min(SHORT_POLISH, search.max_iter)
        result = problem.polish(start.network, budget, SHORT_TOL, EXACT)
        report(
            f"start {number}: loss {problem.share(start.loss):.3g} of that of a "
            f"constant, {problem.share(result.loss):.3g} after a short polish"
        )
        in_vain += 1
        if _is_lower(result, centre):
            centre, in_vain = result, 0
        agreeing = 1 if _is_lower(result, best) else agreeing + _agree(result, best)
        best = result if best is None or result.loss < best.loss else best
        if agreeing == AGREEING or problem.share(best.loss) <= EXACT:
            break
    return best


def _spectral_batches(tensor, problem, rng):
    """Candidates of the moment and of the whitened moment."""
    n_filters = len(problem.blank.scales)
    of_moment = candidate_batches(tensor, n_filters, rng)
    yield next(of_moment)
    of_whitened = candidate_batches(problem.whitened(tensor), n_filters, rng)
    yield next(of_whitened)
    yield from of_moment
    yield from of_whitened


def _is_lower(result, other):
    return other is None or result.loss < other.loss * (1 - SAME_LOSS)


def _agree(result, best):
    return result.loss <= best.loss * (1 + SAME_LOSS)


def _exchange(kernels, other, rng):
    """By chance, each layer is from the one or the other, of which there is one."""
    stay = rng.uniform(size=len(kernels)) < 0.5
    stay[rng.randint(len(kernels))] = False
    return [
        k if stays else new for k, new, stays in zip(kernels, other, stay, strict=True)
    ]
