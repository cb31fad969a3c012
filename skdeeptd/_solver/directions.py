"""Directions in which a polish moves the parameters of a network.

==========  ======================  ==========================================
symbol      array                   axes
==========  ======================  ==========================================
theta       ``theta``               (parameters,), the last one the intercept
A, g        ``hessian``,            of all of theta but the intercept
            ``gradient``
B           ``Directions``          (parameters - 1, free)
a           ``readout``             the part of theta that the output is linear in
==========  ======================  ==========================================
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._model.parameters import owners, readout
from skdeeptd._solver.linalg import damped_step

LARGEST_DAMPING = 1e8  # that a step is tried with
LEAST_SHARE = 1e-6  # of the largest derivative's square among filters
LOSS_ROUNDING = 1e-14  # of a loss, left when a better readout takes the rest away
READOUT_DAMPING = 1e-7  # less would amplify rounding where rows do not settle it


class Directions(NamedTuple):
    """B, with one entry per row: its value, and its column, which never decreases."""

    values: np.ndarray
    columns: np.ndarray

    def restrict(self, hessian, gradient):
        """B'AB and B'g."""
        starts = np.flatnonzero(np.diff(self.columns, prepend=-1))
        with np.errstate(over="ignore", invalid="ignore"):
            hessian = hessian * self.values[:, np.newaxis] * self.values
        hessian = np.add.reduceat(np.add.reduceat(hessian, starts, axis=0), starts, 1)
        return hessian, np.add.reduceat(gradient * self.values, starts)

    def expand(self, step):
        """The change of the parameters that a step in the columns makes."""
        return self.values * step[self.columns]

    def damping(self, diagonal, damping, smallest):
        return damping

    def with_best_readout(self, equations, smallest):
        return equations


class Everything(NamedTuple):
    """B for parameters that all move by themselves."""

    readout: np.ndarray
    owner: np.ndarray  # of each parameter in its filter, as ``owners`` numbers them

    def restrict(self, hessian, gradient):
        return hessian, gradient

    def expand(self, step):
        return step

    @np.errstate(over="ignore")
    def damping(self, diagonal, damping, smallest):
        """More for what hardly changes the output, as where a filter is near zero."""
        largest = np.zeros(self.owner.max() + 1)
        np.maximum.at(largest, self.owner, diagonal)
        floor = LEAST_SHARE * largest[self.owner]
        more = floor / np.where(diagonal > 0, diagonal, np.inf)
        more = damping * np.clip(more, 1.0, LARGEST_DAMPING / damping)
        return np.where(self.readout, max(smallest, READOUT_DAMPING), more)

    def with_best_readout(self, equations, smallest):
        """The equations where the readout is the best one for the other parameters."""
        entries = np.flatnonzero(self.readout)
        if len(entries) == 0 or not np.isfinite(equations.loss):
            return equations
        hessian = equations.hessian[np.ix_(entries, entries)]
        damping = max(smallest, READOUT_DAMPING)
        step, decrease = damped_step(hessian, equations.gradient[entries], damping)
        change = np.zeros(len(equations.gradient))
        change[entries] = step
        return moved_by(equations, change)._replace(
            gradient=equations.gradient - equations.hessian[:, entries] @ step,
            loss=max(equations.loss - decrease, LOSS_ROUNDING * equations.loss),
            stale=decrease,
        )


def everything(theta, like):
    """Free every parameter but the intercept by itself."""
    return Everything(readout(like), np.tile(owners(like), len(like.scales)))


def moved_by(equations, change):
    """With the intercept that goes with a change of the other parameters."""
    intercept = 0.0
    if equations.fit_intercept:
        intercept = -equations.mean_jacobian @ change
    return equations._replace(theta=equations.theta + np.append(change, intercept))


def gains(theta, like):
    """Free the norm of each kernel, each scale and each bias."""
    owner, n_filters = owners(like), len(like.scales)
    n_owners = owner[-1] + 1
    columns = (n_owners * np.arange(n_filters)[:, np.newaxis] + owner).ravel()
    is_kernel = np.tile(owner < len(like.kernels), n_filters)
    return Directions(np.where(is_kernel, theta[:-1], 1.0), columns)
