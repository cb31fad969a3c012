"""The solver: sums against explicit matrices, ends against independent optimisers."""

import functools

import numpy as np
import pytest
from scipy.optimize import minimize
from sklearn.linear_model import LogisticRegression, PoissonRegressor, Ridge

from skdeeptd._data.rows import RowBlocks
from skdeeptd._loss import Binomial, Huber, Multinomial, Poisson, SquaredError
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import (
    blank_network,
    forward,
    head_features,
    hidden_forward,
)
from skdeeptd._network.parameters import normalize, pack, unpack
from skdeeptd._solvers import gauss_newton as module
from skdeeptd._solvers import normal_equations as sums_module
from skdeeptd._solvers.gauss_newton import (
    check_memory,
    factor_blocks,
    gauss_newton,
    is_coupled_and_large,
    newton_cg_heads,
    normal_equations,
    solve_blocks,
)

CASES = {
    "two layers": (12, (4, 3), None, ("tanh", "identity"), False),
    "three layers, biases": (24, (4, 3, 2), None, ("tanh",) * 2 + ("identity",), True),
    "overlap": (12, (4, 3, -1), (2, 1), ("softplus", "tanh", "identity"), True),
    "heads of one weight": (12, (4, 3), None, ("tanh", "softplus"), True),
    "relu": (12, (4, 3), None, ("relu", "identity"), False),
    "linear": (5, (5,), None, ("identity",), False),
}
LOSSES = {
    "squared": (SquaredError(), 1),
    "squared, 3 outputs": (SquaredError(), 3),
    "huber": (Huber(0.5), 1),
    "huber, 3 outputs": (Huber(0.5), 3),
    "poisson": (Poisson(), 1),
    "poisson, 3 outputs": (Poisson(), 3),
    "binomial": (Binomial(), 1),
    "multinomial": (Multinomial(), 3),
}
every_case = pytest.mark.parametrize("case", CASES)
every_loss = pytest.mark.parametrize("name", LOSSES)
with_or_without_intercept = pytest.mark.parametrize("fit_intercept", [True, False])


def replace_rule(monkeypatch, name, rule):
    """Replace a rule of the solver in both modules that ask it."""
    for where in (module, sums_module):
        monkeypatch.setattr(where, name, rule)


def random_network(case, n_heads, seed=0, n_filters=2):
    n_features, sizes, strides, activations, biases = CASES[case]
    layout = make_layout(n_features, sizes, None, strides)
    blank = blank_network(layout, n_filters, activations, biases, n_heads)
    rng = np.random.default_rng(seed)
    return unpack(rng.standard_normal(pack(blank).shape), blank)._replace(
        heads=0.5 * rng.standard_normal(blank.heads.shape),
        intercept=0.3 * rng.standard_normal(n_heads),
    )


def target_of(loss, raw, rng):
    """Draw y if the network's outputs are ``raw``."""
    if isinstance(loss, Poisson):
        return rng.poisson(np.exp(np.clip(raw, -5, 3))).astype(float)
    if isinstance(loss, Multinomial):
        drawn = (raw + rng.gumbel(size=raw.shape)).argmax(axis=1)
        return np.eye(raw.shape[1])[drawn]
    if isinstance(loss, Binomial):
        return (raw + rng.logistic(size=raw.shape) > 0).astype(float)
    return raw + 0.5 * rng.standard_normal(raw.shape) + 1


def drawn(case, name, seed=0, n_rows=80, away=0.3, factor=1.0):
    """A network some way from that of the targets, and weighted rows.

    The heads of the targets are larger by a factor.
    """
    loss, n_heads = LOSSES[name]
    rng = np.random.default_rng(100 + seed)
    truth = random_network(case, n_heads, seed)
    truth = truth._replace(heads=factor * truth.heads)
    X = 0.5 + rng.standard_normal((n_rows, CASES[case][0]))
    y = target_of(loss, forward(truth, X), rng)
    theta = pack(truth)
    network = unpack(theta + away * rng.standard_normal(theta.shape), truth)
    heads = truth.heads + away * rng.standard_normal(truth.heads.shape)
    intercept = truth.intercept
    if isinstance(loss, Multinomial):  # what the heads have in common is no matter
        heads, intercept = heads - heads.mean(axis=0), intercept - intercept.mean()
    weight = rng.integers(0, 4, n_rows) * 0.5
    network = network._replace(heads=heads, intercept=intercept)
    return network, RowBlocks(X, y, weight), loss


def planted(case, name, seed=2):
    """Return a ``drawn`` problem whose targets determine the network."""
    return drawn(case, name, seed, n_rows=600, away=0.1, factor=3.0)


def parameters(network):
    return np.concatenate(
        [pack(network).ravel(), network.heads.ravel(), network.intercept]
    )


def at_parameters(values, like):
    ends = np.cumsum([pack(like).size, like.heads.size])
    theta, heads, intercept = np.split(values, ends)
    return unpack(theta.reshape(pack(like).shape), like)._replace(
        heads=heads.reshape(like.heads.shape), intercept=intercept
    )


def linear_weights(network):
    """The weights W that each filter gives the features if it were linear."""
    found = []
    for o, r in np.ndindex(network.heads.shape[:2]):
        kernels = [*(k[r] for k in network.kernels), network.heads[o, r]]
        found.append(functools.reduce(np.multiply.outer, kernels).ravel())
    return np.concatenate(found)


def objective(network, rows, loss, alpha):
    value = loss.evaluate(rows.y, forward(network, rows.X))[0]
    return rows.weight @ value + alpha * np.sum(linear_weights(network) ** 2)


def derivative_of(function, at, step=1e-5):
    """By central differences, (..., parameters)."""
    shifts = step * np.eye(len(at))
    columns = [(function(at + s) - function(at - s)) / (2 * step) for s in shifts]
    return np.stack(columns, axis=-1)


def gradient_of(network, rows, loss, alpha, fit_intercept):
    """Minus half the gradient of the objective, by differences."""
    values = parameters(network)
    gradient = derivative_of(
        lambda v: np.array(objective(at_parameters(v, network), rows, loss, alpha)),
        values,
    )
    return -gradient[: len(values) if fit_intercept else -len(network.heads)] / 2


def dense_gauss_newton(network, rows, loss, alpha, fit_intercept):
    """The whole Gauss-Newton matrix over hidden weights, heads, intercepts."""
    values, Q = parameters(network), len(network.heads)
    n = len(values) if fit_intercept else len(values) - Q
    outputs = forward(network, rows.X)
    J = derivative_of(lambda v: forward(at_parameters(v, network), rows.X), values)
    dW = derivative_of(lambda v: linear_weights(at_parameters(v, network)), values)
    H = alpha * dW.T @ dW
    curvature = loss.evaluate(rows.y, outputs)[2]
    for i, w in enumerate(rows.weight):
        if curvature is None:
            C = np.eye(Q)
        elif isinstance(loss, Multinomial):
            C = np.diag(curvature[i]) - np.outer(curvature[i], curvature[i])
        else:
            C = np.diag(curvature[i])
        H += w * J[i].T @ C @ J[i]
    return H[:n, :n]


def reduced(H, g, n_hidden):
    """The matrix and gradient of the hidden weights without those of the heads."""
    A, S, G = H[:n_hidden, :n_hidden], H[n_hidden:, :n_hidden], H[n_hidden:, n_hidden:]
    solve = np.linalg.pinv(G, rcond=1e-12, hermitian=True)
    return A - S.T @ solve @ S, g[:n_hidden] - S.T @ solve @ g[n_hidden:]


def reduced_of_equations(found):
    """The same from the sums of a pass; they do not depend on the centre."""
    Q, T, n_hidden = found.cross.shape
    if found.grams.shape[1] == Q * T:
        G = found.grams[0]
    else:
        blocks = np.broadcast_to(found.grams, (Q, T, T))
        G = np.zeros((Q, T, Q, T))
        G[np.arange(Q), :, np.arange(Q)] = blocks
        G = G.reshape(Q * T, Q * T)
    S, h = found.cross.reshape(Q * T, n_hidden), found.head_gradient.ravel()
    solve = np.linalg.pinv(G, rcond=1e-12, hermitian=True)
    return found.hessian - S.T @ solve @ S, found.gradient - S.T @ solve @ h


def assert_equations_are_explicit(network, rows, loss, alpha, fit_intercept):
    found = normal_equations(network, rows, loss, alpha, fit_intercept)
    if loss.is_quadratic:  # J is that of the heads of the pass: take the best as such
        found = normal_equations(
            found.network, rows, loss, alpha, fit_intercept, True, found.centre
        )
        at_best = gradient_of(found.network, rows, loss, alpha, fit_intercept)
    how = rows, loss, alpha, fit_intercept
    H = dense_gauss_newton(found.network, *how)
    g = gradient_of(found.network, *how)
    n_hidden = pack(found.network).size
    size = np.sqrt(np.maximum(H.diagonal(), 1e-8 * H.diagonal().max()))
    scale = size * np.sqrt(found.loss)
    np.testing.assert_allclose(
        found.loss, objective(found.network, rows, loss, alpha), rtol=1e-9
    )
    if loss.is_quadratic:
        np.testing.assert_allclose(at_best[n_hidden:] / scale[n_hidden:], 0, atol=1e-6)
    expected_H, expected_g = reduced(H, g, n_hidden)
    H, g = reduced_of_equations(found)
    of_hidden = size[:n_hidden]
    error = (H - expected_H) / of_hidden[:, np.newaxis] / of_hidden
    np.testing.assert_allclose(error, 0, atol=1e-5)
    np.testing.assert_allclose((g - expected_g) / scale[:n_hidden], 0, atol=1e-5)


@with_or_without_intercept
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@every_loss
@every_case
def test_sums_of_a_pass_are_those_of_explicit_matrices(
    case, name, alpha, fit_intercept
):
    network, rows, loss = drawn(case, name)
    assert_equations_are_explicit(network, rows, loss, alpha, fit_intercept)


@with_or_without_intercept
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("name", ["squared", "squared, 3 outputs"])
@pytest.mark.parametrize("pays", [True, False])
@pytest.mark.parametrize("case", ["two layers", "overlap", "heads of one weight"])
def test_the_gram_matrix_of_entries_gives_the_same_sums(
    monkeypatch, case, name, alpha, fit_intercept, pays
):
    replace_rule(monkeypatch, "gram_of_entries_pays", lambda _: pays)
    network, rows, loss = drawn(case, name)
    assert_equations_are_explicit(network, rows, loss, alpha, fit_intercept)


@with_or_without_intercept
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@every_loss
def test_a_step_solves_the_whole_system(name, alpha, fit_intercept):
    network, rows, loss = drawn("two layers", name, n_rows=200)
    how = rows, loss, alpha, fit_intercept
    found = normal_equations(network, *how)
    if loss.is_quadratic:
        found = normal_equations(found.network, *how, True, found.centre)
    step, change, predicted = module._step(found, 1e-12, "all")
    moved = module._moved(found, step, change)
    H, g = dense_gauss_newton(found.network, *how), gradient_of(found.network, *how)
    delta = np.linalg.pinv(H, rcond=1e-11, hermitian=True) @ g
    np.testing.assert_allclose(predicted, g @ delta, rtol=1e-4)
    delta = np.append(delta, np.zeros(len(parameters(network)) - len(delta)))
    expected = at_parameters(parameters(found.network) + delta, network)
    outputs, wanted = forward(moved, rows.X), forward(expected, rows.X)
    if isinstance(loss, Multinomial):
        outputs, wanted = loss.mean(outputs), loss.mean(wanted)
    np.testing.assert_allclose(outputs, wanted, atol=1e-4)


@pytest.mark.parametrize("activation", ["identity", "tanh"])
@pytest.mark.parametrize("n_heads", [1, 2])
@pytest.mark.parametrize("far", [1e3, 1e4])
def test_a_first_row_far_from_all_others_costs_float32_no_digits(
    far, n_heads, activation
):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2000, 12)), rng.standard_normal((2000, n_heads))
    X[0, 0], y[0] = far, far
    X = X.astype(np.float32)
    layout = make_layout(12, (4, 3))
    blank = blank_network(layout, 1, (activation, "identity"), n_heads=n_heads)
    network = unpack(rng.standard_normal((1, 4)), blank)._replace(
        heads=rng.standard_normal(blank.heads.shape)
    )
    rows = RowBlocks(X, y, np.ones(2000))
    found, expected = (
        normal_equations(network, rows.with_dtype(dtype), SquaredError())
        for dtype in (np.float32, float)
    )
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-2)
    for name in ("hessian", "grams", "cross"):
        value, wanted = getattr(found, name), getattr(expected, name)
        size = np.abs(wanted).max()
        np.testing.assert_allclose(value, wanted, atol=1e-5 * size, err_msg=name)
    size = np.sqrt(expected.hessian.diagonal() * expected.loss)
    # The heads are solved for with a damping of the size of rounding.
    np.testing.assert_allclose(
        (found.gradient - expected.gradient) / size, 0, atol=1e-2
    )
    for value, wanted in zip(found.centre, expected.centre, strict=True):
        size = np.abs(wanted).max()
        np.testing.assert_allclose(value, wanted, atol=1e-5 * size)


@pytest.mark.parametrize("name", ["squared", "squared, 3 outputs", "huber", "poisson"])
def test_features_far_from_zero_cost_float32_few_digits(name):
    network, rows, loss = drawn("two layers", name, n_rows=2000)
    features = head_features(network, hidden_forward(network, rows.X), rows.X)
    found, expected = [], []
    for shift in (0.0, 3e3):  # a kernel whose first weight is fed a large constant
        moved = network._replace(
            activations=("identity",),
            intercept=network.intercept
            - shift * network.heads.sum(axis=2) @ network.kernels[0].sum(axis=1),
        )
        X = (rows.X + shift).astype(np.float32)
        far = RowBlocks(X, rows.y, rows.weight)
        for result, these in ((found, far), (expected, far.with_dtype(float))):
            equations = normal_equations(moved, these, loss)
            result.append(reduced_of_equations(equations)[0])
    assert features.shape[1] == network.heads[0].size
    for mine, wanted in zip(found, expected, strict=True):
        np.testing.assert_allclose(mine, wanted, atol=2e-3 * np.abs(wanted).max())


@pytest.mark.parametrize("alpha", [0.0, 0.7])
@every_loss
@pytest.mark.parametrize("case", ["two layers", "overlap", "relu"])
def test_sums_do_not_depend_on_the_order_of_the_rows(case, name, alpha):
    network, rows, loss = drawn(case, name)
    order = np.random.default_rng(5).permutation(len(rows.X))
    other = RowBlocks(rows.X[order], rows.y[order], rows.weight[order])
    found, expected = (
        normal_equations(network, these, loss, alpha) for these in (other, rows)
    )
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-9)
    np.testing.assert_allclose(
        parameters(found.network), parameters(expected.network), rtol=1e-6, atol=1e-6
    )
    for mine, wanted in zip(
        reduced_of_equations(found), reduced_of_equations(expected), strict=True
    ):
        size = np.abs(expected.hessian).max()
        np.testing.assert_allclose(mine, wanted, rtol=0, atol=1e-9 * size)


@pytest.mark.parametrize("name", ["squared", "poisson", "multinomial"])
def test_weights_are_as_good_as_repeated_rows(name):
    network, rows, loss = drawn("two layers", name)
    counts = (2 * rows.weight).astype(int)
    again = np.repeat(np.arange(len(counts)), counts)
    repeated = RowBlocks(rows.X[again], rows.y[again], np.full(len(again), 0.5))
    found, expected = (
        normal_equations(network, these, loss, 0.7) for these in (rows, repeated)
    )
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-12)
    for mine, wanted in zip(
        reduced_of_equations(found), reduced_of_equations(expected), strict=True
    ):
        np.testing.assert_allclose(mine, wanted, atol=1e-10 * np.abs(wanted).max())


def relative_gradient(network, rows, loss, alpha, fit_intercept=True):
    """The gradient in units in which 1 is as steep as it can be."""
    g = gradient_of(network, rows, loss, alpha, fit_intercept)
    H = dense_gauss_newton(network, rows, loss, alpha, fit_intercept)
    size = np.sqrt(np.maximum(H.diagonal(), 1e-8 * H.diagonal().max()))
    return g / size / np.sqrt(objective(network, rows, loss, alpha))


@pytest.mark.parametrize(
    ("case", "name", "alpha"),
    [
        *[("two layers", name, 0.1) for name in LOSSES],
        ("two layers", "squared, 3 outputs", 0.0),
        ("two layers", "poisson", 0.0),
        ("three layers, biases", "squared", 0.1),
        ("three layers, biases", "huber", 0.1),
        ("three layers, biases", "squared, 3 outputs", 0.0),
    ],
)
def test_the_gradient_is_zero_at_the_end(case, name, alpha):
    network, rows, loss = planted(case, name)
    found = gauss_newton(network, rows, loss, alpha=alpha, max_iter=300, tol=1e-12)
    assert found.converged
    np.testing.assert_allclose(
        found.loss, objective(found.network, rows, loss, alpha), rtol=1e-9
    )
    assert found.loss < objective(network, rows, loss, alpha)
    np.testing.assert_allclose(
        relative_gradient(found.network, rows, loss, alpha), 0, atol=5e-6
    )


@every_loss
@pytest.mark.parametrize("case", ["relu", "two layers"])
def test_another_optimiser_gains_nothing_from_the_end(case, name):
    network, rows, loss = planted(case, name)
    found = gauss_newton(network, rows, loss, alpha=0.1, max_iter=300, tol=1e-7)
    assert found.converged
    further = minimize(
        lambda v: objective(at_parameters(v, network), rows, loss, 0.1),
        parameters(found.network),
        method="L-BFGS-B",
        options={"maxiter": 30},
    )
    assert further.fun > found.loss * (1 - 2e-3)


@pytest.mark.parametrize("seed", range(3))
def test_the_end_is_a_minimum_although_a_relu_has_kinks(seed):
    network, rows, loss = drawn("relu", "squared", seed, n_rows=300)
    found = gauss_newton(network, rows, loss, max_iter=500, tol=1e-12)
    assert found.converged
    values, rng = parameters(found.network), np.random.default_rng(seed)
    for size in (1e-2, 1e-3, 1e-4):
        for _ in range(100):
            moved = at_parameters(
                values + size * rng.standard_normal(len(values)), network
            )
            assert objective(moved, rows, loss, 0.0) > found.loss * (1 - 1e-4)


@with_or_without_intercept
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("alpha", [0.1, 10.0])
def test_a_linear_network_is_ridge_regression(alpha, n_outputs, fit_intercept):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((30, 8)), rng.standard_normal((30, n_outputs)) + 1
    weight = rng.random(30)
    blank = blank_network(make_layout(8, (8,)), 1, ("identity",), n_heads=n_outputs)
    found = gauss_newton(
        blank,
        RowBlocks(X, y, weight),
        SquaredError(),
        alpha=alpha,
        fit_intercept=fit_intercept,
        max_iter=10,
        tol=1e-12,
    )
    ridge = Ridge(alpha=alpha, fit_intercept=fit_intercept).fit(X, y, weight)
    expected = np.reshape(ridge.coef_, (n_outputs, 8))
    np.testing.assert_allclose(found.network.heads[:, 0], expected, rtol=1e-6)
    intercept = np.broadcast_to(ridge.intercept_, n_outputs)
    np.testing.assert_allclose(found.network.intercept, intercept, rtol=1e-6)


@with_or_without_intercept
@pytest.mark.parametrize("is_large", [False, True])
@pytest.mark.parametrize("n_classes", [2, 3])
def test_a_linear_network_of_classes_is_logistic_regression(
    monkeypatch, n_classes, is_large, fit_intercept
):
    replace_rule(
        monkeypatch, "is_coupled_and_large", lambda loss, _: is_large and n_classes > 2
    )
    rng = np.random.default_rng(0)
    X, labels = rng.standard_normal((120, 5)) + 0.5, rng.integers(n_classes, size=120)
    X[:, 0] += labels
    weight = rng.random(120)
    y = np.eye(n_classes)[labels] if n_classes > 2 else labels[:, np.newaxis] * 1.0
    loss = Multinomial() if n_classes > 2 else Binomial()
    layout = make_layout(5, (5,))
    blank = blank_network(layout, 1, ("identity",), n_heads=y.shape[1])
    found = gauss_newton(
        blank,
        RowBlocks(X, y, weight),
        loss,
        alpha=0.5,
        fit_intercept=fit_intercept,
        max_iter=200,
        tol=1e-14,
    )
    expected = LogisticRegression(C=2.0, fit_intercept=fit_intercept, tol=1e-10)
    expected.set_params(max_iter=10000).fit(X, labels, weight)
    np.testing.assert_allclose(
        found.network.heads[:, 0], expected.coef_, rtol=1e-4, atol=1e-5
    )
    intercept = found.network.intercept - found.network.intercept.mean() * (
        n_classes > 2
    )
    np.testing.assert_allclose(
        intercept, np.broadcast_to(expected.intercept_, intercept.shape), atol=1e-4
    )


@with_or_without_intercept
@pytest.mark.parametrize("alpha", [0.01, 0.3])
def test_a_linear_network_of_counts_is_poisson_regression(alpha, fit_intercept):
    rng = np.random.default_rng(0)
    X = rng.standard_normal((100, 6))
    y = rng.poisson(np.exp(0.4 * X[:, 0] + 1)).astype(float)
    weight = rng.random(100)
    blank = blank_network(make_layout(6, (6,)), 1, ("identity",))
    found = gauss_newton(
        blank,
        RowBlocks(X, y[:, np.newaxis], weight),
        Poisson(),
        alpha=alpha * weight.sum(),
        fit_intercept=fit_intercept,
        max_iter=100,
        tol=1e-14,
    )
    expected = PoissonRegressor(alpha=alpha, fit_intercept=fit_intercept, tol=1e-10)
    expected.set_params(solver="newton-cholesky").fit(X, y, weight)
    np.testing.assert_allclose(found.network.heads.ravel(), expected.coef_, rtol=1e-6)
    np.testing.assert_allclose(
        found.network.intercept, [expected.intercept_], atol=1e-7
    )


@pytest.mark.parametrize("name", ["squared", "squared, 3 outputs", "poisson"])
@pytest.mark.parametrize("case", ["three layers, biases", "relu"])
def test_only_norms_biases_and_heads_move_if_so_asked(case, name):
    network, rows, loss = drawn(case, name, n_rows=300)
    found = gauss_newton(
        network, rows, loss, move="norms", max_iter=100, tol=1e-9
    ).network
    pairs = zip(network.kernels, found.kernels, strict=True)
    for number, (before, after) in enumerate(pairs):
        unit, again = (
            k / np.linalg.norm(k, axis=1, keepdims=True) for k in (before, after)
        )
        np.testing.assert_allclose(np.sum(unit * again, axis=1) ** 2, 1, rtol=1e-12)
        if case != "relu":
            assert np.abs(after - before).max() > 1e-3, number
    for before, after in zip(network.biases, found.biases, strict=True):
        assert np.abs(after - before).max() > 1e-3
    fixed = gauss_newton(network, rows, loss, move="heads", max_iter=100, tol=1e-9)
    of_norms = objective(found, rows, loss, 0.0)
    assert of_norms <= fixed.loss * (1 + 1e-9)
    if case != "relu":
        assert of_norms < fixed.loss * (1 - 1e-4)


@every_loss
def test_only_the_heads_move_if_so_asked(name):
    network, rows, loss = drawn("two layers", name, n_rows=300)
    found = gauss_newton(
        network, rows, loss, alpha=0.5, move="heads", max_iter=200, tol=1e-13
    )
    np.testing.assert_array_equal(pack(found.network), pack(normalize(network)))
    assert found.converged
    gradient = relative_gradient(found.network, rows, loss, 0.5)[pack(network).size :]
    np.testing.assert_allclose(gradient, 0, atol=1e-5)


@with_or_without_intercept
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_the_blocks_of_large_coupled_heads_bound_the_whole_matrix(
    monkeypatch, alpha, fit_intercept
):
    network, rows, loss = drawn("two layers", "multinomial")
    how = rows, loss, alpha, fit_intercept
    n_hidden = pack(network).size
    replace_rule(monkeypatch, "is_coupled_and_large", lambda *_: True)
    blocks = normal_equations(network, *how)
    assert blocks.grams.shape == (3, *(blocks.cross.shape[1],) * 2)
    G = dense_gauss_newton(blocks.network, *how)[n_hidden:, n_hidden:]
    # The features are taken from their mean on: turn G to that.
    T, P = blocks.cross.shape[1], network.heads[0].size
    if fit_intercept:
        of_heads = np.arange(3 * P).reshape(3, P)
        order = np.column_stack([of_heads, 3 * P + np.arange(3)]).ravel()
        turn = np.eye(T)
        turn[:P, P] = -blocks.shift[0]
        turn = np.kron(np.eye(3), turn)
        G = turn @ G[np.ix_(order, order)] @ turn.T
    whole = np.zeros((3, T, 3, T))
    whole[np.arange(3), :, np.arange(3)] = blocks.grams
    values = np.linalg.eigvals(np.linalg.solve(whole.reshape(G.shape), G)).real
    assert values.max() < 1 + 1e-6
    assert values.max() > 0.5  # not above it for nothing


@pytest.mark.parametrize("seed", [1, 2])
def test_conjugate_gradients_end_where_the_whole_matrix_does(monkeypatch, seed):
    network, rows, loss = planted("two layers", "multinomial", seed)
    options = {"alpha": 0.5, "max_iter": 300, "tol": 1e-9}
    whole = gauss_newton(network, rows, loss, **options)
    replace_rule(monkeypatch, "is_coupled_and_large", lambda loss, _: True)
    parts = gauss_newton(network, rows, loss, **options)
    assert whole.converged
    assert parts.converged
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-5)
    np.testing.assert_allclose(
        loss.mean(forward(parts.network, rows.X)),
        loss.mean(forward(whole.network, rows.X)),
        atol=5e-3,
    )


def test_coupled_heads_of_more_than_a_thousand_weights_are_large():
    assert not is_coupled_and_large(Multinomial(), 4 * 250)
    assert is_coupled_and_large(Multinomial(), 4 * 251)
    for loss in (SquaredError(), Huber(1.0), Poisson(), Binomial()):
        is_large = is_coupled_and_large(loss, 4 * 251)
        assert is_large == loss.couples_outputs


@with_or_without_intercept
@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_one_newton_step_by_conjugate_gradients_is_that_of_the_whole_matrix(
    monkeypatch, alpha, fit_intercept
):
    network, rows, loss = drawn("two layers", "multinomial", n_rows=300, away=0.05)
    network = network._replace(intercept=network.intercept * fit_intercept)
    how = rows, loss, alpha, fit_intercept
    replace_rule(monkeypatch, "is_coupled_and_large", lambda *_: True)
    equations = normal_equations(network, *how)
    found = newton_cg_heads(
        equations.network, *how, equations, most_steps=500, tol=1e-12
    )
    H = dense_gauss_newton(equations.network, *how)
    g = gradient_of(equations.network, *how)
    n_hidden = pack(network).size
    G, h = H[n_hidden:, n_hidden:], g[n_hidden:]
    delta = np.linalg.pinv(G, rcond=1e-11, hermitian=True) @ h
    values = parameters(equations.network)
    values[n_hidden : n_hidden + len(delta)] += delta
    wanted = forward(at_parameters(values, network), rows.X)
    np.testing.assert_allclose(
        loss.mean(forward(found, rows.X)), loss.mean(wanted), atol=1e-6
    )


@pytest.mark.parametrize("n_heads", [1, 3])
def test_blocks_are_solved_as_they_are(n_heads):
    rng = np.random.default_rng(0)
    root = rng.standard_normal((n_heads, 5, 5))
    grams = root @ root.swapaxes(1, 2) + np.diag([1e6, 1, 1, 1, 1e-2])
    target = rng.standard_normal((3, 5, 2))
    factor = factor_blocks(grams, 0.0)
    expected = np.linalg.solve(grams, target)
    np.testing.assert_allclose(
        solve_blocks(factor, target), expected, rtol=1e-4, atol=1e-6
    )
    half = solve_blocks(factor, target, is_half=True).reshape(-1, 2)
    np.testing.assert_allclose(
        half.T @ half, np.einsum("qtk,qtl->kl", target, expected), rtol=1e-4
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, -1.0])
def test_blocks_that_are_no_gram_matrix_have_no_factor(bad):
    grams = np.eye(3)[np.newaxis].copy()
    grams[0, 0, 1] = grams[0, 1, 0] = bad * 2
    assert factor_blocks(grams, 0.0) is None


def test_converged_is_false_exactly_if_the_budget_ran_out():
    network, rows, loss = planted("two layers", "squared")
    needed = gauss_newton(network, rows, loss, max_iter=100, tol=1e-8).n_iter
    for max_iter in range(1, needed):
        found = gauss_newton(network, rows, loss, max_iter=max_iter, tol=1e-8)
        assert (found.n_iter, found.converged) == (max_iter, False)
    assert gauss_newton(network, rows, loss, max_iter=needed, tol=1e-8).converged


@every_loss
def test_without_a_tolerance_it_ends_if_no_step_lowers_the_loss(name):
    network, rows, loss = planted("two layers", name)
    found = gauss_newton(network, rows, loss, alpha=0.1, max_iter=1000, tol=0)
    assert found.converged
    assert found.n_iter < 1000


def test_a_loss_small_enough_ends_it():
    network, rows, loss = drawn("two layers", "squared", n_rows=300)
    first = gauss_newton(network, rows, loss, max_iter=1, tol=1e-8).loss
    found = gauss_newton(
        network, rows, loss, max_iter=100, tol=1e-8, zero_loss=1.01 * first
    )
    assert (found.n_iter, found.converged) == (1, True)


@pytest.mark.parametrize("case", ["two layers", "heads of one weight", "overlap"])
@pytest.mark.parametrize("n_heads", [1, 3])
def test_a_planted_network_is_found_from_close_by(case, n_heads):
    truth = random_network(case, n_heads)
    rng = np.random.default_rng(1)
    X = rng.standard_normal((300, CASES[case][0]))
    y = forward(truth, X)
    theta = pack(truth)
    start = unpack(theta + 0.1 * rng.standard_normal(theta.shape), truth)
    found = gauss_newton(
        start,
        RowBlocks(X, y, np.ones(300)),
        SquaredError(),
        max_iter=50,
        tol=1e-12,
        zero_loss=1e-20,
    )
    assert found.converged
    assert found.n_iter < 30
    assert found.loss < 1e-16 * np.sum(y**2)
    np.testing.assert_allclose(forward(found.network, X), y, atol=1e-7)


@pytest.mark.parametrize("alpha", [0.0, 1.0])
@pytest.mark.parametrize("name", ["squared", "squared, 3 outputs", "huber"])
def test_a_last_step_that_is_trusted_ends_at_the_same_network(name, alpha):
    network, rows, loss = planted("two layers", name)
    options = {"max_iter": 99, "tol": 1e-9, "alpha": alpha}
    expected = gauss_newton(network, rows, loss, **options)
    found = gauss_newton(network, rows, loss, trust_last_step=True, **options)
    assert found.n_iter < expected.n_iter
    assert found.converged
    outputs, wanted = (forward(s.network, rows.X) for s in (found, expected))
    spread = np.std(rows.y - wanted)
    np.testing.assert_allclose(outputs, wanted, atol=1e-3 * spread)
    np.testing.assert_allclose(found.loss, expected.loss, rtol=1e-6)


@pytest.mark.parametrize("name", ["squared", "poisson", "multinomial"])
def test_a_solve_that_is_broken_off_goes_on_with_its_equations(name):
    network, rows, loss = planted("two layers", name)
    options = {"tol": 1e-9, "alpha": 0.1}
    whole = gauss_newton(network, rows, loss, max_iter=100, **options)
    part = gauss_newton(network, rows, loss, max_iter=4, **options)
    rest = gauss_newton(
        part.network,
        rows,
        loss,
        max_iter=100,
        damping=part.damping,
        equations=part.equations,
        **options,
    )
    assert part.n_iter == 4
    np.testing.assert_allclose(rest.loss, whole.loss, rtol=1e-8)
    assert part.n_iter + rest.n_iter <= whole.n_iter + 1


def test_heads_of_zero_are_no_end():
    """Nothing then depends on the hidden weights, until the heads are solved for."""
    network, rows, loss = drawn("two layers", "squared", n_rows=300)
    network = network._replace(heads=0 * network.heads)
    one_pass = gauss_newton(network, rows, loss, max_iter=1, tol=1e-6)
    found = gauss_newton(network, rows, loss, max_iter=200, tol=1e-6)
    assert found.converged
    assert found.loss < 0.95 * one_pass.loss


def test_a_filter_that_hardly_counts_takes_no_giant_steps():
    network, rows, loss = drawn("two layers", "squared", n_rows=300)
    kernels = network.kernels[0].copy()
    kernels[0] *= 1e-90  # a tanh so small that its features have no digits left
    network = network._replace(kernels=(kernels,))
    for max_iter in (2, 5, 20):
        found = gauss_newton(network, rows, loss, max_iter=max_iter, tol=1e-9)
        assert np.abs(found.network.kernels[0]).max() < 1e3
        np.testing.assert_allclose(
            found.loss, objective(found.network, rows, loss, 0.0), rtol=1e-6
        )


def test_float32_rows_with_a_singular_hessian_give_no_wild_step():
    network, rows, loss = drawn("relu", "squared", n_rows=300)
    X = rows.X.copy()
    X[:, ::2] = X[:, 1::2]
    single = RowBlocks(X.astype(np.float32), rows.y, rows.weight)
    found, exact = (
        gauss_newton(network, these, loss, max_iter=200, tol=1e-6)
        for these in (single, single.with_dtype(float))
    )
    assert found.loss <= exact.loss * 1.05
    np.testing.assert_allclose(
        found.loss,
        objective(found.network, single.with_dtype(float), loss, 0),
        rtol=1e-3,
    )


@pytest.mark.parametrize("name", ["squared", "squared, 3 outputs", "poisson"])
def test_overflow_at_the_start_is_an_error(name):
    network, rows, loss = drawn("relu", name)
    far = RowBlocks(rows.X * 1e200, rows.y, rows.weight)
    with pytest.raises(FloatingPointError, match="overflow"):
        gauss_newton(network, far, loss, max_iter=5, tol=1e-8)


def test_equations_that_do_not_fit_in_memory_are_an_error():
    check_memory(100, "a network", most_bytes=24 * 100**2)
    with pytest.raises(ValueError, match=r"of a network have 101 unknowns .* allowed"):
        check_memory(101, "a network", most_bytes=24 * 100**2)
    blank = blank_network(make_layout(20_000, (20_000,)), 1, ("identity",))
    rows = RowBlocks(np.zeros((2, 20_000)), np.zeros((2, 1)), np.ones(2))
    with pytest.raises(ValueError, match=r"1 filters with .* 20001 unknowns"):
        gauss_newton(blank, rows, SquaredError(), max_iter=1, tol=1e-3)


@pytest.mark.parametrize("name", ["squared, 3 outputs", "poisson", "multinomial"])
def test_any_number_of_threads_gives_the_same_bits(monkeypatch, name):
    monkeypatch.setattr("skdeeptd._data.rows.PARALLEL_BYTES", 0)
    monkeypatch.setattr("skdeeptd._data.rows.BLOCK_ROWS", 16)
    network, rows, loss = drawn("two layers", name, n_rows=300)
    one, two = (
        gauss_newton(
            network,
            RowBlocks(rows.X, rows.y, rows.weight, n_jobs),
            loss,
            alpha=0.5,
            max_iter=5,
            tol=1e-9,
        )
        for n_jobs in (1, 2)
    )
    np.testing.assert_array_equal(parameters(one.network), parameters(two.network))
