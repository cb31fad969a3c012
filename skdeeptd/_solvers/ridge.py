"""Ridge and kernel ridge regression with a cross-validated penalty.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
F           ``features``        (rows, entries)
K           ``gram``            (rows, rows): F F' or another kernel of the rows
w           ``weight``          (rows,)
s           ``share``           (rows,): w over its sum, zeros without an intercept
Z           ``table``           (rows, entries): W^1/2 (F - 1 s'F)
lambda_j    ``values``          eigenvalues of Z'Z, or of Z Z' if that is smaller
B           ``basis``           (rows, eigenvalues): Z V, V the eigenvectors
H                               (rows, rows): s^1/2 s'^1/2 + B (lambda + alpha)^-1 B'
==========  ==================  ==================================================

The penalty is chosen by cross-validation over contiguous blocks of rows, because in a
time series single held-out rows can be predicted from their neighbours. The residuals
of a ridge regression without the rows b are (1 - H_bb)^-1 r_b, where r are the
residuals of the one with all rows (Allen 1974 for single rows). So all penalties cost
one decomposition and no refit. A row is held out with all of its weight.

The posterior of the mean of y is that of a Gaussian process with covariance K over
alpha and noise of variance 1 / w, both in units of ``scale``. Under it the held-out
residuals of a block have the covariance (1 - H_bb)^-1 in these units. ``scale`` is what
makes their standardised squares one on average; in-sample residuals do not determine
it, because they vanish if the regression interpolates.
"""

from typing import NamedTuple

import numpy as np


class Ridge(NamedTuple):
    """Hold y = intercept + F coef, or intercept + K(., rows) coef.

    ``coef`` is (entries or rows, outputs). ``intercept``, ``alpha`` and the following
    are (outputs,): ``cv_error``, the weighted mean of squared held-out residuals, and
    ``scale``, the unit of the posterior variance; both NaN for a single row.
    ``center`` (entries or rows,), ``vectors`` (entries or rows, directions) and
    ``values`` are the principal directions of F or of K(., rows).
    """

    coef: np.ndarray
    intercept: np.ndarray
    alpha: np.ndarray
    cv_error: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    vectors: np.ndarray
    values: np.ndarray


def cv_ridge(features, y, weight, n_blocks=20):
    """Fit a ridge regression with an intercept.

    Parameters
    ----------
    features : array of shape (rows, entries)
    y : array of shape (rows, outputs)
    weight : array of shape (rows,)
        Positive.
    n_blocks : int
        Number of blocks of the cross-validation, at most one per row.

    Returns
    -------
    Ridge
    """
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    center = share @ features
    table = (features - center) * root
    basis, values = principal(table)
    vectors = table.T @ (basis / values)
    return _solve(basis, values, y, weight, n_blocks, center, vectors)


def cv_kernel_ridge(gram, y, weight, n_blocks=20):
    """Fit a kernel ridge regression with an intercept; ``gram`` is K."""
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    center = share @ gram
    centered = gram - center - (gram @ share)[:, np.newaxis] + center @ share
    size = weight @ np.diag(gram)  # centring leaves rounding errors of this size
    values, left = _eigen(root * centered * root.T, len(gram), size)
    dual = root * left / np.sqrt(values)
    vectors = dual - np.outer(share, dual.sum(axis=0))
    return _solve(left * np.sqrt(values), values, y, weight, n_blocks, center, vectors)


def _solve(basis, values, y, weight, n_blocks, center, vectors):
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    y_mean, alphas = share @ y, penalties(values)
    target = (y - y_mean) * root
    sums = _cv_sums(basis, values, target, share, alphas, n_blocks)
    best = np.argmin(sums[0], axis=0)
    alpha = alphas[best]
    coef = vectors @ (basis.T @ target / (values[:, np.newaxis] + alpha))
    means = sums[:, best, np.arange(y.shape[1])] / (len(y) if len(y) > 1 else np.nan)
    return Ridge(coef, y_mean - center @ coef, alpha, *means, center, vectors, values)


def posterior_variance(centered, square, vectors, values, alpha, weight):
    """Return the variance of the mean of y at new rows, in units of ``scale``.

    Parameters
    ----------
    centered : array of shape (rows, entries or training rows)
        Features, or kernel with the training rows, less the center.
    square : array of shape (rows,)
        Squared distance from the mean of the training rows.
    vectors, values : array
        Principal directions and eigenvalues.
    alpha : array of shape (outputs,)
    weight : float
        Sum of the weights of the training rows.

    Returns
    -------
    array of shape (rows, outputs)
    """
    share = values[:, np.newaxis] / (values[:, np.newaxis] + alpha)
    explained = (centered @ vectors) ** 2 @ share
    return 1 / weight + np.maximum(square[:, np.newaxis] - explained, 0) / alpha


def penalties(values, n_penalties=21, decades=(1, -9)):
    """Return the penalties to try, between powers of ten of the largest eigenvalue.

    If nothing varies, the penalties are in units of one.
    """
    return (values.max(initial=0) or 1.0) * np.logspace(*decades, n_penalties)


def principal(table):
    """Return B and lambda, without eigenvalues that are zero up to rounding."""
    n_rows, n_entries = table.shape
    longer = max(n_rows, n_entries)
    if n_entries <= n_rows:
        values, vectors = _eigen(table.T @ table, longer)
        return table @ vectors, values
    values, left = _eigen(table @ table.T, longer)
    return left * np.sqrt(values), values


def _eigen(gram, n_terms, size=0.0):
    """Return eigenvalues above the rounding errors of sums of ``n_terms`` numbers.

    ``size`` is the largest intermediate result if that exceeds the eigenvalues.
    """
    values, vectors = np.linalg.eigh(gram)
    kept = values > n_terms * np.finfo(float).eps * max(values[-1], size)
    return values[kept], vectors[:, kept]


def _cv_sums(basis, values, target, share, alphas, n_blocks):
    """Return sums over held-out rows for each penalty, (2, penalties, outputs).

    The sums are of squared held-out residuals, and of held-out times in-sample
    residuals. ``target`` is W^1/2 (y - 1 s'y), (rows, outputs).
    """
    basis = np.column_stack([basis, np.sqrt(share)])
    shrunk = np.array([1 / np.append(values + alpha, 1.0) for alpha in alphas])
    coef = shrunk[:, :, np.newaxis] * (basis.T @ target)
    roots = np.sqrt(shrunk)[:, np.newaxis]
    sums = 0.0
    for block in np.array_split(np.arange(len(target)), min(n_blocks, len(target))):
        residual = target[block] - basis[block] @ coef
        held_out = _held_out(basis[block], residual, roots)
        sums = sums + np.sum(held_out * np.stack([held_out, residual]), axis=2)
    return sums


def _held_out(basis, residual, roots, slack=1e-10):
    """Return (1 + slack - H_bb)^-1 r_b for each penalty, by the smaller system.

    ``slack`` keeps 1 - H_bb invertible for rows that the other rows do not determine.
    """
    n_rows, n_entries = basis.shape
    eye = (1 + slack) * np.eye(min(n_rows, n_entries))
    if n_rows <= n_entries:
        halves = (basis * root for root in roots)
        return np.linalg.solve(eye - np.stack([h @ h.T for h in halves]), residual)
    gram = basis.T @ basis
    inner = [
        root.T * np.linalg.solve(eye - root.T * gram * root, root.T * (basis.T @ r))
        for root, r in zip(roots, residual, strict=True)
    ]
    return residual + basis @ np.stack(inner)
