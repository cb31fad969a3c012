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
from typing import NamedTuple

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
from skdeeptd._features import BaseSignalTransformer, DeepTDFeatures, SignalScaler
from skdeeptd._init.filters import (
    distinct_parts,
    geometry,
    parts_of,
    statistics_of,
)
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._ridge_classifier import DeepTDRidgeClassifier
from skdeeptd._search_cv import DeepTDClassifierCV, DeepTDRegressorCV

NO_STEP = "passthrough"


class Layer(NamedTuple):
    kernels: np.ndarray
    biases: np.ndarray | None
    activation: str


class Signals(NamedTuple):
    """Hold the indices of places and channels in X, and the units of the signals.

    ``order`` is (channels, places); ``shift`` and ``scale`` have an entry for each
    channel, or for each place of it.
    """

    order: np.ndarray
    shift: np.ndarray
    scale: np.ndarray


class Slope(NamedTuple):
    """Hold the derivative: ``weights`` of the ``places``, (window, places)."""

    places: np.ndarray
    weights: np.ndarray


class Pool(NamedTuple):
    """Hold parts of positions, (parts, positions of the longest), and statistics.

    A shorter part repeats its last position, with a share of zero. ``ramps`` are those
    of the bank, (filters, shares, 2).
    """

    positions: np.ndarray
    share: np.ndarray
    statistics: tuple
    ramps: np.ndarray


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


def covariates_of(estimator):
    """Return the columns of the signal, those of the covariates, and the slopes."""
    indices = estimator.covariate_indices_
    signal = np.delete(np.arange(estimator.n_features_in_), indices)
    return signal, indices, getattr(estimator, "covariate_coef_", None)


def signals_of(transformer):
    """Return how a fitted transformer makes signals of X."""
    layout = signal_layout(transformer.input_shape_)
    order = as_signals(np.arange(transformer.n_features_in_)[np.newaxis], layout)[0]
    shift, scale = transformer.shift_, transformer.scale_
    return Signals(order, shift.reshape(len(order), -1), scale.reshape(len(order), -1))


def slope_of(n_places):
    """Return the derivative of signals of this length: its response to an impulse."""
    center, reach = n_places // 2, derivative_window(n_places) // 2
    around = np.arange(-reach, reach + 1)
    response = derivative(np.eye(1, n_places, center)[np.newaxis])[0, 0]
    places = np.clip(around[:, np.newaxis] + np.arange(n_places), 0, n_places - 1)
    return Slope(places, response[center - around])


def bank_of(filters, bank):
    """Return the places of each patch, (taps, positions), and the pools of a bank."""
    index, grid = geometry(filters.layout.lengths, bank.taps, bank.dilation)
    return index, [
        _pool(grid, n_parts, bank.ramps)
        for n_parts in distinct_parts(grid, filters.pooling)
    ]


def _pool(grid, n_parts, ramps):
    """Return the parts of a grid of positions, and their statistics."""
    starts = parts_of(grid, n_parts)
    on_axes = [
        np.searchsorted(begin, np.arange(n), side="right") - 1
        for begin, n in zip(starts, grid, strict=True)
    ]
    counts = [len(begin) for begin in starts]
    part = np.ravel_multi_index(np.ix_(*on_axes), counts).ravel()
    sizes = np.bincount(part)
    first = np.cumsum(sizes) - sizes
    rank = np.arange(sizes.max())
    inside = np.minimum(rank, sizes[:, np.newaxis] - 1)
    positions = np.argsort(part, kind="stable")[first[:, np.newaxis] + inside]
    share = (rank < sizes[:, np.newaxis]) / sizes[:, np.newaxis]
    return Pool(positions, share, statistics_of(grid, n_parts), ramps)


def statistic(name, z, ramps, operations, target):
    """Return a statistic of responses, computed with the operations of a library.

    Parameters
    ----------
    name : str
        One of ``statistics_of``.
    z : array of the library, (rows, filters, positions)
    ramps : array, (filters, shares, 2)
        Responses at which the ramp of each share begins and ends.
    operations : object
        Has ``mean`` and ``maximum`` over the parts, ``absolute``, and ``ramp``, with
        arguments z, begin and width: 0 up to the begin, and 1 from begin plus width.
    target : str
        Name of the library, for the error message.
    """

    def share(number):
        begin, end = ramps[:, number, 0, None], ramps[:, number, 1, None]
        return operations.mean(operations.ramp(z, begin, end - begin))

    functions = {
        **{f"share{i}": functools.partial(share, i) for i in range(ramps.shape[1])},
        "max": lambda: operations.maximum(z),
        "abs": lambda: operations.mean(operations.absolute(z)),
        "mean": lambda: operations.mean(z),
    }
    return known(name, functions, target, kind="statistic")()


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
        steps = [step for step in estimator.steps if step[1] not in (None, NO_STEP)]
        return Pipeline([(name, exported(step)) for name, step in steps])
    if isinstance(estimator, DeepTDRegressorCV | DeepTDClassifierCV):
        check_is_fitted(estimator)
        estimator = estimator.best_estimator_
    models = DeepTDRidge, DeepTDRidgeClassifier, BaseAuto
    transformers = BaseSignalTransformer, StandardScaler
    if not isinstance(estimator, (BasePatchNetwork, *transformers, *models)):
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


def _last_step(estimator):
    is_pipeline = isinstance(estimator, Pipeline)
    return _last_step(estimator[-1]) if is_pipeline else estimator


def dtype_of(estimator):
    """Return the dtype of the weights: float64, but for networks fitted to float32."""
    estimator = _last_step(estimator)
    if isinstance(estimator, BaseAuto):
        return np.result_type(*map(dtype_of, members_of(estimator)))
    if isinstance(estimator, BasePatchNetwork):
        return estimator.intercept_.dtype
    return np.dtype(np.float64)


def has_one_axis(estimator):
    """Return whether the output has one axis: one column of y, or two classes."""
    if is_classifier(estimator):
        return len(estimator.classes_) == 2
    return getattr(_last_step(estimator), "_y_ndim", 2) == 1


def has_log_link(estimator):
    """Return whether the predictions are exponentials of the network's outputs."""
    return getattr(estimator, "link_", "identity") == "log"


def n_columns_of(estimator):
    """Return the number of outputs, of a network's logits, or of a table's columns."""
    estimator = _last_step(estimator)
    if isinstance(estimator, BaseAuto):
        return estimator.weights_.shape[1]
    if isinstance(estimator, DeepTDFeatures):
        return len(estimator.center_)
    if isinstance(estimator, SignalScaler | StandardScaler):
        return estimator.n_features_in_
    return len(estimator.intercept_)
