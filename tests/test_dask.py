"""Dask against arrays in memory, on dask's own scheduler and on a cluster."""

import copy
import functools
import importlib
import os
import pickle
import signal
import sys
import threading
import tracemalloc

import dask
import dask.array as da
import numpy as np
import pandas as pd
import pytest
from distributed import Client, Event, LocalCluster
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.metrics import accuracy_score, r2_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from skdeeptd import DeepTDClassifier, DeepTDRegressor, DeepTDRegressorCV
from skdeeptd._dask import DaskMixin
from skdeeptd._data.chunks import ChunkedRows
from skdeeptd.dask import DaskDeepTDClassifier, DaskDeepTDRegressor
from skdeeptd.datasets import (
    make_patch_cnn_classification,
    make_patch_cnn_regression,
)

SIZES, N_ROWS = (4, 4, 4), 6000
RNG = np.random.RandomState(0)
WEIGHT = RNG.randint(0, 6, size=N_ROWS) * RNG.uniform(1, 2, size=N_ROWS)
ROWS = (2500, 0, 1500, 2000)  # of the chunks


@pytest.fixture(scope="module")
def data():
    return make_patch_cnn_regression(N_ROWS, SIZES, noise=0.1, random_state=0)[:2]


@pytest.fixture
def many_rows(monkeypatch):
    """Few rows are treated as many: nothing is brought together or to the client."""
    monkeypatch.setattr(ChunkedRows.run, "__defaults__", (0, 0))
    monkeypatch.setattr(DaskMixin._split_rows, "__defaults__", (None, 0))


@pytest.fixture
def in_one_thread():
    with dask.config.set(scheduler="synchronous"):
        yield


@pytest.fixture(scope="module")
def client():
    with (
        # How long a worker goes on asking one that was killed for its results.
        dask.config.set({"distributed.comm.timeouts.connect": "5s"}),
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as two,
        Client(two, set_as_default=False) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client_of_one():
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, dashboard_address=":0") as one,
        Client(one, set_as_default=False) as client,
    ):
        yield client


def model(client=None, **parameters):
    parameters = {"kernel_sizes": SIZES, "random_state": 0, **parameters}
    return DaskDeepTDRegressor(DeepTDRegressor(**parameters), client=client)


def chunked(array, rows=ROWS, columns=-1):
    if array is None:
        return None
    return da.from_array(array, chunks=(rows, *(columns,) * (array.ndim - 1)))


def of_unknown_length(array):
    """The same dask array, whose chunks dask does not know the lengths of."""
    return array[da.ones(len(array), dtype=bool, chunks=array.chunks[:1])]


def loaded(X, visit):
    """X as chunks that are made anew whenever they are needed, after ``visit(i)``."""

    def load(i, part):
        visit(i)
        return part

    parts = np.array_split(X, 6)
    return da.concatenate(
        [
            da.from_delayed(dask.delayed(load)(i, part), part.shape, part.dtype)
            for i, part in enumerate(parts)
        ]
    )


def network_of(fitted):
    return getattr(fitted, "estimator_", fitted)


def attributes(fitted):
    return {name for name in vars(network_of(fitted)) if name.endswith("_")}


def parts_of(value):
    """The arrays and numbers that an attribute holds."""
    if isinstance(value, dict):
        return list(value.values())
    return value if isinstance(value, list) else [value]


def assert_same_fit(fitted, expected, rtol=0.0, atol=0.0):
    """The pass at which a polish ends is known only where each bit is the same."""
    fitted, expected = map(network_of, (fitted, expected))
    names = attributes(expected)
    assert names == attributes(fitted)
    assert {"kernels_", "moment_", "n_iter_"} < names
    for name in names - ({"n_iter_"} if rtol or atol else set()):
        pairs = parts_of(getattr(fitted, name)), parts_of(getattr(expected, name))
        for mine, other in zip(*map(list, pairs), strict=True):
            mine, other = np.asarray(mine), np.asarray(other)
            assert mine.dtype == other.dtype
            if mine.dtype.kind == "f":
                np.testing.assert_allclose(mine, other, rtol, atol, err_msg=name)
            else:
                np.testing.assert_array_equal(mine, other, err_msg=name)


def assert_same_to_single_precision(fitted, expected, X):
    """Within what two polishes may leave, in standard errors, and rounding.

    The last step of each promises to lower the loss by no more than ``tol`` of itself:
    n * tol squared standard errors of the prediction.
    """
    assert attributes(fitted) == attributes(expected)
    mine, other = fitted.predict(X), expected.predict(X)
    assert mine.dtype == other.dtype == np.float32
    _, std = expected.predict(X, return_std=True)
    standard_errors = 2 * np.sqrt(len(X) * expected.tol)
    rounding = 64 * np.finfo(np.float32).eps * np.abs(other).max()
    assert np.all(np.abs(mine - other) <= standard_errors * std + rounding)


# The fit is that of arrays in memory


CASES = {
    "plain": {},
    "float32": {"dtype": np.float32},
    "integers": {"dtype": np.int64},
    "weights": {"weight": WEIGHT},
    "several outputs": {"outputs": 2},
    "unknown lengths": {"unknown": True, "weight": WEIGHT},
    "chunks of columns": {"columns": 10},
    "other chunks of y": {"rows_of_y": (100, 5900), "weight": WEIGHT},
    "three axes": {"shape": (8, 8), "sizes": ((2, 2), (4, 4))},
    "without polish": {"polish": False},
}


def both(data, case):
    """The arguments of fit in memory and in dask, and the parameters."""
    X, y = data
    X = (10 * X).astype(case.get("dtype", float))
    y = np.column_stack([y, y[::-1] + X[:, 0]]) if "outputs" in case else y
    X = X.reshape(N_ROWS, *case.get("shape", X.shape[1:]))
    in_memory = X, y, case.get("weight")
    in_dask = [
        chunked(X, columns=case.get("columns", -1)),
        chunked(y, rows=case.get("rows_of_y", ROWS)),
        chunked(case.get("weight")),
    ]
    if "unknown" in case:
        in_dask = [of_unknown_length(a) for a in in_dask]
    parameters = {
        "kernel_sizes": case.get("sizes", SIZES),
        "strides": case.get("strides"),
        "polish": case.get("polish", True),
        "random_state": 0,
    }
    return in_memory, in_dask, parameters


def check_against_memory(data, case, client=None):
    in_memory, in_dask, parameters = both(data, case)
    fitted = model(client, **parameters).fit(*in_dask)
    expected = DeepTDRegressor(**parameters).fit(*in_memory)
    if case.get("dtype") == np.float32:
        assert_same_to_single_precision(fitted.estimator_, expected, in_memory[0])
    else:
        assert_same_fit(fitted, expected, rtol=1e-9, atol=1e-9)
    largest = np.abs(expected.moment_).max()
    rounding = 64 * np.finfo(expected.moment_.dtype).eps * largest
    moment = fitted.estimator_.moment_
    np.testing.assert_allclose(moment, expected.moment_, rtol=0, atol=rounding)
    return fitted, in_dask


@pytest.mark.parametrize("case", ["plain", "float32", "several outputs"])
@pytest.mark.usefixtures("in_one_thread")
def test_few_rows_are_fitted_as_in_memory(data, case):
    check_against_memory(data, CASES[case])


@pytest.mark.parametrize("case", CASES)
@pytest.mark.usefixtures("in_one_thread", "many_rows")
def test_many_rows_are_fitted_as_in_memory(data, case):
    check_against_memory(data, CASES[case])


@pytest.mark.parametrize("case", ["weights", "float32"])
@pytest.mark.usefixtures("many_rows")
def test_the_number_of_workers_changes_no_bit(data, case, client, client_of_one):
    fitted, in_dask = check_against_memory(data, CASES[case], client=client)
    alone = clone(fitted).set_params(client=client_of_one).fit(*in_dask)
    assert_same_fit(fitted, alone)


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.usefixtures("in_one_thread")
def test_shared_filters_are_fitted_as_in_memory(data, many, request):
    if many:
        request.getfixturevalue("many_rows")
    X, y = data[0][:900], data[1][:900]
    y = np.column_stack([y, y - 0.5 * X[:, 0], np.abs(X[:, 1])])
    parameters = {"share_filters": True, "n_filters": 2, "n_init": 2}
    local = DeepTDRegressor(SIZES, random_state=0, **parameters).fit(X, y)
    fitted = model(**parameters).fit(chunked(X, 300), chunked(y, 300))
    assert attributes(fitted) == attributes(local)
    scale = np.abs(local.predict(X)).max()
    assert np.abs(fitted.predict(X) - local.predict(X)).max() < 1e-4 * scale
    kernels = fitted.estimator_.kernels_
    assert np.array_equal(kernels[0][0], kernels[0][2])


@pytest.mark.usefixtures("in_one_thread", "many_rows")
@pytest.mark.parametrize(
    "case",
    [
        {"sizes": (4, -1), "strides": 2, "weight": WEIGHT},
        {"sizes": ((3, 2), -1), "strides": 1, "shape": (6, 5)},
    ],
)
def test_overlapping_patches_are_fitted_as_in_memory(case):
    shape = case.get("shape", (24,))
    planted = make_patch_cnn_regression(
        N_ROWS,
        case["sizes"],
        strides=case["strides"],
        input_shape=shape,
        noise=0.1,
        random_state=0,
        return_kernels=True,
    )[:2]
    fitted, in_dask = check_against_memory(planted, case)
    predicted = fitted.predict(in_dask[0]).compute()
    expected = fitted.predict(in_dask[0].compute())
    np.testing.assert_allclose(predicted, expected, rtol=0, atol=1e-12)


# On the cluster


def not_here():
    """Fail in this process."""
    here = os.getpid()

    def visit(i):
        assert os.getpid() != here

    return visit


def killing_once(folder, chunk, load):
    """End the process that loads this chunk for the so-many-th time, once."""

    def visit(i):
        if i == chunk:
            loads = len(list(folder.iterdir()))
            (folder / str(loads)).touch()
            if loads + 1 == load:
                os.kill(os.getpid(), signal.SIGKILL)

    return visit


@pytest.mark.usefixtures("many_rows")
def test_a_planted_network_is_found_exactly(client):
    X, y = make_patch_cnn_regression(N_ROWS, SIZES, random_state=0)
    fitted = model(client=client).fit(loaded(X, not_here()), chunked(y))
    assert fitted.score(X, y) > 1 - 1e-12
    expected = clone(fitted).fit(X, y)
    for k, other in zip(fitted.estimator_.kernels_, expected.estimator_.kernels_):
        np.testing.assert_allclose(k, other, atol=1e-9)


@pytest.mark.usefixtures("many_rows")
def test_a_killed_worker_changes_no_bit(data, client, tmp_path):
    """In a pass, and between two fits, with its persisted chunks."""
    X, y = data
    client.wait_for_workers(2)
    persisted = client.persist([loaded(X, not_here()), chunked(y)])
    expected = model(client=client).fit(*persisted)
    os.kill(min(client.run(os.getpid).values()), signal.SIGKILL)
    assert_same_fit(model(client=client).fit(*persisted), expected)
    client.wait_for_workers(2)
    X = loaded(X, killing_once(tmp_path, chunk=3, load=4))
    assert_same_fit(model(client=client).fit(X, chunked(y)), expected)
    assert len(list(tmp_path.iterdir())) > 4


def test_X_does_not_come_to_the_client(client):
    """Nor to the scheduler, which is in this process too."""

    def load(block_info=None):
        [(begin, end), _] = block_info[None]["array-location"]
        return np.random.RandomState(begin).standard_normal((end - begin, 256))

    def target(X):
        return np.maximum(X.reshape(-1, 16, 16).mean(axis=2), 0).mean(axis=1)

    X = da.map_blocks(load, chunks=((10_000,) * 4, (256,)), meta=np.empty((0, 0)))
    y = X.map_blocks(target, drop_axis=1, meta=np.empty(0))
    X, y = client.persist([X, y])
    tracemalloc.start()
    fitted = model(client, kernel_sizes=(16, 16)).fit(X, y)
    score = fitted.score(X, y)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert score > 1 - 1e-9
    assert most < X.nbytes / 2


@pytest.mark.parametrize("persisted", range(3))
def test_data_persisted_by_another_client(data, client, client_of_one, persisted):
    lazy = [*map(chunked, data), chunked(ONES)]
    lazy[persisted] = client_of_one.persist(lazy[persisted])
    with pytest.raises(RuntimeError, match="another client has persisted; persist all"):
        model(client=client).fit(*lazy)


def test_a_client_that_is_closed_during_the_fit(data, client):
    begun = Event("begun", client=client)
    closing = Client(client.scheduler.address, set_as_default=False)

    def close():
        begun.wait()
        closing.close()

    def visit(i):
        Event("begun").set()
        Event("closed").wait()

    closer = threading.Thread(target=close)
    closer.start()
    try:
        with pytest.raises(RuntimeError, match="was closed; keep the client open"):
            model(client=closing).fit(loaded(data[0], visit), chunked(data[1]))
    finally:
        closer.join()
        Event("closed", client=client).set()


def test_a_client_that_was_closed_before_the_fit(data, client):
    closed = Client(client.scheduler.address, set_as_default=False)
    closed.close()
    with pytest.raises(RuntimeError, match="was closed; keep the client open"):
        model(client=closed).fit(*map(chunked, data))


def test_predictions_are_made_on_the_workers(data, client):
    X, y = data
    fitted = model().fit(X[:500], y[:500])
    lazy = fitted.predict(loaded(X, not_here()))
    [predicted] = client.gather(client.compute([lazy]))
    np.testing.assert_array_equal(predicted, fitted.predict(X))


def test_the_client_is_kept_by_copies_and_left_behind_by_pickle(data, client):
    X, y = data
    fitted = model(client=client).fit(X[:500], y[:500])
    assert fitted.get_params()["client"] is client
    for same in (clone(fitted), copy.copy(fitted)):
        assert same.client is client
    assert "client=<Client" in repr(fitted)
    for loaded_again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert loaded_again.client is None
        assert_same_prediction(loaded_again, fitted, X)


def assert_same_prediction(fitted, expected, X):
    np.testing.assert_array_equal(fitted.predict(X), expected.predict(X))


# Predictions and scores


def of_all_kinds(fitted, X):
    """Return the predictions, their deviations and their intervals."""
    both = fitted.predict(X, return_std=True)
    return fitted.predict(X), *both, fitted.predict_interval(X, 0.8)


@pytest.mark.parametrize(
    ("dtype", "unknown", "outputs"),
    [(np.float32, True, 0), (np.int64, False, 1), (np.float64, True, 2)],
)
@pytest.mark.usefixtures("in_one_thread")
def test_predictions_are_lazy_and_those_of_arrays(data, dtype, unknown, outputs):
    X, y = data
    X = (10 * X).astype(dtype)
    y = np.column_stack([y] * outputs) if outputs else y
    fitted = model().fit(X[:500], y[:500])
    in_dask = of_unknown_length(chunked(X)) if unknown else chunked(X, columns=7)
    for lazy, expected in zip(
        of_all_kinds(fitted, in_dask), of_all_kinds(fitted, X), strict=True
    ):
        assert isinstance(lazy, da.Array)
        assert lazy.dtype == expected.dtype
        assert lazy.ndim == expected.ndim
        np.testing.assert_equal(lazy.chunks[0], in_dask.chunks[0])
        np.testing.assert_array_equal(lazy.compute(), expected)


@pytest.mark.usefixtures("in_one_thread")
def test_nothing_is_computed_before_it_is_asked_for(data):
    X, y = data

    def fail(i):
        raise AssertionError(i)

    model().fit(X[:500], y[:500]).predict(loaded(X, fail), return_std=True)


@pytest.mark.usefixtures("in_one_thread")
def test_predictions_for_samples_of_several_axes(data):
    X, y = data
    images = X.reshape(-1, 8, 8)
    fitted = model(kernel_sizes=((2, 2), (4, 4))).fit(images[:500], y[:500])
    lazy = fitted.predict(chunked(images, columns=3))
    np.testing.assert_allclose(lazy.compute(), fitted.predict(images), atol=1e-12)


@pytest.mark.parametrize(
    ("weight", "outputs"), [(None, 0), (WEIGHT, 2), (2.0, 0), (None, 2)]
)
@pytest.mark.usefixtures("in_one_thread")
def test_the_score_is_that_of_scikit_learn(data, weight, outputs):
    X, y = data
    y = np.column_stack([y, 1e6 + X[:, 0]]) if outputs else y
    fitted = model().fit(X[:500], y[:500])
    of_dask = chunked(weight) if isinstance(weight, np.ndarray) else weight
    score = fitted.score(chunked(X), chunked(y), of_dask)
    weight = np.full(N_ROWS, weight) if np.ndim(weight) == 0 and weight else weight
    expected = r2_score(y, fitted.predict(X), sample_weight=weight)
    np.testing.assert_allclose(score, expected, rtol=1e-9)


@pytest.mark.usefixtures("in_one_thread")
def test_the_score_of_a_constant_y_is_that_of_scikit_learn(data):
    X, y = data
    fitted = model().fit(X[:500], y[:500])
    for constant in (np.ones(N_ROWS), np.column_stack([np.ones(N_ROWS)])):
        assert fitted.score(chunked(X), chunked(constant)) == 0
    with pytest.warns(UserWarning, match="Nothing could be learned"):
        fitted.fit(X[:500], np.ones(500))
    assert fitted.score(chunked(X), chunked(np.ones(N_ROWS))) == 1


# Frames


@pytest.fixture
def frames(data):
    dd = pytest.importorskip("dask.dataframe")
    table = pd.DataFrame(data[0], columns=[f"t{i}" for i in range(64)])
    table["y"], table["weight"] = data[1], WEIGHT
    return table, dd.from_pandas(table, npartitions=3)


@pytest.mark.usefixtures("in_one_thread")
def test_frames_of_unknown_length_are_fitted_as_in_memory(frames):
    table, lazy = frames
    table, lazy = table[table["t0"] > -1], lazy[lazy["t0"] > -1]
    X = lazy.drop(columns=["y", "weight"])
    fitted = model().fit(X, lazy["y"], lazy["weight"])
    in_memory = table.drop(columns=["y", "weight"])
    expected = DeepTDRegressor(SIZES, random_state=0)
    expected.fit(in_memory, table["y"], table["weight"])
    np.testing.assert_array_equal(fitted.feature_names_in_, in_memory.columns)
    assert_same_fit(fitted, expected, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(fitted.predict(X).compute(), expected.predict(in_memory))
    assert fitted.score(X, lazy[["y"]]) > 0.9
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(X[X.columns[::-1]])
    with pytest.raises(ValueError, match="feature names"):
        fitted.fit(X, lazy["y"]).predict(lazy)


@pytest.mark.usefixtures("in_one_thread")
def test_text_in_a_frame_is_an_error(frames):
    _, lazy = frames
    X = lazy.drop(columns=["y", "weight"]).assign(t0="abc")
    with pytest.raises(ValueError, match="could not convert string to float: 'abc'"):
        model().fit(X, lazy["y"])


# Bad input


def with_value(array, value, position=4100):
    array = np.array(array)
    array[position] = value
    return array


X, Y = RNG.randn(N_ROWS, 64), RNG.randn(N_ROWS)
ONES = np.ones(N_ROWS)
BAD = {
    "NaN in X": (with_value(X, np.nan), Y, None, "Input X contains NaN"),
    "inf in X": (with_value(X, np.inf), Y, None, "Input X contains infinity"),
    "inf in float32": (
        with_value(X, np.inf).astype(np.float32),
        Y,
        None,
        "X contains infinity or a value too large for dtype\\('float32'\\)",
    ),
    "NaN where the weight is zero": (
        with_value(X, np.nan),
        Y,
        with_value(ONES, 0),
        "Input X contains NaN",
    ),
    "NaN in a chunk without weight": (
        with_value(X, np.nan),
        Y,
        with_value(ONES, 0, slice(2500, 5000)),
        "Input X contains NaN",
    ),
    "NaN in y": (X, with_value(Y, np.nan), None, "Input y contains NaN"),
    "NaN weight": (X, Y, with_value(ONES, np.nan), "sample_weight contains NaN"),
    "NaN for all": (X, Y, np.nan, "sample_weight contains NaN"),
    "negative": (X, Y, with_value(ONES, -2), "negative, got -2 at row 4100"),
    "weights of zero": (X, Y, 0 * ONES, "sample_weight is zero everywhere"),
    "two columns of weights": (X, Y, np.ones((N_ROWS, 2)), r"shape \(\d+, 2\)"),
    "short y": (X, Y[:-1], None, r"\[6000, 5999\]"),
    "short weights": (X, Y, ONES[:-1], r"\[6000, 5999\]"),
    "no y": (X, None, None, "requires y"),
    "no samples": (X[:0], Y[:0], None, "0 sample"),
    "no features": (X[:, :0], Y, None, "0 feature"),
    "no outputs": (X, np.empty((N_ROWS, 0)), None, "0 feature|one output"),
    "one axis": (X[:, 0], Y, None, "Expected 2D array"),
    "three axes of y": (X, Y.reshape(-1, 1, 1), None, "dim 3"),
    "complex X": (X + 1j, Y, None, "Complex data not supported"),
    "complex y": (X, Y + 1j, None, "Complex data not supported"),
    "text y": (
        X,
        Y.astype(str),
        None,
        "this is a regressor; for classes use DeepTDClassifier",
    ),
    "huge X": (1e160 * X, Y, None, r"too small: .*largest \|X\| is .*e\+160"),
}


@pytest.mark.parametrize(
    ("case", "many"), [(case, True) for case in BAD] + [("huge X", False)]
)
@pytest.mark.usefixtures("in_one_thread")
def test_bad_data(case, many, request):
    if many:
        request.getfixturevalue("many_rows")
    X, y, weight, message = BAD[case]
    lazy = [
        a if a is None or np.ndim(a) == 0 else chunked(a, rows=2500)
        for a in (X, y, weight)
    ]
    estimator = model()
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(*lazy)
    with pytest.raises(NotFittedError):
        estimator.predict(lazy[0])


@pytest.mark.usefixtures("in_one_thread")
def test_chunks_of_unknown_length_must_be_those_of_X(data):
    X, y = map(chunked, data)
    with pytest.raises(ValueError, match="X has 4 chunks, y 2, of unknown lengths"):
        model().fit(of_unknown_length(X), y.rechunk(3000))
    other = abs(y.rechunk(((2000, 500, 1500, 2000),)))
    with pytest.raises(ValueError, match="of X has 2500 rows, that of y has 2000"):
        model().fit(of_unknown_length(X), other)
    with pytest.raises(ValueError, match=r"weight has the shape \(\d+,\), that of y"):
        model().fit(of_unknown_length(X), y, other)
    with pytest.raises(ValueError, match=r"shape \(6000, nan\); call compute_chunk"):
        model().fit(X[:, X[0] > 0], y)


@pytest.mark.usefixtures("in_one_thread")
def test_chunks_of_another_width_than_promised(data):
    X, y = map(chunked, data)
    narrow = X.map_blocks(lambda block: block[:, :5], dtype=X.dtype, meta=X._meta)
    with pytest.raises(ValueError, match="has 5 columns, but 64 were promised; give"):
        model().fit(narrow, y)


@pytest.mark.usefixtures("in_one_thread")
def test_bad_data_for_predict_and_score(data):
    X, y = data
    fitted = model().fit(X[:500], y[:500])
    with pytest.raises(ValueError, match=r"63 features, but .* is expecting 64"):
        fitted.predict(chunked(X[:, :63]))
    with pytest.raises(ValueError, match="Input X contains NaN"):
        fitted.predict(chunked(with_value(X, np.nan))).compute()
    with pytest.raises(ValueError, match="y has 2 outputs, the model has 1"):
        fitted.score(chunked(X), chunked(np.column_stack([y, y])))
    with pytest.raises(ValueError, match="Input y contains NaN"):
        fitted.score(chunked(X), chunked(with_value(y, np.nan)))
    with pytest.raises(TypeError, match="dask array or data frame"):
        fitted.predict(dask.delayed(np.ones)((10, 64)))
    unpolished = model(polish=False).fit(X[:500], y[:500])
    with pytest.raises(ValueError, match="polish=True"):
        unpolished.predict(chunked(X), return_std=True)


@pytest.mark.parametrize("missing", ["dask", "dask.array"])
def test_without_dask_the_error_names_it(monkeypatch, missing):
    for name in ("skdeeptd.dask", "skdeeptd._dask", "skdeeptd._data.chunks"):
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(
        ImportError, match=rf'{missing}, which .* install "dask\[array\]>='
    ):
        importlib.import_module("skdeeptd.dask")


def test_an_address_is_no_client(data):
    with pytest.raises(ValueError, match=r"'client'.*'as_current'.*'tcp://a:1'"):
        model("tcp://a:1").fit(*data)


# Classes


N_LABELS = 3000
ROWS_OF_LABELS = (1200, 0, 700, 1100)
WEIGHT_OF_LABELS = WEIGHT[:N_LABELS]
METHODS = ["predict", "predict_proba", "predict_log_proba", "decision_function"]


@functools.cache
def labelled(n_classes=3):
    """X and labels, of which each chunk but the empty one holds two classes or more."""
    return make_patch_cnn_classification(
        N_LABELS, (4, 4), n_classes=n_classes, random_state=0, return_kernels=True
    )[:2]


def as_text(y):
    return np.array(["no", "perhaps", "yes"])[y]


def classifier(client=None, **parameters):
    parameters = {"kernel_sizes": (4, 4), "random_state": 0, **parameters}
    return DaskDeepTDClassifier(DeepTDClassifier(**parameters), client=client)


def in_label_chunks(*arrays, unknown=False):
    lazy = [chunked(array, ROWS_OF_LABELS) for array in arrays]
    return [of_unknown_length(a) for a in lazy] if unknown else lazy


CLASSES = {
    "two": {"n_classes": 2},
    "three": {},
    "text": {"text": True, "weight": WEIGHT_OF_LABELS, "unknown": True},
    "float32": {"dtype": np.float32},
    "balanced": {"weight": WEIGHT_OF_LABELS, "class_weight": "balanced"},
    "dict": {"text": True, "class_weight": {"no": 3.0, "yes": 0.5}},
    "linear": {"n_classes": 2, "kernel_sizes": (16,)},
    "three axes": {"shape": (4, 4), "kernel_sizes": ((2, 2), -1), "strides": 1},
    "without polish": {"polish": False},
}


def fit_labels(case, client=None):
    """A fit on dask and one in memory, and the arguments of the former."""
    parameters = dict(case)
    X, y = labelled(parameters.pop("n_classes", 3))
    X = X.astype(parameters.pop("dtype", float))
    X = X.reshape(N_LABELS, *parameters.pop("shape", X.shape[1:]))
    y = as_text(y) if parameters.pop("text", False) else y
    arguments = X, y, *([parameters.pop("weight")] if "weight" in case else [])
    lazy = in_label_chunks(*arguments, unknown=parameters.pop("unknown", False))
    fitted = classifier(client, **parameters).fit(*lazy)
    local = clone(fitted.estimator).fit(*arguments)
    return fitted, local, lazy


def check_classes(fitted, local, X):
    if X.dtype == np.float32:
        assert attributes(fitted) == attributes(local)
        X = np.asarray(X)
        p = fitted.predict_proba(X)
        assert p.dtype == np.float32
        assert np.abs(p - local.predict_proba(X)).max() < 1e-4
    else:
        assert_same_fit(fitted, local, rtol=1e-9, atol=1e-9)


@pytest.mark.filterwarnings("ignore:The network is linear")
@pytest.mark.parametrize("case", CLASSES)
@pytest.mark.usefixtures("in_one_thread")
def test_few_labels_are_fitted_as_in_memory(case):
    fitted, local, lazy = fit_labels(CLASSES[case])
    check_classes(fitted, local, lazy[0])


@pytest.mark.parametrize("case", ["two", "text"])
@pytest.mark.usefixtures("many_rows")
def test_the_number_of_workers_changes_no_bit_of_classes(case, client, client_of_one):
    few_passes = {**CLASSES[case], "n_init": 2, "tol": 1e-2}
    fitted, local, lazy = fit_labels(few_passes, client=client)
    check_classes(fitted, local, lazy[0])
    alone = clone(fitted).set_params(client=client_of_one).fit(*lazy)
    assert_same_fit(fitted, alone)


@pytest.mark.parametrize("n_classes", [2, 3])
@pytest.mark.usefixtures("in_one_thread", "many_rows")
def test_many_labels_are_never_brought_together(n_classes, monkeypatch):
    def refuse(self, function):
        raise AssertionError(function)

    monkeypatch.setattr(ChunkedRows, "run_together", refuse)
    classifier(n_init=2, tol=1e-2).fit(*in_label_chunks(*labelled(n_classes)))


@pytest.mark.usefixtures("in_one_thread")
def test_a_label_of_weight_two_is_two_labels():
    X, y = (part[:200] for part in labelled())
    weight = np.random.RandomState(1).randint(0, 4, len(y)) * (1 + (y == 1))
    estimator = classifier(class_weight="balanced", tol=1e-10)
    parts = (chunked(part, 70) for part in (X, y, 1.0 * weight))
    found = clone(estimator).fit(*parts)
    repeated = estimator.fit(
        *(da.from_array(np.repeat(a, weight, axis=0)) for a in (X, y))
    )
    difference = found.predict_proba(X) - repeated.predict_proba(X)
    assert np.abs(difference).max() < 1e-6


@pytest.mark.parametrize("class_weight", [None, "balanced", {0: 2.0}])
@pytest.mark.usefixtures("in_one_thread")
def test_a_label_without_weight_is_no_class(class_weight):
    X, y = labelled()
    more = np.where(np.arange(N_LABELS) % 7 == 0, 9, y)
    weight = 1.0 * (more != 9)
    lazy = in_label_chunks(X, more, weight)
    fitted = classifier(class_weight=class_weight).fit(*lazy)
    local = DeepTDClassifier((4, 4), class_weight=class_weight, random_state=0)
    assert_same_fit(fitted, local.fit(X, more, weight), rtol=1e-9, atol=1e-9)
    assert fitted.classes_.tolist() == [0, 1, 2]


@pytest.mark.parametrize(("n_classes", "unknown"), [(2, False), (3, True)])
@pytest.mark.usefixtures("in_one_thread")
def test_predicted_classes_are_lazy_and_those_of_arrays(n_classes, unknown):
    X, y = labelled(n_classes)
    fitted = classifier().fit(X[:500], as_text(y[:500]))
    [lazy_X] = in_label_chunks(X, unknown=unknown)
    for method in METHODS:
        lazy, expected = (getattr(fitted, method)(data) for data in (lazy_X, X))
        assert isinstance(lazy, da.Array)
        assert isinstance(expected, np.ndarray)
        assert lazy.dtype == expected.dtype
        assert lazy.shape[1:] == expected.shape[1:]
        np.testing.assert_equal(lazy.chunks[0], lazy_X.chunks[0])
        np.testing.assert_array_equal(lazy.compute(), expected)


def test_classes_are_predicted_on_the_workers(client):
    X, y = labelled()
    fitted = classifier().fit(X[:500], y[:500])
    lazy = [getattr(fitted, method)(loaded(X, not_here())) for method in METHODS]
    for found, method in zip(client.gather(client.compute(lazy)), METHODS, strict=True):
        np.testing.assert_array_equal(found, getattr(fitted, method)(X))


@pytest.mark.parametrize(
    ("weight", "text"), [(None, False), (WEIGHT_OF_LABELS, True), (2.0, False)]
)
@pytest.mark.usefixtures("in_one_thread", "many_rows")
def test_the_score_of_classes_is_the_accuracy(weight, text):
    X, y = labelled()
    y = as_text(y) if text else y
    fitted = classifier().fit(X[:500], y[:500])
    of_dask = weight if np.ndim(weight) == 0 else chunked(weight, ROWS_OF_LABELS)
    score = fitted.score(*in_label_chunks(X, y), of_dask)
    of_rows = weight if np.ndim(weight) else None
    expected = accuracy_score(y, fitted.predict(X), sample_weight=of_rows)
    assert isinstance(score, float)
    np.testing.assert_allclose(score, expected, rtol=1e-12)
    assert 0.5 < score < 1


@pytest.fixture
def frames_of_labels():
    dd = pytest.importorskip("dask.dataframe")
    X, y = labelled()
    table = pd.DataFrame(X, columns=[f"t{i}" for i in range(16)])
    table["y"], table["weight"] = as_text(y), WEIGHT_OF_LABELS
    return table, dd.from_pandas(table, npartitions=3)


@pytest.mark.parametrize("kind", ["str", "category"])
@pytest.mark.usefixtures("in_one_thread")
def test_frames_of_labels_are_fitted_as_in_memory(frames_of_labels, kind):
    table, lazy = frames_of_labels
    rows = [data[(data["t0"] > -1) & (data.index > 1100)] for data in (table, lazy)]
    rows = [data.assign(y=data["y"].astype(kind)) for data in rows]
    (X, y, weight), (in_memory, *others) = (
        (data.drop(columns=["y", "weight"]), data["y"], data["weight"])
        for data in reversed(rows)
    )
    assert len(X.partitions[0]) == 0
    fitted = classifier().fit(X, y, weight)
    expected = DeepTDClassifier((4, 4), random_state=0).fit(in_memory, *others)
    np.testing.assert_array_equal(fitted.feature_names_in_, in_memory.columns)
    assert_same_fit(fitted, expected, rtol=1e-9, atol=1e-9)
    predicted = fitted.predict(X).compute()
    np.testing.assert_array_equal(predicted, expected.predict(in_memory))
    score, of_memory = fitted.score(X, y, weight), expected.score(in_memory, *others)
    np.testing.assert_allclose(score, of_memory, rtol=1e-12)


@pytest.mark.usefixtures("in_one_thread")
def test_numbers_of_pandas_are_labels(frames_of_labels):
    _, lazy = frames_of_labels
    y = lazy["t1"] > 0
    X = lazy.drop(columns=["y", "weight"])
    expected = classifier().fit(X, y.astype(int))
    assert_same_fit(classifier().fit(X, y.astype("Int64")), expected)


@pytest.mark.usefixtures("in_one_thread")
def test_columns_that_were_lost(frames_of_labels):
    _, lazy = frames_of_labels
    X = lazy.drop(columns=["y", "weight"])
    fitted = classifier().fit(X, lazy["y"])
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict_proba(X[X.columns[::-1]])
    with pytest.raises(ValueError, match="feature names"):
        fitted.predict(X.drop(columns="t3"))
    X, y = in_label_chunks(*labelled())
    narrow = X.map_blocks(lambda block: block[:, :5], dtype=X.dtype, meta=X._meta)
    with pytest.raises(ValueError, match="has 5 columns, but 16 were promised; give"):
        classifier().fit(narrow, y)


BAD_LABELS = {
    "one class": (lambda y: 0 * y, "one class only"),
    "continuous": (lambda y: y + 0.5, "Unknown label type: continuous"),
    "NaN": (lambda y: with_value(y.astype(float), np.nan, 2000), "y contains NaN"),
    "None": (
        lambda y: with_value(as_text(y).astype(object), None, 9),
        "y holds missing values",
    ),
    "numbers too": (
        lambda y: with_value(as_text(y).astype(object), 1, 9),
        "strings and other",
    ),
    "complex": (lambda y: y + 1j, "Complex data not supported"),
    "two columns": (lambda y: np.column_stack([y, y]), "should be a 1d array"),
    "short": (lambda y: y[:-1], r"\[3000, 2999\]"),
}


@pytest.mark.parametrize("case", BAD_LABELS)
@pytest.mark.usefixtures("in_one_thread")
def test_bad_labels(case):
    X, y = labelled()
    change, message = BAD_LABELS[case]
    estimator = classifier()
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(chunked(X, 1000), chunked(change(y), 1000))
    with pytest.raises(NotFittedError):
        estimator.predict(chunked(X, 1000))


@pytest.mark.usefixtures("in_one_thread")
def test_bad_labels_beside_good_ones():
    X, y = labelled()
    lazy_X, lazy_y = in_label_chunks(X, y)
    one, other = 1.0 * (y == 0), with_value(np.ones(N_LABELS), -1.0, 2000)
    with pytest.raises(ValueError, match="one class only"):
        classifier().fit(lazy_X, lazy_y, chunked(one, ROWS_OF_LABELS))
    with pytest.raises(ValueError, match="negative, got -1 at row 2000"):
        classifier().fit(lazy_X, lazy_y, chunked(other, ROWS_OF_LABELS))
    with pytest.raises(ValueError, match="requires y"):
        classifier().fit(lazy_X, None)
    with pytest.raises(ValueError, match=r"class_weight has \[5, 6\], which y lacks"):
        classifier(class_weight={5: 1.0, 6: 2.0}).fit(lazy_X, lazy_y)
    text = chunked(as_text(y), ROWS_OF_LABELS)
    mixed = lazy_y.map_blocks(mixing, dtype=text.dtype, meta=text._meta)
    with pytest.raises(ValueError, match="some chunks of y hold numbers, others str"):
        classifier().fit(lazy_X, mixed)
    fitted = classifier().fit(lazy_X, lazy_y)
    with pytest.raises(ValueError, match="Mix of label input types"):
        fitted.score(lazy_X, text)


def mixing(y, block_info=None):
    """Text in the first chunk, numbers in the others."""
    return as_text(y) if block_info[0]["chunk-location"] == (0,) else y


def test_a_classifier_keeps_its_client_and_goes_on_without_it(client):
    X, y = labelled()
    fitted = classifier(client).fit(X[:500], y[:500])
    for same in (clone(fitted), copy.copy(fitted)):
        assert same.client is client
    for again in (pickle.loads(pickle.dumps(fitted)), copy.deepcopy(fitted)):
        assert again.client is None
        assert_same_prediction(again, fitted, X)
    assert type(fitted.estimator_) is DeepTDClassifier
    assert_same_prediction(fitted.estimator_, fitted, X)


def test_arrays_of_labels_are_fitted_as_the_plain_class_does():
    X, y = labelled()
    plain = DeepTDClassifier((4, 4), random_state=0).fit(X, y, WEIGHT_OF_LABELS)
    same = classifier().fit(X, y, WEIGHT_OF_LABELS)
    assert_same_fit(same, plain)
    assert same.score(X, y) == plain.score(X, y)


# Beside DeepTDRegressor


PLAIN, SEARCH = DeepTDRegressor(SIZES), DeepTDRegressorCV({"kernel_sizes": [SIZES]})


@pytest.mark.parametrize("dask_argument", range(3))
@pytest.mark.parametrize("fit", [PLAIN.fit, PLAIN.partial_fit, SEARCH.fit])
def test_other_estimators_do_not_fit_dask_collections(data, fit, dask_argument):
    arguments = [data[0][:500], data[1][:500], WEIGHT[:500]]
    arguments[dask_argument] = da.from_array(arguments[dask_argument])
    with pytest.raises(TypeError, match=r"is a dask collection.*DaskDeepTDRegressor"):
        fit(*arguments)


@pytest.mark.parametrize("estimator", [PLAIN, SEARCH])
def test_other_estimators_do_not_predict_dask_collections(data, estimator):
    X, y = data[0][:500], data[1][:500]
    fitted = clone(estimator).fit(X, y)
    with pytest.raises(TypeError, match=r"is a dask collection.*DaskDeepTDRegressor"):
        fitted.predict(da.from_array(X))


@pytest.mark.usefixtures("in_one_thread")
@pytest.mark.parametrize(
    "in_dask",
    [
        (False, True, True),
        (True, False, True),
        (True, True, False),
        (True, False, False),
    ],
)
def test_any_of_the_arguments_may_be_in_memory(data, in_dask):
    """X in memory is fitted in memory, by the plain class."""
    arguments = [*data, WEIGHT]
    expected = DeepTDRegressor(SIZES, random_state=0).fit(*arguments)
    arguments = [chunked(a) if d else a for a, d in zip(arguments, in_dask)]
    fitted = model().fit(*arguments)
    rounding = 1e-9 if in_dask[0] else 0.0
    assert type(fitted.estimator_) is DeepTDRegressor
    assert_same_fit(fitted, expected, rtol=rounding, atol=rounding)
    assert isinstance(fitted.predict(arguments[0]), da.Array) == in_dask[0]
    score = expected.score(*data, WEIGHT)
    np.testing.assert_allclose(fitted.score(*arguments), score, rtol=1e-9)


@pytest.mark.usefixtures("in_one_thread")
def test_arrays_beside_a_frame_of_unknown_length(frames):
    table, lazy = frames
    X = lazy.drop(columns=["y", "weight"])
    y, weight = table["y"].to_numpy(), table["weight"].to_numpy()
    fitted = model().fit(X, y, weight)
    assert_same_fit(fitted, model().fit(X, lazy["y"], lazy["weight"]))
    assert fitted.score(X, y, weight) == fitted.score(X, lazy["y"], weight)
    np.testing.assert_array_equal(fitted.feature_names_in_, X.columns)
    with pytest.raises(ValueError, match=r"inconsistent .* \[6000, 5999\]"):
        fitted.fit(X, y[:-1])


@pytest.mark.usefixtures("in_one_thread")
def test_series_in_dask_beside_a_table_in_memory(frames):
    table, lazy = frames
    X = table.drop(columns=["y", "weight"])
    fitted = model().fit(X, lazy["y"], lazy["weight"])
    assert_same_fit(fitted, model().fit(X, table["y"], table["weight"]))
    np.testing.assert_array_equal(fitted.feature_names_in_, X.columns)


@pytest.mark.usefixtures("in_one_thread")
def test_labels_and_weights_of_pandas_beside_X_in_dask(frames_of_labels):
    table, _ = frames_of_labels
    X = chunked(table.drop(columns=["y", "weight"]).to_numpy(), ROWS_OF_LABELS)
    fitted = classifier().fit(X, table["y"], table["weight"])
    labels = as_text(labelled()[1]).astype(object)
    expected = classifier().fit(X, *in_label_chunks(labels, WEIGHT_OF_LABELS))
    assert_same_fit(fitted, expected)
    assert fitted.score(X, table["y"]) == fitted.score(X.compute(), table["y"])
    several = model(kernel_sizes=(4, 4)).fit(X, table[["t0", "t1"]])
    assert several.predict(X).shape == (N_LABELS, 2)


@pytest.mark.usefixtures("in_one_thread")
def test_huber_loss_is_for_data_in_memory(data):
    X, y = data[0][:500], data[1][:500]
    robust = model(loss="huber")
    with pytest.raises(ValueError, match="loss='huber' needs all of y in memory"):
        robust.fit(*map(da.from_array, (X, y)))
    expected = DeepTDRegressor(SIZES, loss="huber", random_state=0).fit(X, y)
    assert_same_fit(robust.fit(X, y), expected)


# The meta-estimator


class Recorder:
    """Writes down the tasks of a fit."""

    def __init__(self):
        self.names = []

    def setup(self, estimator, context):
        pass

    def on_fit_task_begin(self, estimator, context):
        self.names.append(context.task_name)

    def on_fit_task_end(self, estimator, context):
        pass

    def teardown(self, estimator, context):
        self.names.append("teardown")


@pytest.mark.usefixtures("in_one_thread")
def test_callbacks_of_the_estimator_see_the_stages_of_a_fit(data):
    pytest.importorskip("sklearn.callback", reason="came with scikit-learn 1.9")
    recorder = Recorder()
    network = DeepTDRegressor(SIZES, random_state=0).set_callbacks(recorder)
    network.fit(*data)
    expected, recorder.names = recorder.names, []
    DaskDeepTDRegressor(network).fit(*map(chunked, data))
    assert recorder.names == expected
    assert (expected[0], expected[-1]) == ("fit", "teardown")


KINDS = [
    (DaskDeepTDRegressor, DeepTDRegressor),
    (DaskDeepTDClassifier, DeepTDClassifier),
]


@pytest.mark.parametrize(("meta", "plain"), KINDS)
def test_the_estimator_is_of_the_right_kind(meta, plain):
    [other] = {DeepTDRegressor, DeepTDClassifier} - {plain}
    message = f"must be an instance of .*{plain.__name__}"
    for wrong in (other(), plain, DeepTDRegressorCV(), "network"):
        with pytest.raises(ValueError, match=message):
            meta(wrong).fit(X[:9], Y[:9] > 0)


@pytest.mark.parametrize(("meta", "plain"), KINDS)
def test_parameters_are_those_of_the_estimator(meta, plain):
    assert meta().get_params() == {"estimator": None, "client": None}
    nested = meta(plain()).set_params(estimator__kernel_sizes=(4, 4))
    assert nested.get_params()["estimator__kernel_sizes"] == (4, 4)
    assert clone(nested).estimator.kernel_sizes == (4, 4)
    assert clone(nested).estimator is not nested.estimator


@pytest.mark.usefixtures("in_one_thread")
def test_a_clone_of_the_estimator_is_fitted(data):
    X, y = map(chunked, data)
    network = DeepTDRegressor(SIZES, random_state=0)
    fitted = DaskDeepTDRegressor(network).fit(X, y)
    with pytest.raises(NotFittedError):
        network.predict(data[0])
    assert fitted.n_features_in_ == 64
    with pytest.raises(ValueError, match="'n_init' parameter of DeepTDRegressor"):
        fitted.set_params(estimator__n_init="many").fit(X, y)
    with pytest.raises(NotFittedError):
        fitted.predict(X)


@pytest.mark.usefixtures("in_one_thread")
@pytest.mark.parametrize(("meta", "plain"), KINDS)
def test_without_an_estimator_the_default_one_is_fitted(meta, plain):
    X, y = labelled(2)
    fitted = meta().fit(*in_label_chunks(X, y))
    assert type(fitted.estimator_) is plain
    assert fitted.estimator_.get_params() == plain().get_params()


def test_progress_is_printed_with_the_name_of_the_class(data, capsys):
    with dask.config.set(scheduler="synchronous"):
        model(verbose=1).fit(*map(chunked, data))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "[DeepTDRegressor] moment: 6000 rows of 64 features"
    assert any("of that of a constant" in line for line in lines)


@pytest.mark.filterwarnings("ignore:The polish of output")
@pytest.mark.filterwarnings("ignore:Nothing could be learned")
@pytest.mark.filterwarnings("ignore:The network is linear")
@parametrize_with_checks(
    [
        DaskDeepTDRegressor(DeepTDRegressor(polish=False, random_state=0)),
        DaskDeepTDClassifier(DeepTDClassifier(polish=False, random_state=0)),
    ]
)
def test_scikit_learn_check(estimator, check):
    check(estimator)


def small_frames(y):
    dd = pytest.importorskip("dask.dataframe")
    X = np.random.default_rng(3).standard_normal((40, 12))
    frame = pd.DataFrame(X, columns=[f"c{i}" for i in range(12)])
    return dd.from_pandas(frame, npartitions=2), dd.from_pandas(y, npartitions=2)


@pytest.mark.parametrize("make", [DaskDeepTDRegressor, DaskDeepTDClassifier])
@pytest.mark.parametrize("dtype", ["Int64", "Float64", "boolean"])
@pytest.mark.usefixtures("in_one_thread")
def test_missing_values_in_y_of_frames_are_named(make, dtype):
    y = pd.Series(np.arange(40) % 2).astype(dtype)
    y[25] = pd.NA
    with pytest.raises(ValueError, match="y holds missing values; fill them"):
        make().fit(*small_frames(y))


@pytest.mark.parametrize("dtype", ["object", "str"])
@pytest.mark.usefixtures("in_one_thread")
def test_strings_are_no_numbers_in_frames_either(dtype):
    y = pd.Series(np.array(["often", "never"])[np.arange(40) % 2]).astype(dtype)
    message = "y holds strings, such as 'often', but this is a regressor"
    with pytest.raises(ValueError, match=message):
        DaskDeepTDRegressor().fit(*small_frames(y))


@pytest.mark.parametrize("make", [DaskDeepTDRegressor, DaskDeepTDClassifier])
@pytest.mark.usefixtures("in_one_thread")
def test_dates_and_masks_of_chunks_are_refused(make):
    X, day = np.ones((40, 12)), (np.arange(40) % 2).astype("datetime64[D]")
    y, masked = da.from_array(np.arange(40) % 2), np.ma.masked_array(X, mask=X > 0)
    with pytest.raises(TypeError, match=r"numbers or classes, got datetime64\[D\]"):
        make().fit(da.from_array(X), da.from_array(day))
    with pytest.raises(TypeError, match="X is a masked array"):
        make().fit(da.from_array(masked), y)
