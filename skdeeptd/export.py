"""A fitted network as a torch module or an ONNX graph.

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
intercept. torch, onnx and skl2onnx are imported only by the function that needs them.
"""

import itertools
import math
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from sklearn.utils.validation import check_is_fitted

from skdeeptd._base import BasePatchNetwork
from skdeeptd._model.activations import LEAKY_SLOPE
from skdeeptd._model.fitted import layout_of, networks_of
from skdeeptd._optional import optional
from skdeeptd._regressor import DeepTDRegressor

OPSET, IR_VERSION = 17, 8
MOST_AXES = 3  # of torch's convolutions
SOFTPLUS_THRESHOLD = 40.0  # from where log(1 + e^z) is z, in float64 too


class _Layer(NamedTuple):
    kernels: np.ndarray
    biases: np.ndarray | None
    activation: str


def to_torch(estimator):
    """Make a torch module of the network, to train it further.

    Parameters
    ----------
    estimator : DeepTDRegressor
        Fitted. Of a DeepTDRegressorCV take ``best_estimator_``, where it is one.

    Returns
    -------
    torch.nn.Sequential
        Its output is that of ``predict``, of the same shape. It takes a tensor of shape
        (n_samples, n_features) or (n_samples,) + input_shape, in the dtype of
        ``kernels_``, which is that of all its weights. Its steps:

        - ``input``: samples as one channel of shape ``input_shape``.
        - ``pad``: zeros at the end of the axes, where patches reach beyond it.
        - ``conv1``, ``activation1``, ``conv2``, ...: a Conv1d, Conv2d or Conv3d per
          layer, of its kernel size and stride, with a channel per filter and output.
          Filters do not share weights, so from the second layer on each channel is a
          group. The kernels have their gains in them. There are biases if
          ``hidden_bias``.
        - ``sum``: a convolution of kernel size 1 that adds the filters of an output;
          its weights are the scales, its bias is the intercept, also where that is
          zero.
        - ``output``: a Flatten, to the shape of y.

    Raises
    ------
    ImportError
        Where torch is not installed.
    TypeError
        Where ``estimator`` is something else.
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    ValueError
        Where its attributes do not fit each other, or an activation is unknown.

    See Also
    --------
    to_onnx : A graph that runs without Python.

    Notes
    -----
    torch has no convolution over more than three axes. Samples of four axes or more
    become one axis of patches side by side: before a layer whose patches are not so in
    the output of the layer below, a step ``patches1``, ``patches2``, ... takes its
    values in their order, and the layer is a Conv1d of the stride of its kernel size.

    Examples
    --------
    >>> import torch
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.export import to_torch
    >>> X, y, _ = make_patch_cnn_regression(n_samples=200, random_state=0)
    >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0).fit(X, y)
    >>> network = to_torch(model)
    >>> network.conv2
    Conv1d(1, 1, kernel_size=(4,), stride=(4,), bias=False)
    >>> output = network(torch.from_numpy(X))
    >>> bool(abs(output.detach().numpy() - model.predict(X)).max() < 1e-12)
    True
    """
    _check_is_fitted_network(estimator)
    torch = optional("torch", extra="torch")
    networks, axes, channels = networks_of(estimator), _axes(layout_of(estimator)), 1
    modules = OrderedDict(input=_input(estimator.input_shape_, axes.shape))
    if any(axes.zeros):
        at_the_end = [n for zeros in reversed(axes.zeros) for n in (0, zeros)]
        pad = getattr(torch.nn, f"ConstantPad{len(axes.shape)}d")
        modules["pad"] = pad(at_the_end, 0.0)
    for number, (layer, *where, order) in enumerate(
        zip(_layers(networks), axes.kernel_shapes, axes.strides, axes.orders), 1
    ):
        if order is not None:
            modules[f"patches{number}"] = _patches(order)
        modules[f"conv{number}"] = _conv(channels, layer.kernels, layer.biases, *where)
        modules[f"activation{number}"] = _torch_activation(torch, layer.activation)
        channels = len(layer.kernels)
    ones = (1,) * len(axes.shape)
    modules["sum"] = _conv(
        channels, estimator.scales_, estimator.intercept_, ones, ones
    )
    modules["output"] = torch.nn.Flatten(0 if estimator.y_ndim_ == 1 else 1)
    return torch.nn.Sequential(modules)


def to_onnx(estimator):
    """Make an ONNX model of the network, to predict without Python.

    Parameters
    ----------
    estimator : DeepTDRegressor
        Fitted. For a Pipeline see :func:`register_skl2onnx`.

    Returns
    -------
    onnx.ModelProto
        Of opset 17 and IR version 8. Its input ``X`` has the shape (n_samples,
        n_features) for any number of samples and the dtype of ``kernels_``; its output
        ``y`` is that of ``predict``, of the same shape. Samples of several axes are
        passed as ``X.reshape(len(X), -1)``.

    Raises
    ------
    ImportError
        Where onnx is not installed.
    TypeError
        Where ``estimator`` is something else.
    sklearn.exceptions.NotFittedError
        Before ``fit``.
    ValueError
        Where its attributes do not fit each other, or an activation is unknown.

    See Also
    --------
    to_torch : A module to train further.

    Notes
    -----
    A layer is a Reshape and a MatMul, not a Conv, for which onnxruntime has no float64
    on a CPU; where the values below are not in patch order, as where patches overlap, a
    Gather comes before. Where onnxruntime has no float64 for an activation, or not to
    the last digits, the activation is composed of simpler operators.

    Examples
    --------
    >>> import onnxruntime
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.export import to_onnx
    >>> X, y, _ = make_patch_cnn_regression(n_samples=200, random_state=0)
    >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0).fit(X, y)
    >>> session = onnxruntime.InferenceSession(to_onnx(model).SerializeToString())
    >>> (output,) = session.run(None, {"X": X})
    >>> bool(abs(output - model.predict(X)).max() < 1e-12)
    True
    """
    _check_is_fitted_network(estimator)
    columns = [] if estimator.y_ndim_ == 1 else [len(estimator.scales_)]
    return _onnx_model(estimator, estimator.intercept_.dtype, columns)


def register_skl2onnx():
    """Tell skl2onnx how to convert a DeepTDRegressor inside a Pipeline.

    Call it once, before ``skl2onnx.to_onnx``. As for all regressors there, the output
    has two axes, of shape (n_samples, n_outputs), also where y had one; the network
    computes in float64 if its input does, else in float32.

    Raises
    ------
    ImportError
        Where skl2onnx is not installed.

    See Also
    --------
    to_onnx : For the network alone, without skl2onnx.

    Examples
    --------
    >>> import onnxruntime, skl2onnx
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.export import register_skl2onnx
    >>> X, y, _ = make_patch_cnn_regression(n_samples=200, random_state=0)
    >>> model = DeepTDRegressor(kernel_sizes=(4, 4, 4), random_state=0)
    >>> pipeline = make_pipeline(StandardScaler(), model).fit(X, y)
    >>> register_skl2onnx()
    >>> graph = skl2onnx.to_onnx(pipeline, X)
    >>> session = onnxruntime.InferenceSession(graph.SerializeToString())
    >>> (output,) = session.run(None, {"X": X})
    >>> bool(abs(output[:, 0] - pipeline.predict(X)).max() < 1e-12)
    True
    """
    skl2onnx = optional("skl2onnx", extra="onnx")
    types = optional("skl2onnx.common.data_types", extra="onnx")
    integration = optional("skl2onnx.helpers.integration", extra="onnx")

    def set_output_type(operator):
        _check_is_fitted_network(operator.raw_operator)
        (X,), (y,) = operator.inputs, operator.outputs
        is_double = isinstance(X.type, types.DoubleTensorType)
        of_dtype = types.DoubleTensorType if is_double else types.FloatTensorType
        n_outputs = len(operator.raw_operator.scales_)
        y.set_type(of_dtype([X.get_first_dimension(), n_outputs]))

    def convert(scope, operator, container):
        estimator, (y,) = operator.raw_operator, operator.outputs
        dtype, columns = types.guess_numpy_type(y.type), [len(estimator.scales_)]
        model = _onnx_model(estimator, dtype, columns)
        integration.add_onnx_graph(scope, operator, container, model)

    skl2onnx.update_registered_converter(
        DeepTDRegressor, "SkdeeptdDeepTDRegressor", set_output_type, convert
    )


def _check_is_fitted_network(estimator):
    if not isinstance(estimator, BasePatchNetwork):
        raise TypeError(
            f"only a DeepTDRegressor can be exported, not a "
            f"{type(estimator).__name__}; of a Pipeline take the step that is one, "
            f"and the best_estimator_ of a DeepTDRegressorCV where that is one"
        )
    check_is_fitted(estimator)


def _layers(networks):
    """The layers of all networks, their filters side by side."""
    kernels, biases = (
        [np.concatenate(of_layer) for of_layer in zip(*by_network, strict=True)]
        for by_network in ([n.kernels for n in networks], [n.biases for n in networks])
    )
    biases += [None] * (len(kernels) - len(biases))
    layers = zip(kernels, biases, networks[0].activations, strict=True)
    return list(itertools.starmap(_Layer, layers))


class _Axes(NamedTuple):
    """Samples and layers as torch's convolutions take them."""

    shape: tuple
    zeros: tuple
    kernel_shapes: tuple
    strides: tuple
    orders: tuple


def _axes(layout):
    """Those of the input, or one of patches side by side where these are too many."""
    orders = (None,) * len(layout.sizes)
    if len(layout.input_shape) <= MOST_AXES:
        zeros = np.subtract(layout.covered_shape, layout.input_shape).tolist()
        of_layers = layout.full_shapes, layout.full_steps, orders
        return _Axes(layout.input_shape, zeros, *of_layers)
    sizes = tuple((d,) for d in layout.sizes)
    has_zeros = layout.covered_shape != layout.input_shape
    shape = (math.prod(layout.input_shape),)
    return _Axes(shape, (int(has_zeros),), sizes, sizes, layout.orders)


def _input(input_shape, shape):
    """A module that gives samples, as rows or arrays, as one channel of this shape."""
    torch = optional("torch", extra="torch")
    shapes = list(dict.fromkeys([(math.prod(input_shape),), tuple(input_shape)]))

    class Input(torch.nn.Module):
        def forward(self, X):
            if tuple(X.shape[1:]) not in shapes:
                of_shape = [f"(n_samples, {', '.join(map(str, s))})" for s in shapes]
                raise ValueError(
                    f"X must be of shape {' or '.join(of_shape)}, got {tuple(X.shape)}"
                )
            return X.reshape(-1, 1, *shape)

        def __reduce__(self):
            return _input, (input_shape, shape)

    return Input()


def _patches(order):
    """A module that gives the values of a layer in patch order; -1 is the last one."""
    torch = optional("torch", extra="torch")

    class Patches(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("order", torch.as_tensor(order), persistent=False)

        def forward(self, h):
            return h[..., self.order]

        def __reduce__(self):
            return _patches, (self.order,)

    return Patches()


def _conv(in_channels, weight, bias, shape, stride):
    """The weight is (out_channels, in_channels per group times the kernel)."""
    torch = optional("torch", extra="torch")
    weight = torch.tensor(weight).reshape(len(weight), -1, *shape)
    state = {"weight": weight}
    if bias is not None:
        state["bias"] = torch.tensor(bias)
    conv = torch.nn.utils.skip_init(
        getattr(torch.nn, f"Conv{len(shape)}d"),
        in_channels,
        len(weight),
        shape,
        stride=stride,
        groups=in_channels // weight.shape[1],
        bias=bias is not None,
        dtype=weight.dtype,
    )
    conv.load_state_dict(state)
    return conv


def _torch_activation(torch, name):
    modules = {
        "relu": torch.nn.ReLU,
        "leaky_relu": lambda: torch.nn.LeakyReLU(LEAKY_SLOPE),
        "identity": torch.nn.Identity,
        "tanh": torch.nn.Tanh,
        "softplus": lambda: torch.nn.Softplus(threshold=SOFTPLUS_THRESHOLD),
        "logistic": torch.nn.Sigmoid,
    }
    return _known(name, modules, "torch")()


def _known(name, activations, target):
    if name not in activations:
        raise ValueError(
            f"the activation {name!r} cannot be exported to {target}; "
            f"known are {', '.join(activations)}"
        )
    return activations[name]


def _onnx_model(estimator, dtype, columns):
    """The network in ``dtype``, also where its input has another one.

    ``columns`` is [] for an output of one axis, else [n_outputs].
    """
    networks = networks_of(estimator)
    add = _OnnxNodes(optional("onnx", extra="onnx"), dtype)
    h, channels = add("Cast", "X", to=add.elements), 1
    for number, layer in enumerate(_layers(networks)):
        h = _onnx_patches(add, h, networks[0].order(number), channels)
        h = _onnx_layer(add, h, layer, channels)
        channels = len(layer.kernels)
    _onnx_sum(add, h, estimator.scales_, estimator.intercept_, columns)
    return add.model({"X": ["n", estimator.n_features_in_], "y": ["n", *columns]})


def _onnx_patches(add, h, order, channels):
    """The values of a layer in patch order, in which -1 is the zero put behind them."""
    if order is None:
        return h
    h = add("Reshape", h, np.array([channels, -1, 1 + order.max()]))
    if order.min() < 0:
        h = add("Pad", h, np.array([0, 0, 0, 0, 0, 1]))
    return add("Gather", h, order, axis=2)


def _onnx_layer(add, h, layer, channels):
    size = layer.kernels.shape[1]
    h = add("Reshape", h, np.array([channels, -1, size]))
    h = add("MatMul", h, layer.kernels[:, :, np.newaxis])
    if layer.biases is not None:
        h = add("Add", h, layer.biases[:, np.newaxis, np.newaxis])
    return _known(layer.activation, _ONNX_ACTIVATIONS, "ONNX")(add, h)


def _onnx_sum(add, h, scales, intercept, columns):
    h = add("Reshape", h, np.array([*scales.shape, -1]))
    h = add("MatMul", scales[:, np.newaxis, :], h)
    h = add("Add", h, intercept[:, np.newaxis, np.newaxis])
    h = add("Transpose", h, perm=[2, 0, 1])
    add("Reshape", h, np.array([-1, *columns]), output="y")


class _OnnxNodes:
    """Adds nodes by name of operator; numbers and arrays become constants."""

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

    def model(self, shapes):
        """From X to y, which have these shapes."""
        X, y = (
            self.onnx.helper.make_tensor_value_info(name, self.elements, shapes[name])
            for name in ("X", "y")
        )
        graph = self.onnx.helper.make_graph(
            self.nodes, "DeepTDRegressor", [X], [y], initializer=self.constants
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
    """max(z, 0) + log(1 + u), u = exp(-|z|), with the rounding of 1 + u put right."""
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
