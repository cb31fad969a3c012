import itertools

import numpy as np
import pytest

from skdeeptd._data.moments import cross_moment
from skdeeptd._data.rows import RowBlocks
from skdeeptd._init.multi_start import (
    Spec,
    automatic_starts,
    constant_network,
    crossover,
    make_evaluator,
    neighbours,
    penalty_of_start,
    refine,
    search,
    shift_moves,
)
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward, overlapping_patches
from skdeeptd._solvers.leave_one_out import loo_alpha

SIZES = (4, 3, 3)


def problem(
    n_rows=200,
    noise=0.0,
    activation="relu",
    n_filters=1,
    n_outputs=1,
    seed=0,
    **options,
):
    """The evaluator of networks that share their hidden layers, and the moment."""
    rng = np.random.default_rng(seed)
    blank = blank_network(
        make_layout(36, SIZES),
        n_filters,
        (activation, activation, "identity"),
        n_heads=n_outputs,
    )
    network = blank._replace(
        kernels=tuple(rng.standard_normal(k.shape) + 0.5 for k in blank.kernels),
        heads=rng.standard_normal(blank.heads.shape),
    )
    X = rng.standard_normal((n_rows, 36))
    y = forward(network, X)
    y = y / np.std(y, axis=0) + noise * rng.standard_normal(y.shape)
    rows = RowBlocks(X, y - y.mean(axis=0), np.ones(n_rows))
    lines = []
    options = {"n_sharing": n_outputs if n_outputs > 1 else 0, **options}
    spec = Spec(blank.head(0), report=lines.append, **options)
    return make_evaluator(spec, rows, n_rows), cross_moment(rows), lines


def starts_in(lines):
    return sum(line.startswith("start") for line in lines)


@pytest.mark.parametrize(
    ("n_samples", "n_weights", "n_filters", "expected"),
    [
        (20, 20, 1, 20),
        (40, 20, 1, 1000),
        (60, 20, 1, 297),
        (100, 20, 1, 64),
        (200, 20, 1, 20),
        (200, 20, 2, 40),
        (400, 20, 2, 20),
        (200, 20, 8, 60),
        (25, 20, 1, 20),
        (26, 20, 1, 1000),
    ],
)
def test_fewer_samples_get_more_starts_within_bounds(
    n_samples, n_weights, n_filters, expected
):
    assert automatic_starts(n_samples, n_weights, n_filters) == expected


def test_a_crossover_keeps_some_layers_but_never_all():
    old, new = [np.zeros(1), np.zeros(2), np.zeros(3)], [np.ones(1)] * 3
    rng = np.random.RandomState(0)
    kept = [
        sum(a is b for a, b in zip(crossover(old, new, rng), old, strict=True))
        for _ in range(300)
    ]
    assert set(kept) == {0, 1, 2}


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_planted_network_is_found_and_ends_the_search(seed, n_outputs):
    on, moment, lines = problem(seed=seed, n_outputs=n_outputs, n_init=200)
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


@pytest.mark.parametrize(("n_rows", "n_agreeing"), [(4000, 3), (400, 6)])
def test_the_search_ends_with_the_last_of_the_starts_that_agree(n_rows, n_agreeing):
    """The starts that have to agree, if all agree from the first one on."""
    n_starts = []
    for seed in range(8):
        on, moment, lines = problem(
            n_rows, noise=0.5, activation="identity", seed=seed, n_init=100
        )
        search(on, moment)
        n_starts.append(starts_in(lines))
    assert min(n_starts) == n_agreeing


def test_the_network_to_begin_with_is_tried_before_all_others():
    on, moment, lines = problem(100, noise=0.3, n_init=1)
    best = search(*problem(100, noise=0.3, n_init=200)[:2]).network
    assert search(on, moment, first=best).loss <= search(on, moment).loss * (1 + 1e-6)
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
    y, weight = rng.standard_normal((30, 2)) + 2, rng.random(30)
    on, _, _ = problem()
    rows = RowBlocks(rng.standard_normal((30, 36)), y, weight)
    spec = on.spec._replace(fit_intercept=fit_intercept)
    constant = constant_network(rows, spec)
    best = np.average(y, axis=0, weights=weight) * fit_intercept
    assert constant.loss == pytest.approx(np.sum(weight @ (y - best) ** 2))
    outputs = forward(constant.network, rows.X)
    np.testing.assert_allclose(outputs, np.tile(best, (30, 1)))


def test_where_y_is_constant_there_is_nothing_to_look_for():
    on, moment, lines = problem()
    rows = RowBlocks(on.rows.X, np.full((200, 1), 0.1), np.ones(200))
    flat = make_evaluator(on.spec, rows, 200)
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
        heads=rng.standard_normal(blank.heads.shape),
    )
    patches = overlapping_patches(network)
    assert list(patches) == [0, 1]
    endless = shift_moves(network, patches, np.random.RandomState(0))
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
    assert (few, many) == (20, 80)
    assert automatic_starts(100, 20, 4, overlap=True) == automatic_starts(100, 20, 4)


def test_a_head_that_overlaps_moves_in_all_outputs():
    layout = make_layout(12, (4, -1), strides=4)
    blank = blank_network(layout, 1, ("relu", "identity"), n_heads=2)
    order = np.array([[0, 1, 2, 3], [2, 3, 4, 5], [4, 5, 6, 7]]).ravel()
    blank = blank._replace(orders=(order, blank.orders[1]))
    network = blank._replace(
        kernels=(np.arange(1.0, 5)[np.newaxis],), heads=np.ones(blank.heads.shape)
    )
    patches = overlapping_patches(network)
    moved = list(
        itertools.islice(shift_moves(network, patches, np.random.RandomState(0)), 2)
    )
    size = np.linalg.norm(network.kernels[0])
    shifted = sorted(tuple(m.kernels[0][0] / size) for m in moved)
    expected = [(0, 0, 1 / 5**0.5, 2 / 5**0.5), (3 / 5, 4 / 5, 0, 0)]
    np.testing.assert_allclose(shifted, expected)
    for other in moved:
        np.testing.assert_array_equal(other.heads, network.heads)


def test_the_start_of_a_search_has_the_signs_that_fit_best():
    on, moment, lines = problem(noise=0.3, polish=False)
    found = search(on, moment)
    assert found.n_iter == 1
    assert not lines
    assert 0.05 < found.share < 0.5


def test_leave_one_out_chooses_for_the_first_start_or_the_network_known():
    on, moment, _ = problem(60, noise=1.0)
    known = search(on, moment).network
    expected = loo_alpha(known, on.rows, True)
    assert penalty_of_start(on, moment, known) == expected > 0
    first = search(
        make_evaluator(on.spec._replace(polish=False), on.rows, 60), moment
    ).network
    assert penalty_of_start(on, moment) == pytest.approx(
        loo_alpha(first, on.rows, True), rel=1e-6
    )


def test_a_sum_of_squares_that_overflows_is_refused():
    on, _, _ = problem()
    rows = RowBlocks(on.rows.X, 1e200 * on.rows.y, on.rows.weight)
    with pytest.raises(FloatingPointError, match="squares of y overflows"):
        make_evaluator(on.spec, rows, 200)


def test_shared_filters_count_once_in_the_weights_of_an_output():
    blank = blank_network(make_layout(36, SIZES), 2, ("relu", "relu", "identity"))
    assert Spec(blank).n_weights == 2 * 10 + 1
    assert Spec(blank, n_sharing=7).n_weights == 2 * 3 + 1 + 14 / 7
