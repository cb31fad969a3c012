"""Convert fitted estimators to torch modules; importing this module imports torch.

A step that torch has no module for is a ``Step`` of a function.
"""

import math
from collections import OrderedDict
from typing import Any

import numpy as np
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from skdeeptd._auto import BaseAuto
from skdeeptd._data.signals import CLIP, CONSTANT
from skdeeptd._export.layers import (
    bank_of,
    covariates_of,
    dtype_of,
    has_log_link,
    has_one_axis,
    is_classifier,
    known,
    layers_of,
    members_of,
    pooled,
    scaling_of,
    signals_of,
    slope_of,
)
from skdeeptd._features import BaseSignalTransformer, DeepTDFeatures, filters_of
from skdeeptd._init.filters import FAR
from skdeeptd._network.activations import LEAKY_SLOPE
from skdeeptd._network.fitted import layout_of
from skdeeptd._optional import optional
from skdeeptd._ridge import DeepTDRidge
from skdeeptd._ridge_classifier import DeepTDRidgeClassifier
from skdeeptd._validation import like_y

torch: Any = optional("torch", extra="torch")

MOST_AXES = 3  # of torch's convolutions
SOFTPLUS_THRESHOLD = 40.0  # from where log(1 + e^z) is z, in float64 too
ACTIVATIONS = {
    "relu": torch.nn.ReLU,
    "leaky_relu": lambda: torch.nn.LeakyReLU(LEAKY_SLOPE),
    "identity": torch.nn.Identity,
    "tanh": torch.nn.Tanh,
    "softplus": lambda: torch.nn.Softplus(threshold=SOFTPLUS_THRESHOLD),
    "logistic": torch.nn.Sigmoid,
}
VIEWS = {
    "derivative": lambda n_places: Step(_derivative, **slope_of(n_places)),
    "snv": lambda n_places: Step(_standard_normal_variate),
}


class Step(torch.nn.Module):
    """Compute a function of this module, which holds its values, and of the input.

    Arrays become buffers. An index is no part of the ``state_dict``.
    """

    def __init__(self, function, **values):
        super().__init__()
        self.function = function
        for name, value in values.items():
            if isinstance(value, np.ndarray):
                is_number = value.dtype.kind == "f"
                self.register_buffer(name, torch.tensor(value), persistent=is_number)
            else:
                setattr(self, name, value)

    def forward(self, X):
        return self.function(self, X)

    def _get_name(self):
        return self.function.__name__.title().replace("_", "")


def module_of(estimator):
    if isinstance(estimator, Pipeline):
        steps = _sequential({name: module_of(step) for name, step in estimator.steps})
        return steps.to(getattr(torch, dtype_of(estimator).name))
    if isinstance(estimator, StandardScaler):
        return _standard(*scaling_of(estimator), math.inf)
    if isinstance(estimator, BaseSignalTransformer):
        return _transformer(estimator)
    if isinstance(estimator, BaseAuto):
        return _mean(estimator)
    if isinstance(estimator, DeepTDRidgeClassifier):
        return _ridge_classifier(estimator)
    flat = torch.nn.Flatten(0 if has_one_axis(estimator) else 1)
    convert = _ridge if isinstance(estimator, DeepTDRidge) else _network
    return convert(estimator, flat)


def _sequential(modules):
    return torch.nn.Sequential(OrderedDict(modules))


def _network(estimator, output):
    shape, zeros, *of_layers = _axes(layout_of(estimator))
    modules, channels = {"input": _input_of(estimator.input_shape_, shape)}, 1
    if any(zeros):
        pad = getattr(torch.nn, f"ConstantPad{len(shape)}d")
        at_the_ends = [n for at_the_end in reversed(zeros) for n in (0, at_the_end)]
        modules["pad"] = pad(at_the_ends, 0.0)
    for number, ((kernels, biases, activation), *where, order) in enumerate(
        zip(layers_of(estimator), *of_layers, strict=True), 1
    ):
        if order is not None:
            modules[f"patches{number}"] = Step(_gather, index=order)
        modules[f"conv{number}"] = _conv(channels, kernels, biases, *where)
        modules[f"activation{number}"] = known(activation, ACTIVATIONS, "torch")()
        channels = len(kernels)
    ones = (1,) * len(shape)
    modules["sum"] = _conv(
        channels, estimator.scales_, estimator.intercept_, ones, ones
    )
    signal, covariates, slopes = covariates_of(estimator)
    if len(covariates):
        modules["flat"] = torch.nn.Flatten(1)
        modules = _add_covariates(modules, signal, covariates, _linear(slopes, None))
    if has_log_link(estimator):
        modules["mean"] = Step(_exponential)
    return _sequential({**modules, "output": output})


def _axes(layout):
    """Return shape and padding of the input; kernel shape, stride, order of each layer.

    Too many axes for torch become one axis of patches.
    """
    if len(layout.input_shape) <= MOST_AXES:
        zeros = np.subtract(layout.covered_shape, layout.input_shape).tolist()
        orders = (None,) * len(layout.sizes)
        return layout.input_shape, zeros, layout.full_shapes, layout.full_steps, orders
    sizes = [(d,) for d in layout.sizes]
    has_zeros = layout.covered_shape != layout.input_shape
    shape = (math.prod(layout.input_shape),)
    return shape, [int(has_zeros)], sizes, sizes, layout.orders


def _add_covariates(modules, signal, covariates, linear):
    """Return the modules of a model of the signal plus a linear layer of covariates."""
    parts = {"of_signal": _sequential(modules), "of_covariates": linear}
    index = {"signal": signal, "covariates": covariates}
    return {"sum": Step(_with_covariates, **parts, **index)}


def _transformer(transformer):
    """Make signals, standardise them, and apply banks of filters, if there are any."""
    order, shift, scale = signals_of(transformer)
    signals = Step(_gather, index=order), torch.nn.Flatten(0, 1)
    modules = {
        "input": _input_of(transformer.input_shape_, (order.size,)),
        "signals": torch.nn.Sequential(*signals),
    }
    if transformer.view_ is not None:
        view = known(transformer.view_, VIEWS, "torch", kind="view")
        modules["view"] = view(order.shape[1])
    if not isinstance(transformer, DeepTDFeatures):
        modules["standard"] = _standard(shift, scale, CLIP)
        return _sequential({**modules, "output": torch.nn.Flatten(1)})
    filters = filters_of(transformer)
    modules["standard"] = _standard(shift, scale, FAR)
    modules["banks"] = _side_by_side(
        _bank(bank, *bank_of(filters, bank)) for bank in filters.banks
    )
    modules["output"] = _standard(filters.center, filters.unit, filters.clip)
    return _sequential(modules)


def _bank(bank, index, pools):
    """Return the module of the filters of one size and dilation."""
    patches = Step(_gather, index=index), torch.nn.Flatten(1, 2)
    conv = _conv(bank.kernels.shape[1], bank.kernels, bank.biases, (1,), (1,))
    pools = _side_by_side(Step(_pool, **pool) for pool in pools)
    patches = torch.nn.Sequential(*patches)
    return _sequential({"patches": patches, "conv": conv, "pools": pools})


def _standard(shift, scale, clip):
    return Step(_standardise, shift=shift, scale=scale, clip=clip)


def _side_by_side(modules):
    return Step(_concatenate, parts=torch.nn.ModuleList(modules))


def _ridge(ridge, output):
    """Return the features, the kernel if there is one, and the linear layer."""
    signal, covariates, slopes = covariates_of(ridge)
    features, has_kernel = _transformer(ridge.features_), ridge.kernel_ != "linear"
    if len(covariates) and has_kernel:
        features = Step(
            _beside,
            weight=np.asarray(ridge.covariate_weight_),
            covariates=covariates,
            features=features,
            signal=signal,
            standard=_standard(ridge.covariate_shift_, ridge.covariate_scale_, CLIP),
        )
        signal = np.arange(ridge.n_features_in_)
    modules = {"features": features}
    if has_kernel:
        modules |= _kernel_steps(ridge)
    weight = ridge.dual_coef_.T if has_kernel else ridge.coef_
    modules["ridge"] = _linear(weight, ridge.intercept_)
    if len(covariates):
        linear = _linear(slopes, -slopes @ ridge.covariate_shift_)
        modules = _add_covariates(modules, signal, covariates, linear)
    return _sequential({**modules, "output": output})


def _kernel_steps(ridge):
    modules, exponents = {}, {"rbf": 2, "laplace": 1}
    if hasattr(ridge, "components_"):
        modules["metric"] = _linear(ridge.components_, None)
    modules["kernel"] = Step(
        _kernel,
        rows=ridge.X_fit_,
        gamma=np.asarray(ridge.gamma_),
        exponent=known(ridge.kernel_, exponents, "torch", kind="kernel"),
    )
    return modules


def _ridge_classifier(classifier):
    logits = Step(
        _calibrated_logits,
        factor=np.asarray(classifier.factor_),
        prior=classifier.prior_,
        prior_weight=np.asarray(classifier.prior_weight_),
    )
    return _ridge(classifier.regressor_, logits)


def _mean(estimator):
    is_classes = is_classifier(estimator)
    weights = estimator.weights_.astype(dtype_of(estimator))
    if not is_classes:
        weights = like_y(weights, 2 - has_one_axis(estimator))[:, np.newaxis]
    members = [
        module_of(member).to(torch.tensor(weights).dtype)
        for member in members_of(estimator)
    ]
    function = _average_of_classes if is_classes else _average
    return Step(function, weights=weights, members=torch.nn.ModuleList(members))


def _conv(in_channels, weight, bias, shape, stride):
    """Return a convolution of weight (out channels, in channels per group x kernel)."""
    weight = weight.reshape(len(weight), -1, *shape)
    conv = getattr(torch.nn, f"Conv{len(shape)}d")(
        in_channels,
        len(weight),
        shape,
        stride=stride,
        groups=in_channels // weight.shape[1],
        bias=bias is not None,
        device="meta",
    )
    return _with_weights(conv, weight, bias)


def _linear(weight, bias):
    n_outputs, n_inputs = weight.shape
    has_bias = bias is not None
    linear = torch.nn.Linear(n_inputs, n_outputs, bias=has_bias, device="meta")
    return _with_weights(linear, weight, bias)


def _with_weights(module, weight, bias):
    module.weight = torch.nn.Parameter(torch.tensor(weight).contiguous())
    if bias is not None:
        module.bias = torch.nn.Parameter(torch.tensor(bias))
    return module


def _input_of(input_shape, shape):
    """Return a module that reshapes samples to one channel of this shape."""
    shapes = list(dict.fromkeys([(math.prod(input_shape),), tuple(input_shape)]))
    return Step(_input, shapes=shapes, shape=tuple(shape))


# Functions of steps


def _input(step, X):
    if tuple(X.shape[1:]) not in step.shapes:
        of_shape = [f"(n_samples, {', '.join(map(str, s))})" for s in step.shapes]
        raise ValueError(
            f"X must be of shape {' or '.join(of_shape)}, got {tuple(X.shape)}"
        )
    return X.reshape(-1, 1, *step.shape)


def _with_covariates(step, X):
    slopes = step.of_covariates(X[:, step.covariates])
    return step.of_signal(X[:, step.signal]) + slopes


def _beside(step, X):
    covariates = step.weight * step.standard(X[:, step.covariates])
    return torch.cat([step.features(X[:, step.signal]), covariates], dim=1)


def _exponential(step, z):
    return torch.exp(z)


def _gather(step, h):
    return h[..., step.index]


def _derivative(step, x):
    return step.weights @ x[..., step.places]


def _standard_normal_variate(step, x):
    size = x.abs().amax(2, keepdim=True)
    x = x / torch.where(size > 0, size, 1)
    x = x - x.mean(2, keepdim=True)
    square = (x**2).mean(2, keepdim=True)
    varies = square > (CONSTANT * torch.finfo(x.dtype).eps) ** 2
    return torch.where(varies, x / torch.where(varies, square, 1).sqrt(), 0)


def _standardise(step, x):
    return torch.clamp((x - step.shift) / step.scale, -step.clip, step.clip)


def _concatenate(step, x):
    return torch.cat([part(x) for part in step.parts], dim=1)


def _pool(step, z):
    """Return the statistics of the parts of the positions."""
    columns = pooled(
        z,
        step.statistics,
        step.ramps,
        "torch",
        mean=lambda z: (z[..., step.positions] * step.share).sum(-1),
        maximum=lambda z: z[..., step.positions].amax(-1),
        absolute=torch.abs,
        ramp=lambda z, begin, width: torch.clamp((z - begin) / width, 0, 1),
    )
    return torch.cat([column.flatten(1) for column in columns], dim=1)


def _kernel(step, table):
    exact = "donot_use_mm_for_euclid_dist"
    distances = torch.cdist(table, step.rows, compute_mode=exact)
    return torch.exp(-step.gamma * distances**step.exponent)


def _average(step, X):
    outputs = torch.stack([member(X) for member in step.members])
    return (step.weights * outputs).sum(0)


def _average_of_classes(step, X):
    """Average probabilities, in logarithms, so that none of them becomes zero."""
    logs = torch.stack([_log_probabilities(m(X)) for m in step.members])
    log_weights = torch.log(step.weights)[:, None, None]
    return _logits(torch.logsumexp(log_weights + logs, dim=0))


def _calibrated_logits(step, scores):
    logits = step.factor * (scores - step.prior) + torch.log(step.prior)
    softmax = torch.softmax(logits, dim=1)
    mixed = (1 - step.prior_weight) * softmax + step.prior_weight * step.prior
    return _logits(torch.log(mixed))


def _log_probabilities(logits):
    if logits.ndim == 1:  # that of the first class is zero
        logits = torch.stack([torch.zeros_like(logits), logits], dim=1)
    return torch.log_softmax(logits, dim=1)


def _logits(logs):
    """Return log-probabilities, or the logit of the second class of two."""
    return logs[:, 1] - logs[:, 0] if logs.shape[1] == 2 else logs
