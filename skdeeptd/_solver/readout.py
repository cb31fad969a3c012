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
ROUNDING = 1e-13  # share of the size of F below which its deviations are none
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


def loo_alpha(network, rows, fit_intercept):
    """The penalty of least squared error on rows left out one by one.

    Parameters
    ----------
    network : PatchCNN
        Whose last layer is linear.
    rows : RowBlocks
        Few enough to hold F of all of them.
    fit_intercept : bool

    Returns
    -------
    float
        Zero where F does not vary.
    """
    counts = rows.weight > 0
    weight, y = rows.weight[counts], rows.y[counts]
    features = readout_features(network, rows.X[counts].astype(float))
    share = weight / np.sum(weight) * fit_intercept
    root = np.sqrt(weight)
    table = (features - share @ features) * root[:, np.newaxis]
    target = (y - share @ y) * root
    if np.linalg.norm(table) <= ROUNDING * np.sqrt(np.sum(weight @ features**2)):
        return 0.0
    basis, values = _principal(table)
    along = basis.T @ target
    errors = []
    for alpha in ALPHAS * values.max():
        leverage = share + basis**2 @ (1 / (values + alpha))
        residual = target - basis @ (along / (values + alpha))
        errors.append(np.sum((residual / np.maximum(1 - leverage, NO_WEIGHT)) ** 2))
    return float(ALPHAS[np.argmin(errors)] * values.max())


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
