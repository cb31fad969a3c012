"""Ridge and kernel ridge regression with a cross-validated penalty, and covariates.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
F           ``features``        (rows, entries)
K           ``gram``            (rows, rows): F F' or another kernel of the rows
w           ``weight``          (rows,)
s           ``share``           (rows,): w over its sum, zeros without an intercept
C           ``covariates``      (rows, covariates): of about unit spread
T           ``directions``      (covariates, covariates), see below
B           ``basis``           (rows, 1 + covariates): s^1/2, and W^1/2 (C - 1 s'C) T
R                               (rows, rows): the root of 1 - B B'
Z           ``table``           (rows, entries): R W^1/2 F
lambda_j    ``values``          eigenvalues of Z Z'
U           ``left``            (rows, eigenvalues): R times its eigenvectors
H                               (rows, rows): B B' + U lambda/(lambda+alpha) U'
Q           ``apart``           1 - B B' - U U', which the features do not reach
1 - H                           Q + U alpha/(lambda+alpha) U'
==========  ==================  ==================================================

The penalty is chosen by cross-validation. The residuals of a ridge regression without
the rows b are (1 - H_bb)^-1 r_b, where r are the residuals of the one with all rows
(Allen 1974 for single rows). So all penalties cost one decomposition and no refit. A
row is held out with all of its weight. The last line of the table gives 1 - H without
cancellation, however small the penalty is.

Covariates enter linearly, with a penalty that is negligible: it is ``least`` times the
largest eigenvalue of their products, so that covariates may be constant or collinear,
and a row may be held out that alone determines a coefficient. If D^2 and V are
eigenvalues and eigenvectors of these products, then T = V (D^2 + penalty)^-1/2. The
covariates are projected out of y and of the features by R (Frisch, Waugh and Lovell).

The posterior of the mean of y is that of a Gaussian process with covariance K over
alpha and noise of variance 1 / w, both in units of ``scale``. Under it the held-out
residuals of a block have the covariance (1 - H_bb)^-1 in these units. ``scale`` is what
makes their standardised squares one on average; in-sample residuals do not determine
it, because they vanish if the regression interpolates.
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
    ``trend`` is the ``Trend`` of the covariates. ``trend_coef``, (covariates, outputs),
    multiplies covariates less their mean; ``trend_center``, (covariates, entries or
    rows), is B' times W^1/2 F, or times W^1/2 K(., rows).
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
    trend: "Trend"
    trend_coef: np.ndarray
    trend_center: np.ndarray


class Trend(NamedTuple):
    """Hold s^1/2 and the covariates as the ``basis`` B, and ``directions`` T.

    ``factor``, (covariates,), gives the root R of 1 - B B'.
    """

    basis: np.ndarray
    directions: np.ndarray
    factor: np.ndarray

    def project(self, table):
        """Return R times a table whose columns have the mean zero."""
        basis = self.basis[:, 1:]
        return table - basis @ (self.factor[:, np.newaxis] * (basis.T @ table))


def trend_of(weight, covariates=None, least=1e-10):
    """Return the ``Trend`` of covariates, (rows, covariates), or of none."""
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    if covariates is None:
        covariates = np.empty((len(weight), 0))
    table = (covariates - share @ covariates) * root
    squares, vectors = np.linalg.eigh(table.T @ table)
    penalty = least * (squares.max(initial=0) or 1.0)
    penalized = np.maximum(squares, 0) + penalty
    directions = vectors / np.sqrt(penalized)
    basis = np.column_stack([np.sqrt(share), table @ directions])
    return Trend(basis, directions, 1 / (1 + np.sqrt(penalty / penalized)))


class Validation(NamedTuple):
    """Say how to choose a penalty.

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
    trend, center = trend_of(weight, covariates), share @ features
    centered = (features - center) * root
    table = trend.project(centered)
    left, values = principal(table)
    vectors = table.T @ (left / np.sqrt(values))
    centers = center, trend.basis[:, 1:].T @ centered
    return _solve(
        trend.project(left), values, y, weight, validation, trend, centers, vectors
    )


def cv_kernel_ridge(gram, y, weight, validation=SINGLE_ROWS, covariates=None):
    """Fit a kernel ridge regression with an intercept; ``gram`` is K."""
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    trend, center = trend_of(weight, covariates), share @ gram
    centered = gram - center - (gram @ share)[:, np.newaxis] + center @ share
    size = weight @ np.diag(gram)  # centring leaves rounding errors of this size
    projected = trend.project(trend.project(root * centered * root.T).T)
    values, left = _eigen(projected, len(gram), size)
    left = trend.project(left)
    dual = root * left / np.sqrt(values)
    vectors = dual - np.outer(share, dual.sum(axis=0))
    centers = center, trend.basis[:, 1:].T @ (root * (gram - center))
    return _solve(left, values, y, weight, validation, trend, centers, vectors)


def _solve(left, values, y, weight, validation, trend, centers, vectors):
    share, root = weight / np.sum(weight), np.sqrt(weight)[:, np.newaxis]
    y_mean, alphas = share @ y, penalties(values)
    target = (y - y_mean) * root
    problem = left, values, trend.basis, target
    errors = cv_sums(*problem, alphas, validation)[0]
    if not validation.per_output:
        errors = np.repeat(errors.sum(axis=1, keepdims=True), y.shape[1], axis=1)
    best = _largest_of_the_best(errors)
    alpha = alphas[best]
    used = np.unique(best)
    *sums, held_out = cv_sums(*problem, alphas[used], validation, True)
    place, output = np.searchsorted(used, best), np.arange(y.shape[1])
    residual = held_out[place, :, output].T / root
    shrunk = np.sqrt(values)[:, np.newaxis] / (values[:, np.newaxis] + alpha)
    coef = vectors @ (shrunk * (left.T @ target))
    center, trend_center = centers
    intercept = y_mean - center @ coef
    trend_coef = trend.directions @ (
        trend.basis[:, 1:].T @ target - trend_center @ coef
    )
    several = 1.0 if len(y) > 1 else np.nan
    cv_error = several * sums[0][place, output] / np.sum(weight)
    scale = several * sums[1][place, output] / len(y)
    kept_shares = _kept_shares(values, alphas[used])
    rest = _one_less_leverage(left, trend.basis, kept_shares)[place].T
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
        trend,
        trend_coef,
        trend_center,
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


def cv_sums(left, values, basis, target, alphas, validation, with_residuals=False):
    """Return sums over held-out rows for each penalty, (penalties, outputs) each.

    The sums are of squared held-out residuals, and of held-out times in-sample
    residuals; behind them stand the held-out residuals, (penalties, rows, outputs), if
    asked for. ``target`` is W^1/2 (y - 1 s'y), (rows, outputs).
    """
    kept_shares, along = _kept_shares(values, alphas), left.T @ target
    beyond = target - basis @ (basis.T @ target) - left @ along
    of_penalty = kept_shares[:, :, np.newaxis] * along
    if _reach_all_rows(left, basis):
        beyond = np.zeros_like(target)
    kept = np.empty((len(alphas), *target.shape)) if with_residuals else None
    sums = np.zeros((2, len(alphas), target.shape[1]))
    for rows, held_out_of in _blocks(validation, left, basis, kept_shares):
        residual = beyond[rows] + left[rows] @ of_penalty
        held_out = held_out_of(residual)
        sums += np.sum(held_out * np.stack([held_out, residual]), axis=2)
        if with_residuals:
            kept[:, rows] = held_out
    return (*sums, kept) if with_residuals else sums


def _kept_shares(values, alphas):
    """Return alpha / (lambda + alpha), (penalties, eigenvalues)."""
    return alphas[:, np.newaxis] / (values + alphas[:, np.newaxis])


def _reach_all_rows(left, basis):
    """Tell whether Q is zero, which rounding would hide from small penalties."""
    return left.shape[1] + np.any(basis[:, 0]) == len(left)


def _one_less_leverage(left, basis, kept_shares):
    """Return 1 - H_ii of all rows, (penalties, rows); 1 for a single row."""
    squares = left**2
    apart = np.maximum(1 - np.sum(basis**2, axis=1) - squares.sum(axis=1), 0)
    rest = (not _reach_all_rows(left, basis)) * apart + kept_shares @ squares.T
    return np.where(rest > 0, rest, 1)


def _blocks(validation, left, basis, kept_shares, n_together=256):
    """Yield rows, and a function from their residuals to the held-out ones."""
    if validation.blocks is None:
        rest = _one_less_leverage(left, basis, kept_shares)
        for begin in range(0, len(left), n_together):
            rows = slice(begin, begin + n_together)
            yield rows, lambda residual, rows=rows: residual / rest[:, rows, np.newaxis]
        return
    share_apart = float(not _reach_all_rows(left, basis))
    for rows in validation.blocks:
        own = np.column_stack([left[rows], basis[rows]])
        yield rows, functools.partial(_held_out, own, kept_shares, share_apart)


def _held_out(own, kept_shares, share_apart, residual):
    """Return (1 - H_bb)^-1 r_b for each penalty, by the smaller system.

    ``own`` holds the rows of U and B.
    """
    n_rows, n_entries = own.shape
    n_basis = n_entries - kept_shares.shape[1]
    shares = np.pad(kept_shares, ((0, 0), (0, n_basis)))
    if n_rows <= n_entries:
        apart = share_apart * (np.eye(n_rows) - own @ own.T)
        inner = np.stack([own * share @ own.T for share in shares])
        return np.linalg.solve(apart + inner, residual)
    gram, roots = own.T @ own, np.sqrt(1 - shares)[:, :, np.newaxis]
    inner = [
        root * np.linalg.solve(np.eye(n_entries) - root * gram * root.T, root * along)
        for root, along in zip(roots, own.T @ residual, strict=True)
    ]
    return residual + own @ np.stack(inner)
