"""Convert fitted estimators to torch modules and ONNX graphs, and save them safely.

torch, onnx and skl2onnx are imported only by the function that needs them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import DTypeLike
from sklearn.base import BaseEstimator

from skdeeptd._auto import DeepTDAutoClassifier, DeepTDAutoRegressor
from skdeeptd._classifier import DeepTDClassifier
from skdeeptd._export.layers import dtype_of, exported, has_one_axis, n_columns_of
from skdeeptd._export.onnx_graph import onnx_model
from skdeeptd._features import DeepTDFeatures, SignalScaler
from skdeeptd._optional import optional
from skdeeptd._regressor import DeepTDRegressor
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._ridge_classifier import DeepTDRidgeClassifier
from skdeeptd._search_cv import DeepTDClassifierCV, DeepTDRegressorCV

if TYPE_CHECKING:
    import onnx
    import torch

REGRESSORS = DeepTDRegressor, DeepTDRegressorCV, DeepTDAutoRegressor, DeepTDRidge
CLASSIFIERS = (
    DeepTDClassifier,
    DeepTDClassifierCV,
    DeepTDAutoClassifier,
    DeepTDRidgeClassifier,
)
TRANSFORMERS = DeepTDFeatures, SignalScaler
#: Names of the estimator classes of this package, for ``trusted`` of ``skops.io.load``.
TRUSTED_TYPES = [
    *("skdeeptd.dask.DaskDeepTDClassifier", "skdeeptd.dask.DaskDeepTDRegressor"),
    *(f"{c.__module__}.{c.__name__}" for c in REGRESSORS + CLASSIFIERS + TRANSFORMERS),
]


def to_torch(estimator: BaseEstimator) -> torch.nn.Module:
    """Convert a fitted estimator to a torch module that can be trained further.

    >>> import torch
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.export import to_torch
    >>> X, y = make_patch_cnn_regression(n_samples=200, random_state=0)
    >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0).fit(X, y)
    >>> network = to_torch(model)
    >>> network.conv2
    Conv1d(1, 1, kernel_size=(4,), stride=(4,), bias=False)
    >>> output = network(torch.from_numpy(X))
    >>> bool(abs(output.detach().numpy() - model.predict(X)).max() < 1e-12)
    True

    Parameters
    ----------
    estimator : estimator
        Any estimator of this package, fitted, except those of ``skdeeptd.dask``. All
        models of an average must be of this package, too. A Pipeline may contain these
        estimators and StandardScaler.

    Returns
    -------
    torch.nn.Module
        The output is that of ``predict`` or ``transform``, in the same shape, or the
        logits of a classifier. The input is a tensor of shape (n_samples, n_features)
        or (n_samples,) + input_shape, in the dtype of the weights: float32 for networks
        that were fitted to float32, else float64. See Notes for the modules.

    Raises
    ------
    ImportError
        If torch is not installed.
    TypeError
        If ``estimator``, or a model of an average, is not of this package.
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    ValueError
        If fitted attributes do not fit each other, or if torch has no counterpart of an
        activation.

    See Also
    --------
    to_onnx : Converts to a graph that runs without Python.

    Notes
    -----
    *Logits* of two classes have the shape (n_samples,), for
    ``torch.nn.BCEWithLogitsLoss`` with targets of 0.0 and 1.0. Logits of more classes
    have the shape (n_samples, n_classes), for ``torch.nn.CrossEntropyLoss`` with the
    index of the class in ``classes_``. Their sigmoid or softmax gives the probabilities
    of ``predict_proba``. The logits of a DeepTDClassifier are those of
    ``decision_function``; the logits of other classifiers are logarithms of the
    probabilities, or for two classes the difference of these logarithms.

    The module of a DeepTDRegressor or DeepTDClassifier is a Sequential:

    - ``input``: samples as one channel of shape ``input_shape``.
    - ``pad``: zeros at the end of the axes, if patches reach beyond it.
    - ``conv1``, ``activation1``, ``conv2``, ...: a Conv1d, Conv2d or Conv3d per layer
      with its kernel size and stride, and a channel per filter and output. Filters do
      not share weights, so each channel is a group from the second layer on. The
      kernels are multiplied by their gains. There are biases with ``hidden_bias``.
    - ``sum``: a convolution of kernel size 1 that adds the filters of an output. Its
      weights are the scales, its bias is the intercept.
    - With covariates ``sum`` contains these modules as ``of_signal``, and a Linear
      ``of_covariates``; X has the shape (n_samples, n_features).
    - ``mean``: the exponential, only with ``loss="poisson"``.
    - ``output``: a Flatten to the shape of y, or of the logits.

    The module of DeepTDFeatures or a SignalScaler is a Sequential:

    - ``input``, ``signals``: samples as signals, (n_samples, n_channels, n_positions).
    - ``view``: the derivative or standard normal variate, if there is one.
    - ``standard``: the standardized signals.
    - ``banks``, only for DeepTDFeatures: a ``conv`` for each size and dilation, and the
      statistics of its responses. The kernels and biases of ``conv`` can be trained.
    - ``output``: the standardized and clipped responses, or a Flatten.

    The module of a DeepTDRidge or DeepTDRidgeClassifier is a Sequential of
    ``features``; a Linear ``metric``, if the metric is learned; ``kernel``, unless the
    kernel is linear; a Linear ``ridge``; and ``output``. The rows and ``gamma`` of the
    kernel are not trained. The kernel is computed from differences, not from products,
    so that it is accurate in float32, too. Models with a small ``alpha_`` add large
    numbers that nearly cancel; keep these models in float64.

    The module of a DeepTDAutoRegressor or DeepTDAutoClassifier is the average of
    ``members``, with ``weights`` that are not trained. The module of a
    DeepTDRegressorCV or DeepTDClassifierCV is that of ``best_estimator_``. The module
    of a Pipeline is a Sequential of the modules of its steps.

    torch has no convolution over more than three axes. For samples of four axes or more
    a layer is a Conv1d over one axis with its patches side by side; a step
    ``patches1``, ``patches2``, ... before the layer sorts its input if necessary. The
    ``conv`` of DeepTDFeatures is always a Conv1d of kernel size 1 over patches side by
    side.
    """
    estimator = exported(estimator)
    torch_modules = importlib.import_module("skdeeptd._export.torch_modules")
    return torch_modules.module_of(estimator)


def to_onnx(
    estimator: BaseEstimator, dtype: DTypeLike | None = None
) -> onnx.ModelProto:
    """Convert a fitted estimator to an ONNX model, to predict without Python.

    >>> import onnxruntime
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.export import to_onnx
    >>> X, y = make_patch_cnn_regression(n_samples=200, random_state=0)
    >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0).fit(X, y)
    >>> session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString())
    >>> (output,) = session.run(None, {"X": X})
    >>> bool(abs(output - model.predict(X)).max() < 1e-12)
    True

    Parameters
    ----------
    estimator : estimator
        Any estimator of this package, fitted, except those of ``skdeeptd.dask``. All
        models of an average must be of this package, too. A Pipeline may contain these
        estimators and StandardScaler; for other steps see :func:`register_skl2onnx`.
    dtype : float32 or float64, default=None
        Dtype of X and of the output. Networks are computed in this dtype, all other
        models in float64. None takes float32 for networks that were fitted to float32,
        else float64.

    Returns
    -------
    onnx.ModelProto
        Model with opset 17 and IR version 8. The input ``X`` has the shape (n_samples,
        n_features) for any number of samples. The output ``y`` is that of ``predict``
        or ``transform``, in the same shape. Pass samples of several axes as
        ``X.reshape(len(X), -1)``.

        A classifier has two outputs: ``label``, as from ``predict``, of shape
        (n_samples,), int64 or strings, and ``probabilities``, as from
        ``predict_proba``, of shape (n_samples, n_classes).

    Raises
    ------
    ImportError
        If onnx is not installed.
    TypeError
        If ``estimator``, or a model of an average, is not of this package.
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    ValueError
        If ``dtype`` is another one, if fitted attributes do not fit each other, if ONNX
        has no counterpart of an activation, or if a class is a number beyond int64.

    See Also
    --------
    to_torch : Converts to a module that can be trained further.

    Notes
    -----
    A layer is a Reshape and a MatMul, because onnxruntime has no float64 Conv on a CPU.
    A Gather comes first if the values are not in the order of the patches, for example
    if patches overlap. A bank of filters is a Gather and a MatMul, too. Activations
    that onnxruntime does not compute exactly in float64 are composed of simpler
    operators.
    """
    estimator = exported(estimator)
    dtype = dtype_of(estimator) if dtype is None else np.dtype(dtype)
    if dtype not in (np.float32, np.float64):
        raise ValueError(f"dtype must be float32 or float64, got {dtype.name}")
    return onnx_model(estimator, dtype, has_one_axis(estimator))


def register_skl2onnx() -> None:
    """Register the estimators of this package with skl2onnx, to convert a Pipeline.

    >>> import onnxruntime, skl2onnx
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.export import register_skl2onnx
    >>> X, y = make_patch_cnn_regression(n_samples=200, random_state=0)
    >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    >>> register_skl2onnx()
    >>> graph = skl2onnx.to_onnx(pipeline, X)
    >>> session = onnxruntime.InferenceSession(graph.SerializeToString())
    >>> (output,) = session.run(None, {"X": X})
    >>> bool(abs(output[:, 0] - pipeline.predict(X)).max() < 1e-12)
    True

    Call this function once, before ``skl2onnx.to_onnx``. As for all regressors of
    skl2onnx, the output has the shape (n_samples, n_outputs), also for y of one axis.
    The output is float64 if the input is float64, else float32. Networks are computed
    in that dtype, all other models in float64. As for all classifiers of skl2onnx, the
    outputs are the label and a sequence of mappings. With the option ``zipmap=False``
    they are ``label`` and ``probabilities``, as in :func:`to_onnx`.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.

    See Also
    --------
    to_onnx : Converts the estimator alone, without skl2onnx.
    """
    skl2onnx = optional("skl2onnx", extra="onnx")
    types = optional("skl2onnx.common.data_types", extra="onnx")
    shapes = optional("skl2onnx.common.shape_calculator", extra="onnx")
    integration = optional("skl2onnx.helpers.integration", extra="onnx")

    def set_output_type(operator: Any) -> None:
        estimator = exported(operator.raw_operator)
        (X,), (y,) = operator.inputs, operator.outputs
        is_double = isinstance(X.type, types.DoubleTensorType)
        of_dtype = types.DoubleTensorType if is_double else types.FloatTensorType
        y.set_type(of_dtype([X.get_first_dimension(), n_columns_of(estimator)]))

    def convert(scope: Any, operator: Any, container: Any) -> None:
        dtype = types.guess_numpy_type(operator.outputs[-1].type)
        model = onnx_model(exported(operator.raw_operator), dtype, has_one_axis=False)
        integration.add_onnx_graph(scope, operator, container, model)

    register = skl2onnx.update_registered_converter
    for known in (*REGRESSORS, *TRANSFORMERS):
        register(known, f"Skdeeptd{known.__name__}", set_output_type, convert)
    set_output_types = shapes.calculate_linear_classifier_output_shapes
    options = {"zipmap": [True, False, "columns"], "nocl": [False]}
    for known in CLASSIFIERS:
        name = f"Skdeeptd{known.__name__}"
        register(known, name, set_output_types, convert, options=options)
