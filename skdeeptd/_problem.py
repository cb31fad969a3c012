"""The data of one fit in units that do not depend on how y and the weights are scaled.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
y           ``y``               (rows, outputs)
t           ``target``          (rows, outputs): y in units of ``unit``, with an
                                intercept from ``mean`` on
w           ``weight``          (rows,), the largest one 1
==========  ==================  ==================================================
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._moments import cross_moment
from skdeeptd._rows import RowBlocks

SMALLEST_MOMENT = 1e-120
ROUNDING = 8 * np.finfo(float).eps  # of a mean, below which a difference is none


class Problem(NamedTuple):
    """``shift`` is the mean of y, or zero without an intercept."""

    X: np.ndarray
    target: np.ndarray
    weight: np.ndarray
    heaviest: float
    shift: np.ndarray
    unit: np.ndarray
    n_jobs: int | None

    def count(self):
        """Samples, where the lightest one counts as one: as many as repeated rows."""
        return round(np.sum(self.weight) / np.min(self.weight))

    def rows(self, output):
        return RowBlocks(
            self.X, self.target[:, output].copy(), self.weight, self.n_jobs
        )

    def moment(self):
        """The cross-moment in the units of the target, (outputs, features).

        Where it is zero and there is no intercept, that of y that is not centred.
        """
        centre = np.average(self.target, axis=0, weights=self.weight)
        rows = RowBlocks(self.X, self.target - centre, self.weight, self.n_jobs)
        moment = cross_moment(rows)
        if not np.all(np.any(moment, axis=1)) and np.any(centre):
            raw = RowBlocks(self.X, self.target, self.weight, self.n_jobs)
            moment = np.where(
                np.any(moment, axis=1, keepdims=True), moment, cross_moment(raw)
            )
        if 0 < np.abs(moment).max() < SMALLEST_MOMENT:
            raise FloatingPointError("squares of numbers like those of X underflow")
        return moment

    def in_units_of_y(self, network, output):
        return network._replace(
            scales=network.scales * self.unit[output],
            intercept=network.intercept * self.unit[output] + self.shift[output],
        )


def make_problem(X, y, weight, fit_intercept, n_jobs):
    """Drop rows of weight zero, and standardise the targets by mean and largest size.

    An output that differs from its mean by rounding only becomes constant.

    Raises
    ------
    FloatingPointError
        Where the mean of y overflows.
    """
    counts = weight > 0
    if not np.all(counts):
        X, y, weight = X[counts], y[counts], weight[counts]
    heaviest = weight.max()
    weight = weight / heaviest
    with np.errstate(over="ignore", invalid="ignore"):
        mean = np.average(y, axis=0, weights=weight)
        size = np.abs(y - mean).max(axis=0)
    if not np.all(np.isfinite(size)):
        raise FloatingPointError("the mean of y overflows")
    varies = size > ROUNDING * np.abs(mean)
    unit = np.where(varies, size, 1.0)
    target = np.where(varies, y - mean, 0.0) / unit
    if not fit_intercept:
        target, mean = target + mean / unit, np.zeros(len(mean))
    return Problem(X, target, weight, heaviest, mean, unit, n_jobs)
