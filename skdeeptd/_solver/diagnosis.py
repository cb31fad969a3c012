"""Whether there is anything in the data, and more than a linear model sees.

==========  ======================  =============================================
symbol      array                   axes
==========  ======================  =============================================
e_0         ``errors[0]``           (rows,): y minus the mean of the other rows
e_1         ``errors[1]``           (rows,): y minus a linear model of the others
e_2         ``errors[2]``           (rows,): y minus a network of the others
==========  ======================  =============================================

Each third of the rows is predicted from the other two, by the network that two starts
give (one, where weights are many) and by partial least squares, whose number of
components is the one that predicts best. That needs nothing of X but that its rows are
draws of one kind.
"""

from typing import NamedTuple

import numpy as np

from skdeeptd._data.moments import cross_moment
from skdeeptd._data.rows import RowBlocks
from skdeeptd._model.network import forward
from skdeeptd._model.parameters import free_weights, n_parameters
from skdeeptd._model.trunk import networks_of_trunk, with_linear_end
from skdeeptd._solver.linear import linear_network
from skdeeptd._solver.search import EXACT, search, silent
from skdeeptd._solver.together import ground_of

N_FOLDS = 3
N_STARTS, N_PASSES, TOLERANCE = 2, 12, 1e-2
LARGE = 300  # weights, of which a pass takes long: one start, half as many passes
N_COMPONENTS, IN_VAIN = 20, 5  # of the linear model, at most, and that do not help
ROWS_PER_WEIGHT, FEWEST_ROWS = 20, 600
MOST_BYTES = 2**24
FEWEST = 9  # rows that are worth a verdict
STANDARD_ERRORS = 2.0  # of a mean difference that is a clear one
VERDICTS = ("nothing", "linear", "network")


class HeldOut(NamedTuple):
    """R2 on rows held out, and what follows from it, per output."""

    network: np.ndarray
    linear: np.ndarray
    verdict: list


def held_out(problem, specs, solutions, units=None):
    """Compare network and linear model, per output, on rows that they have not seen.

    A network that fits all rows exactly is not fitted again to some of them, where it
    has at most half as many free weights as there are samples: its R2 is 1. Outputs
    that share hidden layers are fitted together, in their ``units``.
    """
    spec = specs[0]
    n_free = len(spec.blank.scales) * free_weights(spec.blank)
    enough = min(problem.n_samples, problem.n_rows) >= 2 * n_free
    exact = [enough and solution.share <= EXACT for solution in solutions]
    most = max(FEWEST_ROWS, ROWS_PER_WEIGHT * n_parameters(spec.blank))
    row_bytes = 8 * problem.n_features
    rows = problem.few_rows(max(FEWEST_ROWS, min(most, MOST_BYTES // row_bytes)))
    large = n_parameters(spec.blank) > LARGE
    short = [
        spec._replace(
            n_init=1 if large else min(N_STARTS, spec.n_init),
            max_iter=min(N_PASSES // 2 if large else N_PASSES, spec.max_iter),
            tol=TOLERANCE,
            report=silent,
        )
        for spec in specs
    ]
    total = problem.total

    def compare(rows):
        rows = rows.of_weight()
        rows = RowBlocks(rows.X.astype(float, copy=False), rows.y, rows.weight)
        together = None
        if spec.n_sharing and not all(exact):
            together = _predicted_together(rows, short[0], total, units)
        return [
            _scores(
                _errors(rows, output, short[output], total, exact[output], together),
                rows.weight,
            )
            for output in range(rows.y.shape[1])
        ]

    network, linear, verdict = zip(*rows.run_together(compare), strict=True)
    return HeldOut(np.array(network), np.array(linear), list(verdict))


@np.errstate(over="ignore", invalid="ignore")
def _errors(rows, output, spec, total, exact, together=None):
    """The rows e_0, e_1 and e_2; NaN where there are too few."""
    X, y, weight = rows.X, rows.y[:, output], rows.weight
    if len(y) < FEWEST:
        return np.full((3, len(y)), np.nan)
    fold = _folds(len(y), spec)
    shares = np.where(fold == np.arange(N_FOLDS)[:, np.newaxis], 0.0, weight)
    shares /= shares.sum(axis=1, keepdims=True)
    means = shares @ y
    constant = y - means[fold]
    network = np.zeros(len(y))
    if together is not None and not exact:
        network = y - together[:, output]
    elif not exact:
        for held, mean in enumerate(means):
            train, test = fold != held, fold == held
            part = RowBlocks(X[train], y[train, np.newaxis] - mean, weight[train])
            of_part = spec.with_alpha_times(np.sum(part.weight) / total)
            back = 0.0 if spec.objective.fit_intercept else mean
            found = _network(part, back, of_part, X[test])
            network[test] = constant[test] + back - found
    return np.stack([constant, _linear_errors(X, y, shares, fold), network])


def _folds(n_rows, spec):
    fold = np.arange(n_rows) % N_FOLDS
    np.random.RandomState(spec.seed).shuffle(fold)
    return fold


@np.errstate(over="ignore", invalid="ignore")
def _predicted_together(rows, spec, total, units):
    """Each fold from the others, (rows, outputs), by networks that share."""
    predicted = np.zeros(rows.y.shape)
    if len(predicted) < FEWEST:
        return predicted
    fold = _folds(len(predicted), spec)
    for held in range(N_FOLDS):
        train, test = fold != held, fold == held
        part = RowBlocks(rows.X[train], rows.y[train] / units, rows.weight[train])
        mean = np.average(part.y, axis=0, weights=part.weight)
        predicted[test] = mean
        of_part = spec.with_alpha_times(np.sum(part.weight) / total)
        of_part = of_part._replace(blank=with_linear_end(spec.blank))
        try:
            moment = cross_moment(part.with_targets(lambda y, w, m=mean: (y - m, w)))
            if not np.any(moment):
                continue
            found = search(ground_of(of_part, part, len(part.y)), moment).equations
        except FloatingPointError:
            continue
        if found is None:
            continue
        readout = found.readout
        networks = networks_of_trunk(
            readout.trunk, readout.last_kernels, readout.intercept, of_part.blank
        )
        outputs = np.column_stack([forward(n, rows.X[test]) for n in networks])
        predicted[test] = np.where(np.isfinite(outputs), outputs, mean)
    return predicted * units


def _network(rows, back, spec, X):
    """Predictions of a network of y + ``back``, zero where there is none."""
    one_output = rows.with_targets(lambda y, w: (y[:, 0] + back, w))
    try:
        moment = cross_moment(rows)[0]
        if not np.any(moment):
            return np.zeros(len(X))
        if spec.blank.is_linear and spec.polish:
            n_rows = len(one_output.y)
            found = linear_network(one_output, n_rows, spec.blank, spec.objective)
        else:
            found = search(ground_of(spec, one_output, len(one_output.y)), moment)
    except FloatingPointError:
        return np.zeros(len(X))
    predicted = forward(found.network, X)
    return np.where(np.isfinite(predicted), predicted, 0.0)


def _linear_errors(X, y, shares, fold):
    """e_1 by partial least squares, of all folds at a time.

    Components are added until some in vain; as many count as predict best. ``shares``
    are the weights of the rows that a fold learns from, of sum one.
    """
    X = X - np.mean(shares, axis=0) @ X
    means, mean = shares @ X, shares @ y
    along = shares.T * (y[:, np.newaxis] - mean)
    rest = direction = along.T @ X
    square = np.sum(rest**2, axis=1)
    constant, predicted = y - mean[fold], np.zeros(len(y))
    best, least, best_n = None, np.inf, 0
    for n in range(1, N_COMPONENTS + 1):
        along = X @ direction.T - np.sum(means * direction, axis=1)
        product = (shares.T * along).T @ X
        curvature = np.sum(direction * product, axis=1)
        goes_on = (curvature > 0) & (curvature < np.inf) & (square > 0)
        step = np.divide(square, curvature, out=np.zeros(N_FOLDS), where=goes_on)
        predicted += (step * along)[np.arange(len(y)), fold]
        errors = constant - np.where(np.isfinite(predicted), predicted, 0.0)
        loss = errors**2 @ np.sum(shares, axis=0)
        if n == 1 or loss < least:
            best, least, best_n = errors, loss, n
        if n - best_n == IN_VAIN:
            break
        rest = rest - step[:, np.newaxis] * product
        previous, square = square, np.sum(rest**2, axis=1)
        turn = np.divide(square, previous, out=np.zeros(N_FOLDS), where=goes_on)
        direction = rest + turn[:, np.newaxis] * direction
    return best


@np.errstate(over="ignore", invalid="ignore")
def _scores(errors, weight):
    """R2 of the network and of the linear model, and the verdict."""
    constant, linear, network = squares = errors**2
    if not np.all(np.isfinite(squares)):
        return np.nan, np.nan, VERDICTS[0]
    total, of_linear, of_network = squares @ weight
    verdict = VERDICTS[0]
    if total > 0 and max(_lead(constant, e, weight) for e in (linear, network)) > 0:
        verdict = VERDICTS[1 + (_lead(linear, network, weight) > 0)]
    unit = total or 1.0
    return 1 - of_network / unit, 1 - of_linear / unit, verdict


def _lead(squares, others, weight):
    """How far the others' squared errors are below, beyond what is not clear."""
    weight = weight / np.sum(weight)
    gain = squares - others
    mean = weight @ gain
    error = np.sqrt(weight**2 @ (gain - mean) ** 2)
    return mean - STANDARD_ERRORS * error
