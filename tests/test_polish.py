import functools

import numpy as np
import pytest
from scipy import linalg
from skdeeptd._model.network import PatchCNN, blank_network, forward, jacobian
from skdeeptd._model.parameters import n_parameters, pack, penalty, unpack
from skdeeptd._solver.directions import LARGEST_DAMPING, Everything
from skdeeptd._solver.normal_equations import Objective
from skdeeptd._solver.polish import next_damping, polish
from skdeeptd._solver.readout import readout_features
from sklearn.linear_model import Ridge

from skdeeptd._data.rows import RowBlocks
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd.datasets import make_patch_cnn_regression


def noisy_problem(n_filters=1, seed=0, activations=("relu", "relu", "identity")):
    X, y, kernels = make_patch_cnn_regression(
        300,
        (4, 3, 2),
        n_filters=n_filters,
        activation=activations[:-1],
        output_activation=activations[-1],
        noise=0.3,
        random_state=seed,
        return_kernels=True,
    )
    rng = np.random.default_rng(seed)
    start = PatchCNN(
        tuple(k[0] + 0.2 * rng.standard_normal(k[0].shape) for k in kernels),
        np.ones(n_filters),
        0.0,
        activations,
    )
    return start, X, y, rng.random(300)


@pytest.mark.parametrize(
    ("n_filters", "activation"), [(1, "tanh"), (2, "tanh"), (1, "softplus")]
)
@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_result_is_a_stationary_point(n_filters, alpha, activation):
    start, X, y, weight = noisy_problem(
        n_filters, activations=(activation, activation, "identity")
    )
    result = polish(
        start, RowBlocks(X, y, weight), Objective(alpha), max_iter=1000, tol=1e-18
    )
    assert result.converged
    table = jacobian(result.network, X)
    output, by_theta = table[:, -1], table[:, :-1]
    residual = y - output
    gradient = (weight * residual) @ by_theta
    gradient[:-1] -= alpha * penalty(result.network).slope.ravel()
    size = np.sqrt(weight @ by_theta**2) * np.sqrt(weight @ residual**2)
    assert np.all(np.abs(gradient) <= 1e-6 * size)


@pytest.mark.parametrize("seed", range(3))
def test_result_is_a_minimum_where_a_relu_has_kinks(seed):
    start, X, y, weight = noisy_problem(seed=seed)
    result = polish(
        start, RowBlocks(X, y, weight), Objective(), max_iter=500, tol=1e-12
    )
    theta = pack(result.network)
    rng = np.random.default_rng(seed)
    for size in (1e-2, 1e-3, 1e-4):
        for _ in range(100):
            moved = unpack(theta + size * rng.standard_normal(len(theta)), start)
            loss = np.sum(weight * (y - forward(moved, X)) ** 2)
            assert loss > result.loss * (1 - 1e-4)


def test_loss_is_the_weighted_sum_of_squares_and_falls():
    start, X, y, weight = noisy_problem()
    result = polish(start, RowBlocks(X, y, weight), Objective(), max_iter=50, tol=1e-8)
    loss = np.sum(weight * (y - forward(result.network, X)) ** 2)
    np.testing.assert_allclose(result.loss, loss, rtol=1e-12)
    assert loss < 0.8 * np.sum(weight * (y - forward(start, X)) ** 2)


def test_converged_is_false_exactly_where_the_budget_ran_out():
    start, X, y, weight = noisy_problem()
    rows = RowBlocks(X, y, weight)
    needed = polish(start, rows, Objective(), max_iter=100, tol=1e-8).n_iter
    for max_iter in range(1, needed):
        result = polish(start, rows, Objective(), max_iter=max_iter, tol=1e-8)
        assert (result.n_iter, result.converged) == (max_iter, False)
    assert polish(start, rows, Objective(), max_iter=needed, tol=1e-8).converged


def test_without_a_tolerance_it_ends_where_no_step_lowers_the_loss():
    start, X, y, weight = noisy_problem()
    rows = RowBlocks(X, y, weight)
    result = polish(start, rows, Objective(), max_iter=1000, tol=0)
    assert result.converged
    assert result.n_iter < 1000


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_one_linear_layer_is_ridge_regression(alpha, fit_intercept):
    rng = np.random.default_rng(0)
    X, y, weight = rng.standard_normal((30, 8)), rng.standard_normal(30), rng.random(30)
    start = PatchCNN((rng.standard_normal((1, 8)),), np.ones(1), 0.0, ("identity",))
    result = polish(
        start,
        RowBlocks(X, y, weight),
        Objective(alpha, fit_intercept),
        max_iter=100,
        tol=1e-20,
    )
    ridge = Ridge(alpha=alpha, fit_intercept=fit_intercept).fit(X, y, weight)
    network = result.network
    np.testing.assert_allclose(
        network.scales[0] * network.kernels[0][0], ridge.coef_, rtol=1e-7
    )
    np.testing.assert_allclose(network.intercept, ridge.intercept_, rtol=1e-7)


def effective_weights(network):
    return [
        scale * functools.reduce(np.multiply.outer, [k[r] for k in network.kernels])
        for r, scale in enumerate(network.scales)
    ]


def test_penalty_is_the_norm_of_the_effective_weights():
    network = noisy_problem(2)[0]
    network = network._replace(scales=np.array([0.7, -1.3]))
    curvature, slope, value = penalty(network)
    curvature = linalg.block_diag(*curvature)
    np.testing.assert_allclose(
        value, sum(np.sum(w**2) for w in effective_weights(network)), rtol=1e-12
    )
    theta, step = pack(network), 1e-6
    by_theta = np.array(
        [
            (
                np.ravel(effective_weights(unpack(theta + shift, network)))
                - np.ravel(effective_weights(unpack(theta - shift, network)))
            )
            / (2 * step)
            for shift in step * np.eye(len(theta) - 1, len(theta))
        ]
    )
    np.testing.assert_allclose(curvature, by_theta @ by_theta.T, atol=1e-6)
    np.testing.assert_allclose(
        slope.ravel(), by_theta @ np.ravel(effective_weights(network)), atol=1e-6
    )


def test_overflow_is_said_and_not_returned():
    start, X, y, weight = noisy_problem()
    with pytest.raises(FloatingPointError, match="overflow"):
        polish(
            start, RowBlocks(X * 1e200, y, weight), Objective(), max_iter=5, tol=1e-8
        )


def test_damping_falls_where_the_linear_model_was_right_and_grows_where_it_was_not():
    factors = [next_damping(3.0, gain) / 3.0 for gain in (1.0, 0.5, 0.25, 0.0)]
    np.testing.assert_allclose(factors, [0.1, 1.0, 1.125, 2.0])


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_a_last_step_that_is_trusted_ends_where_further_passes_would(alpha):
    start, X, y, weight = noisy_problem(activations=("tanh", "tanh", "identity"))
    rows = RowBlocks(X + 0.5, y + 3, weight)
    options = {"max_iter": 99, "tol": 1e-9}
    expected = polish(start, rows, Objective(alpha), **options)
    found = polish(start, rows, Objective(alpha), trust_last_step=True, **options)
    assert found.n_iter < expected.n_iter
    assert found.converged
    difference = forward(found.network, X + 0.5) - forward(expected.network, X + 0.5)
    assert np.std(difference) < 1e-3 * np.std(y - forward(expected.network, X + 0.5))
    assert abs(np.mean(difference)) < 1e-3 * np.std(y)


def test_float32_rows_with_a_singular_hessian_give_no_wild_step():
    start, X, y, weight = noisy_problem(2)
    X[:, ::2] = X[:, 1::2]
    rows = RowBlocks(X.astype(np.float32), y, weight)
    result = polish(start, rows, Objective(), max_iter=200, tol=1e-6)
    exact = polish(start, rows.with_dtype(float), Objective(), max_iter=200, tol=1e-6)
    assert result.loss <= exact.loss * 1.05


def overlapping_problem(alpha, seed=0, hidden_bias=True):
    layout = make_layout(18, (4, -1), strides=2)
    rng = np.random.default_rng(seed)
    blank = blank_network(layout, 3, ("tanh", "identity"), hidden_bias)
    start = unpack(rng.standard_normal(n_parameters(blank)), blank)
    X, weight = rng.standard_normal((200, 18)), rng.random(200)
    y = np.sin(X @ rng.standard_normal(18)) + 3
    return start, RowBlocks(X, y, weight), Objective(alpha)


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_after_a_pass_the_readout_is_ridge_regression(alpha):
    start, rows, objective = overlapping_problem(alpha)
    found = polish(start, rows, objective, max_iter=1, tol=1e-9)
    # What the damping of the first pass has left, the second one takes.
    found = polish(found.network, rows, objective, max_iter=1, tol=1e-9)
    norms = np.linalg.norm(start.kernels[0], axis=1)
    features = readout_features(start, rows.X)  # each over the norm of its kernel
    ridge = Ridge(alpha).fit(features, rows.y, rows.weight)
    readout = found.network.scales[:, np.newaxis] * found.network.kernels[1]
    np.testing.assert_allclose(
        (readout * norms[:, np.newaxis]).ravel(), ridge.coef_, rtol=1e-5, atol=1e-7
    )
    np.testing.assert_allclose(found.network.intercept, ridge.intercept_, rtol=1e-6)
    loss = rows.weight @ (rows.y - forward(found.network, rows.X)) ** 2
    loss += alpha * penalty(found.network).value
    np.testing.assert_allclose(found.loss, loss, rtol=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_a_readout_of_zero_is_no_end(alpha):
    """Nothing then depends on the hidden kernels, until the readout is solved for."""
    start, rows, objective = overlapping_problem(alpha)
    start = start._replace(kernels=(start.kernels[0], 0 * start.kernels[1]))
    one_pass = polish(start, rows, objective, max_iter=1, tol=1e-6)
    found = polish(start, rows, objective, max_iter=200, tol=1e-6)
    assert found.converged
    assert found.loss < 0.95 * one_pass.loss


def test_a_filter_that_hardly_counts_takes_no_giant_steps():
    start, rows, objective = overlapping_problem(0.0)
    kernels = start.kernels[0].copy()
    kernels[0] *= 1e-90  # a tanh so small that its features have no digits left
    start = start._replace(
        kernels=(kernels, start.kernels[1]), biases=(0 * start.scales,)
    )
    for max_iter in (2, 5, 20):
        found = polish(start, rows, objective, max_iter=max_iter, tol=1e-9)
        assert np.abs(found.network.kernels[0]).max() < 1e3
        loss = rows.weight @ (rows.y - forward(found.network, rows.X)) ** 2
        np.testing.assert_allclose(found.loss, loss, rtol=1e-6)


def test_a_weight_that_hardly_changes_the_output_is_damped_as_much_as_can_be():
    one_filter = Everything(np.zeros(2, bool), np.zeros(2, int))
    damping = one_filter.damping(np.array([1e20, 1e-310]), 1e-3, 1e-9)
    np.testing.assert_allclose(damping, [1e-3, LARGEST_DAMPING])


@pytest.mark.parametrize("seed", range(3))
def test_a_polish_that_is_broken_off_goes_on_where_it_was(seed):
    start, X, y, weight = noisy_problem(2, seed)
    rows, options = RowBlocks(X, y, weight), {"tol": 1e-9}
    whole = polish(start, rows, Objective(), max_iter=100, **options)
    part = polish(start, rows, Objective(), max_iter=4, **options)
    rest = polish(
        part.network,
        rows,
        Objective(),
        max_iter=100,
        damping=part.damping,
        equations=part.equations,
        **options,
    )
    assert part.n_iter == 4
    assert part.n_iter + rest.n_iter == whole.n_iter
    np.testing.assert_allclose(rest.loss, whole.loss, rtol=1e-12)
