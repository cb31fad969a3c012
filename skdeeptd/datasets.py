"""Draw data from random patch networks.

==========  ==================  ================================================
symbol      array               axes
==========  ==================  ================================================
x           ``X``               (n_samples, n_features), standard normal
k_l         ``kernels[l]``      (n_outputs, n_filters) + kernel_size, unit norm
b_l         ``bias``            a number per filter and hidden layer
z_l         ``z``               (rows, patches): pre-activation on probe rows
h_l         ``h``               (rows, patches): output of a layer on probe rows
eta         ``logits``          (n_samples, n_classes), or (n_samples,) for class 1
                                of two classes
==========  ==================  ================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, NamedTuple

import numpy as np
from sklearn.utils import check_random_state, check_scalar

from skdeeptd._network.activations import ACTIVATIONS, layer_activations
from skdeeptd._network.fitted import network_of
from skdeeptd._network.kernel_sizes import infer_n_features, make_layout
from skdeeptd._network.layout import Layout
from skdeeptd._network.network import Network, forward, numbers_per_row
from skdeeptd._typing import KernelSizes, RandomState, Strides


def make_patch_cnn_regression(
    n_samples: int = 200,
    kernel_sizes: KernelSizes = (4, 4, 4),
    *,
    input_shape: Sequence[int] | None = None,
    strides: Strides | None = None,
    n_filters: int = 1,
    n_outputs: int = 1,
    activation: str | Sequence[str] = "relu",
    output_activation: str = "identity",
    hidden_bias: bool = False,
    share_filters: bool = False,
    noise: float = 0.0,
    return_kernels: bool = False,
    random_state: RandomState = None,
) -> tuple[Any, ...]:
    """Draw regression data from a random patch network.

    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y, kernels = make_patch_cnn_regression(
    ...     n_samples=50, kernel_sizes=(5, 3), return_kernels=True, random_state=0
    ... )
    >>> X.shape, y.shape, [k.shape for k in kernels]
    ((50, 15), (50,), [(1, 1, 5), (1, 1, 3)])

    X is standard normal. The kernels have random directions and unit norm, and the
    filters of an output have random signs. Each output is scaled to a variance of about
    1 before the noise is added. Kernels are drawn again if the output of a layer is
    nearly constant, for example if a relu is almost never active.

    Parameters
    ----------
    n_samples : int, default=200
        Number of samples.
    kernel_sizes : sequence of int or of tuple of int, default=(4, 4, 4)
        Kernel size of each layer, as in :class:`~skdeeptd.DeepTDRegressor`. The last
        entry may be -1 if ``input_shape`` is given.
    input_shape : sequence of int, default=None
        Shape of a sample. None means one axis that the patches cover exactly: without
        ``strides`` its length is the product of the sizes.
    strides : int, sequence of int or of tuple of int, default=None
        Step of each hidden layer's kernel, as in :class:`~skdeeptd.DeepTDRegressor`.
        None means the kernel sizes, without overlap.
    n_filters : int, default=1
        Number of filters.
    n_outputs : int, default=1
        Number of outputs.
    activation : str or sequence of str, default="relu"
        Activation of all hidden layers, or one for each.
    output_activation : str, default="identity"
        Activation of the last layer.
    hidden_bias : bool, default=False
        Whether each filter has a bias in each hidden layer. Biases are normal, with
        half the standard deviation of the pre-activation.
    share_filters : bool, default=False
        Whether the outputs share the hidden layers, or all kernels if
        ``output_activation`` is not "identity", as in
        :class:`~skdeeptd.DeepTDRegressor`. The scales of the filters are then normal.
    noise : float, default=0.0
        Standard deviation of the Gaussian noise on y.
    return_kernels : bool, default=False
        Whether to return the kernels of the network, too.
    random_state : int, RandomState instance or None, default=None
        Seed of the data.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    kernels : list of ndarray of shape (n_outputs, n_filters) + kernel_size
        The kernels of each layer, in the form of ``DeepTDRegressor.kernels_``. Only
        returned if ``return_kernels=True``. Scales and biases are not returned.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range, if the sizes do not fit each other, or if all
        networks that were drawn have a constant output.
    """
    _check_counts(n_samples=n_samples, n_filters=n_filters, n_outputs=n_outputs)
    _check_size("noise", noise)
    rng = check_random_state(random_state)
    n_features = infer_n_features(kernel_sizes, input_shape, strides)
    layout = make_layout(n_features, kernel_sizes, input_shape, strides)
    activations = layer_activations(activation, output_activation, len(layout.sizes))
    design = _Design(layout, activations, n_filters, hidden_bias)
    X, _, drawn = _draw(n_samples, n_outputs, design, share_filters, rng)
    y = _predict(drawn, X)
    y += noise * rng.standard_normal(y.shape)
    y = y[:, 0] if n_outputs == 1 else y
    return (X, y, _stack_kernels(drawn, layout)) if return_kernels else (X, y)


def make_patch_cnn_classification(
    n_samples: int = 200,
    kernel_sizes: KernelSizes = (4, 4, 4),
    *,
    n_classes: int = 2,
    logit_std: float = 3.0,
    input_shape: Sequence[int] | None = None,
    strides: Strides | None = None,
    n_filters: int = 1,
    activation: str | Sequence[str] = "relu",
    output_activation: str = "identity",
    hidden_bias: bool = False,
    return_kernels: bool = False,
    random_state: RandomState = None,
) -> tuple[Any, ...]:
    """Draw classification data from a random patch network.

    >>> from skdeeptd.datasets import make_patch_cnn_classification
    >>> X, y, kernels, logits = make_patch_cnn_classification(
    ...     n_samples=50,
    ...     kernel_sizes=(5, 3),
    ...     n_classes=3,
    ...     return_kernels=True,
    ...     random_state=0,
    ... )
    >>> X.shape, y.shape, [k.shape for k in kernels], logits.shape
    ((50, 15), (50,), [(3, 1, 5), (3, 1, 3)], (50, 3))

    X is standard normal. The outputs of the network are logits: one logit for two
    classes, else one for each class. All logits share the hidden layers, and each has
    its own last layer, as in :func:`make_patch_cnn_regression` with
    ``share_filters=True``. Each logit is shifted to a mean of about 0 and scaled to a
    standard deviation of about ``logit_std``. Labels are drawn with the probabilities
    of these logits.

    Parameters
    ----------
    n_samples : int, default=200
        Number of samples.
    kernel_sizes : sequence of int or of tuple of int, default=(4, 4, 4)
        As in :func:`make_patch_cnn_regression`.
    n_classes : int, default=2
        Number of classes.
    logit_std : float, default=3.0
        Approximate standard deviation of each logit. With 0 the labels are independent
        of X; with a large value X determines nearly all labels.
    input_shape, strides, n_filters, activation, output_activation, \
hidden_bias, random_state
        As in :func:`make_patch_cnn_regression`.
    return_kernels : bool, default=False
        Whether to return the kernels of the network and the logits, too.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        Labels, integers from 0 to ``n_classes - 1``. If ``n_samples`` is small, a class
        may have no sample.
    kernels : list of ndarray of shape (n_outputs, n_filters) + kernel_size
        The kernels of each layer, in the form of ``DeepTDClassifier.kernels_``;
        ``n_outputs`` is 1 for two classes, else ``n_classes``. Only returned if
        ``return_kernels=True``.
    logits : ndarray of shape (n_samples,) or (n_samples, n_classes)
        The logits, in the form of :meth:`~skdeeptd.DeepTDClassifier.decision_function`.
        Only returned if ``return_kernels=True``. For two classes their
        ``scipy.special.expit`` is the probability of class 1; for more classes
        ``scipy.special.softmax`` along axis 1 gives all probabilities.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range, if the sizes do not fit each other, or if all
        networks that were drawn have a constant output.

    Notes
    -----
    For more than two classes the last kernels are identifiable up to an array that is
    added to all of them: adding a number to all logits of a sample changes no
    probability.
    """
    _check_counts(n_samples=n_samples, n_filters=n_filters)
    check_scalar(n_classes, "n_classes", Integral, min_val=2)
    _check_size("logit_std", logit_std)
    rng = check_random_state(random_state)
    n_features = infer_n_features(kernel_sizes, input_shape, strides)
    layout = make_layout(n_features, kernel_sizes, input_shape, strides)
    activations = layer_activations(activation, output_activation, len(layout.sizes))
    design = _Design(layout, activations, n_filters, hidden_bias)
    n_outputs = 1 if n_classes == 2 else n_classes
    X, probe, drawn = _draw(n_samples, n_outputs, design, True, rng)
    center = np.mean(_predict(drawn, probe), axis=0)
    logits = logit_std * (_predict(drawn, X) - center)
    per_class = np.pad(logits, [(0, 0), (1, 0)]) if n_classes == 2 else logits
    y = np.argmax(per_class + rng.gumbel(size=per_class.shape), axis=1)
    logits = logits[:, 0] if n_classes == 2 else logits
    if not return_kernels:
        return X, y
    return X, y, _stack_kernels(drawn, layout), logits


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        check_scalar(value, name, Integral, min_val=1)


def _check_size(name: str, value: float) -> None:
    check_scalar(value, name, Real, min_val=0)
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


class _Design(NamedTuple):
    layout: Layout
    activations: tuple[str, ...]
    n_filters: int
    hidden_bias: bool


class _Drawn(NamedTuple):
    """Unit kernels of all layers, (n_filters, d) each, scales and biases."""

    design: _Design
    kernels: tuple[np.ndarray, ...]
    scales: np.ndarray
    biases: tuple[np.ndarray, ...]

    def network(self) -> Network:
        weights = self.kernels, self.scales, self.biases, np.zeros(1)
        return network_of(*weights, self.design.activations, self.design.layout.orders)


def _draw(
    n_samples: int,
    n_outputs: int,
    design: _Design,
    share_filters: bool,
    rng: np.random.RandomState,
    max_probe_rows: int = 512,
    max_probe_values: int = 2**23,
) -> tuple[np.ndarray, np.ndarray, list[_Drawn]]:
    """Draw X, probe rows on which the outputs vary, and a network per output."""
    n_features = math.prod(design.layout.input_shape)
    X = rng.standard_normal((n_samples, n_features))
    zeros = tuple(np.zeros((1, d)) for d in design.layout.sizes)
    one_filter = _Drawn(design, zeros, np.zeros(1), ()).network()
    per_row = max(n_features, numbers_per_row(one_filter))
    probe_rows = int(np.clip(max_probe_values // per_row, 16, max_probe_rows))
    probe = rng.standard_normal((probe_rows, n_features))
    drawn = [_draw_network(probe, design, rng)]
    for _ in range(n_outputs - 1):
        shared = drawn[0] if share_filters else None
        drawn.append(_draw_network(probe, design, rng, shared))
    if share_filters and n_outputs > 1:
        drawn[0] = _draw_network(probe, design, rng, drawn[0])
    return X, probe, drawn


def _predict(drawn: list[_Drawn], X: np.ndarray) -> np.ndarray:
    return np.column_stack([forward(d.network(), X) for d in drawn])


def _stack_kernels(drawn: list[_Drawn], layout: Layout) -> list[np.ndarray]:
    """Return kernels as estimators store them, (n_outputs, n_filters) + kernel_size."""
    layers = zip(*(d.kernels for d in drawn), strict=True)
    return [
        np.stack(kernels).reshape(*np.shape(kernels)[:2], *shape)
        for kernels, shape in zip(layers, layout.kernel_shapes, strict=True)
    ]


def _draw_network(
    probe: np.ndarray,
    design: _Design,
    rng: np.random.RandomState,
    shared: _Drawn | None = None,
    max_draws: int = 10,
) -> _Drawn:
    """Draw a network, or only the end of one on the hidden layers of ``shared``.

    The end are scales, and also last kernels if the last layer is linear.
    """
    n_filters = design.n_filters
    for _ in range(max_draws):
        if shared is None:
            filters = [_draw_filter(probe, design, rng) for _ in range(n_filters)]
            kernels, biases = zip(*filters, strict=True)
            drawn = _Drawn(
                design,
                tuple(np.stack(k) for k in zip(*kernels, strict=True)),
                rng.choice([-1.0, 1.0], size=n_filters),
                tuple(np.array(b) for b in zip(*biases, strict=True)),
            )
        else:
            *hidden, last = shared.kernels
            if design.activations[-1] == "identity":
                last = rng.standard_normal(last.shape)
                last /= np.linalg.norm(last, axis=1, keepdims=True)
            scales = rng.standard_normal(n_filters)
            drawn = shared._replace(kernels=(*hidden, last), scales=scales)
        output = forward(drawn.network(), probe)
        if _varies(output):
            return drawn._replace(scales=drawn.scales / output.std())
    raise ValueError(
        f"no network of {n_filters} filters with kernels of {design.layout.sizes} "
        f"weights whose output varies was found; use other activations, or fewer layers"
    )


def _draw_filter(
    probe: np.ndarray,
    design: _Design,
    rng: np.random.RandomState,
    max_draws: int = 200,
    bias_std: float = 0.5,
) -> tuple[list[np.ndarray], list[float]]:
    """Draw a unit kernel per layer, and a bias per hidden layer if there are any.

    Both are drawn until the output of their layer varies. ``bias_std`` is relative to
    the standard deviation of the pre-activation.
    """
    h, kernels, biases = probe, [], []
    n_biases = len(design.activations) - 1 if design.hidden_bias else 0
    layout = design.layout
    layers = zip(layout.orders, layout.sizes, design.activations, strict=True)
    for layer, (order, d, name) in enumerate(layers):
        if order is not None:
            h = np.pad(h, [(0, 0), (0, 1)])[:, order]
        patches = h.reshape(len(h), -1, d)
        for _ in range(max_draws):
            k = rng.standard_normal(d)
            k /= np.linalg.norm(k)
            z, bias = patches @ k, 0.0
            if layer < n_biases:
                bias = bias_std * z.std() * rng.standard_normal()
            h = ACTIVATIONS[name].value(z + bias, np.empty_like(z))
            if _varies(h):
                break
        kernels.append(k)
        biases.append(bias)
    return kernels, biases[:n_biases]


def _varies(h: np.ndarray, min_share: float = 0.25, min_std: float = 1e-12) -> bool:
    """Return whether enough values differ from their median.

    ``min_std`` is the smallest standard deviation, relative to the root mean square.
    """
    differ = np.mean(h != np.median(h))
    return differ >= min_share and h.std() > min_std * np.sqrt(np.mean(h**2))
