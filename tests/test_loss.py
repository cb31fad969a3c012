import numpy as np
from skdeeptd._model.loss import squared_error

Y, OUTPUT = np.array([3.0, -1.0, 0.5]), np.array([1.0, -1.0, 2.0])


def test_squared_error_is_the_square_and_its_residual_the_slope_halved():
    residual, curvature, value = squared_error(Y, OUTPUT)
    np.testing.assert_array_equal(value, [4.0, 0.0, 2.25])
    step = 1e-6
    above, below = (squared_error(Y, OUTPUT + s).value for s in (step, -step))
    np.testing.assert_allclose(residual, (below - above) / (4 * step), atol=1e-9)
    second = (above - 2 * value + below) / step**2
    assert curvature is None  # which stands for one
    np.testing.assert_allclose(second / 2, 1, rtol=1e-3)
