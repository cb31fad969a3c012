"""The one map and reduce over row blocks; nothing else in the package loops over rows.

The rows are cut into tasks of fixed size, independent of the number of jobs, and the
results are added in the order of the rows: the same bits for every ``n_jobs``.
"""

import functools
import hashlib
import itertools
from dataclasses import dataclass, replace

import numpy as np
from joblib import effective_n_jobs

from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import in_threads, single_threaded_blas

BLOCK_BYTES = 2**23  # a block of X stays in the cache, and outweighs numpy's overhead
WORK_BYTES = 2**21  # the numbers of a statistic of a block stay in the cache, too
BLOCK_ROWS = 2**12  # bounds the memory of numbers for each row
BLOCKS_PER_TASK = 4  # a task outweighs the cost of a limit on BLAS
PARALLEL_BYTES = 2**26  # for a larger X threads outweigh the overhead of joblib


def block_length(X, width=0, n_sums=0):
    """Return the rows per block of X; a statistic makes ``width`` numbers per row.

    These take about ``WORK_BYTES``, or as much as ``n_sums``: to add the sums of blocks
    of fewer rows would take longer than to compute them.
    """
    length = min(BLOCK_BYTES // max(1, X.shape[1] * X.itemsize), BLOCK_ROWS)
    if width:
        length = min(length, max(WORK_BYTES // X.itemsize, n_sums) // width)
    return max(1, length)


def map_blocks(function, arrays, n_jobs=None, combine=list, width=0, n_sums=0):
    """Apply a function to all row blocks, and combine the results per task.

    Parameters
    ----------
    function : callable
        Pure; takes one row block of each array.
    arrays : sequence of array of shape (rows, ...)
        The first one, X, sets the size of the blocks.
    n_jobs : int or None
        Threads over the tasks.
    combine : callable
        Makes one result of the results of a task's blocks.
    width : int
        Numbers that the function makes for each row.
    n_sums : int
        Numbers that the function returns.

    Returns
    -------
    list
        One combined result per task, in the order of the rows.
    """
    n_rows, length = len(arrays[0]), block_length(arrays[0], width, n_sums)
    span = length * -(-BLOCKS_PER_TASK * block_length(arrays[0]) // length)

    def task(begin):
        end = min(begin + span, n_rows)
        starts = range(begin, end, length)
        with single_threaded_blas():
            return combine(
                function(*(a[i : min(i + length, end)] for a in arrays)) for i in starts
            )

    begins = range(0, n_rows, span)
    n_threads = min(effective_n_jobs(n_jobs), len(begins))
    with single_threaded_blas(), reusing(), np.errstate(under="ignore"):
        if n_threads <= 1 or arrays[0].nbytes < PARALLEL_BYTES:
            return [task(begin) for begin in begins]
        return in_threads(task, begins, n_threads)


def mean_of_targets(rows):
    """Return the weighted mean of y, and the sum of the weights."""
    sums, total = add(rows.targets(lambda y, w: (w @ y, np.sum(w))))
    return sums / total, total


def add(results):
    """Return the sum of tuples of arrays and numbers, in their order."""
    results = iter(results)
    total = [np.array(a, dtype=float) for a in next(results)]
    for new in results:
        for a, b in zip(total, new, strict=True):
            a += b
    return tuple(a if a.ndim else a[()] for a in total)


def _with_weight(weight, *arrays):
    """Return the rows of the arrays whose weight is not zero."""
    counts = weight > 0
    return arrays if counts.all() else tuple(a[counts] for a in arrays)


def even_draws(size, total, rng):
    """Return a uniform draw from each of ``size`` even parts of 0 to ``total``."""
    return (np.arange(size) + rng.uniform(size=size)) * (total / size)


@dataclass(frozen=True)
class RowBlocks:
    """Rows of X with target y and weights, seen only as sums over row blocks.

    Rows of weight zero are as good as absent.

    Parameters
    ----------
    X : array of shape (rows, features)
    y : float64 array of shape (rows,) or (rows, outputs)
    weight : float64 array of shape (rows,), not all zero
    n_jobs : int or None
    dtype : dtype or None
        Blocks of X are cast to this type; None leaves them as they are.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    n_jobs: int | None = None
    dtype: type | None = None

    @property
    def precision(self):
        """Return the dtype of the blocks that a statistic sees."""
        return np.dtype(self.dtype or self.X.dtype)

    @property
    def n_features(self):
        return self.X.shape[1]

    def drop_zero_weight(self):
        """Return the rows whose weight is not zero."""
        X, y, weight = _with_weight(self.weight, self.X, self.y, self.weight)
        return replace(self, X=X, y=y, weight=weight)

    def first_row(self):
        """Return the first row in float64, as a block of X and a block of y."""
        first = [np.argmax(self.weight > 0)]
        return self.X[first].astype(float), self.y[first]

    def reduce(self, statistic, width=0, n_sums=0):
        """Sum of ``statistic(X, y, weight)``, a tuple of arrays, over the blocks.

        The statistic makes ``width`` numbers for each row, besides those of X, and
        returns ``n_sums``, if these are many.
        Overflow gives inf or NaN without a warning: the caller looks at the sum.
        """

        def on_block(X, y, weight):
            X, y, weight = _with_weight(weight, X, y, weight)
            with np.errstate(over="ignore", invalid="ignore"):
                return statistic(X.astype(self.precision, copy=False), y, weight)

        arrays = self.X, self.y, self.weight
        return add(map_blocks(on_block, arrays, self.n_jobs, add, width, n_sums))

    def targets(self, summary):
        """Return ``summary(y, weight)`` of the rows, as a list of ordered parts."""
        return [summary(*_with_weight(self.weight, self.y, self.weight))]

    def with_targets(self, change):
        """Return the rows with the y and weight of ``change(y, weight)``."""
        y, weight = change(self.y, self.weight)
        return replace(self, y=y, weight=weight)

    def with_dtype(self, dtype):
        return replace(self, dtype=dtype)

    def sample(self, size, rng):
        """Draw rows in proportion to their weight; weights count the draws.

        The total weight is cut into ``size`` even parts and a row drawn from each, so
        that a row of weight two is drawn as two rows of weight one are.
        """
        return self.rows_at(even_draws(size, self._cumulative[-1], rng))

    @functools.cached_property
    def _cumulative(self):
        return np.cumsum(self.weight)

    def rows_at(self, drawn, start=0.0):
        """Return rows at points of the cumulative weight, which begins at ``start``."""
        ends = start + self._cumulative
        drawn = np.minimum(np.searchsorted(ends, drawn, side="right"), len(ends) - 1)
        rows, counts = np.unique(drawn, return_counts=True)
        X = self.X[rows].astype(float, copy=False)
        return RowBlocks(X, self.y[rows], counts.astype(float), self.n_jobs)

    def largest(self):
        """Return the largest ``|X|`` and ``|y|``, NaN if there is one."""

        def on_block(X, y, weight):
            return [np.abs(a).max(initial=0) for a in _with_weight(weight, X, y)]

        tasks = map_blocks(on_block, (self.X, self.y, self.weight), self.n_jobs)
        return [np.max(sizes) for sizes in zip(*itertools.chain(*tasks), strict=True)]

    def run(self, function):
        """Return ``function`` of these rows, computed at their place."""
        return function(self)

    run_together = run  # elsewhere they may lie in several places


def concatenate_blocks(function, X, n_jobs=None, width=0):
    """Return ``function(block)`` for each row block of X, concatenated."""
    tasks = map_blocks(function, (X,), n_jobs, width=width)
    return np.concatenate([block for task in tasks for block in task])


def distinct_rows(X, y):
    """Return the first of each kind of equal rows as an index, and the kind of each."""
    first, place = {}, []
    for i, (row, target) in enumerate(zip(X, y, strict=True)):
        key = hashlib.blake2b(row.tobytes() + np.asarray(target).tobytes()).digest()
        place.append(first.setdefault(key, i))
    return np.unique(place, return_inverse=True)
