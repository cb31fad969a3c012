"""The sums over the rows that a Gauss-Newton step needs: one pass.

==========  ======================  =============================================
symbol      array                   axes
==========  ======================  =============================================
Q, R, P     sizes                   heads, filters, entries of a head
M, T        sizes                   hidden weights of a filter; R P, and 1 for the
                                    intercept
F           ``features``            (rows, T): the values that the heads see and the
                                    covariates, minus their mean, and 1
V           heads                   (Q, T), slopes and intercepts included
J           ``jacobian``            (rows, Q, R M): derivatives of the outputs by the
                                    hidden weights, minus their mean
W, C        weight, curvature       of the rows, and of the loss (see ``_loss``)
A           ``hessian``             (R M, R M): J'WCJ and the penalty
S           ``cross``               (Q, T, R M): F'WCJ and the penalty
G           ``grams``               blocks of F'WCF and the penalty: (1, T, T) if all
                                    heads share it, (Q, T, T), or (1, Q T, Q T)
g, h        ``gradient``,           (R M,), (Q, T): minus half the gradient of the
            ``head_gradient``       objective
==========  ======================  =============================================

The objective is sum_i w_i l(y_i, eta_i) + alpha sum_qr |W_qr|^2 (see ``parameters``).
J is linear in the heads. If a head has few entries, one Gram matrix of the derivatives
for each entry holds the sums of any number of outputs; otherwise J of each output is
formed. If the loss is quadratic, the sums also give the best heads for the hidden
weights.
"""

from typing import NamedTuple

import numpy as np
from scipy import linalg

from skdeeptd._data.scratch import empty
from skdeeptd._network.network import (
    Network,
    head_features,
    hidden_forward,
    hidden_jacobian,
    numbers_per_row,
)
from skdeeptd._network.parameters import normalize, penalty
from skdeeptd._solvers.heads import factor_blocks, is_coupled_and_large, solve_blocks


class Equations(NamedTuple):
    """The sums of one pass, at ``network``; see the table of the module."""

    network: Network
    loss: float
    squares: np.ndarray  # (Q,): the loss without the penalty; their sum if C couples
    hessian: np.ndarray
    cross: np.ndarray
    grams: np.ndarray
    factor: tuple
    gradient: np.ndarray
    head_gradient: np.ndarray
    shift: tuple  # (R P,), (Q, R M): subtracted from F and J
    centre: tuple  # means of F and of the derivatives, for the next pass
    rounding: float  # a loss that is zero up to rounding
    stale: float = 0.0  # decrease of the loss since J was computed


def check_memory(n_unknowns, what, most_bytes=2**32):
    """Raise ValueError if the normal equations would not fit in memory."""
    n_bytes = 3 * 8 * n_unknowns**2
    if n_bytes > most_bytes:
        raise ValueError(
            f"the normal equations of {what} have {n_unknowns} unknowns and take "
            f"{n_bytes / 2**30:.3g} GiB, but {most_bytes / 2**30:.0f} GiB are allowed; "
            f"use smaller kernels in more layers, fewer filters, or polish=False"
        )


@np.errstate(over="ignore", invalid="ignore")
def normal_equations(
    network,
    rows,
    loss,
    alpha=0.0,
    fit_intercept=True,
    with_hidden=True,
    centre=None,
    far_share=0.999,
):
    """Return the ``Equations`` at a network, whose norms are moved to the heads before.

    F and J are taken from ``centre`` on, so that features whose mean is large beside
    their spread lose no digits. None takes the first row, and a second pass if that row
    makes up more than ``far_share`` of a sum of squares. If the loss is quadratic, the
    heads are then the best ones for the hidden weights.
    """
    network = normalize(network)
    basis = network.heads
    if loss.is_quadratic and with_hidden and gram_of_entries_pays(network):
        basis = np.repeat(np.eye(basis.shape[2])[:, None], network.n_filters, axis=1)
    is_stacked = len(network.heads) > 1 and basis is network.heads
    is_centred = fit_intercept and (loss.is_quadratic or len(network.heads) == 1)
    is_first = centre is None
    if is_first:
        how = basis, fit_intercept, is_centred, with_hidden
        network, centre = _first_centre(network, rows, loss, *how)
    shift, sums_of = centre, _stacked_sums if is_stacked else _gram_sums
    sums = sums_of(network, rows, loss, basis, shift, fit_intercept, with_hidden)
    no_variance = _variance_of_rounding(network, rows, shift[0])
    if is_centred:
        sums, shift, *found = _centred(sums, shift, is_stacked, far_share)
        features, residual, is_far = found
        # 10 roundings were too few for images with a constant margin in float32; 300
        # and 1000 gave the same fits.
        no_variance += 300 * np.finfo(rows.precision).eps * features**2
        if is_first and loss.is_quadratic and is_far:
            moved = network._replace(intercept=network.intercept + residual)
            how = alpha, fit_intercept, with_hidden
            return normal_equations(moved, rows, loss, *how, shift)
    if fit_intercept:
        sums = _without_constants(sums, no_variance)
    return _equations_of(network, rows, loss, alpha, basis, sums, shift)


def gram_of_entries_pays(network):
    """Return whether one Gram matrix of all entries costs less than one per output."""
    n_heads, _, n_entries = network.heads.shape
    M = network.n_hidden_weights
    of_entries = n_entries * (n_entries * M + n_entries + n_heads)
    return of_entries <= n_heads * (M + n_entries)


def _first_centre(network, rows, loss, basis, fit_intercept, is_centred, with_hidden):
    """Return a network and the origins of F and J, before any pass.

    The origins are F and J of the first row, with the intercept that fits that row, if
    the sums are to be centred; else the mean of F.
    """
    shape = len(basis), network.n_filters, network.n_hidden_weights * with_hidden
    jacobian = np.zeros((1, *shape))
    flat_heads = network.flat_heads
    if not fit_intercept:
        features = np.zeros(flat_heads.shape[1])
    elif not is_centred:

        def statistic(X, _, weight):
            features = head_features(in_dtype, hidden_forward(in_dtype, X), X)
            return weight @ features, np.sum(weight)

        in_dtype = network.astype(rows.precision)
        features, total = rows.reduce(statistic, width=numbers_per_row(network))
        features = features / total
    else:
        X, y = rows.first_row()
        layers = hidden_forward(network, X)
        features = head_features(network, layers, X)[0].copy()
        if with_hidden:
            hidden_jacobian(network, layers, basis, jacobian)
        if loss.is_quadratic:
            network = network._replace(intercept=y[0] - flat_heads @ features)
    return network, (features, jacobian.reshape(len(basis), shape[1] * shape[2]))


def _gram_sums(network, rows, loss, basis, shift, fit_intercept, with_hidden):
    """Return the sums of one pass as one Gram matrix of J, F, 1 and the residuals.

    J holds the derivatives for each readout of ``basis``: the head, or each entry.
    """
    n_heads, K, R = len(network.heads), len(basis), network.n_filters
    M = network.n_hidden_weights * with_hidden
    n_jacobian, n_features = K * R * M, network.flat_heads.shape[1]
    ends = np.cumsum([n_jacobian, n_features, int(fit_intercept), n_heads])
    from_row = np.concatenate([shift[1].ravel()[:n_jacobian], shift[0]])
    in_dtype, from_row = network.astype(rows.precision), from_row.astype(rows.precision)
    basis = basis.astype(rows.precision)
    flat = in_dtype.flat_heads.T

    def statistic(X, y, weight):
        table = empty("table", (len(X), ends[-1]), X.dtype)
        layers = hidden_forward(in_dtype, X)
        features = head_features(in_dtype, layers, X)
        raw = (in_dtype.intercept + features @ flat).astype(float, copy=False)
        value, residual, curvature = loss.evaluate(y, raw)
        if M:
            jacobian = table[:, :n_jacobian].reshape(len(X), K, R, M)
            hidden_jacobian(in_dtype, layers, basis, jacobian)
        table[:, n_jacobian : ends[1]] = features
        table[:, : ends[1]] -= from_row
        table[:, ends[1] : ends[2]] = 1
        root = np.sqrt(weight)
        if curvature is not None:
            root = root * np.sqrt(curvature[:, 0])
            weight_of_residual = weight / np.where(root > 0, root, 1.0)
        if curvature is None:
            table[:, ends[2] :] = residual
            if np.any(root != 1):
                table *= root.astype(X.dtype)[:, np.newaxis]
        else:
            table[:, : ends[2]] *= root.astype(X.dtype)[:, np.newaxis]
            table[:, ends[2] :] = residual * weight_of_residual[:, np.newaxis]
        sums = empty("sums", (ends[-1], ends[-1]), X.dtype)
        extra = weight @ value, np.sum(weight @ raw**2), np.sum(weight)
        return np.matmul(table.T, table, out=sums), *extra

    width = int(ends[-1]) + numbers_per_row(network)
    sums, value, *sizes = rows.reduce(statistic, width=width)
    j, f, e = slice(0, n_jacobian), slice(n_jacobian, ends[2]), slice(ends[2], None)
    squares = np.array([value]) if n_heads == 1 else sums[e, e].diagonal().copy()
    j_sum = sums[ends[1], j] if fit_intercept else np.zeros(n_jacobian)
    return (
        sums[j, j],
        sums[f, j],
        sums[np.newaxis, f, f],
        sums[j, e],
        sums[f, e].T,
        j_sum.reshape(K, R * M),
        squares,
        sizes,
    )


def _stacked_sums(network, rows, loss, basis, shift, fit_intercept, with_hidden):
    """Return the sums of one pass, from J of each output."""
    n_heads, R = len(network.heads), network.n_filters
    M = network.n_hidden_weights * with_hidden
    in_dtype = network.astype(rows.precision)
    from_row = [s.astype(rows.precision) for s in shift]
    flat = in_dtype.flat_heads.T
    is_large = is_coupled_and_large(loss, n_heads * (len(flat) + fit_intercept))
    is_whole = loss.couples_outputs and not is_large

    def statistic(X, y, weight):
        layers = hidden_forward(in_dtype, X)
        features = head_features(in_dtype, layers, X)
        raw = (in_dtype.intercept + features @ flat).astype(float, copy=False)
        value, residual, curvature = loss.evaluate(y, raw)
        weighted = weight[:, np.newaxis] * residual
        ones = np.ones((len(X), int(fit_intercept)), X.dtype)
        features = np.concatenate([features - from_row[0], ones], axis=1)
        jacobian = empty("jacobian", (len(X), n_heads, R, M), X.dtype)
        if M:
            hidden_jacobian(in_dtype, layers, in_dtype.heads, jacobian)
        jacobian = jacobian.reshape(len(X), n_heads, R * M)
        jacobian -= from_row[1][:, : R * M]
        gradient = np.einsum("iqm,iq->m", jacobian, weighted)
        factor = loss.multiply_by_root(curvature, jacobian)
        root = np.sqrt(weight).astype(X.dtype)[:, np.newaxis]
        jacobian *= root[:, :, np.newaxis]
        flat_jacobian = jacobian.reshape(len(X) * n_heads, R * M)
        hessian = flat_jacobian.T @ flat_jacobian
        jacobian *= (factor * root)[:, :, np.newaxis]
        entries = weight[:, np.newaxis]
        if is_whole:  # C = diag(p) - p p'
            entries = entries * curvature
            scales = (root * curvature)[:, :, np.newaxis]
            shape = len(X), n_heads, features.shape[1]
            outer = empty("outer", shape, np.result_type(scales, features))
            outer = np.multiply(scales, features[:, np.newaxis], out=outer)
            outer = outer.reshape(len(X), -1)
        elif not loss.is_quadratic:
            entries = entries * loss.diagonal(curvature)
        grams = [(features * entry[:, np.newaxis]).T @ features for entry in entries.T]
        return (
            hessian,
            np.array([features.T @ jacobian[:, q] for q in range(n_heads)]),
            np.array(grams),
            outer.T @ outer if is_whole else 0.0,
            gradient,
            weighted.T @ features,
            weight @ residual**2 if loss.is_quadratic else np.array([weight @ value]),
            np.array([np.sum(weight @ raw**2), np.sum(weight)]),
        )

    width = (
        numbers_per_row(network) * (1 + n_heads) + 3 * n_heads * R * M + 3 * len(flat)
    )
    n_entries = len(flat) + fit_intercept
    n_sums = n_heads * n_entries * (R * M + n_entries)
    sums = rows.reduce(statistic, width, n_sums)
    hessian, cross, grams, outer, gradient, head_gradient, squares, sizes = sums
    if is_whole:
        grams = linalg.block_diag(*grams)[np.newaxis] - outer
    elif is_large:  # C is a Laplacian, at most twice its diagonal
        grams = 2 * grams
    j_sum = cross[:, -1] if fit_intercept else np.zeros((n_heads, R * M))
    return hessian, cross, grams, gradient, head_gradient, j_sum, squares, sizes


def _centred(sums, shift, is_stacked, far_share):
    """Return the sums with J and F minus their means, and what else changes by that.

    These are the shift, the means of F and of the residuals, and whether means make up
    more than a share of the squares.
    """
    A, S, grams, g, h, of_basis, squares, sizes = sums
    total = grams[0, -1, -1]
    features, jacobian = grams[0, -1, :-1] / total, of_basis / total
    residual, n_weights = h[:, -1] / total, jacobian.shape[1]
    spread = A.diagonal().reshape(len(A) // max(n_weights, 1), n_weights).sum(axis=0)
    spread = np.concatenate([grams[0].diagonal()[:-1], spread, squares])
    means = features**2, np.sum(jacobian**2, axis=0), residual**2
    is_far = np.any(total * np.concatenate(means) > far_share * spread)
    S, grams, h = S.copy(), grams.copy(), h.copy()
    flat = jacobian if is_stacked else jacobian.reshape(1, -1)
    A = A - total * flat.T @ flat
    S[..., :-1, :] -= np.reshape(
        total * features[:, np.newaxis] * flat[:, np.newaxis], S[..., :-1, :].shape
    )
    S[..., -1, :] = 0
    grams[:, :-1, :-1] -= total * np.outer(features, features)
    grams[:, -1, :-1] = grams[:, :-1, -1] = 0
    off = total * residual
    g = g - (off @ flat if is_stacked else np.outer(flat[0], off))
    h[:, :-1] -= np.outer(off, features)
    sums = A, S, grams, g, h, of_basis, squares, sizes
    return sums, (shift[0] + features, shift[1] + jacobian), features, residual, is_far


def _without_constants(sums, no_variance):
    """Return the sums with zeros for features of F that vary by their rounding only.

    A head would multiply the rounding until it fits the target.
    """
    A, S, grams, g, h, *others = sums
    n_entries = len(no_variance) + 1
    squares = np.einsum("btt->bt", grams).reshape(-1, n_entries)
    varies = np.any(squares[:, :-1] > squares[:, -1:] * no_variance, axis=0)
    if np.all(varies):
        return sums
    kept = np.append(varies, True)
    in_block = np.tile(kept, grams.shape[1] // n_entries)
    grams = grams * (in_block[:, np.newaxis] & in_block)
    return A, S * kept[:, np.newaxis], grams, g, h * kept, *others


def _variance_of_rounding(network, rows, mean, n_roundings=32):
    """Return the variance of F that is rounding, for a row like the first one, (R P,).

    The rounding error of a sum of products is a part of the sum of their sizes.
    """
    X = np.abs(rows.first_row()[0])
    sizes = network._replace(
        kernels=tuple(np.abs(k) for k in network.kernels),
        biases=tuple(np.abs(b) for b in network.biases),
        activations=("identity",) * len(network.kernels),
    )
    size = head_features(sizes, hidden_forward(sizes, X), X)[0] + np.abs(mean)
    return (n_roundings * np.finfo(rows.precision).eps * size) ** 2


def _equations_of(network, rows, loss, alpha, basis, sums, shift):
    """Return the ``Equations``, with the penalty and, if possible, the best heads."""
    _, _, grams, _, h, _, squares, (raw_squares, total_weight) = sums
    heads, (n_heads, R, P) = network.heads, network.heads.shape
    ridge, V = np.zeros(h.shape[1]), np.zeros(h.shape)
    flat = network.flat_heads
    n_entries = flat.shape[1]
    V[:, :n_entries] = flat
    if alpha > 0:
        curvature, slope, norms = penalty(network)
        ridge[: R * P] = alpha * np.repeat(norms, P)
        h = h - ridge * V
    if alpha > 0 or loss.couples_outputs:
        grams = _with_ridge(grams, ridge, n_heads)
    factor = factor_blocks(grams, 1e3 * np.finfo(rows.precision).eps)
    value = np.sum(squares) + np.sum(ridge * V**2)
    change, decrease = np.zeros_like(V), 0.0
    if loss.is_quadratic and factor is not None:
        change = solve_blocks(factor, h[:, :, np.newaxis])[:, :, 0]
        change = np.where(grams[0].diagonal() > 0, change, -V)  # to the intercept
        of_change = change @ grams[0]
        gained = np.sum(change * (2 * h - of_change), axis=1)
        moved = V + change
        squares = squares + np.sum(ridge * (V**2 - moved**2), axis=1) - gained
        squares, decrease = np.maximum(squares, 0.0), np.sum(gained)
        h = np.zeros_like(h)
        value = max(value - decrease, 0.0) + 1e-12 * value  # what rounding may hide
        if h.shape[1] > n_entries:
            intercept = change[:, n_entries] - change[:, :n_entries] @ shift[0]
            network = network._replace(intercept=network.intercept + intercept)
        network = network.with_flat_heads(moved[:, :n_entries])
    if basis is heads:  # J holds for the heads of the pass
        A, S, g, of_jacobian = sums[0], sums[1], sums[3], shift[1]
        if n_heads == 1:
            S, g = S[np.newaxis], g[:, 0]
    else:
        heads = network.heads
        A, S, g, of_jacobian = _contract(sums, heads, shift[1], change)
    if alpha > 0 and len(g):
        A, S, g = _penalised(A, S, g, heads, alpha * curvature, alpha * slope)
    if basis is heads:
        g = g - change.ravel() @ S.reshape(change.size, len(g))
    is_finite = np.isfinite(value + np.sum(A.diagonal()) + np.sum(g))
    eps = np.finfo(rows.precision).eps
    return Equations(
        network,
        value if is_finite and factor is not None else np.inf,
        squares,
        A,
        S,
        grams,
        factor,
        g,
        h,
        (shift[0], of_jacobian),
        shift,
        max((32 * eps) ** 2 * raw_squares, loss.negligible * total_weight),
        decrease,
    )


def _contract(sums, heads, shift, change):
    """Return A, S, g and the shift of J for heads, from the sums for each entry.

    The residuals are those after a ``change`` of the heads.
    """
    A, S, _, g = sums[:4]
    n_heads, R, P = heads.shape
    M, by_entry = len(g) // (P * R), heads.transpose(0, 2, 1)
    axes = P, R, M
    pairs = np.einsum("opr,oqs->prqs", by_entry, by_entry)
    A = np.einsum("prqs,prmqsn->rmsn", pairs, A.reshape(axes + axes), optimize=True)
    g = g - (change @ S).T
    g = np.einsum("opr,prmo->rm", by_entry, g.reshape(*axes, n_heads)).ravel()
    S = np.einsum("opr,tprm->otrm", by_entry, S.reshape(-1, *axes), optimize=True)
    shift = np.einsum("opr,prm->orm", by_entry, shift.reshape(axes))
    size = R * M
    return (
        A.reshape(size, size),
        S.reshape(n_heads, -1, size),
        g,
        shift.reshape(-1, size),
    )


def _penalised(A, S, g, heads, curvature, slope):
    """Add the part of the penalty to A, S and g."""
    _, R, P = heads.shape
    size, each, M = np.sum(heads**2, axis=(0, 2)), np.arange(R), len(g) // R
    A, S = A.copy(), S.copy()
    blocks = A.reshape(R, M, R, M)
    blocks[each, :, each] += size[:, np.newaxis, np.newaxis] * curvature
    for r in range(R):
        here, entries = slice(r * M, (r + 1) * M), slice(r * P, (r + 1) * P)
        S[:, entries, here] += heads[:, r, :, np.newaxis] * slope[r]
    return A, S, g - (size[:, np.newaxis] * slope).ravel()


def _with_ridge(grams, ridge, n_heads):
    """Return G with the penalty; bound the part that all coupled outputs share."""
    if grams.shape[1] == len(ridge):
        return grams + np.diag(ridge)
    blocks = grams.reshape(n_heads, len(ridge), n_heads, len(ridge)).copy()
    each = np.arange(n_heads)
    blocks[each, :, each] += np.diag(ridge)
    in_common = np.einsum("otot->t", blocks) / n_heads
    blocks += np.diag(in_common)[:, np.newaxis] / n_heads
    return blocks.reshape(grams.shape)
