"""Convert fitted estimators to torch modules; torch is imported with the first.

A step that torch has no module for is a function of torch, the module that holds its
numbers (``step``), and the input.
"""

import functools
import math
import types
from collections import OrderedDict
from typing import NamedTuple

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdeeptd._auto import DeepTDAutoClassifier, DeepTDAutoRegressor
from skdeeptd._data.signals import CLIP, CONSTANT
from skdeeptd._export.layers import (
    bank_of,
    covariates_of,
    dtype_of,
    has_log_link,
    has_one_axis,
    known,
    layers_of,
    members_of,
    scaling_of,
    signals_of,
    slope_of,
    statistic,
)
from skdeeptd._features import BaseSignalTransformer, DeepTDFeatures, filters_of
from skdeeptd._init.filters import FAR
from skdeeptd._network.activations import LEAKY_SLOPE
from skdeeptd._network.fitted import layout_of
from skdeeptd._optional import optional
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._ridge_classifier import DeepTDRidgeClassifier
from skdeeptd._validation import like_y

MOST_AXES = 3  # of torch's convolutions
SOFTPLUS_THRESHOLD = 40.0  # from where log(1 + e^z) is z, in float64 too


def module_of(estimator):
    makers = {
        DeepTDAutoRegressor: _mean,
        DeepTDAutoClassifier: _mean,
        DeepTDRidge: _ridge,
        DeepTDRidgeClassifier: _ridge_classifier,
        BaseSignalTransformer: _transformer,
        StandardScaler: lambda scaler: _standard(*scaling_of(scaler), math.inf),
        Pipeline: _pipeline,
    }
    for kind, maker in makers.items():
        if isinstance(estimator, kind):
            return maker(estimator)
    return _network(estimator)


def _pipeline(pipeline):
    torch = optional("torch", extra="torch")
    modules = OrderedDict((name, module_of(step)) for name, step in pipeline.steps)
    return torch.nn.Sequential(modules).to(getattr(torch, dtype_of(pipeline).name))


def _network(estimator):
    torch = optional("torch", extra="torch")
    axes, channels = _axes(layout_of(estimator)), 1
    modules = OrderedDict(input=_input_of(estimator.input_shape_, axes.shape))
    if any(axes.zeros):
        modules["pad"] = _pad(axes)
    for number, (layer, *where, order) in enumerate(
        zip(layers_of(estimator), axes.kernel_shapes, axes.strides, axes.orders), 1
    ):
        if order is not None:
            modules[f"patches{number}"] = _step(_gather, index=order)
        modules[f"conv{number}"] = _conv(channels, layer.kernels, layer.biases, *where)
        modules[f"activation{number}"] = _activation(layer.activation)
        channels = len(layer.kernels)
    ones = (1,) * len(axes.shape)
    modules["sum"] = _conv(
        channels, estimator.scales_, estimator.intercept_, ones, ones
    )
    signal, covariates, slopes = covariates_of(estimator)
    if len(covariates):
        modules["flat"] = torch.nn.Flatten(1)
        added = {"of_signal": torch.nn.Sequential(modules), "signal": signal}
        added |= {"of_covariates": _linear(slopes, None), "covariates": covariates}
        modules = OrderedDict(sum=_step(_with_covariates, **added))
    if has_log_link(estimator):
        modules["mean"] = _step(_exponential)
    modules["output"] = torch.nn.Flatten(0 if has_one_axis(estimator) else 1)
    return torch.nn.Sequential(modules)


def _transformer(transformer):
    """Make signals, standardise them, and apply banks of filters, if there are any."""
    torch = optional("torch", extra="torch")
    order, shift, scale = signals_of(transformer)
    modules = OrderedDict(
        input=_input_of(transformer.input_shape_, (order.size,)),
        signals=torch.nn.Sequential(
            _step(_gather, index=order), torch.nn.Flatten(0, 1)
        ),
    )
    if transformer.view_ is not None:
        modules["view"] = _view(transformer.view_, order.shape[1])
    if not isinstance(transformer, DeepTDFeatures):
        modules["standard"] = _standard(shift, scale, CLIP)
        modules["output"] = torch.nn.Flatten(1)
        return torch.nn.Sequential(modules)
    filters = filters_of(transformer)
    banks = [_bank(bank, *bank_of(filters, bank)) for bank in filters.banks]
    modules["standard"] = _standard(shift, scale, FAR)
    modules["banks"] = _side_by_side(banks)
    modules["output"] = _standard(filters.center, filters.unit, filters.clip)
    return torch.nn.Sequential(modules)


def _view(name, n_places):
    views = {
        "derivative": lambda: _step(_derivative, **slope_of(n_places)._asdict()),
        "snv": lambda: _step(_standard_normal_variate),
    }
    return known(name, views, "torch", kind="view")()


def _bank(bank, index, pools):
    """Return the module of the filters of one size and dilation."""
    torch = optional("torch", extra="torch")
    modules = OrderedDict(
        patches=torch.nn.Sequential(
            _step(_gather, index=index), torch.nn.Flatten(1, 2)
        ),
        conv=_conv(bank.kernels.shape[1], bank.kernels, bank.biases, (1,), (1,)),
        pools=_side_by_side([_step(_pool, **pool._asdict()) for pool in pools]),
    )
    return torch.nn.Sequential(modules)


def _standard(shift, scale, clip):
    return _step(_standardise, shift=shift, scale=scale, clip=clip)


def _side_by_side(modules):
    torch = optional("torch", extra="torch")
    return _step(_concatenate, parts=torch.nn.ModuleList(modules))


def _ridge_steps(estimator):
    """Return the features, the kernel if there is one, and the linear layer."""
    signal, covariates, slopes = covariates_of(estimator)
    if not len(covariates):
        return _signal_steps(estimator, _transformer(estimator.features_))
    torch = optional("torch", extra="torch")
    features, shift = _transformer(estimator.features_), estimator.covariate_shift_
    if estimator.kernel_ != "linear":
        own = _standard(shift, estimator.covariate_scale_, CLIP)
        weight = np.asarray(estimator.covariate_weight_)
        parts = {"features": features, "signal": signal, "standard": own}
        features = _step(_beside, weight=weight, covariates=covariates, **parts)
        signal = np.arange(estimator.n_features_in_)
    steps = torch.nn.Sequential(_signal_steps(estimator, features))
    added = {"of_signal": steps, "signal": signal, "covariates": covariates}
    added["of_covariates"] = _linear(slopes, -slopes @ shift)
    return OrderedDict(sum=_step(_with_covariates, **added))


def _signal_steps(estimator, features):
    modules = OrderedDict(features=features)
    if estimator.kernel_ == "linear":
        modules["ridge"] = _linear(estimator.coef_, estimator.intercept_)
        return modules
    if hasattr(estimator, "components_"):
        modules["metric"] = _linear(estimator.components_, None)
    exponents = {"rbf": 2, "laplace": 1}
    modules["kernel"] = _step(
        _kernel,
        rows=estimator.X_fit_,
        gamma=np.asarray(estimator.gamma_),
        exponent=known(estimator.kernel_, exponents, "torch", kind="kernel"),
    )
    modules["ridge"] = _linear(estimator.dual_coef_.T, estimator.intercept_)
    return modules


def _ridge(estimator):
    torch = optional("torch", extra="torch")
    modules = _ridge_steps(estimator)
    modules["output"] = torch.nn.Flatten(0 if has_one_axis(estimator) else 1)
    return torch.nn.Sequential(modules)


def _ridge_classifier(estimator):
    torch = optional("torch", extra="torch")
    modules = _ridge_steps(estimator.regressor_)
    modules["output"] = _step(
        _calibrated_logits,
        factor=np.asarray(estimator.factor_),
        prior=estimator.prior_,
        prior_weight=np.asarray(estimator.prior_weight_),
    )
    return torch.nn.Sequential(modules)


def _mean(estimator):
    torch = optional("torch", extra="torch")
    is_classes = isinstance(estimator, DeepTDAutoClassifier)
    weights = estimator.weights_.astype(dtype_of(estimator))
    if not is_classes:
        weights = like_y(weights, 2 - has_one_axis(estimator))[:, np.newaxis]
    members = [
        module_of(member).to(torch.tensor(weights).dtype)
        for member in members_of(estimator)
    ]
    return _step(
        _average_of_classes if is_classes else _average,
        weights=weights,
        members=torch.nn.ModuleList(members),
    )


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
        torch.nn.Linear,
        *reversed(weight.shape),
        bias=bias is not None,
        dtype=weight.dtype,
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


# Steps of modules


@functools.cache
def _step_class():
    """Make the class of modules that compute a function; torch is known only now."""
    torch = optional("torch", extra="torch")

    class Step(torch.nn.Module):
        def forward(self, X):
            return self.function(torch, self, X)

        def _get_name(self):
            return self.function.__name__.title().replace("_", "")

        def __reduce__(self):
            return _blank_step, (), vars(self)

    return Step


def _blank_step():
    made = _step_class()
    return made.__new__(made)


def _step(function, **values):
    """Return a module that computes ``function``; arrays become its buffers.

    An index is no part of the ``state_dict``.
    """
    torch, made = optional("torch", extra="torch"), _step_class()()
    made.function = function
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            is_number = value.dtype.kind == "f"
            made.register_buffer(name, torch.tensor(value), persistent=is_number)
        else:
            setattr(made, name, value)
    return made


def _input_of(input_shape, shape):
    """Return a module that reshapes samples to one channel of this shape."""
    shapes = list(dict.fromkeys([(math.prod(input_shape),), tuple(input_shape)]))
    return _step(_input, shapes=shapes, shape=tuple(shape))


def _input(torch, step, X):
    if tuple(X.shape[1:]) not in step.shapes:
        of_shape = [f"(n_samples, {', '.join(map(str, s))})" for s in step.shapes]
        raise ValueError(
            f"X must be of shape {' or '.join(of_shape)}, got {tuple(X.shape)}"
        )
    return X.reshape(-1, 1, *step.shape)


def _with_covariates(torch, step, X):
    slopes = step.of_covariates(X[:, step.covariates])
    return step.of_signal(X[:, step.signal]) + slopes


def _beside(torch, step, X):
    covariates = step.weight * step.standard(X[:, step.covariates])
    return torch.cat([step.features(X[:, step.signal]), covariates], dim=1)


def _exponential(torch, step, z):
    return torch.exp(z)


def _gather(torch, step, h):
    return h[..., step.index]


def _derivative(torch, step, x):
    return step.weights @ x[..., step.places]


def _standard_normal_variate(torch, step, x):
    size = x.abs().amax(2, keepdim=True)
    x = x / torch.where(size > 0, size, 1)
    x = x - x.mean(2, keepdim=True)
    square = (x**2).mean(2, keepdim=True)
    varies = square > (CONSTANT * torch.finfo(x.dtype).eps) ** 2
    return torch.where(varies, x / torch.where(varies, square, 1).sqrt(), 0)


def _standardise(torch, step, x):
    return torch.clamp((x - step.shift) / step.scale, -step.clip, step.clip)


def _concatenate(torch, step, x):
    return torch.cat([part(x) for part in step.parts], dim=1)


def _pool(torch, step, z):
    """Return the statistics of the parts of the positions."""
    operations = types.SimpleNamespace(
        mean=lambda z: (z[..., step.positions] * step.share).sum(-1),
        maximum=lambda z: z[..., step.positions].amax(-1),
        absolute=torch.abs,
        ramp=lambda z, begin, width: torch.clamp((z - begin) / width, 0, 1),
    )
    columns = [
        statistic(name, z, step.ramps, operations, "torch") for name in step.statistics
    ]
    return torch.cat([column.flatten(1) for column in columns], dim=1)


def _kernel(torch, step, table):
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(table, step.rows, compute_mode=exact)
    return torch.exp(-step.gamma * distances**step.exponent)


def _average(torch, step, X):
    outputs = torch.stack([member(X) for member in step.members])
    return (step.weights * outputs).sum(0)


def _average_of_classes(torch, step, X):
    """Average probabilities, in logarithms, so that none of them becomes zero."""
    logs = torch.stack([_log_probabilities(torch, m(X)) for m in step.members])
    log_weights = torch.log(step.weights)[:, None, None]
    return _logits(torch.logsumexp(log_weights + logs, dim=0))


def _calibrated_logits(torch, step, scores):
    logits = step.factor * (scores - step.prior) + torch.log(step.prior)
    softmax = torch.softmax(logits, dim=1)
    mixed = (1 - step.prior_weight) * softmax + step.prior_weight * step.prior
    return _logits(torch.log(mixed))


def _log_probabilities(torch, logits):
    if logits.ndim == 1:  # that of the first class is zero
        logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
    return torch.log_softmax(logits, dim=1)


def _logits(logs):
    """Return log-probabilities, or the logit of the second class of two."""
    return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs
