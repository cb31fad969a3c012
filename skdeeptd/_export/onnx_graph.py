"""Convert fitted estimators to ONNX graphs; onnx is imported with the first.

Nodes are added by functions that take the names of their inputs and give that of their
output, (rows, columns).
"""

import itertools

import numpy as np

from skdeeptd._auto import DeepTDAutoRegressor
from skdeeptd._export.layers import Layer, has_log_link, known, layers_of, n_columns_of
from skdeeptd._features import DeepTDFeatures, filters_of
from skdeeptd._init.filters import pooled_statistics
from skdeeptd._network.activations import LEAKY_SLOPE
from skdeeptd._network.fitted import layout_of
from skdeeptd._optional import optional
from skdeeptd._ridge import DeepTDRidge

OPSET, IR_VERSION = 17, 8


def onnx_model(estimator, dtype, columns):
    """Return the model of an estimator, computed in ``dtype`` for any input dtype.

    ``columns`` is [] for an output of one axis, else [n_outputs].
    """
    add = _OnnxNodes(optional("onnx", extra="onnx"), dtype)
    y = _outputs(add, add("Cast", "X", to=add.elements), estimator)
    add("Reshape", y, np.array([-1, *columns]), output="y")
    return add.model(estimator, {"y": (add.elements, ["n", *columns])})


def onnx_classifier(estimator, dtype):
    """Return the model of a classifier, with labels and probabilities."""
    onnx, labels = optional("onnx", extra="onnx"), _labels_of(estimator)
    add = _OnnxNodes(onnx, dtype)
    logits = _network(add, add("Cast", "X", to=add.elements), estimator)
    if n_columns_of(estimator) == 1:  # that of the first class is zero
        logits = add("Pad", logits, np.array([0, 1, 0, 0]))
    most_probable = add("ArgMax", logits, axis=1, keepdims=0)
    add("Gather", labels, most_probable, output="label")
    add("Softmax", logits, axis=1, output="probabilities")
    of_labels = onnx.helper.np_dtype_to_tensor_dtype(labels.dtype)
    outputs = {
        "label": (of_labels, ["n"]),
        "probabilities": (add.elements, ["n", len(labels)]),
    }
    return add.model(estimator, outputs)


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


def _outputs(add, X, estimator):
    if isinstance(estimator, DeepTDAutoRegressor):
        return _mean(add, X, estimator)
    if isinstance(estimator, DeepTDRidge):
        return _ridge(add, X, estimator)
    if isinstance(estimator, DeepTDFeatures):
        return _features(add, X, estimator)
    return _network(add, X, estimator)


def _network(add, X, estimator):
    orders, h, channels = layout_of(estimator).orders, X, 1
    for layer, order in zip(layers_of(estimator), orders, strict=True):
        h = _patches(add, h, order, channels)
        h = _activation(add, _pre_activation(add, h, layer, channels), layer)
        channels = len(layer.kernels)
    scales, intercept = estimator.scales_, estimator.intercept_
    h = add("Reshape", h, np.array([*scales.shape, -1]))
    h = add("MatMul", scales[:, np.newaxis, :], h)
    h = add("Add", h, intercept[:, np.newaxis, np.newaxis])
    h = add("Transpose", h, perm=[2, 0, 1])
    h = add("Reshape", h, np.array([-1, n_columns_of(estimator)]))
    return add("Exp", h) if has_log_link(estimator) else h


def _features(add, X, features):
    """Standardize, apply the filters, and standardize the responses."""
    filters = filters_of(features)
    X = add("Div", add("Sub", X, filters.shift), filters.scale)
    columns = []
    for bank in filters.banks:
        columns += _bank(add, X, bank, filters.pooling, len(filters.shift))
    raw = add("Concat", *columns, axis=1)
    raw = add("Div", add("Sub", raw, filters.center), filters.unit)
    return add("Clip", raw, -filters.clip, filters.clip)


def _bank(add, X, bank, pooling, n_features):
    """Return the columns of the filters of one size."""
    layer = Layer(bank.kernels[0], bank.biases[0], bank.activations[0])
    order = bank.orders[0]
    n_filters, size = layer.kernels.shape
    n_patches = (n_features if order is None else len(order)) // size
    z = _pre_activation(add, _patches(add, X, order, 1), layer, 1)
    z = add("Reshape", z, np.array([n_filters, -1, n_patches]))
    z = add("Transpose", z, perm=[1, 0, 2])
    h = _activation(add, z, layer)
    return [
        _statistic(add, statistic, z, h)
        for statistic in pooled_statistics(pooling, n_patches)
    ]


def _statistic(add, statistic, z, h):
    kind, patches, _ = statistic
    ends = [np.array([i]) for i in (patches.start, patches.stop, 2)]
    z, h = (add("Slice", values, *ends) for values in (z, h))
    return known(kind, _ONNX_STATISTICS, "ONNX", kind="statistic")(add, z, h)


def _ridge(add, X, ridge):
    table = _features(add, X, ridge.features_)
    coef = ridge.dual_coef_ if ridge.kernel_ == "rbf" else ridge.coef_.T
    if ridge.kernel_ == "rbf":
        table = _rbf(add, table, ridge.X_fit_, ridge.gamma_)
    return add("Add", add("MatMul", table, coef), ridge.intercept_)


def _rbf(add, table, rows, gamma):
    squares = add("ReduceSum", add("Mul", table, table), np.array([1]), keepdims=1)
    squares = add("Add", squares, np.sum(rows**2, axis=1))
    distances = add("Sub", squares, add("MatMul", table, 2 * rows.T))
    return add("Exp", add("Mul", add("Relu", distances), -gamma))


def _mean(add, X, estimator):
    members = [
        add("Mul", _outputs(add, X, member), weights)
        for member, weights in zip(
            estimator.estimators_, estimator.weights_, strict=True
        )
    ]
    return add("Sum", *members)


def _patches(add, h, order, channels):
    """Return a layer in the order of the patches; -1 is the zero appended to it."""
    if order is None:
        return h
    h = add("Reshape", h, np.array([channels, -1, 1 + order.max()]))
    if order.min() < 0:
        h = add("Pad", h, np.array([0, 0, 0, 0, 0, 1]))
    return add("Gather", h, order, axis=2)


def _pre_activation(add, h, layer, channels):
    h = add("Reshape", h, np.array([channels, -1, layer.kernels.shape[1]]))
    z = add("MatMul", h, layer.kernels[:, :, np.newaxis])
    if layer.biases is None:
        return z
    return add("Add", z, layer.biases[:, np.newaxis, np.newaxis])


def _activation(add, z, layer):
    return known(layer.activation, _ONNX_ACTIVATIONS, "ONNX")(add, z)


class _OnnxNodes:
    """Add nodes by the name of an operator; numbers and arrays become constants."""

    def __init__(self, onnx, dtype):
        self.onnx, self.dtype = onnx, np.dtype(dtype)
        self.elements = onnx.helper.np_dtype_to_tensor_dtype(self.dtype)
        self.nodes, self.constants = [], []

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
        of_X = self.elements, ["n", estimator.n_features_in_]
        X, *outputs = itertools.starmap(
            self.onnx.helper.make_tensor_value_info,
            ((name, *of_tensor) for name, of_tensor in {"X": of_X, **outputs}.items()),
        )
        name = type(estimator).__name__
        graph = self.onnx.helper.make_graph(
            self.nodes, name, [X], outputs, initializer=self.constants
        )
        return self.onnx.helper.make_model(
            graph,
            opset_imports=[self.onnx.helper.make_opsetid("", OPSET)],
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


def _onnx_positive(add, z, h):
    above = add("Cast", add("Greater", z, 0.0), to=add.elements)
    return add("ReduceMean", above, axes=[2], keepdims=0)


_ONNX_STATISTICS = {
    "each": lambda add, z, h: add("Flatten", h, axis=1),
    "mean": lambda add, z, h: add("ReduceMean", h, axes=[2], keepdims=0),
    "positive": _onnx_positive,
    "max": lambda add, z, h: add("ReduceMax", z, axes=[2], keepdims=0),
}
