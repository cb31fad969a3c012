"""Take arrays of other libraries, such as tensors, and give results back as such.

This is done for scikit-learn's array API dispatch only. Without it numpy reads what it
can, and results are numpy arrays.
"""

import functools

import numpy as np
from sklearn import config_context, get_config

from skdeeptd._compat import convert_to_numpy, get_namespace
from skdeeptd._typing import Method

METHODS = (
    "fit",
    "fit_transform",
    "partial_fit",
    "transform",
    "predict",
    "predict_interval",
    "predict_proba",
    "predict_log_proba",
    "decision_function",
    "score",
)


def takes_other_arrays(method: Method) -> Method:
    """Convert arrays of other libraries to numpy, and results to the library of X."""

    @functools.wraps(method)
    def convert_and_call(self, *args, **kwargs):
        if not get_config()["array_api_dispatch"]:
            return method(self, *args, **kwargs)
        library = _library_of(args[0] if args else kwargs.get("X"))
        args = [_as_numpy(value) for value in args]
        kwargs = {name: _as_numpy(value) for name, value in kwargs.items()}
        with config_context(array_api_dispatch=False):
            result = method(self, *args, **kwargs)
        return _in_library(result, library)

    return convert_and_call  # type: ignore[return-value]


def _library_of(value):
    """Return the array namespace of a value; None for numpy and what is no array."""
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return None
    return get_namespace(value)[0]


def _as_numpy(value):
    library = _library_of(value)
    return value if library is None else convert_to_numpy(value, library)


def _in_library(result, library):
    """Return arrays of numbers as arrays of a library, in memory of the CPU."""
    if isinstance(result, tuple):
        return tuple(_in_library(part, library) for part in result)
    is_numbers = isinstance(result, np.ndarray) and result.dtype.kind in "biuf"
    return library.asarray(result) if library is not None and is_numbers else result
