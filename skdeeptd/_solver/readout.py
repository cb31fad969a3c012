"""The ridge penalty of the readout by leave-one-out.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
F           ``features``        (rows, entries): what the last layer takes, of all
                                filters side by side, each over the norms of its
                                kernels, since these share the penalty
Z           ``table``           (rows, entries): W^1/2 F, with an intercept centred
h_i         ``leverage``        H_ii of the ridge module
==========  ==================  ==================================================

A ridge regression that has not seen row i misses it by r_i / (1 - h_i), where r_i is
the residual of the one that has seen all rows (Golub, Heath and Wahba 1979, equation
1.2).
"""

import numpy as np

from skdeeptd._model.network import layers_forward, patch_order
from skdeeptd._solver.ridge import penalties, principal

ROUNDING = 1e-13  # share of the largest |F| below which its deviations are none


def readout_features(network, X):
    """F of some rows, with an entry per filter and patch."""
    patches = layers_forward(network, patch_order(network, X))[-1].patches
    if patches.ndim == 3:
        return patches[:, 0]
    squares = [np.sum(k**2, axis=1) for k in network.kernels[:-1]]
    norms = np.sqrt(np.prod(squares, axis=0))
    by_row = patches[:, :, 0].transpose(1, 0, 2)
    by_row = by_row / np.where(norms > 0, norms, 1.0)[:, np.newaxis]
    return by_row.reshape(len(X), -1)


@np.errstate(over="ignore", invalid="ignore")
def loo_alpha(network, rows, fit_intercept):
    """The penalty of least squared error on rows left out one by one.

    Parameters
    ----------
    network : PatchCNN
        Whose last layer is linear.
    rows : RowBlocks
        Few enough to hold F of all of them. Of several outputs the errors are added.
    fit_intercept : bool

    Returns
    -------
    float
        Zero where F does not vary.

    Raises
    ------
    FloatingPointError
        Where the squares of F overflow or underflow.
    """
    rows = rows.of_weight()
    weight, y = rows.weight, rows.y
    features = readout_features(network, rows.X.astype(float))
    unit = np.abs(features).max()
    if not (unit == 0 or 0 < unit**2 < np.inf):
        raise FloatingPointError("squares of what the last layer takes have no range")
    share = weight / np.sum(weight) * fit_intercept
    root = np.sqrt(weight)[:, np.newaxis]
    table = (features - share @ features) / (unit or 1.0) * root
    if np.abs(table).max() <= ROUNDING:
        return 0.0
    basis, values = principal(table)
    targets = (y - share @ y).reshape(len(y), -1) * root
    alphas, errors = _loo_errors(basis, values, targets, share)
    return float(alphas[np.argmin(errors.sum(axis=1))] * unit**2)


def _loo_errors(basis, values, target, share):
    """Penalties, and the sums of squares on rows left out, (penalties, outputs)."""
    along = (basis.T @ target).T
    alphas, errors = penalties(values), []
    for alpha in alphas:
        leverage = share + basis**2 @ (1 / (values + alpha))
        residual = target - basis @ (along / (values + alpha)).T
        left = np.maximum(1 - leverage, 1e-10)[:, np.newaxis]
        errors.append(np.sum((residual / left) ** 2, axis=0))
    return alphas, np.array(errors)
