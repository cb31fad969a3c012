"""The state of a stream of rows: its moment, and a bounded sample of the rows.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
W           ``weight``          (): sum of w_i so far
y_bar       ``y_mean``          (outputs,): weighted mean
x_bar       ``x_mean``          (features,): weighted mean
C           ``cross``           (outputs, features):
                                sum_i w_i (y_i - y_bar) (x_i - x_bar)
q_i         ``priority``        (rows,): w_i / u_i with u_i uniform on (0, 1]
tau         ``threshold``       (): largest priority of a row that is not kept
==========  ==================  ==================================================

Moments of parts are merged as centred sums, never as raw ones (Chan, Golub and LeVeque
1983). The sample is a priority sample (Duffield, Lund and Thorup 2007): the rows of
largest priority, each counted as max(w_i, tau) rows of weight one.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._data.rows import RowBlocks, mean_of_targets

ROOM = 1e3  # for sums of squares below the largest number


class Moment(NamedTuple):
    weight: float
    y_mean: np.ndarray
    x_mean: np.ndarray
    cross: np.ndarray

    def covariance(self):
        """Return S, as in ``moments``."""
        return self.cross / self.weight


class Sample(NamedTuple):
    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    priority: np.ndarray
    threshold: float

    def balanced_weight(self):
        """Return weights that count every row of the stream alike."""
        balanced = np.maximum(self.weight, self.threshold)
        return balanced * (np.sum(self.weight) / np.sum(balanced))


def moment_of(rows):
    """Return the ``Moment`` of rows with y (rows, outputs): one pass.

    Raises
    ------
    FloatingPointError
        If the moment is not finite, because X is not finite or a sum overflows.
    """
    y_mean, weight = mean_of_targets(rows)
    first = rows.first_row()[0]

    def statistic(X, y, weight):
        X = X.astype(float, copy=False) - first
        return ((y - y_mean) * weight[:, np.newaxis]).T @ X, weight @ X

    cross, x_sum = rows.reduce(statistic)
    if not (np.all(np.isfinite(cross)) and np.all(np.isfinite(x_sum))):
        raise FloatingPointError("the cross-moment of X and y overflows")
    if not max(rows.largest()) < np.sqrt(np.finfo(rows.precision).max) / ROOM:
        raise FloatingPointError("squares of numbers like those of X or y overflow")
    return Moment(weight, y_mean, first[0] + x_sum / weight, cross)


def merge(a, b):
    """Return the ``Moment`` of the rows of both."""
    weight = a.weight + b.weight
    y_step, x_step = b.y_mean - a.y_mean, b.x_mean - a.x_mean
    share = b.weight / weight
    return Moment(
        weight,
        a.y_mean + y_step * share,
        a.x_mean + x_step * share,
        a.cross + b.cross + a.weight * share * np.outer(y_step, x_step),
    )


def extend(sample, X, y, weight, capacity, rng):
    """Return the ``Sample`` after further rows, of at most ``capacity`` rows."""
    priority = weight / (1.0 - rng.uniform(size=len(weight)))
    enters = np.flatnonzero(priority > sample.threshold)
    X, y, weight, priority = (
        np.concatenate([old, new[enters]])
        for old, new in zip(sample[:4], (X, y, weight, priority), strict=True)
    )
    order = np.argsort(-priority, kind="stable")
    kept, dropped = np.sort(order[:capacity]), priority[order[capacity:]]
    threshold = max(sample.threshold, np.max(dropped, initial=0.0))
    return Sample(X[kept], y[kept], weight[kept], priority[kept], threshold)


class Stream(NamedTuple):
    """Hold the moment and the sample of the rows so far.

    ``parts`` is the number of batches, ``searched`` the number of rows in the sample
    when other starts were last tried.
    """

    moment: Moment
    sample: Sample
    seed: int
    parts: int = 0
    searched: int = 0

    def extended(self, X, y, weight, capacity, n_jobs=None):
        """Return the stream after further rows.

        Raises
        ------
        ValueError
            If they have another number of outputs.
        FloatingPointError
            If they are not finite, or too large to fit a network to.
        """
        n_outputs = self.sample.y.shape[1]
        if y.shape[1] != n_outputs:
            raise ValueError(
                f"y has {y.shape[1]} outputs, but that of the first call had "
                f"{n_outputs}"
            )
        moment = moment_of(RowBlocks(X, y, weight, n_jobs))
        if self.parts:
            moment = merge(self.moment, moment)
        rng = np.random.RandomState([self.seed, self.parts])
        sample = extend(self.sample, X, y, weight, capacity, rng)
        return self._replace(moment=moment, sample=sample, parts=self.parts + 1)

    @property
    def share_kept(self):
        """Return the share of the weight of all rows that is in the sample."""
        return np.sum(self.sample.weight) / self.moment.weight

    def rows(self, n_jobs=None):
        """Return the sample, with weights that count every row of the stream alike."""
        sample = self.sample
        return RowBlocks(sample.X, sample.y, sample.balanced_weight(), n_jobs)

    def as_dict(self):
        """Return numbers and arrays in dictionaries."""
        parts = {"moment": self.moment._asdict(), "sample": self.sample._asdict()}
        return {**self._asdict(), **parts}


def stream_of(stored):
    """Return the inverse of ``Stream.as_dict``."""
    moment, sample = Moment(**stored["moment"]), Sample(**stored["sample"])
    return Stream(**{**stored, "moment": moment, "sample": sample})


def empty_stream(X, y, seed):
    """Return a ``Stream`` without rows, for rows like those of X and y."""
    sample = Sample(X[:0], y[:0], np.empty(0), np.empty(0), 0.0)
    return Stream(None, sample, seed)
