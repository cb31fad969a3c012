"""The one map and reduce over row blocks; nothing else in the package loops over rows.

The rows are cut into tasks of fixed size, independent of the number of jobs, and the
results are added in the order of the rows: the same bits for every ``n_jobs``.
"""

import ctypes
import functools
import itertools
import sys
import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Event, Lock, Thread, local

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController

BLOCK_BYTES = 2**23  # a block of X stays in the cache, and outweighs numpy's overhead
BLOCK_ROWS = 2**12  # what a block makes for each of them fits in little memory
BLOCKS_PER_TASK = 4  # a task outweighs the cost of a limit on BLAS
KEPT_BYTES = 2**24  # an array larger than any that a block needs
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of malloc.h
PARALLEL_BYTES = 2**26  # an X from which on threads outweigh what joblib takes
LONGEST_WAIT = 0.5  # seconds until joblib itself looks whether its threads have ended
KNOWN_TO_JOBLIB = 3e-4  # seconds after which it knows


class _SingleThreadedBLAS:
    """Hold BLAS at one thread while any caller, in any thread, is inside.

    Some limits are those of a thread, others those of the process, which only the
    thread that has set them can lift. So each thread sets its own, and one that lives
    from the first to enter to the last to leave sets that of the process.
    """

    def __init__(self):
        self._lock, self._of_thread = Lock(), local()
        self._inside = 0

    @contextmanager
    def __call__(self):
        if getattr(self._of_thread, "inside", False):
            yield
            return
        self._of_thread.inside = True
        with self._lock:
            if self._inside == 0:
                self._begin()
            self._inside += 1
        try:
            with _controller().limit(limits=1, user_api="blas"):
                yield
        finally:
            self._of_thread.inside = False
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._last_has_left.set()
                    self._keeper.join()

    def _begin(self):
        limited, self._last_has_left = Event(), Event()

        def keep(last_has_left=self._last_has_left):
            with _controller().limit(limits=1, user_api="blas"):
                limited.set()
                last_has_left.wait()

        self._keeper = Thread(target=keep, daemon=True)
        self._keeper.start()
        limited.wait()


@functools.cache
def _controller():
    return ThreadpoolController()


single_threaded_blas = _SingleThreadedBLAS()


def block_length(X):
    """Rows per block of X."""
    length = BLOCK_BYTES // max(1, X.shape[1] * X.itemsize)
    return min(max(1, length), BLOCK_ROWS)


def map_blocks(function, arrays, n_jobs=None, combine=list):
    """``combine`` of the results of ``function`` on the row blocks of a task, per task.

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

    Returns
    -------
    list
        One combined result per task, in the order of the rows.
    """
    n_rows, length = len(arrays[0]), block_length(arrays[0])
    span = length * BLOCKS_PER_TASK

    def task(begin):
        end = min(begin + span, n_rows)
        starts = range(begin, end, length)
        with single_threaded_blas():
            return combine(
                function(*(a[i : min(i + length, end)] for a in arrays)) for i in starts
            )

    begins = range(0, n_rows, span)
    n_threads = min(effective_n_jobs(n_jobs), len(begins))
    _keep_freed_memory()
    with single_threaded_blas():
        if n_threads <= 1 or arrays[0].nbytes < PARALLEL_BYTES:
            return [task(begin) for begin in begins]
        return _in_threads(task, begins, n_threads)


def _in_threads(task, begins, n_threads):
    """``task`` of each of ``begins``, in their order.

    joblib looks every 10 ms whether its threads have ended, which may be half of the
    work; here the last one tells, and joblib, once asked, knows already.
    """
    results, waiting, lock = [None] * len(begins), iter(enumerate(begins)), Lock()
    ended, n_ended = Event(), itertools.count(1)

    def take():
        with lock:
            return next(waiting, None)

    def work():
        try:
            for i, begin in iter(take, None):
                results[i] = task(begin)
        finally:
            if next(n_ended) == n_threads:
                ended.set()

    threads = Parallel(n_threads, require="sharedmem", return_as="generator")(
        delayed(work)() for _ in range(n_threads)
    )
    ended.wait(LONGEST_WAIT)
    time.sleep(KNOWN_TO_JOBLIB)
    list(threads)
    return results


@functools.cache
def _keep_freed_memory():
    """Let the arrays of one block have the memory of the last one's.

    The C library of Linux gives freed memory back to the system, page by page, from
    128 KiB on; a worker of dask has it do so even earlier. New pages cost more than the
    work on a block. What this process keeps from now on is little.
    """
    mallopt = sys.platform == "linux" and getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(M_MMAP_THRESHOLD, KEPT_BYTES)
        mallopt(M_TRIM_THRESHOLD, 2 * KEPT_BYTES)


def add(results):
    """Entry by entry, the sum of tuples of arrays, in their order."""
    return functools.reduce(
        lambda total, new: tuple(a + b for a, b in zip(total, new, strict=True)),
        results,
    )


def _that_count(weight, *arrays):
    """The rows of the arrays whose weight is not zero."""
    counts = weight > 0
    return arrays if counts.all() else tuple(a[counts] for a in arrays)


def even_draws(size, total, rng):
    """One uniform draw from each of ``size`` even parts of 0 to ``total``."""
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
        What a block of X is cast to; None leaves it as it is.
    """

    X: np.ndarray
    y: np.ndarray
    weight: np.ndarray
    n_jobs: int | None = None
    dtype: type | None = None

    @property
    def precision(self):
        """The dtype of the blocks that a statistic sees."""
        return np.dtype(self.dtype or self.X.dtype)

    def pilot(self):
        """The first row, in float64: a block of X and a block of y."""
        first = [np.argmax(self.weight > 0)]
        return self.X[first].astype(float), self.y[first]

    def reduce(self, statistic):
        """Sum of ``statistic(X, y, weight)``, a tuple of arrays, over the blocks.

        Overflow gives inf or NaN without a warning: the caller looks at the sum.
        """

        def of_block(X, y, weight):
            X, y, weight = _that_count(weight, X, y, weight)
            with np.errstate(over="ignore", invalid="ignore"):
                return statistic(X.astype(self.precision, copy=False), y, weight)

        arrays = self.X, self.y, self.weight
        return add(map_blocks(of_block, arrays, self.n_jobs, combine=add))

    def targets(self, summary):
        """``summary(y, weight)`` of the rows, in parts that are in their order."""
        return [summary(*_that_count(self.weight, self.y, self.weight))]

    def with_targets(self, change):
        """The same rows with the y and weight of ``change(y, weight)``."""
        y, weight = change(self.y, self.weight)
        return replace(self, y=y, weight=weight)

    def with_dtype(self, dtype):
        return replace(self, dtype=dtype)

    def sample(self, size, rng):
        """Rows drawn in proportion to their weight, in float64, weighted by how often.

        The total weight is cut into ``size`` even parts and a row drawn from each, so
        that a row of weight two is drawn as two rows of weight one are.
        """
        return self.rows_at(even_draws(size, self._cumulative[-1], rng))

    @functools.cached_property
    def _cumulative(self):
        return np.cumsum(self.weight)

    def rows_at(self, drawn, start=0.0):
        """Rows at points of the cumulative weight, which begins at ``start``."""
        ends = start + self._cumulative
        drawn = np.minimum(np.searchsorted(ends, drawn, side="right"), len(ends) - 1)
        rows, counts = np.unique(drawn, return_counts=True)
        X = self.X[rows].astype(float, copy=False)
        return RowBlocks(X, self.y[rows], counts.astype(float), self.n_jobs)

    def largest(self):
        """The largest ``|X|`` and ``|y|``, NaN where there is one."""

        def of_block(X, y, weight):
            return [np.abs(a).max(initial=0) for a in _that_count(weight, X, y)]

        tasks = map_blocks(of_block, (self.X, self.y, self.weight), self.n_jobs)
        return [np.max(sizes) for sizes in zip(*itertools.chain(*tasks), strict=True)]

    def run(self, function):
        """``function`` of these rows, where they are."""
        return function(self)


def concatenate_blocks(function, X, n_jobs=None):
    """``function(block)`` for each row block of X, concatenated."""
    tasks = map_blocks(function, (X,), n_jobs)
    return np.concatenate([block for task in tasks for block in task])
