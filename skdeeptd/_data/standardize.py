"""The units of a fit: of y, of the weights, and of alpha.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
y           of the rows given   (rows, outputs)
t           ``rows.y``          (rows, outputs): y in units of ``unit``, with an
                                intercept minus ``shift``
w           ``rows.weight``     (rows,), the largest one 1
W           ``total``           sum of w
==========  ==================  ==================================================

The solvers see t and w only, so they do not depend on how y and the weights are scaled.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._data.moments import cross_moment
from skdeeptd._data.rows import RowBlocks, add, mean_of_targets


class Standardized(NamedTuple):
    """Rows with standardised targets and weights.

    ``shift`` is the mean of y, or zero without an intercept. ``lightest`` and
    ``heaviest`` are weights of the rows given, ``feature_size`` is the largest feature
    of some rows.
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
        """Count weighted rows as repeated rows: the lightest row counts as one."""
        lightest = self.lightest / self.heaviest
        return round(self.total / max(lightest, 1e-15 * self.total))

    def alpha(self, given):
        """Return a penalty for the weights given as one for the weights w.

        Raises
        ------
        ValueError
            If it overflows.
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
        """Return the inverse of ``alpha``.

        Raises
        ------
        FloatingPointError
            If it overflows.
        """
        with np.errstate(over="ignore"):
            given = alpha * self.heaviest
        if not np.all(np.isfinite(given)):
            raise FloatingPointError(
                f"alpha overflows: {np.max(alpha):.3g} for weights of at most "
                f"{self.heaviest:.3g}"
            )
        return given

    def few_rows(self, most=1000):
        """Return all rows, or a sample if they are more than ``most``."""
        if self.n_rows <= most:
            return self.rows
        return self.rows.sample(most, np.random.RandomState(0))

    def of_outputs(self, outputs):
        """Return the rows with the targets of some outputs."""
        return self.rows.with_targets(lambda y, w: (y[:, outputs], w))

    def moment(self):
        """Return the cross-moment in the units of t, (outputs, features).

        If it is zero and there is no intercept, return the moment of y not centred.
        """
        centre, _ = mean_of_targets(self.rows)
        moment = cross_moment(self.rows.with_targets(lambda y, w: (y - centre, w)))
        is_zero = ~np.any(moment, axis=1, keepdims=True)
        if np.any(is_zero) and np.any(centre):
            moment = np.where(is_zero, cross_moment(self.rows), moment)
        return self.without_rounding(moment)

    def without_rounding(self, moment):
        """Set a moment to zero if it is rounding error of constant features."""
        rounding = 4 * np.finfo(self.rows.precision).eps * self.feature_size
        largest = np.abs(moment).max(axis=1, keepdims=True)
        moment = np.where(largest > rounding, moment, 0.0)
        if 0 < np.abs(moment).max() < 1e-120:
            raise FloatingPointError("squares of numbers like those of X underflow")
        return moment

    def check_weights(self, dtype):
        """Raise FloatingPointError if weights of the size of y / X have no dtype."""
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

    def in_units_of_y(self, network, outputs):
        """Return a network of t as one of y."""
        unit, shift = self.unit[outputs], self.shift[outputs]
        network = network.with_flat_heads(network.flat_heads * unit[:, np.newaxis])
        return network._replace(intercept=network.intercept * unit + shift)

    def in_units_of_target(self, network, outputs):
        """Return the inverse of ``in_units_of_y``."""
        unit, shift = self.unit[outputs], self.shift[outputs]
        network = network.with_flat_heads(network.flat_heads / unit[:, np.newaxis])
        return network._replace(intercept=(network.intercept - shift) / unit)


def has_room(dtype, smallest, largest, room=1e6):
    """Return whether numbers of these sizes, or zero, are far from its limits."""
    info = np.finfo(dtype)
    return largest < info.max / room and not 0 < smallest < info.tiny * room


@np.errstate(over="ignore", invalid="ignore")
def standardize(rows, fit_intercept, equal_losses=False, *, n_first_rows=200):
    """Divide the targets by their largest distance from the mean.

    The weights are divided by the largest one. With ``equal_losses`` the mean square of
    each target is 1, so that the units of several outputs do not matter. An output that
    differs from its mean by rounding only becomes constant.

    Raises
    ------
    FloatingPointError
        If the mean or the variance of y overflows, or y underflows.
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
    if np.any(size > 1e152):  # whose square leaves no room for sums
        raise FloatingPointError("the variance of y overflows")
    largest = np.maximum(size, np.abs(mean))
    if np.any((largest > 0) & (largest < np.finfo(rows.precision).tiny)):
        raise FloatingPointError(f"y underflows {rows.precision}")
    varies = size > 8 * np.finfo(float).eps * np.abs(mean)
    unit = np.where(varies, size, 1.0)

    def in_units(unit):
        back = 0.0 if fit_intercept else mean / unit
        return rows.with_targets(
            lambda y, w: (np.where(varies, y - mean, 0.0) / unit + back, w / heaviest)
        )

    if equal_losses:
        squares, total = add(in_units(unit).targets(lambda t, w: (w @ t**2, np.sum(w))))
        root = np.sqrt(squares / total)
        unit = unit * np.where(root > 0, root, 1.0)
    scaled = in_units(unit)
    found = Standardized(
        scaled.with_dtype(float) if _loses_digits(scaled, n_first_rows) else scaled,
        n_rows=sum(counts),
        total=float(sums[1]),
        lightest=lightest,
        heaviest=heaviest,
        shift=mean * fit_intercept,
        unit=unit,
    )
    feature_size, _ = found.few_rows(n_first_rows).largest()
    return found._replace(feature_size=feature_size)


def _loses_digits(rows, n_sample, large_mean=100):
    """Return whether the mean of a float32 X is too large for sums, in spreads."""
    if rows.precision != np.float32:
        return False

    def sums(X, _, weight):
        return weight @ X, weight @ X**2, np.sum(weight)

    sample = rows.sample(n_sample, np.random.RandomState(0))
    total, square, weight = sample.run(lambda sample: sample.reduce(sums))
    mean = total / weight
    variance = np.sum(square / weight - mean**2)
    return mean @ mean > large_mean**2 * variance
