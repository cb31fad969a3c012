"""Data with a planted patch network.

==========  ==================  ================================================
symbol      array               axes
==========  ==================  ================================================
x           ``X``               (n_samples, n_features), standard normal
k_l         ``kernels[l]``      (n_outputs, n_filters) + kernel_size, unit norm
b_l         ``bias``            a number, of a hidden layer of one filter
z_l         ``z``               (rows, patches): its pre-activation on probe rows
h_l         ``h``               (rows, patches): its output on probe rows
eta         ``logits``          (n_samples, n_classes), or (n_samples,) of the second
                                of two classes
==========  ==================  ================================================
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
from sklearn.utils import check_random_state, check_scalar

from skdeeptd._model.activations import ACTIVATIONS, layer_activations
from skdeeptd._model.network import PatchCNN, blank_network, forward, numbers_per_row
from skdeeptd._network.kernel_sizes import infer_n_features, make_layout
from skdeeptd._network.layout import Layout
from skdeeptd._typing import KernelSizes, RandomState, Strides

ALIVE = 0.25  # least share of values that differ from the most frequent one
BIAS = 0.5  # standard deviation, relative to that of the pre-activation
VARIES = 1e-12  # least standard deviation, relative to the root mean square
KERNEL_DRAWS, NETWORK_DRAWS = 200, 10  # at most, until one is alive
PROBE_ROWS, PROBE_VALUES = 512, 2**23  # at most, to see if a network is alive


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
    """Regression data from a random patch network.

    X is standard normal. The kernels have random directions and unit norm, and the
    filters of an output have random signs. Each output is scaled to a variance of about
    1 before the noise is added. Kernels are drawn again if a layer is dead, for example
    if a relu gives zero nearly everywhere.

    Parameters
    ----------
    n_samples : int, default=200
    kernel_sizes : sequence of int or of tuple of int, default=(4, 4, 4)
        First layer first, as in :class:`~skdeeptd.DeepTDRegressor`. The last entry may
        be -1, all that is left of ``input_shape``.
    input_shape : sequence of int, default=None
        The shape of a sample. None takes one axis, which the patches cover exactly:
        without ``strides`` its length is the product of the sizes.
    strides : int, sequence of int or of tuple of int, default=None
        How far each hidden layer's kernel moves, as in
        :class:`~skdeeptd.DeepTDRegressor`. None takes the kernel sizes.
    n_filters : int, default=1
    n_outputs : int, default=1
    activation : str or sequence of str, default="relu"
        For all hidden layers, or one for each.
    output_activation : str, default="identity"
    hidden_bias : bool, default=False
        Whether each filter has a bias in each hidden layer: normal, with half the
        standard deviation that its pre-activation has without it.
    share_filters : bool, default=False
        Whether the outputs have the hidden layers in common, as in
        :class:`~skdeeptd.DeepTDRegressor`, or all kernels if ``output_activation``
        is not "identity". The scales of the filters are then normal, not signs.
    noise : float, default=0.0
        Standard deviation of the Gaussian noise on y.
    return_kernels : bool, default=False
        Whether to return the planted kernels as well.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    kernels : list of ndarray of shape (n_outputs, n_filters) + kernel_size
        The planted kernels, one array per layer, in the form of
        ``DeepTDRegressor.kernels_``. Only returned if ``return_kernels=True``. Scales
        and biases are not returned.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range, the sizes do not fit each other, or no network
        whose output varies is found.

    Examples
    --------
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y, kernels = make_patch_cnn_regression(
    ...     n_samples=50, kernel_sizes=(5, 3), return_kernels=True, random_state=0
    ... )
    >>> X.shape, y.shape, [k.shape for k in kernels]
    ((50, 15), (50,), [(1, 1, 5), (1, 1, 3)])

    Patches of 3 x 3 pixels that overlap, on images of 8 x 8:

    >>> X, y, kernels = make_patch_cnn_regression(
    ...     n_samples=50,
    ...     kernel_sizes=((3, 3), -1),
    ...     input_shape=(8, 8),
    ...     strides=1,
    ...     return_kernels=True,
    ...     random_state=0,
    ... )
    >>> X.shape, y.shape, [k.shape for k in kernels]
    ((50, 64), (50,), [(1, 1, 3, 3), (1, 1, 6, 6)])
    """
    _check_counts(n_samples=n_samples, n_filters=n_filters, n_outputs=n_outputs)
    _check_size("noise", noise)
    rng = check_random_state(random_state)
    layout, blank = _design(
        kernel_sizes,
        input_shape,
        strides,
        n_filters,
        activation,
        output_activation,
        hidden_bias,
    )
    X, _, networks = _plant(n_samples, n_outputs, layout, blank, share_filters, rng)
    y = _outputs(networks, X)
    y += noise * rng.standard_normal(y.shape)
    y = y[:, 0] if n_outputs == 1 else y
    return (X, y, _kernels_of(networks, layout)) if return_kernels else (X, y)


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
    """Labels drawn from the probabilities of a random patch network.

    X is standard normal. The outputs of the network are logits: one for two classes,
    or else one per class. They share the hidden layers, and each has its own last
    layer, as in :func:`make_patch_cnn_regression` with ``share_filters=True``. Each
    logit is shifted to a mean of about 0 and scaled to a standard deviation of about
    ``logit_std``. The label of a sample is drawn from the probabilities that its logits
    give.

    Parameters
    ----------
    n_samples : int, default=200
    kernel_sizes : sequence of int or of tuple of int, default=(4, 4, 4)
        As in :func:`make_patch_cnn_regression`.
    n_classes : int, default=2
    logit_std : float, default=3.0
        Approximate standard deviation of each logit. With 0 the labels do not depend on
        X; with a large value nearly all of them follow from X.
    input_shape, strides, n_filters, activation, output_activation, \
hidden_bias, random_state
        As in :func:`make_patch_cnn_regression`.
    return_kernels : bool, default=False
        Whether to return the planted kernels and the logits as well.

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
        Labels, integers from 0 to ``n_classes - 1``. If ``n_samples`` is small, a class
        may have no sample.
    kernels : list of ndarray of shape (n_outputs, n_filters) + kernel_size
        The planted kernels, one array per layer, in the form of
        ``DeepTDClassifier.kernels_``; ``n_outputs`` is 1 for two classes, otherwise
        ``n_classes``. Only returned if ``return_kernels=True``. With more than two
        classes, the data identify the last kernels up to an array that is added to all
        of them, since adding a number to all logits of a sample changes nothing.
    logits : ndarray of shape (n_samples,) or (n_samples, n_classes)
        The logits that the labels were drawn from, in the form of
        :meth:`~skdeeptd.DeepTDClassifier.decision_function`. Only returned if
        ``return_kernels=True``. With two classes, ``scipy.special.expit`` of them is
        the probability of class 1; otherwise ``scipy.special.softmax`` along axis 1
        gives the probabilities of all classes.

    Raises
    ------
    ValueError, TypeError
        If a parameter is out of range, the sizes do not fit each other, or no network
        whose output varies is found.

    Examples
    --------
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
    """
    _check_counts(n_samples=n_samples, n_filters=n_filters)
    check_scalar(n_classes, "n_classes", Integral, min_val=2)
    _check_size("logit_std", logit_std)
    rng = check_random_state(random_state)
    layout, blank = _design(
        kernel_sizes,
        input_shape,
        strides,
        n_filters,
        activation,
        output_activation,
        hidden_bias,
    )
    n_outputs = 1 if n_classes == 2 else n_classes
    X, probe, networks = _plant(n_samples, n_outputs, layout, blank, True, rng)
    center = np.mean(_outputs(networks, probe), axis=0)
    logits = logit_std * (_outputs(networks, X) - center)
    of_classes = np.pad(logits, [(0, 0), (1, 0)]) if n_classes == 2 else logits
    y = np.argmax(of_classes + rng.gumbel(size=of_classes.shape), axis=1)
    logits = logits[:, 0] if n_classes == 2 else logits
    return (X, y, _kernels_of(networks, layout), logits) if return_kernels else (X, y)


def _check_counts(**counts: int) -> None:
    for name, value in counts.items():
        check_scalar(value, name, Integral, min_val=1)


def _check_size(name: str, value: float) -> None:
    check_scalar(value, name, Real, min_val=0)
    if not np.isfinite(value):
        raise ValueError(f"{name} must be finite, got {value}")


def _design(
    kernel_sizes: KernelSizes,
    input_shape: Sequence[int] | None,
    strides: Strides | None,
    n_filters: int,
    activation: str | Sequence[str],
    output_activation: str,
    hidden_bias: bool,
) -> tuple[Layout, PatchCNN]:
    """The layout, and a network without weights."""
    n_features = infer_n_features(kernel_sizes, input_shape, strides)
    layout = make_layout(n_features, kernel_sizes, input_shape, strides)
    activations = layer_activations(activation, output_activation, len(layout.sizes))
    return layout, blank_network(layout, n_filters, activations, hidden_bias)


def _plant(
    n_samples: int,
    n_outputs: int,
    layout: Layout,
    blank: PatchCNN,
    share_filters: bool,
    rng: np.random.RandomState,
) -> tuple[np.ndarray, np.ndarray, list[PatchCNN]]:
    """X, other rows to look at networks on, and a network for each output."""
    n_features = math.prod(layout.input_shape)
    X = rng.standard_normal((n_samples, n_features))
    per_row = max(n_features, numbers_per_row(blank) // len(blank.scales))
    probe_rows = int(np.clip(PROBE_VALUES // per_row, 16, PROBE_ROWS))
    probe = rng.standard_normal((probe_rows, n_features))
    networks = [_draw_network(probe, blank, rng)]
    for _ in range(n_outputs - 1):
        shared = networks[0] if share_filters else None
        networks.append(_draw_network(probe, blank, rng, shared))
    if share_filters and n_outputs > 1:
        networks[0] = _draw_network(probe, blank, rng, networks[0])
    return X, probe, networks


def _outputs(networks: list[PatchCNN], X: np.ndarray) -> np.ndarray:
    return np.column_stack([forward(network, X) for network in networks])


def _kernels_of(networks: list[PatchCNN], layout: Layout) -> list[np.ndarray]:
    """As the estimators store them, (n_outputs, n_filters) + kernel_size."""
    return [
        np.stack(of_layer).reshape(*np.shape(of_layer)[:2], *shape)
        for of_layer, shape in zip(
            zip(*(network.kernels for network in networks), strict=True),
            layout.kernel_shapes,
            strict=True,
        )
    ]


def _draw_network(
    probe: np.ndarray,
    blank: PatchCNN,
    rng: np.random.RandomState,
    shared: PatchCNN | None = None,
) -> PatchCNN:
    """A network, or another readout for the hidden layers of a ``shared`` one."""
    n_filters = len(blank.scales)
    for _ in range(NETWORK_DRAWS):
        if shared is None:
            drawn = [_draw_filter(probe, blank, rng) for _ in range(n_filters)]
            kernels, biases = zip(*drawn, strict=True)
            network = blank._replace(
                kernels=tuple(np.stack(k) for k in zip(*kernels, strict=True)),
                biases=tuple(np.array(b) for b in zip(*biases, strict=True)),
                scales=rng.choice([-1.0, 1.0], size=n_filters),
            )
        else:
            network = _with_own_readout(shared, rng)
        output = forward(network, probe)
        if _is_alive(output):
            return network._replace(scales=network.scales / output.std())
    raise ValueError(
        f"no network of {n_filters} filters with kernels of {blank.sizes} weights "
        f"whose output varies was found; use other activations, or fewer layers"
    )


def _with_own_readout(network: PatchCNN, rng: np.random.RandomState) -> PatchCNN:
    """Other last kernels where the last layer is linear, and other scales."""
    *hidden, last = network.kernels
    if network.activations[-1] == "identity":
        last = rng.standard_normal(last.shape)
        last /= np.linalg.norm(last, axis=1, keepdims=True)
    scales = rng.standard_normal(len(network.scales))
    return network._replace(kernels=(*hidden, last), scales=scales)


def _draw_filter(
    probe: np.ndarray, blank: PatchCNN, rng: np.random.RandomState
) -> tuple[list[np.ndarray], list[float]]:
    """A unit kernel per layer and a bias per hidden one, if there are any.

    Both are drawn until the output of their layer is alive.
    """
    h, kernels, biases = probe, [], []
    for layer, (d, name) in enumerate(zip(blank.sizes, blank.activations, strict=True)):
        patches = _in_patches(h, blank.order(layer), d)
        for _ in range(KERNEL_DRAWS):
            k = rng.standard_normal(d)
            k /= np.linalg.norm(k)
            z, bias = patches @ k, 0.0
            if layer < len(blank.biases):
                bias = BIAS * z.std() * rng.standard_normal()
            h = ACTIVATIONS[name].value(z + bias, np.empty_like(z))
            if _is_alive(h):
                break
        kernels.append(k)
        biases.append(bias)
    return kernels, biases[: len(blank.biases)]


def _in_patches(h: np.ndarray, order: np.ndarray | None, d: int) -> np.ndarray:
    """Values (rows, values) as (rows, patches, d)."""
    if order is not None:
        h = np.pad(h, [(0, 0), (0, 1)])[:, order]
    return h.reshape(len(h), -1, d)


def _is_alive(h: np.ndarray) -> bool:
    differ = np.mean(h != np.median(h))
    return differ >= ALIVE and h.std() > VARIES * np.sqrt(np.mean(h**2))
