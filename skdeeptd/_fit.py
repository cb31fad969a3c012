"""The fit of some rows: search among few, iterations on growing samples, then on all.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
n           ``n_rows``          rows of the problem
m           ``n_weights``       weights of an output
n_1 < n_2   ``sizes``           rows of the samples
Y           ``rows.y``          (rows, Q): of classes 1 if a row is of the class
v                               mean over Q of the variance of a column of Y
==========  ==================  ==================================================

A network is distinguished from noise by a number of rows per weight, however many rows
there are. So the search sees a sample; the network it finds is improved on larger ones,
and on all rows only at the end, when few steps are left. The search continues in the
next sample if a network explains too little there, or if the next rows are unlike those
of the sample.

The search minimises squared errors. By Stein's identity X has the same
cross-moment with y as with the outputs of the network up to a factor, whatever the
link. So for another loss the search fits squared errors of a target that is close to
linear in the outputs, and the Gauss-Newton steps of the loss begin with its network:

- Huber: y clipped at two scales from its median.
- binomial and multinomial: the columns of Y, whose outputs are v times the logits.
- Poisson: log(y / mean + 1/2), whose outputs are the logarithms of the means.
"""

import functools
import math
from contextlib import contextmanager
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from skdeeptd._data.moments import centred_sums
from skdeeptd._data.rows import concatenate_blocks, mean_of_targets
from skdeeptd._data.standardize import Standardized, standardize
from skdeeptd._init.multi_start import (
    EXACT,
    automatic_starts,
    constant_network,
    make_evaluator,
    penalty_of_start,
    refine,
    search,
)
from skdeeptd._loss import Huber, Poisson, SquaredError
from skdeeptd._network.network import (
    forward,
    head_features,
    hidden_forward,
    overlapping_patches,
    sum_by_feature,
)
from skdeeptd._network.parameters import normalize, penalty
from skdeeptd._solvers.gauss_newton import Solution, gauss_newton
from skdeeptd._solvers.linear import linear_network, ridge_solver
from skdeeptd._solvers.robust_scale import (
    dominated_by_outliers,
    huber_scale,
    median_scale,
    weighted_median,
    winsorised,
)

ROUNDING = 1e-10  # relative gain on a constant that may be rounding error
GROWTH = 4  # from a sample to the next, and to all rows at least


class Fit(NamedTuple):
    """The networks of some rows, in the units of ``problem``.

    ``parts`` holds outputs that share hidden layers, their spec with the final alpha,
    and their ``Solution``. ``moment`` is (outputs, features), in the units of y.
    ``scales`` are those of the residuals with Huber's loss.
    """

    problem: Standardized
    parts: list
    moment: np.ndarray
    scales: np.ndarray | None = None

    @property
    def networks(self):
        """Return the network of each output, in the units of y."""
        networks = []
        for outputs, _, solution in self.parts:
            network = self.problem.in_units_of_y(solution.network, outputs)
            networks += [network.head(i) for i in range(len(outputs))]
        return networks

    @property
    def alphas(self):
        """Return the penalty of each output, for rows with the weights given."""
        alphas = [spec.alpha * spec.n_copies for o, spec, _ in self.parts for _ in o]
        return self.problem.alpha_given(np.array(alphas))

    @property
    def unconverged_outputs(self):
        """Outputs for which ``max_iter`` passes were too few."""
        return [o for outputs, _, s in self.parts if not s.converged for o in outputs]

    @property
    def separates_classes(self):
        """Return whether the likelihood separates the classes."""
        return all(
            solution.loss <= spec.loss.negligible * self.problem.total
            for _, spec, solution in self.parts
        )

    def outputs_with_dominant_outliers(self):
        """Return the outputs whose fit few rows dominate, on some of the rows."""
        inexact = [
            (outputs, solution.network)
            for outputs, spec, solution in self.parts
            if solution.share > EXACT and spec.loss.is_quadratic
        ]
        if not inexact:
            return []

        def look(rows):
            rows, found = rows.drop_zero_weight(), []
            for outputs, network in inexact:
                residual = rows.y[:, outputs] - raw_outputs(network, rows)
                for output, r in zip(outputs, residual.T, strict=True):
                    if dominated_by_outliers(rows.y[:, output], r, rows.weight):
                        found.append(output)
            return found

        return self.problem.few_rows().run_together(look)


@contextmanager
def null_stage(name, n_parts=None):
    """Report a stage of a fit to nobody; give the stage of its parts."""
    yield null_stage


def fit_rows(
    rows, spec, *, moment=None, first=None, is_settled=False, stage=null_stage
):
    """Carry out steps 2 to 5 of ``DeepTDRegressor.fit``.

    Parameters
    ----------
    rows : RowBlocks
        With targets (rows, outputs).
    spec : Spec
        With alpha in the units of the rows given; ``n_init`` may be "auto".
    moment : array of shape (outputs, features) or None
        In the units of y; None takes it from the rows, as a fit with Huber's loss does.
    first : list of Network or None
        A network per output to begin with, or None for some, in the units of y.
    is_settled : bool
        Whether there is no search for networks other than the first ones.
    stage : callable
        Gives a context for each stage of the work, and takes its name.

    Returns
    -------
    Fit
    """
    is_huber = spec.epsilon is not None
    is_squared = spec.loss.is_quadratic and not is_huber
    target, squared = rows, spec
    if not is_squared:
        target, squared = _squared_problem(rows, spec)
        moment = None if is_huber else moment
    n_outputs, dtype = rows.first_row()[1].shape[1], rows.precision
    shares = spec.n_sharing > 1 and bool(spec.blank.kernels)
    with stage("moment"):
        problem = standardize(target, spec.fit_intercept, equal_losses=shares)
        signal, slopes = _regress_on_covariates(problem, spec)
        if moment is None:
            moment = signal.moment()
        else:
            moment = problem.without_rounding(moment / problem.unit[:, np.newaxis])
        problem.check_weights(dtype)
    spec.report(f"moment: {problem.n_rows} rows of {moment.shape[1]} features")
    squared = _with_units(problem, squared)
    groups = [[o] for o in range(n_outputs)]
    if shares or spec.loss.couples_outputs:
        groups = [list(range(n_outputs))]
    first = [None] * n_outputs if first is None else first
    is_likelihood = not (is_squared or is_huber)
    is_warm = is_likelihood and is_settled and all(n is not None for n in first)
    parts = []
    with stage("kernels", len(groups)) as part:
        for outputs in groups:
            with part(f"output {outputs[0]}" if len(groups) > 1 else "all outputs"):
                known = [first[o] for o in outputs]
                if is_warm:
                    found = Solution(_joined_heads(known), 0.0)
                    parts.append((outputs, squared, found))
                    continue
                if any(network is None for network in known):
                    known = None
                else:
                    known = problem.in_units_of_target(_joined_heads(known), outputs)
                    known = _without_slopes(known)
                own = squared._replace(blank=_without_slopes(squared.blank))
                own, found = _fit_outputs(
                    *(signal, outputs, moment[outputs], own),
                    *(known, is_settled, dtype, is_squared),
                )
                own = own._replace(blank=squared.blank)
                if slopes is not None:
                    found = _with_covariates(problem, slopes, outputs, own, found)
                parts.append((outputs, own, found))
    fit = Fit(problem, parts, moment * problem.unit[:, np.newaxis])
    if is_huber:
        return _with_huber_loss(fit, rows, spec)
    return fit if is_squared else _with_likelihood(fit, rows, spec, stage, is_warm)


def _without_slopes(network):
    return network._replace(slopes=np.zeros((1, 0)))


def _regress_on_covariates(problem, spec):
    """Return the problem of the signal, and regressions on the covariates.

    The problem has y less its regression. If the network is linear, then a regression
    is taken off the signal too (Frisch-Waugh-Lovell). The regressions are those of y,
    (outputs, covariates), the mean of the covariates, and the regression of the signal
    or None. Without covariates they are None, and the problem is the one given.
    """
    rows, n = problem.rows, spec.blank.n_covariates
    if n == 0:
        return problem, None
    slopes, C, mean, solve = _slopes(rows, n, spec.fit_intercept)
    X, of_signal = rows.X[:, :-n], None
    if not spec.blank.kernels:
        root = np.sqrt(rows.weight)[:, np.newaxis]
        of_signal = solve((root * C).T @ (root * X))
        X = X - (C @ of_signal).astype(X.dtype)
    signal = replace(rows, X=X, y=rows.y - C @ slopes.T)
    return problem._replace(rows=signal), (slopes, mean, of_signal)


def _slopes(rows, n_covariates, fit_intercept):
    """Return the regression of y on the covariates.

    Besides the slopes, these are the covariates less their mean, the mean, and the
    inverse of their Gram matrix as a function.
    """
    C = rows.X[:, -n_covariates:]
    sums = centred_sums(rows, lambda X: X[:, -n_covariates:].copy(), fit_intercept)
    solve = ridge_solver(sums.gram, 0.0)
    return solve(sums.cross).T, C - sums.mean, sums.mean, solve


def _with_covariates(problem, regressions, outputs, spec, found):
    """Return a solution for the signal as one with slopes, of all columns."""
    slopes, mean, of_signal = regressions
    slopes, network = slopes[outputs], found.network
    if of_signal is not None:
        order, n_features = network.orders[-1], of_signal.shape[1]
        by_feature = [sum_by_feature(order, h, n_features) for h in network.heads[:, 0]]
        slopes = slopes - np.array(by_feature) @ of_signal.T
    intercept = network.intercept - slopes @ mean
    network = network._replace(slopes=slopes, intercept=intercept)
    found = found._replace(network=network, equations=None)
    if not (spec.polish and network.kernels and np.any(network.heads)):
        return found
    step = functools.partial(refine, network=network)
    joint = _on_rows(step, spec, problem.of_outputs(outputs), problem.n_samples)
    return joint._replace(n_iter=found.n_iter + joint.n_iter)


def _squared_problem(rows, spec, search_tol=1e-3):
    """Return the rows and the spec of the squared errors to begin with."""
    squared = spec._replace(loss=SquaredError(), epsilon=None)
    if spec.epsilon is not None:
        return _clipped_targets(rows, spec), squared
    squared = squared._replace(tol=max(spec.tol, search_tol))
    mean, _ = mean_of_targets(rows)
    if isinstance(spec.loss, Poisson):
        mean = np.where(mean > 0, mean, 1.0)
        target = rows.with_targets(lambda y, w: (np.log(y / mean + 0.5), w))
        return target, squared._replace(alpha=spec.alpha * (1 / np.mean(mean)))
    n_classes = max(2, len(mean))
    centre = 0.0 if spec.fit_intercept else 1 / n_classes
    target = rows.with_targets(lambda y, w: (y - centre, w))
    mean = np.clip(mean, 1e-6, 1 - 1e-6)  # a class may have no rows, or all
    alpha = spec.alpha * (1 / np.mean(mean * (1 - mean)))
    return target, squared._replace(alpha=alpha)


def _clipped_targets(rows, spec, n_rounds=10):
    """Return rows whose y is cut off two scales from its regression on the covariates.

    The regression and the cut are repeated: Huber's method of modified residuals.
    """
    cut = rows.with_targets(lambda y, w: (winsorised(y, w), w))
    n = spec.blank.n_covariates
    for _ in range(n_rounds * (n > 0)):
        slopes, C = _slopes(cut, n, spec.fit_intercept)[:2]
        fitted = C @ slopes.T
        y = fitted + winsorised(rows.y - fitted, rows.weight)
        cut = replace(rows, y=y)
    return cut


def _with_units(problem, spec):
    """Return the spec with the alpha of the problem, and a number of starts."""
    n_init, blank = spec.n_init, spec.blank
    if n_init == "auto":
        free = blank.n_free_weights
        own = blank.sizes[-1]
        free = own + (free - own) / max(spec.n_sharing, 1)
        overlap = bool(overlapping_patches(blank))
        n_init = automatic_starts(problem.n_samples, free, blank.n_filters, overlap)
    return spec._replace(alpha=problem.alpha(spec.alpha), n_init=n_init)


def _joined_heads(networks):
    """Return one network with the heads of all."""
    return networks[0]._replace(
        heads=np.concatenate([n.heads for n in networks]),
        intercept=np.concatenate([n.intercept for n in networks]),
        slopes=np.concatenate([n.slopes for n in networks]),
    )


def _fit_outputs(problem, outputs, moment, spec, first, is_settled, dtype, is_stored):
    """Return the spec and the ``Solution`` of outputs that share hidden layers.

    ``dtype`` is that in which the network is stored, if it ``is_stored``.
    """
    rows = problem.of_outputs(outputs)
    constant = constant_network(rows, spec)
    if not np.any(moment) or constant.loss == 0:
        return spec, constant
    if spec.leave_one_out:
        spec = _with_loo_alpha(problem, rows, moment, spec, first)
    if not spec.blank.kernels:
        if spec.polish:
            how = problem.n_rows, spec.blank, spec.alpha, spec.fit_intercept
            found = linear_network(rows, *how)
            found = found._replace(share=found.loss / constant.loss)
            is_better = _is_better(problem, outputs, dtype, found, constant, rows)
            return spec, found if is_better else constant
        if len(outputs) > 1:
            how = spec, None, False, dtype, is_stored
            each = [
                _fit_outputs(problem, [o], m[np.newaxis], *how)[1].network
                for o, m in zip(outputs, moment, strict=True)
            ]
            return spec, constant._replace(network=_joined_heads(each))
    step = functools.partial(search, moment=moment, first=first)
    if is_settled and first is not None:
        step = functools.partial(refine, network=first)
    sizes = sample_sizes(problem.n_rows, round(spec.n_weights), moment[0].nbytes)
    if sizes:
        found = _through_samples(rows, problem, spec, step, moment, sizes)
    else:
        found = _on_rows(step, spec, rows.with_dtype(float), problem.n_samples)
    needs_check = is_stored and not (sizes and rows.precision == dtype)
    if found.share >= 1 - ROUNDING or (
        needs_check and not _is_better(problem, outputs, dtype, found, constant, rows)
    ):
        return spec, constant
    return spec, found


def _with_loo_alpha(
    problem, rows, moment, spec, first, *, fewest_rows=1000, rows_per_weight=4
):
    """Return the spec with the penalty that leave-one-out chooses on some rows."""
    size = problem.total
    most = max(fewest_rows, rows_per_weight * spec.blank.n_weights)
    if problem.n_rows > most:
        rows, size = rows.sample(most, np.random.RandomState(spec.seed)), most

    def choose(rows):
        evaluator = make_evaluator(spec, rows.with_dtype(float), problem.n_samples)
        return penalty_of_start(evaluator, moment, first)

    alpha = rows.run_together(choose) * problem.total / size
    spec.report(f"alpha {problem.alpha_given(alpha):.3g} by leave-one-out")
    return spec._replace(alpha=alpha)


def _is_better(problem, outputs, dtype, found, constant, rows):
    """Return whether a network, as it will be stored, is better than a constant."""
    with np.errstate(over="ignore"):
        network = normalize(problem.in_units_of_y(found.network, outputs)).astype(dtype)
    unit, shift = problem.unit[outputs], problem.shift[outputs]
    eps = np.finfo(dtype).eps

    def statistic(X, y, weight):
        outputs, size = _outputs_and_sizes(network, X)
        predicted, size = (outputs - shift) / unit, size / unit
        residual = np.sum((y - predicted) ** 2, axis=1)
        return weight @ residual, weight @ np.sum((eps * size) ** 2, axis=1)

    def compare(rows):
        loss, rounding = rows.with_dtype(dtype).reduce(statistic)
        floor = constant.loss + problem.total * np.sum((eps * shift / unit) ** 2)
        return loss + rounding < floor * (1 - ROUNDING)

    return bool(rows.run(compare))


def _through_samples(rows, problem, spec, step, moment, sizes):
    """Search in a sample, refine in the larger ones, and on all rows.

    A sample of n rows is fitted to 0.01 m / n, because noise hides the rest. A network
    is settled if it explains ten times as much as a fit to noise.
    """
    rng, before, n_weights = np.random.RandomState(spec.seed), None, spec.n_weights
    for size in sizes if spec.polish else sizes[:1]:
        spec.report(f"sample of {size} rows")
        of_sample = spec._replace(
            alpha=spec.alpha * size / problem.total,
            tol=max(spec.tol, 0.01 * n_weights / size),
        )
        sample = rows.sample(size, rng)
        found = _continue(before, step, moment, of_sample, sample, size)
        first = found.network
        if (1 - found.share) * size >= 10 * n_weights:
            step, before = functools.partial(refine, network=first), found
            if found.share <= EXACT:
                break
        else:
            step = functools.partial(search, moment=moment, first=first)
            before = None
            fewer = min(spec.n_init, max(6, spec.n_init // GROWTH))
            spec = spec._replace(n_init=fewer)
    if spec.polish:
        return _continue(before, step, moment, spec, rows, problem.n_samples)
    n_scales = len(moment) * (spec.blank.n_filters + 1)
    is_settled = (1 - found.share) * sizes[0] >= 10 * n_scales
    return found if is_settled else found._replace(share=1.0)


def _continue(before, step, moment, spec, rows, n_samples, most_ratio=2.0):
    """Take a step on new rows, and search if these are unlike those before."""
    found = _on_rows(step, spec, rows, n_samples)
    if before is None or found.share <= EXACT:
        return found
    if before.share / most_ratio <= found.share <= before.share * most_ratio:
        return found
    spec.report("these rows are unlike those of the sample: search")
    again = functools.partial(search, moment=moment, first=found.network)
    return _on_rows(again, spec, rows, n_samples)


def _on_rows(step, spec, rows, n_samples):
    return rows.run(lambda rows: step(make_evaluator(spec, rows, n_samples)))


def sample_sizes(
    n_rows,
    n_weights,
    row_bytes,
    *,
    rows_per_weight=42,
    fewest_rows=1000,
    least_rows_per_weight=10,
    most_bytes=2**26,
):
    """Return the rows of the samples; none if they would not pay or hold too few."""
    most = most_bytes // row_bytes
    size, sizes = min(max(fewest_rows, rows_per_weight * n_weights), most), []
    if size < least_rows_per_weight * n_weights:
        return []
    while GROWTH * size <= n_rows and size <= most:
        sizes.append(size)
        size *= GROWTH
    return sizes


def raw_outputs(network, rows):
    """Return the outputs of a network, (rows, Q), in float64."""
    return concatenate_blocks(
        lambda X: forward(network, X.astype(float, copy=False)), rows.X, rows.n_jobs
    )


def _with_likelihood(fit, rows, spec, stage, is_warm):
    """Return the ``Fit`` of a likelihood, from that of the squared errors on.

    With ``is_warm`` the networks are those of an earlier fit of this likelihood.
    """
    problem, loss = fit.problem, spec.loss
    mean, _ = mean_of_targets(rows)
    scaled = rows.with_targets(lambda y, w: (y, w / problem.heaviest)).with_dtype(float)
    ones = np.ones(len(mean))
    problem = problem._replace(rows=scaled, shift=0 * ones, unit=ones)
    spec = spec._replace(alpha=problem.alpha(spec.alpha))
    how = {"loss": loss, "alpha": spec.alpha, "fit_intercept": spec.fit_intercept}
    parts = []
    with stage("likelihood"):
        for outputs, _, start in fit.parts:
            network = start.network
            if not is_warm:
                network = fit.problem.in_units_of_y(network, outputs)
                network = _on_link_scale(network, loss, mean[outputs], spec)
            constant = mean[outputs] * (not isinstance(loss, Poisson))
            flat = network.with_flat_heads(np.zeros_like(network.flat_heads))
            flat = flat._replace(intercept=constant)
            flat = _on_link_scale(flat, loss, mean[outputs], spec)
            starts = network, flat
            is_polished = spec.polish and any(np.any(k) for k in network.kernels)

            def fit_group(rows, starts=starts, is_polished=is_polished):
                of_rows = functools.partial(_objective, rows, loss, spec.alpha)
                network = min(starts, key=of_rows)
                found = gauss_newton(
                    network, rows, move="heads", max_iter=30, tol=1e-12, **how
                )
                if not is_polished:
                    return found._replace(converged=True)
                full = {"max_iter": spec.max_iter, "tol": spec.tol}
                return gauss_newton(found.network, rows, **how, **full)

            of_outputs = problem.of_outputs(outputs)
            found = of_outputs.run(fit_group)
            found = _or_constant(of_outputs, loss, found, flat, rows.precision)
            spec.report(f"likelihood: {found.n_iter} passes, loss {found.loss:.3g}")
            size = np.abs(found.network.heads)
            heads = np.where(size > 1e-30 * size.max(), found.network.heads, 0.0)
            network = found.network._replace(heads=heads)
            n_iter = start.n_iter + found.n_iter
            parts.append(
                (outputs, spec, found._replace(network=network, n_iter=n_iter))
            )
    return Fit(problem, parts, fit.moment)


def _outputs_and_sizes(network, X):
    """Return the outputs of a network, (rows, Q), and the sums of their parts' sizes.

    Rounding may move an output by a share of this sum: filters may cancel each other.
    """
    features = head_features(network, hidden_forward(network, X), X).astype(float)
    heads = network.flat_heads.astype(float)
    size = np.abs(network.intercept) + np.abs(features) @ np.abs(heads).T
    return network.intercept + features @ heads.T, size


def _or_constant(rows, loss, found, constant, dtype, n_roundings=16):
    """Return a solution, or the constant one if that may be better as it is stored."""
    network, eps = normalize(found.network).astype(dtype), np.finfo(dtype).eps

    def statistic(X, y, weight):
        raw, size = _outputs_and_sizes(network, X)
        change = n_roundings * eps * size
        outputs = raw + change, raw - change, raw - np.where(y > 0, change, -change)
        losses = [loss.evaluate(y, moved)[0] for moved in outputs]
        return (weight @ np.max(losses, axis=0),)

    worst = rows.with_dtype(dtype).reduce(statistic, network.n_hidden_weights)[0]
    of_constant = _objective(rows, loss, 0.0, constant)
    if worst <= of_constant * (1 + ROUNDING):
        return found
    return Solution(constant, of_constant, found.n_iter, found.converged)


@np.errstate(over="ignore", invalid="ignore")
def _objective(rows, loss, alpha, network):
    """Return the loss of a network and its penalty, infinite if its outputs overflow.

    Far from the rows a likelihood has no curvature, so that no step comes back.
    """

    def statistic(X, y, weight):
        return (weight @ loss.evaluate(y, forward(network, X))[0],)

    total = rows.reduce(statistic, network.n_hidden_weights)[0]
    total += alpha * np.sum(np.sum(network.heads**2, axis=(0, 2)) * penalty(network)[2])
    return total if np.isfinite(total) else np.inf


def _on_link_scale(network, loss, mean, spec):
    """Return a network of the squared errors as one of the link scale."""
    if isinstance(loss, Poisson):
        safe = np.where(mean > 0, mean, 1.0)
        return network._replace(
            intercept=(network.intercept + np.log(safe)) * float(spec.fit_intercept)
        )
    mean = np.clip(mean, 1e-6, 1 - 1e-6)  # a class may have no rows, or all
    variance = np.mean(mean * (1 - mean))
    heads, intercept = network.flat_heads / variance, np.log(mean)
    if len(mean) == 1:
        intercept = intercept - np.log1p(-mean)
    intercept = intercept + (network.intercept - mean) / variance
    if loss.couples_outputs:
        heads, intercept = heads - heads.mean(axis=0), intercept - intercept.mean()
    network = network.with_flat_heads(heads)
    return network._replace(intercept=intercept * float(spec.fit_intercept))


def _with_huber_loss(fit, rows, spec, no_scale=1e-12):
    """Return the ``Fit`` of Huber's loss, from that of y cut off on.

    The weights and the scale of the residuals are fitted in turn; neither raises their
    joint objective.
    """
    problem = fit.problem
    shift, unit = problem.shift, problem.unit
    with np.errstate(over="ignore"):
        targets = (rows.y - shift) / unit
    if not np.all(np.isfinite(targets)):
        raise FloatingPointError("y overflows in units of its spread")
    problem = problem._replace(
        rows=problem.rows.with_targets(lambda _, weight: (targets, weight))
    )
    parts, scales = [], []
    for outputs, own, start in fit.parts:
        of_output, found = problem.of_outputs(outputs).with_dtype(float), start
        y, weight = of_output.y[:, 0], of_output.weight
        scale = median_scale(y - raw_outputs(start.network, of_output)[:, 0], weight)
        n_iter, is_settled = 0, not spec.polish or scale <= no_scale
        loss = Huber(spec.epsilon * scale)
        while not is_settled and n_iter < spec.max_iter:
            loss = Huber(spec.epsilon * scale)
            found = gauss_newton(
                found.network,
                of_output,
                loss,
                alpha=own.alpha,
                fit_intercept=spec.fit_intercept,
                max_iter=spec.max_iter - n_iter,
                tol=spec.tol,
                damping=1e-4,
            )
            n_iter, before = n_iter + found.n_iter, scale
            residual = y - raw_outputs(found.network, of_output)[:, 0]
            scale = huber_scale(residual, weight, spec.epsilon)
            is_settled = abs(scale - before) <= math.sqrt(spec.tol) * before
            is_settled = is_settled or scale <= no_scale
        converged = found.converged and is_settled
        n_iter += start.n_iter
        found, scale = _or_median(of_output, found, scale, spec)
        found = found._replace(n_iter=n_iter, converged=converged, share=start.share)
        parts.append((outputs, own._replace(epsilon=spec.epsilon, loss=loss), found))
        scales.append(scale)
    scales = unit * scales
    spec.report(f"scales of the residuals: {scales}")
    return Fit(problem, parts, fit.moment, scales)


def _or_median(rows, found, scale, spec):
    """Return a solution and its scale, or the median of y and its scale if better.

    Few iterations may leave a network that is worse.
    """
    y, weight, loss = rows.y, rows.weight, Huber(spec.epsilon * scale)
    median = weighted_median(y[:, 0], weight) * spec.fit_intercept
    raw = raw_outputs(found.network, rows)
    if weight @ loss.evaluate(y, raw)[0] <= weight @ loss.evaluate(y, median)[0]:
        return found, scale
    constant = found.network.with_flat_heads(np.zeros_like(found.network.flat_heads))
    constant = constant._replace(intercept=np.array([median]))
    residual = y[:, 0] - median
    scale = huber_scale(residual, weight, spec.epsilon)
    return found._replace(network=constant, equations=None), scale
