import dis
import multiprocessing
import sys
import threading
from collections import deque
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import skdeeptd
from skdeeptd._data import threads
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.scratch import SMALL, empty
from skdeeptd._data.threads import in_threads, single_threaded_blas

PACKAGE = str(Path(skdeeptd.__file__).parent)


def blas_threads():
    return [
        pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"
    ]


def assert_limited_inside_only(before):
    with single_threaded_blas():
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_BLAS_has_one_thread_inside_the_outermost_context_only():
    before = blas_threads()
    with single_threaded_blas():
        with single_threaded_blas():
            assert set(blas_threads()) == {1}
        assert set(blas_threads()) == {1}
    assert blas_threads() == before


def test_an_error_gives_the_threads_back():
    before = blas_threads()
    with pytest.raises(IndexError), single_threaded_blas():
        raise IndexError
    assert blas_threads() == before


def test_threads_that_overlap_in_any_order_have_one_and_give_all_back():
    before, seen = blas_threads(), []
    inside, first_out = threading.Event(), threading.Event()

    def second():
        with single_threaded_blas():
            seen.append(blas_threads())
            inside.set()
            first_out.wait()
            seen.append(blas_threads())

    thread = threading.Thread(target=second)
    with single_threaded_blas():
        thread.start()
        inside.wait()
        seen.append(blas_threads())
    first_out.set()
    thread.join()
    assert {count for counts in seen for count in counts} == {1}
    assert blas_threads() == before


def test_the_last_thread_gives_back_what_another_had_limited():
    before = blas_threads()
    left, end = threading.Event(), threading.Event()

    def second():
        with single_threaded_blas():
            pass
        left.set()
        end.wait()

    thread = threading.Thread(target=second)
    with single_threaded_blas():
        thread.start()
        left.wait()
    assert blas_threads() == before
    end.set()
    thread.join()


def test_a_limit_of_another_thread_does_not_count_inside():
    inside, out = threading.Event(), threading.Event()

    def limit():
        with threadpool_limits(2):
            inside.set()
            out.wait()

    thread = threading.Thread(target=limit)
    thread.start()
    inside.wait()
    assert_limited_inside_only(blas_threads())
    out.set()
    thread.join()


def test_other_threads_can_limit_BLAS_afterwards():
    seen = []

    def limit():
        with threadpool_limits(1):
            seen.extend(blas_threads())

    with single_threaded_blas():
        pass
    thread = threading.Thread(target=limit)
    thread.start()
    thread.join()
    assert set(seen) == {1}


# Interrupts


def ends_with_statement(frame):
    """Whether the next instructions call ``__exit__(None, None, None)``.

    CPython raises no interrupt there, so that a lock is always released.
    """
    code = [i for i in dis.get_instructions(frame.f_code) if i.offset >= frame.f_lasti]
    return [i.argval for i in code[:3] if i.opname == "LOAD_CONST"] == [None] * 3


class Interrupter:
    """Raises KeyboardInterrupt before the so-many-th line run in the package."""

    def __init__(self, line):
        self.left, self.traced = line, None

    def trace(self, frame, event, _):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line" and not ends_with_statement(frame):
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self.trace

    def __enter__(self):
        self.traced = sys.gettrace()
        sys.settrace(self.trace)

    def __exit__(self, *_):
        sys.settrace(self.traced)


def memory_is_shared():
    a, b = (empty("a", (SMALL,), float) for _ in range(2))
    return np.shares_memory(a, b)


def hold():
    with single_threaded_blas():
        pass


def sum_up():
    rows = RowBlocks(np.ones((3, 2)), np.ones(3), np.ones(3))
    rows.reduce(lambda X, y, w: (w @ X,))


@pytest.mark.parametrize("call", [hold, sum_up])
def test_an_interrupt_before_any_line_leaves_BLAS_and_memory_as_they_were(call):
    before, interrupts = blas_threads(), []
    while True:
        try:
            with Interrupter(len(interrupts) + 1):
                call()
        except KeyboardInterrupt as interrupt:
            interrupts.append(interrupt)  # with the frames in its traceback
            assert blas_threads() == before
            assert_limited_inside_only(before)
            assert not memory_is_shared()
        else:
            break
    assert len(interrupts) > 20


def test_an_error_in_a_task_ends_the_others_and_is_raised():
    begun = []

    def task(begin):
        begun.append(begin)
        raise IndexError(begin)

    with pytest.raises(IndexError, match=r"^[01]$"):
        in_threads(task, range(10_000), 2)
    assert len(begun) <= 2


def test_an_error_in_one_task_ends_the_other_threads(monkeypatch):
    ended, begun = threading.Event(), []

    class Waiting(deque):
        def clear(self):
            super().clear()
            ended.set()

    def task(begin):
        begun.append(begin)
        if begin == 0:
            raise IndexError(begin)
        assert ended.wait(timeout=10)

    monkeypatch.setattr(threads, "deque", Waiting)
    with pytest.raises(IndexError, match="0"):
        in_threads(task, range(10_000), 2)
    assert ended.is_set()
    assert len(begun) <= 2


@pytest.mark.parametrize("n_started", [0, 1])
def test_a_thread_that_cannot_be_started_is_an_error(monkeypatch, n_started):
    before, start = blas_threads(), threading.Thread.start
    left, failed = [None] * n_started, threading.Event()

    def start_or_fail(thread):
        if not left:
            failed.set()
            raise RuntimeError("can't start new thread")
        left.pop()
        start(thread)

    def task(begin):
        failed.wait()
        return str(begin)

    monkeypatch.setattr(threading.Thread, "start", start_or_fail)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        in_threads(task, range(10), 2)
    monkeypatch.undo()
    assert blas_threads() == before
    assert in_threads(task, range(10), 2) == list(map(str, range(10)))


def test_a_context_needs_no_thread(monkeypatch):
    """In a container whose limit of threads is reached a small fit still works."""
    before = blas_threads()
    monkeypatch.setattr(threading.Thread, "start", None)
    assert_limited_inside_only(before)


# Fork


def works(before):
    assert blas_threads() == before
    assert_limited_inside_only(before)
    counts = in_threads(lambda _: blas_threads(), range(4), 2)
    assert {count for of_task in counts for count in of_task} == {1}
    assert blas_threads() == before


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="there is no fork"
)
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_while_another_thread_is_inside_works():
    before = blas_threads()
    inside, out = threading.Event(), threading.Event()

    def other():
        with single_threaded_blas():
            inside.set()
            out.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    child = multiprocessing.get_context("fork").Process(target=works, args=(before,))
    try:
        child.start()
        child.join(timeout=60)
        assert child.exitcode == 0
    finally:
        child.kill()
        out.set()
        thread.join()
    assert blas_threads() == before
