import functools
import tracemalloc

import numpy as np
import pytest

from skdeeptd._init.tensor_decomposition import (
    _contractions,
    _most_square,
    _start_backward,
    _start_balanced,
    _start_forward,
    _start_hosvd,
    _sweep,
    alternating_least_squares,
    candidate_batches,
    outer_product,
    perturbed_candidate,
    power_iteration,
    rank_one_batches,
    spectral_rank_one,
)
from skdeeptd.metrics import kernel_similarity


def outer(vectors):
    return functools.reduce(np.multiply.outer, vectors)


def outer_of_rows(factors, rank):
    """Row r: the outer product of row r of every factor, flattened."""
    return np.array(
        [np.ravel(outer([1.0, *(f[r] for f in factors)])) for r in range(rank)]
    )


def unit_vectors(shape, rng):
    vectors = [rng.standard_normal(d) for d in shape]
    return [v / np.linalg.norm(v) for v in vectors]


def similarity(factors, true):
    return kernel_similarity([f[np.newaxis] for f in factors], [f[None] for f in true])


@pytest.mark.parametrize("shape", [(7,), (1,), (4, 6), (3, 4, 5), (2,) * 8, (5, 1, 3)])
def test_a_rank_one_tensor_is_found_exactly(shape):
    true = unit_vectors(shape, np.random.default_rng(0))
    batches = list(rank_one_batches(-3 * outer(true)))
    assert [len(batch) for batch in batches] == [1, 0]
    found = batches[0][0]
    np.testing.assert_allclose(found.weight, 3, rtol=1e-12)
    np.testing.assert_allclose(
        found.weight * outer(found.vectors), -3 * outer(true), atol=1e-12
    )


def test_a_sweep_equals_contracting_all_other_modes():
    rng = np.random.default_rng(1)
    tensor = rng.standard_normal((3, 4, 5))
    start = unit_vectors(tensor.shape, rng)
    a = np.einsum("ijk,j,k->i", tensor, start[1], start[2])
    a /= np.linalg.norm(a)
    b = np.einsum("ijk,i,k->j", tensor, a, start[2])
    b /= np.linalg.norm(b)
    c = np.einsum("ijk,i,j->k", tensor, a, b)
    result = _sweep(tensor, start)
    for mine, expected in zip(
        result.vectors, (a, b, c / np.linalg.norm(c)), strict=True
    ):
        np.testing.assert_allclose(mine, expected, rtol=1e-12)
    np.testing.assert_allclose(result.weight, np.linalg.norm(c), rtol=1e-12)


def test_power_iteration_ends_at_a_stationary_point():
    rng = np.random.default_rng(2)
    tensor = rng.standard_normal((4, 5, 6))
    result = power_iteration(
        tensor, unit_vectors(tensor.shape, rng), max_sweeps=2000, tol=0
    )
    a, b, c = result.vectors
    for contracted, vector in [
        (np.einsum("ijk,j,k->i", tensor, b, c), a),
        (np.einsum("ijk,i,k->j", tensor, a, c), b),
        (np.einsum("ijk,i,j->k", tensor, a, b), c),
    ]:
        np.testing.assert_allclose(contracted, result.weight * vector, atol=1e-6)


def test_each_direction_comes_once_and_the_best_of_a_batch_first():
    tensor = np.random.default_rng(3).standard_normal((8, 8, 8))
    first, others = rank_one_batches(tensor)
    assert len(first) == 1
    assert others
    weights = [result.weight for result in others]
    assert weights == sorted(weights, reverse=True)
    found = [*first, *others]
    for i, a in enumerate(found):
        for b in found[:i]:
            cosines = [abs(u @ v) for u, v in zip(a.vectors, b.vectors, strict=True)]
            assert min(cosines) < 0.999


def test_perturbed_candidates_stay_near_a_planted_direction_but_differ():
    rng = np.random.RandomState(0)
    true = unit_vectors((6, 7, 8), np.random.default_rng(0))
    found = [perturbed_candidate(outer(true), 1, rng) for _ in range(10)]
    worst = [min(abs(u[0] @ v) for u, v in zip(f, true, strict=True)) for f in found]
    assert min(worst) > 0.6
    assert np.std(worst) > 0.01


def test_a_matrix_gives_its_leading_singular_vectors():
    matrix = np.random.default_rng(3).standard_normal((6, 9))
    left, values, right = np.linalg.svd(matrix)
    found = spectral_rank_one(matrix)
    np.testing.assert_allclose(found.weight, values[0], rtol=1e-9)
    assert abs(found.vectors[0] @ left[:, 0]) > 1 - 1e-8
    assert abs(found.vectors[1] @ right[0]) > 1 - 1e-8


def leading(matrix):
    return np.linalg.svd(matrix)[0][:, 0]


@pytest.mark.parametrize(
    "start", [_start_balanced, _start_forward, _start_backward, _start_hosvd]
)
@pytest.mark.parametrize("shape", [(6, 9), (9, 6), (5, 5), (1, 4), (4, 1), (200, 3)])
def test_the_start_of_a_matrix_is_its_leading_singular_pair(start, shape):
    matrix = np.random.default_rng(0).standard_normal(shape)
    left, right = start(matrix)
    assert abs(left @ leading(matrix)) > 1 - 1e-12
    assert abs(right @ leading(matrix.T)) > 1 - 1e-12


@pytest.mark.parametrize("shape", [(5, 6, 7), (5, 1, 6, 7), (2,) * 10, (150, 2, 3)])
def test_starts_from_single_modes_are_those_of_the_full_unfoldings(shape):
    tensor = np.random.default_rng(1).standard_normal(shape)
    for m, found in enumerate(_start_hosvd(tensor)):
        unfolded = np.moveaxis(tensor, m, 0).reshape(shape[m], -1)
        assert abs(found @ leading(unfolded)) > 1 - 1e-9
    for start, rest in [(_start_forward, tensor), (_start_backward, tensor.T)]:
        vectors = start(tensor)
        for found in vectors if start is _start_forward else vectors[::-1]:
            expected = leading(rest.reshape(len(rest), -1))
            assert abs(found @ expected) > 1 - 1e-9
            rest = np.tensordot(expected, rest, 1)


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        ((6, 9), 1),
        ((10, 10, 10), 1),
        ((2, 3, 7), 2),
        ((2,) * 14, 7),
        ((2,) * 20, 7),  # 2^7 rows
        ((300, 2, 200), 2),
    ],
)
def test_the_split_is_as_square_as_its_gram_matrix_is_small(shape, first):
    assert _most_square(shape) == first


@pytest.mark.parametrize("shape", [(7,), (4, 6), (3, 4, 5), (2, 3, 1, 4, 2)])
def test_contractions_are_with_the_present_factors_of_all_other_modes(shape):
    rng = np.random.default_rng(5)
    tensor = rng.standard_normal(shape)
    vectors = unit_vectors(shape, rng)
    factors = [rng.standard_normal((3, d)) for d in shape]
    for m, found in _contractions(tensor.ravel(), vectors, 0, len(shape)):
        expected = np.moveaxis(tensor, m, -1)
        for other in vectors[:m] + vectors[m + 1 :]:
            expected = np.tensordot(other, expected, 1)
        np.testing.assert_allclose(found, expected, atol=1e-12)
        vectors[m] = rng.standard_normal(shape[m])
    for m, found in _contractions(tensor.ravel(), factors, 0, len(shape)):
        others = outer_of_rows(factors[:m] + factors[m + 1 :], 3)
        unfolded = np.moveaxis(tensor, m, 0).reshape(shape[m], -1)
        expected = others @ unfolded.T
        np.testing.assert_allclose(np.broadcast_to(found, expected.shape), expected)
        factors[m] = rng.standard_normal((3, shape[m]))


def test_the_outer_product_of_matrices_is_that_of_their_rows():
    factors = [np.random.default_rng(m).standard_normal((3, m)) for m in (2, 3, 4)]
    expected = outer_of_rows(factors, 3)
    np.testing.assert_allclose(outer_product(factors), expected, rtol=1e-15)


@pytest.mark.parametrize("noise", [0.5, 1])
@pytest.mark.parametrize("seed", range(20))
def test_a_planted_direction_is_found_as_well_as_from_the_truth(seed, noise):
    rng = np.random.default_rng(seed)
    true = unit_vectors((2,) * 12, rng)
    draw = rng.standard_normal((2,) * 12)
    tensor = outer(true) + noise * draw / np.linalg.norm(draw)
    found, of_truth = spectral_rank_one(tensor), power_iteration(tensor, true)

    def inner(vectors):
        return np.prod([abs(u @ v) for u, v in zip(vectors, true, strict=True)])

    assert inner(found.vectors) >= inner(of_truth.vectors) - 1e-6
    assert inner(found.vectors) > 1 - 0.01 * noise**2


def test_sweeps_do_not_copy_the_tensor():
    tensor = np.random.default_rng(0).standard_normal((2,) * 16)
    factors = [np.random.default_rng(m).standard_normal((2, 2)) for m in range(16)]
    tracemalloc.start()
    power_iteration(tensor, [f[0] for f in factors])
    alternating_least_squares(tensor, factors, max_sweeps=2)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < tensor.nbytes / 4


@pytest.mark.parametrize("seed", range(5))
def test_least_squares_finds_the_planted_terms(seed):
    rng = np.random.default_rng(seed)
    true = [rng.standard_normal((3, d)) for d in (10, 11, 12)]
    tensor = np.einsum("ri,rj,rk->ijk", *true)
    batches = candidate_batches(tensor, 3, np.random.RandomState(seed))
    found = [similarity(candidate, true) for batch in batches for candidate in batch]
    assert max(cosines.min() for cosines in found) > 1 - 1e-4


@pytest.mark.parametrize("shape", [(5,), (2, 2), (3, 2, 2), (1, 4)])
def test_more_terms_than_a_mode_has_room_for_give_unit_factors(shape):
    tensor = np.random.default_rng(0).standard_normal(shape)
    batches = candidate_batches(tensor, 6, np.random.RandomState(0))
    for candidate in (c for batch in batches for c in batch):
        for factor, d in zip(candidate, shape, strict=True):
            assert factor.shape == (6, d)
            np.testing.assert_allclose(np.linalg.norm(factor, axis=1), 1, rtol=1e-9)


def test_a_least_squares_sweep_solves_for_each_mode_in_turn():
    rng = np.random.default_rng(6)
    tensor = rng.standard_normal((3, 4, 5, 2))
    factors = [rng.standard_normal((2, d)) for d in tensor.shape]
    found = alternating_least_squares(tensor, factors, max_sweeps=1)
    for m, d in enumerate(tensor.shape):
        design = outer_of_rows(factors[:m] + factors[m + 1 :], 2).T
        unfolded = np.moveaxis(tensor, m, 0).reshape(d, -1)
        solved = np.linalg.lstsq(design, unfolded.T, rcond=None)[0]
        factors[m] = solved / np.linalg.norm(solved, axis=1, keepdims=True)
        np.testing.assert_allclose(found[m], factors[m], atol=1e-12)


def test_least_squares_never_raises_the_error():
    rng = np.random.default_rng(4)
    tensor = rng.standard_normal((4, 5, 6))
    start = [rng.standard_normal((2, d)) for d in tensor.shape]

    def error(factors):
        terms = np.einsum("ri,rj,rk->rijk", *factors).reshape(2, -1)
        weights = np.linalg.lstsq(terms.T, tensor.ravel(), rcond=None)[0]
        return np.linalg.norm(tensor.ravel() - weights @ terms)

    errors = [
        error(alternating_least_squares(tensor, start, max_sweeps=n, tol=0))
        for n in (1, 2, 5, 20, 100)
    ]
    assert np.all(np.diff(errors) <= 1e-9)
    assert errors[-1] < errors[0] - 1e-3
