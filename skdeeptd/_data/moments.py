"""The centred cross-moment of features and targets, plain and whitened.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
x_i         ``X``               (rows, features)
y_i         ``y``               (rows, outputs), centred: sum_i w_i y_i = 0
w_i         ``weight``          (rows,)
S           ``moment``          (outputs, features): sum_i w_i y_i x_i / sum_i w_i
C           never formed        (features, features): covariance of X
beta        ``coefficients``    (features,): C^-1 S as far as a few steps get
==========  ==================  ==================================================

Since y is centred, S is the covariance of x and y whatever the mean of x. By Stein's
lemma it is E[grad f(x)] for Gaussian x of unit covariance (Oymak and Soltanolkotabi,
arXiv 1805.06523, section 3).
"""

import functools
from typing import NamedTuple

import numpy as np

ROUNDING = 1e-24  # share of the squared norm of S that may be left by rounding


def cross_moment(rows):
    """Return S of rows whose target, (rows, outputs), is centred: one pass.

    Raises
    ------
    FloatingPointError
        If S is not finite, because X is not finite or the sum overflows.
    """

    def statistic(X, y, weight):
        weighted = (y * weight[:, np.newaxis]).astype(X.dtype, copy=False)
        idle = X[~weighted.any(axis=1)]  # some BLAS skip these
        total = (weighted.T @ X).astype(float, copy=False)
        return total, np.sum(weight), np.sum(idle * 0)

    total, weight, of_idle = rows.reduce(statistic)
    if not np.all(np.isfinite(total + of_idle)):
        raise FloatingPointError("the cross-moment of X and y overflows")
    return total / weight


@np.errstate(over="ignore", invalid="ignore")
def whitened_moment(rows, moment, n_steps):
    """Return C^-1 S by ``n_steps`` conjugate gradient steps of one pass each.

    These are the coefficients of partial least squares with as many components: close
    to regression coefficients, but as stable as S for few samples. For correlated
    features they are nearer to the mean gradient than S is.

    Parameters
    ----------
    rows : RowBlocks
    moment : array of shape (features,)
        S of one output.
    n_steps : int

    Returns
    -------
    array of shape (features,)
        ``moment`` itself if its size is out of range.
    """

    def sums(X, _, weight):
        return weight @ X, np.sum(weight)

    total, weight = rows.reduce(sums)
    mean = total / weight

    def project(direction, X, _, weight):
        projected = (X @ direction) * weight
        return projected @ X, np.sum(projected)

    coefficients, rest, direction = np.zeros_like(moment), moment, moment
    square = rest @ rest
    for _ in range(n_steps):
        product, projected = rows.reduce(functools.partial(project, direction))
        product = (product - mean * projected) / weight
        curvature = direction @ product
        if not 0 < curvature < np.inf:
            break
        coefficients = coefficients + square / curvature * direction
        rest = rest - square / curvature * product
        previous, square = square, rest @ rest
        if square <= ROUNDING * (moment @ moment):
            break
        direction = rest + square / previous * direction
    usable = np.any(coefficients) and np.all(np.isfinite(coefficients))
    return coefficients if usable else moment


class CentredSums(NamedTuple):
    """Sums over the rows of columns F and targets y, each minus its mean.

    Without an intercept nothing is subtracted and ``mean`` and ``y_mean`` are zero.
    """

    gram: np.ndarray  # (columns, columns): F'WF
    cross: np.ndarray  # (columns, outputs): F'Wy
    y_squares: np.ndarray  # (outputs,): diagonal of y'Wy
    mean: np.ndarray  # (columns,)
    y_mean: np.ndarray  # (outputs,)
    total: float  # sum of w


@np.errstate(over="ignore", invalid="ignore")
def centred_sums(rows, columns, fit_intercept, width=0, shift=None, far_share=0.999):
    """Return the ``CentredSums`` of ``columns(X)``, (rows, columns): one pass.

    The first row is subtracted from columns and y, so that a mean that is large beside
    the spread costs no digits. If the first row makes up more than ``far_share`` of a
    sum of squares, a second pass subtracts the mean.
    """
    is_first = shift is None
    if is_first:
        X, y = rows.first_row()
        shift = columns(X)[0] * float(fit_intercept), y[0] * float(fit_intercept)
    from_row, n_columns = shift[0].astype(rows.precision), len(shift[0])

    def statistic(X, y, weight):
        F, y, root = columns(X) - from_row, y - shift[1], np.sqrt(weight)
        F *= root.astype(F.dtype)[:, np.newaxis]
        y = y * root[:, np.newaxis]
        return F.T @ F, F.T @ y, np.sum(y**2, axis=0), root @ F, root @ y, root @ root

    gram, cross, y_squares, total_F, total_y, total = rows.reduce(
        statistic, width + 2 * n_columns
    )
    if not fit_intercept:
        zeros = np.zeros(n_columns), np.zeros(len(y_squares))
        return CentredSums(gram, cross, y_squares, *zeros, total)
    mean, y_mean = total_F / total, total_y / total
    off = np.append(mean**2, y_mean**2) * total
    if is_first and np.any(off > far_share * np.append(gram.diagonal(), y_squares)):
        shift = shift[0] + mean, shift[1] + y_mean
        return centred_sums(rows, columns, fit_intercept, width, shift)
    return CentredSums(
        gram - total * np.outer(mean, mean),
        cross - total * np.outer(mean, y_mean),
        np.maximum(y_squares - total * y_mean**2, 0.0),
        shift[0] + mean,
        shift[1] + y_mean,
        total,
    )
