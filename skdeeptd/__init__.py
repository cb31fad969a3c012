"""Convolutional networks learned by DeepTD, from few samples."""

from skdeeptd._auto import DeepTDAutoClassifier, DeepTDAutoRegressor
from skdeeptd._classifier import DeepTDClassifier
from skdeeptd._features import DeepTDFeatures, SignalScaler
from skdeeptd._network.kernel_sizes import kernel_size_grid
from skdeeptd._regressor import DeepTDRegressor
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._ridge_classifier import DeepTDRidgeClassifier
from skdeeptd._search_cv import DeepTDClassifierCV, DeepTDRegressorCV

__all__ = [
    "DeepTDAutoClassifier",
    "DeepTDAutoRegressor",
    "DeepTDClassifier",
    "DeepTDClassifierCV",
    "DeepTDFeatures",
    "DeepTDRegressor",
    "DeepTDRegressorCV",
    "DeepTDRidge",
    "DeepTDRidgeClassifier",
    "SignalScaler",
    "kernel_size_grid",
]
__version__ = "0.2.0"
