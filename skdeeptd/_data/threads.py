"""Threads over tasks, each of them with a BLAS of one thread."""

import functools
import itertools
import time
from contextlib import contextmanager
from threading import Event, Lock, Thread, local

from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController

from skdeeptd._data.scratch import reusing

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


def in_threads(task, begins, n_threads):
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
            with reusing():
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
