"""Rank-1 and rank-R approximation of the moment tensor.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
T           ``tensor``          (d_1, ..., d_D)
v_m         ``vectors[m]``      (d_m,), unit norm: the rank-1 factor of mode m
V_m         ``factors[m]``      (R, d_m), unit rows: the rank-R factors of mode m
c           ``weight``          inner product of T with v_1 o ... o v_D
==========  ==================  ==================================================

Starts are spectral (eigenvectors of small Gram matrices of unfoldings, never an SVD
of a full unfolding): one unfolding as square as can be, split again on both sides
(recursive unfolding, Richard and Montanari 2014, section 3.2), the leading mode of
what the modes before leave (both directions), and each mode for itself (HOSVD).
Each start is improved by higher-order power iteration.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy import linalg

from skdeeptd._linalg import pseudo_inverse

SAME_DIRECTION = 0.999  # |cosine| in every mode beyond which two results are one
NOTHING_LEFT = 1e-12  # share of the norm below which a residual is rounding error


class RankOne(NamedTuple):
    vectors: list
    weight: float


def moment_tensor(moment, sizes):
    """The moment, in patch order, with an axis per layer, first layer first."""
    return moment.reshape(sizes[::-1]).transpose()


def _unit(vector, fallback):
    norm = math.sqrt(vector @ vector)
    return vector / norm if norm > 0 else fallback


def _leading(matrix):
    """Leading left singular vector, by the Gram matrix of the shorter side."""
    n_rows, n_cols = matrix.shape
    if n_rows > n_cols:
        right = _leading(matrix.T)
        return _unit(matrix @ right, np.eye(1, n_rows)[0])
    gram = matrix @ matrix.T
    return linalg.eigh(gram, subset_by_index=[n_rows - 1, n_rows - 1])[1][:, 0]


def _start_balanced(tensor):
    """Recursive unfolding: split the modes in two, then each half again."""
    if tensor.ndim == 1:
        return [_unit(tensor, np.eye(1, len(tensor))[0])]
    sizes = np.cumprod(tensor.shape)[:-1]
    split = 1 + int(np.argmin(np.maximum(sizes, tensor.size // sizes)))
    matrix = tensor.reshape(sizes[split - 1], -1)
    left = _leading(matrix)
    return _start_balanced(left.reshape(tensor.shape[:split])) + _start_balanced(
        (left @ matrix).reshape(tensor.shape[split:])
    )


def _start_forward(tensor):
    """The first mode's leading vector, then the same for what it leaves."""
    vectors = []
    while tensor.ndim > 1:
        matrix = tensor.reshape(len(tensor), -1)
        vectors.append(_leading(matrix))
        tensor = (vectors[-1] @ matrix).reshape(tensor.shape[1:])
    return [*vectors, _unit(tensor, np.eye(1, len(tensor))[0])]


def _start_backward(tensor):
    return _start_forward(np.ascontiguousarray(tensor.T))[::-1]


def _start_hosvd(tensor):
    return [
        _leading(np.moveaxis(tensor, m, 0).reshape(tensor.shape[m], -1))
        for m in range(tensor.ndim)
    ]


def _start_random(tensor, rng):
    vectors = [rng.standard_normal(d) for d in tensor.shape]
    return [v / np.linalg.norm(v) for v in vectors]


def _sweep(tensor, vectors):
    """Update every mode in turn; partial products from the right are shared."""
    right = [tensor.reshape(-1)]
    for v in vectors[:0:-1]:
        right.append(right[-1].reshape(-1, len(v)) @ v)
    updated, left = [], np.ones(1)
    for partial, old in zip(reversed(right), vectors, strict=True):
        new = left @ partial.reshape(len(left), len(old))
        updated.append(_unit(new, old))
        left = np.multiply.outer(left, updated[-1]).ravel()
    return RankOne(updated, float(new @ updated[-1]))


def power_iteration(tensor, vectors, max_sweeps=50, tol=1e-6):
    """Alternate over the modes until the weight gains less than ``tol`` of itself."""
    result = _sweep(tensor, vectors)
    for _ in range(max_sweeps - 1):
        previous, result = result, _sweep(tensor, result.vectors)
        if result.weight <= previous.weight * (1 + tol):
            break
    return result


def _same(a, b):
    return all(
        abs(u @ v) >= SAME_DIRECTION for u, v in zip(a.vectors, b.vectors, strict=True)
    )


def rank_one_batches(tensor):
    """Rank-1 approximations, each direction once, in two batches.

    The first is from the balanced unfolding, the second, computed only when it is
    asked for, from the other spectral starts; its best approximation comes first.
    """
    seen = []
    for starts in (
        [_start_balanced],
        [_start_forward, _start_backward, _start_hosvd],
    ):
        batch = []
        results = [power_iteration(tensor, start(tensor)) for start in starts]
        for result in sorted(results, key=lambda r: -r.weight):
            if not any(_same(result, other) for other in [*seen, *batch]):
                batch.append(result)
        seen += batch
        yield batch


def spectral_rank_one(tensor):
    """The best rank-1 approximation from all spectral starts.

    Parameters
    ----------
    tensor : C-contiguous float64 array of shape (d_1, ..., d_D)

    Returns
    -------
    RankOne
    """
    first, others = rank_one_batches(tensor)
    return max(first + others, key=lambda result: result.weight)


def deflation(tensor, rank, rng):
    """Rank-1 terms one after the other, each from what the earlier ones leave."""
    terms, rest = [], tensor
    for _ in range(rank):
        if np.linalg.norm(rest) <= NOTHING_LEFT * np.linalg.norm(tensor):
            terms.append(_start_random(tensor, rng))
            continue
        term = spectral_rank_one(rest)
        terms.append(term.vectors)
        rest = rest - term.weight * functools.reduce(np.multiply.outer, term.vectors)
    return [np.stack(mode) for mode in zip(*terms, strict=True)]


def khatri_rao(factors, rank):
    """Row r: the outer product of row r of every factor, flattened."""
    product = np.ones((rank, 1))
    for factor in factors:
        product = product[:, :, np.newaxis] * factor[:, np.newaxis, :]
        product = product.reshape(rank, -1)
    return product


def alternating_least_squares(tensor, factors, max_sweeps=100, tol=1e-8):
    """Improve rank-R factors mode by mode until the error stops falling.

    A singular system is solved by the pseudo-inverse; a term that vanishes keeps its
    last direction.
    """
    factors, rank = list(factors), len(factors[0])
    unfolded = [
        np.moveaxis(tensor, m, 0).reshape(d, -1) for m, d in enumerate(tensor.shape)
    ]
    total, error = np.sum(tensor**2), np.inf
    for _ in range(max_sweeps):
        for m, matrix in enumerate(unfolded):
            design = khatri_rao(factors[:m] + factors[m + 1 :], rank)
            inner = design @ matrix.T
            gram = design @ design.T
            scaled = pseudo_inverse(gram) @ inner
            factors[m] = np.stack([*map(_unit, scaled, factors[m])])
        previous, error = error, total - np.sum(scaled * inner)
        if previous - error <= tol * total:
            break
    return factors


def candidate_batches(tensor, n_filters, rng):
    """Unit factors for the kernels in two batches, the second only when asked for.

    Parameters
    ----------
    tensor : float64 array of shape (d_1, ..., d_D), not zero
    n_filters : int
    rng : numpy.random.RandomState
        For factors of which the tensor says nothing.

    Yields
    ------
    list of list of array
        The candidates of a batch; each holds, per mode, an array (n_filters, d_m).
    """
    tensor = np.ascontiguousarray(tensor)
    if n_filters == 1:
        for batch in rank_one_batches(tensor):
            yield [[v[np.newaxis] for v in result.vectors] for result in batch]
    else:
        deflated = deflation(tensor, n_filters, rng)
        yield [alternating_least_squares(tensor, deflated)]
        yield [deflated]


def perturbed_candidate(tensor, n_filters, rng):
    """One candidate from a tensor whose entries have noise of their own size.

    It is another draw from what the sampling error of the moment leaves possible where
    the samples are few, and needs no pass over them.
    """
    noisy = tensor * (1 + rng.standard_normal(tensor.shape))
    return next(candidate_batches(noisy, n_filters, rng))[0]
