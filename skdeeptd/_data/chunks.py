"""RowBlocks over the chunks of dask collections: every pass runs where the chunks are.

A task per chunk does what ``RowBlocks`` does, and the results are added in groups of
fixed size, in the order of the rows: the same bits whatever task ends first, on
whatever worker. Only such sums and samples travel.
"""

import functools
from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from operator import methodcaller
from typing import Any, NamedTuple

import numpy as np

from skdeeptd._data.rows import RowBlocks, add, even_draws
from skdeeptd._data.scratch import reusing
from skdeeptd._data.threads import single_threaded_blas
from skdeeptd._optional import optional

dask = optional("dask", extra="dask")
cloudpickle = optional("cloudpickle", extra="dask")

FAN_IN = 16  # results that are added at a time
FEW_ROWS, FEW_BYTES = 1000, 2**26  # that travel at less cost than a pass has


@dataclass(frozen=True)
class Scheduler:
    """Runs tasks on the cluster of ``client``; None: where dask would run them."""

    client: Any = None

    def compute(self, tasks):
        with self._current():
            return dask.compute(*tasks, scheduler=self.client)

    def persist(self, tasks):
        with self._current():
            return dask.persist(*tasks, scheduler=self.client)

    @property
    def _is_closed(self):
        return getattr(self.client, "status", "running") != "running"

    def _likely_cause(self):
        if self._is_closed:
            return f"{self.client} was closed; keep the client open until the end"
        return (
            "X, y or sample_weight may have chunks that another client has persisted; "
            "persist all of them with the client that is to work on them"
        )

    @contextmanager
    def _current(self):
        """The client as the current one; says what may have ended its work."""
        try:
            with nullcontext() if self.client is None else self.client.as_current():
                yield
        except Exception as error:
            if self._is_closed or isinstance(error, CancelledError):
                raise RuntimeError(f"{error} {self._likely_cause()}") from error
            raise


@dataclass(frozen=True)
class Whole:
    """A function that travels in one piece.

    The arrays that dask takes out of it would arrive at odd addresses: see ``aligned``.
    """

    function: Callable

    def __call__(self, *arguments):
        return self.function(*arguments)

    def __reduce__(self):
        return cloudpickle.loads, (cloudpickle.dumps(self.function),)


def task(function, *arguments):
    """A task whose name is its own: no hash of what it takes."""
    return dask.delayed(Whole(function), name=None, pure=False, traverse=False)(
        *arguments
    )


def add_up(tasks, scheduler):
    """``rows.add`` of the results of the tasks."""
    while len(tasks) > FAN_IN:
        groups = range(0, len(tasks), FAN_IN)
        tasks = [task(add, tasks[i : i + FAN_IN]) for i in groups]
    return add(scheduler.compute(tasks))


@dataclass(frozen=True)
class ChunkReader:
    """How a chunk is seen as ``RowBlocks``; it goes with every task.

    Parameters
    ----------
    read : callable
        Makes an array (rows, features) of a chunk of X.
    n_features : int
    precision : dtype
    n_jobs : int or None
    changes : tuple of callable
        Those of ``with_targets`` so far.
    """

    read: Callable
    n_features: int
    precision: np.dtype
    n_jobs: int | None
    changes: tuple = ()

    def of_targets(self, y, weight):
        """The rows without X."""
        targets = map(aligned, (y, weight))
        rows = RowBlocks(None, *targets, self.n_jobs, self.precision)
        for change in self.changes:
            rows = rows.with_targets(change)
        return rows

    def of_chunk(self, X, y, weight):
        X = aligned(self.read(X))
        if len(X) != len(y):
            raise ValueError(f"a chunk of X has {len(X)} rows, that of y has {len(y)}")
        return replace(self.of_targets(y, weight), X=X)


class Chunk(NamedTuple):
    """Tasks that give rows of X, and their float64 y, (rows, outputs), and weights.

    ``here`` is y and the weights themselves where they are small, else None.
    """

    X: Any
    targets: Any
    n_rows: int
    here: tuple | None


@dataclass(frozen=True)
class ChunkedRows:
    """Rows as in ``RowBlocks``, in chunks of which each has a weight above zero.

    ``first`` is the task that gives X, y and the weight of the first row of them. Where
    a function holds rows, they travel without their chunks: on a worker it is given
    the rows of a chunk.
    """

    chunks: list
    reader: ChunkReader
    scheduler: Scheduler
    first: Any = None

    @property
    def precision(self):
        return self.reader.precision

    @property
    def n_features(self):
        return self.reader.n_features

    def with_first(self):
        """The same rows, with the first one on its way."""
        unchanged = replace(self, reader=replace(self.reader, changes=()))
        [first] = self.scheduler.persist(unchanged._tasks(first_row, [0]))
        return replace(self, first=first)

    def __reduce__(self):
        return ChunkedRows, ([], self.reader, Scheduler())

    def pilot(self):
        return self._pilot

    @functools.cached_property
    def _pilot(self):
        [(X, y, weight)] = self.scheduler.compute([self.first])
        return X, self.reader.of_targets(y, weight).y

    def reduce(self, statistic, width=0):
        tasks = self._tasks(methodcaller("reduce", statistic, width))
        return add_up(tasks, self.scheduler)

    def largest(self):
        parts = self.scheduler.compute(self._tasks(methodcaller("largest")))
        return [np.max(sizes) for sizes in zip(*parts, strict=True)]

    def targets(self, summary):
        """A part per chunk; X is not looked at."""
        function = methodcaller("targets", summary)
        function = functools.partial(of_targets, function, self.reader)
        if all(chunk.here for chunk in self.chunks):
            parts = [function(chunk.here) for chunk in self.chunks]
        else:
            tasks = [task(function, chunk.targets) for chunk in self.chunks]
            parts = self.scheduler.compute(tasks)
        return [part for [part] in parts]

    def with_targets(self, change):
        """The rows with ``change(y, weight)``, which takes each row by itself."""
        changes = (*self.reader.changes, change)
        return replace(self, reader=replace(self.reader, changes=changes))

    def with_dtype(self, dtype):
        return replace(self, reader=replace(self.reader, precision=np.dtype(dtype)))

    def sample(self, size, rng):
        """Rows that one worker puts together; only chunks that have some are read."""
        drawn = even_draws(size, self._ends[-1], rng)
        owners = np.searchsorted(self._ends, drawn, side="right")
        owners = np.minimum(owners, len(self.chunks) - 1)
        starts = np.append(0.0, self._ends)
        parts = []
        for i in np.unique(owners):
            take = functools.partial(drawn_rows, drawn[owners == i], starts[i])
            parts += self._tasks(take, [i])
        return self._together(parts)

    @functools.cached_property
    def _ends(self):
        """Cumulative weight at the end of each chunk."""
        return np.cumsum(self.targets(lambda y, w: np.cumsum(w)[-1]))

    def run(self, function):
        """On one worker where the rows are few, else here, with passes over them."""
        n_rows = sum(chunk.n_rows for chunk in self.chunks)
        n_bytes = n_rows * self.reader.n_features * self.precision.itemsize
        if n_rows <= FEW_ROWS or n_bytes <= FEW_BYTES:
            return self.run_together(function)
        return function(self)

    def run_together(self, function):
        """On one worker, however many they are."""
        return self._together(self._tasks(arrays)).run(function)

    def _together(self, parts):
        return Gathered(parts, self.reader.n_jobs, self.scheduler)

    def _tasks(self, function, chosen=None):
        """``function`` of the RowBlocks of each chunk, or of the chosen ones."""
        function = functools.partial(of_chunk, function, self.reader)
        chosen = range(len(self.chunks)) if chosen is None else chosen
        return [task(function, *self.chunks[i][:2]) for i in chosen]


@dataclass(frozen=True)
class Gathered:
    """Rows in several tasks, each of which gives ``arrays``, brought to one worker."""

    parts: list
    n_jobs: int | None
    scheduler: Scheduler

    def run(self, function):
        function = functools.partial(of_all, function, self.n_jobs)
        return self.scheduler.compute([task(function, self.parts)])[0]

    run_together = run

    def largest(self):
        return self.run(methodcaller("largest"))


# On a worker


def of_chunk(function, reader, X, targets):
    return function(reader.of_chunk(X, *targets))


def of_targets(function, reader, targets):
    return function(reader.of_targets(*targets))


def of_all(function, n_jobs, parts):
    arrays = map(np.concatenate, zip(*parts, strict=True))
    with single_threaded_blas(), reusing():
        return function(RowBlocks(*arrays, n_jobs))


def aligned(array):
    """The same numbers, not at an odd address, as that of an array that has travelled.

    numpy adds what it finds at such an address in another order.
    """
    return np.require(array, requirements="A")


def arrays(rows):
    """X, y and the weights: dask knows the size of arrays, but not of RowBlocks."""
    return rows.X.astype(rows.precision, copy=False), rows.y, rows.weight


def drawn_rows(drawn, start, rows):
    return arrays(rows.rows_at(drawn, start))


def first_row(rows):
    X, y = rows.pilot()
    return X, y, rows.weight[rows.weight > 0][:1]
