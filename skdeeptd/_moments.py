"""The centred cross-moment of features and targets.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
x_i         ``X``               (rows, features)
y_i         ``y``               (rows, outputs), centred: sum_i w_i y_i = 0
w_i         ``weight``          (rows,)
S           returned            (outputs, features): sum_i w_i y_i x_i / sum_i w_i
==========  ==================  ==================================================

Since y is centred, S is the covariance of x and y whatever the mean of x. By Stein's
lemma it is E[grad f(x)] for Gaussian x of unit covariance (Oymak and Soltanolkotabi,
arXiv 1805.06523, section 3).
"""

import numpy as np


def cross_moment(rows):
    """S of a ``RowBlocks`` whose target is centred, (rows, outputs): one pass."""

    def statistic(X, y, weight):
        weighted = (y * weight[:, np.newaxis]).astype(X.dtype, copy=False)
        return (weighted.T @ X).astype(float, copy=False), np.sum(weight)

    total, weight = rows.reduce(statistic)
    if not np.all(np.isfinite(total)):
        raise FloatingPointError("the cross-moment of X and y overflows")
    return total / weight
