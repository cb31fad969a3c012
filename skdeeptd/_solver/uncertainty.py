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
j(x)' C j(x). With Huber's loss E[psi^2] / E[psi']^2 of the residuals, psi being the
clipped one, stands for sigma^2 (Huber 1981, section 7.6). A is singular, since the norm
of a homogeneous layer's kernel can move to the next layer: C is that of the weights
with these norms held at 1.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._model.network import jacobian
from skdeeptd._model.parameters import (
    add_per_filter,
    n_parameters,
    pack,
    penalty,
    unit_norm_factors,
    units,
    unpack,
    with_free_readout,
    with_unit_kernels,
)
from skdeeptd._model.trunk import trunk_tangent
from skdeeptd._solver.linalg import diagonal_scale, pseudo_inverse
from skdeeptd._solver.normal_equations import fits_in_memory, normal_equations
from skdeeptd._solver.shared import readout_penalty, shared_equations

LEAST_LEFT = 1e-6  # samples that the weights leave over, but for rounding


class Uncertainty(NamedTuple):
    """``covariance`` is None where it would take too much memory."""

    covariance: np.ndarray | None
    noise_variance: float


class _Curvature(NamedTuple):
    inverse: np.ndarray
    mean_jacobian: np.ndarray
    n_weights: float  # as many as the penalty leaves free
    rss: float


@np.errstate(over="ignore", invalid="ignore")
def uncertainty(fit, output):
    """C and sigma^2 of one output of a ``Fit``, in the units of y.

    NaN where there are no more samples than weights: nothing is left to estimate the
    noise from.
    """
    solution, problem = fit.solutions[output], fit.problem
    objective = fit.specs[output].objective
    if not fits_in_memory(n_parameters(solution.network)):
        return Uncertainty(None, np.nan)
    curvature = _curvature(solution, problem.of_output(output), objective)
    n_samples = problem.total_given
    n_weights = curvature.n_weights + objective.fit_intercept
    left = n_samples - n_weights
    enough = min(left, problem.n_rows - n_weights) > LEAST_LEFT
    squares = curvature.rss if solution.squares is None else solution.squares
    noise = squares / left if enough else np.nan  # per unit of heaviest weight
    covariance = np.zeros((n_parameters(solution.network),) * 2)
    covariance[:-1, :-1] = noise * curvature.inverse
    if objective.fit_intercept:
        with_intercept = -covariance[:-1, :-1] @ curvature.mean_jacobian
        covariance[-1, :-1] = covariance[:-1, -1] = with_intercept
        of_mean = noise / problem.total
        covariance[-1, -1] = of_mean - with_intercept @ curvature.mean_jacobian
    network = with_free_readout(solution.network)
    covariance = with_unit_kernels(covariance, network)
    factor = units(network, problem.unit[output]) * unit_norm_factors(network)
    noise_variance = problem.variance_in_units_of_y(noise * problem.heaviest, output)
    return Uncertainty(covariance * np.outer(factor, factor), float(noise_variance))


def _curvature(solution, rows, objective):
    network, equations = solution.network, solution.equations
    if not network.scales.any():
        n_weights = n_parameters(network) - 1
        zeros = np.zeros(n_weights)
        return _Curvature(np.zeros((n_weights,) * 2), zeros, 0.0, solution.loss)
    if equations is None:
        equations = normal_equations(pack(network), network, rows, objective)
        if not np.all(np.isfinite(equations.hessian)):
            rows = rows.with_dtype(float)
            equations = normal_equations(pack(network), network, rows, objective)
    if not np.all(np.isfinite(equations.hessian)):
        raise FloatingPointError("the curvature of the loss overflows")
    of_weights, _, value = penalty(unpack(equations.theta, network))
    scale = diagonal_scale(equations.hessian)
    scaled = np.clip(equations.hessian / scale[:, np.newaxis] / scale, -1, 1)
    inverse = pseudo_inverse(scaled) / scale[:, np.newaxis] / scale
    of_rows = equations.hessian.copy()
    add_per_filter(of_rows, -objective.alpha * of_weights)
    return _Curvature(
        inverse,
        equations.mean_jacobian,
        min(np.sum(inverse * of_rows), len(inverse)),
        equations.loss - objective.alpha * value,
    )


@np.errstate(over="ignore", invalid="ignore")
def uncertainty_together(fit):
    """C and sigma^2 of each output of a ``Fit`` whose outputs share hidden layers.

    With sigma_o^2 of each output and H_o its part of the Schur complement H, the
    weights that are shared have the covariance H^-1 (sum_o sigma_o^2 H_o) H^-1. The
    readout of an output is G^-1 F'W y_o for the true trunk, with the covariance
    sigma_o^2 G^-1, and moves with the trunk by -G^-1 S_o'. Norms that can move forward
    stay.
    """
    solutions, problem, together = fit.solutions, fit.problem, fit.together
    objective, equations = fit.specs[0].objective, together.equations
    n_outputs, n_all = len(solutions), n_parameters(solutions[0].network)
    if not fits_in_memory(n_all):
        return [Uncertainty(None, np.nan)] * n_outputs
    if equations is None:
        return [uncertainty(fit, output) for output in range(n_outputs)]
    found = equations.readout
    equations = shared_equations(found, together.rows, objective, of_each=True)
    crossed, S_solved = equations.crossed, []
    n_entries = crossed.shape[2]
    schurs = []
    for of_output, S in zip(equations.of_outputs, crossed, strict=True):
        S_solved.append(found.solve(S.T))
        schurs.append(of_output - S @ S_solved[-1])
    tangent = trunk_tangent(found.trunk)
    hessian = tangent @ equations.hessian @ tangent
    scale = diagonal_scale(hessian)
    scaled = np.clip(hessian / scale[:, np.newaxis] / scale, -1, 1)
    inverse = pseudo_inverse(scaled) / scale[:, np.newaxis] / scale
    inverse = tangent @ inverse @ tangent
    of_readout = found.solve(np.eye(n_entries))
    ridge = readout_penalty(found.trunk, objective)
    n_own = n_entries - np.sum(of_readout.diagonal() * ridge)
    n_own += float(objective.fit_intercept)
    noises = []
    for schur, square in zip(schurs, equations.squares, strict=True):
        n_weights = n_own + np.sum(inverse * schur)
        left = problem.total_given - n_weights
        enough = min(left, problem.n_rows - n_weights) > LEAST_LEFT
        noises.append(square / left if enough else np.nan)
    middle = sum(noise * schur for noise, schur in zip(noises, schurs, strict=True))
    if np.all(np.isfinite(noises)):
        middle += np.mean(noises) * (equations.hessian - sum(schurs))
    of_trunk = inverse @ middle @ inverse
    places = _places(solutions[0].network, found.trunk)
    result = []
    for o, (solution, noise, solved) in enumerate(
        zip(solutions, noises, S_solved, strict=True)
    ):
        unit = together.units[o]
        network = with_free_readout(solution.network)
        crossing = -solved @ of_trunk
        own = noise * of_readout - crossing @ solved.T
        joint = np.block(
            [[of_trunk, crossing.T * unit], [crossing * unit, own * unit**2]]
        )
        covariance = np.zeros((n_all, n_all))
        covariance[np.ix_(places, places)] = joint
        if objective.fit_intercept:
            mean = np.zeros(n_all - 1)
            mean[places] = np.append(equations.mean_jacobian[o] * unit, found.mean)
            with_intercept = -covariance[:-1, :-1] @ mean
            covariance[-1, :-1] = covariance[:-1, -1] = with_intercept
            of_mean = noise * unit**2 / problem.total
            covariance[-1, -1] = of_mean - with_intercept @ mean
        covariance = with_unit_kernels(covariance, network)
        factor = units(network, problem.unit[o]) * unit_norm_factors(network)
        noise = problem.variance_in_units_of_y(noise * unit**2 * problem.heaviest, o)
        result.append(Uncertainty(covariance * np.outer(factor, factor), float(noise)))
    return result


def _places(network, trunk):
    """Where in theta of an output's network the trunk's weights and its own stand."""
    n_filters, n_hidden = len(network.scales), sum(trunk.sizes[:-1])
    n_own, n_biases = trunk.sizes[-1], len(network.biases)
    width = (n_parameters(network) - 1) // n_filters
    of_trunk = np.r_[0:n_hidden, width - n_biases : width]
    of_own = n_hidden + np.arange(n_own)  # the last kernel, or the scale
    starts = width * np.arange(n_filters)[:, np.newaxis]
    return np.concatenate([(starts + of_trunk).ravel(), (starts + of_own).ravel()])


def output_std(network, covariance, X):
    """Standard deviation of the network's output, (rows,), in float64."""
    by_theta = jacobian(network, X.astype(float, copy=False))[:, :-1]
    variance = np.sum((by_theta @ covariance) * by_theta, axis=1)
    return np.sqrt(np.maximum(variance, 0))
