import numpy as np
import pytest

from skdeeptd._data.rows import RowBlocks
from skdeeptd._init.filters import (
    column_names,
    filter_responses,
    learn_filters,
    pooled_statistics,
)
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import Network

RNG = np.random.default_rng(0)
X = RNG.standard_normal((80, 12)) * 3 + 5
Y = np.column_stack([X[:, 0] * X[:, 1], X[:, 4]])
WEIGHT = RNG.uniform(0.5, 2, 80)


def bank_of(d, n_filters, n_features=12, stride=1):
    layout = make_layout(n_features, (d, -1), strides=stride)
    return Network(
        (np.zeros((n_filters, d)),),
        ("relu",),
        np.zeros((1, n_filters, 1)),
        np.zeros(1),
        (*layout.orders[:1], None),
        (np.zeros(n_filters),),
    )


def learn(X=X, y=Y, weight=WEIGHT, sizes=((4, 3), (6, 2)), rng=0, **options):
    options = {"pooling": "both", "standardize": False, **options}
    banks = tuple(bank_of(*size) for size in sizes)
    rng = np.random.RandomState(rng)
    return learn_filters(RowBlocks(X, y, weight), banks, rng=rng, **options)


def patches_of(filters, bank, X):
    d = bank.sizes[0]
    z = (X - filters.shift) / filters.scale
    return np.lib.stride_tricks.sliding_window_view(z, d, axis=1)


def test_pre_activations_without_biases_have_unit_mean_square():
    filters = learn()
    for bank in filters.banks:
        z = patches_of(filters, bank, X) @ bank.kernels[0].T
        square = np.average(np.mean(z**2, axis=1), axis=0, weights=WEIGHT)
        np.testing.assert_allclose(square, 1, rtol=1e-9)


def test_responses_equal_explicit_loops_and_are_standardised():
    filters, columns = learn(sizes=((4, 3),)), []
    (bank,) = filters.banks
    patches = patches_of(filters, bank, X)
    z = patches @ bank.kernels[0].T + bank.biases[0]
    h = np.maximum(z, 0)
    columns = [h[:, :, r] for r in range(3)]
    ends = [(0, 9), (0, 2), (2, 4), (4, 6), (6, 9)]
    for first, last in ends:
        part = slice(first, last)
        columns += [h[:, part].mean(axis=1), (z[:, part] > 0).mean(axis=1)]
        columns += [z[:, part].max(axis=1)]
    raw = np.column_stack(columns)
    mean = np.average(raw, axis=0, weights=WEIGHT)
    spread = np.sqrt(np.average((raw - mean) ** 2, axis=0, weights=WEIGHT))
    np.testing.assert_allclose(filters.center, mean, atol=1e-12)
    typical = np.median(spread[spread > 0])
    unit = np.maximum(spread, 0.1 * typical)
    expected = np.clip((raw - mean) / unit, -5, 5)
    expected[:, spread <= 0.01 * typical] = 0
    found = filter_responses(filters, X)
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize("standardize", [True, False])
def test_features_are_standardised_alone_or_together(standardize):
    unequal = X * np.linspace(1, 4, 12)
    filters = learn(unequal, standardize=standardize)
    mean = np.average(unequal, axis=0, weights=WEIGHT)
    spread = np.sqrt(np.average((unequal - mean) ** 2, axis=0, weights=WEIGHT))
    if not standardize:
        spread = np.full(12, np.sqrt(np.mean(spread**2)))
    np.testing.assert_allclose(filters.shift, mean)
    np.testing.assert_allclose(filters.scale, spread)


def test_features_that_hardly_vary_are_not_amplified():
    flat = X.copy()
    flat[:, 2] = 5 + 1e-3 * (X[:, 2] - 5)
    flat[:, 3] = 7.0
    scale = learn(flat, standardize=True).scale
    typical = np.median(np.delete(np.std(flat, axis=0), [2, 3]))
    np.testing.assert_allclose(scale[[2, 3]], 0.1 * typical, rtol=0.2)


def test_far_rows_have_responses_within_the_clip():
    filters = learn()
    far = X[:5] + 1e6
    assert np.abs(filter_responses(filters, far)).max() == filters.clip == 5


def test_rows_that_are_not_finite_have_no_responses():
    some = X[:4].copy()
    some[1, 3], some[2, 0] = np.nan, np.inf
    responses = filter_responses(learn(), some)
    assert np.array_equal(np.isnan(responses).all(axis=1), [False, True, True, False])
    assert not np.isnan(responses[[0, 3]]).any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_responses_have_the_dtype_of_x(dtype):
    filters = learn()
    found = filter_responses(filters, X.astype(dtype))
    assert found.dtype == dtype
    np.testing.assert_allclose(found, filter_responses(filters, X), atol=1e-4)


def test_the_units_of_x_and_y_do_not_matter():
    expected = filter_responses(learn(), X)
    for size in (1e-100, 2.0**40):
        found = filter_responses(learn(X * size, Y * size), X * size)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def test_kept_banks_are_those_learned_from_the_same_rows():
    filters = learn(pooling="local")
    rows = RowBlocks(X, Y, WEIGHT)
    again = learn_filters(rows, filters.banks, "global", standardize=False)
    expected = learn(pooling="global")
    assert again.banks == filters.banks
    np.testing.assert_array_equal(
        filter_responses(again, X), filter_responses(expected, X)
    )


def test_a_constant_target_takes_no_part():
    with_constant = np.column_stack([Y, np.full(80, 3.0)])
    found, expected = (filter_responses(learn(y=y), X) for y in (with_constant, Y))
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_a_spread_that_overflows_is_refused():
    far = X.copy()
    far[0, 0] = np.inf
    with pytest.raises(FloatingPointError, match="spread of a feature overflows"):
        learn(far)


@pytest.mark.parametrize("n_patches", [7, 8, 9])
def test_parts_have_at_least_two_patches(n_patches):
    statistics = pooled_statistics("global", n_patches)
    assert len(statistics) == (3 if n_patches < 8 else 15)
    parts = [s.patches for s in statistics if s.kind == "mean"]
    assert parts[0] == slice(0, n_patches)
    covered = [p for part in parts[1:] for p in range(n_patches)[part]]
    assert covered in ([], list(range(n_patches)))
    assert all(len(range(n_patches)[part]) >= 2 for part in parts)


def test_an_unknown_pooling_is_named():
    with pytest.raises(ValueError, match=r"one of \['local', .*\], got 'mean'"):
        pooled_statistics("mean", 9)


@pytest.mark.parametrize("pooling", ["local", "global", "both"])
def test_every_column_has_a_name_of_its_own(pooling):
    filters = learn(pooling=pooling, sizes=((4, 3),))
    names = column_names(pooling, (4,), (9,), 3)
    assert len(set(names)) == len(names) == filter_responses(filters, X).shape[1]
    if pooling == "both":
        assert names[0] == "size4_filter0_position0"
        assert names[27] == "size4_filter0_mean"
