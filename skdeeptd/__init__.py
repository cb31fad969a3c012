"""Convolutional networks with non-overlapping patches, learned by DeepTD."""

from skdeeptd._geometry import kernel_size_grid
from skdeeptd._regressor import DeepTDRegressor

__all__ = ["DeepTDRegressor", "kernel_size_grid"]
__version__ = "0.1.0"
