import numpy as np
import pytest
from skdeeptd._model.network import PatchCNN
from skdeeptd._model.parameters import pack
from skdeeptd._solver.normal_equations import Objective, normal_equations

from skdeeptd._data.rows import RowBlocks

SIZES = (4, 3)


def equations(X, y, activation):
    rng = np.random.default_rng(1)
    kernels = tuple(rng.standard_normal((1, d)) for d in SIZES)
    network = PatchCNN(kernels, np.ones(1), 0.5, (activation, "identity"))
    rows = RowBlocks(X, y, np.ones(len(y)))
    return normal_equations(pack(network), network, rows, Objective())


@pytest.mark.parametrize("activation", ["identity", "tanh"])
@pytest.mark.parametrize("far", [1e3, 1e4])
def test_a_first_row_far_from_all_others_costs_float32_no_digits(far, activation):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((2000, 12)), rng.standard_normal(2000)
    X[0, 0], y[0] = far, far
    X = X.astype(np.float32)
    found = equations(X, y, activation)
    expected = equations(X.astype(float), y, activation)
    for name in ("hessian", "gradient", "loss", "mean_jacobian", "theta"):
        value, wanted = getattr(found, name), getattr(expected, name)
        size = np.abs(wanted).max()
        np.testing.assert_allclose(value, wanted, atol=1e-5 * size, err_msg=name)
