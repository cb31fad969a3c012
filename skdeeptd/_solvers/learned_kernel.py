"""Kernel ridge regression whose bandwidth and metric are learned.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
F           ``features``        (rows, entries)
A           ``components``      (directions, entries); the metric is M = A'A
U           ``table``           (rows, directions): F A', or F itself
d_ij                            distance of the rows i and j of U
K           ``gram``            exp(-gamma d^2) ("rbf") or exp(-gamma d) ("laplace")
C           ``covariates``      (rows, covariates): they also enter linearly
G           ``gradients``       (rows times outputs, entries): df / dF at the rows
==========  ==================  ==================================================

The metric is the average outer product of the gradients of a fit with the Euclidean
one, M = mean G'G. The regression is fitted again with this metric (Radhakrishnan et
al., Science 383, 2024): features that do not matter then do not contribute to the
distances. The metric is kept only if the cross-validated error falls clearly. The
metric was learned from the held-out rows, too, so the error of rows that it has not
seen is compared as well. A network's first moment estimates E grad f; the metric
estimates the second moment of grad f.

With many rows the kernel is that of some landmark rows L, K(., L) K(L, L)^-1 K(L, .)
(Nystroem): a ridge regression on U_L = K(., L) K(L, L)^-1/2.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._solvers.linalg import pseudo_inverse
from skdeeptd._solvers.ridge import Ridge, cv_kernel_ridge, cv_ridge


class Problem(NamedTuple):
    """Hold what is fitted: y and covariates, (rows, ...) each, weights, the kernel."""

    y: np.ndarray
    weight: np.ndarray
    covariates: np.ndarray
    kernel: str

    def of_rows(self, rows):
        """Return the same for some of the rows."""
        return Problem(
            self.y[rows], self.weight[rows], self.covariates[rows], self.kernel
        )


class LearnedKernel(NamedTuple):
    """Hold a kernel regression; ``landmarks`` is an index of rows, or None for all.

    ``components`` None means the Euclidean metric. ``table`` is U. ``whitening``,
    (landmarks, directions), is K(L, L)^-1/2.
    """

    ridge: Ridge
    gamma: float
    table: np.ndarray
    components: np.ndarray | None = None
    landmarks: np.ndarray | None = None
    whitening: np.ndarray | None = None


class Metric(NamedTuple):
    """Hold a metric, Euclidean if ``components`` is None, and the gamma of its kernel.

    ``inflation``, (outputs,), at least one, is by how much the squared error of rows
    that the metric has not seen exceeds that of rows that it has seen.
    """

    components: np.ndarray | None
    gamma: float
    inflation: np.ndarray | None = None


def kernel_values(squares, kernel, gamma):
    """Return the kernel of rows with these squared distances."""
    values = squares.copy() if kernel == "rbf" else np.sqrt(squares)
    values *= -gamma
    return np.exp(values, out=values)


def squared_distances(a, b):
    """Return the squared distances of the rows of a and b; zero for equal rows.

    Rounding would leave a distance of 1e-8 between these.
    """
    squares_a, squares_b = (np.einsum("ij,ij->i", x, x) for x in (a, b))
    sums = squares_a[:, np.newaxis] + squares_b
    squares = a @ b.T
    squares *= -2
    squares += sums
    sums *= 1e-14
    return np.multiply(squares, squares > sums, out=squares)


def fit_learned_kernel(
    features, problem, gamma, is_learned, validation, landmarks=None, gain=0.02
):
    """Fit a kernel ridge regression, with a learned metric or the Euclidean one.

    Parameters
    ----------
    features : array of shape (rows, entries)
    problem : Problem
        With y of about unit spread.
    gamma : float or None
        None chooses by the cross-validated error.
    is_learned : bool
    validation : Validation
    landmarks : array of int or None
    gain : float
        The metric is kept if it lowers the error by this share of it.

    Returns
    -------
    LearnedKernel
    """
    y = problem.y
    core = np.arange(len(y)) if landmarks is None else landmarks
    known = features[core], problem.of_rows(core), gamma, validation.of_rows(core)
    metric = _learn_metric(*known, gain) if is_learned else _euclidean(*known)[0]
    components, gamma = metric.components, metric.gamma
    table = features if components is None else features @ components.T
    if landmarks is None:
        fit = _fit(table, problem, gamma, validation)
    else:
        fit = _fit_landmarks(table, problem, gamma, validation, landmarks)
    if components is None:
        return fit
    ridge, inflation = fit.ridge, metric.inflation
    ridge = ridge._replace(
        cv_error=ridge.cv_error * inflation,
        scale=ridge.scale * inflation,
        held_out=y - (y - ridge.held_out) * np.sqrt(inflation),
    )
    return fit._replace(ridge=ridge, components=components)


def covariate_factor(
    features, bounded, problem, gamma, validation, ratios=(0.03, 0.3, 3.0)
):
    """Return the factor of the covariates behind the features of a kernel.

    The variance of ``bounded`` covariates, times the factor, is one of ``ratios`` times
    that of all features together: the one of the smallest cross-validated error on at
    most 200 of the rows. On digits with a number and a category the first is best if
    these enter linearly, the second in products with the signal, the third in a sine.
    """
    some = _some_rows(len(features))
    parts, problem = (features[some], bounded[some]), problem.of_rows(some)
    share = problem.weight / np.sum(problem.weight)
    sizes = [np.sum(share @ (part - share @ part) ** 2) for part in parts]
    if not min(sizes) > 0:
        return 1.0
    factors = np.sqrt(np.array(ratios) * sizes[0] / sizes[1])
    errors = []
    for factor in factors:
        table = np.column_stack([parts[0], factor * parts[1]])
        fit, _ = _best_fit(table, problem, gamma, validation.of_rows(some))
        errors.append(np.sum(fit.ridge.cv_error))
    return float(factors[np.argmin(errors)])


def _euclidean(features, problem, gamma, validation):
    """Return the Euclidean metric, and the penalty and error of its fit."""
    fit, alpha = _best_fit(features, problem, gamma, validation)
    return Metric(None, fit.gamma), alpha, np.sum(fit.ridge.cv_error)


@np.errstate(over="ignore")  # a metric may interpolate the rows that it has seen
def _learn_metric(features, problem, gamma, validation, gain):
    """Return the metric of the gradients, or the Euclidean one if that is better.

    The metric must lower the error of rows that it has not seen too.
    """
    basis = None
    if len(features) < features.shape[1]:
        basis = _row_space(features)  # gradients lie in the space of the rows
        features = features @ basis.T
    euclidean, alpha, before = _euclidean(features, problem, gamma, validation)
    squares = squared_distances(features, features)
    first = euclidean.gamma, alpha
    gradients = _gradients(features, squares, problem, first)
    components = _components(gradients)
    if components is None:
        return euclidean
    table = features @ components.T
    fit, alpha = _best_fit(table, problem, gamma, validation)
    enough, errors = (1 - gain) * before, fit.ridge.cv_error
    if not np.sum(errors) <= enough:
        return euclidean

    def learned(rows):
        """Return the distances of all rows from these, by the metric of these."""
        own = features[rows], squares[np.ix_(rows, rows)], problem.of_rows(rows)
        root = _root(_gradients(*own, first), size=np.sum(components**2))
        table = features @ root.T
        return squared_distances(table, table[rows])

    given = squared_distances(table, table)
    folds, second = _folds(features, problem.y, validation), (fit.gamma, alpha)
    seen = _held_out_error(lambda rows: given[:, rows], problem, second, folds)
    unseen = _held_out_error(learned, problem, second, folds)
    is_larger = unseen > seen
    inflation = np.where(is_larger, unseen / np.where(is_larger, seen, 1), 1.0)
    if not np.sum(inflation * errors) <= enough:
        return euclidean
    components = components if basis is None else components @ basis
    return Metric(components, fit.gamma, inflation)


def _folds(features, y, validation, n_folds=5, enough_rows=200):
    """Return the rows of each of the first folds that hold ``enough_rows`` together.

    Single rows are in an order that does not depend on the given one.
    """
    blocks = validation.blocks
    if blocks is None:
        blocks = np.lexsort([*features.T[:1], *y.T])[:, np.newaxis]
    n_folds = min(n_folds, len(blocks))
    folds = [np.concatenate(blocks[i::n_folds]) for i in range(n_folds)]
    return folds[: 1 + np.searchsorted(np.cumsum([*map(len, folds)]), enough_rows)]


def _held_out_error(distances_from, problem, step, folds):
    """Return the sums of squared errors, of each fold by all rows that are not in it.

    ``distances_from(rows)`` are squared distances of all rows from some, ``step`` is a
    gamma and penalties.
    """
    y, weight, covariates, kernel = problem
    gamma, alpha = step
    error = 0.0
    for left in folds:
        others = np.setdiff1d(np.arange(len(y)), left)
        gram = kernel_values(distances_from(others), kernel, gamma)
        dual, slopes = _solve(gram[others], problem.of_rows(others), alpha)
        trend = slopes[0] + covariates[left] @ slopes[1:]
        error = error + weight[left] @ (y[left] - trend - gram[left] @ dual) ** 2
    return error


def _row_space(features):
    """Return an orthonormal basis of the space of the rows: (directions, entries)."""
    values, vectors = np.linalg.eigh(features @ features.T)
    kept = values > len(values) * np.finfo(float).eps * values[-1]
    return (vectors[:, kept] / np.sqrt(values[kept])).T @ features


def _some_rows(n_rows, most=200):
    """Return at most ``most`` rows, evenly spaced, as an index."""
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, most)).astype(int))


def _best_fit(table, problem, gamma, validation):
    """Return the fit to some rows with the best gamma, and its penalty for all rows."""
    some = _some_rows(len(table))
    part, on_part = problem.of_rows(some), validation.of_rows(some)
    gammas = [gamma]
    if gamma is None:
        gammas = _gammas(table[some], part.weight, part.kernel)
    fits = [_fit(table[some], part, g, on_part) for g in gammas]
    best = min(fits, key=lambda fit: np.sum(fit.ridge.cv_error))
    growth = np.sum(problem.weight) / np.sum(part.weight)
    return best, growth * best.ridge.alpha


def _solve(gram, problem, alpha):
    """Return the weights of the kernel with all rows, the intercept and the slopes.

    The intercept is the first row of the slopes.
    """
    y, weight, covariates, _ = problem
    n_outputs = y.shape[1]
    trends = np.column_stack([np.ones(len(y)), covariates])
    dual, slopes = np.empty_like(y), np.empty((trends.shape[1], n_outputs))
    for value in np.unique(alpha):
        outputs = alpha == value
        both = np.column_stack([y[:, outputs], trends])
        system = gram.copy()
        np.einsum("ii->i", system)[:] += value / weight
        solved = np.linalg.solve(system, both)
        products = trends.T @ solved
        of_y, of_trends = np.split(solved, [np.sum(outputs)], axis=1)
        inverse = pseudo_inverse(products[:, of_y.shape[1] :])
        slopes[:, outputs] = inverse @ products[:, : of_y.shape[1]]
        dual[:, outputs] = of_y - of_trends @ slopes[:, outputs]
    return dual, slopes


def _fit(table, problem, gamma, validation):
    y, weight, covariates, kernel = problem
    gram = kernel_values(squared_distances(table, table), kernel, gamma)
    ridge = cv_kernel_ridge(gram, y, weight, validation, covariates)
    return LearnedKernel(ridge, gamma, table)


def _fit_landmarks(table, problem, gamma, validation, landmarks):
    y, weight, covariates, kernel = problem
    some = table[landmarks]
    gram = kernel_values(squared_distances(some, some), kernel, gamma)
    values, vectors = np.linalg.eigh(gram)
    kept = values > 1e-10 * values[-1]
    whitening = vectors[:, kept] / np.sqrt(values[kept])
    whitened = np.concatenate(
        [
            kernel_values(squared_distances(block, some), kernel, gamma) @ whitening
            for block in np.array_split(table, -(-len(table) // 2000))
        ]
    )
    ridge = cv_ridge(whitened, y, weight, validation, covariates)
    return LearnedKernel(ridge, gamma, table, None, landmarks, whitening)


def dual_coef(fit):
    """Return the weights of the kernel with the rows, or with the landmarks."""
    coef = fit.ridge.coef
    return coef if fit.whitening is None else fit.whitening @ coef


def _gammas(table, weight, kernel, factors=(0.5, 1.0, 2.0)):
    """Return the values of gamma to try.

    The bandwidth, 1 / gamma for "laplace" and (2 gamma)^-1/2 for "rbf", is one of
    ``factors`` times the median distance.
    """
    share = weight / np.sum(weight)
    squares = squared_distances(table, table)
    typical = np.sqrt(_median(squares, np.outer(share, share)) or 1.0)
    bandwidths = np.array(factors) * typical
    return 0.5 / bandwidths**2 if kernel == "rbf" else 1 / bandwidths


def _median(squares, weight):
    """Return the weighted median of the squared distances of different rows."""
    upper = np.triu_indices(len(squares), 1)
    squares, weight = squares[upper], weight[upper]
    order = np.argsort(squares, kind="stable")
    sums = np.cumsum(weight[order])
    if not len(order):
        return 0.0
    return squares[order[np.searchsorted(sums, 0.5 * sums[-1])]]


def _gradients(table, squares, problem, step, most_gradients=1000):
    """Return G of a fit, times the root of the weights.

    ``squares`` are the squared distances of the rows, ``step`` is a gamma and
    penalties. Gradients are those at evenly spaced rows, if rows times outputs would be
    more than ``most_gradients``.
    """
    gamma, alpha = step
    slopes = kernel_values(squares, problem.kernel, gamma)
    dual, _ = _solve(slopes, problem, alpha)
    some = _some_rows(len(table), max(1, most_gradients // dual.shape[1]))
    if len(some) < len(table):
        slopes, squares = slopes[some], squares[some]
    at, root_weight = table[some], np.sqrt(problem.weight[some])[:, np.newaxis]
    if problem.kernel == "laplace":  # at its own row G is that of the others
        distances = np.sqrt(squares)
        is_apart = distances > 1e-6 * distances.max(initial=0)
        distances[~is_apart] = np.inf
        slopes /= distances
    parts = []
    for column in dual.T:
        weights = slopes * column
        gradient = weights @ table - weights.sum(axis=1, keepdims=True) * at
        parts.append(root_weight * gradient)
    return gamma * np.concatenate(parts)


def _components(gradients, least=1e-10):
    """Return A of the average outer product of gradients, or None if they are zero.

    The largest eigenvalue of A'A is one. Its eigenvalues below ``least`` are left out.
    """
    n_gradients, n_entries = gradients.shape
    if n_entries <= n_gradients:
        values, vectors = np.linalg.eigh(gradients.T @ gradients)
        directions = vectors.T
    else:
        values, vectors = np.linalg.eigh(gradients @ gradients.T)
        scale = np.sqrt(np.maximum(values, np.finfo(float).tiny))[:, np.newaxis]
        directions = (vectors.T @ gradients) / scale
    if not values.max(initial=0) > 0:
        return None
    kept = values > least * values[-1]
    return directions[kept] * np.sqrt(values[kept] / values[-1])[:, np.newaxis]


def _root(gradients, size):
    """Return A of the average outer product of gradients; its squares sum to ``size``.

    Its rows have no order, and take a tenth of the time of eigenvectors.
    """
    n_gradients, n_entries = gradients.shape
    if 2 * n_entries < n_gradients:
        gradients = np.linalg.qr(gradients, mode="r")
    total = np.sum(gradients**2)
    return gradients * np.sqrt(size / (total if total > 0 else 1.0))
