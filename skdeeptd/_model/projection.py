"""The part of a moment that kernels explain.

==========  ==============  ====================================================
symbol      array           axes
==========  ==============  ====================================================
S           ``moment``      (features,)
K           ``products``    (filters, positions in patch order): k_D o ... o k_1
                            of the kernels of each filter, padding included
a           ``factors``     (filters,): a' K is nearest to S
==========  ==============  ====================================================
"""

import functools

import numpy as np

from skdeeptd._model.network import patch_order
from skdeeptd._model.parameters import split_gains

SINGULAR = 1e-5  # relative size of the singular values that a projection drops


def explained_part(network, moment):
    """Projection of the moment on the outer products of the kernels, (features,)."""
    kernels = split_gains(network.astype(float))[0]
    products = functools.reduce(_outer, kernels)
    in_order = patch_order(network, moment[np.newaxis])[0]
    factors = np.linalg.lstsq(products.T, in_order, rcond=SINGULAR)[0]
    part = factors @ products
    if network.order is None:
        return part
    explained = np.empty(len(moment))
    known = network.order >= 0
    explained[network.order[known]] = part[known]
    return explained


def _outer(products, k):
    """Products of one layer more: those so far run fastest, as patches do."""
    return (k[:, :, np.newaxis] * products[:, np.newaxis, :]).reshape(len(k), -1)
