"""Covariances against dense matrices of all weights, and what repetition shows."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import linalg

from skdeeptd import DeepTDRegressor
from skdeeptd._covariance import covariances, kernel_stds, output_std
from skdeeptd._data.rows import RowBlocks
from skdeeptd._data.standardize import Standardized
from skdeeptd._loss import Huber, Poisson, SquaredError
from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward
from skdeeptd._network.parameters import normalize, pack, unpack
from skdeeptd._solvers.gauss_newton import gauss_newton
from skdeeptd.datasets import make_patch_cnn_regression

CASES = {
    "tanh": (12, (4, 3), None, ("tanh", "identity"), False),
    "softplus, biases": (12, (4, 3), None, ("softplus", "identity"), True),
    "leaky relu": (24, (4, 3, 2), None, ("leaky_relu",) * 2 + ("identity",), False),
    "overlap": (12, (4, -1), (2,), ("tanh", "identity"), True),
    "tanh at the end": (12, (4, 3), None, ("leaky_relu", "tanh"), True),
}
LOSSES = {"squared": SquaredError(), "huber": Huber(0.4), "poisson": Poisson()}


def solved(case, loss=LOSSES["squared"], n_heads=1, alpha=0.0, fit_intercept=True):
    """Weighted rows, and a network near the minimum of the objective on them.

    Only few steps: at the end, kinks of a relu lie at rows, where differences fail.
    """
    n_features, sizes, strides, activations, biases = CASES[case]
    layout = make_layout(n_features, sizes, None, strides)
    blank = blank_network(layout, 2, activations, biases, n_heads)
    rng = np.random.default_rng(4)
    truth = unpack(rng.standard_normal(pack(blank).shape), blank)._replace(
        heads=rng.standard_normal(blank.heads.shape),
        intercept=np.arange(n_heads) * float(fit_intercept),
    )
    X = 0.3 + rng.standard_normal((300, n_features))
    if isinstance(loss, Poisson):
        truth = truth._replace(heads=0.5 * truth.heads)
        y = rng.poisson(np.exp(forward(truth, X))).astype(float)
    else:
        y = forward(truth, X)
        y += rng.standard_normal(y.shape) * np.arange(1, n_heads + 1) * 0.3
    weight = rng.choice([0.25, 0.5, 1.0], 300)
    rows = RowBlocks(X, y, weight)
    solution = gauss_newton(
        truth,
        rows,
        loss,
        alpha=alpha,
        fit_intercept=fit_intercept,
        max_iter=2,
        tol=1e-13,
    )
    # Without its equations, which may hold for the heads of the pass before.
    return solution._replace(equations=None), rows


def fit_of(solution, rows, loss, alpha, fit_intercept, unit=1.0, heaviest=4.0):
    """Return the parts of a ``Fit`` that ``covariances`` reads, for these weights."""
    Q = rows.y.shape[1]
    problem = Standardized(
        rows,
        len(rows.X),
        np.sum(rows.weight),
        0.25 * heaviest,
        heaviest,
        np.zeros(Q),
        np.full(Q, unit),
    )
    spec = SimpleNamespace(loss=loss, alpha=alpha, fit_intercept=fit_intercept)
    return SimpleNamespace(problem=problem, parts=[(list(range(Q)), spec, solution)])


def derivative_of(function, at, step=1e-6):
    shifts = step * np.eye(len(at))
    columns = [(function(at + s) - function(at - s)) / (2 * step) for s in shifts]
    return np.stack(columns, axis=-1)


def parameters(network):
    """Hidden weights, then per output its head and intercept."""
    heads = [
        np.append(head.ravel(), b)
        for head, b in zip(network.heads, network.intercept, strict=True)
    ]
    return np.concatenate([pack(network).ravel(), *heads])


def at_parameters(values, like):
    n_hidden = pack(like).size
    rest = values[n_hidden:].reshape(len(like.heads), -1)
    return unpack(values[:n_hidden].reshape(pack(like).shape), like)._replace(
        heads=rest[:, :-1].reshape(like.heads.shape), intercept=rest[:, -1]
    )


def linear_weights(network):
    found = []
    for o, r in np.ndindex(network.heads.shape[:2]):
        kernels = [*(k[r] for k in network.kernels), network.heads[o, r]]
        found.append(functools.reduce(np.multiply.outer, kernels).ravel())
    return np.concatenate(found)


def kept_moves(network):
    """Orthonormal moves of the parameters that keep the norms of homogeneous layers."""

    def norms(values):
        moved = at_parameters(values, network)
        layers = zip(moved.kernels, moved.activations, strict=True)
        return np.concatenate(
            [np.zeros(1)]
            + [np.sum(k**2, axis=1) for k, a in layers if ACTIVATIONS[a].homogeneous]
        )

    return linalg.null_space(derivative_of(norms, parameters(network)), rcond=1e-6)


def brute_force(network, rows, loss, alpha, fit_intercept):
    """Standard deviations of the outputs (rows, Q) and the noise per output.

    From one dense matrix over the hidden weights and all heads: H^-1 B H^-1, with
    B the matrix of the scores, sum_q sigma_q^2 J_q' W C J_q and the penalty.
    """
    network, Q = normalize(network), len(network.heads)
    values, outputs = parameters(network), forward(network, rows.X)
    J = derivative_of(lambda v: forward(at_parameters(v, network), rows.X), values)
    dW = derivative_of(lambda v: linear_weights(at_parameters(v, network)), values)
    dW = dW.reshape(Q, -1, len(values))
    moves = kept_moves(network)
    if not fit_intercept:
        is_intercept = np.zeros(len(values), bool)
        is_intercept[pack(network).size :].reshape(Q, -1)[:, -1] = True
        moves = moves @ linalg.null_space(moves[is_intercept])
    J, dW = J @ moves, dW @ moves
    C = loss.evaluate(rows.y, outputs)[2]
    C = np.ones_like(outputs) if C is None else C
    data = [
        J[:, q].T @ ((rows.weight * C[:, q])[:, np.newaxis] * J[:, q]) for q in range(Q)
    ]
    each = [H + alpha * d.T @ d for H, d in zip(data, dW, strict=True)]
    inverse = np.linalg.pinv(sum(each), rcond=1e-13, hermitian=True)
    noises, residual = [], rows.y - outputs
    for q in range(Q):
        n_weights = np.trace(inverse @ data[q])
        left = 4 * np.sum(rows.weight) - n_weights  # the heaviest row counts as four
        if isinstance(loss, Huber):
            clipped = np.clip(residual[:, q], -loss.threshold, loss.threshold)
            within = rows.weight @ (clipped == residual[:, q]) / np.sum(rows.weight)
            noises.append(rows.weight @ clipped**2 / within**2 / left)
        elif isinstance(loss, Poisson):
            noises.append(1 / 4)
        else:
            noises.append(rows.weight @ residual[:, q] ** 2 / left)
    B = sum(noise * H for noise, H in zip(noises, each, strict=True))
    covariance = inverse @ B @ inverse
    variances = np.einsum("iqm,mn,iqn->iq", J, covariance, J)
    return np.sqrt(variances), np.array(noises)


def stds_of(solution, rows, loss, alpha, fit_intercept, case, unit=1.0):
    is_linear = CASES[case][3][-1] == "identity"
    fit = fit_of(solution, rows, loss, alpha, fit_intercept, unit)
    found = covariances(fit, is_linear)
    network = solution.network
    in_units = network._replace(heads=unit * network.heads)
    stds = [
        output_std(in_units.head(q), C, is_linear, rows.X)
        for q, (C, _) in enumerate(found)
    ]
    return np.column_stack(stds), np.array([noise for _, noise in found])


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_one_output_has_the_inverse_of_the_whole_matrix(
    case, name, alpha, fit_intercept
):
    loss = LOSSES[name]
    solution, rows = solved(case, loss, 1, alpha, fit_intercept)
    how = loss, alpha, fit_intercept
    stds, noises = stds_of(solution, rows, *how, case)
    expected, noise = brute_force(solution.network, rows, *how)
    np.testing.assert_allclose(noises, 4 * noise, rtol=1e-5)
    np.testing.assert_allclose(stds, expected, rtol=1e-4)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("case", CASES)
def test_outputs_that_share_layers_have_that_of_all_heads(
    case, name, alpha, fit_intercept
):
    loss = LOSSES[name]
    solution, rows = solved(case, loss, 3, alpha, fit_intercept)
    how = loss, alpha, fit_intercept
    stds, noises = stds_of(solution, rows, *how, case)
    expected, noise = brute_force(solution.network, rows, *how)
    np.testing.assert_allclose(noises, 4 * noise, rtol=1e-5)
    np.testing.assert_allclose(stds, expected, rtol=1e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_the_equations_at_the_end_of_a_solve_are_used_as_they_are(monkeypatch, name):
    loss = LOSSES[name]
    start, rows = solved("tanh", loss)
    solution = gauss_newton(start.network, rows, loss, max_iter=300, tol=1e-13)
    without = stds_of(solution._replace(equations=None), rows, loss, 0.0, True, "tanh")
    monkeypatch.setattr("skdeeptd._covariance.normal_equations", None)
    found = stds_of(solution, rows, loss, 0.0, True, "tanh")
    np.testing.assert_allclose(found[0], without[0], rtol=1e-5)


def test_outputs_of_their_own_have_the_covariance_of_one_output():
    loss = SquaredError()
    solution, rows = solved("tanh", loss, 3)
    fit = fit_of(solution, rows, loss, 0.0, True)
    wanted = covariances(fit, True)
    singles = [
        covariances(
            fit_of(
                solution._replace(network=solution.network.head(o)),
                RowBlocks(rows.X, rows.y[:, [o]], rows.weight),
                loss,
                0.0,
                True,
            ),
            True,
        )[0]
        for o in range(3)
    ]
    _, spec, _ = fit.parts[0]
    fit.parts = [
        ([o], spec, solution._replace(network=solution.network.head(o)))
        for o in range(3)
    ]
    found = covariances(fit, True)
    for (C, noise), (single, single_noise), (shared, _) in zip(
        found, singles, wanted, strict=True
    ):
        np.testing.assert_allclose(C, single, rtol=1e-9)
        assert noise == pytest.approx(single_noise)
        assert np.trace(shared) < np.trace(C)  # hidden weights of all outputs


def test_rows_fewer_than_weights_leave_no_estimate():
    loss = SquaredError()
    solution, rows = solved("tanh", loss)
    few = RowBlocks(rows.X[:14], rows.y[:14], np.ones(14))
    fit = fit_of(solution, few, loss, 0.0, True, heaviest=1.0)
    assert solution.network.n_free_weights * 2 + 1 == 13  # for theta without gauge
    ((C, noise),) = covariances(fit, True)
    assert np.isnan(noise)
    assert np.isnan(C).all()
    # Weights of more than one row each do not make them more.
    heavy = fit_of(solution, few, loss, 0.0, True, heaviest=9.0)
    assert np.isnan(covariances(heavy, True)[0][1])


def test_a_covariance_too_large_for_memory_is_left_out():
    loss = SquaredError()
    solution, rows = solved("tanh", loss)
    fit = fit_of(solution, rows, loss, 0.0, True)
    n_weights = solution.network.n_weights
    ((C, _),) = covariances(fit, True, most_bytes=24 * n_weights**2)
    assert C.shape == (n_weights + 2, n_weights + 2)  # a scale per filter
    ((C, noise),) = covariances(fit, True, most_bytes=24 * n_weights**2 - 1)
    assert C is None
    assert np.isnan(noise)


@pytest.mark.parametrize("small", [1e-2, 1e-4, 1e-6])
def test_a_filter_that_is_almost_linear_counts_as_that_many_weights(small):
    """A tanh of small numbers: norm and head are almost the same weight."""
    loss = SquaredError()
    solution, rows = solved("tanh", loss)
    network = solution.network
    kernels, heads = network.kernels[0].copy(), network.heads.copy()
    kernels[1] *= small
    heads[:, 1] /= small
    network = network._replace(kernels=(kernels,), heads=heads)
    stds, noises = stds_of(
        solution._replace(network=network), rows, loss, 0.1, True, "tanh"
    )
    y = rows.y[:, 0]
    assert noises[0] < 4 * np.var(y)
    # At most one for each of 15 weights, at least one for the constant.
    rows_count = 4 * rows.weight * stds[:, 0] ** 2 / noises[0]
    assert 1 < rows_count.sum() < 15.1


@pytest.mark.parametrize("alpha", [0.0, 3.0])
@pytest.mark.parametrize("name", ["squared", "poisson"])
@pytest.mark.parametrize("case", ["tanh", "softplus, biases", "leaky relu"])
def test_standard_deviations_have_the_unit_of_y(case, name, alpha):
    loss = LOSSES[name]
    solution, rows = solved(case, loss, 1, alpha)
    plain = stds_of(solution, rows, loss, alpha, True, case)
    scaled = stds_of(solution, rows, loss, alpha, True, case, unit=100.0)
    np.testing.assert_allclose(scaled[0], 100 * plain[0], rtol=1e-6)
    np.testing.assert_allclose(scaled[1], 100**2 * plain[1], rtol=1e-12)


def test_kernel_stds_are_infinite_for_a_filter_without_scale_or_kernel():
    kernels = [np.array([[1.0, 2], [0, 0], [3, 4]]), np.ones((3, 2))]
    covariance = np.eye(3 * 5 + 1)
    first, second = kernel_stds(kernels, np.array([0.0, 1, 1]), covariance)
    assert np.isinf(first[:2]).all()
    assert np.isinf(second[0]).all()
    np.testing.assert_allclose(first[2], np.array([0.8, 0.6]) / 5)
    np.testing.assert_allclose(second[1:], 0.5)


def test_kernel_stds_are_those_of_the_unit_kernel():
    rng = np.random.default_rng(0)
    kernel = rng.standard_normal((1, 3))
    root = rng.standard_normal((3, 3))
    covariance = np.zeros((5, 5))
    covariance[:3, :3] = root @ root.T

    def unit(k):
        return k / np.linalg.norm(k)

    J = derivative_of(unit, kernel[0])
    expected = np.sqrt(np.diag(J @ covariance[:3, :3] @ J.T))
    (found,) = kernel_stds([kernel], np.ones(1), covariance)
    np.testing.assert_allclose(found[0], expected, rtol=1e-7)


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_one_linear_layer_has_the_covariance_of_weighted_least_squares(
    alpha, fit_intercept
):
    rng = np.random.default_rng(0)
    X, y = 3 + rng.standard_normal((60, 7)), 100 * rng.standard_normal(60)
    weight = rng.integers(1, 4, 60).astype(float)
    fitted = DeepTDRegressor((7,), alpha=alpha, fit_intercept=fit_intercept, tol=1e-12)
    fitted.fit(X, y, weight)

    design = np.column_stack([X, np.ones(60)]) if fit_intercept else X
    gram = design.T @ (weight[:, None] * design)
    prior = np.diag([alpha] * 7 + [0] * fit_intercept)
    inverse = np.linalg.inv(gram + prior)
    coefficients = inverse @ design.T @ (weight * y)
    left = weight.sum() - np.trace(inverse @ gram)
    noise = np.sum(weight * (y - design @ coefficients) ** 2) / left
    np.testing.assert_allclose(fitted.noise_variance_, [noise], rtol=1e-6)
    fresh = 3 + rng.standard_normal((5, 7))
    by_theta = np.column_stack([fresh, np.ones(5)]) if fit_intercept else fresh
    expected = np.sqrt(noise * np.sum((by_theta @ inverse) * by_theta, axis=1))
    mean, std = fitted.predict(fresh, return_std=True)
    np.testing.assert_array_equal(mean, fitted.predict(fresh))
    np.testing.assert_allclose(std, expected, rtol=1e-4)


def test_squares_that_float32_cannot_hold_are_no_error_where_rows_are_few():
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((4, 6)).astype(np.float32), rng.standard_normal(4)
    large = X * np.float32(1e19)
    model = DeepTDRegressor((6,), fit_intercept=False).fit(large, y)
    np.testing.assert_allclose(model.predict(large), y, rtol=1e-3)
    assert np.isnan(model.noise_variance_).all()  # nothing is left to estimate it from


def test_intervals_cover_the_truth_as_often_as_they_say():
    """95 % intervals of the mean: one network, 24 fits with fresh X and noise."""
    sizes, noise, n_train, n_fits = (6, 5, 4), 0.5, 400, 24
    X, y = make_patch_cnn_regression(n_fits * 600, sizes, random_state=0)
    rng = np.random.RandomState(1000)
    covered, variances = [], []
    for part, of_part in zip(np.split(X, n_fits), np.split(y, n_fits), strict=True):
        noisy = of_part[:n_train] + noise * rng.standard_normal(n_train)
        fitted = DeepTDRegressor(sizes, random_state=0).fit(part[:n_train], noisy)
        mean, std = fitted.predict(part[n_train:], return_std=True)
        covered.append(np.mean(np.abs(mean - of_part[n_train:]) < 1.96 * std))
        variances.append(fitted.noise_variance_[0])
    assert 0.92 < np.mean(covered) < 0.98
    np.testing.assert_allclose(np.mean(variances), noise**2, rtol=0.04)


def test_units_shapes_and_order_of_the_covariance():
    X, y = make_patch_cnn_regression(
        200, (4, 3), n_outputs=2, n_filters=2, noise=0.1, random_state=0
    )
    model = DeepTDRegressor((4, 3), n_filters=2, hidden_bias=True, random_state=0)
    fitted = model.fit(X, y)
    n_weights = 2 * (4 + 3 + 1 + 1) + 1
    assert fitted.covariance_.shape == (2, n_weights, n_weights)
    assert fitted.noise_variance_.shape == (2,)
    mean, std = fitted.predict(X, return_std=True)
    assert mean.shape == std.shape == y.shape
    assert np.all(std > 0)
    covariance = fitted.covariance_
    # Scales and intercept have the unit of y, kernels and biases have none.
    larger = model.fit(X, 1000 * y)
    factor = np.ones(n_weights)
    factor[[7, 16, 18]] = 1000
    np.testing.assert_allclose(
        larger.covariance_, covariance * np.outer(factor, factor), rtol=1e-3, atol=1e-9
    )
    np.testing.assert_allclose(
        larger.predict(X, return_std=True)[1], 1000 * std, rtol=1e-3
    )


def test_covariance_is_that_of_the_weights_in_repeated_fits():
    """Unit kernels do not vary in norm; the rest does as 300 fits with new noise do."""
    X, y = make_patch_cnn_regression(400, (4, 3), activation="tanh", random_state=0)
    model = DeepTDRegressor((4, 3), activation="tanh", random_state=0)
    weights, stated = [], []
    for seed in range(300):
        noise = 0.1 * np.random.RandomState(1000 + seed).standard_normal(400)
        fitted = model.fit(X, y + noise)
        first, second = (
            k[0, 0] * gain
            for k, gain in zip(fitted.kernels_, fitted.gains_[0, 0], strict=True)
        )
        # The signs that the function does not depend on, so that fits can be compared.
        flips = np.full(2, np.sign(first[0]))
        flips[1] = np.sign(second[0])
        flips = np.append(flips, np.prod(flips))
        signs = np.repeat(flips, [4, 3, 1])
        weights.append(np.hstack([first, second, fitted.scales_[0]]) * signs)
        stated.append(fitted.covariance_[0, :-1, :-1] * np.outer(signs, signs))
    expected = np.cov(np.transpose(weights))
    stated = np.mean(stated, axis=0)
    error = np.linalg.norm(stated - expected) / np.linalg.norm(expected)
    assert error < 0.2
    unit = fitted.kernels_[1][0, 0]
    assert unit @ fitted.covariance_[0, 4:7, 4:7] @ unit < 1e-12


def test_weights_count_as_repeated_rows():
    X, y = make_patch_cnn_regression(90, (4, 3), noise=0.3, random_state=0)
    weight = np.random.RandomState(0).randint(1, 4, 90)
    weighted = DeepTDRegressor((4, 3), random_state=0).fit(X, y, weight)
    repeated = DeepTDRegressor((4, 3), random_state=0).fit(
        np.repeat(X, weight, axis=0), np.repeat(y, weight)
    )
    np.testing.assert_allclose(
        weighted.predict(X, return_std=True)[1],
        repeated.predict(X, return_std=True)[1],
        rtol=1e-4,
    )


def test_where_the_mean_is_predicted_its_standard_error_is_given():
    X = np.random.RandomState(0).choice([-1.0, 1.0], (50, 6))
    X = np.vstack([X, -X])
    y = np.tile([-1.0, 1.0], 50)  # even in X: the moment is zero
    with pytest.warns(UserWarning, match="Nothing could be learned"):
        fitted = DeepTDRegressor((3, 2)).fit(X, y)
    mean, std = fitted.predict(X, return_std=True)
    np.testing.assert_allclose(mean, y.mean())
    np.testing.assert_allclose(std, y.std(ddof=1) / 10)


def test_no_more_samples_than_weights_leave_no_estimate():
    rng = np.random.RandomState(0)
    fitted = DeepTDRegressor((12,)).fit(rng.standard_normal((10, 12)), rng.rand(10))
    assert np.all(np.isnan(fitted.noise_variance_))
    heavy = DeepTDRegressor((12,)).fit(rng.randn(10, 12), rng.rand(10), np.full(10, 9))
    assert np.all(np.isnan(heavy.covariance_))
    with pytest.warns(UserWarning, match="deviations are NaN: .* weights as samples"):
        _, std = fitted.predict(np.ones((3, 12)), return_std=True)
    assert np.all(np.isnan(std))


def test_without_the_polish_there_is_no_standard_deviation():
    X, y = make_patch_cnn_regression(100, (4, 3), random_state=0)
    fitted = DeepTDRegressor((4, 3), polish=False).fit(X, y)
    assert not hasattr(fitted, "covariance_")
    with pytest.raises(ValueError, match="return_std=True needs a fit with polish"):
        fitted.predict(X, return_std=True)


def test_float32_gives_float32():
    X, y = make_patch_cnn_regression(100, (4, 3), noise=0.1, random_state=0)
    fitted = DeepTDRegressor((4, 3), random_state=0).fit(X.astype(np.float32), y)
    mean, std = fitted.predict(X.astype(np.float32), return_std=True)
    assert mean.dtype == std.dtype == np.float32
