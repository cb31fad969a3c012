"""Convolutional networks with non-overlapping patches, learned by DeepTD."""

from skdeeptd._regressor import DeepTDRegressor

__all__ = ["DeepTDRegressor"]
__version__ = "0.1.0"
