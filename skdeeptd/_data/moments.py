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

import numpy as np

ROUNDING = 1e-24  # share of the squared norm of S that may be left by rounding


def cross_moment(rows):
    """S of a ``RowBlocks`` whose target is centred, (rows, outputs): one pass.

    Raises
    ------
    FloatingPointError
        Where it is not finite: X is not, in any row, or the sum overflows.
    """

    def statistic(X, y, weight):
        weighted = (y * weight[:, np.newaxis]).astype(X.dtype, copy=False)
        idle = X[~weighted.any(axis=1)]  # which some BLAS skip
        total = (weighted.T @ X).astype(float, copy=False)
        return total, np.sum(weight), np.sum(idle * 0)

    total, weight, of_idle = rows.reduce(statistic)
    if not np.all(np.isfinite(total + of_idle)):
        raise FloatingPointError("the cross-moment of X and y overflows")
    return total / weight


@np.errstate(over="ignore", invalid="ignore")
def whitened_moment(rows, moment, n_steps):
    """C^-1 S by ``n_steps`` conjugate gradient steps, one pass over the rows each.

    These are the coefficients of partial least squares with as many components: close
    to regression coefficients, but as stable as S where samples are few. For correlated
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
        ``moment`` itself where its size is out of range.
    """

    def sums(X, _, weight):
        return weight @ X, np.sum(weight)

    total, weight = rows.reduce(sums)
    mean = total / weight

    def covariance_times(direction):
        def statistic(X, _, weight):
            projected = (X @ direction) * weight
            return projected @ X, np.sum(projected)

        product, projected = rows.reduce(statistic)
        return (product - mean * projected) / weight

    coefficients, rest, direction = np.zeros_like(moment), moment, moment
    square = rest @ rest
    for _ in range(n_steps):
        product = covariance_times(direction)
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
