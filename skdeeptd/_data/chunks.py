"""Map and reduce over the chunks of dask collections, with the methods of RowBlocks.

Each pass runs one task per chunk, on the worker that holds the chunk. The results are
added in groups of fixed size, in the order of the rows, so their bits depend neither on
the number of workers nor on the order in which tasks end. Only sums and samples travel.
"""

import functools
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from skdeeptd._data.rows import RowBlocks, add, even_draws
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._optional import optional

dask = optional("dask", extra="dask")
cloudpickle = optional("cloudpickle", extra="dask")


@dataclass(frozen=True)
class Scheduler:
    """Run tasks on the cluster of ``client``, or on the default scheduler of dask."""

    client: Any = None

    def compute(self, tasks):
        """Return the results of the tasks."""
        return self._run(dask.compute, tasks)

    def persist(self, tasks):
        """Start the tasks, and return tasks whose results stay on the workers."""
        return self._run(dask.persist, tasks)

    def _run(self, run, tasks):
        try:
            with nullcontext() if self.client is None else self.client.as_current():
                return run(*tasks, scheduler=self.client)
        except Exception as error:
            is_closed = getattr(self.client, "status", "running") != "running"
            if not is_closed and not isinstance(error, CancelledError):
                raise
            cause = (
                f"{self.client} was closed; keep the client open until the end"
                if is_closed
                else "X, y or sample_weight may have chunks that another client has "
                "persisted; persist all of them with the client that is to work on them"
            )
            raise RuntimeError(f"{error} {cause}") from error


def task(function, *arguments):
    """Make a task with a random name, since hashing its arguments would be slow.

    The function travels as bytes: arrays that dask takes out of a function arrive
    unaligned, see ``aligned``.
    """
    call = dask.delayed(call_pickled, name=None, pure=False, traverse=False)
    return call(cloudpickle.dumps(function), *arguments)


def add_results(tasks, scheduler, results_per_task=16):
    """Add the results of the tasks by a tree of tasks."""
    while len(tasks) > results_per_task:
        groups = range(0, len(tasks), results_per_task)
        tasks = [task(add, tasks[i : i + results_per_task]) for i in groups]
    return add(scheduler.compute(tasks))


class Chunk(NamedTuple):
    """Hold tasks for rows of X, and for y, float64 (rows, outputs), and the weights.

    ``local_targets`` is y and the weights themselves if they are small, else None.
    """

    X: Any
    targets: Any
    n_rows: int
    local_targets: tuple | None


@dataclass(frozen=True)
class ChunkedRows:
    """Rows in chunks, with the methods of ``RowBlocks``.

    A function that travels may hold these rows; they travel without their chunks, and
    on a worker the function gets the rows of one chunk instead.

    Parameters
    ----------
    chunks : list of Chunk
        Each has a row of positive weight.
    scheduler : Scheduler
    read : callable
        Converts a chunk of X to an array of shape (rows, features).
    n_features : int
    precision : dtype
    n_jobs : int or None
        Threads of a task.
    first : tuple of array
        X, y and the weight of the first row, as in the chunks.
    changes : tuple of callable
        The functions given to ``with_targets`` so far.
    """

    chunks: list
    scheduler: Scheduler
    read: Callable
    n_features: int
    precision: np.dtype
    n_jobs: int | None = None
    first: tuple = ()
    changes: tuple = ()

    def __getstate__(self):
        return {**vars(self), "chunks": [], "scheduler": Scheduler()}

    def with_first(self):
        """Return the same rows, after reading the first one."""
        [first] = self.scheduler.compute(self._tasks(first_row, [0]))
        return replace(self, first=first)

    def first_row(self):
        X, *targets = self.first
        return X, self.read_targets(*targets).y

    def reduce(self, statistic, width=0, n_sums=0):
        tasks = self._tasks(lambda rows: rows.reduce(statistic, width, n_sums))
        return add_results(tasks, self.scheduler)

    def largest(self):
        parts = self.scheduler.compute(self._tasks(lambda rows: rows.largest()))
        return [np.max(sizes) for sizes in zip(*parts, strict=True)]

    def targets(self, summary):
        """Return ``summary(y, weight)`` of each chunk, without reading X."""

        def summarize(targets):
            return self.read_targets(*targets).targets(summary)[0]

        if all(chunk.local_targets for chunk in self.chunks):
            return [summarize(chunk.local_targets) for chunk in self.chunks]
        tasks = [task(summarize, chunk.targets) for chunk in self.chunks]
        return list(self.scheduler.compute(tasks))

    def with_targets(self, change):
        """Return the rows with ``change(y, weight)``, which must work row by row."""
        return replace(self, changes=(*self.changes, change))

    def with_dtype(self, dtype):
        return replace(self, precision=np.dtype(dtype))

    def sample(self, size, rng):
        """Draw rows onto one worker; only chunks with drawn rows are read."""
        ends = np.cumsum(self.targets(lambda y, w: np.cumsum(w)[-1]))
        drawn = even_draws(size, ends[-1], rng)
        chunk_of = np.searchsorted(ends, drawn, side="right")
        chunk_of = np.minimum(chunk_of, len(self.chunks) - 1)
        starts = np.append(0.0, ends)
        parts = []
        for i in np.unique(chunk_of):
            take = functools.partial(drawn_rows, drawn[chunk_of == i], starts[i])
            parts += self._tasks(take, [i])
        return GatheredRows(parts, self.scheduler, self.n_jobs)

    def run(self, function, most_rows_together=1000, most_bytes_together=2**26):
        """Run ``function`` on one worker if the rows are few, else here, by passes."""
        n_rows = sum(chunk.n_rows for chunk in self.chunks)
        n_bytes = n_rows * self.n_features * self.precision.itemsize
        if n_rows <= most_rows_together or n_bytes <= most_bytes_together:
            return self.run_together(function)
        return function(self)

    def run_together(self, function):
        """Run ``function`` on one worker, which loads all rows."""
        tasks = self._tasks(arrays)
        return GatheredRows(tasks, self.scheduler, self.n_jobs).run(function)

    def _tasks(self, function, chosen=None):
        """Make a task per chunk, or per chosen one: ``function`` of its RowBlocks."""

        def run(X, targets):
            return function(self.read_chunk(X, *targets))

        chosen = range(len(self.chunks)) if chosen is None else chosen
        return [task(run, *self.chunks[i][:2]) for i in chosen]

    def read_chunk(self, X, y, weight):
        """Return the rows of a chunk, on a worker."""
        X = aligned(self.read(X))
        if len(X) != len(y):
            raise ValueError(f"a chunk of X has {len(X)} rows, that of y has {len(y)}")
        return replace(self.read_targets(y, weight), X=X)

    def read_targets(self, y, weight):
        """Return the rows of a chunk without X."""
        y, weight = map(aligned, (y, weight))
        rows = RowBlocks(None, y, weight, self.n_jobs, self.precision)
        for change in self.changes:
            rows = rows.with_targets(change)
        return rows


@dataclass(frozen=True)
class GatheredRows:
    """Rows of one worker, gathered from tasks; each task returns ``arrays``."""

    parts: list
    scheduler: Scheduler
    n_jobs: int | None

    def run(self, function):
        function = functools.partial(apply_to_all, function, self.n_jobs)
        return self.scheduler.compute([task(function, self.parts)])[0]

    run_together = run

    def largest(self):
        return self.run(lambda rows: rows.largest())


# On a worker


def call_pickled(pickled, *arguments):
    return cloudpickle.loads(pickled)(*arguments)


def apply_to_all(function, n_jobs, parts):
    rows = map(np.concatenate, zip(*parts, strict=True))
    with single_threaded_blas(), reusing():
        return function(RowBlocks(*rows, n_jobs))


def aligned(array):
    """Copy an array whose address is unaligned, as after a transfer between processes.

    numpy adds the entries of an unaligned array in another order.
    """
    return np.require(array, requirements="A")


def arrays(rows):
    """Return X, y and the weights, whose size dask knows, unlike that of RowBlocks."""
    return rows.X.astype(rows.precision, copy=False), rows.y, rows.weight


def drawn_rows(drawn, start, rows):
    return arrays(rows.rows_at(drawn, start))


def first_row(rows):
    X, y = rows.first_row()
    return X, y, rows.weight[rows.weight > 0][:1]
