import tracemalloc

import numpy as np
import pytest

from skdeeptd import DeepTDRegressor, _fit
from skdeeptd._data.rows import RowBlocks
from skdeeptd._fit import fit_rows, raw_outputs, sample_sizes
from skdeeptd._init.multi_start import Spec
from skdeeptd._loss import Binomial, Multinomial, Poisson
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity

SIZES = (6, 5)  # 12 weights: samples of 1000, 4000, ... rows


@pytest.mark.parametrize(
    ("n_rows", "n_weights", "row_bytes", "expected"),
    [
        (3999, 20, 80, []),
        (4000, 20, 80, [1000]),
        (100_000, 34, 8192, [1428, 5712]),
        (10**7, 34, 80, [1428, 5712, 22848, 91392, 365568]),
        (10**6, 50, 2**20, []),
        (10**6, 500, 2**12, [16_384]),
    ],
)
def test_samples_grow_fourfold_within_their_bounds(
    n_rows, n_weights, row_bytes, expected
):
    assert sample_sizes(n_rows, n_weights, row_bytes) == expected


def all_rows_throughout(monkeypatch):
    monkeypatch.setattr(_fit, "sample_sizes", lambda *_: [])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"alpha": 300.0},
        {"n_filters": 2},
        {"activation": "tanh"},
        {"output_activation": "relu"},
        {"hidden_bias": True},
    ],
)
def test_samples_lead_to_the_optimum_of_all_rows(monkeypatch, options, seed):
    planted = {k: v for k, v in options.items() if k not in ("alpha", "hidden_bias")}
    X, y = make_patch_cnn_regression(
        12_000, SIZES, noise=0.3, random_state=seed, **planted
    )
    weight = np.random.default_rng(seed).random(len(X))
    model = DeepTDRegressor(SIZES, tol=1e-14, random_state=0, **options)
    found = model.fit(X, y, weight)
    predicted, error = found.predict(X), found.noise_variance_
    all_rows_throughout(monkeypatch)
    expected = model.fit(X, y, weight)
    # what is left of a difference comes from the kinks of a relu
    np.testing.assert_allclose(error, expected.noise_variance_, rtol=1e-6)
    standard_error = 0.3 * np.sqrt(12 / len(X))
    assert np.std(predicted - expected.predict(X)) < 0.05 * standard_error


@pytest.mark.parametrize("n_init", [1, 3])
def test_no_search_takes_more_starts_than_n_init(n_init, capsys):
    rng = np.random.default_rng(0)
    X, y = rng.standard_normal((20_000, 30)), rng.standard_normal(20_000)
    DeepTDRegressor(SIZES, n_init=n_init, random_state=0, verbose=1).fit(X, y)
    searches = capsys.readouterr().out.split("final:")[:-1]  # which ends each
    n_starts = [lines.count("start ") for lines in searches]
    assert len(n_starts) == 3  # two samples and all rows
    assert 0 < max(n_starts) <= n_init, n_starts


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("noise", [0.1, 0.5])
def test_few_passes_over_all_rows_are_left_to_take(noise, dtype):
    n_passes = []
    for seed in range(7):
        X, y = make_patch_cnn_regression(20_000, SIZES, noise=noise, random_state=seed)
        model = DeepTDRegressor(SIZES, random_state=0).fit(X.astype(dtype), y)
        assert model.score(X, y) > 1 / (1 + noise**2) - 0.03
        n_passes.append(model.n_iter_)
    assert np.median(n_passes) <= 2
    assert max(n_passes) <= 5


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_planted_network_takes_one_pass_over_all_rows(dtype):
    X, y, kernels = make_patch_cnn_regression(
        20_000, SIZES, random_state=0, return_kernels=True
    )
    X = X.astype(dtype)
    model = DeepTDRegressor(SIZES, random_state=0).fit(X, y)
    assert model.n_iter_ <= 2
    assert model.score(X, y) > 1 - 1e-9
    assert np.all(kernel_similarity(model.kernels_, kernels) > 1 - 1e-9)


@pytest.mark.parametrize("offset", [0, 1e4])
def test_float32_with_a_large_mean_is_summed_in_float64(offset):
    X, y = make_patch_cnn_regression(20_000, (30,), noise=0.1, random_state=0)
    X = (X + offset).astype(np.float32)
    model = DeepTDRegressor((30,), tol=1e-10).fit(X, y)
    exact = DeepTDRegressor((30,), tol=1e-10).fit(X.astype(float), y)
    difference = np.linalg.norm(model.moment_ - exact.moment_)
    assert difference < 1e-6 * np.linalg.norm(exact.moment_)
    difference = np.linalg.norm(
        model.scales_ * model.kernels_[0] - exact.scales_ * exact.kernels_[0]
    )
    assert difference < 2e-4 * np.linalg.norm(exact.scales_)


def test_what_noise_hides_in_a_sample_is_found_in_more_rows():
    found, expected = [], []
    for seed in range(4):
        X, y, kernels = make_patch_cnn_regression(
            40_000, SIZES, noise=6.0, random_state=seed, return_kernels=True
        )
        model = DeepTDRegressor(SIZES, random_state=0)
        found.append(kernel_similarity(model.fit(X, y).kernels_, kernels).min())
        with pytest.MonkeyPatch.context() as patch:
            all_rows_throughout(patch)
            similar = kernel_similarity(model.fit(X, y).kernels_, kernels).min()
        expected.append(similar)
    assert min(expected) > 0.95
    np.testing.assert_allclose(found, expected, atol=0.01)


@pytest.mark.parametrize("seed", range(4))
def test_a_sample_without_an_event_says_nothing(monkeypatch, seed):
    rng = np.random.default_rng(seed)
    X = rng.standard_normal((20_000, 30))
    score = X @ rng.standard_normal(30)
    y = (score > np.sort(score)[-20]).astype(float)
    model = DeepTDRegressor(SIZES, random_state=seed)
    found = model.fit(X, y).score(X, y)
    all_rows_throughout(monkeypatch)
    assert found > model.fit(X, y).score(X, y) - 1e-3 > 0


def test_rows_unlike_their_sample_are_searched_too(monkeypatch):
    def with_few_large_rows(seed):
        X, y = make_patch_cnn_regression(8000, SIZES, noise=0.3, random_state=seed)
        large = np.random.default_rng(seed).choice(8000, 5, replace=False)
        X[large] *= 1000
        y[large] *= 1000
        return X, y

    model = DeepTDRegressor(SIZES, random_state=0)
    data = [with_few_large_rows(seed) for seed in (4, 7, 9)]
    found = [model.fit(X, y).noise_variance_.item() for X, y in data]
    all_rows_throughout(monkeypatch)
    expected = [model.fit(X, y).noise_variance_.item() for X, y in data]
    assert np.all(np.array(found) < 1.01 * np.array(expected))


def test_weights_are_repeated_rows_where_samples_are_drawn():
    X, y = make_patch_cnn_regression(6000, SIZES, noise=0.3, random_state=0)
    weight = np.random.default_rng(0).integers(0, 4, size=6000)
    model = DeepTDRegressor(SIZES, tol=1e-14, random_state=0)
    weighted = model.fit(X, y, weight).predict(X)
    repeated = model.fit(np.repeat(X, weight, axis=0), np.repeat(y, weight)).predict(X)
    np.testing.assert_allclose(weighted, repeated, atol=1e-6)


def test_without_the_polish_signs_and_scale_are_those_of_a_sample():
    X, y = make_patch_cnn_regression(20_000, SIZES, noise=0.1, random_state=0)
    model = DeepTDRegressor(SIZES, polish=False, random_state=0).fit(X, y)
    error = y - model.predict(X)
    slope = np.polyfit(model.predict(X), y, 1)[0]
    assert abs(slope - 1) < 0.1
    assert np.var(error) < 0.5 * np.var(y)


def test_alpha_shrinks_the_scale_of_a_sample_as_that_of_all_rows():
    X, y = make_patch_cnn_regression(20_000, (30,), noise=0.1, random_state=0)
    free, shrunk = (
        DeepTDRegressor((30,), polish=False, alpha=alpha).fit(X, y).scales_.item()
        for alpha in (0, len(X))
    )
    assert shrunk == pytest.approx(free / 2, rel=0.1)


def layouts(X):
    read_only = X.copy()
    read_only.flags.writeable = False
    return {
        "F order": np.asfortranarray(X),
        "read-only": read_only,
        "strided rows": np.repeat(X, 2, axis=0)[::2],
        "strided columns": np.repeat(X, 2, axis=1)[:, ::2],
        "reversed": X[::-1].copy()[::-1],
    }


def test_no_layout_of_x_is_copied_whole():
    X, y = make_patch_cnn_regression(8000, (20, 25), noise=0.1, random_state=0)
    model = DeepTDRegressor((20, 25), random_state=0)
    expected = model.fit(X, y).predict(X)
    for name, view in layouts(X).items():
        tracemalloc.start()
        predicted = model.fit(view, y).predict(view)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 0.8 * X.nbytes, name
        np.testing.assert_allclose(predicted, expected, rtol=1e-6, err_msg=name)


def test_more_weights_than_features_take_little_memory():
    X, y = make_patch_cnn_regression(
        60_000, (4, 3), n_filters=8, noise=0.3, random_state=0
    )
    model = DeepTDRegressor((4, 3), n_filters=8, n_init=2, tol=0.1, random_state=0)
    tracemalloc.start()
    model.fit(X, y).predict(X, return_std=True)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 32 * 2**20


def spec_of(sizes=SIZES, n_filters=1, **options):
    n_features = int(np.prod(sizes))
    activations = ("relu",) * (len(sizes) - 1) + ("identity",)
    blank = blank_network(make_layout(n_features, sizes), n_filters, activations)
    return Spec(blank, **{"n_init": "auto", **options})


def rows_of(n_rows=300, n_outputs=2, noise=0.3, seed=0, sizes=SIZES, **options):
    X, y = make_patch_cnn_regression(
        n_rows, sizes, n_outputs=n_outputs, noise=noise, random_state=seed, **options
    )
    return RowBlocks(X, y.reshape(n_rows, -1), np.ones(n_rows))


def test_networks_and_moments_are_in_the_units_of_y():
    rows = rows_of()
    far = rows.with_targets(lambda y, w: (y * [1e3, 1e-3] + [5e4, -7.0], w))
    fit, scaled = fit_rows(rows, spec_of()), fit_rows(far, spec_of())
    ratio = scaled.moment / fit.moment
    np.testing.assert_allclose(ratio, np.tile([[1e3], [1e-3]], (1, 30)), rtol=1e-6)
    for network, other, unit, shift in zip(
        fit.networks, scaled.networks, (1e3, 1e-3), (5e4, -7.0), strict=True
    ):
        expected = unit * forward(network, rows.X) + shift
        np.testing.assert_allclose(
            forward(other, rows.X), expected, rtol=1e-6, atol=1e-3 * unit
        )


@pytest.mark.parametrize("n_sharing", [0, 3])
def test_outputs_share_hidden_layers_if_the_spec_says_so(n_sharing):
    rows = rows_of(n_outputs=3, share_filters=True)
    fit = fit_rows(rows, spec_of(n_sharing=n_sharing))
    groups = [outputs for outputs, _, _ in fit.parts]
    assert groups == ([[0, 1, 2]] if n_sharing else [[0], [1], [2]])
    first = fit.networks[0].kernels[0]
    same = [np.array_equal(n.kernels[0], first) for n in fit.networks]
    assert all(same) is bool(n_sharing)
    together = np.hstack([raw_outputs(n, rows) for n in fit.networks])
    assert np.all(np.var(rows.y - together, axis=0) < 0.15)


@pytest.mark.parametrize(
    "loss", ["squared_error", "poisson", "binomial", "multinomial"]
)
def test_a_settled_warm_start_is_refined_and_not_searched(loss):
    n_outputs, noise = 3 if loss == "multinomial" else 1, 0.3 * (loss[0] == "s")
    lines, rows = [], rows_of(n_outputs=n_outputs, noise=noise)
    options = {"report": lines.append, "tol": 1e-9}
    rng = np.random.default_rng(0)
    if loss == "poisson":
        options["loss"] = Poisson()
        rows = rows.with_targets(lambda y, w: (rng.poisson(np.exp(y)).astype(float), w))
    elif loss == "binomial":
        options["loss"] = Binomial()
        noise = rng.logistic(size=(300, 1))
        rows = rows.with_targets(lambda y, w: ((3 * y > noise).astype(float), w))
    elif loss == "multinomial":
        options |= {"loss": Multinomial(), "n_sharing": 3}
        drawn = np.argmax(2 * rows.y + rng.gumbel(size=(300, 3)), axis=1)
        rows = rows.with_targets(lambda y, w: (np.eye(3)[drawn], w))
    spec = spec_of(**options)
    fit = fit_rows(rows, spec)
    assert any(line.startswith("start") for line in lines)
    lines.clear()
    again = fit_rows(rows, spec, first=fit.networks, is_settled=True)
    assert not any(line.startswith("start") for line in lines)
    losses = [sum(s.loss for _, _, s in f.parts) for f in (fit, again)]
    np.testing.assert_allclose(losses[1], losses[0], rtol=1e-6)
    for network, other in zip(fit.networks, again.networks, strict=True):
        expected = forward(network, rows.X)
        np.testing.assert_allclose(
            forward(other, rows.X), expected, atol=0.01 * np.std(expected)
        )


def test_outputs_without_enough_passes_are_named():
    rows = rows_of(n_outputs=3)
    rows = rows.with_targets(lambda y, w: (y * [1, 0, 1], w))
    assert fit_rows(rows, spec_of(max_iter=3, tol=0.0)).unconverged_outputs == [0, 2]
    assert fit_rows(rows, spec_of()).unconverged_outputs == []


@pytest.mark.parametrize("noise", [0.0, 3.0])
def test_classes_that_a_network_separates_are_noticed(noise):
    rows = rows_of(n_outputs=1, noise=0.0)
    drawn = noise * np.random.default_rng(0).logistic(size=(300, 1))
    rows = rows.with_targets(lambda y, w: ((y > drawn).astype(float), w))
    fit = fit_rows(rows, spec_of(loss=Binomial(), max_iter=2000))
    assert fit.separates_classes == (noise == 0)


@pytest.mark.parametrize("heaviest", [1.0, 1e-6, 50.0])
def test_penalties_that_leave_one_out_chooses_are_for_the_weights_given(heaviest):
    rows = rows_of(80, noise=1.0)
    heavier = rows.with_targets(lambda y, w: (y, heaviest * w))
    spec = spec_of(leave_one_out=True)
    alphas = [fit_rows(some, spec).alphas for some in (rows, heavier)]
    assert alphas[0].shape == (2,)
    assert np.all(alphas[0] > 0)
    np.testing.assert_allclose(alphas[1], heaviest * alphas[0], rtol=1e-6)


def test_a_moment_that_is_given_is_used():
    rows = rows_of(n_outputs=1)
    fit = fit_rows(rows, spec_of())
    given = fit_rows(rows, spec_of(), moment=7 * fit.moment)
    np.testing.assert_allclose(given.moment, 7 * fit.moment)
    zero = fit_rows(rows, spec_of(), moment=np.zeros((1, 30)))
    np.testing.assert_allclose(forward(zero.networks[0], rows.X), np.mean(rows.y))


def test_a_network_no_better_than_a_constant_is_not_used():
    rng = np.random.default_rng(0)
    X, y = np.full((50, 30), 3.0), rng.standard_normal((50, 1))
    X[:, 0] *= 1 + 4e-16 * rng.choice([0, 1], 50)
    fit = fit_rows(RowBlocks(X, y, np.ones(50)), spec_of())
    np.testing.assert_allclose(forward(fit.networks[0], X), np.mean(y))
