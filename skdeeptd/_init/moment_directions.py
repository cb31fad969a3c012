"""Directions of filters from the first and the second moment of patches.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
x_p         ``patches``         (rows, patches, d): the values of patch p, centred
y           ``y``               (rows, outputs), centred
S_p         ``first``           (patches, d): sum_i w_i y_i x_ip, per output
M_p         ``second``          (patches, d, d): sum_i w_i y_i x_ip x_ip'
==========  ==================  ==================================================

For Gaussian x of unit covariance, by Stein's lemma::

    S_p / sum w estimates E[y x_p] = sum_r a_rp E[phi'] k_r
    M_p / sum w estimates E[y (x_p x_p' - I)] = sum_r a_rp E[phi''] k_r k_r'

Both lie in the span of the kernels: half of the kernels begin as leading directions of
all S_p, half as those of all M_p. If outputs share the kernels, the moments of all
outputs count. Neither moment determines the signs and biases of kernels that are
rotated within the span, so these are drawn.
"""

import functools

import numpy as np

from skdeeptd._data.rows import mean_of_targets
from skdeeptd._init.signs import mean_square
from skdeeptd._network.network import in_patch_order


def supports_second_moment(network):
    """Return whether a start from both moments exists: one hidden layer with biases."""
    has_one_layer = len(network.biases) == len(network.kernels) == 1
    return (
        has_one_layer and network.n_filters > 1 and network.activations != ("identity",)
    )


def start_of_both_moments(network, rows, rng):
    """Return the network with hidden kernels and biases, and heads of zero.

    Parameters
    ----------
    network : Network
        The structure, one that ``supports_second_moment``.
    rows : RowBlocks
        With a target (rows, outputs).
    rng : numpy.random.RandomState

    Returns
    -------
    Network

    Raises
    ------
    FloatingPointError
        If a moment overflows.
    """
    kernels, size, biases = moment_filters(network, rows, rng)
    if network.is_homogeneous:
        biases = biases * size
    else:
        kernels = kernels / np.where(size > 0, size, 1.0)[:, np.newaxis]
    heads, intercept = np.zeros_like(network.heads), np.zeros(len(network.heads))
    return network._replace(
        kernels=(kernels,), biases=(biases,), heads=heads, intercept=intercept
    )


def moment_filters(network, rows, rng, bias_std=0.5):
    """Draw filters for the first layer of a network.

    Parameters
    ----------
    network : Network
    rows : RowBlocks
    rng : numpy.random.RandomState
    bias_std : float
        Standard deviation of the biases, in units of the pre-activations.

    Returns
    -------
    kernels : ndarray of shape (filters, d)
        Kernels of norm one, with random signs.
    size : ndarray of shape (filters,)
        Root mean square of their pre-activations without biases.
    biases : ndarray of shape (filters,)
        In units of ``size``.
    """
    n_filters = network.n_filters
    kernels = leading_kernels(*all_patch_moments(network, rows, rng), n_filters, rng)
    kernels *= rng.choice([-1.0, 1.0], size=(n_filters, 1))
    with_kernels = network._replace(kernels=(kernels, *network.kernels[1:]))
    size = np.sqrt(mean_square(with_kernels, rows, layer=0))
    return kernels, size, bias_std * rng.standard_normal(n_filters)


def leading_kernels(first, second, n_filters, rng):
    """Return leading directions, half of all S_p, half of all M_p."""
    first, second = _with_largest_one(first), _with_largest_one(second)
    second = second.reshape(-1, second.shape[2])  # M_p is symmetric
    n_second = n_filters // 2
    return np.concatenate(
        [
            leading_directions(first.T @ first, n_filters - n_second, rng),
            leading_directions(second.T @ second, n_second, rng),
        ]
    )


def all_patch_moments(network, rows, rng, most_outputs=10):
    """Return S_p and M_p of all outputs, one output after the other.

    More than ``most_outputs`` outputs are replaced by as many Gaussian mixtures:
    the sums over outputs of S'S and M'M are then the same in expectation up to a
    factor.
    """
    n_outputs = rows.first_row()[1].shape[1]
    mixtures = np.eye(n_outputs)
    if n_outputs > most_outputs:
        mixtures = rng.standard_normal((most_outputs, n_outputs))
    moments = [
        patch_moments(network, rows.with_targets(functools.partial(_mixed, mixture)))
        for mixture in mixtures
    ]
    return [np.concatenate(parts) for parts in zip(*moments, strict=True)]


def _mixed(mixture, y, weight):
    return y @ mixture, weight


@np.errstate(over="ignore", invalid="ignore")
def patch_moments(network, rows):
    """Return S_p and M_p of a target (rows,): one pass."""
    d, order = network.sizes[0], network.orders[0]
    y_mean, total = mean_of_targets(rows)
    first_row = in_patch_order(rows.first_row()[0], order, "X").reshape(-1, d).copy()

    def statistic(X, y, weight):
        patches = in_patch_order(X, order, "X").reshape(len(X), -1, d)
        patches = patches - first_row.astype(X.dtype)
        by_patch = np.ascontiguousarray(patches.transpose(1, 2, 0))
        weighted = by_patch * (weight * (y - y_mean)).astype(X.dtype)
        return (
            np.sum(weighted, axis=2),
            weighted @ by_patch.swapaxes(1, 2),
            np.tensordot(weight.astype(X.dtype), patches, axes=1),
        )

    first, second, x_sum = rows.reduce(statistic, width=3 * first_row.size)
    mean = x_sum / total
    cross = mean[:, :, np.newaxis] * first[:, np.newaxis]
    return first, second - cross - cross.swapaxes(1, 2)


def _with_largest_one(moment):
    """Return the moment over its largest entry."""
    size = np.abs(moment).max()
    if not np.isfinite(size):
        raise FloatingPointError("the second moment of X and y overflows")
    return moment / size if size > 0 else moment


def leading_directions(gram, n, rng):
    """Return ``n`` leading eigenvectors, and drawn directions if there are fewer.

    Eigenvalues below the root of the rounding error do not count: the units of X would
    change their vectors. The first of the largest entries of a vector is positive,
    since rounding decides the sign that LAPACK returns; in vectors of symmetric
    patterns several entries are the largest up to rounding.
    """
    values, vectors = np.linalg.eigh(gram)
    kept = values > np.sqrt(np.finfo(float).eps) * values[-1]
    vectors = vectors[:, kept][:, ::-1].T[:n]
    size = np.abs(vectors)
    is_large = size > (1 - 1e-6) * size.max(axis=1, keepdims=True, initial=0)
    largest = is_large.argmax(axis=1)[:, np.newaxis]
    vectors = vectors * np.sign(np.take_along_axis(vectors, largest, axis=1))
    drawn = rng.standard_normal((n - len(vectors), len(gram)))
    if len(vectors) < len(gram):
        drawn -= drawn @ vectors.T @ vectors
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.concatenate([vectors, drawn])
