"""What differs between versions of scikit-learn, or is private there.

The private names have had the same form from scikit-learn 1.6 to 1.9. Callbacks came
with 1.9; before, a fit tells its progress to nobody.
"""

from collections.abc import Callable
from contextlib import contextmanager

from sklearn.base import _fit_context
from sklearn.utils._param_validation import (
    HasMethods,
    Interval,
    StrOptions,
    validate_parameter_constraints,
)
from sklearn.utils.validation import _check_feature_names_in as check_feature_names_in
from sklearn.utils.validation import _check_sample_weight as check_sample_weight

from skdeeptd._typing import Method

try:
    from sklearn.callback import CallbackSupportMixin
except ImportError:

    class CallbackSupportMixin:  # type: ignore[no-redef]
        """Without callbacks."""

        def _init_callback_context(self, **_):
            return _UnseenTask()


class _UnseenTask:
    def subcontext(self, **_):
        return self

    def call_on_fit_task_begin(self, **_):
        pass

    def call_on_fit_task_end(self, **_):
        pass


def fit_context(*, prefer_skip_nested_validation: bool) -> Callable[[Method], Method]:
    """The decorator of scikit-learn, under which a method keeps its type."""
    return _fit_context(prefer_skip_nested_validation=prefer_skip_nested_validation)


@contextmanager
def told(task, estimator, **data):
    """Tell the callbacks of an estimator that a task of its fit begins, and ends.

    ``data`` belong to the task that is the whole fit, at whose end nothing is missing.
    """
    task.call_on_fit_task_begin(estimator=estimator, **data)
    yield
    missing = {} if data else None
    task.call_on_fit_task_end(
        estimator=estimator, reconstruction_attributes=missing, **data
    )


__all__ = [
    "CallbackSupportMixin",
    "HasMethods",
    "Interval",
    "StrOptions",
    "check_feature_names_in",
    "check_sample_weight",
    "fit_context",
    "told",
    "validate_parameter_constraints",
]
