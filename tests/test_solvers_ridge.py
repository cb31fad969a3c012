"""Numerics of ridge regression: held-out residuals without refits, and posteriors."""

import numpy as np
import pytest
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge
from sklearn.metrics.pairwise import rbf_kernel

from skdeeptd._solvers.ridge import (
    Smoother,
    Validation,
    cv_kernel_ridge,
    cv_ridge,
    cv_sums,
    penalties,
    posterior_variance,
    principal,
)

RNG = np.random.default_rng(0)
F, Y = RNG.standard_normal((30, 12)), RNG.standard_normal((30, 2))
Y[:, 0] += F[:, 0]
WEIGHT = RNG.uniform(0.5, 2, 30)


def order(n_rows):
    return np.random.default_rng(n_rows).permutation(n_rows)


HELD_OUT = {
    "single rows": lambda n: np.split(np.arange(n), n),
    "blocks": lambda n: np.array_split(np.arange(n), 4),
    "shuffled blocks": lambda n: np.array_split(order(n), 4),
    "unequal blocks": lambda n: np.split(order(n), [1, 3, n // 2]),
    "halves": lambda n: np.array_split(order(n), 2),
}
BLOCKS = pytest.mark.parametrize("kind", HELD_OUT)


def held_out(kind, n_rows=30, per_output=True):
    """Return blocks of rows, and a validation that holds these out."""
    blocks = HELD_OUT[kind](n_rows)
    given = None if kind == "single rows" else tuple(blocks)
    return blocks, Validation(given, per_output)


def refits(F, y, weight, alphas, blocks):
    """Return predictions of each block by fits to the other rows, (alphas, rows)."""
    predicted = np.empty((len(alphas), len(y)))
    for left in blocks:
        others = np.setdiff1d(np.arange(len(y)), left)
        share = weight[others] / weight[others].sum()
        center, mean, root = share @ F[others], share @ y[others], weight[others] ** 0.5
        table = (F[others] - center) * root[:, np.newaxis]
        u, s, v = np.linalg.svd(table, full_matrices=False)
        target = u.T @ (root * (y[others] - mean))
        for row, alpha in zip(predicted, alphas, strict=True):
            row[left] = mean + (F[left] - center) @ v.T @ (s / (s**2 + alpha) * target)
    return predicted


def test_refits_are_those_of_scikit_learn():
    blocks = HELD_OUT["halves"](30)
    found = refits(F, Y[:, 0], WEIGHT, [0.1, 3.0], blocks)
    for alpha, predicted in zip([0.1, 3.0], found, strict=True):
        for left, others in (blocks, blocks[::-1]):
            model = Ridge(alpha).fit(F[others], Y[others, 0], WEIGHT[others])
            np.testing.assert_allclose(predicted[left], model.predict(F[left]))


@BLOCKS
@pytest.mark.parametrize(("n_rows", "n_entries"), [(30, 12), (27, 1), (30, 3), (9, 12)])
def test_ridge_is_that_of_scikit_learn_with_the_penalty_of_refits(
    n_rows, n_entries, kind
):
    """Blocks of more and of fewer rows than entries, and single rows."""
    F_, Y_, weight = F[:n_rows, :n_entries], Y[:n_rows], WEIGHT[:n_rows]
    own, validation = held_out(kind, n_rows)
    found = cv_ridge(F_, Y_, weight, validation)
    center = weight @ F_ / weight.sum()
    table = (F_ - center) * np.sqrt(weight)[:, np.newaxis]
    alphas = penalties(np.array([np.linalg.norm(table, 2) ** 2]))
    for output in range(2):
        y = Y_[:, output]
        predicted = refits(F_, y, weight, alphas, own)
        errors = [weight @ (y - p) ** 2 for p in predicted]
        best = np.argmax(errors <= 1.001 * np.min(errors))
        np.testing.assert_allclose(found.alpha[output], alphas[best])
        np.testing.assert_allclose(
            found.held_out[:, output], predicted[best], rtol=1e-5, atol=1e-7
        )
        np.testing.assert_allclose(
            found.cv_error[output], errors[best] / weight.sum(), rtol=1e-6
        )
        model = Ridge(found.alpha[output], solver="svd").fit(F_, y, weight)
        np.testing.assert_allclose(found.coef[:, output], model.coef_, atol=1e-9)
        np.testing.assert_allclose(found.intercept[output], model.intercept_)


def test_more_single_rows_than_are_computed_together_equal_refits():
    rng = np.random.default_rng(1)
    F_, weight = rng.standard_normal((600, 3)), rng.uniform(0.5, 2, 600)
    y = F_[:, 0] + rng.standard_normal(600)
    found = cv_ridge(F_, y[:, np.newaxis], weight)
    single = [np.array([i]) for i in range(600)]
    expected = refits(F_, y, weight, found.alpha[:1], single)[0]
    np.testing.assert_allclose(found.held_out[:, 0], expected, atol=1e-8)
    error = weight @ (y - expected) ** 2 / weight.sum()
    np.testing.assert_allclose(found.cv_error[0], error)


@BLOCKS
def test_outputs_share_the_penalty_of_the_smallest_total_error_if_asked_to(kind):
    own, validation = held_out(kind, per_output=False)
    found = cv_ridge(F, Y, WEIGHT, validation)
    center = WEIGHT @ F / WEIGHT.sum()
    table = (F - center) * np.sqrt(WEIGHT)[:, np.newaxis]
    alphas = penalties(np.array([np.linalg.norm(table, 2) ** 2]))
    errors = sum((y - refits(F, y, WEIGHT, alphas, own)) ** 2 @ WEIGHT for y in Y.T)
    np.testing.assert_allclose(found.alpha, alphas[np.argmin(errors)])
    apart = cv_ridge(F, Y, WEIGHT, validation._replace(per_output=True))
    assert apart.alpha[0] != apart.alpha[1]
    assert apart.cv_error.sum() < found.cv_error.sum()
    expected = [refits(F, y, WEIGHT, found.alpha[:1], own)[0] for y in Y.T]
    np.testing.assert_allclose(found.held_out, np.transpose(expected), atol=1e-7)


def kriging(known, cross, own, y):
    """Mean and covariance at new rows of a Gaussian process with an unknown mean."""
    solved = np.linalg.solve(known, cross.T).T
    ones = np.linalg.solve(known, np.ones(len(known)))
    rest = 1 - solved.sum(axis=1)
    covariance = own - solved @ cross.T + np.outer(rest, rest) / ones.sum()
    return rest * (ones @ y) / ones.sum() + solved @ y, covariance


@BLOCKS
def test_held_out_rows_of_a_kernel_are_predicted_by_the_other_rows(kind):
    """By a Gaussian process with an unknown mean, fitted to the other rows."""
    gram, Y = rbf_kernel(F, gamma=0.01), RNG.standard_normal((30, 2))
    Y[:, 0] += F[:, 0]
    blocks, validation = held_out(kind)
    found = cv_kernel_ridge(gram, Y, WEIGHT, validation)
    for output in range(2):
        covariance = gram / found.alpha[output] + np.diag(1 / WEIGHT)
        y, squares = Y[:, output], 0.0
        for left in blocks:
            others = np.setdiff1d(np.arange(30), left)
            parts = (covariance[np.ix_(a, others)] for a in (others, left))
            mean, of_mean = kriging(*parts, covariance[np.ix_(left, left)], y[others])
            np.testing.assert_allclose(found.held_out[left, output], mean, atol=1e-6)
            squares += (y[left] - mean) @ np.linalg.solve(of_mean, y[left] - mean)
        np.testing.assert_allclose(found.scale[output], squares / 30, rtol=1e-5)
        error = WEIGHT @ (y - found.held_out[:, output]) ** 2 / WEIGHT.sum()
        np.testing.assert_allclose(found.cv_error[output], error)


def test_a_linear_kernel_is_plain_ridge():
    plain, of_kernel = cv_ridge(F, Y, WEIGHT), cv_kernel_ridge(F @ F.T, Y, WEIGHT)
    np.testing.assert_allclose(F.T @ of_kernel.coef, plain.coef, atol=1e-10)
    for name in ("intercept", "alpha", "scale", "cv_error", "held_out"):
        np.testing.assert_allclose(
            getattr(of_kernel, name), getattr(plain, name), rtol=1e-8
        )


def test_kernel_ridge_is_that_of_scikit_learn_where_the_mean_is_zero():
    gram = rbf_kernel(F, gamma=0.05)
    found = cv_kernel_ridge(gram, Y, np.ones(30))
    mean = gram.mean(axis=0)
    centered = gram - mean - mean[:, np.newaxis] + mean.mean()
    for output in range(2):
        y = Y[:, output] - Y[:, output].mean()
        model = KernelRidge(alpha=found.alpha[output], kernel="precomputed")
        expected = model.fit(centered, y).predict(centered) + Y[:, output].mean()
        ours = gram @ found.coef[:, output] + found.intercept[output]
        np.testing.assert_allclose(ours, expected, atol=1e-8)


@pytest.mark.parametrize("n_entries", [1, 12, 50])
def test_standardised_residuals_of_refits_have_mean_square_one(n_entries):
    """Each of three blocks is predicted by the Gaussian process of the other rows."""
    rng = np.random.default_rng(6)
    F, weight = rng.standard_normal((30, n_entries)), rng.uniform(0.2, 5, 30)
    y = F[:, 0] + 2 + rng.standard_normal(30) / np.sqrt(weight)
    blocks = tuple(np.array_split(np.arange(30), 3))
    found = cv_ridge(F, y[:, np.newaxis], weight, Validation(blocks))
    covariance = F @ F.T / found.alpha + np.diag(1 / weight)
    squares = errors = 0.0
    for left in blocks:
        others = np.setdiff1d(np.arange(30), left)
        parts = (covariance[np.ix_(a, others)] for a in (others, left))
        mean, of_mean = kriging(*parts, covariance[np.ix_(left, left)], y[others])
        squares += (y[left] - mean) @ np.linalg.solve(of_mean, y[left] - mean)
        errors += weight[left] @ (y[left] - mean) ** 2
    np.testing.assert_allclose(found.scale, squares / 30, rtol=1e-6)
    np.testing.assert_allclose(found.cv_error, errors / weight.sum(), rtol=1e-6)


@pytest.mark.parametrize("is_kernel", [True, False])
def test_the_posterior_is_that_of_a_gaussian_process(is_kernel):
    new, share = (
        np.random.default_rng(2).standard_normal((8, 12)),
        WEIGHT / WEIGHT.sum(),
    )
    if is_kernel:
        gram, cross = rbf_kernel(F, gamma=0.05), rbf_kernel(new, F, gamma=0.05)
        own, fit = rbf_kernel(new, gamma=0.05), cv_kernel_ridge(gram, Y, WEIGHT)
        centered = cross - fit.center
        square = 1 - fit.center @ share - 2 * centered @ share
    else:
        gram, cross, own = F @ F.T, new @ F.T, new @ new.T
        fit = cv_ridge(F, Y, WEIGHT)
        centered = new - fit.center
        square = np.sum(centered**2, axis=1)
    directions = fit.vectors, fit.values, fit.alpha, WEIGHT.sum()
    found = posterior_variance(centered, square, *directions)
    for output, alpha in enumerate(fit.alpha):
        known = gram / alpha + np.diag(1 / WEIGHT)
        _, covariance = kriging(known, cross / alpha, own / alpha, Y[:, output])
        np.testing.assert_allclose(found[:, output], np.diag(covariance), rtol=1e-6)


@BLOCKS
def test_whole_weights_are_copies_that_are_held_out_together(kind):
    weight = np.random.default_rng(1).integers(1, 4, 30)
    rows = np.repeat(np.arange(30), weight)
    blocks, validation = held_out(kind)
    weighted = cv_ridge(F, Y, weight.astype(float), validation)
    copies = tuple(np.flatnonzero(np.isin(rows, b)) for b in blocks)
    repeated = cv_ridge(F[rows], Y[rows], np.ones(len(rows)), Validation(copies))
    for name in ("coef", "intercept", "alpha", "center", "values"):
        np.testing.assert_allclose(
            getattr(repeated, name), getattr(weighted, name), rtol=1e-8
        )
    np.testing.assert_allclose(repeated.held_out, weighted.held_out[rows], atol=1e-6)
    np.testing.assert_allclose(repeated.cv_error, weighted.cv_error)
    ratio = len(rows) / 30  # the sum over the rows, over their number
    np.testing.assert_allclose(repeated.scale * ratio, weighted.scale, rtol=1e-5)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_units_of_features_targets_and_weights_only_change_units(unit):
    plain = cv_ridge(F, Y, WEIGHT)
    for F_, Y_, weight, alpha, y in (
        (unit * F, Y, WEIGHT, unit**2, 1),
        (F, unit * Y, WEIGHT, 1, unit),
        (F, Y, unit * WEIGHT, unit, 1),
    ):
        found = cv_ridge(F_, Y_, weight)
        np.testing.assert_allclose(found.alpha, alpha * plain.alpha)
        np.testing.assert_allclose(found.held_out, y * plain.held_out, rtol=1e-6)


def test_penalties_go_from_ten_to_a_billionth_of_the_largest_eigenvalue():
    alphas = penalties(np.array([3.0, 1.0]))
    assert len(alphas) == 21
    np.testing.assert_allclose(alphas[[0, -1]], [30, 3e-9])
    np.testing.assert_allclose(alphas[:-1] / alphas[1:], np.sqrt(10))
    np.testing.assert_allclose(penalties(np.zeros(0))[[0, -1]], [10, 1e-9])


def test_directions_that_are_rounding_errors_are_left_out():
    F_ = np.column_stack([F, F[:, :3] @ [[1], [2], [-1]], F[:, 1:2] / 3])
    for table in (F_, F_[:9], F_.T):
        left, values = principal(table)
        assert len(values) == np.linalg.matrix_rank(table)
        np.testing.assert_allclose(left.T @ left, np.eye(len(values)), atol=1e-10)
        np.testing.assert_allclose(
            left * values @ left.T, table @ table.T, atol=1e-10 * values.max()
        )
    gram = 1 + 1e-3 * F[:, :2] @ F[:, :2].T
    assert len(cv_kernel_ridge(gram, Y, WEIGHT).values) == 2


@pytest.mark.parametrize("n_rows", [1, 2, 3])
def test_few_rows_have_finite_predictions(n_rows):
    rows = F[:n_rows], Y[:n_rows], WEIGHT[:n_rows]
    for found in (
        cv_ridge(*rows),
        cv_kernel_ridge(F[:n_rows] @ F[:n_rows].T, *rows[1:]),
    ):
        assert np.isfinite(found.coef).all()
        assert np.isfinite(found.held_out).all()
        assert np.isnan(found.cv_error).all() == (n_rows == 1)
        if n_rows == 1:
            np.testing.assert_allclose(found.intercept, Y[0])


def test_a_row_that_the_others_do_not_determine_is_predicted_by_their_mean():
    """Its own feature is zero in all other rows."""
    alone = np.column_stack([np.eye(30)[:, :1], F[:, :2]])
    found = cv_ridge(alone, Y, WEIGHT)
    for output in range(2):
        single = [np.array([i]) for i in range(30)]
        expected = refits(alone, Y[:, output], WEIGHT, found.alpha[[output]], single)[0]
        np.testing.assert_allclose(found.held_out[:, output], expected, atol=1e-6)


def test_blocks_of_some_of_the_rows():
    blocks = tuple(np.array(b) for b in ([0, 3, 5], [1, 2], [4, 6, 7]))
    validation = Validation(blocks, per_output=False)
    found = validation.of_rows(np.array([0, 3, 4, 5, 7]))
    assert [list(b) for b in found.blocks] == [[0, 1, 3], [2, 4]]
    assert not found.per_output
    assert Validation().of_rows(np.arange(3)) == Validation()


@pytest.mark.parametrize("kind", ["single rows", "blocks"])
def test_held_out_predictions_of_an_interpolating_fit_are_those_of_refits(kind):
    """The smallest penalty is far below the rounding error of 1 - H_ii."""
    rng = np.random.default_rng(3)
    rows = rng.standard_normal((24, 60))
    y, weight = rows[:, :1] + rows[:, 1:2] ** 2, rng.uniform(0.5, 2, 24)
    blocks, validation = held_out(kind, 24)
    left, values = principal(
        (rows - weight @ rows / weight.sum()) * weight[:, None] ** 0.5
    )
    basis = np.sqrt(weight / weight.sum())[:, np.newaxis]
    target = (y - weight @ y / weight.sum()) * np.sqrt(weight)[:, None]
    alpha = penalties(values)[-1:]
    none = np.empty((0, len(values))), np.empty((0, 0))
    smoother = Smoother(left, values, basis, *none)
    *_, residual = cv_sums(smoother, target, alpha, validation, True)
    found = y[:, 0] - residual[0, :, 0] / np.sqrt(weight)
    expected = refits(rows, y[:, 0], weight, alpha, blocks)[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_rounding_does_not_choose_among_penalties_of_equal_error():
    """The errors converge for small penalties if the regression interpolates."""
    rng = np.random.default_rng(0)
    rows, y = rng.standard_normal((20, 200)), rng.standard_normal((20, 3))
    gram = np.exp(-0.01 * ((rows[:, np.newaxis] - rows) ** 2).sum(axis=2))
    shares = []
    for place in (np.arange(20), order(20)):
        for unit in (1.0, 1e-6, 1e6):
            weight = np.full(20, unit)
            found = cv_kernel_ridge(gram[np.ix_(place, place)], y[place], weight)
            shares.append(found.alpha / unit)
    np.testing.assert_allclose(shares, [shares[0]] * len(shares))
