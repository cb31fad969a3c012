"""DeepTD of some rows: search among few, polish on growing samples, then on all.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
n           ``n_rows``          rows of the problem
m           ``n_weights``       weights of the network
n_1 < n_2   ``sizes``           rows of the samples
==========  ==================  ==================================================

A network is told from noise by a number of rows for each of its weights, however many
there are. So the search sees a sample; what it finds is polished on larger ones, and on
all rows only at the end, when few steps are left to take. The search goes on in the
next sample where a network explains too little to be told from noise, or where the rows
turn out to tell something else than those of the sample did.
"""

import functools
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from skdeeptd._data.problem import Problem, make_problem
from skdeeptd._data.rows import RowBlocks, add
from skdeeptd._model.network import PatchCNN, filter_outputs, overlapping_patches
from skdeeptd._model.parameters import as_stored, free_weights, n_parameters
from skdeeptd._model.trunk import networks_of_trunk, with_linear_end
from skdeeptd._solver.linear import linear_network
from skdeeptd._solver.outliers import huber_fit, which_outliers_rule, winsorised
from skdeeptd._solver.search import (
    AGREEING,
    EXACT,
    automatic_starts,
    constant_network,
    penalty_of_start,
    refine,
    search,
)
from skdeeptd._solver.shared import SharedEquations
from skdeeptd._solver.together import ground_of, weights_per_output

ROWS_PER_WEIGHT, FEWEST_ROWS = 42, 1000  # of the smallest sample
LEAST_PER_WEIGHT = 10  # where that would take too much memory
LOO_ROWS_PER_WEIGHT = 4  # of those that choose a penalty
GROWTH = 4  # from a sample to the next, and to all rows at least
SAMPLE_BYTES = 2**26  # most that a sample takes
SETTLED = 10  # times what noise explains: no other network is looked for
WORTH = 0.01  # of what noise makes of a loss, that a step in a sample is to promise
UNLIKE = 2.0  # ratio of a network's shares in two sets of rows that tell unlike things
ROUNDING = 1e-10  # relative gain on a constant that may be rounding error


class Known(NamedTuple):
    """A network to begin with, in the units of y.

    ``settled``: no other is looked for.
    """

    network: PatchCNN
    settled: bool


class Together(NamedTuple):
    """Rows whose targets all have a mean square of one, in ``units`` of the problem."""

    rows: RowBlocks
    units: np.ndarray
    equations: SharedEquations | None


class Fit(NamedTuple):
    """What was found in some rows: a ``Spec`` and a ``Solution`` per output.

    Both are in the problem's units; ``moment`` is (outputs, features), in those of y.
    ``together`` holds what outputs have in common whose hidden layers are one;
    where the loss is Huber's, ``scales`` are those of the residuals.
    """

    specs: list
    problem: Problem
    moment: np.ndarray
    solutions: list
    together: Together | None = None
    scales: np.ndarray | None = None

    @property
    def alphas(self):
        """Of each output, for rows with the weights given."""
        alphas = [spec.objective.alpha for spec in self.specs]
        return self.problem.alpha_given(np.array(alphas))

    @property
    def n_iter(self):
        return max(solution.n_iter for solution in self.solutions)

    @property
    def out_of_budget(self):
        """Outputs of which ``max_iter`` passes were too few."""
        return [i for i, s in enumerate(self.solutions) if not s.converged]

    @property
    def networks(self):
        """In the units of y."""
        return [
            self.problem.in_units_of_y(solution.network, output)
            for output, solution in enumerate(self.solutions)
        ]

    def ruled_by_outliers(self):
        """The outputs of which they rule the fit, on some of the rows."""
        inexact = np.array([solution.share > EXACT for solution in self.solutions])
        if self.scales is not None or not inexact.any():
            return []
        networks = [solution.network for solution in self.solutions]
        look = functools.partial(which_outliers_rule, networks)
        rule = self.problem.few_rows().run_together(look)
        return np.flatnonzero(rule & inexact).tolist()


@contextmanager
def untold(name, n_parts=None):
    """A stage of a fit of which nobody wants to know; gives that of its parts."""
    yield untold


def fit_rows(rows, spec, *, moment=None, known=None, stage=untold):
    """Steps 2 to 5 of ``DeepTDRegressor.fit``.

    Parameters
    ----------
    rows : RowBlocks
    spec : Spec
        With alpha in the units of the rows given; ``n_init`` may be "auto".
    moment : array of shape (outputs, features) or None
        In the units of y; None takes it from the rows, as a fit with Huber's loss does.
    known : sequence of Known or None
        One per output. A fit with Huber's loss does not look at it.
    stage : callable
        Gives a context for each stage of the work, and takes its name.

    Returns
    -------
    Fit
    """
    if spec.epsilon is not None:
        plain = spec._replace(epsilon=None)
        begun = fit_rows(winsorised(rows), plain, stage=stage)
        return _with_huber_loss(begun, rows, spec)
    dtype = rows.precision
    with stage("moment"):
        problem = make_problem(rows, spec.objective.fit_intercept)
        of_target = (
            problem.moment() if moment is None else problem.moment_of_target(moment)
        )
        problem.check_weights(dtype)
    spec.report(f"moment: {problem.n_rows} rows of {of_target.shape[1]} features")
    spec = _in_units_of(problem, spec)
    in_units_of_y = problem.moment_of_y(of_target)
    if spec.n_sharing:
        with stage("kernels", 1) as part, part("all outputs"):
            specs, *found = _learn_together(problem, of_target, spec, known)
        return Fit(specs, problem, in_units_of_y, *found)
    specs, solutions = [], []
    with stage("kernels", len(of_target)) as part:
        for output, of_output in enumerate(of_target):
            with part(f"output {output}"):
                begin = None if known is None else known[output]
                own = spec
                if spec.leave_one_out:
                    own = _with_loo_alpha(problem, output, of_output, spec, begin)
                solution = _learn(problem, output, of_output, own, begin, dtype)
                specs.append(own)
                solutions.append(solution)
    return Fit(specs, problem, in_units_of_y, solutions)


def _with_huber_loss(begun, rows, spec):
    """The ``Fit`` of the targets as they are, from that of winsorised ones on."""
    problem, y = begun.problem, rows.y
    with np.errstate(over="ignore"):
        targets = (y - problem.shift) / problem.unit
    if not np.all(np.isfinite(targets)):
        raise FloatingPointError("y overflows in units of its spread")
    problem = problem._replace(
        rows=problem.rows.with_targets(lambda _, weight: (targets, weight))
    )
    found = [
        huber_fit(start, problem.of_output(o), own._replace(epsilon=spec.epsilon))
        for o, (start, own) in enumerate(zip(begun.solutions, begun.specs, strict=True))
    ]
    scales = problem.unit * [of_output.scale for of_output in found]
    spec.report(f"scales of the residuals: {scales}")
    return Fit(
        [
            own._replace(objective=of_output.objective)
            for own, of_output in zip(begun.specs, found, strict=True)
        ],
        problem,
        begun.moment,
        [of_output.solution for of_output in found],
        scales=scales,
    )


def _in_units_of(problem, spec):
    """The spec with the alpha of the problem, and a number of starts."""
    objective = spec.objective._replace(alpha=problem.alpha(spec.objective.alpha))
    n_init = spec.n_init
    if n_init == "auto":
        blank = spec.blank
        free = free_weights(blank)
        if spec.n_sharing:
            own = blank.sizes[-1]
            free = own + (free - own) / spec.n_sharing
        n_init = automatic_starts(
            problem.n_samples,
            free,
            len(blank.scales),
            bool(overlapping_patches(blank)),
        )
    return spec._replace(objective=objective, n_init=n_init)


def _with_loo_alpha(problem, output, moment, spec, known):
    """The spec with the penalty that some of the rows choose."""
    if not np.any(moment):
        return spec
    first = None
    if known is not None:
        first = problem.in_units_of_target(known.network, output)
    rows = problem.of_output(output)
    alpha = _loo_alpha(problem, rows, moment, spec, first)
    return spec._replace(objective=spec.objective._replace(alpha=alpha))


def _loo_alpha(problem, rows, moment, spec, first):
    size = problem.total
    most = max(FEWEST_ROWS, LOO_ROWS_PER_WEIGHT * n_parameters(spec.blank))
    if problem.n_rows > most:
        rows, size = rows.sample(most, np.random.RandomState(spec.seed)), most

    def choose(rows):
        on = ground_of(spec, rows.with_dtype(float), problem.n_samples)
        return penalty_of_start(on, moment, first)

    alpha = rows.run_together(choose) * problem.total / size
    spec.report(f"alpha {problem.alpha_given(alpha):.3g} by leave-one-out")
    return alpha


def _learn_together(problem, moment, spec, known):
    """Specs and solutions of all outputs, whose hidden layers are one; ``Together``.

    The loss of each output is divided by that of a constant, so that the units of the
    outputs do not matter.
    """
    n_outputs, given = len(moment), spec
    spec = spec._replace(blank=with_linear_end(spec.blank))
    units = _root_mean_squares(problem, spec.objective.fit_intercept)
    rows = problem.rows.with_targets(lambda y, w: (y / units, w))
    moment = moment / units[:, np.newaxis]
    first = None
    if known is not None and known[0] is not None:
        first = with_linear_end(known[0].network)
    if spec.leave_one_out and np.any(moment):
        alpha = _loo_alpha(problem, rows, moment, spec, first)
        spec = spec._replace(objective=spec.objective._replace(alpha=alpha))
    specs = [given._replace(objective=spec.objective)] * n_outputs
    nothing = [
        constant_network(problem.of_output(output), given)
        for output in range(n_outputs)
    ]
    constant = constant_network(rows, spec)
    if not np.any(moment) or constant.loss == 0:
        return specs, nothing, Together(rows, units, None)
    step = functools.partial(search, moment=moment, first=first)
    if first is not None and known[0].settled:
        step = functools.partial(refine, network=first)
    sizes = sample_sizes(
        problem.n_rows, round(weights_per_output(spec)), moment[0].nbytes
    )
    if sizes:
        found = _through_samples(rows, problem, spec, step, moment, sizes)
    else:
        found = _on_rows(step, spec, rows.with_dtype(float), problem.n_samples)
    if not found.share < 1 - ROUNDING:
        return specs, nothing, Together(rows, units, None)
    equations = found.equations
    readout = equations.readout
    networks = networks_of_trunk(
        readout.trunk,
        readout.last_kernels * units[:, np.newaxis, np.newaxis],
        readout.intercept * units,
        given.blank,
    )
    solutions = [
        found._replace(
            network=network,
            loss=equations.losses[o] * units[o] ** 2,
            share=equations.losses[o] * units[o] ** 2 / (nothing[o].loss or 1.0),
            equations=None,
        )
        for o, network in enumerate(networks)
    ]
    return specs, solutions, Together(rows, units, equations)


def _root_mean_squares(problem, fit_intercept):
    """Of the targets, about their means where there is an intercept; 1 where zero."""
    weight, total, square = add(
        problem.rows.targets(lambda y, w: (np.sum(w), w @ y, w @ y**2))
    )
    mean = total / weight * fit_intercept
    root = np.sqrt(np.maximum(square / weight - mean**2, 0.0))
    return np.where(root > 0, root, 1.0)


def _learn(problem, output, moment, spec, known, dtype):
    """The network of one output that fits best, with scales of zero where none does.

    ``dtype`` is what the network will be stored in.
    """
    rows = problem.of_output(output)
    constant = constant_network(rows, spec)
    if not np.any(moment) or constant.loss == 0:
        return constant
    is_better = functools.partial(_is_better, problem, output, spec, dtype)
    if spec.blank.is_linear and spec.polish:
        found = linear_network(rows, problem.n_rows, spec.blank, spec.objective)
        found = found._replace(share=found.loss / constant.loss)
        return found if is_better(found, rows) else constant
    sizes = sample_sizes(problem.n_rows, n_parameters(spec.blank), moment.nbytes)
    step = _first_step(problem, output, moment, known)
    if sizes:
        found = _through_samples(rows, problem, spec, step, moment, sizes)
        as_computed = rows.precision == dtype and found.share < 1 - ROUNDING
        return found if as_computed or is_better(found, rows) else constant
    found = _on_rows(step, spec, rows.with_dtype(float), problem.n_samples)
    if found.share >= 1 - ROUNDING:
        return constant
    if is_better(found, rows):
        return found
    spec.report(f"the network does not fit in {dtype.name}: search in {dtype.name}")
    try:
        found = _on_rows(step, spec, rows.with_dtype(dtype), problem.n_samples)
    except FloatingPointError:
        return constant
    return found if is_better(found, rows) else constant


def _is_better(problem, output, spec, dtype, found, rows):
    """Whether a network, as it will be stored, is better than a constant."""
    if found.share >= 1 - ROUNDING:
        return False
    stored = as_stored(problem.in_units_of_y(found.network, output), dtype)
    units = problem.shift[output], problem.unit[output]
    return rows.run(functools.partial(_is_below_constant, stored, spec, *units))


def _is_below_constant(network, spec, shift, unit, rows):
    """Whether the loss of a network, which is in units of y, is below a constant's.

    With what rounding may add to either: filters may cancel each other.
    """
    eps = np.finfo(network.scales.dtype).eps

    def statistic(X, y, weight):
        values = filter_outputs(network, X).astype(float)
        predicted = (network.intercept + network.scales @ values - shift) / unit
        size = np.abs(network.intercept) + np.abs(network.scales) @ np.abs(values)
        rounding = weight @ (eps * size / unit) ** 2
        return weight @ (y - predicted) ** 2, rounding, np.sum(weight)

    loss, rounding, total = rows.with_dtype(network.scales.dtype).reduce(statistic)
    constant = constant_network(rows, spec).loss + total * (eps * shift / unit) ** 2
    return loss + rounding < constant * (1 - ROUNDING)


def _first_step(problem, output, moment, known):
    """How to begin: with a network, or with none."""
    if known is None:
        return functools.partial(search, moment=moment)
    network = problem.in_units_of_target(known.network, output)
    if known.settled:
        return functools.partial(refine, network=network)
    return functools.partial(search, moment=moment, first=network)


def _through_samples(rows, problem, spec, step, moment, sizes):
    """Search in a sample, refine in the larger ones, and on all rows."""
    rng, known = np.random.RandomState(spec.seed), None
    n_weights = n_parameters(spec.blank)
    for size in sizes if spec.polish else sizes[:1]:
        spec.report(f"sample of {size} rows")
        of_sample = spec.with_alpha_times(size / problem.total)
        of_sample = of_sample._replace(tol=max(spec.tol, WORTH * n_weights / size))
        sample = rows.sample(size, rng)
        found = _continue(known, step, moment, of_sample, sample, size)
        first = found.network
        if (1 - found.share) * size >= SETTLED * n_weights:
            step, known = functools.partial(refine, network=first), found
            if found.share <= EXACT:
                break
        else:
            step = functools.partial(search, moment=moment, first=first)
            known = None
            fewer = min(spec.n_init, max(AGREEING, spec.n_init // GROWTH))
            spec = spec._replace(n_init=fewer)
    if spec.polish:
        return _continue(known, step, moment, spec, rows, problem.n_samples)
    n_scales = len(spec.blank.scales) + 1
    told_from_noise = (1 - found.share) * sizes[0] >= SETTLED * n_scales
    return found if told_from_noise else found._replace(share=1.0)


def _continue(known, step, moment, spec, rows, n_samples):
    """``step`` on new rows, and a search where these are unlike those of ``known``."""
    found = _on_rows(step, spec, rows, n_samples)
    if known is None or found.share <= EXACT:
        return found
    if known.share / UNLIKE <= found.share <= known.share * UNLIKE:
        return found
    spec.report("these rows are unlike those of the sample: search")
    again = functools.partial(search, moment=moment, first=found.network)
    return _on_rows(again, spec, rows, n_samples)


def _on_rows(step, spec, rows, n_samples):
    return rows.run(functools.partial(_step_on, step, spec, n_samples))


def _step_on(step, spec, n_samples, rows):
    return step(ground_of(spec, rows, n_samples))


def sample_sizes(n_rows, n_weights, row_bytes):
    """Rows of the samples, none where they would not pay or hold too few."""
    most = SAMPLE_BYTES // row_bytes
    size, sizes = min(max(FEWEST_ROWS, ROWS_PER_WEIGHT * n_weights), most), []
    if size < LEAST_PER_WEIGHT * n_weights:
        return []
    while GROWTH * size <= n_rows and size <= most:
        sizes.append(size)
        size *= GROWTH
    return sizes
