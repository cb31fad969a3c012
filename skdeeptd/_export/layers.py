"""What torch and ONNX are told of a network, and who can be exported.

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

import itertools
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


def layers_of(networks):
    """The layers of all networks, their filters side by side."""
    kernels, biases = (
        [np.concatenate(of_layer) for of_layer in zip(*by_network, strict=True)]
        for by_network in ([n.kernels for n in networks], [n.biases for n in networks])
    )
    biases += [None] * (len(kernels) - len(biases))
    layers = zip(kernels, biases, networks[0].activations, strict=True)
    return list(itertools.starmap(Layer, layers))


def known(name, activations, target):
    if name not in activations:
        raise ValueError(
            f"the activation {name!r} cannot be exported to {target}; "
            f"known are {', '.join(activations)}"
        )
    return activations[name]


def exported(estimator):
    """Return what to export of a fitted estimator: of a grid search the best network.

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
    """In which the weights are stored."""
    if isinstance(estimator, DeepTDAutoRegressor):
        return np.result_type(*map(dtype_of, estimator.estimators_))
    if isinstance(estimator, DeepTDFeatures):
        return estimator.center_.dtype
    return estimator.intercept_.dtype


def has_one_axis(estimator):
    """Whether its output has, as y had, or as the logit of two classes."""
    if isinstance(estimator, DeepTDClassifier):
        return n_columns_of(estimator) == 1
    return getattr(estimator, "_y_ndim", 2) == 1


def n_columns_of(estimator):
    """Outputs, or what a transformer gives."""
    if isinstance(estimator, DeepTDAutoRegressor):
        return estimator.weights_.shape[1]
    if isinstance(estimator, DeepTDFeatures):
        return len(estimator.center_)
    return len(estimator.intercept_)
