import numpy as np
import pytest

from skdeeptd._network.activations import ACTIVATIONS, LEAKY_SLOPE, layer_activations

Z = np.array([-3.0, -1.2, -0.1, 0.2, 1.0, 2.5])
EXPECTED = {
    "relu": np.where(Z > 0, Z, 0),
    "leaky_relu": np.where(Z > 0, Z, LEAKY_SLOPE * Z),
    "identity": Z,
    "tanh": np.tanh(Z),
    "softplus": np.log1p(np.exp(Z)),
    "logistic": 1 / (1 + np.exp(-Z)),
}


def value(name, z):
    return ACTIVATIONS[name].value(z, np.full_like(z, np.nan))


def derivative(name, z):
    return ACTIVATIONS[name].derivative(z, value(name, z), np.full_like(z, np.nan))


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_values_are_those_of_the_definition(name):
    np.testing.assert_allclose(value(name, Z), EXPECTED[name], rtol=1e-14)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_derivative_is_the_limit_of_differences(name):
    step = 1e-6
    difference = value(name, Z + step) - value(name, Z - step)
    np.testing.assert_allclose(
        derivative(name, Z), difference / (2 * step), rtol=1e-8, atol=1e-9
    )


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_homogeneous_and_odd_are_what_the_values_show(name):
    activation = ACTIVATIONS[name]
    assert activation.homogeneous == np.allclose(value(name, 3 * Z), 3 * value(name, Z))
    assert activation.odd == np.allclose(value(name, -Z), -value(name, Z))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_results_are_written_to_out_and_the_arguments_stay(name, dtype):
    z, out, slope = (np.array(Z, dtype) for _ in range(3))
    activation = ACTIVATIONS[name]
    assert activation.value(z, out) is out
    h = out.copy()
    assert activation.derivative(z, out, slope) is slope
    np.testing.assert_array_equal(z, Z.astype(dtype))
    np.testing.assert_array_equal(out, h)
    np.testing.assert_allclose(out, EXPECTED[name], rtol=1e-6)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_large_numbers_overflow_nowhere(name):
    z = np.array([-1e4, 1e4])
    slope = derivative(name, z)
    assert np.all(np.isfinite(value(name, z)))
    assert np.all((slope >= 0) & (slope <= 1))


@pytest.mark.parametrize("name", ["relu", "leaky_relu"])
def test_a_kink_has_the_slope_of_its_left_side(name):
    zero = np.zeros(1)
    assert derivative(name, zero) == derivative(name, zero - 1)


def test_layer_activations():
    assert layer_activations("tanh", "relu", 3) == ("tanh", "tanh", "relu")
    assert layer_activations(["tanh"], "identity", 2) == ("tanh", "identity")
    assert layer_activations([], "identity", 1) == ("identity",)


@pytest.mark.parametrize(
    ("activation", "output", "message"),
    [
        ("sine", "identity", "unknown activation 'sine'; known are relu, leaky_relu"),
        (["relu", 3], "identity", "unknown activation 3"),
        ("relu", None, "unknown activation None"),
        (["relu"], "identity", "1 entries, but a network of 3 layers has 2 hidden"),
    ],
)
def test_bad_activations_are_named(activation, output, message):
    with pytest.raises(ValueError, match=message):
        layer_activations(activation, output, 3)
