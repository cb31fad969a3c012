"""Threads over tasks, each of them with a BLAS of one thread."""

import functools
import os
import weakref
from _thread import start_new_thread
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from queue import SimpleQueue
from threading import Lock, Thread, get_ident, local

from threadpoolctl import ThreadpoolController

from skdeeptd._data.scratch import reusing


@functools.cache
def _blas():
    return ThreadpoolController().select(user_api="blas")


def _present_limits():
    return _blas().limit(limits=None)


def _limit_to_one():
    _blas().limit(limits=1)


class _Apart(Thread):
    """A thread that says whether it is alive, as threadpoolctl asks, in one step.

    Before Python 3.13 an interrupt while Thread looks makes it seem to have ended.
    """

    def __init__(self, target):
        super().__init__(target=target, daemon=True)
        self._process, self._ended = os.getpid(), False

    def run(self):
        try:
            super().run()
        finally:
            self._ended = True

    def is_alive(self):
        return self._process == os.getpid() and not self._ended


def _start_apart(target):
    """Start a thread from another: an interrupt in ``Thread.start`` can break it."""
    start_new_thread(_Apart(target).start, ())


class _Keeper:
    """Holds the limits of the process while any thread says that it is inside.

    A thread of its own sets and lifts them: what one thread has set, no other can lift,
    and an interrupt never falls in it. The others only put a request and wait until it
    is done, which can be broken off anywhere and said again.
    """

    def __init__(self):
        self._requests, self._serving = SimpleQueue(), Lock()
        self._before = None

    def tell(self, inside):
        """Say whether this thread is inside; return when the limits are accordingly."""
        done = Lock()
        done.acquire()
        self._requests.put((get_ident(), inside, done))
        if not self._serving.locked():
            _start_apart(self._serve)
        done.acquire()

    def _serve(self):
        """Take requests; one that comes while another thread stops is seen by that."""
        while not self._requests.empty() and self._serving.acquire(blocking=False):
            try:
                if not self._requests.empty():
                    done = self._keep()
            finally:
                self._serving.release()
            done.release()

    def _keep(self):
        """Take requests until nobody is inside; the last of them is to be released."""
        threads = set()
        self._before = _present_limits()
        with self._before:
            _limit_to_one()
            while True:
                thread, inside, done = self._requests.get()
                (threads.add if inside else threads.discard)(thread)
                if not threads:
                    break
                done.release()
        self._before = None
        return done

    def lift_in_child(self):
        """What the thread of the keeper, which a fork has left behind, would do."""
        if self._before is not None:
            with self._before:
                pass


class _OfThread(local):
    inside = False
    before = None  # limits of this thread alone
    once_more = None


class _SingleThreadedBLAS:
    """Hold BLAS at one thread while any caller, in any thread, is inside.

    Some limits are those of a thread, others those of the process. Each thread sets and
    lifts its own, a keeper those of the process.

    An interrupt can fall before the first line of any function, so also of one that
    cleans up. So leaving can be done twice, and is, if the first time was broken off:
    when the ``with`` statement lets go of the function that it was to call at its end.
    """

    def __init__(self):
        self._begin_anew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._after_fork)

    def _begin_anew(self):
        self._keeper, self._of_thread = _Keeper(), _OfThread()

    def _after_fork(self):
        self._keeper.lift_in_child()
        self._begin_anew()

    def __call__(self):
        return nullcontext() if self._of_thread.inside else _Inside(self)

    def way_out(self):
        """A function to leave by, and whose end is that of being inside in any case."""
        leave = functools.partial(self._leave)
        self._of_thread.once_more = weakref.ref(leave, self._leave)
        return leave

    def enter(self):
        self._of_thread.inside = True
        self._keeper.tell(inside=True)
        self._of_thread.before = _present_limits()
        _limit_to_one()

    def _leave(self, *_):
        if self._of_thread.before is not None:
            self._of_thread.before.restore_original_limits()
            self._of_thread.before = None
        self._keeper.tell(inside=False)
        self._of_thread.inside = False
        self._of_thread.once_more = None


class _Inside:
    """Nothing but the ``with`` statement refers to its way out, not even a frame."""

    def __init__(self, limit):
        self._limit = limit

    @property
    def __exit__(self):
        return self._limit.way_out()

    def __enter__(self):
        self._limit.enter()


single_threaded_blas = _SingleThreadedBLAS()


def in_threads(task, begins, n_threads):
    """``task`` of each of ``begins``, in their order."""
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
