"""What several modules do with Gram matrices and normal equations that may be singular.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
A           ``gram``            (..., n, n), symmetric, no negative eigenvalues
==========  ==================  ==================================================
"""

import numpy as np
from scipy.linalg import lapack

SINGULAR = 1e-10  # relative size of the eigenvalues that a pseudo-inverse drops


def pseudo_inverse(gram):
    values, vectors = np.linalg.eigh(gram)
    inverse = _inverse_values(values)
    return (vectors * inverse[..., np.newaxis, :]) @ vectors.swapaxes(-1, -2)


def solve(gram, targets):
    """The pseudo-inverse of each A, of unit diagonal, times its target, (..., n)."""
    try:
        pivots = np.linalg.cholesky(gram).diagonal(axis1=-2, axis2=-1)
    except np.linalg.LinAlgError:
        pivots = np.zeros(1)
    if pivots.min() ** 2 > SINGULAR:
        return np.linalg.solve(gram, targets[..., np.newaxis])[..., 0]
    values, vectors = np.linalg.eigh(gram)
    along = (targets[..., np.newaxis, :] @ vectors)[..., 0, :]
    along *= _inverse_values(values)
    return (vectors @ along[..., np.newaxis])[..., 0]


def _inverse_values(values):
    """Of eigenvalues in ascending order; zero where they are zero to rounding."""
    kept = values > SINGULAR * values[..., -1:]
    return np.where(kept, 1 / np.where(kept, values, 1), 0)


def diagonal_scale(gram):
    """Roots of the diagonal, 1 where it is zero: divided by them, A has units there."""
    scale = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 0))
    return np.where(scale > 0, scale, 1.0)


@np.errstate(over="ignore", invalid="ignore")
def damped_step(hessian, gradient, damping, scale=None):
    """Solve (A + damping * D^2) step = g; also the decrease that A predicts.

    ``damping`` is a number, or one for each parameter, ``scale`` the diagonal of D,
    None for roots of that of A.
    """
    scale = diagonal_scale(hessian) if scale is None else scale
    damped, target = _damped(hessian, scale, damping), gradient / scale
    # Symmetric: its transpose is what LAPACK takes without a copy, and overwrites.
    _, step, failed = lapack.dposv(damped.T, target, overwrite_a=True)
    if failed:
        damped, step = _damped(hessian, scale, damping), np.zeros_like(target)
        if np.all(np.isfinite(damped)):
            step = np.linalg.lstsq(damped, target, rcond=None)[0]
    step = step / scale
    predicted = step @ (2 * gradient - hessian @ step)
    return (step, predicted) if np.isfinite(predicted) else (np.zeros_like(step), 0.0)


def _damped(hessian, scale, damping):
    damped = hessian / scale[:, np.newaxis]
    damped /= scale
    diagonal = np.einsum("ii->i", damped)
    diagonal += damping
    return damped
