"""Arrays whose memory the next block uses again.

A C library gives large freed arrays back to the system, and new pages cost more than
the work on a block. So what a block makes is taken from here: the same memory for the
same name, per thread, for as long as that thread is ``reusing``.
"""

import functools
import math
import weakref
from contextlib import nullcontext
from threading import local

import numpy as np

SMALL = 2**13  # numbers that are had faster without


class _OfThread(local):
    end = staticmethod(lambda: None)  # a weak reference


_of_thread = _OfThread()


def reusing():
    """Keep the memory of ``empty`` until a thread leaves its outermost such context."""
    return _Reusing() if _of_thread.end() is None else nullcontext()


class _Reusing:
    """Only the ``with`` statement refers to the memory, by the function it ends with.

    So the memory goes with it, also where an interrupt keeps that from being called.
    """

    @property
    def __exit__(self):
        end = functools.partial(_end)
        end.buffers = {}
        self._end = weakref.ref(end)
        return end

    def __enter__(self):
        _of_thread.end = self._end


def _end(*_):
    pass


def empty(name, shape, dtype):
    """An array whose content is undefined; the next one of that name may share it."""
    size = math.prod(shape)
    if size < SMALL or _of_thread.end() is None:
        return np.empty(shape, dtype)
    dtype = np.dtype(dtype)
    n_bytes = size * dtype.itemsize
    buffer = _of_thread.end().buffers.get(name)
    if buffer is None or len(buffer) < n_bytes:
        buffer = _of_thread.end().buffers[name] = np.empty(n_bytes, np.uint8)
    return buffer[:n_bytes].view(dtype).reshape(shape)
