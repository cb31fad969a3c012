import itertools

import numpy as np
import pytest
from skdeeptd._model.network import (
    PatchCNN,
    blank_network,
    forward,
    overlapping_patches,
)
from skdeeptd._solver.normal_equations import Objective
from skdeeptd._solver.search import (
    FEWEST_STARTS,
    MOST_STARTS,
    Spec,
    automatic_starts,
    constant_network,
    exchange,
    moves,
    neighbours,
    refine,
    search,
)
from skdeeptd._solver.together import ground_of

from skdeeptd._data.moments import cross_moment
from skdeeptd._data.rows import RowBlocks
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd.datasets import make_patch_cnn_regression

SIZES = (4, 3, 3)


def problem(n_rows=200, noise=0.0, activation="relu", n_filters=1, seed=0, **options):
    X, y = make_patch_cnn_regression(
        n_rows,
        SIZES,
        n_filters=n_filters,
        activation=activation,
        noise=noise,
        random_state=seed,
    )
    y = y - y.mean()
    blank = PatchCNN(
        tuple(np.zeros((n_filters, d)) for d in SIZES),
        np.zeros(n_filters),
        0.0,
        (activation, activation, "identity"),
    )
    rows = RowBlocks(X, y, np.ones(n_rows))
    moment = cross_moment(RowBlocks(X, y[:, np.newaxis], np.ones(n_rows)))[0]
    lines = []
    spec = Spec(blank, Objective(), report=lines.append, **options)
    return ground_of(spec, rows, n_rows), moment, lines


def starts_in(lines):
    return sum(line.startswith("start") for line in lines)


@pytest.mark.parametrize(
    ("n_samples", "n_weights", "n_filters", "expected"),
    [
        (20, 20, 1, FEWEST_STARTS),
        (40, 20, 1, 1000),
        (60, 20, 1, 297),
        (100, 20, 1, 64),
        (200, 20, 1, FEWEST_STARTS),
        (200, 20, 2, 2 * FEWEST_STARTS),
        (400, 20, 2, FEWEST_STARTS),
        (200, 20, 8, 3 * FEWEST_STARTS),
        (25, 20, 1, FEWEST_STARTS),
        (26, 20, 1, MOST_STARTS),
    ],
)
def test_fewer_samples_get_more_starts_within_bounds(
    n_samples, n_weights, n_filters, expected
):
    assert automatic_starts(n_samples, n_weights, n_filters) == expected


def test_an_exchange_keeps_some_layers_but_never_all():
    old, new = [np.zeros(1), np.zeros(2), np.zeros(3)], [np.ones(1)] * 3
    rng = np.random.RandomState(0)
    kept = [
        sum(a is b for a, b in zip(exchange(old, new, rng), old, strict=True))
        for _ in range(300)
    ]
    assert set(kept) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
def test_a_planted_network_is_found_and_ends_the_search(seed):
    on, moment, lines = problem(seed=seed, n_init=200)
    found = search(on, moment)
    assert found.share < 1e-20
    assert starts_in(lines) < 200
    np.testing.assert_allclose(forward(found.network, on.rows.X), on.rows.y, atol=1e-9)


def test_agreeing_starts_end_the_search_where_there_is_noise():
    n_starts = []
    for seed in range(5):
        on, moment, lines = problem(400, noise=0.5, seed=seed, n_init=100)
        search(on, moment)
        n_starts.append(starts_in(lines))
    assert 3 <= np.median(n_starts) <= 40


def test_the_network_to_begin_with_is_tried_before_all_others():
    on, moment, lines = problem(100, noise=0.3, n_init=1)
    best = search(*problem(100, noise=0.3, n_init=200)[:2]).network
    assert search(on, moment, first=best).loss <= search(on, moment).loss * (1 + 1e-9)
    assert starts_in(lines) == 2


@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus"])
@pytest.mark.parametrize("max_iter", [1, 2, 5])
def test_max_iter_bounds_all_passes_of_a_start(activation, max_iter):
    on, moment, _ = problem(
        noise=0.3, activation=activation, n_init=1, max_iter=max_iter
    )
    found = search(on, moment)
    assert found.n_iter <= max_iter
    assert not found.converged or max_iter > 2


def test_refining_does_not_search():
    on, moment, lines = problem(noise=0.3, n_init=20)
    found = search(on, moment)
    lines.clear()
    refined = refine(on, found.network)
    assert starts_in(lines) == 0
    assert refined.loss <= found.loss * (1 + 1e-9)
    assert refined.share == pytest.approx(refined.loss / on.constant.loss)


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_the_best_constant_is_the_weighted_mean_or_zero(fit_intercept):
    rng = np.random.default_rng(0)
    y, weight = rng.standard_normal(30) + 2, rng.random(30)
    on, _, _ = problem()
    rows = RowBlocks(rng.standard_normal((30, 36)), y, weight)
    spec = on.spec._replace(objective=Objective(0.0, fit_intercept))
    constant = constant_network(rows, spec)
    best = np.average(y, weights=weight) if fit_intercept else 0.0
    assert constant.loss == pytest.approx(np.sum(weight * (y - best) ** 2))
    np.testing.assert_allclose(forward(constant.network, rows.X), best)


def test_where_y_is_constant_there_is_nothing_to_look_for():
    on, moment, lines = problem()
    flat = ground_of(
        on.spec, RowBlocks(on.rows.X, np.full(200, 0.1), np.ones(200)), 200
    )
    assert search(flat, moment) is flat.constant
    assert refine(flat, on.constant.network) is flat.constant
    assert not lines


def shifts_of(size, d):
    """Which weights of a kernel of d stay, and where, moved by 1, 2, ... both ways."""
    here, there = np.arange(d), np.arange(d) + size
    inside = (there >= 0) & (there < d)
    return tuple(here[inside]), tuple(there[inside])


@pytest.mark.parametrize(("d", "stride"), [(8, 1), (8, 2), (8, 4), (5, 2), (4, 4)])
def test_neighbours_are_the_shifts_that_leave_half_of_a_kernel(d, stride):
    layout = make_layout(d + 9 * stride, (d, -1), strides=stride)
    table = np.array([stride * p + np.arange(d) for p in range(10)])
    found = {(tuple(a), tuple(b)) for a, b in neighbours(table)}
    steps = range(stride, d // 2 + 1, stride)
    expected = {shifts_of(sign * step, d) for step in steps for sign in (1, -1)}
    assert found == expected
    patches = overlapping_patches(blank_network(layout, 1, ("relu", "identity")))
    if stride < d:
        np.testing.assert_array_equal(patches[0], table)
    else:
        assert not patches


def test_neighbours_on_two_axes_are_those_that_share_an_edge():
    layout = make_layout(49, ((3, 3), -1), (7, 7), strides=1)
    blank = blank_network(layout, 1, ("relu", "identity"))
    found = neighbours(overlapping_patches(blank)[0])
    steps = set()
    for here, there in found:
        before, after = (np.unravel_index(i[0], (3, 3)) for i in (here, there))
        steps.add(tuple(int(i) for i in np.subtract(after, before)))
    assert steps == {(0, 1), (0, -1), (1, 0), (-1, 0)}


def test_zeros_beyond_the_end_are_not_shared():
    assert neighbours(np.array([[0, 1, 2], [2, -1, -1], [-1, -1, -1]])) == []


def test_moves_shift_every_filter_first_and_change_one_kernel_only():
    rng = np.random.default_rng(0)
    layout = make_layout(20, (4, 3, -1), strides=(2, 1))
    blank = blank_network(layout, 2, ("relu", "relu", "identity"))
    network = blank._replace(
        kernels=tuple(rng.standard_normal(k.shape) for k in blank.kernels),
        scales=np.ones(2),
    )
    patches = overlapping_patches(network)
    assert list(patches) == [0, 1]
    endless = moves(network, patches, np.random.RandomState(0))
    moved = list(itertools.islice(endless, 12))
    changed = []
    for other in moved:
        pairs = zip(network.kernels, other.kernels, strict=True)
        (at,) = [
            (layer, r)
            for layer, (a, b) in enumerate(pairs)
            for r in range(2)
            if np.any(a[r] != b[r])
        ]
        changed.append(at)
        layer, r = at
        np.testing.assert_allclose(
            np.linalg.norm(other.kernels[layer][r]),
            np.linalg.norm(network.kernels[layer][r]),
        )
    # two shifts by 2 of 4 weights, two by 1 of 3; the latter leave more
    assert sorted(changed[:4]) == [(1, 0), (1, 0), (1, 1), (1, 1)]
    assert sorted(changed[4:8]) == [(0, 0), (0, 0), (0, 1), (0, 1)]
    for other in moved[8:]:
        assert np.all(other.kernels[0] != 0)


def test_patches_that_overlap_get_more_starts_where_samples_are_many():
    few = automatic_starts(1000, 20, 4)
    many = automatic_starts(1000, 20, 4, overlap=True)
    assert (few, many) == (FEWEST_STARTS, 4 * FEWEST_STARTS)
    assert automatic_starts(100, 20, 4, overlap=True) == automatic_starts(100, 20, 4)
