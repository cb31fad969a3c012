"""Ridge regression whose penalty rows left out choose, plain or of a kernel.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
F           ``features``        (rows, entries)
K           ``gram``            (rows, rows): F F' or another kernel of the rows
w           ``weight``          (rows,)
s           ``share``           (rows,): w over its sum, zeros without an intercept
Z           ``table``           (rows, entries): W^1/2 (F - 1 s'F)
lambda_j    ``values``          eigenvalues of Z'Z, or of Z Z' where that is smaller
B           ``basis``           (rows, eigenvalues): Z V, V the eigenvectors
H                               (rows, rows): s^1/2 s'^1/2 + B (lambda + alpha)^-1 B'
==========  ==================  ==================================================

A ridge regression that has not seen the rows b misses them by (1 - H_bb)^-1 r_b, where
r is the residual of the one that has seen all rows (Allen 1974 has it for single rows).
So all penalties cost one decomposition and no refit. A row is left out with all of its
weight. What is left out together are twentieths, one row after the other: neighbours in
a series tell of each other, and single ones left out would say that nothing needs a
penalty. Of rows that are sorted by y larger parts would be all that there is of it.
"""

from typing import NamedTuple

import numpy as np
from scipy.linalg import cholesky, solve_triangular

ALPHAS = np.logspace(1, -9, 21)  # that are tried, in units of the largest eigenvalue
N_BLOCKS = 20  # of rows that are left out together
NO_WEIGHT = 1e-10  # what is left of rows that the others say nothing of


class Ridge(NamedTuple):
    """y = intercept + F coef, or intercept + K(., rows) coef.

    ``coef`` is (entries or rows, outputs); ``intercept``, ``alpha`` and
    ``noise_variance``, of a row of weight one, and ``cv_error``, the sum of squares on
    rows left out, are (outputs,).
    """

    coef: np.ndarray
    intercept: np.ndarray
    alpha: np.ndarray
    noise_variance: np.ndarray
    cv_error: np.ndarray


def cv_ridge(features, y, weight):
    """Ridge regression on some features, with an intercept.

    Parameters
    ----------
    features : array of shape (rows, entries)
    y : array of shape (rows, outputs)
    weight : array of shape (rows,)
        Positive.

    Returns
    -------
    Ridge
    """
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    center, y_mean = share @ features, share @ y
    table = (features - center) * root
    basis, values = principal(table)
    along, *told = _along(basis, values, (y - y_mean) * root, share)
    coef = table.T @ (basis @ (along / values[:, np.newaxis]))
    return Ridge(coef, y_mean - center @ coef, *told)


def cv_kernel_ridge(gram, y, weight):
    """The same of a kernel; ``gram`` is K."""
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    y_mean = share @ y
    centered = _centered(gram, gram, share)
    values, left = _eigen(root * centered * root.T, len(gram))
    sizes = np.sqrt(values)
    along, *told = _along(left * sizes, values, (y - y_mean) * root, share)
    dual = root * (left / sizes @ along)
    coef = dual - np.outer(share, dual.sum(axis=0))
    return Ridge(coef, y_mean - share @ gram @ coef, *told)


def _centered(cross, gram, share):
    """Products of other rows with those of the fit, less the mean of these."""
    mean = share @ gram
    return cross - mean - (cross @ share)[:, np.newaxis] + mean @ share


def _along(basis, values, target, share):
    """Of each output the coefficients of the basis, alpha, the noise and the error."""
    alphas, errors = _cv_errors(basis, values, target, share)
    alpha = alphas[np.argmin(errors, axis=0)]
    along = basis.T @ target / (values[:, np.newaxis] + alpha)
    n_used = 1 + np.sum(values[:, np.newaxis] / (values[:, np.newaxis] + alpha), axis=0)
    squares = np.sum((target - basis @ along) ** 2, axis=0)
    noise = squares / np.maximum(len(target) - n_used, 1)
    return along, alpha, noise, np.min(errors, axis=0)


def ridge_variance(features, new, weight, alpha):
    """Of the mean of y at new rows, over the noise variance: (rows,)."""
    center = weight / np.sum(weight) @ features
    table = (features - center) * np.sqrt(weight)[:, np.newaxis]
    inner = table.T @ table + alpha * np.eye(table.shape[1])
    half = solve_triangular(cholesky(inner, lower=True), (new - center).T, lower=True)
    return 1 / np.sum(weight) + np.sum(half**2, axis=0)


def kernel_ridge_variance(gram, cross, own, weight, alpha):
    """The same of a kernel.

    ``cross`` is (new rows, rows), ``own`` the kernel of each new row with itself.
    """
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    inner = root * _centered(gram, gram, share) * root.T + alpha * np.eye(len(gram))
    centered = root * _centered(cross, gram, share).T
    half = solve_triangular(cholesky(inner, lower=True), centered, lower=True)
    square = own - 2 * cross @ share + share @ gram @ share
    return 1 / np.sum(weight) + (square - np.sum(half**2, axis=0)) / alpha


def principal(table):
    """B and lambda, without what is zero to rounding."""
    n_rows, n_entries = table.shape
    longer = max(n_rows, n_entries)
    if n_entries <= n_rows:
        values, vectors = _eigen(table.T @ table, longer)
        return table @ vectors, values
    values, left = _eigen(table @ table.T, longer)
    return left * np.sqrt(values), values


def _eigen(gram, size):
    values, vectors = np.linalg.eigh(gram)
    kept = values > size * np.finfo(float).eps * max(values[-1], 0)
    return values[kept], vectors[:, kept]


def _cv_errors(basis, values, target, share):
    """Penalties, and the sums of squares on rows left out, (penalties, outputs).

    ``target`` is W^1/2 (y - 1 s'y), (rows, outputs).
    """
    basis = np.column_stack([basis, np.sqrt(share)])
    along, alphas = basis.T @ target, ALPHAS * values.max(initial=0)
    shrunk = np.array([1 / np.append(values + alpha, 1.0) for alpha in alphas])
    coef = shrunk[:, :, np.newaxis] * along
    roots = np.sqrt(shrunk)[:, np.newaxis]
    blocks = np.array_split(np.arange(len(target)), min(N_BLOCKS, len(target)))
    errors = 0.0
    for block in blocks:
        of_block = basis[block]
        residual = target[block] - of_block @ coef
        missed = _missed(of_block, residual, roots)
        errors = errors + np.sum(missed**2, axis=1)
    return alphas, errors


def _missed(basis, residual, roots):
    """(1 - H_bb)^-1 r_b for each penalty, by the smaller of two systems."""
    n_rows, n_entries = basis.shape
    eye = (1 + NO_WEIGHT) * np.eye(min(n_rows, n_entries))
    if n_rows <= n_entries:
        halves = (basis * root for root in roots)
        return np.linalg.solve(eye - np.stack([h @ h.T for h in halves]), residual)
    gram = basis.T @ basis
    inner = [
        root.T * np.linalg.solve(eye - root.T * gram * root, root.T * (basis.T @ r))
        for root, r in zip(roots, residual, strict=True)
    ]
    return residual + basis @ np.stack(inner)
