import threading
from pathlib import Path

import numpy as np

import skdeeptd
from skdeeptd._data.scratch import SMALL, empty, reusing


def shares(a, b):
    return np.shares_memory(a, b)


def test_memory_is_used_again_for_the_same_name_only():
    with reusing():
        a = empty("a", (SMALL,), float)
        assert shares(empty("a", (SMALL // 2, 2), float), a)
        assert shares(empty("a", (SMALL,), np.float32), a)
        assert not shares(empty("b", (SMALL,), float), a)


def test_memory_is_given_back_at_the_end_of_the_outermost_context():
    with reusing():
        with reusing():
            a = empty("a", (SMALL,), float)
        assert shares(empty("a", (SMALL,), float), a)
    a, b = (empty("a", (SMALL,), float) for _ in range(2))
    assert not shares(a, b)
    with reusing():
        assert not shares(empty("a", (SMALL,), float), a)


def test_a_name_keeps_no_more_than_its_largest_array():
    with reusing():
        small = empty("a", (SMALL,), float)
        large = empty("a", (2 * SMALL,), float)
        assert not shares(small, large)
        assert shares(empty("a", (SMALL,), float), large)


def test_threads_share_no_memory():
    of_thread = []

    def other():
        with reusing():
            of_thread.append(empty("a", (SMALL,), float))

    with reusing():
        mine = empty("a", (SMALL,), float)
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert not shares(mine, of_thread[0])
        assert shares(empty("a", (SMALL,), float), mine)


def test_the_allocator_of_the_process_is_left_alone():
    """Which only ctypes could reach."""
    folder = Path(skdeeptd.__file__).parent
    sources = {path: path.read_text() for path in folder.rglob("*.py")}
    assert sources
    assert [path for path, text in sources.items() if "ctypes" in text] == []
