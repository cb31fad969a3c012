"""Weights of an average of models: stacking, with shrinkage towards a linear model.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
p_c         ``predicted``       (models, rows) of one output, each row predicted by a
                                fit that has not seen the row
v_c         weights             (models,), not negative, of sum one
==========  ==================  ==================================================

The weights minimise the squared error of the average on the held-out rows (Breiman
1996), or maximise its likelihood. The best single model is taken if the average is not
better, and the result is shrunk towards the linear model if it beats that model by less
than two standard errors over the folds.
"""

from typing import NamedTuple

import numpy as np
from scipy.optimize import lsq_linear

LEAST_PROBABILITY = 1e-15


class SquaredErrorStacking(NamedTuple):
    """Stack predictions of one output by their squared error."""

    predicted: np.ndarray
    y: np.ndarray
    sample_weight: np.ndarray

    def weights(self, models, sum_penalty=1e3):
        """Return the weights of least squares of some of the models.

        The constraint that the weights sum to one is one more row of the least squares
        problem, ``sum_penalty`` times as heavy as all others together.
        """
        root = np.sqrt(self.sample_weight / np.sum(self.sample_weight))
        scale = np.sqrt(np.sum((root * self.y) ** 2)) or 1.0
        table = (root * self.predicted[models] / scale).T
        table = np.vstack([table, np.full(len(models), sum_penalty)])
        target = np.append(root * self.y / scale, sum_penalty)
        weights = lsq_linear(table, target, (0, np.inf), method="bvls").x
        return weights / np.sum(weights)

    def losses(self, weights):
        """Return the squared error of each row: (rows,)."""
        return (self.y - weights @ self.predicted) ** 2

    def corrected(self, losses, n_members):
        """Estimate the losses on new rows, to which no weights were fitted."""
        n = n_repeated_rows(self.sample_weight)
        return losses * (n + n_members - 1) / max(n - n_members + 1, 1)

    def is_exact(self, losses, share=1e-10):
        """Tell whether mean losses are zero up to a share of the mean square of y."""
        square = np.average(self.y**2, weights=self.sample_weight)
        return np.mean(losses) <= share * square


class LogLossStacking(NamedTuple):
    """Stack probabilities of classes by their log loss.

    ``likelihood`` is (models, rows): the probability of the class of each row.
    """

    likelihood: np.ndarray
    sample_weight: np.ndarray

    def weights(self, models, max_iter=300, least_weight=1e-3):
        """Return the weights of the largest likelihood of some of the models.

        Each step of expectation maximisation raises the likelihood of the average.
        Models whose weight ends below ``least_weight`` are dropped.
        """
        likelihood = np.maximum(self.likelihood[models], LEAST_PROBABILITY)
        share = self.sample_weight / np.sum(self.sample_weight)
        weights = np.full(len(models), 1 / len(models))
        for _ in range(max_iter):
            weights = weights * (likelihood @ (share / (weights @ likelihood)))
        weights[weights < least_weight] = 0
        return weights / np.sum(weights)

    def losses(self, weights):
        """Return minus the log of the probability of each row's class: (rows,)."""
        return -np.log(np.maximum(weights @ self.likelihood, LEAST_PROBABILITY))

    def corrected(self, losses, n_members):
        """Estimate the losses on new rows by Akaike's correction."""
        return losses + (n_members - 1) / n_repeated_rows(self.sample_weight)

    def is_exact(self, losses, tolerance=1e-10):
        """Tell whether mean losses are zero."""
        return np.mean(losses) <= tolerance


def n_repeated_rows(sample_weight):
    """Return the number of rows if weights are repetitions of the lightest row."""
    return np.sum(sample_weight) / np.min(sample_weight)


def stacking_weights(stacking, fold, best, linear, max_members):
    """Return the weights of several models.

    Parameters
    ----------
    stacking : SquaredErrorStacking or LogLossStacking
    fold : array of shape (rows,)
        The fold that held each row out.
    best, linear : int
        The model that is taken alone if no average is better, and the model towards
        which the weights are shrunk.
    max_members : int
        Most models with a weight, two at least; the linear model is one of them.

    Returns
    -------
    array of shape (models,)
        Not negative, of sum one.
    """
    n_models = len(stacking[0])
    single, weights = np.eye(n_models), np.zeros(n_models)
    all_weights = stacking.weights(np.arange(n_models))
    heaviest = np.argsort(-all_weights, kind="stable")[: max_members - 1]
    heaviest = np.union1d(heaviest, linear)
    weights[heaviest] = stacking.weights(heaviest)

    def fold_losses(weights):
        weighted = stacking.sample_weight * stacking.losses(weights)
        return np.bincount(fold, weighted) / np.bincount(fold, stacking.sample_weight)

    best_losses = fold_losses(single[best])
    if stacking.is_exact(best_losses):
        return single[best]
    losses = stacking.corrected(fold_losses(weights), np.count_nonzero(weights))
    if losses.mean() >= best_losses.mean():
        weights, losses = single[best], best_losses
    tiny = np.finfo(float).tiny
    logs = [np.log(np.maximum(a, tiny)) for a in (fold_losses(single[linear]), losses)]
    factor = shrinkage_factor(logs[0] - logs[1])
    return factor * weights + (1 - factor) * single[linear]


def shrinkage_factor(lead, n_standard_errors=2.0):
    """Return one if a mean lead over the folds is significant, and zero if negative.

    ``lead`` is (folds,): the difference of logarithms of losses, since folds differ in
    how hard they are. In between the factor grows in proportion to the mean lead.
    """
    error = n_standard_errors * lead.std() / np.sqrt(max(1, len(lead) - 1))
    return np.clip(lead.mean() / error, 0, 1) if error > 0 else float(lead.mean() > 0)
