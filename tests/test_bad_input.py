"""What bad input gets: an error with the offending value, and no model."""

import warnings

import numpy as np
import pytest
from scipy.sparse import csr_array
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skdeeptd import DeepTDRegressor
from skdeeptd._data.rows import RowBlocks
from skdeeptd._validation import translate_overflow_error
from skdeeptd.datasets import make_patch_cnn_regression

RNG = np.random.RandomState(0)
X, Y = RNG.randn(20, 24), RNG.randn(20)
WEIGHT = np.ones(20)


def with_value(array, value, position=3):
    array = np.array(array)
    array[position] = value
    return array


BAD_PARAMETERS = [
    ({"kernel_sizes": (4, 5)}, r"\(4, 5\) multiply to 20 .*24: .*write 6.*\(4, 6\)$"),
    ({"kernel_sizes": (7,)}, r"multiply to 7 .*length 24: .*write 24.*\(24,\)$"),
    ({"kernel_sizes": (4, 6, 0)}, "at least 1, got 0"),
    ({"kernel_sizes": (-4, -6)}, "at least 1, got -4"),
    ({"kernel_sizes": (4.0, 6)}, "integers, got 4.0"),
    ({"kernel_sizes": (4, True, 6)}, "integers, got True"),
    ({"kernel_sizes": (4, "6")}, "integers, got '6'"),
    ({"kernel_sizes": (4, None)}, "integers, got None"),
    ({"kernel_sizes": ()}, r"kernel_sizes is empty.*\(6, 4\)"),
    ({"kernel_sizes": 24}, "kernel_sizes.*Got 24"),
    ({"kernel_sizes": "4, 6"}, "kernel_sizes.*Got '4, 6'"),
    ({"kernel_sizes": ((4, 6), (1, 1))}, r"\(4, 6\) has 2 axes"),
    ({"input_shape": (4, 5)}, r"\(4, 5\) holds 20 numbers, but X has 24"),
    ({"input_shape": (4, -6)}, "at least 1, got -6"),
    ({"input_shape": ()}, "input_shape is empty"),
    (
        {"input_shape": (4, 6), "kernel_sizes": ((2, 2), (2, 2))},
        r"length 6: .*is 3 .*on axis 1, got size 2.* \(\(2, 2\), \(2, 3\)\)$",
    ),
    ({"kernel_sizes": (4, 6, 2)}, r"to 48 .*length 24: .*write 1 or -1.*\(4, 6\)$"),
    ({"kernel_sizes": (30,)}, r"length 24: .*got size 30; write 24.*\(24,\)$"),
    ({"kernel_sizes": (30, 1)}, r"size 30 of layer 1 .* meet zeros only.* 1 to 24 fit"),
    (
        {"input_shape": (4, 2, 3), "kernel_sizes": ((2, 2, 4), (2, 1))},
        r"length 3: .*size 4 .*on axis 2.* to 3 fit.* \(\(2, 2, 3\), \(2, 1, 1\)\)$",
    ),
    (
        {"input_shape": (4, 6), "kernel_sizes": (4,)},
        r"length 6: .*is 6 .*on axis 1, got size 4.*example \(\(4, 6\),\)$",
    ),
    ({"kernel_sizes": (4, 6), "activation": ["relu", "tanh"]}, "2 entries.*1 hidden"),
    ({"activation": "elu"}, "activation.*relu.*'elu'"),
    ({"kernel_sizes": (4, 6), "activation": ["elu"]}, "'elu'; known are relu"),
    ({"kernel_sizes": (4, 6), "activation": [3]}, "unknown activation 3"),
    ({"output_activation": "softmax"}, "output_activation.*'softmax'"),
    ({"n_filters": 0}, "n_filters.*Got 0"),
    ({"n_filters": 1.5}, "n_filters.*Got 1.5"),
    ({"alpha": -1.0}, "alpha.*Got -1.0"),
    ({"alpha": np.inf}, "alpha.*Got inf"),
    ({"alpha": np.nan}, "alpha.*Got nan"),
    ({"tol": -1e-3}, "tol.*Got -0.001"),
    ({"max_iter": 0}, "max_iter.*Got 0"),
    ({"n_init": 0}, "n_init.*Got 0"),
    ({"n_jobs": 0}, "n_jobs == 0"),
    ({"n_jobs": 1.5}, "n_jobs.*Got 1.5"),
    ({"polish": "yes"}, "polish.*Got 'yes'"),
    ({"fit_intercept": None}, "fit_intercept.*Got None"),
    ({"random_state": -1}, "random_state.*Got -1"),
    ({"verbose": -1}, "verbose.*Got -1"),
]

BAD_DATA = {
    "NaN in X": (with_value(X, np.nan), Y, None, "X contains NaN"),
    "inf in X": (with_value(X, np.inf), Y, None, "X contains infinity"),
    "NaN in y": (X, with_value(Y, np.nan), None, "y contains NaN"),
    "inf in y": (X, with_value(Y, -np.inf), None, "y contains infinity"),
    "NaN weight": (X, Y, with_value(WEIGHT, np.nan), "sample_weight contains NaN"),
    "inf weight": (X, Y, with_value(WEIGHT, np.inf), "sample_weight contains infinity"),
    "negative weight": (X, Y, with_value(WEIGHT, -2), "got -2 at row 3"),
    "all-zero weights": (X, Y, 0 * WEIGHT, "(?i)sample.weight.*zero"),
    "short weights": (X, Y, WEIGHT[:-1], r"sample_weight.shape == \(19,\)"),
    "two columns of weights": (X, Y, np.ones((20, 2)), "1D array or scalar"),
    "short y": (X, Y[:-1], None, r"\[20, 19\]"),
    "no y": (X, None, None, "requires y"),
    "no samples": (X[:0], Y[:0], None, "0 sample"),
    "no features": (X[:, :0], Y, None, "0 feature"),
    "no outputs": (X, np.empty((20, 0)), None, "0 feature|at least one output"),
    "X of one axis": (X[0], Y[:1], None, "Expected 2D array"),
    "y of three axes": (X, Y.reshape(20, 1, 1), None, "dim 3"),
    "complex X": (X + 1j, Y, None, "Complex data not supported"),
    "complex y": (X, Y + 1j, None, "Complex data not supported"),
    "text in X": (with_value(X.astype(object), "abc"), Y, None, "abc"),
    "text in y": (X, with_value(Y.astype(object), "abc"), None, "abc"),
    "text y": (
        X,
        Y.astype(str),
        None,
        "this is a regressor; for classes use DeepTDClassifier",
    ),
    "sparse X": (csr_array(X), Y, None, "[Ss]parse"),
    "sparse y": (X, csr_array(Y[:, np.newaxis]), None, "dense array"),
    "huge X": (
        1e307 * X,
        1e300 * Y,
        None,
        r"too large or too small: .*largest \|X\| is 2.*e\+307",
    ),
    "large X": (
        1e160 * X,
        Y,
        None,
        r"too large or too small: .*largest \|X\| is 2.*e\+160",
    ),
    "tiny X": (1e-140 * X, Y, None, r"too small: .*underflow.*\|X\| is 2.*e-140"),
    "huge y": (
        X,
        1e308 * np.abs(np.cos(Y)),
        None,
        r"the mean of y overflows.*largest \|y\| 9.99e\+307",
    ),
}


def assert_raises_and_stays_unfitted(estimator, X, y, weight, message):
    with pytest.raises((ValueError, TypeError), match=message):
        estimator.fit(X, y, sample_weight=weight)
    with pytest.raises(NotFittedError):
        check_is_fitted(estimator)
    with pytest.raises(NotFittedError):
        estimator.predict(np.ones((1, 24)))


@pytest.mark.parametrize(("parameters", "message"), BAD_PARAMETERS)
def test_bad_parameters(parameters, message):
    assert_raises_and_stays_unfitted(
        DeepTDRegressor(**parameters), X, Y, None, f"(?s){message}"
    )


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(case):
    X, y, weight, message = BAD_DATA[case]
    assert_raises_and_stays_unfitted(DeepTDRegressor(), X, y, weight, message)


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
@pytest.mark.parametrize("size", [1e-300, 1e-158, 1e-110, 1e154, 1e200, 1e300])
@pytest.mark.parametrize("n_filters", [1, 3])
def test_overflow_is_an_error_or_a_finite_model(size, activation, n_filters):
    estimator = DeepTDRegressor(
        activation=activation, n_filters=n_filters, n_init=5, random_state=0
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        try:
            predicted = estimator.fit(size * X, Y).predict(size * X)
        except ValueError as error:
            predicted = str(error)
    if isinstance(predicted, str):
        assert "too large" in predicted
    else:
        assert np.all(np.isfinite(predicted))


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (with_value(X, np.nan), "X contains NaN"),
        (with_value(X, np.inf), "X contains infinity"),
        (X[:, :23], "23 features, but DeepTDRegressor is expecting 24"),
        (X[0], "Expected 2D array"),
        (X[:0], "0 sample"),
        (X + 1j, "Complex data not supported"),
    ],
)
def test_bad_data_for_predict(bad, message):
    with pytest.raises(ValueError, match=message):
        DeepTDRegressor(random_state=0, n_init=1).fit(X, Y).predict(bad)


BLIND_SPOTS = {
    "a weight of zero": (Y, with_value(WEIGHT, 0)),
    "a y that is the mean": (np.roll(np.r_[0, 0, 1:10, -9:0], 3), None),
    "a y that is constant": (np.ones(20), None),
    "two outputs, one of them constant": (np.column_stack([Y, np.ones(20)]), None),
}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("case", BLIND_SPOTS)
def test_no_row_may_hide_what_is_not_finite(case, dtype, value):
    y, weight = BLIND_SPOTS[case]
    bad = with_value(X.astype(dtype), value, (3, 5))
    kind = "NaN" if np.isnan(value) else "infinity"
    assert_raises_and_stays_unfitted(
        DeepTDRegressor(), bad, y, weight, f"Input X contains {kind}"
    )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [0, 13, 23])
@pytest.mark.parametrize("activation", ["relu", "tanh", "logistic"])
def test_no_activation_and_no_zero_weight_hides_what_is_not_finite(
    activation, position, value
):
    model = DeepTDRegressor((4, 6), activation=activation, polish=False).fit(X, Y)
    zeroed = DeepTDRegressor((4, 6), polish=False).fit(X, Y)
    for kernels in zeroed.kernels_:
        kernels[..., :2] = 0
    for fitted in (model, zeroed):
        with pytest.raises(ValueError, match=r"X contains (NaN|infinity)"):
            fitted.predict(with_value(X, value, (3, position)))


def test_overflow_of_finite_numbers_is_nan_in_its_row_alone():
    model = DeepTDRegressor((4, 6), polish=False).fit(X, Y)
    huge = 1.7e308 * np.tile(np.sign(model.kernels_[0].ravel()), 6)
    with np.errstate(over="ignore"):
        predicted = model.predict(with_value(X, huge))
    assert np.flatnonzero(~np.isfinite(predicted)).tolist() == [3]


def test_samples_that_float32_cannot_hold_are_predicted_in_float64():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 24)).astype(np.float32)
    model = DeepTDRegressor((4, 6), random_state=0).fit(X, rng.standard_normal(60))
    X[3] = 3e38 * np.tile(np.sign(model.kernels_[0].ravel()), 6)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = model.predict(X, return_std=True)
        expected = model.predict(X.astype(float), return_std=True)
    np.testing.assert_allclose((mean, std), expected, rtol=1e-4)
    assert (mean.dtype, std.dtype) == (np.float64, np.float64)


def test_the_error_of_an_overflow_is_nan_too():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 24))
    model = DeepTDRegressor((4, 6), random_state=0).fit(X, rng.standard_normal(60))
    X[3] = 1.7e308 * np.tile(np.sign(model.kernels_[0].ravel()), 6)
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = model.predict(X, return_std=True)
    assert np.flatnonzero(~np.isfinite(mean)).tolist() == [3]
    assert np.flatnonzero(np.isnan(std)).tolist() == [3]


@pytest.mark.parametrize("lightest", [1e-30, 1e-300, 5e-324])
def test_a_sample_that_hardly_counts_changes_nothing(lightest):
    X, y = make_patch_cnn_regression(300, (4, 6), noise=0.1, random_state=0)
    model = DeepTDRegressor((4, 6), tol=1e-14, random_state=0)
    predicted = model.fit(X, y, with_value(np.ones(300), lightest)).predict(X)
    without = model.fit(X, y, with_value(np.ones(300), 0)).predict(X)
    np.testing.assert_allclose(predicted, without, atol=1e-6)


def test_a_decomposition_that_fails_is_blamed_on_the_size_of_the_data():
    rows = RowBlocks(1e150 * X, Y[:, np.newaxis], WEIGHT)
    message = r"too large or too small: .*onverge.*largest \|X\| is .*e\+150.*rescale"
    translated = translate_overflow_error(DeepTDRegressor(), rows)
    with pytest.raises(ValueError, match=message), translated:
        np.linalg.svd(np.full((2, 2), np.nan))
