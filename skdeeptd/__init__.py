"""Convolutional networks learned by DeepTD, from few samples."""

from skdeeptd._classifier import DeepTDClassifier
from skdeeptd._classifier_cv import DeepTDClassifierCV
from skdeeptd._features import DeepTDFeatures
from skdeeptd._network.kernel_sizes import kernel_size_grid
from skdeeptd._regressor import DeepTDRegressor
from skdeeptd._regressor_cv import DeepTDRegressorCV
from skdeeptd._ridge import DeepTDRidge

__all__ = [
    "DeepTDClassifier",
    "DeepTDClassifierCV",
    "DeepTDFeatures",
    "DeepTDRegressor",
    "DeepTDRegressorCV",
    "DeepTDRidge",
    "kernel_size_grid",
]
__version__ = "0.2.0"
