"""The likelihood of classes: against explicit sums, finite differences, eigenvalues."""

import numpy as np
import pytest
from scipy.special import log_softmax
from skdeeptd._model.likelihood import (
    curvature,
    halves,
    log_likelihood,
    probabilities,
    times_curvature,
)
from skdeeptd._model.network import blank_network, forward
from skdeeptd._model.trunk import (
    networks_of_trunk,
    pack_trunk,
    trunk_forward,
    unit_trunk,
    unpack_trunk,
    with_linear_end,
)
from skdeeptd._solver import logistic
from skdeeptd._solver.likelihood import equations_at, fit_trunk
from skdeeptd._solver.logistic import best_readout, regression_on, with_ones
from skdeeptd._solver.normal_equations import Objective

from skdeeptd._data.rows import RowBlocks
from skdeeptd._network.kernel_sizes import make_layout

CASES = {
    "two layers": (12, (4, 3), None, ("tanh", "identity"), False),
    "three layers, biases": (24, (4, 3, 2), None, ("tanh",) * 2 + ("identity",), True),
    "overlap": (12, (4, 3, -1), (2, 1), ("softplus", "tanh", "identity"), True),
    "scales only": (12, (4, 3), None, ("tanh", "softplus"), True),
    "relu": (12, (4, 3), None, ("relu", "identity"), False),
    "softplus": (12, (4, 3), None, ("softplus", "identity"), False),
}


def one_hot(labels, n_outputs):
    if n_outputs == 1:
        return labels[:, np.newaxis].astype(float)
    return np.eye(n_outputs)[labels]


def drawn(case, n_outputs, seed=0, n_rows=60):
    n_features, sizes, strides, activations, biases = CASES[case]
    rng = np.random.RandomState(seed)
    layout = make_layout(n_features, sizes, None, strides)
    blank = with_linear_end(blank_network(layout, 2, activations, biases))
    theta = rng.standard_normal(pack_trunk(blank).shape)
    trunk, _ = unit_trunk(unpack_trunk(theta, blank))
    X = 0.5 + rng.standard_normal((n_rows, n_features))
    y = one_hot(rng.randint(max(2, n_outputs), size=n_rows), n_outputs)
    weight = rng.randint(0, 4, n_rows).astype(float)
    return trunk, RowBlocks(X, y, weight)


def minus_log(y, logits):
    """Of the probability of each row's class, (rows,)."""
    if logits.shape[1] == 1:
        logits = np.column_stack([np.zeros(len(logits)), logits])
        y = np.column_stack([1 - y, y])
    return -np.sum(y * log_softmax(logits, axis=1), axis=1)


def covariance(logits):
    """C of each row, (rows, Q, Q)."""
    p = probabilities(logits)
    if p.shape[1] == 1:
        return (p * (1 - p))[:, :, np.newaxis]
    return np.array([np.diag(row) - np.outer(row, row) for row in p])


def numeric_jacobian(function, at, step=1e-5):
    columns = []
    for i in range(len(at)):
        e = np.zeros(len(at))
        e[i] = step
        columns.append((function(at + e) - function(at - e)) / (2 * step))
    return np.stack(columns, axis=-1)


def of_filters(trunk, V):
    """All weights that the filters would give the features, were all linear: W."""
    found = []
    for of_output in V:
        for r, last in enumerate(of_output):
            W = last
            for k in trunk.kernels[:-1]:
                W = np.outer(W, k[r]).ravel()
            found.append(W)
    return np.concatenate(found)


def functions_of(trunk, rows, V, b):
    """Of theta: the logits (rows, Q), and W."""

    def moved(theta):
        return unpack_trunk(theta.reshape(pack_trunk(trunk).shape), trunk)

    def logits(theta):
        networks = networks_of_trunk(moved(theta), V, b, moved(theta))
        return np.column_stack([forward(network, rows.X) for network in networks])

    return logits, lambda theta: of_filters(moved(theta), V)


@pytest.mark.parametrize("n_outputs", [1, 2, 4])
def test_residual_and_curvature_are_derivatives_of_the_value(n_outputs):
    rng = np.random.RandomState(0)
    logits = 3 * rng.standard_normal((20, n_outputs))
    y = one_hot(rng.randint(max(2, n_outputs), size=20), n_outputs)
    found = log_likelihood(y, logits)
    assert np.allclose(found.value, 2 * minus_log(y, logits), rtol=1e-12)
    for i in range(20):

        def value(eta, i=i):
            return log_likelihood(y[i : i + 1], eta[np.newaxis]).value[0]

        def residual(eta, i=i):
            return log_likelihood(y[i : i + 1], eta[np.newaxis]).residual[0]

        slope = numeric_jacobian(value, logits[i])
        assert np.abs(found.residual[i] + slope / 2).max() < 1e-8
        C = -numeric_jacobian(residual, logits[i])
        assert np.abs(C - covariance(logits)[i]).max() < 1e-8


@pytest.mark.parametrize("n_outputs", [1, 2, 4])
def test_halves_entries_and_products_are_those_of_the_curvature(n_outputs):
    rng = np.random.RandomState(0)
    p = probabilities(3 * rng.standard_normal((20, n_outputs)))
    C = covariance(np.log(p / (1 - p)) if n_outputs == 1 else np.log(p))
    table = rng.standard_normal((20, n_outputs, 5))
    half, towards = halves(p, table)
    for i in range(20):
        assert np.abs(half[i].T @ half[i] - table[i].T @ C[i] @ table[i]).max() < 1e-12
        C_table = towards[i][:, np.newaxis] * half[i]
        assert np.abs(C_table - C[i] @ table[i]).max() < 1e-12
        moved = times_curvature(p, table[:, :, 0])[i]
        assert np.abs(moved - C[i] @ table[i, :, 0]).max() < 1e-12
    for o in range(n_outputs):
        for q in range(n_outputs):
            assert np.abs(curvature(p, o, q) - C[:, o, q]).max() < 1e-15


def test_large_logits_overflow_nowhere():
    logits = np.array([[1e4, -1e4, 0.0]])
    found = log_likelihood(np.eye(3)[[1]], logits)
    assert found.value == pytest.approx(4e4)
    assert np.array_equal(found.residual, [[-1.0, 1.0, 0.0]])
    assert log_likelihood(np.array([[0.0]]), np.array([[1e4]])).value == 2e4


def at_a_table(n_outputs, fit_intercept=True, alpha=0.7):
    trunk, rows = drawn("two layers", n_outputs)
    on = regression_on(rows, Objective(alpha, fit_intercept, log_likelihood), trunk)
    rng = np.random.RandomState(1)
    table = rng.standard_normal((n_outputs, len(on.ridge)))
    if n_outputs > 1:
        table -= table.mean(axis=0)
    features = with_ones(trunk_forward(trunk, rows.X)[1], on.shift, int(fit_intercept))
    return on, table, features


def explicit_G(on, table, features):
    n_outputs = len(table)
    G = np.zeros((table.size, table.size))
    for F, C, w in zip(
        features, covariance(features @ table.T), on.rows.weight, strict=True
    ):
        G += w * np.kron(C, np.outer(F, F))
    return G + np.diag(np.tile(on.ridge, n_outputs))


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_slope_and_product_are_those_of_the_objective(n_outputs, fit_intercept):
    on, table, features = at_a_table(n_outputs, fit_intercept)
    norms = np.repeat((on.trunk.kernels[0] ** 2).sum(axis=1), 3)
    assert np.allclose(on.ridge, np.append(0.7 * norms, [0.0] * fit_intercept))
    found = on.value(table)
    loss = 2 * on.rows.weight @ minus_log(on.rows.y, features @ table.T)
    loss += np.sum(on.ridge * table**2)
    assert found.loss == pytest.approx(loss, rel=1e-12)
    slope = numeric_jacobian(
        lambda v: on.value(v.reshape(table.shape)).loss, table.ravel()
    )
    size = np.abs(found.slope).max()
    assert np.abs(found.slope.ravel() + slope / 2).max() < 1e-7 * size
    G = explicit_G(on, table, features)
    by_differences = -numeric_jacobian(
        lambda v: on.value(v.reshape(table.shape)).slope.ravel(), table.ravel()
    )
    assert np.abs(G - by_differences).max() < 1e-7 * np.abs(G).max()
    direction = np.random.RandomState(2).standard_normal(table.shape)
    product = on.product(table, direction).ravel()
    assert np.abs(product - G @ direction.ravel()).max() < 1e-11 * np.abs(G).max()


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_whole_metric_is_G(n_outputs):
    on, table, features = at_a_table(n_outputs)
    G, metric = explicit_G(on, table, features), on.metric(table)
    rng = np.random.RandomState(2)
    direction = rng.standard_normal(table.shape)
    if n_outputs > 1:  # along what all logits have in common there is no G
        direction -= direction.mean(axis=0)
    found = metric.solve(G @ direction.ravel())
    assert np.abs(found - direction.ravel()).max() < 1e-6
    target = rng.standard_normal((table.size, 2))
    half = metric.half(target)
    solved = np.column_stack([metric.solve(t) for t in target.T])
    assert np.allclose(half.T @ half, target.T @ solved, rtol=1e-10)


@pytest.mark.parametrize("n_outputs", [3, 6])
def test_the_blocks_of_the_metric_are_an_upper_bound_of_G(monkeypatch, n_outputs):
    monkeypatch.setattr(logistic, "WHOLE", 0)
    on, table, features = at_a_table(n_outputs, alpha=0.0)
    G, metric = explicit_G(on, table, features), on.metric(table)
    assert len(metric.factors) == n_outputs
    whitened = np.column_stack(
        [metric.half(column[:, np.newaxis]).ravel() for column in np.eye(len(G))]
    )
    inverse = whitened.T @ whitened
    values = np.linalg.eigvals(inverse @ G).real
    assert values.max() < 1 + 1e-6
    assert values.max() > 0.5  # not above it for nothing


@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("case", CASES)
def test_equations_are_explicit_sums(case, alpha, fit_intercept, n_outputs):
    trunk, rows = drawn(case, n_outputs)
    objective = Objective(alpha, fit_intercept, log_likelihood)
    found = best_readout(rows, objective, trunk)
    equations = equations_at(rows, objective, found)
    V, b, theta = found.last_kernels, found.intercept, pack_trunk(trunk).ravel()
    logits_of, W_of = functions_of(trunk, rows, V, b)
    logits = logits_of(theta)
    J, dW = numeric_jacobian(logits_of, theta), numeric_jacobian(W_of, theta)
    F = with_ones(trunk_forward(trunk, rows.X)[1], found.shift, int(fit_intercept))
    A = alpha * dW.T @ dW
    S = np.zeros((n_outputs, F.shape[1], len(theta)))
    for i, C in enumerate(covariance(logits)):
        A += rows.weight[i] * J[i].T @ C @ J[i]
        for o in range(n_outputs):
            S[o] += rows.weight[i] * np.outer(F[i], C[o] @ J[i])
    basis = np.eye(V.size)
    dV = np.column_stack([of_filters(trunk, e.reshape(V.shape)) for e in basis])
    of_penalty = (alpha * dV.T @ dW).reshape(n_outputs, -1, len(theta))
    S[:, : of_penalty.shape[1]] += of_penalty
    S = S.reshape(-1, len(theta))
    assert np.abs(equations.joint - A).max() < 1e-7 * np.abs(A).max()
    assert np.abs(equations.crossed - S).max() < 1e-7 * np.abs(S).max()

    on = regression_on(rows, objective, trunk)
    G = explicit_G(on, found.table, F)
    H = A - S.T @ np.linalg.pinv(G, rcond=1e-10, hermitian=True) @ S
    assert np.abs(equations.hessian - H).max() < 1e-5 * np.abs(A).max()

    def loss(theta):
        value = 2 * rows.weight @ minus_log(rows.y, logits_of(theta))
        return value + alpha * np.sum(W_of(theta) ** 2)

    assert equations.loss == pytest.approx(loss(theta), rel=1e-9)
    gradient = -numeric_jacobian(loss, theta) / 2
    size = np.sqrt(A.diagonal() * equations.loss)
    assert np.abs((equations.gradient - gradient) / size).max() < 1e-6


def planted(case, n_outputs, n_rows=600):
    """A trunk near the one of which the labels are."""
    trunk, rows = drawn(case, n_outputs, n_rows=n_rows)
    rng = np.random.RandomState(3)
    features = trunk_forward(trunk, rows.X)[1]
    features = (features - features.mean(axis=0)) / features.std(axis=0)
    logits = features @ rng.standard_normal((features.shape[1], n_outputs))
    if n_outputs == 1:
        y = (logits + rng.logistic(size=logits.shape) > 0).astype(float)
    else:
        y = one_hot((logits + rng.gumbel(size=logits.shape)).argmax(axis=1), n_outputs)
    theta = pack_trunk(trunk)
    theta = theta + 0.3 * rng.standard_normal(theta.shape)
    trunk, _ = unit_trunk(unpack_trunk(theta, trunk))
    return trunk, rows.with_targets(lambda _, weight: (y, weight))


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("n_outputs", [1, 3])
@pytest.mark.parametrize("case", ["two layers", "softplus"])
def test_a_fit_ends_where_nothing_lowers_the_objective(
    monkeypatch, case, n_outputs, whole
):
    if not whole:
        monkeypatch.setattr(logistic, "WHOLE", 0)
    trunk, rows = planted(case, n_outputs)
    objective = Objective(1.0, True, log_likelihood)
    found, _, converged = fit_trunk(trunk, rows, objective, 500, 1e-9)
    assert converged
    V, b, theta = found.last_kernels, found.intercept, pack_trunk(found.trunk).ravel()
    logits_of, W_of = functions_of(found.trunk, rows, V, b)

    def loss(theta):
        value = 2 * rows.weight @ minus_log(rows.y, logits_of(theta))
        return value + objective.alpha * np.sum(W_of(theta) ** 2)

    # What one step of Newton along a weight would gain, the curvature from below.
    gradient = numeric_jacobian(loss, theta)
    curvatures = equations_at(rows, objective, found).joint.diagonal()
    assert np.all(gradient**2 / (4 * curvatures) < 1e-6 * found.loss)
    assert np.abs(found.value.slope).max() < 1e-4 * np.sqrt(found.loss)
    assert found.loss < 0.98 * best_readout(rows, objective, trunk).loss


@pytest.mark.parametrize("n_outputs", [1, 4])
def test_newton_from_none_and_from_nearby_ends_at_the_same_readout(
    monkeypatch, n_outputs
):
    monkeypatch.setattr(logistic, "WHOLE", 0)
    trunk, rows = drawn("two layers", n_outputs, n_rows=200)
    objective = Objective(0.5, True, log_likelihood)
    found = best_readout(rows, objective, trunk)
    values = found.table[:, : len(found.shift)]
    guide = regression_on(rows, objective, trunk).metric(found.table * 0.9)
    again = best_readout(rows, objective, trunk, values * 1.01, found.intercept, guide)
    assert again.loss == pytest.approx(found.loss, rel=1e-8)
    assert np.abs(found.value.slope).max() < 1e-5 * rows.weight.sum()
    assert again.intercept == pytest.approx(found.intercept, abs=1e-4)
