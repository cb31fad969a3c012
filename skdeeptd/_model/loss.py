"""Losses: what a row costs at an output of the network, and how that changes.

==========  ==================  ===============================================
symbol      array               axes
==========  ==================  ===============================================
y           ``y``               (rows,): the target
eta         ``output``          (rows,): the network's output
l(y, eta)   ``value``           (rows,): what a row costs
r           ``residual``        (rows,): where l falls steepest, -l' / 2
c           ``curvature``       (rows,), not negative: l'' / 2; None where it is 1
==========  ==================  ===============================================

A loss is a function of y and eta that gives a ``Working``; the solver knows no more.
"""

from typing import NamedTuple

import numpy as np


class Working(NamedTuple):
    residual: np.ndarray
    curvature: np.ndarray | None
    value: np.ndarray


def squared_error(y, output):
    residual = y - output
    return Working(residual, None, residual**2)
