import numpy as np
import pytest

from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.standardize import standardize
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward

with_or_without_intercept = pytest.mark.parametrize("fit_intercept", [True, False])


def data(n_rows=40, n_outputs=2, seed=0, dtype=float):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((n_rows, 6)) + 1
    y = (X[:, :n_outputs] + rng.standard_normal((n_rows, n_outputs))) * 30 + 200
    return X.astype(dtype), y, rng.uniform(1, 4, n_rows)


def problem_of(X, y, weight=None, fit_intercept=True, **options):
    weight = np.ones(len(y)) if weight is None else weight
    return standardize(RowBlocks(X, y, weight), fit_intercept, **options)


def random_network(n_heads=2):
    rng = np.random.default_rng(3)
    blank = blank_network(
        make_layout(6, (3, 2)), 2, ("tanh", "identity"), n_heads=n_heads
    )
    return blank._replace(
        kernels=(rng.standard_normal((2, 3)),),
        heads=rng.standard_normal(blank.heads.shape),
        intercept=rng.standard_normal(n_heads),
    )


@with_or_without_intercept
def test_targets_have_size_one_and_with_an_intercept_mean_zero(fit_intercept):
    X, y, weight = data()
    problem = problem_of(X, y, weight, fit_intercept)
    mean, t = np.average(y, axis=0, weights=weight), problem.rows.y
    np.testing.assert_allclose(problem.shift, mean * fit_intercept, rtol=1e-14)
    np.testing.assert_allclose(t * problem.unit + problem.shift, y, rtol=1e-13)
    around_mean = t - np.average(t, axis=0, weights=weight)
    np.testing.assert_allclose(np.abs(around_mean).max(axis=0), 1, rtol=1e-13)
    assert problem.rows.weight.max() == 1
    np.testing.assert_allclose(problem.total, np.sum(weight) / weight.max())
    assert problem.n_rows == len(X)
    assert (problem.lightest, problem.heaviest) == (weight.min(), weight.max())
    assert problem.feature_size == np.abs(X).max()


@with_or_without_intercept
def test_equal_losses_have_targets_of_mean_square_one(fit_intercept):
    X, y, weight = data()
    problem = problem_of(X, y, weight, fit_intercept, equal_losses=True)
    squares = np.average(problem.rows.y**2, axis=0, weights=weight)
    np.testing.assert_allclose(squares, 1, rtol=1e-12)
    targets = problem.rows.y * problem.unit + problem.shift
    np.testing.assert_allclose(targets, y, rtol=1e-12)
    y[:, 1] = 3.0
    constant = problem_of(X, y, weight, True, equal_losses=True)
    np.testing.assert_array_equal(constant.rows.y[:, 1], 0)
    assert constant.unit[1] == 1


@with_or_without_intercept
@pytest.mark.parametrize("outputs", [[0], [1], [1, 0]], ids=str)
def test_networks_go_to_the_units_of_y_and_back(outputs, fit_intercept):
    X, y, weight = data()
    problem = problem_of(X, y, weight, fit_intercept)
    network = random_network(len(outputs))
    of_y = problem.in_units_of_y(network, outputs)
    expected = forward(network, X) * problem.unit[outputs] + problem.shift[outputs]
    np.testing.assert_allclose(forward(of_y, X), expected, rtol=1e-12)
    back = problem.in_units_of_target(of_y, outputs)
    np.testing.assert_allclose(back.heads, network.heads, rtol=1e-14)
    np.testing.assert_allclose(back.intercept, network.intercept, rtol=1e-12)


def test_a_penalty_weighs_as_much_beside_the_loss_in_both_units():
    X, y, weight = data()
    problem, network = problem_of(X, y, weight), random_network(1)
    residual = problem.rows.y[:, [1]] - forward(network, X)
    of_y = problem.in_units_of_y(network, [1])
    loss, penalty = problem.rows.weight @ residual**2, np.sum(network.heads**2)
    loss_of_y = weight @ (y[:, [1]] - forward(of_y, X)) ** 2
    penalty_of_y, given = np.sum(of_y.heads**2), 7.0
    np.testing.assert_allclose(
        (loss + problem.alpha(given) * penalty) / loss,
        (loss_of_y + given * penalty_of_y) / loss_of_y,
        rtol=1e-12,
    )
    np.testing.assert_allclose(problem.alpha_given(problem.alpha(given)), given)


def test_a_penalty_too_large_for_the_weights_is_named():
    problem = problem_of(*data()[:2], np.full(40, 1e-200))
    with pytest.raises(ValueError, match=r"alpha=1e\+200 is too large .*1e-200"):
        problem.alpha(1e200)


@with_or_without_intercept
def test_moments_are_those_of_the_rows_given(fit_intercept):
    X, y, weight = data()
    problem = problem_of(X, y, weight, fit_intercept)
    centred = y - np.average(y, axis=0, weights=weight)
    expected = (weight[:, np.newaxis] * centred).T @ X / np.sum(weight)
    moment = problem.moment() * problem.unit[:, np.newaxis]
    np.testing.assert_allclose(moment, expected, rtol=1e-10)


@with_or_without_intercept
@pytest.mark.parametrize("around", [0.0, 0.1, 1e10, -3e-200])
def test_a_constant_output_is_constant_in_its_units(around, fit_intercept):
    X, y, weight = data()
    y[:, 1] = around
    y[::2, 1] *= 1 + np.finfo(float).eps
    problem = problem_of(X, y, weight, fit_intercept)
    assert problem.unit[1] == 1
    expected = 0.0 if fit_intercept else around
    np.testing.assert_allclose(problem.rows.y[:, 1], expected, rtol=1e-14)
    assert np.ptp(problem.rows.y[:, 1]) == 0
    if fit_intercept:
        np.testing.assert_array_equal(problem.moment()[1], 0)
        np.testing.assert_allclose(problem.shift[1], around, rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [1.0, 0.1, -1e6, 1e-30])
@pytest.mark.parametrize("seed", range(5))
def test_the_moment_of_constant_features_is_zero(seed, value, dtype):
    rng = np.random.RandomState(seed)
    y = rng.standard_normal((20, 1))
    weight = rng.randint(0, 3, size=20).astype(float)
    X = np.full((20, 24), value, dtype)
    np.testing.assert_array_equal(problem_of(X, y, weight).moment(), 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_small_moments_are_kept(dtype):
    X, y, weight = data(dtype=dtype)
    X *= dtype(1e-20)
    moment = problem_of(X, y, weight).moment()
    expected = problem_of(X * dtype(1e20), y, weight).moment() * 1e-20
    np.testing.assert_allclose(moment, expected, rtol=1e-5)


def test_without_an_intercept_a_moment_of_zero_gives_way_to_that_of_all_of_y():
    y = np.array([[2.0, 1.0], [2.0, 5.0], [2.0, 3.0]])
    X = np.array([[1.0, 2.0], [0.0, 1.0], [3.0, 0.0]])
    problem = problem_of(X, y, fit_intercept=False)
    moment = problem.moment() * problem.unit[:, np.newaxis]
    np.testing.assert_allclose(moment[0], y[:, 0] @ X / 3, rtol=1e-14)
    np.testing.assert_allclose(moment[1], (y[:, 1] - 3) @ X / 3, rtol=1e-14)
    np.testing.assert_array_equal(problem_of(X, y).moment()[0], 0)


def test_features_whose_squares_underflow_are_refused():
    X, y, weight = data()
    with pytest.raises(FloatingPointError, match="underflow"):
        problem_of(X * 1e-130, y, weight).moment()


@pytest.mark.parametrize(
    ("size", "message"),
    [(1e160, "variance of y overflows"), (1e308, "mean of y overflows")],
)
def test_targets_that_overflow_are_refused(size, message):
    X, y, weight = data()
    y = np.sign(y - 200) * size
    with pytest.raises(FloatingPointError, match=message):
        problem_of(X, y, weight)


def test_penalties_that_overflow_with_the_weights_given_are_refused():
    X, y, weight = data()
    with pytest.raises(FloatingPointError, match=r"alpha overflows: 1e\+10 for"):
        problem_of(X, y, weight * 1e299).alpha_given(1e10)


@with_or_without_intercept
@pytest.mark.parametrize("factor", [1e10, 1e-10, 3.0])
def test_scaled_weights_give_the_same_problem(factor, fit_intercept):
    X, y, weight = data()
    problem = problem_of(X, y, weight, fit_intercept)
    scaled = problem_of(X, y, weight * factor, fit_intercept)
    np.testing.assert_allclose(scaled.rows.y, problem.rows.y, rtol=1e-12)
    np.testing.assert_allclose(scaled.rows.weight, problem.rows.weight, rtol=1e-14)
    np.testing.assert_allclose(scaled.moment(), problem.moment(), rtol=1e-10)
    np.testing.assert_allclose(scaled.total, problem.total, rtol=1e-14)
    np.testing.assert_allclose(scaled.alpha(factor), problem.alpha(1.0), rtol=1e-14)
    assert scaled.n_samples == problem.n_samples


@with_or_without_intercept
@pytest.mark.parametrize("factor", [1e10, 1e-100])
def test_scaled_targets_give_the_same_problem(factor, fit_intercept):
    X, y, weight = data()
    problem = problem_of(X, y, weight, fit_intercept)
    scaled = problem_of(X, y * factor, weight, fit_intercept)
    np.testing.assert_allclose(scaled.rows.y, problem.rows.y, rtol=1e-12, atol=1e-13)
    np.testing.assert_allclose(scaled.unit, problem.unit * factor, rtol=1e-13)


def test_integer_weights_are_repeated_rows():
    X, y, _ = data()
    weight = np.random.default_rng(1).integers(0, 4, len(y))
    weighted = problem_of(X, y, weight.astype(float))
    repeated = problem_of(np.repeat(X, weight, axis=0), np.repeat(y, weight, axis=0))
    assert weighted.n_samples == repeated.n_samples == np.sum(weight)
    assert weighted.n_rows == np.count_nonzero(weight)
    np.testing.assert_allclose(weighted.unit, repeated.unit, rtol=1e-14)
    np.testing.assert_allclose(weighted.shift, repeated.shift, rtol=1e-14)
    np.testing.assert_allclose(weighted.moment(), repeated.moment(), rtol=1e-10)


def test_a_weight_near_zero_does_not_make_countless_samples():
    X, y, weight = data()
    weight[0] = 1e-300
    assert problem_of(X, y, weight).n_samples == 10**15


def test_few_rows_are_all_rows_or_a_sample_that_stays():
    few = problem_of(*data(1000))
    assert few.few_rows() is few.rows
    many = problem_of(*data(1001))
    sample, again = many.few_rows(), many.few_rows()
    assert np.sum(sample.weight) == 1000
    np.testing.assert_array_equal(sample.X, again.X)
    np.testing.assert_array_equal(sample.weight, again.weight)
    assert np.sum(many.few_rows(10).weight) == 10


@pytest.mark.parametrize("outputs", [[1], [1, 0]], ids=str)
def test_of_outputs_has_the_targets_of_some_outputs(outputs):
    problem = problem_of(*data())
    rows = problem.of_outputs(outputs)
    np.testing.assert_array_equal(rows.y, problem.rows.y[:, outputs])
    np.testing.assert_array_equal(rows.weight, problem.rows.weight)
    assert rows.X is problem.rows.X


@pytest.mark.parametrize(("size", "how"), [(1e-60, "overflows"), (1e60, "underflows")])
def test_weights_that_the_dtype_does_not_hold_are_refused(size, how):
    X, y, weight = data()
    problem = problem_of(X * size, y, weight)
    problem.check_weights(np.dtype(np.float64))
    with pytest.raises(FloatingPointError, match=f"{how} float32"):
        problem.check_weights(np.dtype(np.float32))


def test_float32_features_with_a_large_mean_become_float64():
    X, y, weight = data(dtype=np.float32)
    assert problem_of(X, y, weight).rows.precision == np.float32
    assert problem_of(X + np.float32(1000), y, weight).rows.precision == np.float64
    assert problem_of(X.astype(float) + 1000, y, weight).rows.precision == np.float64
