import numpy as np
import pytest
from joblib import parallel_config

from skdeeptd._data import rows
from skdeeptd._data.rows import (
    BLOCKS_PER_TASK,
    RowBlocks,
    block_length,
    concatenate_blocks,
)

N_FEATURES = 512


@pytest.fixture(autouse=True)
def threads_for_few_rows_too(monkeypatch):
    monkeypatch.setattr(rows, "PARALLEL_BYTES", 0)


@pytest.fixture(scope="module")
def data():
    """Rows for several tasks, the last one not full."""
    rng = np.random.default_rng(0)
    length = block_length(np.empty((1, N_FEATURES)))
    n_rows = int(2.6 * length * BLOCKS_PER_TASK)
    X = rng.standard_normal((n_rows, N_FEATURES))
    return X, rng.standard_normal(n_rows), rng.random(n_rows)


def moments(X, y, weight):
    return (weight * y) @ X, np.sum(weight)


def test_reduce_is_the_sum_over_all_rows(data):
    total, weight = RowBlocks(*data).reduce(moments)
    expected, expected_weight = moments(*data)
    np.testing.assert_allclose(total, expected, rtol=1e-10, atol=1e-9)
    np.testing.assert_allclose(weight, expected_weight)


@pytest.mark.parametrize("n_jobs", [2, 3])
def test_the_number_of_jobs_does_not_change_a_bit(data, n_jobs):
    one = RowBlocks(*data).reduce(moments)
    several = RowBlocks(*data, n_jobs=n_jobs).reduce(moments)
    np.testing.assert_array_equal(one[0], several[0])
    np.testing.assert_array_equal(one[1], several[1])


@pytest.mark.parametrize("backend", ["threading", "loky"])
def test_the_backend_does_not_change_a_bit(data, backend):
    one = RowBlocks(*data).reduce(moments)
    with parallel_config(backend, n_jobs=2):
        several = RowBlocks(*data).reduce(moments)
    np.testing.assert_array_equal(one[0], several[0])


def test_concatenate_keeps_the_order_of_the_rows(data):
    X = data[0]
    first = concatenate_blocks(lambda block: block[:, 0], X, n_jobs=2)
    np.testing.assert_array_equal(first, X[:, 0])


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_error_in_a_block_reaches_the_caller(data, n_jobs):
    def fails_at_the_end(X, y, weight):
        if X[-1, 0] == data[0][-1, 0]:
            raise IndexError("the last block")
        return moments(X, y, weight)

    with pytest.raises(IndexError, match="the last block"):
        RowBlocks(*data, n_jobs=n_jobs).reduce(fails_at_the_end)


def test_an_unknown_number_of_jobs_raises_for_few_rows_too():
    with pytest.raises(ValueError, match="n_jobs == 0"):
        concatenate_blocks(lambda block: block, np.ones((2, 2)), n_jobs=0)


def test_a_sample_holds_rows_as_often_as_their_weight_says():
    weight = np.repeat([0.0, 1.0, 100.0], [50, 100, 1])
    all_rows = RowBlocks(np.arange(151.0)[:, np.newaxis], weight, weight)
    sample = all_rows.sample(1000, np.random.RandomState(0))
    assert np.sum(sample.weight) == 1000
    assert sample.X.min() == 50
    assert sample.weight[-1] == pytest.approx(500, abs=1)
    assert sample.weight[:-1] == pytest.approx(np.full(100, 5), abs=1)


@pytest.mark.parametrize("n_sums", [0, 10**5, 10**7])
def test_the_numbers_of_a_block_outweigh_those_of_its_sum(n_sums):
    """Else to add the blocks takes longer than to compute them."""
    X, calls, width = np.ones((4096, 2)), [], 10**5

    def statistic(X, y, weight):
        calls.append(len(X))
        return (np.sum(weight),)

    blocks = RowBlocks(X, X[:, 0], X[:, 0])
    assert blocks.reduce(statistic, width, n_sums) == (4096,)
    largest = max(n_sums, rows.WORK_BYTES // X.itemsize)
    assert 0.5 * largest < max(calls) * width <= largest
