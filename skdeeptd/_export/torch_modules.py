"""Convert fitted estimators to torch modules; torch is imported with the first."""

import functools
import math
from collections import OrderedDict
from typing import NamedTuple

import numpy as np

from skdeeptd._auto import DeepTDAutoRegressor
from skdeeptd._export.layers import (
    dtype_of,
    has_log_link,
    has_one_axis,
    known,
    layers_of,
)
from skdeeptd._features import DeepTDFeatures, filters_of, layouts_of
from skdeeptd._init.filters import pooled_statistics
from skdeeptd._network.activations import LEAKY_SLOPE
from skdeeptd._network.fitted import layout_of
from skdeeptd._optional import optional
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._validation import like_y

MOST_AXES = 3  # of torch's convolutions
SOFTPLUS_THRESHOLD = 40.0  # from where log(1 + e^z) is z, in float64 too


def module_of(estimator):
    if isinstance(estimator, DeepTDAutoRegressor):
        return _mean(estimator)
    if isinstance(estimator, DeepTDRidge):
        return _ridge(estimator)
    if isinstance(estimator, DeepTDFeatures):
        return _features(estimator)
    return _network(estimator)


def _network(estimator):
    torch = optional("torch", extra="torch")
    axes, channels = _axes(layout_of(estimator)), 1
    modules = OrderedDict(input=_input(estimator.input_shape_, axes.shape))
    if any(axes.zeros):
        modules["pad"] = _pad(axes)
    for number, (layer, *where, order) in enumerate(
        zip(layers_of(estimator), axes.kernel_shapes, axes.strides, axes.orders), 1
    ):
        if order is not None:
            modules[f"patches{number}"] = _patches(order)
        modules[f"conv{number}"] = _conv(channels, layer.kernels, layer.biases, *where)
        modules[f"activation{number}"] = _activation(layer.activation)
        channels = len(layer.kernels)
    ones = (1,) * len(axes.shape)
    modules["sum"] = _conv(
        channels, estimator.scales_, estimator.intercept_, ones, ones
    )
    if has_log_link(estimator):
        modules["mean"] = _exponential()
    modules["output"] = torch.nn.Flatten(0 if has_one_axis(estimator) else 1)
    return torch.nn.Sequential(modules)


def _exponential():
    torch = optional("torch", extra="torch")

    class Exponential(torch.nn.Module):
        def forward(self, z):
            return torch.exp(z)

        def __reduce__(self):
            return _exponential, ()

    return Exponential()


def _features(features):
    """Standardize, apply the filters, and standardize the responses."""
    torch = optional("torch", extra="torch")
    made = _features_class()()
    made.input = _input(features.input_shape_, (math.prod(features.input_shape_),))
    made.banks = torch.nn.ModuleList(
        _bank(features, number, layout)
        for number, layout in enumerate(layouts_of(features))
    )
    made.clip = filters_of(features).clip
    for name in ("shift", "scale", "center", "unit"):
        made.register_buffer(name, torch.tensor(getattr(features, f"{name}_")))
    return made


def _bank(features, number, layout):
    """Return the module of the filters of one size."""
    torch = optional("torch", extra="torch")
    axes, kernels = _axes(layout), features.kernels_[number]
    modules = OrderedDict(input=_input(layout.input_shape, axes.shape))
    if any(axes.zeros):
        modules["pad"] = _pad(axes)
    if axes.orders[0] is not None:
        modules["patches"] = _patches(axes.orders[0])
    modules["conv"] = _conv(
        1,
        kernels.reshape(len(kernels), -1),
        features.biases_[number],
        axes.kernel_shapes[0],
        axes.strides[0],
    )
    made = _bank_class()()
    made.before = torch.nn.Sequential(modules)
    made.activation = _activation(features.activation_)
    made.pooling = features.pooling_
    return made


def _ridge(estimator):
    torch = optional("torch", extra="torch")
    modules = OrderedDict(features=_features(estimator.features_))
    coef = estimator.coef_ if estimator.kernel_ == "linear" else estimator.dual_coef_.T
    if estimator.kernel_ == "rbf":
        kernel = _rbf_class()()
        kernel.gamma = float(estimator.gamma_)
        kernel.register_buffer("rows", torch.tensor(estimator.X_fit_))
        modules["kernel"] = kernel
    modules["ridge"] = _linear(coef, estimator.intercept_)
    modules["output"] = torch.nn.Flatten(0 if has_one_axis(estimator) else 1)
    return torch.nn.Sequential(modules)


def _mean(estimator):
    torch = optional("torch", extra="torch")
    weights = like_y(estimator.weights_, 2 - has_one_axis(estimator))[:, np.newaxis]
    made = _mean_class()()
    made.register_buffer("weights", torch.tensor(weights.astype(dtype_of(estimator))))
    members = [module_of(e).to(made.weights.dtype) for e in estimator.estimators_]
    made.members = torch.nn.ModuleList(members)
    return made


@functools.cache
def _module_class():
    """Make a class of modules that pickle by the function that makes the class."""
    torch = optional("torch", extra="torch")

    class Made(torch.nn.Module):
        def __reduce__(self):
            return _blank, (type(self).maker,), vars(self)

    return Made


def _blank(maker):
    made = maker()
    return made.__new__(made)


@functools.cache
def _features_class():
    torch = optional("torch", extra="torch")

    class Features(_module_class()):
        maker = _features_class

        def forward(self, X):
            X = (self.input(X).flatten(1) - self.shift) / self.scale
            raw = torch.cat([bank(X) for bank in self.banks], dim=1)
            return torch.clamp((raw - self.center) / self.unit, -self.clip, self.clip)

    return Features


@functools.cache
def _bank_class():
    torch = optional("torch", extra="torch")

    class Bank(_module_class()):
        maker = _bank_class

        def forward(self, X):
            z = self.before(X).flatten(2)
            h = self.activation(z)
            columns = [
                _statistic(kind)(z[..., patches], h[..., patches])
                for kind, patches, _ in pooled_statistics(self.pooling, z.shape[2])
            ]
            return torch.cat(columns, dim=1)

    return Bank


@functools.cache
def _rbf_class():
    torch = optional("torch", extra="torch")

    class RBF(_module_class()):
        maker = _rbf_class

        def forward(self, table):
            squares = (table**2).sum(1, keepdim=True) + (self.rows**2).sum(1)
            distances = torch.relu(squares - 2 * table @ self.rows.T)
            return torch.exp(-self.gamma * distances)

    return RBF


@functools.cache
def _mean_class():
    torch = optional("torch", extra="torch")

    class Mean(_module_class()):
        maker = _mean_class

        def forward(self, X):
            outputs = torch.stack([member(X) for member in self.members])
            return (self.weights * outputs).sum(0)

    return Mean


class _Axes(NamedTuple):
    """Hold the axes of samples and layers, at most as many as torch can convolve."""

    shape: tuple
    zeros: tuple
    kernel_shapes: tuple
    strides: tuple
    orders: tuple


def _axes(layout):
    """Return the axes of the input, or one axis of patches if they are too many."""
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
    """Return a module that reshapes samples to one channel of this shape."""
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
    """Return a module that puts a layer in the order of the patches; -1 is the last."""
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


def _pad(axes):
    torch = optional("torch", extra="torch")
    at_the_end = [n for zeros in reversed(axes.zeros) for n in (0, zeros)]
    return getattr(torch.nn, f"ConstantPad{len(axes.shape)}d")(at_the_end, 0.0)


def _conv(in_channels, weight, bias, shape, stride):
    """Return a convolution of weight (out channels, in channels per group x kernel)."""
    torch = optional("torch", extra="torch")
    weight = torch.tensor(weight).reshape(len(weight), -1, *shape)
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
    return _with_state(conv, weight, bias)


def _linear(weight, bias):
    torch = optional("torch", extra="torch")
    weight = torch.tensor(weight)
    linear = torch.nn.utils.skip_init(
        torch.nn.Linear, *reversed(weight.shape), dtype=weight.dtype
    )
    return _with_state(linear, weight, bias)


def _with_state(module, weight, bias):
    torch = optional("torch", extra="torch")
    state = {"weight": weight}
    if bias is not None:
        state["bias"] = torch.tensor(bias)
    module.load_state_dict(state)
    return module


def _activation(name):
    torch = optional("torch", extra="torch")
    modules = {
        "relu": torch.nn.ReLU,
        "leaky_relu": lambda: torch.nn.LeakyReLU(LEAKY_SLOPE),
        "identity": torch.nn.Identity,
        "tanh": torch.nn.Tanh,
        "softplus": lambda: torch.nn.Softplus(threshold=SOFTPLUS_THRESHOLD),
        "logistic": torch.nn.Sigmoid,
    }
    return known(name, modules, "torch")()


def _statistic(name):
    functions = {
        "each": lambda z, h: h.flatten(1),
        "mean": lambda z, h: h.mean(2),
        "positive": lambda z, h: (z > 0).to(z.dtype).mean(2),
        "max": lambda z, h: z.amax(2),
    }
    return known(name, functions, "torch", kind="statistic")
