"""The activations of the patch network.

==========  =====================================================
symbol      meaning
==========  =====================================================
phi(z)      ``value``, elementwise on the pre-activation ``z``
phi'(z)     ``derivative``, elementwise on the same ``z``
==========  =====================================================

An activation is *homogeneous* when phi(c z) = c phi(z) for c > 0, so that the norm
of its kernel can move to the next layer, and *odd* when phi(-z) = -phi(z), so that
the sign of its kernel can.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.special import expit

LEAKY_SLOPE = 0.01


class Activation(NamedTuple):
    value: Callable
    derivative: Callable
    homogeneous: bool
    odd: bool


def _tanh_derivative(z):
    return 1.0 - np.tanh(z) ** 2


def _logistic_derivative(z):
    s = expit(z)
    return s * (1.0 - s)


ACTIVATIONS = {
    "relu": Activation(
        lambda z: np.maximum(z, 0), lambda z: (z > 0).astype(z.dtype), True, False
    ),
    "leaky_relu": Activation(
        lambda z: np.where(z > 0, z, z.dtype.type(LEAKY_SLOPE) * z),
        lambda z: np.where(z > 0, z.dtype.type(1), z.dtype.type(LEAKY_SLOPE)),
        True,
        False,
    ),
    "identity": Activation(lambda z: z, np.ones_like, True, True),
    "tanh": Activation(np.tanh, _tanh_derivative, False, True),
    "softplus": Activation(
        lambda z: np.logaddexp(z, z.dtype.type(0)), expit, False, False
    ),
    "logistic": Activation(expit, _logistic_derivative, False, False),
}


def layer_activations(activation, output_activation, n_layers):
    """A name per layer from one name, or a sequence of them, for the hidden layers.

    Raises
    ------
    ValueError
        Where a name is unknown or their number is not that of the hidden layers.
    """
    hidden = (
        (activation,) * (n_layers - 1)
        if isinstance(activation, str)
        else tuple(activation)
    )
    for name in (*hidden, output_activation):
        if not isinstance(name, str) or name not in ACTIVATIONS:
            raise ValueError(
                f"unknown activation {name!r}; known are {', '.join(ACTIVATIONS)}"
            )
    if len(hidden) != n_layers - 1:
        raise ValueError(
            f"activation has {len(hidden)} entries, but a network of {n_layers} layers "
            f"has {n_layers - 1} hidden ones; the last layer has output_activation"
        )
    return (*hidden, output_activation)
