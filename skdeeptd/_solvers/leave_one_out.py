"""The ridge penalty of the heads by leave-one-out.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
F           ``features``        (rows, R P): the values that the heads see, those of
                                each filter over the norms of its hidden kernels,
                                which share the penalty
Z           ``table``           (rows, R P): W^1/2 F, centred with an intercept
==========  ==================  ==================================================
"""

import numpy as np

from skdeeptd._network.network import head_features, hidden_forward
from skdeeptd._network.parameters import squared_norms
from skdeeptd._solvers.ridge import (
    SINGLE_ROWS,
    Smoother,
    cv_sums,
    penalties,
    principal,
)


@np.errstate(over="ignore", invalid="ignore")
def loo_alpha(network, rows, fit_intercept):
    """Return the penalty of least squared error on rows left out one by one.

    Parameters
    ----------
    network : Network
    rows : RowBlocks
        Few enough to hold F of all of them. The errors of several outputs are added.
    fit_intercept : bool

    Returns
    -------
    float
        Zero if F does not vary.

    Raises
    ------
    FloatingPointError
        If the squares of F overflow or underflow.
    """
    rows = rows.drop_zero_weight()
    X, weight, y = rows.X.astype(float), rows.weight, rows.y
    features = head_features(network, hidden_forward(network, X), X)
    norms = np.sqrt(squared_norms(network))
    features = features / np.repeat(np.where(norms > 0, norms, 1.0), network.sizes[-1])
    unit = np.abs(features).max()
    if not (unit == 0 or 0 < unit**2 < np.inf):
        raise FloatingPointError(
            "squares of the inputs of the last layer have no range"
        )
    share = weight / np.sum(weight) * fit_intercept
    root = np.sqrt(weight)[:, np.newaxis]
    table = (features - share @ features) / (unit or 1.0) * root
    if np.abs(table).max() <= 1e-13:  # rounding
        return 0.0
    left, values = principal(table)
    alphas = penalties(values)
    none = np.empty((0, len(values))), np.empty((0, 0))
    smoother = Smoother(left, values, np.sqrt(share)[:, np.newaxis], *none)
    target = (y - share @ y) * root
    errors = cv_sums(smoother, target, alphas, SINGLE_ROWS)[0].sum(axis=1)
    return float(alphas[np.argmin(errors)] * unit**2)
