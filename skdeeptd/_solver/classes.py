"""A network of classes: filters by squared error, then the likelihood.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
Q           ``n_outputs``       logits: one per class, or one where there are two
Y           ``rows.y``          (rows, Q): 1 where a row is of the class
v           in ``alpha``        mean over Q of the variance of a column of Y
==========  ==================  ==================================================

By Stein's identity the cross-moment of X and Y is that of X and the logits up to a
factor, whatever the link. So the search is that of the regressor, for Y; close to the
class shares the likelihood is a squared error whose logits are Y / v, which is how its
penalty is translated. What the search finds is where the likelihood begins.
"""

import functools
from typing import NamedTuple

import numpy as np

from skdeeptd._data.rows import add
from skdeeptd._model.likelihood import log_likelihood
from skdeeptd._model.network import PatchCNN
from skdeeptd._model.trunk import networks_of_trunk, with_linear_end
from skdeeptd._solver.deeptd import fit_rows, untold
from skdeeptd._solver.likelihood import fit_trunk

DEAD = 1e-30  # of the largest weight of a last kernel
TOL_OF_START = 1e-3  # of the squared error, which is but a start


class ClassFit(NamedTuple):
    """A network per logit; ``moment`` is (logits, features), that of Y."""

    networks: list[PatchCNN]
    moment: np.ndarray
    n_iter: int
    out_of_budget: list[int]  # logits: all where ``max_iter`` was too few, or none
    separates: bool


def fit_classes(rows, spec, *, moment=None, known=None, stage=untold):
    """Fit the logits of classes.

    Parameters
    ----------
    rows : RowBlocks
        With a target (rows, Q) of ones and zeros.
    spec : Spec
        Whose objective is that of the likelihood.
    moment, known, stage
        As of ``fit_rows``.

    Returns
    -------
    ClassFit
    """
    begin = _squared_fit(rows, spec, moment, known, stage)
    heaviest, given = begin.problem.heaviest, spec.objective
    scaled = rows.with_targets(lambda y, w: (y, w / heaviest)).with_dtype(float)
    objective = given._replace(
        alpha=begin.problem.alpha(given.alpha), loss=log_likelihood
    )
    trunk = _trunk_of(begin, spec)
    max_iter = spec.max_iter if spec.polish and trunk.kernels[0].any() else 0
    fit = functools.partial(
        fit_trunk, trunk, objective=objective, max_iter=max_iter, tol=spec.tol
    )
    with stage("likelihood"):
        readout, n_iter, converged = scaled.run(fit)
    spec.report(f"likelihood: {n_iter} passes, loss {readout.loss:.3g}")
    last = _without_dead_filters(readout.last_kernels)
    networks = networks_of_trunk(readout.trunk, last, readout.intercept, spec.blank)
    return ClassFit(
        networks,
        begin.moment,
        begin.n_iter + n_iter,
        [] if converged else list(range(len(networks))),
        readout.value.separates,
    )


def _without_dead_filters(last):
    """Zeros for weights so small that a stored dtype may not hold them."""
    size = np.abs(last)
    return np.where(size > DEAD * size.max(), last, 0.0)


def _squared_fit(rows, spec, moment, known, stage):
    n_outputs = rows.pilot()[1].shape[1]
    total, of_class = add(rows.targets(lambda y, w: (np.sum(w), w @ y)))
    share = of_class / total
    alpha = spec.objective.alpha / np.mean(share * (1 - share))
    shares = n_outputs > 1 and not spec.blank.is_linear
    start = spec._replace(
        n_sharing=n_outputs if shares else 0,
        objective=spec.objective._replace(alpha=alpha),
        tol=max(spec.tol, TOL_OF_START),
    )
    centre = 0.0 if spec.objective.fit_intercept else 1 / max(2, n_outputs)
    rows = rows.with_targets(lambda y, w: (y - centre, w))
    return fit_rows(rows, start, moment=moment, known=known, stage=stage)


def _trunk_of(fit, spec):
    """Of all outputs, or of the blank where all that there is are last kernels."""
    if fit.together is not None and fit.together.equations is not None:
        return fit.together.equations.readout.trunk
    return with_linear_end(spec.blank if spec.blank.is_linear else fit.networks[0])
