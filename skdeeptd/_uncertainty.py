"""Covariance of the weights and of the predictions of a polished network.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
theta       ``pack(network)``   (parameters,): with the intercept, the last one
A           ``hessian``         (parameters - 1,) squared: J'WJ plus the penalty
C           ``covariance``      (parameters, parameters): of theta
sigma^2     ``noise_variance``  rss / (n - m): of y around the network
j(x)        a row of J          (parameters,): derivative of the output at x
==========  ==================  ==================================================

As in nonlinear least squares, C = sigma^2 A^-1, and the output at x has variance
j(x)' C j(x). A is singular, since the norm of a homogeneous layer's kernel can move to
the next layer: C is that of the weights with these norms held at 1.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._activations import ACTIVATIONS
from skdeeptd._linalg import diagonal_scale, pseudo_inverse
from skdeeptd._network import jacobian, pack, unpack
from skdeeptd._polish import penalty

LEAST_LEFT = 1e-6  # samples that the weights leave over, but for rounding


class Uncertainty(NamedTuple):
    covariance: np.ndarray
    noise_variance: float


@np.errstate(over="ignore", invalid="ignore")
def uncertainty(result, objective, problem, output):
    """C and sigma^2 of a ``Polished``, in the units of y.

    NaN where there are no more samples than weights: nothing is left to estimate the
    noise from.
    """
    n_samples = problem.heaviest * problem.total
    n_parameters = len(pack(result.network))
    if result.equations is None:
        inverse = np.zeros((n_parameters - 1,) * 2)
        mean_jacobian, n_weights, rss = np.zeros(n_parameters - 1), 0.0, result.loss
    else:
        equations = result.equations
        curvature, _, value = penalty(equations.network)
        scale = diagonal_scale(equations.hessian)
        scale = np.outer(scale, scale)
        inverse = pseudo_inverse(equations.hessian / scale) / scale
        mean_jacobian = equations.mean_jacobian
        n_weights = np.sum(inverse * (equations.hessian - objective.alpha * curvature))
        rss = equations.loss - objective.alpha * value
    n_weights += objective.fit_intercept
    left = n_samples - n_weights
    enough = min(left, problem.n_rows - n_weights) > LEAST_LEFT
    noise_variance = problem.heaviest * rss / left if enough else np.nan
    covariance = np.zeros((n_parameters,) * 2)
    covariance[:-1, :-1] = noise_variance / problem.heaviest * inverse
    if objective.fit_intercept:
        with_intercept = -covariance[:-1, :-1] @ mean_jacobian
        covariance[-1, :-1] = covariance[:-1, -1] = with_intercept
        of_mean = noise_variance / n_samples
        covariance[-1, -1] = of_mean - with_intercept @ mean_jacobian
    covariance = _with_unit_kernels(covariance, result.network)
    unit = problem.unit[output]
    ones = unpack(np.ones(n_parameters), result.network)
    factor = pack(ones._replace(scales=unit * ones.scales, intercept=unit))
    return Uncertainty(
        covariance * np.outer(factor, factor), float(noise_variance * unit**2)
    )


def _with_unit_kernels(covariance, network):
    """C after ``normalize``: P C P', where P is the derivative of the latter.

    Per filter and homogeneous layer, ``moves`` holds the direction that leaves the
    network as it is (the kernel and its bias grow, what comes next shrinks), and
    ``norms`` the derivative of the kernel's norm.
    """
    n_parameters, moves, norms = len(covariance), [], []
    for r, layer in np.ndindex(len(network.scales), len(network.kernels)):
        homogeneous = ACTIVATIONS[network.activations[layer]].homogeneous
        if not homogeneous or not np.any(network.kernels[layer][r]):
            continue
        norm, move = (unpack(zeros, network) for zeros in np.zeros((2, n_parameters)))
        norm.kernels[layer][r] = move.kernels[layer][r] = network.kernels[layer][r]
        if layer < len(network.biases):
            move.biases[layer][r] = network.biases[layer][r]
        if layer + 1 < len(network.kernels):
            move.kernels[layer + 1][r] = -network.kernels[layer + 1][r]
        else:
            move.scales[r] = -network.scales[r]
        moves.append(pack(move))
        norms.append(pack(norm))
    if not moves:
        return covariance
    moves, norms = np.array(moves), np.array(norms)
    projection = np.linalg.solve(norms @ moves.T, norms)
    half = covariance - moves.T @ (projection @ covariance)
    return half - (half @ projection.T) @ moves


def output_std(network, covariance, X):
    """Standard deviation of the network's output, (rows,), in float64."""
    by_theta = jacobian(network, X.astype(float, copy=False))[:, :-1]
    variance = np.sum((by_theta @ covariance) * by_theta, axis=1)
    return np.sqrt(np.maximum(variance, 0))
