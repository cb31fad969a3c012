"""Where networks of outputs that share hidden layers are compared.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
Q, R, P     sizes               outputs, filters, entries of a last kernel
S           ``moment``          (outputs, features)
T           tensor              (d_1, ..., d_D-1, P Q): S as the patches hold it; the
                                last kernels of all outputs are its last factor
F           ``features``        (rows, filters * patterns * entries)
s           ``patterns``        (patterns, layers), entries +1 and -1
==========  ==================  ==================================================

The search is the one for a single output. What it looks for is a trunk, since the
readout of each output follows from it; of a tensor's factors the last one is dropped.
"""

import itertools

import numpy as np

from skdeeptd._data.moments import whitened_moment
from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._model.network import patch_sources
from skdeeptd._model.parameters import n_parameters
from skdeeptd._model.trunk import trunk_forward, trunk_weights, trunk_width, unit_trunk
from skdeeptd._solver.calibration import unit_gains
from skdeeptd._solver.decomposition import moment_tensor
from skdeeptd._solver.linalg import diagonal_scale, solve
from skdeeptd._solver.polish import Solution
from skdeeptd._solver.search import (
    SIGNS_PER_CANDIDATE,
    WHITENING_STEPS,
    Ground,
    constant_network,
)
from skdeeptd._solver.shared import best_readout, polish_together

MOST_FEATURES = 600  # of all patterns; beyond, signs are drawn
SIGN_ROUNDS = 5  # of trying every filter's patterns in turn


def ground_of(spec, rows, n_samples):
    """Where networks are compared: of one output, or of several that share."""
    kind = SharedGround if spec.n_sharing else Ground
    return kind(spec, rows, n_samples, constant_network(rows, spec))


class SharedGround(Ground):
    """A ``Solution`` holds a trunk, its equations the readouts."""

    __slots__ = ()

    @property
    def noise(self):
        return weights_per_output(self.spec) / self.n_samples

    def tensor(self, moment):
        blank = self.spec.blank
        sources, size = patch_sources(blank), np.abs(moment).max()
        each = [
            moment_tensor(np.where(sources < 0, 0.0, m[sources] / size), blank.sizes)
            for m in moment
        ]
        stacked = np.stack(each, axis=-1)
        return stacked.reshape(*stacked.shape[:-2], -1)

    def whitened(self, moment):
        each = [whitened_moment(self.rows, m, WHITENING_STEPS) for m in moment]
        return np.array(each)

    def starts(self, candidates, n_best=SIGNS_PER_CANDIDATE):
        found = [
            start
            for candidate in candidates
            for start in _signed(self, candidate, n_best)
        ]
        return sorted(found, key=lambda start: start.loss)

    def polish(self, start, max_iter, tol, zero_loss, **options):
        options.pop("trust_last_step", None)
        polished = polish_together(
            start.network,
            self.rows,
            self.spec.objective,
            max_iter=max(1, max_iter - start.n_iter),
            tol=tol,
            zero_loss=zero_loss * self.constant.loss,
            damping=start.damping,
            **options,
        )
        n_iter = start.n_iter + polished.n_iter
        return polished._replace(n_iter=n_iter, share=self.share(polished.loss))

    def with_readout(self, start):
        return self.polish(start, 1, self.spec.tol, 0.0)


def weights_per_output(spec):
    """How many weights an output has, with its part of those that are shared."""
    blank, n_filters = spec.blank, len(spec.blank.scales)
    shared = n_filters * trunk_weights(blank)
    if not spec.n_sharing:
        return n_parameters(blank)
    return shared / spec.n_sharing + n_filters * blank.sizes[-1] + 1


def _signed(on, candidate, n_best):
    """The trunk of a candidate with the signs that fit best, best first."""
    blank = on.spec.blank
    trunk = blank._replace(kernels=(*map(np.array, candidate[:-1]), blank.kernels[-1]))
    if trunk.is_homogeneous:
        trunk, _ = unit_trunk(trunk)
    else:
        trunk = unit_gains(trunk, on.rows)
    free = [
        i for i, name in enumerate(blank.activations[:-1]) if not ACTIVATIONS[name].odd
    ]
    flips = itertools.product((1.0, -1.0), repeat=len(free))
    patterns = np.ones((2 ** len(free), len(blank.sizes)))
    patterns[:, free] = list(flips)
    n_filters, n_entries = blank.kernels[-1].shape
    chosen = np.zeros((1, n_filters), dtype=int)
    if len(patterns) == 1:
        pass
    elif len(patterns) * n_filters * n_entries <= MOST_FEATURES:
        chosen = _best_signs(on, trunk, patterns, n_best)
    else:
        rng = np.random.RandomState(on.spec.seed)
        chosen = rng.randint(len(patterns), size=(n_best, n_filters))
    starts = []
    for combination in chosen:
        signed = _with_signs(trunk, patterns[combination])
        loss = best_readout(signed, on.rows, on.spec.objective).loss
        if np.isfinite(loss):
            starts.append(Solution(signed, loss, 0, False))
    if not starts:
        raise FloatingPointError("the squares of what the last layer takes overflow")
    return starts


def _with_signs(trunk, signs):
    """The trunk with kernels times the signs (filters, layers)."""
    *hidden, last = trunk.kernels
    signed = [k * signs[:, layer, np.newaxis] for layer, k in enumerate(hidden)]
    return trunk._replace(kernels=(*signed, last))


def _best_signs(on, trunk, patterns, n_best):
    """Combinations of a pattern per filter, (combinations, filters), best first.

    One pass gives the Gram matrix of F of all patterns; the combinations are then
    least squares problems, in which each filter in turn takes its best pattern.
    """
    n_filters, n_entries = trunk.kernels[-1].shape
    fit_intercept = float(on.spec.objective.fit_intercept)
    signed = [_with_signs(trunk, np.tile(p, (n_filters, 1))) for p in patterns]

    def features_of(X):
        dtype = on.rows.precision
        parts = [trunk_forward(s.astype(dtype), X)[1].copy() for s in signed]
        return np.concatenate(parts, axis=1)

    first = features_of(on.rows.pilot()[0].astype(on.rows.precision))[0] * fit_intercept

    def statistic(X, y, weight):
        features = features_of(X) - first
        weighted = features * weight[:, np.newaxis]
        return (
            weighted.T @ features,
            weighted.T @ y,
            weighted.sum(axis=0),
            weight @ y,
            np.sum(weight),
        )

    width = len(patterns) * trunk_width(trunk, 1)
    gram, with_y, total, of_y, weight = on.rows.reduce(statistic, width)
    if fit_intercept:
        gram = gram - np.outer(total, total / weight)
        with_y = with_y - np.outer(total, of_y / weight)
    if not np.all(np.isfinite(gram)):
        raise FloatingPointError("the squares of what the last layer takes overflow")
    columns = np.arange(len(gram)).reshape(len(patterns), n_filters, n_entries)
    seen = {}

    def gain(combination):
        """How far the losses fall below those of constants."""
        key = tuple(combination)
        if key not in seen:
            ours = columns[combination, np.arange(n_filters)].ravel()
            square = gram[np.ix_(ours, ours)]
            square = square + on.spec.objective.alpha * np.eye(len(ours))
            scale = diagonal_scale(square)
            scaled = square / scale[:, np.newaxis] / scale
            target = with_y[ours] / scale[:, np.newaxis]
            found = solve(np.tile(scaled, (target.shape[1], 1, 1)), target.T)
            seen[key] = np.sum(found * target.T)
        return seen[key]

    chosen = np.zeros(n_filters, dtype=int)
    for _ in range(SIGN_ROUNDS):
        before = chosen.copy()
        for r in range(n_filters):
            options = np.tile(chosen, (len(patterns), 1))
            options[:, r] = np.arange(len(patterns))
            chosen = options[np.argmax([gain(option) for option in options])]
        if np.array_equal(chosen, before):
            break
    ranked = sorted(seen, key=lambda key: -seen[key])
    return np.array(ranked[:n_best])
