"""A start for one hidden layer with biases from the first and the second moment.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
x_p         ``patches``         (rows, patches, d): what patch p holds, centred
y           ``y``               (rows,), centred; or (rows, outputs)
S_p         ``first``           (patches, d): sum_i w_i y_i x_ip
M_p         ``second``          (patches, d, d): sum_i w_i y_i x_ip x_ip'
==========  ==================  ==================================================

For Gaussian x of unit covariance S_p / sum w is E[y x_p] = sum_r a_rp E[phi'] k_r and
M_p / sum w is E[y (x_p x_p' - I)] = sum_r a_rp E[phi''] k_r k_r' (Stein's lemma, once
and twice). So both lie in the span of the kernels: half of these begin as leading
directions of all S_p, half as those of all M_p. Where outputs share the kernels, the
moments of all of them count. Neither tells their signs and biases where the kernels are
turned within the span, so these are drawn.
"""

import functools

import numpy as np

from skdeeptd._data.rows import add
from skdeeptd._model.network import patch_order
from skdeeptd._solver.calibration import mean_square

BIAS_STD = 0.5  # of the pre-activation's deviation
MOST_OUTPUTS = 10  # whose moments are taken; of more as many random mixtures


def serves(network):
    """Whether the network is one that such a start is for."""
    return (
        len(network.biases) == 1
        and len(network.kernels) == 2
        and len(network.scales) > 1
        and network.activations[0] != "identity"
        and network.activations[1] == "identity"
    )


def start_of_both_moments(network, rows, rng):
    """The network with kernels and biases of its hidden layer, and no readout.

    Parameters
    ----------
    network : PatchCNN
        Its structure, one that this start ``serves``.
    rows : RowBlocks
        With a target of one output, or of several that share the hidden layer.
    rng : numpy.random.RandomState

    Returns
    -------
    PatchCNN

    Raises
    ------
    FloatingPointError
        Where a moment overflows.
    """
    n_filters = len(network.scales)
    moments = all_patch_moments(network, rows, rng)
    kernels = kernels_of(*moments, n_filters, rng)
    kernels *= rng.choice([-1.0, 1.0], size=(n_filters, 1))
    start = network._replace(
        kernels=(kernels, np.zeros_like(network.kernels[1])),
        scales=np.ones(n_filters),
        biases=(np.zeros(n_filters),),
        intercept=0.0,
    )
    size = np.sqrt(mean_square(start, rows, layer=0))
    biases = BIAS_STD * size * rng.standard_normal(n_filters)
    if start.is_homogeneous:
        return start._replace(biases=(biases,))
    gain = 1 / np.where(size > 0, size, 1.0)
    kernels = kernels * gain[:, np.newaxis], start.kernels[1]
    return start._replace(kernels=kernels, biases=(biases * gain,))


def kernels_of(first, second, n_filters, rng):
    """Half of them leading directions of all S_p, half those of all M_p."""
    first, second = _of_size_one(first), _of_size_one(second)
    second = second.reshape(-1, second.shape[2])  # M_p is symmetric
    n_second = n_filters // 2
    return np.concatenate(
        [
            _leading(first.T @ first, n_filters - n_second, rng),
            _leading(second.T @ second, n_second, rng),
        ]
    )


def all_patch_moments(network, rows, rng):
    """S_p and M_p of all outputs, one output after the other.

    Of many outputs those of Gaussian mixtures: the sums over outputs of S'S and of M'M,
    all that ``kernels_of`` takes, are then the same in expectation but for a factor.
    """
    if rows.pilot()[1].ndim == 1:
        return patch_moments(network, rows)
    n_outputs = rows.pilot()[1].shape[1]
    mixtures = np.eye(n_outputs)
    if n_outputs > MOST_OUTPUTS:
        mixtures = rng.standard_normal((MOST_OUTPUTS, n_outputs))
    moments = [
        patch_moments(network, rows.with_targets(functools.partial(_mixed, mixture)))
        for mixture in mixtures
    ]
    return [np.concatenate(parts) for parts in zip(*moments, strict=True)]


def _mixed(mixture, y, weight):
    return y @ mixture, weight


@np.errstate(over="ignore", invalid="ignore")
def patch_moments(network, rows):
    """S_p and M_p: one pass."""
    d = network.sizes[0]
    total, y_sum = add(rows.targets(lambda y, w: (np.sum(w), w @ y)))
    pilot = patch_order(network, rows.pilot()[0]).reshape(-1, d).copy()

    def statistic(X, y, weight):
        patches = patch_order(network, X).reshape(len(X), -1, d) - pilot.astype(X.dtype)
        by_patch = np.ascontiguousarray(patches.transpose(1, 2, 0))
        weighted = by_patch * (weight * (y - y_sum / total)).astype(X.dtype)
        return (
            np.sum(weighted, axis=2),
            weighted @ by_patch.swapaxes(1, 2),
            np.tensordot(weight.astype(X.dtype), patches, axes=1),
        )

    first, second, x_sum = rows.reduce(statistic, width=3 * pilot.size)
    mean = x_sum / total
    cross = mean[:, :, np.newaxis] * first[:, np.newaxis]
    return first, second - cross - cross.swapaxes(1, 2)


def _of_size_one(moment):
    """The moment over its largest entry."""
    size = np.abs(moment).max()
    if not np.isfinite(size):
        raise FloatingPointError("the second moment of X and y overflows")
    return moment / size if size > 0 else moment


def _leading(gram, n, rng):
    """Leading eigenvectors, and beyond all of them directions that are drawn."""
    vectors = np.linalg.eigh(gram)[1][:, ::-1].T[:n]
    drawn = rng.standard_normal((n - len(vectors), len(gram)))
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return np.concatenate([vectors, drawn])
