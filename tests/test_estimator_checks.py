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

ESTIMATORS = [
    DeepTDRegressor(),
    DeepTDRegressor(n_filters=2),
    DeepTDRegressor(polish=False),
    DeepTDRegressor(activation="tanh", n_init=3),
    DeepTDRegressor(output_activation="relu", n_jobs=2),
    DeepTDRegressor(loss="huber"),
    DeepTDAutoRegressor(cv=2),
    DeepTDRegressorCV(cv=2),
    DeepTDFeatures(),
    DeepTDFeatures(n_random_filters=0, pooling=(1, 4), view="snv"),
    DeepTDFeatures(n_filters=0, pooling="local", dilations=(1,)),
    SignalScaler(),
    SignalScaler(view="snv"),
    DeepTDRidge(),
    DeepTDRidge(kernel="rbf"),
    DeepTDRidge(kernel="laplace", metric="learned"),
    DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned"),
    DeepTDRidgeClassifier(),
    DeepTDRidgeClassifier(kernel="rbf", metric="learned"),
    DeepTDRidgeClassifier(SignalScaler(), kernel="laplace"),
    DeepTDClassifier(),
    DeepTDClassifier(activation="tanh", tol=1e-3),
    DeepTDClassifier(strides=1),
    DeepTDClassifier(class_weight="balanced", n_jobs=2),
    DeepTDAutoClassifier(cv=2),
    DeepTDClassifierCV(cv=2),
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
