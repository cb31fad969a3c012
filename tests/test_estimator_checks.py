import pytest
from sklearn.utils.estimator_checks import (
    check_dataframe_column_names_consistency,
    check_inplace_ensure_writeable,
    check_param_validation,
    parametrize_with_checks,
)

from skdeeptd import (
    DeepTDAutoClassifier,
    DeepTDAutoRegressor,
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDFeatures,
    DeepTDRegressor,
    DeepTDRegressorCV,
    DeepTDRidge,
    DeepTDRidgeClassifier,
    SignalScaler,
)

# Each class, and the variants that check data or weights in code of their own.
GRID = {"polish": [False]}
ESTIMATORS = [
    DeepTDRegressor(),
    DeepTDRegressor(polish=False),
    DeepTDRegressor(loss="huber"),
    DeepTDAutoRegressor(cv=2),
    DeepTDRegressorCV(GRID, cv=2),
    DeepTDFeatures(),
    DeepTDFeatures(n_filters=0, pooling="local", dilations=(1,)),
    SignalScaler(),
    SignalScaler(view="snv"),
    DeepTDRidge(),
    DeepTDRidge(kernel="laplace", metric="learned"),
    DeepTDRidgeClassifier(),
    DeepTDRidgeClassifier(SignalScaler(), kernel="laplace"),
    DeepTDClassifier(),
    DeepTDAutoClassifier(cv=2),
    DeepTDClassifierCV(GRID, cv=2),
]

# Small random data without any structure: that a polish runs out of its budget, or
# that nothing can be learned or that two features get a linear network, is no fault.
pytestmark = [
    pytest.mark.filterwarnings("ignore:The polish of output"),
    pytest.mark.filterwarnings("ignore:Nothing could be learned"),
    pytest.mark.filterwarnings("ignore:The network is linear"),
]


def expected_failures(estimator):
    """Return the checks that fail, with reasons."""
    if isinstance(estimator, DeepTDRidgeClassifier) and estimator.features is None:
        reason = (
            "the check has two features, and patterns of one feature that may occur "
            "anywhere do not say which of the two is large"
        )
        return {"check_classifiers_train": reason}
    return {}


@parametrize_with_checks(ESTIMATORS, expected_failed_checks=expected_failures)
def test_scikit_learn_check(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "check",
    [
        check_dataframe_column_names_consistency,
        check_param_validation,
        check_inplace_ensure_writeable,
    ],
)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_scikit_learn_check_that_is_not_yielded(estimator, check):
    check(type(estimator).__name__, estimator)
