"""The network of one output from the moment and one set of rows.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
S           ``moment``          (features,), the cross-moment, in patch order
T           ``tensor``          (d_1, ..., d_D), S with an axis per layer
k_1 .. k_D  ``candidate``       per layer (filters, d_l): factors of T
==========  ==================  ==================================================

An iterated local search. The spectral candidates of T come first, then those of the
whitened moment, each with the signs that fit best and a short polish. Where they do not
settle it, about half of the layers of the best start so far get the kernels of another
candidate, from T with noise of its own size; after some of these in vain the search
moves to a start of such kernels only.
"""

import functools
import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from skdeeptd._calibration import Calibrated, calibrate
from skdeeptd._decomposition import (
    candidate_batches,
    moment_tensor,
    perturbed_candidate,
)
from skdeeptd._moments import whitened_moment
from skdeeptd._network import PatchCNN, patch_order
from skdeeptd._polish import (
    CLOSE_DAMPING,
    FIRST_DAMPING,
    Objective,
    Polished,
    polish,
)
from skdeeptd._rows import RowBlocks, add

SIGNS_PER_CANDIDATE = 4
WHITENING_STEPS = 10
SHORT_POLISH, SHORT_TOL = 10, 1e-2  # passes over the rows that every start gets
PATIENCE = 20  # starts around one network that do not improve it
AGREEING = 6  # starts that end at the lowest loss and so end the search
NO_LOSS = 1e-13  # relative to the sum of squares: rounding of a constant's own loss
ZERO_LOSS = 1e-26  # relative to the loss of no model: residuals at rounding error
EXACT = 1e-10  # relative loss of a short polish that can only be the planted network
SAME_LOSS = 1e-3  # relative difference of two losses that are one minimum
FEWEST_STARTS, MOST_STARTS = 20, 1000
STARTS_AT_ONE = 8000  # with one sample per weight, were there no bound


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


class Task(NamedTuple):
    """What to learn, and how long to look for it.

    ``moment`` is in patch order; ``blank`` is any network with the wanted kernel sizes,
    filters, activations and order; ``report`` takes a line of text on the progress. The
    others are parameters of DeepTDRegressor.
    """

    moment: np.ndarray
    blank: PatchCNN
    objective: Objective
    polish: bool
    max_iter: int
    tol: float
    n_init: int
    seed: int
    report: Callable

    def with_alpha_times(self, factor):
        alpha = self.objective.alpha * factor
        return self._replace(objective=self.objective._replace(alpha=alpha))

    def tensor(self):
        sizes = tuple(k.shape[1] for k in self.blank.kernels)
        return moment_tensor(self.moment / np.abs(self.moment).max(), sizes)

    def candidates(self, tensor, rng):
        return candidate_batches(tensor, len(self.blank.scales), rng)

    def perturbed_candidate(self, tensor, rng):
        return perturbed_candidate(tensor, len(self.blank.scales), rng)


class Found(NamedTuple):
    """``share``: of the loss of a constant, on the same rows."""

    result: Polished
    share: float


def search(task, rows, first=None):
    """Look for the network that fits best, ``first`` before all others, and polish it.

    Returns
    -------
    Found
    """
    constant = constant_network(rows, task)
    if constant.loss == 0:
        return Found(constant, 1.0)
    local = _Local(rows, task, constant.loss)
    tensor, rng = task.tensor(), np.random.RandomState(task.seed)
    if task.polish:
        return _polish_on(_best_start(tensor, local, first, rng), local)
    network, loss = local.starts(next(task.candidates(tensor, rng)))[0]
    return Found(Polished(network, loss, 1, True), local.share(loss))


def refine(task, rows, network):
    """Polish a network that needs no search."""
    constant = constant_network(rows, task)
    start = Polished(network, np.inf, 0, False)
    return _polish_on(start, _Local(rows, task, constant.loss), CLOSE_DAMPING)


def is_linear(network):
    """One layer that is linear: every start ends at the same minimum."""
    return network.activations == ("identity",)


def constant_network(rows, task):
    """The best network whose scales are zero, as a ``Polished``."""
    weight, total, square = add(rows.targets(lambda y, w: (np.sum(w), w @ y, w @ y**2)))
    mean = total / weight if task.objective.fit_intercept else 0.0
    zeros = np.zeros(len(task.blank.scales))
    network = task.blank._replace(scales=zeros, intercept=mean)
    loss = square - mean * total
    return Polished(network, loss if loss > NO_LOSS * square else 0.0, 1, True)


class _Local(NamedTuple):
    """What every start shares: the rows, the task, the loss of no model."""

    rows: RowBlocks
    task: Task
    constant_loss: float

    def starts(self, candidates):
        """The best sign patterns of candidates, the smallest loss first."""
        calibrated = [
            start
            for candidate in candidates
            for start in calibrate(
                self.task.blank._replace(kernels=tuple(candidate)),
                self.rows,
                self.task.objective,
                SIGNS_PER_CANDIDATE,
            )
        ]
        return sorted(calibrated, key=lambda start: start.loss)

    def whitened(self, tensor):
        """The tensor of the whitened moment."""
        in_order = functools.partial(patch_order, self.task.blank)
        moment = tensor.transpose().ravel()
        moment = whitened_moment(self.rows, moment, in_order, WHITENING_STEPS)
        return moment_tensor(moment / np.abs(moment).max(), tensor.shape)

    def share(self, loss):
        return loss / self.constant_loss

    def polish(self, network, max_iter, tol, zero_loss, damping=FIRST_DAMPING):
        return polish(
            network,
            self.rows,
            self.task.objective,
            max_iter=max_iter,
            tol=tol,
            zero_loss=zero_loss * self.constant_loss,
            damping=damping,
        )


def _polish_on(start, local, damping=FIRST_DAMPING):
    """Polish until it converges, in the passes that the start has left."""
    task, best = local.task, start
    left = task.max_iter - start.n_iter
    if left > 0:
        rest = local.polish(start.network, left, task.tol, ZERO_LOSS, damping)
        best = rest._replace(n_iter=start.n_iter + rest.n_iter)
    else:
        best = best._replace(converged=local.share(best.loss) <= EXACT)
    task.report(f"polish: {best.n_iter} passes, loss {local.share(best.loss):.3g}")
    return Found(best, local.share(best.loss))


def _best_start(tensor, local, first, rng):
    """The start that a short polish brings lowest, after that polish.

    The search ends before ``n_init`` starts where a loss is zero to rounding, or where
    ``AGREEING`` starts agree on the lowest one.
    """
    task = local.task
    batches = _spectral_batches(tensor, local, rng)
    spectral = (start for batch in batches for start in local.starts(batch))
    given = [] if first is None else [Calibrated(first, np.nan)]
    starts = itertools.chain(given, spectral)
    best = centre = None
    agreeing = in_vain = 0
    for number in range(1, task.n_init + 1):
        start = next(starts, None)
        if start is None:
            candidate = task.perturbed_candidate(tensor, rng)
            if in_vain < PATIENCE:
                candidate = _exchange(centre.network.kernels, candidate, rng)
            else:
                centre = None
            start = local.starts([candidate])[0]
        budget = min(SHORT_POLISH, task.max_iter)
        result = local.polish(start.network, budget, SHORT_TOL, EXACT)
        task.report(
            f"start {number}: loss {local.share(result.loss):.3g} of that of a "
            f"constant after {result.n_iter} passes"
        )
        in_vain += 1
        if _is_lower(result, centre):
            centre, in_vain = result, 0
        agreeing = 1 if _is_lower(result, best) else agreeing + _agree(result, best)
        best = result if best is None or result.loss < best.loss else best
        if agreeing == AGREEING or local.share(best.loss) <= EXACT:
            break
    return best


def _spectral_batches(tensor, local, rng):
    """Candidates of the moment and of the whitened moment."""
    of_moment = local.task.candidates(tensor, rng)
    yield next(of_moment)
    of_whitened = local.task.candidates(local.whitened(tensor), rng)
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
