"""The activations of the patch network.

==========  =====================================================
symbol      meaning
==========  =====================================================
z           the pre-activation
phi(z)      ``value(z, out)``, elementwise
phi'(z)     ``derivative(z, h, out)``, elementwise; h = phi(z)
==========  =====================================================

Both write to ``out``, an array like z, and return it.

An activation is *homogeneous* if phi(c z) = c phi(z) for c > 0, so that the norm of
its kernel can move to the next layer. It is *odd* if phi(-z) = -phi(z), so that the
sign of its kernel can move.
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


def _relu(z, out):
    return np.maximum(z, 0, out=out)


def _relu_derivative(z, h, out):
    return np.greater(z, 0, out=out)


def _leaky_relu(z, out):
    return np.maximum(z, np.multiply(z, z.dtype.type(LEAKY_SLOPE), out=out), out=out)


def _leaky_relu_derivative(z, h, out):
    return np.maximum(np.greater(z, 0, out=out), z.dtype.type(LEAKY_SLOPE), out=out)


def _identity(z, out):
    np.copyto(out, z)
    return out


def _identity_derivative(z, h, out):
    out.fill(1)
    return out


def _tanh(z, out):
    return np.tanh(z, out=out)


def _tanh_derivative(z, h, out):
    return np.subtract(1, np.multiply(h, h, out=out), out=out)


def _softplus(z, out):
    return np.logaddexp(z, z.dtype.type(0), out=out)


def _softplus_derivative(z, h, out):
    return expit(z, out=out)


def _logistic(z, out):
    return expit(z, out=out)


def _logistic_derivative(z, h, out):
    return np.multiply(np.subtract(1, h, out=out), h, out=out)


ACTIVATIONS = {
    "relu": Activation(_relu, _relu_derivative, True, False),
    "leaky_relu": Activation(_leaky_relu, _leaky_relu_derivative, True, False),
    "identity": Activation(_identity, _identity_derivative, True, True),
    "tanh": Activation(_tanh, _tanh_derivative, False, True),
    "softplus": Activation(_softplus, _softplus_derivative, False, False),
    "logistic": Activation(_logistic, _logistic_derivative, False, False),
}


def layer_activations(activation, output_activation, n_layers):
    """Return a name per layer, from one name or several for the hidden layers.

    Raises
    ------
    ValueError
        If a name is unknown, or if there is not a name for each hidden layer.
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
