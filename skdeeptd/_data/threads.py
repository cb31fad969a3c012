"""Run tasks in threads, each with a BLAS of one thread."""

import functools
import os
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from threading import RLock, get_ident

from threadpoolctl import ThreadpoolController

from skdeeptd._data.scratch import InterruptSafeContext, reusing


@functools.cache
def _blas():
    return ThreadpoolController().select(user_api="blas")


def _release_control():
    """Allow every thread to set the limits.

    In threadpoolctl from 3.7 on, OpenBLAS ignores all threads but the one that set its
    limit first.
    """
    for library in _blas().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)


class _ThreadLimits:
    """Hold BLAS at one thread while at least one thread of the process is active.

    The threads of a process share the limits of BLAS. The first active thread saves
    the limits, and the last one restores them.
    """

    def __init__(self):
        self._reset()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._reset_in_child)

    def _reset(self):
        self._lock, self._active, self._original = RLock(), set(), None

    def _restore(self):
        if self._original is not None:
            _release_control()
            self._original.restore_original_limits()
            _release_control()
            self._original = None

    def _reset_in_child(self):
        """Restore the limits: a fork leaves the active threads behind."""
        self._restore()
        self._reset()

    def is_active(self):
        """Return whether this thread is active."""
        return get_ident() in self._active

    def set_active(self):
        """Make this thread active."""
        with self._lock:
            if self._original is None:
                self._original = _blas().limit(limits=None)
            self._active.add(get_ident())
            _release_control()
            _blas().limit(limits=1)  # some builds of BLAS have a limit for each thread

    def set_inactive(self, *_):
        """Undo ``set_active``, however far it came; a second call does nothing."""
        with self._lock:
            self._active.discard(get_ident())
            if not self._active:
                self._restore()


_limits = _ThreadLimits()


def single_threaded_blas():
    """Hold BLAS at one thread while any caller, in any thread, is inside."""
    if _limits.is_active():
        return nullcontext()
    return InterruptSafeContext(_limits.set_active, _limits.set_inactive)


def in_threads(task, begins, n_threads):
    """Return ``task(begin)`` for each of ``begins``, in their order.

    Raises
    ------
    RuntimeError
        If the system starts no further thread. An error of a task is raised likewise.
    """
    results, waiting = [None] * len(begins), deque(enumerate(begins))

    def work():
        with single_threaded_blas(), reusing():
            while True:
                try:
                    i, begin = waiting.popleft()
                except IndexError:
                    return
                results[i] = task(begin)

    with ThreadPoolExecutor(n_threads) as pool:
        try:
            for worker in [pool.submit(work) for _ in range(n_threads)]:
                worker.result()
        finally:
            waiting.clear()
    return results
