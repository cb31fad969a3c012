"""Convert fitted estimators to ONNX graphs; onnx is imported with the first.

Nodes are added by functions that take the names of their inputs and return that of
their output, (rows, columns).
"""

import copy

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdeeptd._auto import BaseAuto
from skdeeptd._base import BasePatchNetwork
from skdeeptd._data.signals import CLIP, CONSTANT
from skdeeptd._export.layers import (
    bank_of,
    covariates_of,
    has_log_link,
    is_classifier,
    known,
    layers_of,
    members_of,
    n_columns_of,
    pooled,
    scaling_of,
    signals_of,
    slope_of,
)
from skdeeptd._features import DeepTDFeatures, filters_of
from skdeeptd._init.filters import FAR
from skdeeptd._network.activations import LEAKY_SLOPE
from skdeeptd._network.fitted import layout_of
from skdeeptd._optional import optional
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._ridge_classifier import DeepTDRidgeClassifier

OPSET, IR_VERSION = 17, 8


def onnx_model(estimator, dtype, has_one_axis):
    """Return the model of an estimator, for an input of any dtype.

    Networks are computed in ``dtype``, other models in float64, as in ``predict``. An
    output other than that of a classifier has one axis, or a column for each output.
    """
    add = _OnnxNodes(optional("onnx", extra="onnx"), dtype)
    X = add("Cast", "X", to=add.elements)
    if is_classifier(estimator):
        return add.model(estimator, _classes(add, X, estimator))
    columns = [] if has_one_axis else [n_columns_of(estimator)]
    add("Reshape", _outputs(add, X, estimator), np.array([-1, *columns]), output="y")
    return add.model(estimator, {"y": (add.elements, ["n", *columns])})


def _classes(add, X, estimator):
    """Add the labels and probabilities, and return their types and shapes."""
    labels = _labels_of(estimator)
    scores, probabilities = _scores_and_probabilities(add, X, estimator)
    most_probable = add("ArgMax", scores, axis=1, keepdims=0)
    add("Gather", labels, most_probable, output="label")
    add("Identity", probabilities, output="probabilities")
    of_labels = add.onnx.helper.np_dtype_to_tensor_dtype(labels.dtype)
    return {
        "label": (of_labels, ["n"]),
        "probabilities": (add.elements, ["n", len(labels)]),
    }


def _labels_of(estimator):
    """Return the classes in a dtype of ONNX: int64, or strings as objects."""
    classes = estimator.classes_
    if isinstance(classes[0], str):
        return classes.astype(object)
    labels = classes.astype(np.int64)
    if np.any(labels != classes):
        raise ValueError(
            f"labels in ONNX are int64 or strings, but classes_ are "
            f"{classes.tolist()}; fit y as such integers, or as strings"
        )
    return labels


def _scores_and_probabilities(add, X, estimator):
    """Return scores, the largest for the predicted class, and probabilities."""
    if isinstance(estimator, Pipeline):
        X = _outputs(add, X, estimator[:-1])
        return _scores_and_probabilities(add, X, estimator[-1])
    if isinstance(estimator, BaseAuto):
        return (_average(add, X, estimator),) * 2
    if isinstance(estimator, DeepTDRidgeClassifier):
        return (_in_float64(add, _calibrated, X, estimator),) * 2
    logits = _network(add, X, estimator)
    if n_columns_of(estimator) == 1:  # that of the first class is zero
        logits = add("Pad", logits, np.array([0, 1, 0, 0]))
    return logits, add("Softmax", logits, axis=1)


def _calibrated(add, X, classifier):
    scores = _ridge(add, X, classifier.regressor_)
    prior, weight = classifier.prior_, classifier.prior_weight_
    beyond = add("Mul", add("Sub", scores, prior), classifier.factor_)
    softmax = add("Softmax", add("Add", beyond, np.log(prior)), axis=1)
    return add("Add", add("Mul", softmax, 1 - weight), weight * prior)


def _outputs(add, X, estimator):
    if isinstance(estimator, Pipeline):
        for _, step in estimator.steps:
            X = _outputs(add, X, step)
        return X
    if isinstance(estimator, BasePatchNetwork):
        return _network(add, X, estimator)
    if isinstance(estimator, BaseAuto):
        return _average(add, X, estimator)
    function = _scaled if isinstance(estimator, StandardScaler) else _table
    function = _ridge if isinstance(estimator, DeepTDRidge) else function
    return _in_float64(add, function, X, estimator)


def _average(add, X, estimator):
    """Average outputs, or the probabilities of classes."""
    parts = []
    for member, weight in zip(members_of(estimator), estimator.weights_, strict=True):
        if is_classifier(estimator):
            _, outputs = _scores_and_probabilities(add, X, member)
        else:
            outputs = _outputs(add, X, member)
        parts.append(add("Mul", outputs, weight))
    return add("Sum", *parts)


def _in_float64(add, function, X, estimator):
    """Compute a function in float64, with input and output in the dtype of the graph.

    A derivative, and a sum of kernels that nearly cancel, lose too much in float32.
    """
    double = add.of_dtype(np.float64)
    y = function(double, double("Cast", X, to=double.elements), estimator)
    return add("Cast", y, to=add.elements)


def _network(add, X, estimator):
    signal, covariates, slopes = covariates_of(estimator)
    h = add("Gather", X, signal, axis=1) if len(covariates) else X
    orders, channels = layout_of(estimator).orders, 1
    for layer, order in zip(layers_of(estimator), orders, strict=True):
        kernels, biases, activation = layer
        h = _patches(add, h, order, channels)
        h = add("Reshape", h, np.array([channels, -1, kernels.shape[1]]))
        z = add("MatMul", h, kernels[:, :, np.newaxis])
        if biases is not None:
            z = add("Add", z, biases[:, np.newaxis, np.newaxis])
        h = known(activation, _ONNX_ACTIVATIONS, "ONNX")(add, z)
        channels = len(kernels)
    scales, intercept = estimator.scales_, estimator.intercept_
    h = add("Reshape", h, np.array([*scales.shape, -1]))
    h = add("MatMul", scales[:, np.newaxis, :], h)
    h = add("Add", h, intercept[:, np.newaxis, np.newaxis])
    h = add("Transpose", h, perm=[2, 0, 1])
    h = add("Reshape", h, np.array([-1, n_columns_of(estimator)]))
    if len(covariates):
        own = add("MatMul", add("Gather", X, covariates, axis=1), slopes.T)
        h = add("Add", h, own)
    return add("Exp", h) if has_log_link(estimator) else h


def _scaled(add, X, scaler):
    shift, scale = scaling_of(scaler)
    return add("Div", add("Sub", X, shift), scale)


def _table(add, X, transformer):
    """Return the features of a transformer."""
    order, shift, scale = signals_of(transformer)
    x = add("Gather", X, order, axis=1)
    if transformer.view_ is not None:
        x = known(transformer.view_, _ONNX_VIEWS, "ONNX", "view")(add, x, order.shape)
    if not isinstance(transformer, DeepTDFeatures):
        return add("Flatten", _standard(add, x, shift, scale, CLIP), axis=1)
    x, columns = _standard(add, x, shift, scale, FAR), []
    filters = filters_of(transformer)
    for bank in filters.banks:
        index, pools = bank_of(filters, bank)
        patches = add("Gather", x, index, axis=2)
        patches = add("Reshape", patches, np.array([0, -1, index.shape[1]]))
        z = add("MatMul", bank.kernels, patches)
        z = add("Add", z, bank.biases[:, np.newaxis])
        columns += [c for pool in pools for c in _pooled(add, z, **pool)]
    raw = add("Concat", *columns, axis=1)
    return _standard(add, raw, filters.center, filters.unit, filters.clip)


def _standard(add, x, shift, scale, clip):
    return add("Clip", add("Div", add("Sub", x, shift), scale), -clip, clip)


def _derivative(add, x, shape):
    slope = slope_of(shape[1])
    places = add("Gather", x, slope["places"], axis=2)
    slopes = add("MatMul", slope["weights"][np.newaxis], places)
    return add("Squeeze", slopes, np.array([2]))


def _snv(add, x, shape):
    """Compute ``standard_normal_variate``."""
    size = add("ReduceMax", add("Abs", x), axes=[2])
    x = add("Div", x, add("Where", add("Greater", size, 0.0), size, 1.0))
    x = add("Sub", x, add("ReduceMean", x, axes=[2]))
    square = add("ReduceMean", add("Mul", x, x), axes=[2])
    varies = add("Greater", square, (CONSTANT * np.finfo(add.dtype).eps) ** 2)
    x = add("Div", x, add("Sqrt", add("Where", varies, square, 1.0)))
    return add("Where", varies, x, 0.0)


def _pooled(add, z, positions, share, statistics, ramps):
    """Return the statistics of the parts of the positions."""

    def mean(values):
        shares = add("Mul", add("Gather", values, positions, axis=2), share)
        total = add("ReduceSum", shares, np.array([3]), keepdims=0)
        return add("Flatten", total, axis=1)

    def maximum(values):
        parts = add("Gather", values, positions, axis=2)
        return add("Flatten", add("ReduceMax", parts, axes=[3], keepdims=0), axis=1)

    def ramp(values, begin, width):
        return add("Clip", add("Div", add("Sub", values, begin), width), 0.0, 1.0)

    def absolute(values):
        return add("Abs", values)

    functions = {"mean": mean, "maximum": maximum, "ramp": ramp, "absolute": absolute}
    return pooled(z, statistics, ramps, "ONNX", **functions)


def _ridge(add, X, ridge):
    signal, covariates, slopes = covariates_of(ridge)
    table = _table(add, add("Gather", X, signal, axis=1), ridge.features_)
    offset = ridge.intercept_
    if len(covariates):
        own = add("Gather", X, covariates, axis=1)
        own = add("Sub", own, ridge.covariate_shift_)
        offset = add("Add", add("MatMul", own, slopes.T), offset)
    if ridge.kernel_ == "linear":
        return add("Add", add("MatMul", table, ridge.coef_.T), offset)
    if len(covariates):
        own = _standard(add, own, 0.0, ridge.covariate_scale_, CLIP)
        own = add("Mul", own, ridge.covariate_weight_)
        table = add("Concat", table, own, axis=1)
    if hasattr(ridge, "components_"):
        table = add("MatMul", table, ridge.components_.T)
    gram = _kernel(add, table, ridge)
    return add("Add", add("MatMul", gram, ridge.dual_coef_), offset)


def _kernel(add, table, ridge):
    rows = ridge.X_fit_
    squares = add("ReduceSum", add("Mul", table, table), np.array([1]), keepdims=1)
    squares = add("Add", squares, np.sum(rows**2, axis=1))
    squares = add("Relu", add("Sub", squares, add("MatMul", table, 2 * rows.T)))
    distances = {"rbf": lambda: squares, "laplace": lambda: add("Sqrt", squares)}
    of_kernel = known(ridge.kernel_, distances, "ONNX", kind="kernel")()
    return add("Exp", add("Mul", of_kernel, -ridge.gamma_))


def _patches(add, h, order, channels):
    """Return a layer in the order of the patches; -1 is the zero appended to it."""
    if order is None:
        return h
    h = add("Reshape", h, np.array([channels, -1, 1 + order.max()]))
    if order.min() < 0:
        h = add("Pad", h, np.array([0, 0, 0, 0, 0, 1]))
    return add("Gather", h, order, axis=2)


class _OnnxNodes:
    """Add nodes by the name of an operator; numbers and arrays become constants."""

    def __init__(self, onnx, dtype):
        self.onnx, self.dtype = onnx, np.dtype(dtype)
        self.nodes, self.constants = [], []

    @property
    def elements(self):
        return self.onnx.helper.np_dtype_to_tensor_dtype(self.dtype)

    def of_dtype(self, dtype):
        """Return a builder of the same graph, with constants of this dtype."""
        other = copy.copy(self)
        other.dtype = np.dtype(dtype)
        return other

    def __call__(self, operator, *inputs, output=None, **attributes):
        names = [i if isinstance(i, str) else self._constant(i) for i in inputs]
        output = output or f"{operator}{len(self.nodes)}"
        node = self.onnx.helper.make_node(
            operator, names, [output], name=output, **attributes
        )
        self.nodes.append(node)
        return output

    def model(self, estimator, outputs):
        """Return the graph from X to the outputs of these names, types and shapes."""
        helper, name = self.onnx.helper, type(estimator).__name__
        tensor = helper.make_tensor_value_info
        X = tensor("X", self.elements, ["n", estimator.n_features_in_])
        outputs = [tensor(name, *of_tensor) for name, of_tensor in outputs.items()]
        return helper.make_model(
            helper.make_graph(self.nodes, name, [X], outputs, self.constants),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="skdeeptd",
        )

    def _constant(self, value):
        array = np.asarray(value)
        if array.dtype.kind == "f":
            array = array.astype(self.dtype)
        name = f"c{len(self.constants)}"
        self.constants.append(self.onnx.numpy_helper.from_array(array, name))
        return name


def _onnx_logistic(add, z):
    return add("Div", 1.0, add("Add", add("Exp", add("Neg", z)), 1.0))


def _onnx_softplus(add, z):
    """Compute max(z, 0) + log(1 + u), u = exp(-|z|), and correct 1 + u for rounding."""
    u = add("Exp", add("Neg", add("Abs", z)))
    one_plus_u = add("Add", u, 1.0)
    lost = add("Sub", u, add("Sub", one_plus_u, 1.0))
    log = add("Add", add("Log", one_plus_u), add("Div", lost, one_plus_u))
    return add("Add", add("Relu", z), log)


_ONNX_ACTIVATIONS = {
    "relu": lambda add, z: add("Relu", z),
    "leaky_relu": lambda add, z: add("Max", z, add("Mul", z, LEAKY_SLOPE)),
    "identity": lambda add, z: z,
    "tanh": lambda add, z: add("Tanh", z),
    "softplus": _onnx_softplus,
    "logistic": _onnx_logistic,
}

_ONNX_VIEWS = {"derivative": _derivative, "snv": _snv}
