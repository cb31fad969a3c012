"""What several modules do with Gram matrices and normal equations that may be singular.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
A           ``gram``            (..., n, n), symmetric, no negative eigenvalues
==========  ==================  ==================================================
"""

import numpy as np

SINGULAR = 1e-10  # relative size of the eigenvalues that a pseudo-inverse drops


def pseudo_inverse(gram):
    return np.linalg.pinv(gram, rcond=SINGULAR, hermitian=True)


def diagonal_scale(gram):
    """Roots of the diagonal, 1 where it is zero: divided by them, A has units there."""
    scale = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 0))
    return np.where(scale > 0, scale, 1.0)
