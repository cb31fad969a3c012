"""Ridge and kernel ridge regression with a cross-validated penalty, and covariates.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
F           ``features``        (rows, entries)
K           ``gram``            (rows, rows): F F' or another kernel of the rows
w           ``weight``          (rows,)
s           ``share``           (rows,): w over its sum, zeros without an intercept
C           ``covariates``      (rows, covariates): of about unit spread
T           ``directions``      (covariates, rank): V / D, where W^1/2 (C - 1 s'C) has
                                the singular value decomposition U D V'
B           ``basis``           (rows, 1 + rank): s^1/2, and W^1/2 (C - 1 s'C) T
Z           ``table``           (rows, entries): (1 - B B') W^1/2 F
lambda_j    ``values``          eigenvalues of Z Z'
U           ``left``            (rows, eigenvalues): its eigenvectors
H                               (rows, rows): B B' + U lambda/(lambda+alpha) U'
Q           ``apart``           1 - B B' - U U', which the features do not reach
1 - H                           Q + U alpha/(lambda+alpha) U'
M           ``mixed``           (rank, eigenvalues): B' W^1/2 F Z'U lambda^-1/2
G           ``free``            (rows, covariates): (B - U lambda^1/2/(lambda+alpha) M')
                                T', with which G' W^1/2 y are the slopes
==========  ==================  ==================================================

The penalty is chosen by cross-validation. The residuals of a ridge regression without
the rows b are (1 - H_bb)^-1 r_b, with the residuals r of the fit to all rows (Allen
1974 for single rows). So all penalties cost one decomposition and no refit. A
row is held out with all of its weight. The last line of the table gives 1 - H without
cancellation, however small the penalty is.

Covariates enter linearly and without a penalty: like the intercept they are projected
out of y and of the features (Frisch, Waugh and Lovell). If held-out rows alone
determine a slope, then 1 - H_bb is singular. A penalty delta on the slopes adds
delta G G' to 1 - H, to first order: these rows are predicted with a slope of zero.

The posterior of the mean of y is that of a Gaussian process with covariance K over
alpha and noise of variance 1 / w, both in units of ``scale``. Under it the held-out
residuals of a block have the covariance (1 - H_bb)^-1 in these units. With ``scale``
their standardised squares are one on average; in-sample residuals do not determine it,
because they vanish if the regression interpolates.
"""

import functools
from typing import NamedTuple

import numpy as np


class Ridge(NamedTuple):
    """Hold y = intercept + F coef, or intercept + K(., rows) coef, and covariates.

    ``coef`` is (entries or rows, outputs). ``intercept``, ``alpha`` and the following
    are (outputs,): ``cv_error``, the weighted mean of squared held-out residuals, and
    ``scale``, the unit of the posterior variance; both NaN for a single row.
    ``center`` (entries or rows,), ``vectors`` (entries or rows, directions) and
    ``values`` are the principal directions of F or of K(., rows). ``held_out`` is
    (rows, outputs): predictions by fits that have not seen the row. ``variance``, of
    the same shape, is that of y in the posterior of the other rows over ``scale``.
    ``slopes``, (covariates, outputs), multiply covariates less their mean. ``basis`` is
    B, ``directions`` T, and ``basis_center``, (rank, entries or rows), is B' times
    W^1/2 F, or times W^1/2 K(., rows).
    """

    coef: np.ndarray
    intercept: np.ndarray
    alpha: np.ndarray
    cv_error: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    vectors: np.ndarray
    values: np.ndarray
    held_out: np.ndarray
    variance: np.ndarray
    slopes: np.ndarray
    basis: np.ndarray
    directions: np.ndarray
    basis_center: np.ndarray


class Smoother(NamedTuple):
    """Hold U, lambda, B, M and T, which give 1 - H for each penalty."""

    left: np.ndarray
    values: np.ndarray
    basis: np.ndarray
    mixed: np.ndarray
    directions: np.ndarray

    def reaches_all_rows(self):
        """Return whether Q is zero, which rounding would hide from small penalties."""
        n_columns = np.count_nonzero(self.basis.any(axis=0))
        return self.left.shape[1] + n_columns == len(self.left)

    def kept_shares(self, alphas):
        """Return alpha / (lambda + alpha), (penalties, eigenvalues)."""
        return alphas[:, np.newaxis] / (self.values + alphas[:, np.newaxis])

    def free(self, alphas, rows, least=1e-9):
        """Return delta^1/2 G of some rows, (penalties, rows, covariates).

        delta is ``least`` times the mean of 1 - H_ii over the norm of T'T.
        """
        n_apart = len(self.left) - self.left.shape[1] - self.basis.shape[1]
        total = self.kept_shares(alphas).sum(axis=1) + max(n_apart, 0)
        norm = np.abs(self.directions).sum() or 1.0
        size = np.sqrt(least * total / len(self.left))[:, np.newaxis, np.newaxis] / norm
        shrunk = np.sqrt(self.values) / (self.values + alphas[:, np.newaxis])
        pulls = shrunk[:, :, np.newaxis] * self.mixed.T
        along = self.basis[rows, 1:] - self.left[rows] @ pulls
        return size * (along @ self.directions.T)

    def one_less_leverage(self, alphas):
        """Return 1 - H_ii of all rows, (penalties, rows); 1 for a single row."""
        squares = self.left**2
        apart = 1 - np.sum(self.basis**2, axis=1) - squares.sum(axis=1)
        apart = np.maximum(apart, 0) * (not self.reaches_all_rows())
        free = np.sum(self.free(alphas, slice(None)) ** 2, axis=2)
        rest = apart + self.kept_shares(alphas) @ squares.T + free
        return np.where(rest > 0, rest, 1)


def basis_of(weight, covariates=None, least=1e-6):
    """Return B and T of covariates, (rows, covariates), or of none.

    Directions whose singular value is below ``least`` of the largest one are left out.
    """
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    if covariates is None:
        covariates = np.empty((len(weight), 0))
    table = (covariates - share @ covariates) * root
    left, values, right = np.linalg.svd(table, full_matrices=False)
    kept = values > least * values.max(initial=0)
    basis = np.column_stack([np.sqrt(share), left[:, kept]])
    return basis, right[kept].T / values[kept]


def without(basis, table):
    """Return a table less its part along the covariates."""
    along = basis[:, 1:]
    return table - along @ (along.T @ table)


def without_covariates(y, weight, covariates):
    """Return y, (rows, outputs), less its regression on the covariates."""
    basis, _ = basis_of(weight, covariates)
    root = np.sqrt(weight)[:, np.newaxis]
    return without(basis, root * y) / root if basis.shape[1] > 1 else y


class Validation(NamedTuple):
    """Hold the folds and the kind of penalty of a cross-validation.

    ``blocks`` are arrays of rows that are held out together, each row in one; None
    holds out single rows. ``per_output`` chooses a penalty for each output.
    """

    blocks: tuple | None = None
    per_output: bool = True

    def of_rows(self, rows):
        """Return the same for some of the rows, a sorted index.

        If all of these are in one block, then they are held out one by one.
        """
        if self.blocks is None:
            return self
        blocks = [np.flatnonzero(np.isin(rows, block)) for block in self.blocks]
        blocks = tuple(block for block in blocks if len(block))
        return self._replace(blocks=blocks if len(blocks) > 1 else None)


SINGLE_ROWS = Validation()


def cv_ridge(features, y, weight, validation=SINGLE_ROWS, covariates=None):
    """Fit a ridge regression with an intercept.

    Parameters
    ----------
    features : array of shape (rows, entries)
    y : array of shape (rows, outputs)
    weight : array of shape (rows,)
        Positive.
    validation : Validation
    covariates : array of shape (rows, covariates) or None

    Returns
    -------
    Ridge
    """
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    basis, directions = basis_of(weight, covariates)
    center = share @ features
    centered = (features - center) * root
    table = without(basis, centered)
    left, values = principal(table)
    vectors = table.T @ (left / np.sqrt(values))
    basis_center = basis[:, 1:].T @ centered
    smoother = Smoother(left, values, basis, basis_center @ vectors, directions)
    centers = center, basis_center
    return _solve(smoother, y, weight, validation, vectors, centers)


def cv_kernel_ridge(gram, y, weight, validation=SINGLE_ROWS, covariates=None):
    """Fit a kernel ridge regression with an intercept; ``gram`` is K."""
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    basis, directions = basis_of(weight, covariates)
    center = share @ gram
    centered = gram - center - (gram @ share)[:, np.newaxis] + center @ share
    size = weight @ np.diag(gram)  # centring leaves rounding errors of this size
    table = without(basis, without(basis, root * centered * root.T).T)
    values, left = _eigen(table, len(gram), size)
    left = without(basis, left)
    dual = root * left / np.sqrt(values)
    vectors = dual - np.outer(share, dual.sum(axis=0))
    basis_center = basis[:, 1:].T @ (root * (gram - center))
    smoother = Smoother(left, values, basis, basis_center @ vectors, directions)
    centers = center, basis_center
    return _solve(smoother, y, weight, validation, vectors, centers)


def _solve(smoother, y, weight, validation, vectors, centers):
    left, values, basis, _, directions = smoother
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    y_mean, alphas = share @ y, penalties(values)
    target = (y - y_mean) * root
    errors = cv_sums(smoother, target, alphas, validation)[0]
    if not validation.per_output:
        errors = np.repeat(errors.sum(axis=1, keepdims=True), y.shape[1], axis=1)
    best = _largest_of_the_best(errors)
    alpha = alphas[best]
    used = np.unique(best)
    *sums, held_out = cv_sums(smoother, target, alphas[used], validation, True)
    place, output = np.searchsorted(used, best), np.arange(y.shape[1])
    residual = held_out[place, :, output].T / root
    shrunk = np.sqrt(values)[:, np.newaxis] / (values[:, np.newaxis] + alpha)
    coef = vectors @ (shrunk * (left.T @ target))
    center, basis_center = centers
    intercept = y_mean - center @ coef
    slopes = directions @ (basis[:, 1:].T @ target - basis_center @ coef)
    several = 1.0 if len(y) > 1 else np.nan
    cv_error = several * sums[0][place, output] / np.sum(weight)
    scale = several * sums[1][place, output] / len(y)
    rest = smoother.one_less_leverage(alphas[used])[place].T
    variance = 1 + (1 / rest - 1) / weight[:, np.newaxis]
    return Ridge(
        coef,
        intercept,
        alpha,
        cv_error,
        scale,
        center,
        vectors,
        values,
        y - residual,
        variance,
        slopes,
        basis,
        directions,
        basis_center,
    )


def _largest_of_the_best(errors, tie=1e-3):
    """Return the index of the largest penalty of least error, for each output.

    Penalties fall along axis 0. If the regression interpolates, the errors converge,
    and rounding would choose among the last ones.
    """
    return np.argmax(errors <= (1 + tie) * errors.min(axis=0), axis=0)


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


def principal(table, least=1e-12):
    """Return U and lambda; eigenvalues below ``least`` of the largest one are rounding.

    The smallest penalty exceeds them a thousand times.
    """
    n_rows, n_entries = table.shape
    longer = max(n_rows, n_entries)
    if n_entries > n_rows:
        values, left = _eigen(table @ table.T, longer, least=least)
        return left, values
    values, vectors = _eigen(table.T @ table, longer, least=least)
    return table @ vectors / np.sqrt(values), values


def _eigen(gram, n_terms, size=0.0, least=0.0):
    """Return eigenvalues above the rounding errors of sums of ``n_terms`` numbers.

    ``size`` is the largest intermediate result if that exceeds the eigenvalues.
    """
    values, vectors = np.linalg.eigh(gram)
    rounding = max(n_terms * np.finfo(float).eps, least)
    kept = values > rounding * max(values[-1], size)
    return values[kept], vectors[:, kept]


def cv_sums(smoother, target, alphas, validation, with_residuals=False):
    """Return sums over held-out rows for each penalty, (penalties, outputs) each.

    The sums are of squared held-out residuals, and of held-out times in-sample
    residuals. ``with_residuals`` appends the held-out residuals, (penalties, rows,
    outputs). ``target`` is W^1/2 (y - 1 s'y), (rows, outputs).
    """
    left, _, basis, *_ = smoother
    along = left.T @ target
    of_penalty = smoother.kept_shares(alphas)[:, :, np.newaxis] * along
    beyond = target - basis @ (basis.T @ target) - left @ along
    if smoother.reaches_all_rows():
        beyond = np.zeros_like(target)
    slopes = smoother.free(alphas, slice(None)).swapaxes(1, 2) @ target
    kept = np.empty((len(alphas), *target.shape)) if with_residuals else None
    sums = np.zeros((2, len(alphas), target.shape[1]))
    for rows, held_out_of in _blocks(validation, smoother, alphas):
        residual = beyond[rows] + left[rows] @ of_penalty
        residual += smoother.free(alphas, rows) @ slopes
        held_out = held_out_of(residual)
        sums += np.sum(held_out * np.stack([held_out, residual]), axis=2)
        if with_residuals:
            kept[:, rows] = held_out
    return (*sums, kept) if with_residuals else sums


def _blocks(validation, smoother, alphas, n_together=256):
    """Yield rows, and a function from their residuals to the held-out ones."""
    if validation.blocks is None:
        rest = smoother.one_less_leverage(alphas)
        for begin in range(0, len(smoother.left), n_together):
            rows = slice(begin, begin + n_together)
            yield rows, lambda residual, rows=rows: residual / rest[:, rows, np.newaxis]
        return
    for rows in validation.blocks:
        yield rows, functools.partial(_held_out, smoother, alphas, rows)


def _held_out(smoother, alphas, rows, residual):
    """Return (1 - H_bb)^-1 r_b for each penalty, by the smaller system."""
    left, basis = smoother.left[rows], smoother.basis[rows]
    shares, free = smoother.kept_shares(alphas), smoother.free(alphas, rows)
    n_rows, n_entries = len(left), left.shape[1] + basis.shape[1]
    if n_rows <= n_entries:
        apart = np.eye(n_rows) - left @ left.T - basis @ basis.T
        apart = apart * (not smoother.reaches_all_rows())
        inner = np.stack([left * share @ left.T for share in shares])
        return np.linalg.solve(apart + inner + free @ free.swapaxes(1, 2), residual)
    known, found = np.column_stack([left, basis]), np.empty_like(residual)
    gram, ones = known.T @ known, np.ones(basis.shape[1])
    for i, share in enumerate(shares):  # 1 - H_bb is 1 - own factors own'
        own = np.column_stack([known, free[i]])
        cross = own.T @ free[i]
        products = np.column_stack([np.vstack([gram, cross[:n_entries].T]), cross])
        factors = np.concatenate([1 - share, ones, -np.ones(free.shape[2])])
        factors = factors[:, np.newaxis]
        system = np.eye(len(products)) - factors * products
        inner = np.linalg.solve(system, factors * (own.T @ residual[i]))
        found[i] = residual[i] + own @ inner
    return found
