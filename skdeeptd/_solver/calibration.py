"""Signs, gains, scales and intercept for given kernel directions.

==========  ======================  =============================================
symbol      array                   axes
==========  ======================  =============================================
v_l         ``network.kernels[l]``  (filters, d_l): k_l up to its sign and its norm
s           ``patterns``            (patterns, layers), entries +1 and -1
F           ``outputs``             (filters * patterns, rows), unscaled
C           ``covariance``          (filters * patterns,) squared: FWF', centred
b           ``with_target``         (filters * patterns,): FWy, centred
==========  ======================  =============================================

A rank-1 tensor fixes only the product of the signs of its factors, but an activation
that is not odd tells k from -k. One pass gives C and b for all sign patterns of all
filters; the best combination and its scales are then small least squares problems.
"""

import itertools
from typing import NamedTuple

import numpy as np

from skdeeptd._data.scratch import empty
from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._model.network import (
    first_layer,
    layers_forward,
    next_layer,
    patch_order,
)
from skdeeptd._solver.directions import gains
from skdeeptd._solver.linalg import diagonal_scale, solve
from skdeeptd._solver.polish import Solution, polish

MOST_PATTERNS = 512  # of all filters; beyond, signs are searched flip by flip
CONSTANT = 1e-13  # share of its mean below which a deviation is rounding error
SIGN_ROUNDS = 20  # of trying every filter's patterns in turn
GAIN_TOLERANCE = 1e-6
LARGEST_RIDGE = 1e300  # beside which a sum of squares is nothing


class _Sums(NamedTuple):
    covariance: np.ndarray
    with_target: np.ndarray
    mean: np.ndarray
    target_mean: float
    target_loss: float


class _Combination(NamedTuple):
    loss: float
    columns: tuple
    scales: np.ndarray


def calibrate(network, rows, objective, n_best=1, gain_passes=20):
    """Networks with these kernel directions and the signs that fit best, best first.

    Parameters
    ----------
    network : PatchCNN
        Its kernels count up to sign and norm, its scales and intercept not at all.
    rows : RowBlocks
    objective : Objective
    n_best : int
        How many different sign patterns to return, at most.
    gain_passes : int
        Passes over the rows, at most, for the gains of each of them, where the
        activations have any.

    Returns
    -------
    list of Solution
        ``n_iter`` counts the passes that the gains of that one took.
    """
    if network.is_homogeneous:
        return _search_signs(network, rows, objective, n_best)
    network = unit_gains(network, rows)
    signed = _search_signs(network, rows, objective, n_best)
    if gain_passes == 0:
        return signed
    polished = [
        polish(
            start.network,
            rows,
            objective,
            directions=gains,
            max_iter=gain_passes,
            tol=GAIN_TOLERANCE,
        )
        for start in signed
    ]
    starts = [Solution(*found[:4]) for found in polished]  # no equations of gains
    return sorted(starts, key=lambda start: start.loss)


def unit_gains(network, rows):
    """Pre-activations of mean square 1 where the layer is not homogeneous."""
    for layer, name in enumerate(network.activations):
        if ACTIVATIONS[name].homogeneous:
            continue
        square = mean_square(network, rows, layer)
        gain = 1 / np.sqrt(np.where(square > 0, square, 1))
        kernels = list(network.kernels)
        kernels[layer] = kernels[layer] * gain[:, np.newaxis]
        network = network._replace(kernels=tuple(kernels))
    return network


def mean_square(network, rows, layer):
    """Of the pre-activations of a layer, shape (filters,)."""
    below = network._replace(
        kernels=network.kernels[: layer + 1],
        activations=network.activations[: layer + 1],
        orders=network.orders[: layer + 1],
        biases=(),
    )

    def statistic(X, _, weight):
        z = layers_forward(below, patch_order(network, X))[-1].z
        return np.mean(z**2, axis=2) @ weight, np.sum(weight)

    total, weight = rows.reduce(statistic)
    return total / weight


def _search_signs(network, rows, objective, n_best):
    """All patterns where they are few, else single flips until none helps."""
    n_filters = len(network.scales)
    free = [
        i for i, name in enumerate(network.activations) if not ACTIVATIONS[name].odd
    ]
    exhaustive = n_filters * 2 ** len(free) <= MOST_PATTERNS
    flips = _all_flips(free) if exhaustive else [(), *((layer,) for layer in free)]
    patterns = np.ones((len(flips), len(network.activations)))
    for pattern, layers in zip(patterns, flips, strict=True):
        pattern[list(layers)] = -1
    best_loss = np.inf
    while True:
        sums = _pattern_sums(network, rows, patterns, objective.fit_intercept)
        ranked = _rank_combinations(sums, n_filters, objective.alpha, network)
        signed = [
            _signed_network(network, patterns, combination, sums, objective)
            for combination in ranked[:n_best]
        ]
        if exhaustive or signed[0].loss >= best_loss:
            return signed
        best_loss, network = signed[0].loss, signed[0].network


def _all_flips(layers):
    return [
        flips
        for count in range(len(layers) + 1)
        for flips in itertools.combinations(layers, count)
    ]


def pattern_outputs(network, X, patterns):
    """Output of each filter for each sign pattern, (filters, patterns, rows).

    Patterns that begin alike share the forward pass of the layers where they do.
    """
    n_filters, n_layers = len(network.scales), len(network.kernels)
    outputs = np.empty((n_filters, len(patterns), len(X)))

    def descend(h, layer, columns):
        if layer == n_layers:
            outputs[:, columns] = h.transpose(0, 2, 1)
            return
        k, activation = network.kernels[layer], ACTIVATIONS[network.activations[layer]]
        if layer == 0:
            _, z = first_layer(k, h)
        else:
            _, z = next_layer(k, h, network.order(layer), layer + 1)

        def like_z(name):
            return empty(f"{name}{layer + 1}", z.shape, z.dtype)

        for sign in (1.0, -1.0):
            chosen = columns[patterns[columns, layer] == sign]
            if len(chosen):
                signed = np.multiply(z, z.dtype.type(sign), out=like_z("signed"))
                descend(activation.value(signed, like_z("h")), layer + 1, chosen)

    descend(patch_order(network, X), 0, np.arange(len(patterns)))
    return outputs


def _pattern_sums(network, rows, patterns, fit_intercept):
    """C and b; with an intercept from deviations from the outputs of the first row."""
    n_outputs = len(network.scales) * len(patterns)
    with np.errstate(over="ignore", invalid="ignore"):
        pilot = pattern_outputs(network, rows.pilot()[0], patterns)
    shift = pilot.reshape(n_outputs, 1) * fit_intercept

    def statistic(X, y, weight):
        outputs = pattern_outputs(network, X, patterns).reshape(n_outputs, -1)
        outputs -= shift
        weighted = outputs * weight
        return (
            weighted @ outputs.T,
            weighted @ y,
            weighted.sum(axis=1),
            np.sum(weight),
            weight @ y,
            weight @ y**2,
        )

    sums = rows.reduce(statistic, width=2 * n_outputs)
    covariance, with_target, total, weight, target, target_loss = sums
    if not np.all(np.isfinite(covariance)):
        raise FloatingPointError("the squares of the network's outputs overflow")
    mean, target_mean = total / weight + shift[:, 0], target / weight
    if fit_intercept:
        covariance = covariance - np.outer(total, total / weight)
        with_target = with_target - total * target_mean
        target_loss = target_loss - target * target_mean
    constant = covariance.diagonal() <= weight * (CONSTANT * mean) ** 2
    covariance[constant], covariance[:, constant] = 0, 0
    with_target = np.where(constant, 0, with_target)
    return _Sums(covariance, with_target, mean, target_mean, target_loss)


def _rank_combinations(sums, n_filters, alpha, network):
    """Combinations of a column per filter by their loss, found filter by filter."""
    n_patterns = len(sums.mean) // n_filters
    with np.errstate(over="ignore"):
        norms = np.prod([np.sum(k**2, axis=1) for k in network.kernels], axis=0)
        ridge = np.minimum(alpha * norms, LARGEST_RIDGE)
    seen = {}

    def try_all(chosen, r):
        """Columns with the one of filter r replaced by the best of its patterns."""
        options = np.tile(chosen, (n_patterns, 1))
        options[:, r] = r * n_patterns + np.arange(n_patterns)
        losses, scales = _least_squares(sums, options, ridge[: len(chosen)])
        if len(chosen) == n_filters:
            for columns, loss, scale in zip(options, losses, scales, strict=True):
                seen[tuple(columns)] = _Combination(loss, tuple(columns), scale)
        return options[np.argmin(losses)]

    chosen = np.empty(0, dtype=int)
    for r in range(n_filters):
        chosen = try_all(np.append(chosen, 0), r)
    for _ in range(SIGN_ROUNDS if min(n_filters, n_patterns) > 1 else 0):
        previous = chosen
        for r in range(n_filters):
            chosen = try_all(chosen, r)
        if np.array_equal(chosen, previous):
            break
    return sorted(seen.values(), key=lambda combination: combination.loss)


def _least_squares(sums, options, ridge):
    """Loss and scales of each row of ``options``, the columns of one combination."""
    square = sums.covariance[options[:, :, np.newaxis], options[:, np.newaxis, :]]
    square = square + np.diag(ridge)
    with_target = sums.with_target[options]
    norm = diagonal_scale(square)
    square = square / norm[:, :, np.newaxis] / norm[:, np.newaxis, :]
    scales = solve(square, with_target / norm) / norm
    return sums.target_loss - np.sum(scales * with_target, axis=1), scales


def _signed_network(network, patterns, combination, sums, objective):
    columns = np.array(combination.columns)
    signs = patterns[columns % len(patterns)]
    intercept = sums.target_mean - combination.scales @ sums.mean[columns]
    signed = network._replace(
        kernels=tuple(
            k * s[:, np.newaxis] for k, s in zip(network.kernels, signs.T, strict=True)
        ),
        scales=combination.scales,
        intercept=intercept if objective.fit_intercept else 0.0,
    )
    return Solution(signed, combination.loss, 0, False)
