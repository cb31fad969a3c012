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

from skdeeptd._decomposition import candidate_batches, moment_tensor, outer_product
from skdeeptd._linalg import pseudo_inverse
from skdeeptd._moments import cross_moment
from skdeeptd._network import patch_order

NOISE_DRAWS = 3


def explained_share(tensor, kernels):
    """Share of the energy of a tensor in the span of the kernels' outer products."""
    if not np.any(tensor):
        return 0.0
    tensor = tensor.ravel() / np.abs(tensor).max()
    products = outer_product(kernels)
    with_tensor = products @ tensor
    inverse = pseudo_inverse(products @ products.T)
    return with_tensor @ inverse @ with_tensor / (tensor @ tensor)


def noise_share(rows, blank):
    """Mean share that rank-R approximations explain where y is drawn at random.

    X stays as it is: correlated features, and fewer rows than features, make any moment
    easier to explain.
    """
    rng = np.random.RandomState(0)

    def noise(y, weight):
        draws = rng.standard_normal((len(y), NOISE_DRAWS))
        return draws - np.average(draws, axis=0, weights=weight), weight

    moments = patch_order(blank, cross_moment(rows.with_targets(noise)))
    sizes = tuple(k.shape[1] for k in blank.kernels)
    shares = []
    for moment in moments:
        if not np.any(moment):
            return 0.0
        tensor = moment_tensor(moment / np.abs(moment).max(), sizes)
        factors = next(candidate_batches(tensor, len(blank.scales), rng))[0]
        shares.append(explained_share(tensor, factors))
    return float(np.mean(shares))
