"""The network from the moment and one set of rows: a search over starts.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
S           ``moment``          (outputs, features), the cross-moment
T           ``tensor``          (d_1, ..., d_D-1, P Q): S as the patches hold it,
                                with an axis per layer; the last axis holds the
                                heads of all outputs
v_1 .. v_D  ``candidate``       per layer (filters, d_l): factors of T
n           ``n_samples``       of the rows, as repeated rows would count
m           ``n_weights``       of an output, with its part of those that are shared
==========  ==================  ==================================================

An iterated local search (Lourenco, Martin and Stuetzle 2003). The spectral candidates
of T come first, then those of the whitened moment, each with the signs that fit best
and a short polish. If they do not agree, perturbed starts follow: about half of the
layers of the best start so far get the kernels of another candidate, from T with noise
of its own size. If patches overlap, one kernel is shifted or drawn instead. After
``patience_starts`` without a lower loss the search restarts from such kernels only.
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from skdeeptd._data.moments import whitened_moment
from skdeeptd._data.rows import RowBlocks, add
from skdeeptd._init.moment_directions import (
    start_of_both_moments,
    supports_second_moment,
)
from skdeeptd._init.signs import signed_starts
from skdeeptd._init.tensor_decomposition import (
    candidate_batches,
    moment_tensor,
    perturbed_candidate,
)
from skdeeptd._loss import SquaredError
from skdeeptd._network.network import Network, overlapping_patches, patch_sources
from skdeeptd._solvers.gauss_newton import Solution, gauss_newton
from skdeeptd._solvers.leave_one_out import loo_alpha

EXACT = 1e-10  # share of the constant's loss that only the true network reaches


def null_report(line):
    """Report nothing."""


class Spec(NamedTuple):
    """The network to learn, and how long to search for it.

    ``blank`` is a network of one output with zeros for weights; ``leave_one_out`` says
    that alpha is still to be chosen, or was chosen by leave-one-out; ``report`` takes a
    line of text on the progress. ``n_sharing`` counts the outputs that share the hidden
    layers, 0 if each output has its own. ``loss`` is an object of ``_loss``, and
    ``epsilon`` the threshold of Huber's loss in scales of the residuals. ``n_copies``
    counts the filters that share the weights of a single linear layer. The others are
    parameters of DeepTDRegressor.
    """

    blank: Network
    alpha: float = 0.0
    fit_intercept: bool = True
    leave_one_out: bool = False
    polish: bool = True
    max_iter: int = 500
    tol: float = 1e-6
    n_init: int = 20
    seed: int = 0
    report: Callable = null_report
    n_sharing: int = 0
    loss: SquaredError = SquaredError()
    epsilon: float | None = None
    n_copies: int = 1

    @property
    def n_weights(self):
        """Weights of an output, with its part of those that are shared."""
        shared = self.blank.n_filters * self.blank.n_hidden_weights
        return self.blank.n_weights - shared + shared / max(self.n_sharing, 1)


def automatic_starts(
    n_samples,
    n_weights,
    n_filters=1,
    overlap=False,
    *,
    fewest=20,
    most=1000,
    starts_at_one_per_weight=8000,
):
    """Return the bound of the search: more starts for fewer samples per weight.

    With hardly more samples than weights many networks fit exactly, and more starts
    would not find a better one. Several filters can be mixed up in more ways if samples
    are few, and if patches overlap each filter may be shifted.

    Parameters
    ----------
    n_samples : int
    n_weights : float
        Weights of one filter, without redundant ones.
    n_filters : int
    overlap : bool
    fewest, most : int
    starts_at_one_per_weight : int
        The number falls from this one with the third power of samples per weight.

    Returns
    -------
    int
    """
    per_weight = n_samples / n_weights
    if per_weight <= 1.25:
        return fewest
    if per_weight < 8 * n_filters:
        fewest *= min(n_filters, 3)
    elif overlap:
        fewest *= min(n_filters, 5)
    return min(max(math.ceil(starts_at_one_per_weight / per_weight**3), fewest), most)


class Evaluator(NamedTuple):
    """The rows on which networks are compared, and the loss of the best constant."""

    spec: Spec
    rows: RowBlocks
    n_samples: int
    constant: Solution

    def starts(self, candidates, n_best=4):
        """Return the best sign patterns of candidates, the smallest loss first."""
        spec = self.spec
        passes = min(10 if spec.polish else 20, spec.max_iter)
        found = [
            start
            for candidate in candidates
            for start in signed_starts(
                self.constant.network,
                candidate,
                self.rows,
                alpha=spec.alpha,
                fit_intercept=spec.fit_intercept,
                n_best=n_best,
                norm_passes=passes,
            )
        ]
        return sorted(found, key=lambda start: start.loss)

    def polish(self, start, max_iter, tol, zero_share=1e-26, **options):
        """Return ``start`` after more passes, ``max_iter`` with those it has had."""
        left = max(0, max_iter - start.n_iter)
        share = start.loss / self.constant.loss
        if left == 0 and start.equations is None:
            return start._replace(converged=share <= EXACT, share=share)
        found = gauss_newton(
            start.network,
            self.rows,
            SquaredError(),
            alpha=self.spec.alpha,
            fit_intercept=self.spec.fit_intercept,
            max_iter=left,
            tol=tol,
            zero_loss=zero_share * self.constant.loss,
            damping=start.damping,
            equations=start.equations,
            **options,
        )
        share = found.loss / self.constant.loss
        return found._replace(n_iter=start.n_iter + found.n_iter, share=share)

    def polish_fully(self, start, **options):
        """Polish until convergence, in the passes that the start has left."""
        best = self.polish(start, self.spec.max_iter, self.spec.tol, **options)
        self.spec.report(f"final: {best.n_iter} passes, loss {best.share:.3g}")
        return best

    def tensor(self, moment):
        """Return T, its largest entry 1."""
        network = self.constant.network
        sources, size = patch_sources(network), np.abs(moment).max()
        in_order = np.where(sources < 0, 0.0, moment[:, sources] / size)
        each = [moment_tensor(m, network.sizes) for m in in_order]
        joined = np.stack(each, axis=-1)
        return np.ascontiguousarray(joined.reshape(*joined.shape[:-2], -1))


def make_evaluator(spec, rows, n_samples):
    """Return the ``Evaluator`` of squared errors on rows with targets (rows, Q)."""
    return Evaluator(spec, rows, n_samples, constant_network(rows, spec))


@np.errstate(over="ignore", invalid="ignore")
def constant_network(rows, spec):
    """Return the best constants, as a network whose heads are zero."""
    total, sums, squares = add(
        rows.targets(lambda y, w: (np.sum(w), w @ y, np.sum(w @ y**2)))
    )
    mean = sums / total * float(spec.fit_intercept)
    loss = squares - mean @ sums
    if not np.isfinite(loss):
        raise FloatingPointError("the sum of the squares of y overflows")
    heads = np.zeros((len(mean), *spec.blank.heads.shape[1:]))
    slopes = np.zeros((len(mean), spec.blank.n_covariates))
    network = spec.blank._replace(heads=heads, intercept=mean, slopes=slopes)
    rounding = 1e-13 * squares
    return Solution(network, loss if loss > rounding else 0.0, 1, True)


def search(evaluator, moment, first=None):
    """Search for the network that fits best, and polish it.

    Parameters
    ----------
    evaluator : Evaluator
    moment : array of shape (outputs, features)
        Not zero.
    first : Network or None
        A start before all others.

    Returns
    -------
    Solution
    """
    if evaluator.constant.loss == 0:
        return evaluator.constant
    spec, rng = evaluator.spec, np.random.RandomState(evaluator.spec.seed)
    tensor = evaluator.tensor(moment)
    if spec.polish:
        best = _best_start(evaluator, moment, tensor, first, rng)
        return evaluator.polish_fully(best)
    best = _first_start(evaluator, tensor, rng)
    if spec.leave_one_out or len(moment) > 1:
        best = evaluator.polish(best._replace(n_iter=0), 1, spec.tol, move="heads")
    share = best.loss / evaluator.constant.loss
    return best._replace(n_iter=1, converged=True, share=share)


def refine(evaluator, network, first_damping=1e-4):
    """Polish a network that needs no search."""
    if evaluator.constant.loss == 0:
        return evaluator.constant
    start = Solution(network, np.inf, damping=first_damping)
    return evaluator.polish_fully(start, trust_last_step=True)


def penalty_of_start(evaluator, moment, first=None):
    """Return the alpha that leave-one-out chooses for the heads of the first start."""
    spec, rng = evaluator.spec, np.random.RandomState(evaluator.spec.seed)
    if not spec.blank.kernels:
        first = spec.blank
    elif first is None:
        first = _first_start(evaluator, evaluator.tensor(moment), rng).network
    return loo_alpha(first, evaluator.rows, spec.fit_intercept)


def _first_start(evaluator, tensor, rng):
    blank, spec = evaluator.constant.network, evaluator.spec
    if supports_second_moment(blank) and (spec.polish or spec.leave_one_out):
        return Solution(start_of_both_moments(blank, evaluator.rows, rng), np.nan)
    return evaluator.starts(next(candidate_batches(tensor, blank.n_filters, rng)))[0]


def _best_start(
    evaluator,
    moment,
    tensor,
    first,
    rng,
    *,
    short_passes=12,
    most_agreeing=6,
    patience_starts=20,
):
    """Return the start with the lowest loss after a short polish.

    The search ends before ``n_init`` starts if a loss is zero to rounding, or if
    several starts agree on the lowest loss. They agree to a thousandth, or to a tenth
    of m / n, the part of a loss that noise fits. With 40 samples per weight, whose
    losses agree better, fewer starts with a smaller tolerance are enough.
    """
    spec, blank = evaluator.spec, evaluator.constant.network
    noise_share = spec.n_weights / evaluator.n_samples
    same_loss = max(1e-3, 0.1 * noise_share * (8 * noise_share <= 1))
    has_plenty = 40 * noise_share <= 1
    n_agreeing, tol = (
        (most_agreeing // 2, 3e-3) if has_plenty else (most_agreeing, 1e-2)
    )
    patches = overlapping_patches(blank)
    if patches:  # all starts then perturb one network
        n_agreeing, patience_starts = 5 * n_agreeing, 2 * patience_starts
    starts = _first_starts(evaluator, moment, tensor, first, rng)
    best = centre = around = None
    agreeing = n_without_gain = 0
    for number in range(1, spec.n_init + 1):
        start = next(starts, None)
        if start is None and n_without_gain >= patience_starts:
            centre, start = None, _perturbed_start(evaluator, tensor, rng)
        elif start is None:
            start = next(around)
        budget = min(start.n_iter + short_passes, spec.max_iter)
        result = evaluator.polish(start, budget, tol, EXACT)
        spec.report(
            f"start {number}: loss {result.share:.3g} of that of a constant after "
            f"{result.n_iter} passes"
        )
        n_without_gain += 1
        if centre is None or result.loss < centre.loss * (1 - 1e-3):
            centre, n_without_gain = result, 0
            around = _perturbed_starts(evaluator, centre.network, tensor, patches, rng)
        if best is None or result.loss < best.loss * (1 - same_loss):
            agreeing = 1
        elif result.loss <= best.loss * (1 + same_loss):
            agreeing += 1
        best = result if best is None or result.loss < best.loss else best
        if agreeing >= n_agreeing or best.share <= EXACT:
            break
    return best


def _perturbed_start(evaluator, tensor, rng, kernels=None):
    """Return the start of a perturbed candidate, with some layers of ``kernels``."""
    candidate = perturbed_candidate(tensor, evaluator.constant.network.n_filters, rng)
    if kernels is not None:
        candidate = crossover(kernels, candidate, rng)
    return evaluator.starts([candidate], n_best=1)[0]


def _perturbed_starts(evaluator, network, tensor, patches, rng):
    """Yield starts that have much of a network, without end."""
    if patches:
        for moved in shift_moves(network, patches, rng):
            yield Solution(moved, np.nan)
    kernels = network.kernels
    if len(network.heads) == 1:
        kernels = (*kernels, network.heads[0])
    while True:
        yield _perturbed_start(evaluator, tensor, rng, kernels)


def _first_starts(evaluator, moment, tensor, first, rng):
    """Yield ``first``, then the starts of the moment and of the whitened moment."""
    if first is not None:
        yield Solution(first, np.nan)
    blank, rows = evaluator.constant.network, evaluator.rows
    if supports_second_moment(blank):
        yield _first_start(evaluator, tensor, rng)
    of_moment = candidate_batches(tensor, blank.n_filters, rng)
    yield from evaluator.starts(next(of_moment))
    whitened = np.array([whitened_moment(rows, m, n_steps=10) for m in moment])
    of_whitened = candidate_batches(evaluator.tensor(whitened), blank.n_filters, rng)
    yield from evaluator.starts(next(of_whitened))
    for batch in itertools.chain(of_moment, of_whitened):
        yield from evaluator.starts(batch)


def shift_moves(network, patches, rng):
    """Yield networks with another kernel in a layer of overlapping patches.

    First the part of each kernel that a neighbouring patch sees, the closest neighbours
    first, since shifted kernels are local minima; then kernels that are drawn.
    """
    shifts = [
        (layer, r, shift)
        for layer, table in patches.items()
        for shift in neighbours(table)
        for r in range(network.n_filters)
    ]
    rng.shuffle(shifts)
    shifts.sort(key=lambda move: -len(move[2][0]) / network.sizes[move[0]])
    layers = [*(k[np.newaxis] for k in network.kernels), network.heads]
    for layer, r, (here, there) in shifts:
        kernel = layers[layer][:, r]
        moved = np.zeros_like(kernel)
        moved[:, there] = kernel[:, here]
        yield _with_kernel(network, layers, layer, r, moved)
    while True:
        layer = list(patches)[rng.randint(len(patches))]
        r, d = rng.randint(network.n_filters), network.sizes[layer]
        yield _with_kernel(network, layers, layer, r, rng.standard_normal(d))


def neighbours(table):
    """Return positions of the values that two patches share, at least half, in both.

    Each pair of positions comes once: patches lie alike everywhere.
    """
    found = {}
    here = table[len(table) // 2]
    here = np.where(here < 0, -2, here)  # zeros beyond the end are not shared
    for there in table:
        _, *shared = np.intersect1d(here, there, return_indices=True)
        if len(here) > len(shared[0]) >= len(here) / 2:
            found[tuple(shared[0]), tuple(shared[1])] = shared
    return list(found.values())


def _with_kernel(network, layers, layer, r, kernel):
    """Return the network with another kernel, of the norm of the one it replaces.

    ``layers`` holds the kernels of each layer, (1 or Q, filters, d).
    """
    kernels = layers[layer].copy()
    size = np.linalg.norm(kernels[:, r])
    kernels[:, r] = kernel
    kernels[:, r] *= size / (np.linalg.norm(kernels[:, r]) or 1.0)
    layers = [*layers[:layer], kernels, *layers[layer + 1 :]]
    hidden = tuple(k[0] for k in layers[:-1])
    return network._replace(kernels=hidden, heads=layers[-1])


def crossover(kernels, others, rng):
    """Take each layer from the one or the others, at least one from the others."""
    stay = rng.uniform(size=len(others)) < 0.5
    stay[rng.randint(len(kernels))] = False
    stay[len(kernels) :] = False
    return [
        kernels[i] if stays else new
        for i, (stays, new) in enumerate(zip(stay, others, strict=True))
    ]
