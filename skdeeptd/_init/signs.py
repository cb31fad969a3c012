"""Signs, gains and heads for given directions of the kernels.

==========  ======================  =============================================
symbol      array                   axes
==========  ======================  =============================================
v_l         ``network.kernels[l]``  (filters, d_l): k_l up to its sign and its norm
v_D         ``last``                (filters, P): the same of the heads of one output
s           ``patterns``            (patterns, layers), entries +1 and -1
E           ``n_entries``           1 if v_D is given, else P
F           ``columns``             (rows, filters * patterns * E): for each filter
                                    and pattern its last patch, or v_D times it
==========  ======================  =============================================

A rank-1 tensor fixes only the product of the signs of its factors, but an activation
that is not odd distinguishes k from -k. One pass gives the Gram matrix of F for all
sign patterns of all filters. The best combination of a pattern for each filter, and the
heads, are then small least squares problems. One output keeps the direction of its last
kernel; several outputs, whose factor mixes them, fit all entries of the heads.
"""

import functools
import itertools

import numpy as np

from skdeeptd._data.moments import centred_sums
from skdeeptd._data.scratch import empty
from skdeeptd._loss import SquaredError
from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd._network.network import (
    hidden_forward,
    in_patch_order,
    numbers_per_row,
    pre_activations,
)
from skdeeptd._network.parameters import squared_norms
from skdeeptd._solvers.gauss_newton import Solution, gauss_newton
from skdeeptd._solvers.linalg import solve, unit_diagonal


def signed_starts(
    blank,
    candidate,
    rows,
    *,
    alpha=0.0,
    fit_intercept=True,
    n_best=1,
    norm_passes=20,
    most_columns=512,
):
    """Return networks with the signs that fit best, best first.

    Parameters
    ----------
    blank : Network
        The structure.
    candidate : list of array
        Per layer the directions v_l, (filters, d_l); the last one has the heads of all
        outputs side by side.
    rows : RowBlocks
    alpha : float
    fit_intercept : bool
    n_best : int
        Most sign patterns to return.
    norm_passes : int
        Most passes over the rows that fit the gains of each pattern, for activations
        that are not homogeneous.
    most_columns : int
        Columns of F up to which all patterns are tried; beyond, flips of one layer.

    Returns
    -------
    list of Solution
        ``n_iter`` counts the passes for the gains.
    """
    *hidden, last = candidate
    network = blank._replace(kernels=tuple(hidden))
    last = last if len(blank.heads) == 1 else None
    if not network.is_homogeneous:
        network = with_unit_gains(network, rows)
    free = [
        i for i, name in enumerate(network.activations) if not ACTIVATIONS[name].odd
    ]
    n_entries = 1 if last is not None else blank.sizes[-1]
    tries_all = network.n_filters * n_entries * 2 ** len(free) <= most_columns
    n_flips = range(len(free) + 1) if tries_all else range(2)
    flips = [f for n in n_flips for f in itertools.combinations(free, n)]
    patterns = np.ones((len(flips), len(network.kernels)))
    for pattern, layers in zip(patterns, flips, strict=True):
        pattern[list(layers)] = -1
    best_loss, how = np.inf, (alpha, fit_intercept, n_best)
    while True:
        starts = _best_combinations(network, last, rows, patterns, *how)
        if tries_all or not starts[0].loss < best_loss:
            break
        best_loss, network = starts[0].loss, starts[0].network
    if network.is_homogeneous or norm_passes == 0:
        return starts
    polish = functools.partial(
        gauss_newton,
        rows=rows,
        loss=SquaredError(),
        alpha=alpha,
        fit_intercept=fit_intercept,
        move="norms",
        max_iter=norm_passes,
        tol=1e-6,
    )
    polished = [polish(start.network) for start in starts]
    starts = [Solution(found.network, found.loss, found.n_iter) for found in polished]
    return sorted(starts, key=lambda start: start.loss)


def with_unit_gains(network, rows):
    """Give pre-activations a mean square of 1 in layers that are not homogeneous."""
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
    """Return the mean square of a layer's z without biases, (filters,)."""
    n_layers = layer + 1
    below = network._replace(
        kernels=network.kernels[:n_layers],
        activations=network.activations[:n_layers],
        biases=(),
    )

    def statistic(X, _, weight):
        z = hidden_forward(below, X)[-1].z
        return np.mean(z**2, axis=2) @ weight, np.sum(weight)

    total, weight = rows.reduce(statistic)
    return total / weight


def pattern_columns(network, last, patterns, X):
    """Return F; patterns that begin alike share the forward pass of these layers."""
    n_filters, n_layers = network.n_filters, len(network.kernels)
    n_entries = 1 if last is not None else network.sizes[-1]
    columns = np.empty((n_filters, len(patterns), n_entries, len(X)))

    def descend(h, layer, chosen):
        order = network.orders[layer]
        if layer == n_layers:
            values = in_patch_order(h, order, f"patches{layer + 1}")
            if last is not None:
                values = values @ last.astype(h.dtype, copy=False)[:, :, np.newaxis]
            columns[:, chosen] = values.transpose(0, 2, 1)[:, np.newaxis]
            return
        k = network.kernels[layer].astype(h.dtype, copy=False)
        _, z = pre_activations(k, h, order, layer + 1)
        value = ACTIVATIONS[network.activations[layer]].value
        for sign in (1.0, -1.0):
            branch = chosen[patterns[chosen, layer] == sign]
            if len(branch):
                name = f"{layer + 1}", z.shape, z.dtype
                signed = np.multiply(
                    z, z.dtype.type(sign), out=empty("sign" + name[0], *name[1:])
                )
                descend(
                    value(signed, empty("h" + name[0], *name[1:])), layer + 1, branch
                )

    descend(X, 0, np.arange(len(patterns)))
    return columns.reshape(-1, len(X)).T


def _best_combinations(
    network, last, rows, patterns, alpha, fit_intercept, n_best, n_rounds=20
):
    """Return the ``n_best`` combinations of a pattern per filter as solutions."""
    n_filters, n_patterns = network.n_filters, len(patterns)
    n_entries = 1 if last is not None else network.sizes[-1]
    columns = functools.partial(pattern_columns, network, last, patterns)
    width = numbers_per_row(network)
    sums = centred_sums(rows, columns, fit_intercept, width)
    if not np.all(np.isfinite(sums.gram)):
        raise FloatingPointError("the squares of the network's outputs overflow")
    no_spread = 1e-13 * sums.mean  # rounding of a column that is constant
    constant = sums.gram.diagonal() <= sums.total * no_spread**2
    sums.gram[constant], sums.gram[:, constant] = 0, 0
    sums.cross[constant] = 0
    with np.errstate(over="ignore"):
        ridge = alpha * squared_norms(network)
        if last is not None:
            ridge = ridge * np.sum(last**2, axis=1)
        ridge = np.minimum(ridge, 1e300)
    places = np.arange(len(sums.gram)).reshape(n_filters, n_patterns, n_entries)
    seen = {}

    def best_of_filter(chosen, r):
        """Return the combination with the best pattern of filter r."""
        options = np.tile(chosen, (n_patterns, 1))
        options[:, r] = np.arange(n_patterns)
        each = np.arange(len(chosen))
        found = places[each, options].reshape(n_patterns, -1)
        losses, heads = _least_squares(sums, found, np.repeat(ridge[each], n_entries))
        if len(chosen) == n_filters:
            for option, *result in zip(options, losses, heads, found, strict=True):
                seen[tuple(option)] = result
        return options[np.argmin(losses)]

    chosen = np.empty(0, dtype=int)
    for r in range(n_filters):
        chosen = best_of_filter(np.append(chosen, 0), r)
    for _ in range(n_rounds if min(n_filters, n_patterns) > 1 else 0):
        before = chosen
        for r in range(n_filters):
            chosen = best_of_filter(chosen, r)
        if np.array_equal(chosen, before):
            break
    starts = []
    for option in sorted(seen, key=lambda option: seen[option][0])[:n_best]:
        loss, heads, found = seen[option]
        signs = patterns[list(option)]
        kernels = zip(network.kernels, signs.T, strict=True)
        intercept = (sums.y_mean - sums.mean[found] @ heads) * float(fit_intercept)
        heads = heads.T.reshape(-1, n_filters, n_entries)
        if last is not None:
            heads = heads * last
        signed = network._replace(
            kernels=tuple(k * s[:, np.newaxis] for k, s in kernels),
            heads=heads,
            intercept=intercept,
        )
        starts.append(Solution(signed, loss))
    return starts


def _least_squares(sums, options, ridge):
    """Return loss and heads, (columns, outputs), for each row of columns."""
    square = sums.gram[options[:, :, np.newaxis], options[:, np.newaxis, :]]
    square = square + np.diag(ridge)
    cross = sums.cross[options]
    square, scale = unit_diagonal(square)
    heads = solve(square, cross / scale[:, :, np.newaxis]) / scale[:, :, np.newaxis]
    return np.sum(sums.y_squares) - np.sum(heads * cross, axis=(1, 2)), heads
