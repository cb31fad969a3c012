"""Data with a planted patch network.

==========  ==================  ================================================
symbol      array               axes
==========  ==================  ================================================
x           ``X``               (n_samples, n_features), standard normal
k_l         ``kernels[l]``      (n_outputs, n_filters) + kernel_size, unit norm
h_l         ``h``               (rows, patches): output of layer l on probe rows
==========  ==================  ================================================
"""

from numbers import Integral, Real

import numpy as np
from sklearn.utils import check_random_state, check_scalar

from skdeeptd._model.activations import ACTIVATIONS, layer_activations
from skdeeptd._model.layout import make_layout, n_features_of
from skdeeptd._model.network import PatchCNN, forward

ALIVE = 0.25  # least share of values that differ from the most frequent one
VARIES = 1e-12  # least standard deviation, relative to the root mean square
KERNEL_DRAWS, NETWORK_DRAWS = 200, 10  # at most, until one is alive
PROBE_ROWS, PROBE_VALUES = 512, 2**23  # at most, to see if a network is alive


def make_patch_cnn_regression(
    n_samples=200,
    kernel_sizes=(4, 4, 4),
    *,
    input_shape=None,
    n_filters=1,
    n_outputs=1,
    activation="relu",
    output_activation="identity",
    noise=0.0,
    random_state=None,
):
    """Regression data from a random patch network.

    X is standard normal. The kernels have random directions and unit norm, the filters
    of an output random signs; each output is scaled to a variance of about 1 before
    the noise is added. Kernels that leave a layer dead, as where a relu gives zero
    nearly everywhere, are drawn again.

    Parameters
    ----------
    n_samples : int, default=200
    kernel_sizes : sequence of int or of tuple of int, default=(4, 4, 4)
        First layer first, as in :class:`~skdeeptd.DeepTDRegressor`.
    input_shape : sequence of int, default=None
        The shape of a sample. None takes one axis of the product of the sizes.
    n_filters : int, default=1
    n_outputs : int, default=1
    activation : str or sequence of str, default="relu"
        For all hidden layers, or one for each.
    output_activation : str, default="identity"
    noise : float, default=0.0
        Standard deviation of the Gaussian noise on y.
    random_state : int, RandomState instance or None, default=None

    Returns
    -------
    X : ndarray of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
    kernels : list of ndarray of shape (n_outputs, n_filters) + kernel_size
        The planted truth, laid out as ``DeepTDRegressor.kernels_``.

    Raises
    ------
    ValueError, TypeError
        Where a parameter is out of range, the sizes do not fit each other, or no
        network whose output varies is found.

    Examples
    --------
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> X, y, kernels = make_patch_cnn_regression(
    ...     n_samples=50, kernel_sizes=(5, 3), random_state=0
    ... )
    >>> X.shape, y.shape, [k.shape for k in kernels]
    ((50, 15), (50,), [(1, 1, 5), (1, 1, 3)])
    """
    for name, value in {
        "n_samples": n_samples,
        "n_filters": n_filters,
        "n_outputs": n_outputs,
    }.items():
        check_scalar(value, name, Integral, min_val=1)
    check_scalar(noise, "noise", Real, min_val=0)
    if not np.isfinite(noise):
        raise ValueError(f"noise must be finite, got {noise}")
    rng = check_random_state(random_state)
    layout = make_layout(
        n_features_of(kernel_sizes, input_shape), kernel_sizes, input_shape
    )
    activations = layer_activations(activation, output_activation, len(layout.sizes))
    n_features = int(np.prod(layout.sizes))

    X = rng.standard_normal((n_samples, n_features))
    probe_rows = int(np.clip(PROBE_VALUES // n_features, 16, PROBE_ROWS))
    probe = rng.standard_normal((probe_rows, n_features))
    networks = [
        _draw_network(probe, layout, n_filters, activations, rng)
        for _ in range(n_outputs)
    ]
    y = np.column_stack([forward(network, X) for network in networks])
    y += noise * rng.standard_normal(y.shape)
    kernels = [
        np.stack(of_layer).reshape(n_outputs, n_filters, *shape)
        for of_layer, shape in zip(
            zip(*(network.kernels for network in networks), strict=True),
            layout.kernel_shapes,
            strict=True,
        )
    ]
    return X, y[:, 0] if n_outputs == 1 else y, kernels


def _draw_network(probe, layout, n_filters, activations, rng):
    for _ in range(NETWORK_DRAWS):
        filters = [
            _draw_filter(probe, layout.sizes, activations, rng)
            for _ in range(n_filters)
        ]
        network = PatchCNN(
            kernels=tuple(np.stack(k) for k in zip(*filters, strict=True)),
            scales=rng.choice([-1.0, 1.0], size=n_filters),
            intercept=0.0,
            activations=activations,
            orders=layout.orders,
        )
        output = forward(network, probe)
        if _is_alive(output):
            return network._replace(scales=network.scales / output.std())
    raise ValueError(
        f"no network of {n_filters} filters with kernel_sizes {layout.kernel_sizes} "
        f"whose output varies was found; use other activations, or fewer layers"
    )


def _draw_filter(probe, sizes, activations, rng):
    """A unit kernel per layer, each drawn until the output of its layer is alive."""
    h, kernels = probe, []
    for d, name in zip(sizes, activations, strict=True):
        patches = h.reshape(len(h), -1, d)
        for _ in range(KERNEL_DRAWS):
            k = rng.standard_normal(d)
            k /= np.linalg.norm(k)
            z = patches @ k
            h = ACTIVATIONS[name].value(z, np.empty_like(z))
            if _is_alive(h):
                break
        kernels.append(k)
    return kernels


def _is_alive(h):
    differ = np.mean(h != np.median(h))
    return differ >= ALIVE and h.std() > VARIES * np.sqrt(np.mean(h**2))
