"""Rows in chunks against RowBlocks of the same rows."""

import itertools
import pickle

import dask
import numpy as np
import pytest

from skdeeptd._data.chunks import (
    Chunk,
    ChunkedRows,
    Scheduler,
    add_results,
    task,
)
from skdeeptd._data.rows import RowBlocks, add

N_ROWS, N_FEATURES = 2000, 64
BOUNDS = 0, 700, 800, 1500, N_ROWS
RNG = np.random.RandomState(0)
X, Y = RNG.standard_normal((N_ROWS, N_FEATURES)), RNG.standard_normal((N_ROWS, 2))
WEIGHT = RNG.randint(0, 6, size=N_ROWS) * RNG.uniform(1, 2, size=N_ROWS)
WEIGHT[:5] = 0


@pytest.fixture(autouse=True)
def in_one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


def fail():
    raise AssertionError("X is not to be read")


def in_chunks(X=X, y=Y, weight=WEIGHT, is_local=False, n_jobs=None):
    """The same rows as ``ChunkedRows``; those of an X that is None cannot be read."""
    parts = []
    for begin, end in itertools.pairwise(BOUNDS):
        targets = y[begin:end], weight[begin:end]
        parts.append(
            Chunk(
                task(fail) if X is None else task(np.copy, X[begin:end]),
                task(fail) if is_local else task(tuple, targets),
                end - begin,
                targets if is_local else None,
            )
        )
    dtype = np.dtype(float) if X is None else X.dtype
    return ChunkedRows(parts, Scheduler(), np.asarray, N_FEATURES, dtype, n_jobs)


def halved(y, weight):
    return y / 2, weight * (y[:, 0] > 0)


def moments(X, y, weight):
    return X.T @ (weight[:, np.newaxis] * y), np.sum(weight), len(X)


def assert_same_rows(found, expected):
    for name in ("X", "y", "weight"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.mark.parametrize("change", [False, True])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sums_are_those_of_the_rows_in_memory(dtype, change):
    found, expected = in_chunks(X.astype(dtype)), RowBlocks(X.astype(dtype), Y, WEIGHT)
    if change:
        found, expected = (rows.with_targets(halved) for rows in (found, expected))
    tolerance = 100 * np.finfo(dtype).eps * N_ROWS
    for mine, other in zip(found.reduce(moments), expected.reduce(moments)):
        np.testing.assert_allclose(mine, other, rtol=tolerance, atol=tolerance)
    assert found.n_features == expected.n_features
    assert found.precision == expected.precision


def test_sums_are_added_in_the_order_of_the_chunks():
    bounds = itertools.pairwise(BOUNDS)
    blocks = [RowBlocks(X[i:j], Y[i:j], WEIGHT[i:j]).reduce(moments) for i, j in bounds]
    for mine, other in zip(in_chunks().reduce(moments), add(blocks), strict=True):
        np.testing.assert_array_equal(mine, other)


def test_more_results_than_a_task_adds():
    terms = RNG.standard_normal(100)
    tasks = [task(lambda x: (x, 1), x) for x in terms]
    total, count = add_results(tasks, Scheduler(), results_per_task=3)
    np.testing.assert_allclose(total, np.sum(terms), rtol=1e-12)
    assert count == 100


@pytest.mark.parametrize("is_local", [False, True])
def test_targets_come_in_the_order_of_the_rows_and_without_X(is_local):
    def targets(rows):
        rows = rows.with_targets(halved).with_targets(lambda y, w: (y**2, w + 1))
        parts = rows.targets(lambda y, w: (y, w))
        return list(map(np.concatenate, zip(*parts, strict=True)))

    found = targets(in_chunks(None, is_local=is_local))
    np.testing.assert_equal(found, targets(RowBlocks(X, Y, WEIGHT)))


def test_the_sample_is_that_of_the_rows_in_memory():
    gathered = in_chunks().sample(500, np.random.RandomState(3))
    expected = RowBlocks(X, Y, WEIGHT).sample(500, np.random.RandomState(3))
    np.testing.assert_array_equal(gathered.largest(), expected.largest())
    assert_same_rows(gathered.run(lambda rows: rows), expected)
    assert_same_rows(gathered.run_together(lambda rows: rows), expected)


class Highest(np.random.RandomState):
    """Draw numbers; the last one is rounded up to the end of the range."""

    def uniform(self, size):
        return np.ones(size)


def test_a_draw_at_the_very_end_is_the_last_row():
    sample = in_chunks(weight=np.maximum(WEIGHT, 1)).sample(500, Highest())
    sample = sample.run_together(lambda rows: rows)
    np.testing.assert_array_equal(sample.X[-1], X[-1])
    assert np.sum(sample.weight) == 500


class Lowest(np.random.RandomState):
    """Draws at the beginning of each part of the range."""

    def uniform(self, size):
        return np.zeros(size)


def test_a_draw_at_the_end_of_a_chunk_is_the_next_row():
    sample = in_chunks(weight=np.ones(N_ROWS)).sample(N_ROWS, Lowest())
    np.testing.assert_array_equal(sample.run(lambda rows: rows.X), X)


def test_only_chunks_with_drawn_rows_are_read():
    weight = np.where(np.arange(N_ROWS) < BOUNDS[1], 1e9, 1e-9)
    rows = in_chunks(weight=weight)
    unread = [chunk._replace(X=task(fail)) for chunk in rows.chunks[1:]]
    rows = ChunkedRows([rows.chunks[0], *unread], Scheduler(), np.asarray, 64, X.dtype)
    sample = rows.sample(50, np.random.RandomState(0)).run(lambda rows: rows)
    assert len(sample.X) > 1


def test_pilot_and_largest_are_those_of_the_rows_in_memory():
    found = in_chunks().with_first().with_targets(halved)
    expected = RowBlocks(X, Y, WEIGHT).with_targets(halved)
    np.testing.assert_equal(found.largest(), expected.largest())
    np.testing.assert_equal(in_chunks().largest(), RowBlocks(X, Y, WEIGHT).largest())
    row = np.argmax(WEIGHT > 0)
    np.testing.assert_equal(found.first_row(), (X[[row]], Y[[row]] / 2))


def test_few_rows_are_brought_together_and_many_are_not():
    rows = in_chunks().with_targets(halved)
    assert_same_rows(
        rows.run(lambda rows: rows), RowBlocks(X, Y, WEIGHT).with_targets(halved)
    )
    assert rows.run(lambda rows: rows, N_ROWS - 1, X.nbytes - 1) is rows
    for limits in ((N_ROWS, 0), (0, X.nbytes)):
        assert isinstance(rows.run(lambda rows: rows, *limits), RowBlocks)


def test_the_number_of_threads_goes_with_the_tasks():
    rows = in_chunks(n_jobs=2)
    assert rows.run_together(lambda rows: rows.n_jobs) == 2
    assert rows.sample(9, RNG).run(lambda rows: rows.n_jobs) == 2
    assert rows.read_chunk(X, Y, WEIGHT).n_jobs == 2


def test_every_pass_sees_the_dtype_that_was_asked_for():
    def check(rows):
        assert rows.precision == np.float32
        [other] = rows.reduce(lambda X, y, w: (X.dtype != np.float32,))
        assert other == 0

    rows = in_chunks().with_dtype(np.float32)
    check(rows)
    rows.run(check)


def test_rows_that_travel_leave_their_chunks_behind():
    rows = in_chunks().with_first().with_targets(halved)
    travelled = pickle.loads(pickle.dumps(rows))
    assert travelled.chunks == []
    np.testing.assert_equal(travelled.first_row(), rows.first_row())
    [same] = rows.reduce(lambda X, y, w: (len(rows.chunks),))
    assert same == 0


def test_a_chunk_whose_y_has_other_rows():
    with pytest.raises(ValueError, match="of X has 2000 rows, that of y has 1999"):
        in_chunks().read_chunk(X, Y[1:], WEIGHT[1:])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_an_odd_address_changes_no_bit(dtype):
    """Arrays that were sent between processes may have an odd address."""
    arrays = X.astype(dtype), Y, np.ones(N_ROWS)  # rows of weight zero make a copy

    def moved(array):
        place = np.empty(array.nbytes + 1, np.uint8)[1:]
        place = place.view(array.dtype).reshape(array.shape)
        place[:] = array
        assert not place.flags.aligned
        return place

    rows = in_chunks(arrays[0])
    kernels = RNG.randn(3, 4).astype(dtype)

    def statistic(X, y, weight):
        patches = X.reshape(-1, 4)
        h = np.matmul(kernels, patches.T).reshape(3, len(X), -1)
        return h.sum(axis=2) @ X, X.T @ (weight[:, np.newaxis] * y)

    expected = rows.read_chunk(*arrays).reduce(statistic)
    found = rows.read_chunk(*map(moved, arrays)).reduce(statistic)
    for mine, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, other)
