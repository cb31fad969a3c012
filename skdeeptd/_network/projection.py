"""The part of a moment that kernels explain.

==========  ==============  ====================================================
symbol      array           axes
==========  ==============  ====================================================
S           ``moment``      (features,)
K           ``products``    (filters, features): the product k_D o ... o k_1 of the
                            kernels of each filter; entries of patches that share a
                            feature are summed
a           ``factors``     (filters,): a' K is nearest to S
==========  ==============  ====================================================
"""

import functools

import numpy as np

from skdeeptd._network.network import patch_sources, sum_by_feature
from skdeeptd._network.parameters import last_kernel_and_scale, split_gains


def explained_part(network, moment, singular=1e-5):
    """Return the projection of the moment on the products of the kernels, (features,).

    Singular values below ``singular`` of the largest count as zero.
    """
    network, _ = split_gains(network.astype(float))
    unit, _ = last_kernel_and_scale(network)
    sources = patch_sources(network)
    products = np.array(
        [
            sum_by_feature(sources, product, len(moment))
            for product in functools.reduce(_outer, [*network.kernels, unit[0]])
        ]
    )
    factors = np.linalg.lstsq(products.T, moment, rcond=singular)[0]
    return factors @ products


def _outer(products, k):
    """Return products with one layer more; the layers so far run fastest."""
    return (k[:, :, np.newaxis] * products[:, np.newaxis, :]).reshape(len(k), -1)
