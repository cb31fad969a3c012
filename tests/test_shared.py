"""Hidden layers that outputs share: against explicit sums, and planted truths."""

import numpy as np
import pytest

from skdeeptd._data.rows import RowBlocks
from skdeeptd._model.layout import make_layout
from skdeeptd._model.network import blank_network, forward
from skdeeptd._model.trunk import (
    networks_of_trunk,
    pack_trunk,
    unit_trunk,
    unpack_trunk,
    with_linear_end,
)
from skdeeptd._solver import shared
from skdeeptd._solver.normal_equations import Objective
from skdeeptd._solver.shared import best_readout, polish_together, shared_equations

CASES = {
    "two layers": (12, (4, 3), None, ("tanh", "identity"), False),
    "three layers, biases": (24, (4, 3, 2), None, ("tanh",) * 2 + ("identity",), True),
    "overlap": (12, (4, 3, -1), (2, 1), ("softplus", "tanh", "identity"), True),
    "scales only": (12, (4, 3), None, ("tanh", "softplus"), True),
    "relu": (12, (4, 3), None, ("relu", "identity"), False),
}


def drawn(case, seed=0, n_outputs=3, n_filters=2, n_rows=60):
    n_features, sizes, strides, activations, biases = CASES[case]
    rng = np.random.RandomState(seed)
    layout = make_layout(n_features, sizes, None, "valid", strides)
    blank = with_linear_end(blank_network(layout, n_filters, activations, biases))
    theta = rng.standard_normal(pack_trunk(blank).shape)
    trunk, _ = unit_trunk(unpack_trunk(theta, blank))
    X = 0.5 + rng.standard_normal((n_rows, n_features))
    y = rng.standard_normal((n_rows, n_outputs)) + [1.0, -2.0, 0.0][:n_outputs]
    weight = rng.randint(0, 4, n_rows).astype(float)
    return trunk, RowBlocks(X, y, weight)


def residuals(theta, V, b, trunk, rows, alpha):
    """Roots of the terms of the objective, of which it is the sum of squares."""
    moved = unpack_trunk(theta.reshape(pack_trunk(trunk).shape), trunk)
    networks = networks_of_trunk(moved, V, b, moved)
    found = [
        np.sqrt(rows.weight) * (rows.y[:, o] - forward(network, rows.X))
        for o, network in enumerate(networks)
    ]
    for r in range(V.shape[1]):
        W = V[:, r].ravel()
        for k in moved.kernels[:-1]:
            W = np.outer(W, k[r]).ravel()
        found.append(-np.sqrt(alpha) * W)
    return np.concatenate(found)


def numeric_jacobian(function, at, step=1e-5):
    columns = []
    for i in range(len(at)):
        e = np.zeros(len(at))
        e[i] = step
        columns.append((function(at + e) - function(at - e)) / (2 * step))
    return np.column_stack(columns)


@pytest.mark.parametrize("joint", [True, False])
@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 0.7])
@pytest.mark.parametrize("case", CASES)
def test_equations_are_those_of_finite_differences(
    monkeypatch, case, alpha, fit_intercept, joint
):
    monkeypatch.setattr(shared, "is_joint", lambda *_: joint)
    trunk, rows = drawn(case)
    objective = Objective(alpha, fit_intercept)
    found = best_readout(trunk, rows, objective)
    equations = shared_equations(found, rows, objective, of_each=True)
    theta, V, b = pack_trunk(trunk).ravel(), found.last_kernels, found.intercept
    n_theta = len(theta)

    def of_all(at):
        theta, rest = at[:n_theta], at[n_theta:]
        of_V = rest[: V.size].reshape(V.shape)
        intercept = rest[V.size :] if fit_intercept else b
        return residuals(theta, of_V, intercept, trunk, rows, alpha)

    at = np.concatenate([theta, V.ravel(), b if fit_intercept else []])
    r, J = of_all(at), numeric_jacobian(of_all, at)
    G, g = J.T @ J, -J.T @ r
    assert found.loss == pytest.approx(r @ r, rel=1e-9)
    assert equations.loss == pytest.approx(r @ r, rel=1e-9)
    size = np.sqrt(np.outer(G.diagonal(), G.diagonal()))
    rest = slice(n_theta, None)
    assert np.abs(g[rest] / np.sqrt(G.diagonal()[rest])).max() < 1e-5 * np.sqrt(r @ r)
    schur = (
        G[:n_theta, :n_theta]
        - G[:n_theta, rest] @ np.linalg.pinv(G[rest, rest]) @ (G[rest, :n_theta])
    )
    error = (equations.hessian - schur) / size[:n_theta, :n_theta]
    assert np.abs(error).max() < 1e-5
    of_gradient = (equations.gradient - g[:n_theta]) / np.sqrt(G.diagonal()[:n_theta])
    assert np.abs(of_gradient).max() < 1e-5 * np.sqrt(r @ r)
    summed = equations.of_outputs.sum(axis=0)
    if alpha == 0:
        assert np.allclose(summed, equations.joint, rtol=1e-10)


@pytest.mark.parametrize("n_entries", [1, 3])
def test_a_planted_trunk_is_found_from_close_by(n_entries):
    trunk, rows = drawn("two layers", n_rows=200)
    if n_entries == 1:
        trunk, rows = drawn("scales only", n_rows=200)
    rng = np.random.RandomState(1)
    V = rng.standard_normal((3, *trunk.kernels[-1].shape))
    networks = networks_of_trunk(trunk, V, np.arange(3.0), trunk)
    y = np.column_stack([forward(network, rows.X) for network in networks])
    rows = rows.with_targets(lambda _, w: (y, w))
    theta = pack_trunk(trunk)
    start = unpack_trunk(theta + 0.1 * rng.standard_normal(theta.shape), trunk)
    found = polish_together(
        start, rows, Objective(), max_iter=50, tol=1e-12, zero_loss=1e-20
    )
    assert found.converged
    assert found.n_iter < 20
    assert found.loss < 1e-18 * np.sum(y**2)
