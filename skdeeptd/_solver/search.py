"""The network of one output from the moment and one set of rows.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
S           ``moment``          (features,), the cross-moment
T           ``tensor``          (d_1, ..., d_D), S as the patches hold it, with an
                                axis per layer
k_1 .. k_D  ``candidate``       per layer (filters, d_l): factors of T
n           ``n_samples``       of the rows, as repeated rows would count
m           ``n_weights``       of the network
==========  ==================  ==================================================

An iterated local search. The spectral candidates of T come first, then those of the
whitened moment, each with the signs that fit best and a short polish. Where they do not
settle it, about half of the layers of the best start so far get the kernels of another
candidate, from T with noise of its own size; where patches overlap, one kernel is
shifted or drawn instead. After some of these in vain the search moves to a start of
such kernels only.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from skdeeptd._data.moments import whitened_moment
from skdeeptd._data.rows import RowBlocks, add
from skdeeptd._model.network import PatchCNN, overlapping_patches, patch_sources
from skdeeptd._model.parameters import n_parameters
from skdeeptd._solver.calibration import calibrate
from skdeeptd._solver.decomposition import (
    candidate_batches,
    moment_tensor,
    perturbed_candidate,
)
from skdeeptd._solver.normal_equations import Objective
from skdeeptd._solver.polish import CLOSE_DAMPING, Solution, polish
from skdeeptd._solver.readout import loo_alpha
from skdeeptd._solver.second_moment import start_of_both_moments, supports_second_moment

SIGNS_PER_CANDIDATE = 4
WHITENING_STEPS = 10
SHORT_POLISH, SHORT_TOL = 12, 1e-2  # passes over the rows that every start gets
FINE_TOL = 3e-3  # the same where there are plenty of samples, whose losses agree better
GAIN_PASSES = 10  # of them, for the gains of each pattern of signs
ALL_GAIN_PASSES = 20  # where there is no polish
PATIENCE = 20  # starts around one network that do not improve it
MORE_MOVES = 5  # times as many agreeing starts where all are moves from one network
AGREEING = 6  # starts that end at the lowest loss and so end the search
FEW_AGREEING = 3  # where there are plenty of samples
HARDLY_MORE, ENOUGH, PLENTY = 1.25, 8, 40  # samples for each weight
NO_LOSS = 1e-13  # relative to the sum of squares: rounding of a constant's own loss
ZERO_LOSS = 1e-26  # relative to the loss of no model: residuals at rounding error
EXACT = 1e-10  # relative loss of a short polish that can only be the planted network
SAME_LOSS = 1e-3  # relative difference of two losses that are one minimum
SAME_TO_NOISE = 0.1  # of m / n, what noise makes of it where n is enough
FEWEST_STARTS, MOST_STARTS, MOST_MIXED, MOST_SHIFTED = 20, 1000, 3, 5
STARTS_AT_ONE = 8000  # with one sample per weight of a filter, were there no bound


def automatic_starts(n_samples, n_weights, n_filters=1, overlap=False):
    """Bound of the search: the more, the fewer samples for each weight of a filter.

    Hardly more samples than weights fit exactly in many ways, of which more starts
    would not find a better one. Where samples are few, several filters can be mixed up
    in more ways; where patches overlap and samples are many, each may be shifted.

    Parameters
    ----------
    n_samples : int
    n_weights : int
        Of one filter, but for those that are redundant.
    n_filters : int
    overlap : bool
    """
    per_weight = n_samples / n_weights
    if per_weight <= HARDLY_MORE:
        return FEWEST_STARTS
    fewest = FEWEST_STARTS
    if per_weight < ENOUGH * n_filters:
        fewest *= min(n_filters, MOST_MIXED)
    elif overlap:
        fewest *= min(n_filters, MOST_SHIFTED)
    starts = math.ceil(STARTS_AT_ONE / per_weight**3)
    return min(max(starts, fewest), MOST_STARTS)


def silent(line):
    """Report nothing."""


class Spec(NamedTuple):
    """What to learn of one output, and how long to look for it.

    ``blank`` is any network with the wanted kernel sizes, filters, activations and
    order; ``leave_one_out`` says that alpha is still to be chosen, or that it was;
    ``report`` takes a line of text on the progress. The others are parameters of
    DeepTDRegressor.
    """

    blank: PatchCNN
    objective: Objective
    leave_one_out: bool = False
    polish: bool = True
    max_iter: int = 500
    tol: float = 1e-6
    n_init: int = FEWEST_STARTS
    seed: int = 0
    report: Callable = silent
    n_sharing: int = 0  # outputs that share the hidden layers; 0: each has its own
    epsilon: float | None = None  # of Huber's loss, in scales; None: least squares

    def with_alpha_times(self, factor):
        alpha = self.objective.alpha * factor
        return self._replace(objective=self.objective._replace(alpha=alpha))


class Ground(NamedTuple):
    """The rows on which networks are compared, and the best constant on them."""

    spec: Spec
    rows: RowBlocks
    n_samples: int
    constant: Solution

    def share(self, loss):
        """Of the loss of the constant."""
        return loss / self.constant.loss

    @property
    def noise(self):
        """What noise makes of a loss, relative to it: m / n."""
        return n_parameters(self.spec.blank) / self.n_samples

    @property
    def same_loss(self):
        """Relative difference of two losses that says nothing."""
        tells = ENOUGH * self.noise <= 1
        return max(SAME_LOSS, SAME_TO_NOISE * self.noise * tells)

    @property
    def has_plenty(self):
        return PLENTY * self.noise <= 1

    @property
    def n_agreeing(self):
        return FEW_AGREEING if self.has_plenty else AGREEING

    def tensor(self, moment):
        """The moment as the patches hold it, its largest entry 1."""
        return _tensor_of(moment, self.spec.blank)

    def whitened(self, moment):
        return whitened_moment(self.rows, moment, WHITENING_STEPS)

    def starts(self, candidates, n_best=SIGNS_PER_CANDIDATE):
        """The best sign patterns of candidates, the smallest loss first."""
        spec = self.spec
        most = GAIN_PASSES if spec.polish else ALL_GAIN_PASSES
        calibrated = [
            start
            for candidate in candidates
            for start in calibrate(
                spec.blank._replace(kernels=tuple(candidate)),
                self.rows,
                spec.objective,
                n_best,
                min(most, spec.max_iter),
            )
        ]
        return sorted(calibrated, key=lambda start: start.loss)

    def polish(self, start, max_iter, tol, zero_loss, **options):
        """``start`` after more passes, ``max_iter`` with those it has had."""
        left = max(0, max_iter - start.n_iter)
        if left == 0 and start.equations is None:
            exact = self.share(start.loss) <= EXACT
            return start._replace(converged=exact, share=self.share(start.loss))
        polished = polish(
            start.network,
            self.rows,
            self.spec.objective,
            max_iter=left,
            tol=tol,
            zero_loss=zero_loss * self.constant.loss,
            damping=start.damping,
            equations=start.equations,
            **options,
        )
        return polished._replace(
            n_iter=start.n_iter + polished.n_iter, share=self.share(polished.loss)
        )

    def with_readout(self, start):
        """``start`` with the readout that is best for it, where alpha was chosen."""
        if not self.spec.leave_one_out:
            return start
        objective, tol = self.spec.objective, self.spec.tol
        return polish(start.network, self.rows, objective, max_iter=1, tol=tol)

    def polish_fully(self, start, **options):
        """Polish until it converges, in the passes that the start has left."""
        spec = self.spec
        best = self.polish(start, spec.max_iter, spec.tol, ZERO_LOSS, **options)
        spec.report(f"polish: {best.n_iter} passes, loss {best.share:.3g}")
        return best


@np.errstate(over="ignore", invalid="ignore")
def constant_network(rows, spec):
    """The best network whose scales are zero."""
    weight, total, square = add(rows.targets(lambda y, w: (np.sum(w), w @ y, w @ y**2)))
    mean = total / weight if spec.objective.fit_intercept else 0.0
    zeros = np.zeros(len(spec.blank.scales))
    network = spec.blank._replace(scales=zeros, intercept=mean)
    loss, square = np.sum(square - mean * total), np.sum(square)
    if not np.isfinite(loss):
        raise FloatingPointError("the sum of the squares of y overflows")
    return Solution(network, loss if loss > NO_LOSS * square else 0.0, 1, True)


def search(on, moment, first=None):
    """Look for the network that fits best, ``first`` before all others, and polish it.

    Parameters
    ----------
    on : Ground
    moment : array of shape (features,), or (outputs, features) where these share
        Not zero.
    first : PatchCNN or None

    Returns
    -------
    Solution
    """
    if on.constant.loss == 0:
        return on.constant
    spec, rng = on.spec, np.random.RandomState(on.spec.seed)
    tensor = on.tensor(moment)
    if spec.polish:
        return on.polish_fully(_best_start(on, moment, tensor, first, rng))
    best = on.with_readout(_first_start(on, tensor, rng))
    return best._replace(n_iter=1, converged=True, share=on.share(best.loss))


def _first_start(on, tensor, rng):
    spec = on.spec
    if supports_second_moment(spec.blank) and (spec.polish or spec.leave_one_out):
        start = start_of_both_moments(spec.blank, on.rows, rng)
        return Solution(start, np.nan, 0, False)
    batch = next(candidate_batches(tensor, len(spec.blank.scales), rng))
    return on.starts(batch)[0]


def penalty_of_start(on, moment, first=None):
    """The alpha that leave-one-out chooses for the readout of the first start.

    Parameters
    ----------
    on : Ground
    moment : array of shape (features,)
    first : PatchCNN or None
        None for that of the moment.

    Returns
    -------
    float
    """
    blank, rng = on.spec.blank, np.random.RandomState(on.spec.seed)
    fit_intercept = on.spec.objective.fit_intercept
    if blank.is_linear:  # all filters are one, and share its penalty
        return len(blank.scales) * loo_alpha(blank, on.rows, fit_intercept)
    if first is None:
        first = _first_start(on, on.tensor(moment), rng).network
    return loo_alpha(first, on.rows, fit_intercept)


def _tensor_of(moment, network):
    """The moment as the patches hold it, its largest entry 1."""
    sources = patch_sources(network)
    in_order = np.where(sources < 0, 0.0, moment[sources] / np.abs(moment).max())
    return moment_tensor(in_order, network.sizes)


def refine(on, network):
    """Polish a network that needs no search."""
    if on.constant.loss == 0:
        return on.constant
    start = Solution(network, np.inf, 0, False, damping=CLOSE_DAMPING)
    return on.polish_fully(start, trust_last_step=True)


def _best_start(on, moment, tensor, first, rng):
    """The start that a short polish brings lowest, after that polish.

    The search ends before ``n_init`` starts where a loss is zero to rounding, or where
    ``n_agreeing`` starts agree on the lowest one, as far as noise lets them.
    """
    spec, patches = on.spec, overlapping_patches(on.spec.blank)
    n_agreeing = on.n_agreeing * (MORE_MOVES if patches else 1)
    patience = PATIENCE * (2 if patches else 1)
    tol = FINE_TOL if on.has_plenty else SHORT_TOL
    starts = _first_starts(on, moment, tensor, first, rng)
    best = centre = around = None
    agreeing = in_vain = 0
    for number in range(1, spec.n_init + 1):
        start = next(starts, None)
        if start is None:
            if in_vain >= patience:
                centre, start = None, _perturbed(on, tensor, rng)
            else:
                start = next(around)
        budget = min(start.n_iter + SHORT_POLISH, spec.max_iter)
        result = on.polish(start, budget, tol, EXACT)
        spec.report(
            f"start {number}: loss {result.share:.3g} of that of a constant after "
            f"{result.n_iter} passes"
        )
        in_vain += 1
        if _is_lower(result, centre, SAME_LOSS):
            centre, in_vain = result, 0
            around = _around(on, centre.network, tensor, patches, rng)
        agreeing = 1 if _is_lower(result, best, on.same_loss) else agreeing
        agreeing += best is not None and _agrees(result, best, on.same_loss)
        best = result if best is None or result.loss < best.loss else best
        if agreeing >= n_agreeing or best.share <= EXACT:
            break
    return best


def _perturbed(on, tensor, rng, kernels=None):
    """The start of a perturbed candidate, some of whose layers have these kernels."""
    candidate = perturbed_candidate(tensor, len(on.spec.blank.scales), rng)
    if kernels is not None:
        candidate = exchange(kernels, candidate, rng)
    return on.starts([candidate], n_best=1)[0]


def _around(on, network, tensor, patches, rng):
    """Starts that have much of a network, without end."""
    if patches:
        for moved in moves(network, patches, rng):
            yield Solution(moved, np.nan, 0, False)
    else:
        while True:
            yield _perturbed(on, tensor, rng, network.kernels)


def _first_starts(on, moment, tensor, first, rng):
    """``first``, then those of the moment and of the whitened moment."""
    if first is not None:
        yield Solution(first, np.nan, 0, False)
    if supports_second_moment(on.spec.blank):
        yield _first_start(on, tensor, rng)
    n_filters = len(on.spec.blank.scales)
    of_moment = candidate_batches(tensor, n_filters, rng)
    yield from on.starts(next(of_moment))
    whitened = on.tensor(on.whitened(moment))
    of_whitened = candidate_batches(whitened, n_filters, rng)
    yield from on.starts(next(of_whitened))
    for batch in itertools.chain(of_moment, of_whitened):
        yield from on.starts(batch)


def _is_lower(result, other, same):
    return other is None or result.loss < other.loss * (1 - same)


def _agrees(result, best, same):
    return best.loss * (1 - same) <= result.loss <= best.loss * (1 + same)


def moves(network, patches, rng):
    """Networks with another kernel of one filter in a layer whose patches overlap.

    First what a neighbouring patch sees of each, the closest neighbours first, since
    shifted kernels are local minima; then kernels that are drawn.
    """
    for layer, r, (here, there) in _shifts(network, patches, rng):
        shifted = np.zeros(network.sizes[layer])
        shifted[there] = network.kernels[layer][r, here]
        yield _with_kernel(network, layer, r, shifted)
    while True:
        layer = list(patches)[rng.randint(len(patches))]
        r, d = rng.randint(len(network.scales)), network.sizes[layer]
        yield _with_kernel(network, layer, r, rng.standard_normal(d))


def _shifts(network, patches, rng):
    """A layer, a filter, and which weights move where; many that stay come first."""
    shifts = [
        (layer, r, shift)
        for layer, table in patches.items()
        for shift in neighbours(table)
        for r in range(len(network.scales))
    ]
    rng.shuffle(shifts)
    return sorted(shifts, key=lambda move: -len(move[2][0]) / network.sizes[move[0]])


def neighbours(table):
    """Positions of the values that two patches share, at least half, in both of them.

    Each pair of positions once: patches lie alike everywhere.
    """
    found = {}
    here = table[len(table) // 2]
    here = np.where(here < 0, -2, here)  # zeros of the padding are no shared values
    for there in table:
        _, *shared = np.intersect1d(here, there, return_indices=True)
        if len(here) > len(shared[0]) >= len(here) / 2:
            found[tuple(shared[0]), tuple(shared[1])] = shared
    return list(found.values())


def _with_kernel(network, layer, r, kernel):
    """Of the norm of the one it replaces."""
    kernels = [k.copy() for k in network.kernels]
    size = np.linalg.norm(kernels[layer][r])
    kernels[layer][r] = kernel * size / (np.linalg.norm(kernel) or 1.0)
    return network._replace(kernels=tuple(kernels))


def exchange(kernels, others, rng):
    """By chance each layer from the one or the others, one at least from the others."""
    stay = rng.uniform(size=len(kernels)) < 0.5
    stay[rng.randint(len(kernels))] = False
    return [
        k if stays else new for k, new, stays in zip(kernels, others, stay, strict=True)
    ]
