"""Describe fitted estimators for the exports to torch and ONNX.

==========  ==============  =======================================================
symbol      name            meaning
==========  ==============  =======================================================
k_l         ``kernels``     (channels, d_l), times their gains; a channel is a
                            filter of an output, output by output
b_l         ``biases``      (channels,), or None
phi_l       ``activation``  its name
z           ``z``           (rows, filters, positions): responses of filters
==========  ==============  =======================================================

In a network the channels go through the layers side by side, each with its own kernel,
and a last linear layer adds scale times channel over the filters of an output, and the
intercept.

A transformer rearranges X into signals, takes a view of them, and standardises them.
``DeepTDFeatures`` then applies banks of filters, and pools their responses over parts
of the positions.
"""

import functools
import itertools

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from skdeeptd._auto import BaseAuto
from skdeeptd._base import BasePatchNetwork
from skdeeptd._data.signals import (
    as_signals,
    derivative,
    derivative_window,
    signal_layout,
)
from skdeeptd._features import BaseSignalTransformer
from skdeeptd._init.filters import (
    distinct_parts,
    geometry,
    parts_of,
    statistics_of,
)
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._ridge_classifier import DeepTDRidgeClassifier
from skdeeptd._search_cv import DeepTDClassifierCV, DeepTDRegressorCV
from skdeeptd._validation import unwrap_pipeline


def layers_of(estimator):
    """Return kernels, biases and activation of each layer, for all outputs together."""
    layers, n_biases = [], estimator.biases_.shape[2]
    for number, (k, name) in enumerate(
        zip(estimator.kernels_, estimator.activations_, strict=True)
    ):
        gains = estimator.gains_[:, :, number].reshape(-1, 1)
        biases = estimator.biases_[:, :, number].ravel() if number < n_biases else None
        layers.append((k.reshape(len(gains), -1) * gains, biases, name))
    return layers


def covariates_of(estimator):
    """Return the columns of the signal, those of the covariates, and the slopes."""
    indices = estimator.covariate_indices_
    signal = np.delete(np.arange(estimator.n_features_in_), indices)
    return signal, indices, getattr(estimator, "covariate_coef_", None)


def signals_of(transformer):
    """Return the columns of X that make the signals, the shift, and the scale.

    The columns are (channels, places). Shift and scale have an entry for each channel,
    or for each place of it.
    """
    layout = signal_layout(transformer.input_shape_)
    order = as_signals(np.arange(transformer.n_features_in_)[np.newaxis], layout)[0]
    shift, scale = transformer.shift_, transformer.scale_
    return order, shift.reshape(len(order), -1), scale.reshape(len(order), -1)


def slope_of(n_places):
    """Return the derivative of signals of this length: its response to an impulse.

    The slopes are ``weights`` times the signal at ``places``, (window, places).
    """
    center, reach = n_places // 2, derivative_window(n_places) // 2
    around = np.arange(-reach, reach + 1)
    response = derivative(np.eye(1, n_places, center)[np.newaxis])[0, 0]
    places = np.clip(around[:, np.newaxis] + np.arange(n_places), 0, n_places - 1)
    return {"places": places, "weights": response[center - around]}


def bank_of(filters, bank):
    """Return the places of each patch, (taps, positions), and the pools of a bank."""
    index, grid = geometry(filters.layout.lengths, bank.taps, bank.dilation)
    return index, [
        {**_pool(grid, n_parts), "ramps": bank.ramps}
        for n_parts in distinct_parts(grid, filters.pooling)
    ]


def _pool(grid, n_parts):
    """Return parts of a grid of positions, and their statistics.

    Positions and shares are (parts, positions of the largest). A smaller part repeats
    its last position, with a share of zero.
    """
    on_axes = [
        np.split(np.arange(n), begins[1:])
        for n, begins in zip(grid, parts_of(grid, n_parts), strict=True)
    ]
    parts = [
        np.ravel_multi_index(np.ix_(*part), grid).ravel()
        for part in itertools.product(*on_axes)
    ]
    sizes = np.array([[len(part)] for part in parts])
    rank = np.arange(sizes.max())
    positions = [part[np.minimum(rank, len(part) - 1)] for part in parts]
    return {
        "positions": np.array(positions),
        "share": (rank < sizes) / sizes,
        "statistics": statistics_of(grid, n_parts),
    }


def pooled(z, statistics, ramps, target, *, mean, maximum, absolute, ramp):
    """Return statistics of responses, computed with the functions of a library.

    Parameters
    ----------
    z : array of the library, (rows, filters, positions)
    statistics : sequence of str
        Some of ``statistics_of``.
    ramps : array, (filters, shares, 2)
        Responses at which the ramp of each share begins and ends.
    target : str
        Name of the library, for the error message.
    mean, maximum : callable
        Reduce the responses in each part of the positions.
    absolute : callable
    ramp : callable
        Takes z, begin and width: 0 up to the begin, 1 from begin plus width.
    """

    def share(number):
        begin, end = ramps[:, number, 0, None], ramps[:, number, 1, None]
        return mean(ramp(z, begin, end - begin))

    functions = {
        **{f"share{i}": functools.partial(share, i) for i in range(ramps.shape[1])},
        "max": lambda: maximum(z),
        "abs": lambda: mean(absolute(z)),
        "mean": lambda: mean(z),
    }
    return [known(name, functions, target, kind="statistic")() for name in statistics]


def known(name, functions, target, kind="activation"):
    """Return the entry of ``functions`` for an activation, a statistic, ..."""
    if name not in functions:
        raise ValueError(
            f"the {kind} {name!r} cannot be exported to {target}; "
            f"known are {', '.join(functions)}"
        )
    return functions[name]


def scaling_of(scaler):
    """Return what a StandardScaler subtracts, and by what it divides."""
    shift = scaler.mean_ if scaler.with_mean else np.zeros(scaler.n_features_in_)
    return shift, scaler.scale_ if scaler.with_std else np.ones(len(shift))


def exported(estimator):
    """Return the estimator to export: the best network of a search, else the estimator.

    A Pipeline has no step that does nothing.

    Raises
    ------
    TypeError
        If the estimator, a step, or a member of an average cannot be exported.
    """
    if isinstance(estimator, Pipeline):
        steps = [
            step for step in estimator.steps if step[1] not in (None, "passthrough")
        ]
        return Pipeline([(name, exported(step)) for name, step in steps])
    if isinstance(estimator, DeepTDRegressorCV | DeepTDClassifierCV):
        check_is_fitted(estimator)
        estimator = estimator.best_estimator_
    models = BasePatchNetwork, DeepTDRidge, DeepTDRidgeClassifier, BaseAuto
    if not isinstance(estimator, (*models, BaseSignalTransformer, StandardScaler)):
        raise TypeError(
            f"to_torch and to_onnx convert the estimators of skdeeptd and a "
            f"StandardScaler before them, not a {type(estimator).__name__}; for other "
            f"steps of a Pipeline use skl2onnx.to_onnx after register_skl2onnx(), and "
            f"fit an average without extra_estimators"
        )
    check_is_fitted(estimator)
    if isinstance(estimator, BaseAuto):
        members_of(estimator)
    return estimator


def members_of(average):
    """Return the models of an average to export."""
    return [exported(member) for member in average.estimators_]


def is_classifier(estimator):
    """Return whether the estimator predicts classes."""
    return hasattr(estimator, "classes_")


def dtype_of(estimator):
    """Return the dtype of the weights: float64, but for networks fitted to float32."""
    estimator, _ = unwrap_pipeline(estimator)
    if isinstance(estimator, BaseAuto):
        return np.result_type(*map(dtype_of, members_of(estimator)))
    if isinstance(estimator, BasePatchNetwork):
        return estimator.intercept_.dtype
    return np.dtype(np.float64)


def has_one_axis(estimator):
    """Return whether the output has one axis: one column of y, or two classes."""
    if is_classifier(estimator):
        return len(estimator.classes_) == 2
    estimator, _ = unwrap_pipeline(estimator)
    return getattr(estimator, "_y_ndim", 2) == 1


def has_log_link(estimator):
    """Return whether the predictions are exponentials of the network's outputs."""
    return getattr(estimator, "link_", "identity") == "log"


def n_columns_of(estimator):
    """Return the number of outputs, of a network's logits, or of a table's columns."""
    estimator, _ = unwrap_pipeline(estimator)
    if isinstance(estimator, BaseAuto):
        return estimator.weights_.shape[1]
    if hasattr(estimator, "get_feature_names_out"):
        return len(estimator.get_feature_names_out())
    return len(estimator.intercept_)
