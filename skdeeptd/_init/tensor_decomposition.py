"""Rank-1 and rank-R approximation of the moment tensor.

==========  ==================  ==================================================
symbol      array               axes
==========  ==================  ==================================================
T           ``tensor``          (d_1, ..., d_D)
v_m         ``vectors[m]``      (d_m,), unit norm: the rank-1 factor of mode m
V_m         ``factors[m]``      (R, d_m), unit rows: the rank-R factors of mode m
c           ``weight``          inner product of T with v_1 o ... o v_D
==========  ==================  ==================================================

Starts are spectral: eigenvectors of small Gram matrices of unfoldings, never an SVD of
a full unfolding. One start splits an unfolding that is as square as possible, and both
sides again (recursive unfolding, Richard and Montanari 2014, section 3.2). Two starts
take the leading vector of one mode after the other, in both orders, each contracted
before the next. One start takes each mode by itself (HOSVD).
Each start is improved by higher-order power iteration, rank-R factors by alternating
least squares. Both read the tensor twice a sweep, however many modes there are: they
share contractions in a dimension tree (Phan, Tichavsky and Cichocki 2013).
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy import linalg

from skdeeptd._solvers.linalg import pseudo_inverse

SAME_DIRECTION = 0.999  # |cosine| in every mode beyond which two results are one
SMALL_GRAM = 128  # rows of a Gram matrix that costs few passes over the tensor
NOTHING_LEFT = 1e-12  # share of the norm below which a residual is rounding error


class RankOne(NamedTuple):
    vectors: list
    weight: float


def moment_tensor(moment, sizes):
    """Return a moment in patch order with an axis per layer, first layer first."""
    return moment.reshape(sizes[::-1]).transpose()


def _unit(vector, fallback):
    norm = math.sqrt(vector.dot(vector))
    return vector / norm if norm > 0 else fallback


def outer_product(factors):
    """Return the outer product of vectors, flattened; of matrices, row by row."""
    if len(factors) == 1:
        return factors[0]
    middle = len(factors) // 2
    left, right = outer_product(factors[:middle]), outer_product(factors[middle:])
    product = left[..., np.newaxis] * right[..., np.newaxis, :]
    return product.reshape((*left.shape[:-1], -1))


def _leading(gram):
    """Return the eigenvector of the largest eigenvalue."""
    last = len(gram) - 1
    return linalg.eigh(gram, subset_by_index=[last, last])[1][:, 0]


def _start_unfolding(tensor, split):
    """Split off leading vectors of an unfolding, then of each of the two."""
    if tensor.ndim == 1:
        return [_unit(tensor, np.eye(1, len(tensor))[0])]
    middle = split(tensor.shape)
    matrix = tensor.reshape(math.prod(tensor.shape[:middle]), -1)
    if matrix.shape[0] <= matrix.shape[1]:
        left = _leading(matrix @ matrix.T)
        right = left @ matrix
    else:
        right = _leading(matrix.T @ matrix)
        left = matrix @ right
    return [
        *_start_unfolding(left.reshape(tensor.shape[:middle]), split),
        *_start_unfolding(right.reshape(tensor.shape[middle:]), split),
    ]


def _most_square(shape):
    """Return the most square split with a small Gram matrix, or the smallest."""
    size = math.prod(shape)

    def merit(middle):
        rows = math.prod(shape[:middle])
        shorter = min(rows, size // rows)
        return shorter if shorter <= SMALL_GRAM else -shorter

    return max(range(1, len(shape)), key=merit)


def _start_hosvd(tensor, first=0, last=None):
    """Return leading vectors of modes; neighbours share a small Gram matrix."""
    last = tensor.ndim if last is None else last
    shape = tensor.shape[first:last]
    size = math.prod(shape)
    if size > SMALL_GRAM and len(shape) > 1:
        middle = (first + last) // 2
        return [
            *_start_hosvd(tensor, first, middle),
            *_start_hosvd(tensor, middle, last),
        ]
    matrix = tensor.reshape(math.prod(tensor.shape[:first]), size, -1)
    matrix = matrix.swapaxes(0, 1).reshape(size, -1)
    gram = matrix @ matrix.T
    vectors = []
    for m, d in enumerate(shape):
        around = (math.prod(shape[:m]), d, math.prod(shape[m + 1 :]))
        of_mode = np.einsum("aibajb->ij", gram.reshape(around + around))
        vectors.append(_leading(of_mode))
    return vectors


_start_balanced = functools.partial(_start_unfolding, split=_most_square)
_start_forward = functools.partial(_start_unfolding, split=lambda shape: 1)
_start_backward = functools.partial(
    _start_unfolding, split=lambda shape: len(shape) - 1
)


def _times(matrix, vectors):
    """Multiply one matrix, or each vector's own matrix, by all vectors."""
    if matrix.ndim == 2:
        return matrix.dot(vectors.T).T
    return (matrix @ vectors[..., np.newaxis])[..., 0]


def _contractions(tensor, factors, first, last):
    """Yield for each mode the tensor contracted with the factors of other modes.

    The modes are split in two halves. The tensor contracted with one half is small, and
    is split again for the modes of the other half.

    Parameters
    ----------
    tensor : array of shape (size,), or (R, size), one for each row of the factors
    factors : list of D arrays of shape (d_m,) or (R, d_m)
        The caller may replace a factor once the contraction of its mode is yielded.
    first, last : int
        The tensor has the modes from ``first`` to before ``last``.

    Yields
    ------
    m : int
    contraction : array of shape (d_m,) or (R, d_m)
    """
    if last - first == 1:
        yield first, tensor
        return
    middle = (first + last) // 2
    right = outer_product(factors[middle:last])
    matrix = tensor.reshape((*tensor.shape[:-1], -1, right.shape[-1]))
    yield from _contractions(_times(matrix, right), factors, first, middle)
    left = outer_product(factors[first:middle])
    partial = _times(matrix.swapaxes(-1, -2), left)
    yield from _contractions(partial, factors, middle, last)


def _sweep(tensor, vectors):
    """Update every mode in turn."""
    vectors = list(vectors)
    for m, new in _contractions(tensor.reshape(-1), vectors, 0, len(vectors)):
        vectors[m] = _unit(new, vectors[m])
    return RankOne(vectors, float(new.dot(vectors[-1])))


def power_iteration(tensor, vectors, max_sweeps=50, tol=1e-6):
    """Alternate over the modes until the weight gains less than ``tol`` of itself."""
    result = _sweep(tensor, vectors)
    for _ in range(max_sweeps - 1):
        previous, result = result, _sweep(tensor, result.vectors)
        if result.weight <= previous.weight * (1 + tol):
            break
    return result


def _same(a, b):
    return all(abs(u @ v) >= SAME_DIRECTION for u, v in zip(a.vectors, b.vectors))


def rank_one_batches(tensor):
    """Yield rank-1 approximations, each direction once, in two batches.

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
    """Return the best rank-1 approximation from all spectral starts.

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
    """Return rank-1 terms, each fitted to the residual of the earlier ones."""
    terms, rest = [], tensor
    for _ in range(rank):
        if np.linalg.norm(rest) <= NOTHING_LEFT * np.linalg.norm(tensor):
            drawn = [rng.standard_normal(d) for d in tensor.shape]
            terms.append([v / np.linalg.norm(v) for v in drawn])
            continue
        term = spectral_rank_one(rest)
        terms.append(term.vectors)
        weighted = [term.weight * term.vectors[0], *term.vectors[1:]]
        rest = rest - outer_product(weighted).reshape(tensor.shape)
    return [np.stack(mode) for mode in zip(*terms, strict=True)]


def alternating_least_squares(tensor, factors, max_sweeps=100, tol=1e-8):
    """Improve rank-R factors mode by mode until the error stops falling.

    A singular system is solved by the pseudo-inverse; a term that vanishes keeps its
    last direction.
    """
    factors, flat = list(factors), tensor.reshape(-1)
    grams = np.stack([factor @ factor.T for factor in factors])
    total, error = flat @ flat, np.inf
    if len(factors) == 1:
        flat = np.tile(flat, (len(factors[0]), 1))
    for _ in range(max_sweeps):
        for m, inner in _contractions(flat, factors, 0, len(factors)):
            grams[m] = 1
            scaled = pseudo_inverse(grams.prod(axis=0)) @ inner
            factors[m] = np.array([*map(_unit, scaled, factors[m])])
            grams[m] = factors[m] @ factors[m].T
        previous, error = error, total - np.sum(scaled * inner)
        if previous - error <= tol * total:
            break
    return factors


def candidate_batches(tensor, n_filters, rng):
    """Yield unit factors for the kernels in two batches.

    Parameters
    ----------
    tensor : float64 array of shape (d_1, ..., d_D), not zero
    n_filters : int
    rng : numpy.random.RandomState
        Draws factors that the tensor does not determine.

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
    """Return a candidate from a tensor whose entries have noise of their own size.

    With few samples the sampling error of the moment is about as large. The candidate
    needs no pass over the samples.
    """
    noisy = tensor * (1 + rng.standard_normal(tensor.shape))
    return next(candidate_batches(noisy, n_filters, rng))[0]
