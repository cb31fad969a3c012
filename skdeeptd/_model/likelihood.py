"""The likelihood of classes, of which the outputs of a network are the logits.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
Q           size                outputs: one per class, or one where there are two
Y           ``y``               (rows, Q): 1 where a row is of the class
eta         ``logits``          (rows, Q)
p           ``probability``     (rows, Q): softmax of eta, or the logistic function
l           ``value``           (rows,): -2 log of the probability of the row's class
C           never formed        (rows, Q, Q): diag(p) - p p', or p (1 - p)
L           never formed        (rows, Q, Q): LL' = C
==========  ==================  ==================================================

As for any loss, the residual Y - p is -l' / 2, and C is l'' / 2. Since p sums to one,
diag(p)^1/2 - p (p^1/2)' is an L of softmax.
"""

import numpy as np
from scipy.special import expit

from skdeeptd._model.loss import Working


def probabilities(logits):
    """p, of each output."""
    return expit(logits) if logits.shape[1] == 1 else _softmax(logits)[0]


def _softmax(logits):
    """p, and the logarithm of the sum of the exponentials, (rows,)."""
    most = logits.max(axis=1, keepdims=True)
    probability = np.exp(logits - most)
    total = probability.sum(axis=1, keepdims=True)
    probability /= total
    return probability, (most + np.log(total))[:, 0]


def log_likelihood(y, logits):
    """A ``Working`` whose curvature is p, of which ``halves`` makes C."""
    if logits.shape[1] == 1:
        probability, of_all = expit(logits), np.logaddexp(0, logits[:, 0])
    else:
        probability, of_all = _softmax(logits)
    value = 2 * (of_all - np.sum(y * logits, axis=1))
    return Working(y - probability, probability, value)


def halves(probability, table):
    """L' times a table of shape (rows, Q, numbers); what L multiplies it by, (rows, Q).

    The second factor gives C times the table, where the first has given L' times it.
    """
    p = probability[:, :, np.newaxis]
    if p.shape[1] == 1:
        root = np.sqrt(probability * (1 - probability))
        return root[:, :, np.newaxis] * table, root
    mean = p.swapaxes(1, 2) @ table
    root = np.sqrt(probability)
    return root[:, :, np.newaxis] * (table - mean), root


def curvature(probability, first, second):
    """(rows,): the entry of C of two outputs."""
    p, q = probability[:, first], probability[:, second]
    if probability.shape[1] == 1:
        return p * (1 - p)
    return p * ((first == second) - q)


def times_curvature(probability, moved):
    """(rows, Q): C times a change of the logits."""
    if probability.shape[1] == 1:
        return probability * (1 - probability) * moved
    mean = np.sum(probability * moved, axis=1, keepdims=True)
    return probability * (moved - mean)
