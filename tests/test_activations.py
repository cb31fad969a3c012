import numpy as np
import pytest

from skdeeptd._model.activations import ACTIVATIONS, layer_activations

Z = np.array([-3.0, -1.2, -0.1, 0.2, 1.0, 2.5])


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_is_the_limit_of_differences(name):
    activation, step = ACTIVATIONS[name], 1e-6
    difference = activation.value(Z + step) - activation.value(Z - step)
    np.testing.assert_allclose(
        activation.derivative(Z), difference / (2 * step), atol=1e-9
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_homogeneous_and_odd_are_what_the_values_show(name):
    activation = ACTIVATIONS[name]
    value = activation.value
    assert activation.homogeneous == np.allclose(value(3 * Z), 3 * value(Z))
    assert activation.odd == np.allclose(value(-Z), -value(Z))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_float32_stays_float32(name):
    z = Z.astype(np.float32)
    assert ACTIVATIONS[name].value(z).dtype == np.float32
    assert ACTIVATIONS[name].derivative(z).dtype == np.float32


def test_layer_activations():
    assert layer_activations("tanh", "relu", 3) == ("tanh", "tanh", "relu")
    assert layer_activations(["tanh"], "identity", 2) == ("tanh", "identity")
    assert layer_activations([], "identity", 1) == ("identity",)
