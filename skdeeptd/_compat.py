"""Import all that is private in scikit-learn, or differs between its versions.

The private names have had the same form from scikit-learn 1.6 to 1.9. Callbacks came
with 1.9; before, a fit reports its progress to nobody.
"""

from collections.abc import Callable
from contextlib import contextmanager

from sklearn.base import _fit_context
from sklearn.utils._array_api import _convert_to_numpy
from sklearn.utils._array_api import get_namespace as get_namespace
from sklearn.utils._param_validation import HasMethods as HasMethods
from sklearn.utils._param_validation import Interval as Interval
from sklearn.utils._param_validation import StrOptions as StrOptions
from sklearn.utils._param_validation import (
    validate_parameter_constraints as validate_parameter_constraints,
)
from sklearn.utils.validation import _check_feature_names_in, _check_sample_weight

from skdeeptd._typing import Method

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Have no callbacks."""

        def _init_callback_context(self, **_):
            return _NullTask()


class _NullTask:
    def subcontext(self, **_):
        return self

    def _ignore(self, **_):
        pass

    call_on_fit_task_begin = call_on_fit_task_end = _ignore


convert_to_numpy = _convert_to_numpy
check_feature_names_in = _check_feature_names_in
check_sample_weight = _check_sample_weight


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
    """Return scikit-learn's decorator, which here keeps the type of a method."""
    return _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)


@contextmanager
def callback_task(task, estimator, **data):
    """Report the begin and the end of a task of a fit to the callbacks of an estimator.

    ``data`` belong to the task that is the whole fit. At its end no attribute has to be
    reconstructed.
    """
    task.call_on_fit_task_begin(estimator=estimator, **data)
    yield
    missing = {} if data else None
    task.call_on_fit_task_end(
        estimator=estimator, reconstruction_attributes=missing, **data
    )
