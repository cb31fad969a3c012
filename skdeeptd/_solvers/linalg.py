"""Gram matrices and normal equations that may be singular.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
A           ``gram``            (..., n, n), symmetric, no negative eigenvalues
==========  ==================  ==================================================
"""

import numpy as np
from scipy.linalg import lapack


def pseudo_inverse(gram, singular=1e-10):
    """Return the pseudo-inverse of each A.

    Eigenvalues below ``singular`` times the largest one count as zero.
    """
    values, vectors = np.linalg.eigh(gram)
    kept = values > singular * values[..., -1:]
    inverse = np.where(kept, 1 / np.where(kept, values, 1), 0)
    return (vectors * inverse[..., np.newaxis, :]) @ vectors.swapaxes(-1, -2)


def solve(gram, targets, singular=1e-10):
    """Return the pseudo-inverse of each A, of unit diagonal, times (..., n, k)."""
    try:
        pivots = np.linalg.cholesky(gram).diagonal(axis1=-2, axis2=-1)
    except np.linalg.LinAlgError:
        pivots = np.zeros(1)
    if pivots.min() ** 2 > singular:
        return np.linalg.solve(gram, targets)
    return pseudo_inverse(gram, singular) @ targets


def unit_diagonal(gram):
    """Return A scaled to units on its diagonal, and the roots of the diagonal.

    A root is 1 in place of 0.
    """
    scale = np.sqrt(np.maximum(np.diagonal(gram, axis1=-2, axis2=-1), 0))
    scale = np.where(scale > 0, scale, 1.0)
    return gram / scale[..., :, np.newaxis] / scale[..., np.newaxis, :], scale


@np.errstate(over="ignore", invalid="ignore")
def damped_step(hessian, gradient, damping, scale):
    """Return the solution of (A + damping D^2) step = g, and the predicted decrease.

    ``damping`` is a number, ``scale`` the diagonal of D.
    """
    damped, target = _damped(hessian, scale, damping), gradient / scale
    # The matrix is symmetric; LAPACK overwrites its transpose without a copy.
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
