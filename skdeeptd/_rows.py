"""The one map and reduce over row blocks; nothing else in the package loops over rows.

The rows are cut into tasks of fixed size, independent of the number of jobs, and the
results are added in the order of the rows: the same bits for every ``n_jobs``.
"""

import functools
import threading
from contextlib import contextmanager

import numpy as np
from joblib import effective_n_jobs
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController

BLOCK_BYTES = 2**20  # a block of X stays in a core's cache while it is worked on
BLOCKS_PER_TASK = 16  # a task outweighs the cost of handing it to a thread


class _SingleThreadedBLAS:
    """Hold BLAS at one thread while any caller, in any thread, is inside.

    The limit is global to the process: the first to enter sets it and the last to
    leave restores it, so that callers that overlap cannot restore each other's limit.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._inside = 0
        self._limiter = None

    @contextmanager
    def __call__(self):
        with self._lock:
            if self._inside == 0:
                self._limiter = _controller().limit(limits=1, user_api="blas")
            self._inside += 1
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                if self._inside == 0:
                    self._limiter.restore_original_limits()


@functools.cache
def _controller():
    return ThreadpoolController()


single_threaded_blas = _SingleThreadedBLAS()


def block_length(X):
    """Rows per block of X."""
    return max(1, BLOCK_BYTES // max(1, X.shape[1] * X.itemsize))


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
        return combine(
            function(*(a[i : min(i + length, end)] for a in arrays)) for i in starts
        )

    begins = range(0, n_rows, span)
    one_job = effective_n_jobs(n_jobs) == 1
    with single_threaded_blas():
        if one_job or len(begins) == 1:
            return [task(begin) for begin in begins]
        return Parallel(n_jobs=n_jobs, require="sharedmem")(
            delayed(task)(begin) for begin in begins
        )


def _add(results):
    return functools.reduce(
        lambda total, new: tuple(a + b for a, b in zip(total, new, strict=True)),
        results,
    )


class RowBlocks:
    """Rows of X with target y and weights, seen only as sums over row blocks.

    Parameters
    ----------
    X : array of shape (rows, features)
    y : float64 array of shape (rows,) or (rows, outputs)
    weight : float64 array of shape (rows,)
    n_jobs : int or None
    """

    def __init__(self, X, y, weight, n_jobs=None):
        self._arrays = (X, y, weight)
        self._n_jobs = n_jobs

    def pilot(self):
        """The first row, in float64: a block of X and a block of y."""
        X, y, _ = self._arrays
        return X[:1].astype(float), y[:1]

    def reduce(self, statistic):
        """Sum of ``statistic(X, y, weight)``, a tuple of arrays, over the blocks.

        Overflow gives inf or NaN without a warning: the caller looks at the sum.
        """

        def quiet(*block):
            with np.errstate(over="ignore", invalid="ignore"):
                return statistic(*block)

        return _add(map_blocks(quiet, self._arrays, self._n_jobs, combine=_add))


def concatenate_blocks(function, X, n_jobs=None):
    """``function(block)`` for each row block of X, concatenated."""
    tasks = map_blocks(function, (X,), n_jobs)
    return np.concatenate([block for task in tasks for block in task])
