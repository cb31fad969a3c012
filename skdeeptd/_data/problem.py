"""The units of a fit: of y, of the weights, and of alpha.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
y           of the rows given   (rows, outputs)
t           ``rows.y``          (rows, outputs): y in units of ``unit``, with an
                                intercept from ``shift`` on
w           ``rows.weight``     (rows,), the largest one 1
W           ``total``           sum of w
==========  ==================  ==================================================

What is fitted sees t and w only, and so does not depend on how y and the weights are
scaled. Only this module knows how to go there and back.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._data.moments import cross_moment
from skdeeptd._data.rows import RowBlocks, add

SMALLEST_MOMENT = 1e-120
SMALLEST_SHARE = 1e-15  # of all weight, that the lightest sample counts with
ROUNDING = 8 * np.finfo(float).eps  # of a mean, below which a difference is none
PILOT_ROWS = 200  # that tell whether the mean of X is large
FEW_ROWS = 1000  # that tell what a network explains of rows held out
MOMENT_ROUNDING = 4.0  # units in the last place of the largest feature
LARGEST_UNIT = 1e152  # whose square leaves room for sums
LARGE_MEAN = 100  # in deviations, from where on float32 loses too many digits


class Problem(NamedTuple):
    """``shift`` is the mean of y, or zero without an intercept.

    ``lightest`` and ``heaviest`` are weights of the rows given, ``feature_size`` is the
    largest feature of some rows.
    """

    rows: RowBlocks
    n_rows: int
    total: float
    lightest: float
    heaviest: float
    shift: np.ndarray
    unit: np.ndarray
    feature_size: float = 0.0

    @property
    def n_samples(self):
        """Where the lightest row counts as one: as many as repeated rows."""
        lightest = self.lightest / self.heaviest
        return round(self.total / max(lightest, SMALLEST_SHARE * self.total))

    @property
    def n_features(self):
        return self.rows.n_features

    @property
    def total_given(self):
        """Sum of the weights of the rows given."""
        return self.heaviest * self.total

    def alpha(self, given):
        """A ridge penalty on rows with the weights given, on those of the problem.

        Raises
        ------
        ValueError
            Where it overflows.
        """
        with np.errstate(over="ignore"):
            alpha = given / self.heaviest
        if not np.isfinite(alpha):
            raise ValueError(
                f"alpha={given} is too large for weights of at most "
                f"{self.heaviest:.3g}: their ratio overflows"
            )
        return alpha

    def alpha_given(self, alpha):
        """The inverse of ``alpha``.

        Raises
        ------
        FloatingPointError
            Where it overflows.
        """
        with np.errstate(over="ignore"):
            given = alpha * self.heaviest
        if not np.all(np.isfinite(given)):
            raise FloatingPointError(
                f"alpha overflows: {np.max(alpha):.3g} for weights of at most "
                f"{self.heaviest:.3g}"
            )
        return given

    def few_rows(self, most=FEW_ROWS):
        """All rows, or a sample where they are many."""
        if self.n_rows <= most:
            return self.rows
        return self.rows.sample(most, np.random.RandomState(0))

    def of_output(self, output):
        return self.rows.with_targets(lambda y, w: (y[:, output].copy(), w))

    def moment(self):
        """The cross-moment in the units of the target, (outputs, features).

        Where it is zero and there is no intercept, that of y that is not centred.
        """
        sums = add(self.rows.targets(lambda y, w: (w @ y, np.sum(w))))
        centre = sums[0] / sums[1]
        moment = cross_moment(self.rows.with_targets(lambda y, w: (y - centre, w)))
        if not np.all(np.any(moment, axis=1)) and np.any(centre):
            moment = np.where(
                np.any(moment, axis=1, keepdims=True), moment, cross_moment(self.rows)
            )
        return self._without_rounding(moment)

    def _without_rounding(self, moment):
        """Zeros for an output whose moment is what features that do not vary leave."""
        eps = np.finfo(self.rows.precision).eps
        rounding = MOMENT_ROUNDING * eps * self.feature_size
        largest = np.abs(moment).max(axis=1, keepdims=True)
        moment = np.where(largest > rounding, moment, 0.0)
        if 0 < np.abs(moment).max() < SMALLEST_MOMENT:
            raise FloatingPointError("squares of numbers like those of X underflow")
        return moment

    def check_weights(self, dtype):
        """Raise FloatingPointError where weights of the size of y / X have no dtype."""
        if self.feature_size == 0:
            return
        with np.errstate(over="ignore"):
            sizes = self.unit / self.feature_size
        for size in sizes:
            if not np.finfo(dtype).tiny < size < np.finfo(dtype).max:
                how = "over" if size > 1 else "under"
                raise FloatingPointError(
                    f"a weight of the size of y over X, {size:.3g}, {how}flows {dtype}"
                )

    def moment_of_target(self, moment):
        return self._without_rounding(moment / self.unit[:, np.newaxis])

    def moment_of_y(self, moment):
        """The inverse of ``moment_of_target``."""
        return moment * self.unit[:, np.newaxis]

    def variance_in_units_of_y(self, variance, output):
        return variance * self.unit[output] ** 2

    def in_units_of_y(self, network, output):
        return network._replace(
            scales=network.scales * self.unit[output],
            intercept=network.intercept * self.unit[output] + self.shift[output],
        )

    def in_units_of_target(self, network, output):
        """The inverse of ``in_units_of_y``."""
        return network._replace(
            scales=network.scales / self.unit[output],
            intercept=(network.intercept - self.shift[output]) / self.unit[output],
        )


@np.errstate(over="ignore", invalid="ignore")
def make_problem(rows, fit_intercept):
    """Standardise the targets by mean and largest size, the weights by the largest.

    An output that differs from its mean by rounding only becomes constant.

    Raises
    ------
    FloatingPointError
        Where the mean or the variance of y overflows, or y underflows.
    """
    extremes = rows.targets(
        lambda y, w: (len(w), w.min(), w.max(), y.min(axis=0), y.max(axis=0))
    )
    counts, lightest, heaviest, lowest, highest = zip(*extremes, strict=True)
    lightest, heaviest = min(lightest), max(heaviest)
    sums = add(rows.targets(lambda y, w: (w / heaviest @ y, np.sum(w / heaviest))))
    mean = sums[0] / sums[1]
    size = np.maximum(np.max(highest, axis=0) - mean, mean - np.min(lowest, axis=0))
    if not np.all(np.isfinite(size)):
        raise FloatingPointError("the mean of y overflows")
    if np.any(size > LARGEST_UNIT):
        raise FloatingPointError("the variance of y overflows")
    largest = np.maximum(size, np.abs(mean))
    if np.any((largest > 0) & (largest < np.finfo(rows.precision).tiny)):
        raise FloatingPointError(f"y underflows {rows.precision}")
    varies = size > ROUNDING * np.abs(mean)
    unit = np.where(varies, size, 1.0)
    back = 0.0 if fit_intercept else mean / unit
    rows = rows.with_targets(
        lambda y, w: (np.where(varies, y - mean, 0.0) / unit + back, w / heaviest)
    )
    problem = Problem(
        rows.with_dtype(float) if _loses_digits(rows) else rows,
        n_rows=sum(counts),
        total=float(sums[1]),
        lightest=lightest,
        heaviest=heaviest,
        shift=mean * fit_intercept,
        unit=unit,
    )
    feature_size, _ = problem.few_rows(PILOT_ROWS).largest()
    return problem._replace(feature_size=feature_size)


def _loses_digits(rows):
    """Whether the mean of a float32 X is too large for sums, on a few of the rows."""
    if rows.precision != np.float32:
        return False

    def sums(X, _, weight):
        return weight @ X, weight @ X**2, np.sum(weight)

    pilot = rows.sample(PILOT_ROWS, np.random.RandomState(0))
    total, square, weight = pilot.run(lambda sample: sample.reduce(sums))
    mean = total / weight
    variance = np.sum(square / weight - mean**2)
    return mean @ mean > LARGE_MEAN**2 * variance
