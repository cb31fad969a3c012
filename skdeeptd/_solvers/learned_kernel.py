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
G           ``gradients``       (rows times outputs, directions): df / du at the rows
==========  ==================  ==================================================

The metric is the average outer product of the gradients of a fit, M = mean G'G. The
regression is fitted again with this metric (Radhakrishnan et al., Science 383, 2024):
features that do not matter then do not contribute to the distances. A round is kept
only if the cross-validated error falls clearly. The metric was learned from the
held-out rows, too, so the error of rows that it has not seen is compared as well. A
network's first moment estimates E grad f; the metric estimates the second moment of
grad f.

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

    ``components`` None means the Euclidean metric. ``whitening``, (landmarks,
    directions), is K(L, L)^-1/2.
    """

    ridge: Ridge
    gamma: float
    components: np.ndarray | None
    landmarks: np.ndarray | None
    whitening: np.ndarray | None


class Metric(NamedTuple):
    """Hold a metric, Euclidean if ``components`` is None, and the gamma of its kernel.

    ``unseen``, (rows, outputs), are predictions of rows that the metric has not seen.
    ``inflation``, (outputs,), at least one, is by how much their squared error exceeds
    that of rows that it has seen.
    """

    components: np.ndarray | None
    gamma: float
    unseen: np.ndarray | None = None
    inflation: np.ndarray | None = None


class Round(NamedTuple):
    """Hold the fit after some rounds, its error, and gamma and penalties of each."""

    components: np.ndarray | None
    fit: LearnedKernel
    error: float
    steps: list


def kernel_values(squares, kernel, gamma):
    """Return the kernel of rows with these squared distances."""
    return np.exp(-gamma * (squares if kernel == "rbf" else np.sqrt(squares)))


def squared_distances(a, b):
    """Return the squared distances of the rows of a and b; zero for equal rows.

    Rounding would leave a distance of 1e-8 between these.
    """
    squares_a, squares_b = (np.einsum("ij,ij->i", x, x) for x in (a, b))
    sums = squares_a[:, np.newaxis] + squares_b
    squares = sums - 2 * a @ b.T
    return np.where(squares > 1e-14 * sums, squares, 0)


def fit_learned_kernel(
    features, problem, gamma, n_rounds, validation, landmarks=None, gain=0.02
):
    """Fit a kernel ridge regression, with a metric learned in at most ``n_rounds``.

    Parameters
    ----------
    features : array of shape (rows, entries)
    problem : Problem
        With y of about unit spread.
    gamma : float or None
        None chooses by the cross-validated error.
    n_rounds : int
    validation : Validation
    landmarks : array of int or None
    gain : float
        A round, and at the end the metric, is kept if it lowers the error by this share
        of it.

    Returns
    -------
    LearnedKernel
    """
    y, weight = problem.y, problem.weight
    core = np.arange(len(y)) if landmarks is None else landmarks
    known = features[core], problem.of_rows(core)
    metric = _learn_metric(*known, gamma, n_rounds, validation.of_rows(core), gain)
    components, gamma = metric.components, metric.gamma
    table = features if components is None else features @ components.T
    if landmarks is None:
        fit = _fit(table, problem, gamma, validation)
    else:
        fit = _fit_landmarks(table, problem, gamma, validation, landmarks)
    if components is None:
        return fit
    ridge, inflation = fit.ridge, metric.inflation
    held_out = y - (y - ridge.held_out) * np.sqrt(inflation)
    if landmarks is None:
        held_out = metric.unseen
        error = weight @ (y - held_out) ** 2 / np.sum(weight)
        inflation = error / np.where(ridge.cv_error > 0, ridge.cv_error, np.inf)
    ridge = ridge._replace(
        cv_error=ridge.cv_error * inflation,
        scale=ridge.scale * inflation,
        held_out=held_out,
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
        _, fit = _best_fit(table, problem, gamma, validation.of_rows(some))
        errors.append(np.sum(fit.ridge.cv_error))
    return float(factors[np.argmin(errors)])


@np.errstate(over="ignore")  # a metric may interpolate the rows that it has seen
def _learn_metric(features, problem, gamma, n_rounds, validation, gain):
    """Return the ``Metric`` of the last round, or the Euclidean one if that is better.

    The metric must lower the error of rows that it has not seen too.
    """
    basis = None
    if n_rounds and len(features) < features.shape[1]:
        basis = _row_space(features)  # gradients lie in the space of the rows
        features = features @ basis.T
    rounds = list(_rounds(features, problem, gamma, n_rounds, validation, gain))
    euclidean, (components, fit, _, steps) = rounds[0], rounds[-1]
    if components is None:
        return Metric(None, fit.gamma)
    seen, unseen = (
        _held_out(features, problem, steps, validation, metric)
        for metric in (components, None)
    )
    errors, seen_errors = (
        problem.weight @ (problem.y - predicted) ** 2 for predicted in (unseen, seen)
    )
    is_larger = errors > seen_errors
    inflation = np.where(is_larger, errors / np.where(is_larger, seen_errors, 1), 1.0)
    if not np.sum(inflation * fit.ridge.cv_error) <= (1 - gain) * euclidean.error:
        return Metric(None, euclidean.fit.gamma)
    components = components if basis is None else components @ basis
    return Metric(components, fit.gamma, unseen, inflation)


def _rounds(features, problem, gamma, n_rounds, validation, gain):
    """Yield the Euclidean ``Round``, and the others as long as each lowers the error.

    Errors are compared on at most 200 of the rows, gradients are those of all.
    """
    weight, kernel = problem.weight, problem.kernel
    components, table, steps, before = None, features, [], np.inf
    for n_done in range(n_rounds + 1):
        some, fit = _best_fit(table, problem, gamma, validation)
        error = np.sum(fit.ridge.cv_error)
        if n_done and not error <= (1 - gain) * before:
            return
        alpha = fit.ridge.alpha * np.sum(weight) / np.sum(weight[some])
        steps, before = [*steps, (fit.gamma, alpha)], error
        yield Round(components, fit, error, steps)
        if n_done == n_rounds:
            return
        dual = fit.ridge.coef
        if len(some) < len(weight):
            dual, _ = _solve(table, problem, fit.gamma, alpha)
        root = _metric_root(table, weight, dual, kernel, fit.gamma)
        if root is None:
            return
        components = root if components is None else root @ components
        table = features @ components.T


def _held_out(features, problem, steps, validation, metric=None, n_folds=5):
    """Return predictions of the rows of each of some folds by the other rows.

    The last of the steps, a gamma and penalties each, is that of the predictions; the
    steps before learn a metric from the other rows, unless it is given.
    """
    y, weight, covariates, kernel = problem
    folds = validation.blocks
    if folds is None:  # single rows, in an order that does not depend on the given one
        folds = np.lexsort([*features.T[:1], *y.T])[:, np.newaxis]
    folds = [np.concatenate(folds[i::n_folds]) for i in range(min(n_folds, len(folds)))]
    *earlier, (gamma, alpha) = steps
    predicted = np.empty_like(y)
    for left in folds:
        others = np.setdiff1d(np.arange(len(y)), left)
        own, known = metric, problem.of_rows(others)
        for of_step in earlier if metric is None else ():
            table = features[others] if own is None else features[others] @ own.T
            dual, _ = _solve(table, known, *of_step)
            root = _metric_root(table, weight[others], dual, kernel, of_step[0])
            if root is not None:
                own = root if own is None else root @ own
        table = features if own is None else features @ own.T
        dual, slopes = _solve(table[others], known, gamma, alpha)
        squares = squared_distances(table[left], table[others])
        center, mean = (
            np.average(a[others], axis=0, weights=weight[others])
            for a in (covariates, y)
        )
        trend = mean + (covariates[left] - center) @ slopes
        predicted[left] = trend + kernel_values(squares, kernel, gamma) @ dual
    return predicted


def _row_space(features):
    """Return an orthonormal basis of the space of the rows: (directions, entries)."""
    values, vectors = np.linalg.eigh(features @ features.T)
    kept = values > len(values) * np.finfo(float).eps * values[-1]
    return (vectors[:, kept] / np.sqrt(values[kept])).T @ features


def _some_rows(n_rows, most=200):
    """Return at most ``most`` rows, evenly spaced, as an index."""
    return np.unique(np.linspace(0, n_rows - 1, min(n_rows, most)).astype(int))


def _best_fit(table, problem, gamma, validation):
    """Return some rows, and the fit to them with the best gamma."""
    some = _some_rows(len(table))
    part, on_part = problem.of_rows(some), validation.of_rows(some)
    gammas = [gamma]
    if gamma is None:
        gammas = _gammas(table[some], part.weight, part.kernel)
    fits = [_fit(table[some], part, g, on_part) for g in gammas]
    return some, min(fits, key=lambda fit: np.sum(fit.ridge.cv_error))


def _solve(table, problem, gamma, alpha):
    """Return the weights of the kernel with all rows, and slopes of the covariates."""
    y, weight, covariates, kernel = problem
    gram = kernel_values(squared_distances(table, table), kernel, gamma)
    n_outputs = y.shape[1]
    both = np.column_stack([y, covariates])
    both = both - weight @ both / np.sum(weight)
    dual, slopes = np.empty_like(y), np.empty((covariates.shape[1], n_outputs))
    for value in np.unique(alpha):
        outputs = alpha == value
        solved = np.linalg.solve(gram + np.diag(value / weight), both)
        of_y, of_covariates = solved[:, :n_outputs][:, outputs], solved[:, n_outputs:]
        products = both[:, n_outputs:].T @ solved
        inverse = pseudo_inverse(products[:, n_outputs:])
        slopes[:, outputs] = inverse @ products[:, :n_outputs][:, outputs]
        dual[:, outputs] = of_y - of_covariates @ slopes[:, outputs]
    return dual, slopes


def _fit(table, problem, gamma, validation):
    y, weight, covariates, kernel = problem
    gram = kernel_values(squared_distances(table, table), kernel, gamma)
    ridge = cv_kernel_ridge(gram, y, weight, validation, covariates)
    return LearnedKernel(ridge, gamma, None, None, None)


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
    return LearnedKernel(ridge, gamma, None, landmarks, whitening)


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


def _metric_root(table, weight, dual, kernel, gamma, most_gradients=1000, least=1e-10):
    """Return the root of the average outer product of gradients, or None if it is zero.

    Its largest eigenvalue is one. Gradients are those at evenly spaced rows, if rows
    times outputs would be more than ``most_gradients``.
    """
    most_rows = max(1, most_gradients // dual.shape[1])
    some = np.arange(len(table))
    if len(table) > most_rows:
        some = np.unique(np.linspace(0, len(table) - 1, most_rows).astype(int))
    at, root_weight = table[some], np.sqrt(weight[some])[:, np.newaxis]
    squares = squared_distances(at, table)
    slopes = gamma * kernel_values(squares, kernel, gamma)
    if kernel == "laplace":  # at its own row the gradient is that of the other rows
        distances = np.sqrt(squares)
        is_apart = distances > 1e-6 * distances.max(initial=0)
        slopes = np.where(is_apart, slopes / np.where(is_apart, distances, 1), 0)
    parts = []
    for column in dual.T:
        weights = slopes * column
        gradient = weights @ table - weights.sum(axis=1, keepdims=True) * at
        parts.append(root_weight * gradient)
    gradients = np.concatenate(parts)
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
