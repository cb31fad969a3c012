"""How much the moment looks like that of a patch network of this shape.

==========  ======================  =============================================
symbol      array                   axes
==========  ======================  =============================================
S           ``moment``              (features,), in patch order
K           ``products``            (filters, features): outer product of the
                                    kernels of each filter
share       returned                |projection of S on the span of K|^2 / |S|^2
==========  ======================  =============================================
"""

import numpy as np

from skdeeptd._decomposition import deflation, khatri_rao, moment_tensor
from skdeeptd._linalg import pseudo_inverse
from skdeeptd._moments import cross_moment
from skdeeptd._network import patch_order
from skdeeptd._rows import RowBlocks

NOISE_DRAWS, NOISE_ROWS = 3, 1000


def explained_share(tensor, kernels):
    """Share of the energy of a tensor in the span of the kernels' outer products."""
    if not np.any(tensor):
        return 0.0
    tensor = tensor.ravel() / np.abs(tensor).max()
    products = khatri_rao(kernels, len(kernels[0]))
    with_tensor = products @ tensor
    inverse = pseudo_inverse(products @ products.T)
    return with_tensor @ inverse @ with_tensor / (tensor @ tensor)


def noise_share(problem, blank):
    """Mean share that rank-R approximations explain where y is drawn at random.

    X stays as it is, of many rows some: correlated features, and fewer rows than
    features, make any moment easier to explain.
    """
    rng = np.random.RandomState(0)
    step = -(-len(problem.X) // NOISE_ROWS)
    X, weight = problem.X[::step], problem.weight[::step]
    noise = rng.standard_normal((len(X), NOISE_DRAWS))
    noise -= np.average(noise, axis=0, weights=weight)
    moments = patch_order(blank, cross_moment(RowBlocks(X, noise, weight)))
    sizes = tuple(k.shape[1] for k in blank.kernels)
    shares = []
    for moment in moments:
        if not np.any(moment):
            return 0.0
        tensor = moment_tensor(moment / np.abs(moment).max(), sizes)
        tensor = np.ascontiguousarray(tensor)
        factors = deflation(tensor, len(blank.scales), rng)
        shares.append(explained_share(tensor, factors))
    return float(np.mean(shares))
