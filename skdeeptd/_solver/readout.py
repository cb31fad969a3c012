"""The ridge penalty of the readout by leave-one-out.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
F           ``features``        (rows, entries): what the last layer takes, of all
                                filters side by side, each over the norms of its
                                kernels, since these share the penalty
w           ``weight``          (rows,)
Z           ``table``           (rows, entries): W^1/2 F, with an intercept centred
lambda_j    ``values``          eigenvalues of Z'Z, or of ZZ' where that is smaller
B           ``basis``           (rows, eigenvalues): Z V, V the eigenvectors
h_i         ``leverage``        w_i / sum w + sum_j B_ij^2 / (lambda_j + alpha)
==========  ==================  ==================================================

A ridge regression that has not seen row i misses it by r_i / (1 - h_i), where r_i is
the residual of the one that has seen all rows (Allen 1974; Golub, Heath and Wahba 1979,
equation 1.2). So all penalties cost one decomposition and no refit.
"""

import numpy as np

from skdeeptd._model.network import layers_forward, patch_order

ALPHAS = np.logspace(1, -9, 31)  # that are tried, in units of the largest eigenvalue
ROUNDING = 1e-13  # share of the largest |F| below which its deviations are none
NO_WEIGHT = 1e-10  # what is left of a row that the others say nothing of


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
    counts = rows.weight > 0
    weight, y = rows.weight[counts], rows.y[counts]
    features = readout_features(network, rows.X[counts].astype(float))
    unit = np.abs(features).max()
    if not (unit == 0 or 0 < unit**2 < np.inf):
        raise FloatingPointError("squares of what the last layer takes have no range")
    share = weight / np.sum(weight) * fit_intercept
    root = np.sqrt(weight)[:, np.newaxis]
    table = (features - share @ features) / (unit or 1.0) * root
    if np.abs(table).max() <= ROUNDING:
        return 0.0
    basis, values = _principal(table)
    targets = [(t - share @ t) * root[:, 0] for t in np.atleast_2d(y.T)]
    alongs = [basis.T @ target for target in targets]
    errors = []
    for alpha in ALPHAS * values.max():
        leverage = share + basis**2 @ (1 / (values + alpha))
        left, error = np.maximum(1 - leverage, NO_WEIGHT), 0.0
        for target, along in zip(targets, alongs, strict=True):
            residual = target - basis @ (along / (values + alpha))
            error += np.sum((residual / left) ** 2)
        errors.append(error)
    return float(ALPHAS[np.argmin(errors)] * values.max() * unit**2)


def _principal(table):
    """B and the eigenvalues that are not zero to rounding."""
    n_rows, n_entries = table.shape
    if n_entries <= n_rows:
        values, vectors = np.linalg.eigh(table.T @ table)
        basis = table @ vectors
    else:
        values, vectors = np.linalg.eigh(table @ table.T)
        basis = vectors * np.sqrt(np.maximum(values, 0))
    kept = values > max(table.shape) * np.finfo(float).eps * values[-1]
    return basis[:, kept], values[kept]
