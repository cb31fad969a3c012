"""The part of a moment that kernels explain.

==========  ==============  ====================================================
symbol      array           axes
==========  ==============  ====================================================
S           ``moment``      (features,)
K           ``products``    (filters, features): the product k_D o ... o k_1 of the
                            kernels of each filter, seen through the patches:
                            entries that meet in one feature are summed
a           ``factors``     (filters,): a' K is nearest to S
==========  ==============  ====================================================
"""

import functools

import numpy as np

from skdeeptd._model.network import patch_sources, sum_by_feature
from skdeeptd._model.parameters import split_gains

SINGULAR = 1e-5  # relative size of the singular values that a projection drops


def explained_part(network, moment):
    """Projection of the moment on the outer products of the kernels, (features,)."""
    kernels = split_gains(network.astype(float))[0]
    sources = patch_sources(network)
    products = [
        sum_by_feature(sources, product, len(moment))
        for product in functools.reduce(_outer, kernels)
    ]
    products = np.array(products)
    factors = np.linalg.lstsq(products.T, moment, rcond=SINGULAR)[0]
    return factors @ products


def _outer(products, k):
    """Products of one layer more: those so far run fastest, as patches do."""
    return (k[:, :, np.newaxis] * products[:, np.newaxis, :]).reshape(len(k), -1)
