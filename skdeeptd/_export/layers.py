"""Describe the layers of a fitted estimator for the exports to torch and ONNX.

==========  ==============  =======================================================
symbol      name            meaning
==========  ==============  =======================================================
k_l         ``kernels``     (channels, d_l), times their gains; a channel is a
                            filter of an output, output by output
b_l         ``biases``      (channels,), or None
phi_l       ``activation``  its name
==========  ==============  =======================================================

In both, the channels go through the layers side by side, each with its own kernel, and
a last linear layer adds scale times channel over the filters of an output, and the
intercept.
"""

from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeeptd._auto import DeepTDAutoRegressor
from skdeeptd._base import BasePatchNetwork
from skdeeptd._classifier import DeepTDClassifier
from skdeeptd._features import DeepTDFeatures
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._search_cv import DeepTDClassifierCV, DeepTDRegressorCV


class Layer(NamedTuple):
    kernels: np.ndarray
    biases: np.ndarray | None
    activation: str


def layers_of(estimator):
    """Return the layers of a network, with the filters of all outputs side by side."""
    layers, n_biases = [], estimator.biases_.shape[2]
    for number, (k, name) in enumerate(
        zip(estimator.kernels_, estimator.activations_, strict=True)
    ):
        gains = estimator.gains_[:, :, number].reshape(-1, 1)
        biases = estimator.biases_[:, :, number].ravel() if number < n_biases else None
        layers.append(Layer(k.reshape(len(gains), -1) * gains, biases, name))
    return layers


def known(name, functions, target, kind="activation"):
    """Return the entry of ``functions`` for an activation or a statistic."""
    if name not in functions:
        raise ValueError(
            f"the {kind} {name!r} cannot be exported to {target}; "
            f"known are {', '.join(functions)}"
        )
    return functions[name]


def exported(estimator):
    """Return the estimator to export: the best network of a search, else the estimator.

    Raises
    ------
    TypeError
        If the estimator, or a member of an average, cannot be exported.
    """
    if isinstance(estimator, DeepTDRegressorCV | DeepTDClassifierCV):
        check_is_fitted(estimator)
        estimator = estimator.best_estimator_
    kinds = BasePatchNetwork, DeepTDFeatures, DeepTDRidge, DeepTDAutoRegressor
    if not isinstance(estimator, kinds):
        raise TypeError(
            f"a DeepTDRegressor, DeepTDClassifier, a grid search of them, a "
            f"DeepTDRidge, DeepTDAutoRegressor or DeepTDFeatures can be exported, not "
            f"a {type(estimator).__name__}; of a Pipeline take the step that is one"
        )
    check_is_fitted(estimator)
    for member in getattr(estimator, "estimators_", []):
        exported(member)
    return estimator


def dtype_of(estimator):
    """Return the dtype of the weights."""
    if isinstance(estimator, DeepTDAutoRegressor):
        return np.result_type(*map(dtype_of, estimator.estimators_))
    if isinstance(estimator, DeepTDFeatures):
        return estimator.center_.dtype
    return estimator.intercept_.dtype


def has_one_axis(estimator):
    """Return whether the output has one axis: one column of y, or two classes."""
    if isinstance(estimator, DeepTDClassifier):
        return n_columns_of(estimator) == 1
    return getattr(estimator, "_y_ndim", 2) == 1


def has_log_link(estimator):
    """Return whether the predictions are exponentials of the network's outputs."""
    return getattr(estimator, "link_", "identity") == "log"


def n_columns_of(estimator):
    """Return the number of outputs, or of the columns of a transformer."""
    if isinstance(estimator, DeepTDAutoRegressor):
        return estimator.weights_.shape[1]
    if isinstance(estimator, DeepTDFeatures):
        return len(estimator.center_)
    return len(estimator.intercept_)
