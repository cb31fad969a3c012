"""Kernel regression with a metric from gradients, and with landmarks."""

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import rbf_kernel

from skdeeptd._solvers.learned_kernel import (
    Problem,
    dual_coef,
    fit_learned_kernel,
    kernel_values,
    squared_distances,
)
from skdeeptd._solvers.ridge import Validation, posterior_variance

KERNELS = pytest.mark.parametrize("kernel", ["rbf", "laplace"])
SEEDS = range(5)
ALWAYS = -1e9  # a gain that keeps any metric


def draw(n_rows=40, n_features=5, n_outputs=2, seed=0):
    rng = np.random.default_rng(seed)
    F = rng.standard_normal((n_rows, n_features))
    y = np.sin(F @ rng.standard_normal((n_features, n_outputs)))
    return F, y - y.mean(axis=0), rng.uniform(0.5, 2, n_rows)


def fit(F, y, weight, kernel="rbf", is_learned=False, gamma=None, **options):
    validation = options.pop("validation", Validation())
    problem = Problem(
        y, weight, options.pop("covariates", np.empty((len(F), 0))), kernel
    )
    return fit_learned_kernel(F, problem, gamma, is_learned, validation, **options)


def table_of(found, F):
    return F if found.components is None else F @ found.components.T


def kernel_of(found, new, F, kernel):
    """Return the kernel of new rows with the rows or the landmarks."""
    centers = F if found.landmarks is None else F[found.landmarks]
    squares = squared_distances(table_of(found, new), table_of(found, centers))
    return kernel_values(squares, kernel, found.gamma)


def predict(found, new, F, kernel="rbf"):
    return found.ridge.intercept + kernel_of(found, new, F, kernel) @ dual_coef(found)


def test_kernels_are_those_of_the_distances():
    a, b, _ = draw(20, 4, 4)
    distance = cdist(a, b)
    np.testing.assert_allclose(squared_distances(a, b), distance**2, atol=1e-12)
    squares = squared_distances(a, b)
    np.testing.assert_allclose(
        kernel_values(squares, "rbf", 0.3), rbf_kernel(a, b, gamma=0.3)
    )
    np.testing.assert_allclose(
        kernel_values(squares, "laplace", 0.3), np.exp(-0.3 * distance)
    )


@pytest.mark.parametrize("unit", [1e-100, 1.0, 1e100])
def test_equal_rows_have_the_distance_zero(unit):
    """Up to rounding: its root, 1e-8, would count in a Laplace kernel."""
    F = unit * (100 + np.random.default_rng(0).standard_normal((50, 300)))
    np.testing.assert_array_equal(squared_distances(F, F).diagonal(), 0)
    some = squared_distances(F, F[10:17])
    np.testing.assert_array_equal(some[10:17].diagonal(), 0)
    assert np.count_nonzero(some) == 50 * 7 - 7


# Bandwidth


@KERNELS
def test_gamma_is_the_best_of_three_by_cross_validation(kernel):
    for seed in SEEDS:
        F, y, _ = draw(seed=seed)
        ones = np.ones(len(F))
        typical = np.median(cdist(F, F)[np.triu_indices(40, 1)])
        bandwidths = typical * np.array([0.5, 1, 2])
        gammas = 0.5 / bandwidths**2 if kernel == "rbf" else 1 / bandwidths
        errors = [fit(F, y, ones, kernel, gamma=g).ridge.cv_error.sum() for g in gammas]
        found = fit(F, y, ones, kernel)
        np.testing.assert_allclose(found.gamma, gammas[np.argmin(errors)], rtol=0.05)


@KERNELS
def test_the_median_distance_is_that_of_the_rows_of_large_weight(kernel):
    F, y, _ = draw(60)
    F[30:] *= 1e3
    weight = np.r_[np.full(30, 1e6), np.ones(30)]
    typical = np.median(cdist(F[:30], F[:30])[np.triu_indices(30, 1)])
    gamma = fit(F, y, weight, kernel).gamma
    bandwidth = (2 * gamma) ** -0.5 if kernel == "rbf" else 1 / gamma
    assert 0.45 < bandwidth / typical < 2.1


@KERNELS
def test_a_given_gamma_is_kept(kernel):
    assert fit(*draw(), kernel, is_learned=True, gamma=0.123).gamma == 0.123


# The metric


def mean_gradient_product(found, F, weight, kernel, step=1e-5):
    """Return the mean of G'G by central differences, over its largest eigenvalue."""
    product = 0.0
    for x, w in zip(F, weight, strict=True):
        moved = step * np.eye(F.shape[1])
        up, down = (predict(found, x + s * moved, F, kernel) for s in (1, -1))
        gradient = (up - down) / (2 * step)  # (features, outputs)
        product = product + w * gradient @ gradient.T
    return product / np.linalg.norm(product, 2)


@KERNELS
def test_the_metric_is_the_mean_outer_product_of_gradients(kernel):
    """By finite differences of the fit with the Euclidean metric."""
    F, y, weight = draw()
    euclidean = fit(F, y, weight, kernel)
    expected = mean_gradient_product(euclidean, F, weight, kernel)
    learned = fit(F, y, weight, kernel, is_learned=True, gain=ALWAYS)
    metric = learned.components.T @ learned.components
    np.testing.assert_allclose(metric, expected, atol=1e-5)


@KERNELS
def test_the_metric_with_landmarks_is_that_of_these_rows(kernel):
    F, y, weight = draw(60)
    some = np.arange(0, 60, 2)
    alone = fit(F[some], y[some], weight[some], kernel, is_learned=True, gain=ALWAYS)
    found = fit(F, y, weight, kernel, is_learned=True, gain=ALWAYS, landmarks=some)
    np.testing.assert_allclose(found.gamma, alone.gamma)
    np.testing.assert_allclose(
        found.components.T @ found.components,
        alone.components.T @ alone.components,
        atol=1e-10,
    )


def one_direction(seed, n_rows=150, n_features=20, noise=0.1):
    """Return a target of one direction; all other features are noise."""
    rng = np.random.default_rng(seed)
    F, direction = rng.standard_normal((1000, n_features)), np.zeros(n_features)
    direction[:3] = [0.6, -0.6, 0.529]
    mean = np.sin(1.5 * F @ direction)
    y = mean + noise * rng.standard_normal(1000)
    return F[:n_rows], y[:n_rows, np.newaxis], F[n_rows:], mean[n_rows:], direction


@KERNELS
@pytest.mark.parametrize("n_rows", [150, 400])
def test_the_metric_finds_the_direction_that_matters(kernel, n_rows):
    """Also if errors are compared on some of the rows only."""
    cosines, euclidean, learned = [], [], []
    for seed in SEEDS:
        F, y, new, mean, direction = one_direction(seed, n_rows)
        for is_learned, scores in ((False, euclidean), (True, learned)):
            found = fit(F, y, np.ones(len(F)), kernel, is_learned)
            predicted = predict(found, new, F, kernel)[:, 0]
            scores.append(r2_score(mean, predicted))
        leading = np.linalg.svd(found.components)[2][0]
        cosines.append(abs(leading @ direction) / np.linalg.norm(direction))
    assert min(cosines) > 0.9
    assert min(np.array(learned) - euclidean) > 0.3


@KERNELS
def test_more_rows_than_are_compared_make_the_metric_better(kernel):
    """Gradients are those of a fit to all rows, for many outputs too."""
    cosines = []
    for seed in SEEDS:
        F, y, *_, direction = one_direction(seed, 600)
        outputs = y * np.linspace(0.5, 1, 10)
        for n_rows in (200, 600):
            ones = np.ones(n_rows)
            found = fit(F[:n_rows], outputs[:n_rows], ones, kernel, is_learned=True)
            leading = np.linalg.svd(found.components)[2][0]
            cosines.append(abs(leading @ direction) / np.linalg.norm(direction))
    few, many = np.mean(np.reshape(cosines, (-1, 2)), axis=0)
    assert 1 - many < 0.6 * (1 - few)


@KERNELS
def test_a_metric_has_largest_eigenvalue_one_and_no_negative_one(kernel):
    found = fit(*draw(30, 50), kernel, is_learned=True, gain=ALWAYS)
    values = np.linalg.eigvalsh(found.components.T @ found.components)
    assert values[0] > -1e-12
    np.testing.assert_allclose(values[-1], 1)


@KERNELS
def test_a_metric_is_kept_only_if_it_lowers_the_error(kernel):
    errors = []
    for seed in SEEDS:
        F, y, *_ = one_direction(seed, 120)
        rows = F, y, np.ones(120), kernel
        plain, kept = fit(*rows), fit(*rows, is_learned=True)
        refused = fit(*rows, is_learned=True, gain=0.999)
        assert kept.components is not None
        assert refused.components is None
        np.testing.assert_allclose(refused.ridge.coef, plain.ridge.coef)
        errors.append([f.ridge.cv_error.sum() for f in (plain, kept)])
    plain, kept = np.mean(errors, axis=0)
    assert kept < 0.9 * plain


@KERNELS
def test_the_error_is_that_of_rows_that_the_metric_has_not_seen(kernel):
    """A metric fits y of noise well on its own rows; it is discarded."""
    n_kept, ratios = 0, []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        F, noise, ones = (
            rng.standard_normal((80, 30)),
            rng.standard_normal(80),
            np.ones(80),
        )
        found = fit(F, noise[:, np.newaxis], ones, kernel, is_learned=True)
        n_kept += found.components is not None
        y = F[:, :1] + 0.5 * noise[:, np.newaxis]
        known = F[:60], y[:60], ones[:60]
        found = fit(*known, kernel, is_learned=True, gain=ALWAYS)
        error = np.mean((predict(found, F[60:], F[:60], kernel) - y[60:]) ** 2)
        ratios.append(found.ridge.cv_error[0] / error)
        held_out = np.mean((found.ridge.held_out - y[:60]) ** 2)
        np.testing.assert_allclose(held_out, found.ridge.cv_error[0])
    assert n_kept <= 3
    assert 0.8 < np.median(ratios) < 1.6


@KERNELS
def test_more_features_than_rows_are_reduced_to_the_space_of_the_rows(kernel):
    """The same as of coordinates in that space, which are as many as the rows."""
    F, y, weight = draw(25, 60)
    _, _, basis = np.linalg.svd(F, full_matrices=False)
    large = fit(F, y, weight, kernel, is_learned=True, gain=ALWAYS)
    small = fit(F @ basis.T, y, weight, kernel, is_learned=True, gain=ALWAYS)
    components = small.components @ basis
    np.testing.assert_allclose(
        large.components.T @ large.components, components.T @ components, atol=1e-8
    )
    new = np.random.default_rng(1).standard_normal((10, 60))
    np.testing.assert_allclose(
        predict(large, new, F, kernel),
        predict(small, new @ basis.T, F @ basis.T, kernel),
        atol=1e-8,
    )


@KERNELS
def test_units_and_repetitions_do_not_matter(kernel):
    """Copies of a row are held out together, as a row with their weight is."""
    F, y, _ = draw(30, 6)
    weight = np.random.default_rng(1).integers(1, 4, 30)
    rows = np.repeat(np.arange(30), weight)
    copies = [np.flatnonzero(rows == i) for i in range(30)]
    how = {"is_learned": True, "gain": ALWAYS, "gamma": 0.2}
    weighted = fit(F, y, weight.astype(float), kernel, **how)
    of_copies = F[rows], y[rows], np.ones(len(rows)), kernel
    repeated = fit(*of_copies, validation=Validation(tuple(copies)), **how)
    np.testing.assert_allclose(
        predict(repeated, F, F[rows], kernel),
        predict(weighted, F, F, kernel),
        atol=1e-6,
    )
    how["gamma"] = None
    plain = fit(F, y, weight.astype(float), kernel, **how)
    scaled = fit(1e3 * F, y, weight.astype(float), kernel, **how)
    np.testing.assert_allclose(
        predict(scaled, 1e3 * F, 1e3 * F, kernel),
        predict(plain, F, F, kernel),
        atol=1e-6,
    )


@KERNELS
@pytest.mark.parametrize("n_features", [3, 60])
def test_features_that_do_not_vary_have_no_metric(kernel, n_features):
    _, y, weight = draw(30)
    found = fit(np.zeros((30, n_features)), y, weight, kernel, is_learned=True)
    assert found.components is None
    mean = np.average(y, axis=0, weights=weight)
    predicted = predict(found, np.ones((4, n_features)), np.zeros((30, n_features)))
    np.testing.assert_allclose(predicted, np.tile(mean, (4, 1)), atol=1e-12)


@KERNELS
def test_a_single_row_and_a_constant_target_have_no_metric(kernel):
    F, y, weight = draw(30, 5)
    single = fit(F[:1], y[:1], weight[:1], kernel, is_learned=True)
    np.testing.assert_allclose(predict(single, F, F[:1], kernel), y[[0] * 30])
    constant = fit(F, np.zeros((30, 1)), weight, kernel, is_learned=True)
    assert constant.components is None
    assert not np.any(predict(constant, F, F, kernel))


@KERNELS
def test_the_unit_of_the_weights_does_not_matter(kernel):
    """Nor does a large one overflow."""
    F, y, weight = draw(30, 6)
    plain, large = (fit(F, y, unit * weight, kernel) for unit in (1, 1e175))
    np.testing.assert_allclose(
        predict(large, F, F, kernel), predict(plain, F, F, kernel), atol=1e-8
    )


# Landmarks


@KERNELS
@pytest.mark.parametrize("is_learned", [False, True])
def test_all_rows_as_landmarks_give_the_same_fit(kernel, is_learned):
    F, y, weight = draw(50)
    options = {"gain": ALWAYS, "is_learned": is_learned, "gamma": 0.5}
    exact = fit(F, y, weight, kernel, **options)
    found = fit(F, y, weight, kernel, landmarks=np.arange(50), **options)
    new = np.random.default_rng(1).standard_normal((20, 5))
    np.testing.assert_allclose(found.ridge.alpha, exact.ridge.alpha, rtol=1e-6)
    np.testing.assert_allclose(
        predict(found, new, F, kernel), predict(exact, new, F, kernel), atol=1e-6
    )
    for name in ("cv_error", "scale") if not is_learned else ():
        np.testing.assert_allclose(
            getattr(found.ridge, name), getattr(exact.ridge, name), rtol=1e-6
        )


@KERNELS
def test_all_rows_as_landmarks_give_the_same_posterior_variance_at_the_rows(kernel):
    F, y, weight = draw(50)
    exact = fit(F, y, weight, kernel, gamma=0.5)
    found = fit(F, y, weight, kernel, gamma=0.5, landmarks=np.arange(50))
    share = weight / weight.sum()
    gram = kernel_of(exact, F, F, kernel)
    centered = gram - exact.ridge.center
    square = 1 - exact.ridge.center @ share - 2 * centered @ share
    mapped = gram @ found.whitening - found.ridge.center
    of_exact, of_found = (
        posterior_variance(c, s, r.vectors, r.values, exact.ridge.alpha, weight.sum())
        for c, s, r in (
            (centered, square, exact.ridge),
            (mapped, np.sum(mapped**2, axis=1), found.ridge),
        )
    )
    np.testing.assert_allclose(of_found, of_exact, rtol=1e-5)


@KERNELS
def test_more_landmarks_are_closer_to_all_rows(kernel):
    distances = []
    for seed in SEEDS:
        F, y, weight = draw(200, 3, seed=seed)
        exact = predict(fit(F, y, weight, kernel, gamma=0.5), F, F, kernel)
        order = np.random.default_rng(seed).permutation(200)
        for n in (10, 40, 120):
            some = np.sort(order[:n])
            found = fit(F, y, weight, kernel, gamma=0.5, landmarks=some)
            distance = predict(found, F, F, kernel) - exact
            distances.append(np.std(distance) / np.std(exact))
    few, some, many = np.mean(np.reshape(distances, (-1, 3)), axis=0)
    assert few > 1.3 * some
    assert some > 1.3 * many
    assert many < 0.3


def test_equal_landmarks_count_once():
    F, y, weight = draw(30, 3)
    once = fit(F, y, weight, gamma=0.5, landmarks=np.arange(10))
    twice = fit(F, y, weight, gamma=0.5, landmarks=np.repeat(np.arange(10), 2))
    np.testing.assert_allclose(predict(twice, F, F), predict(once, F, F), atol=1e-6)
    assert twice.whitening.shape == (20, once.whitening.shape[1])
