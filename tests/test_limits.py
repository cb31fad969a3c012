"""A process with little memory or few threads: an error, and the next fit works."""

import os
import subprocess
import sys

import pytest

resource = pytest.importorskip("resource")
pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="reads /proc to set the limit"
)

PRELUDE = """
import resource, warnings
from contextlib import contextmanager
from pathlib import Path
import numpy as np
from threadpoolctl import threadpool_info
from skdeeptd import DeepTDFeatures, DeepTDRegressor, DeepTDRegressorCV, DeepTDRidge
from skdeeptd._data import rows

warnings.simplefilter("ignore")
rng = np.random.RandomState(0)
X = rng.standard_normal((300, 12))
y = np.maximum(X[:, :4] @ [1, 2, -1, 1], 0) + 0.1 * rng.standard_normal(300)

@contextmanager
def memory_left(mebibytes):
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limits = resource.getrlimit(resource.RLIMIT_AS)
    most = pages * resource.getpagesize() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (most, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)

def state():
    threads = [pool["num_threads"] for pool in threadpool_info()]
    fitted = DeepTDRegressor((4, 3), random_state=0).fit(X, y)
    return fitted.predict(X).tobytes(), threads

def outcome(fit, *arguments):
    try:
        fit(*arguments)
    except (MemoryError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "fitted"

before = state()
"""


IN_THREAD = """
import threading
threading.stack_size(2**25)
thread = threading.Thread(target=exec, args=({code!r}, {{}}))
thread.start()
thread.join()
"""


def run(code, seconds=120):
    """Run the code in a process of its own, which a hang ends with an error.

    The stack of a thread has its memory from the start; that of the process grows, and
    Linux ends a process whose stack has no room. The allocator of the C library
    reserves no memory for each thread.
    """
    command = [sys.executable, "-c", IN_THREAD.format(code=PRELUDE + code)]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
        env={**os.environ, "MALLOC_ARENA_MAX": "1"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_threads_that_the_system_does_not_start_are_an_error():
    """Each thread takes memory for its stack."""
    found = run("""
rows.PARALLEL_BYTES = 0  # threads pay for small data too
many = np.tile(X, (300, 1)), np.tile(y, 300)
with memory_left(mebibytes=8):
    print(outcome(DeepTDRegressor((4, 3), n_jobs=64).fit, *many))
print(outcome(DeepTDRegressor((4, 3), n_jobs=2).fit, *many))
print(state() == before)
""")
    assert found == ["RuntimeError: can't start new thread", "fitted", "True"]


@pytest.mark.parametrize(
    "estimator",
    [
        "DeepTDRegressor((120, 10), n_filters=8, n_init=1, max_iter=3)",
        "DeepTDRegressorCV({'n_filters': [8], 'n_init': [1], 'max_iter': [3]}, cv=2)",
        "DeepTDRidge(kernel='rbf', random_state=0)",
        "DeepTDFeatures(random_state=0)",
    ],
)
def test_memory_that_ends_in_a_fit_is_an_error(estimator):
    """Some MiB are left, because numpy may crash if the last bytes are taken."""
    found = run(f"""
wide = np.repeat(X, 100, axis=1)
for mebibytes in (4, 8, 16, 32, 1024):
    with memory_left(mebibytes):
        print(outcome({estimator}.fit, wide, y))
print(state() == before)
""")
    *outcomes, is_same = found
    assert "MemoryError: Unable to allocate" in outcomes[0]
    assert outcomes[-1] == "fitted"
    assert all(o == "fitted" or "MemoryError: " in o for o in outcomes), outcomes
    assert is_same == "True"
