"""Prediction intervals from residuals of samples that a fit has not seen.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
e_i         ``scores``          (rows, outputs): held-out residual, absolute, over
                                the deviation that the model predicts, if it does
w_i         ``weight``          (rows,)
n           ``n_effective``     (sum w)^2 / sum w^2, the number of rows if all weigh
                                the same
==========  ==================  ==================================================

If a new row is exchangeable with the others, then its score is among the smallest
(n + 1) c of n + 1 scores with probability c, for any model. So the score of that rank
is the half width (Vovk, Gammerman and Shafer 2005; Lei et al. 2018 for regression). No
finite interval has the coverage c if n < c / (1 - c).
"""

import numpy as np


def score_quantile(scores, weight, coverage):
    """Return the score that a new one does not exceed with probability ``coverage``.

    Parameters
    ----------
    scores : array of shape (rows, outputs)
    weight : array of shape (rows,)
        Positive.
    coverage : float

    Returns
    -------
    array of shape (outputs,)
        Infinite if the rows are too few.
    """
    share = weight / np.sum(weight)
    n_effective = 1 / np.sum(share**2)
    level = coverage * (1 + 1 / n_effective)
    order = np.argsort(scores, axis=0, kind="stable")
    rounding = 1e-12
    if level > 1 + rounding:
        return np.full(scores.shape[1], np.inf)
    below = np.cumsum(share[order], axis=0)
    rank = np.argmax(below >= level - rounding, axis=0)
    return np.take_along_axis(scores, order, axis=0)[rank, np.arange(scores.shape[1])]


def fewest_rows(coverage):
    """Return the number of rows that an interval of this coverage needs."""
    return int(np.ceil(coverage / (1 - coverage) - 1e-9))
