"""Arrays whose memory the next block uses again.

A C library gives large freed arrays back to the system, and new pages cost more than
the work on a block. So what a block makes is taken from here: the same memory for the
same name, per thread, for as long as that thread is ``reusing``.
"""

import math
from contextlib import contextmanager
from threading import local

import numpy as np

SMALL = 2**13  # numbers that are had faster without


class _Kept(local):
    buffers = None


_kept = _Kept()


@contextmanager
def reusing():
    """Keep the memory of ``empty`` until a thread leaves its outermost such context."""
    if _kept.buffers is not None:
        yield
        return
    _kept.buffers = {}
    try:
        yield
    finally:
        _kept.buffers = None


def empty(name, shape, dtype):
    """An array whose content is undefined; the next one of that name may share it."""
    size = math.prod(shape)
    if size < SMALL or _kept.buffers is None:
        return np.empty(shape, dtype)
    dtype = np.dtype(dtype)
    n_bytes = size * dtype.itemsize
    buffer = _kept.buffers.get(name)
    if buffer is None or len(buffer) < n_bytes:
        buffer = _kept.buffers[name] = np.empty(n_bytes, np.uint8)
    return buffer[:n_bytes].view(dtype).reshape(shape)
