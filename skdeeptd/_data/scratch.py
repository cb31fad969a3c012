"""Arrays whose memory the next block of rows uses again.

A C library gives large freed arrays back to the system, and new pages cost more than
the work on a block. Inside ``reusing`` a thread therefore gets the same memory for the
same name.
"""

import functools
import math
import weakref
from contextlib import nullcontext
from threading import local

import numpy as np

SMALL = 2**13  # numbers; numpy allocates fewer faster than this module


class InterruptSafeContext:
    """Call ``enter``, and at the end ``leave``, again if an interrupt breaks that off.

    KeyboardInterrupt can be raised before the first line of any function. Only the
    ``with`` statement refers to the function that it calls at its end, so that this
    function dies with the statement in any case; ``leave`` is called at its death.

    Parameters
    ----------
    enter : callable
    leave : callable
        Takes and ignores the arguments of ``__exit__``. A second call does nothing.
    """

    def __init__(self, enter, leave):
        self._enter, self._leave = enter, leave

    @property
    def __exit__(self):
        end = functools.partial(self._end)
        self._at_death = weakref.ref(end, self._leave)
        return end

    def __enter__(self):
        self._enter()

    def _end(self, *_):
        self._leave()
        self._at_death = None


class _ThreadMemory(local):
    buffers = None  # name -> bytes; None outside ``reusing``

    def enter(self):
        self.buffers = {}

    def leave(self, *_):
        self.buffers = None


_memory = _ThreadMemory()


def reusing():
    """Keep the memory of ``empty`` until a thread leaves its outermost such context."""
    if _memory.buffers is None:
        return InterruptSafeContext(_memory.enter, _memory.leave)
    return nullcontext()


def empty(name, shape, dtype):
    """Return an array of undefined content; the next one of that name may share it."""
    buffers, size = _memory.buffers, math.prod(shape)
    if size < SMALL or buffers is None:
        return np.empty(shape, dtype)
    n_bytes = size * np.dtype(dtype).itemsize
    if name not in buffers or len(buffers[name]) < n_bytes:
        buffers[name] = np.empty(n_bytes, np.uint8)
    return buffers[name][:n_bytes].view(dtype).reshape(shape)
