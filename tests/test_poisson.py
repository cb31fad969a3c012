"""Fits with the Poisson loss: counts whose log-means are the outputs of a network."""

import importlib
import warnings

import numpy as np
import pytest
from scipy.special import xlogy
from sklearn.base import clone
from sklearn.linear_model import PoissonRegressor
from sklearn.metrics import mean_poisson_deviance

from skdeeptd import DeepTDRegressor, _fit
from skdeeptd._loss import Poisson
from skdeeptd._network.layout import degrees_of_freedom
from skdeeptd.datasets import make_patch_cnn_regression

SIZES = (8, 8)
DOF = degrees_of_freedom(SIZES)
N, N_TEST = 30 * DOF, 10_000


def planted(seed, sizes=SIZES, n=N, mean_count=2.0, **options):
    """Counts to fit, and fresh rows with their means; log-means of unit variance."""
    X, eta = make_patch_cnn_regression(n + N_TEST, sizes, random_state=seed, **options)
    mean = np.exp((eta - eta.mean(axis=0)) / eta.std(axis=0))
    mean *= mean_count / mean.mean(axis=0)
    counts = np.random.RandomState(10_000 + seed).poisson(mean[:n]).astype(float)
    return X[:n], counts, X[n:], mean[n:]


def network(sizes=SIZES, **options):
    return DeepTDRegressor(sizes, loss="poisson", random_state=0, **options)


def divergence(mean, found):
    """Return the mean Kullback-Leibler divergence of Poisson distributions."""
    return np.mean(xlogy(mean, mean / found) - mean + found)


@pytest.fixture(scope="module")
def small():
    return planted(3, (4, 4), 300)


def test_planted_networks_are_found_as_well_as_maximum_likelihood_does():
    excess, coverage = [], []
    for seed in range(20):
        X, y, X_test, mean = planted(seed)
        found, std = network().fit(X, y).predict(X_test, return_std=True)
        assert np.all(found > 0)
        excess.append(divergence(mean, found) * 2 * N / DOF)
        coverage.append(np.mean(np.abs(found - mean) < 1.96 * std))
    assert 0.75 < np.mean(excess) < 1.25
    assert 0.91 < np.mean(coverage) < 0.98


def test_a_square_loss_is_worse_on_counts():
    ratios = []
    for seed in range(5):
        X, y, X_test, mean = planted(seed)
        squared = clone(network()).set_params(loss="squared_error").fit(X, y)
        of_squares = np.maximum(squared.predict(X_test), 0.05)
        found = network().fit(X, y).predict(X_test)
        ratios.append(divergence(mean, found) / divergence(mean, of_squares))
    assert np.median(ratios) < 0.25


@pytest.mark.parametrize("fit_intercept", [True, False])
@pytest.mark.parametrize("alpha", [0.0, 20.0])
def test_one_linear_layer_is_scikit_learns(small, alpha, fit_intercept):
    X, y, X_test, _ = small
    weight = np.random.default_rng(0).uniform(0.5, 2, len(y))
    total = np.sum(weight)
    linear = PoissonRegressor(
        alpha=alpha / total,
        fit_intercept=fit_intercept,
        solver="newton-cholesky",
        tol=1e-12,
    ).fit(X, y, weight)
    model = network((16,), alpha=alpha, fit_intercept=fit_intercept, tol=1e-12)
    model.fit(X, y, weight)
    np.testing.assert_allclose(model.predict(X_test), linear.predict(X_test), rtol=1e-5)
    coef = model.scales_[0, 0] * model.kernels_[0][0, 0]
    np.testing.assert_allclose(coef, linear.coef_, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(model.intercept_, linear.intercept_, atol=1e-5)


@pytest.mark.parametrize("options", [{"activation": "tanh"}, {"n_filters": 2}], ids=str)
def test_the_deviance_is_stationary_at_the_fit(small, options):
    X, y, *_ = small
    model = network((4, 4), tol=1e-12, **options).fit(X, y)
    least = mean_poisson_deviance(y, model.predict(X))
    for name in ("scales_", "intercept_", "kernels_"):
        for step in (1e-3, -1e-3):
            moved = clone(model).fit(X, y)
            if name == "kernels_":
                moved.kernels_[0] = moved.kernels_[0] * (1 + step * np.arange(4))
            else:
                setattr(moved, name, getattr(moved, name) + step)
            assert mean_poisson_deviance(y, moved.predict(X)) > least


def test_a_weight_is_a_repeated_row(small):
    X, y, X_test, _ = small
    counts = np.random.RandomState(0).randint(0, 3, len(y))
    rows = np.repeat(np.arange(len(y)), counts)
    model = network((4, 4), activation="tanh", tol=1e-12)  # which has no kinks
    weighted = model.fit(X, y, counts).predict(X_test, return_std=True)
    repeated = model.fit(X[rows], y[rows]).predict(X_test, return_std=True)
    np.testing.assert_allclose(weighted, repeated, rtol=1e-3)


def test_several_outputs_are_as_one_by_one():
    X, y, X_test, mean = planted(1, n_outputs=2)
    model = network(tol=1e-10)
    together, std = model.fit(X, y).predict(X_test, return_std=True)
    assert together.shape == std.shape == mean.shape
    for output in range(2):
        alone = model.fit(X, y[:, output]).predict(X_test)
        np.testing.assert_allclose(together[:, output], alone, rtol=1e-4)


def test_outputs_that_share_filters_are_found():
    shared, apart = [], []
    for seed in range(5):
        options = {"n_outputs": 4, "share_filters": True}
        X, y, X_test, mean = planted(seed, **options)
        found = network(share_filters=True).fit(X, y)
        hidden = found.kernels_[0]
        np.testing.assert_array_equal(hidden, np.broadcast_to(hidden[:1], hidden.shape))
        shared.append(divergence(mean, found.predict(X_test)))
        apart.append(divergence(mean, network().fit(X, y).predict(X_test)))
    n_weights = (4 * 9 + 7) / 4  # of an output, with its part of the hidden kernel
    assert np.mean(shared) * 2 * N / n_weights < 1.25
    assert np.mean(shared) < 0.85 * np.mean(apart)


def test_standard_deviations_are_those_of_the_delta_method(small):
    X, y, X_test, _ = small
    model = network((16,), tol=1e-12).fit(X, y)
    mean, std = model.predict(X_test, return_std=True)
    design = np.column_stack([X, np.ones(len(X))])
    fisher = design.T @ (model.predict(X)[:, np.newaxis] * design)
    test = np.column_stack([X_test, np.ones(len(X_test))])
    variance = np.sum((test @ np.linalg.inv(fisher)) * test, axis=1)
    np.testing.assert_allclose(std, mean * np.sqrt(variance), rtol=1e-4)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_unit_of_counts_changes_the_unit_of_predictions(small, factor):
    X, y, X_test, _ = small
    model = network((4, 4), tol=1e-10)
    expected = model.fit(X, y).predict(X_test)
    found = model.fit(X, factor * y).predict(X_test)
    np.testing.assert_allclose(found, factor * expected, rtol=1e-3)


def test_rates_with_exposures_as_weights_are_counts():
    X, y, X_test, mean = planted(2)
    exposure = np.random.default_rng(0).uniform(0.5, 3, len(y))
    rate = np.random.RandomState(0).poisson(exposure * y) / exposure
    model = network().fit(X, rate, exposure)
    assert divergence(mean, model.predict(X_test)) < 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_have_the_dtype_of_x(small, dtype):
    X, y, X_test, mean = small
    model = network((4, 4)).fit(X.astype(dtype), y)
    found, std = model.predict(X_test.astype(dtype), return_std=True)
    assert found.dtype == std.dtype == model.kernels_[0].dtype == dtype
    assert divergence(mean, found) < 0.05


def on_dask(X, y, model):
    """A fit on chunks of 100 rows."""
    da = pytest.importorskip("dask.array")
    chunks = da.from_array(X, chunks=(100, -1)), da.from_array(y, chunks=100)
    return (
        importlib.import_module("skdeeptd.dask").DaskDeepTDRegressor(model).fit(*chunks)
    )


@pytest.mark.parametrize("name", ["fit", "partial_fit", "dask"])
def test_negative_counts_are_named_with_a_way_out(small, name):
    X, y, model = small[0], small[1].copy(), network((4, 4))
    y[7] = -2.5
    message = r"loss='poisson' is for counts .* holds -2.5; use loss='squared_error'"
    with pytest.raises(ValueError, match=message):
        on_dask(X, y, model) if name == "dask" else getattr(model, name)(X, y)


def test_a_negative_count_leaves_a_stream_as_it_was(small):
    X, y, X_test, _ = small
    model = network((4, 4)).partial_fit(X[:150], y[:150])
    expected = model.predict(X_test)
    with pytest.raises(ValueError, match="holds -1"):
        model.partial_fit(X[150:], -np.ones(150))
    np.testing.assert_array_equal(model.predict(X_test), expected)
    again = network((4, 4)).partial_fit(X[:150], y[:150]).partial_fit(X[150:], y[150:])
    model.partial_fit(X[150:], y[150:])
    np.testing.assert_array_equal(model.predict(X_test), again.predict(X_test))


@pytest.mark.parametrize("fit_intercept", [True, False])
def test_where_all_counts_are_zero_the_means_are_small(small, fit_intercept):
    X, _, X_test, _ = small
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = network((4, 4), fit_intercept=fit_intercept).fit(X, np.zeros(len(X)))
    found = model.predict(X_test)
    assert np.all(np.isfinite(found))
    assert np.all(found > 0)
    if fit_intercept:
        assert np.all(found < 1e-3)


def test_one_output_without_events_leaves_the_others_alone(small):
    X, y, X_test, _ = small
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        both = network((4, 4)).fit(X, np.column_stack([np.zeros(len(y)), y]))
    alone = network((4, 4)).fit(X, y).predict(X_test)
    found = both.predict(X_test)
    np.testing.assert_allclose(found[:, 1], alone, rtol=1e-6)
    assert np.all(found[:, 0] < 1e-3)


def test_a_few_events_among_many_zeros_give_finite_means():
    X, y, X_test, _ = planted(4, (4, 4), 1000, mean_count=0.02)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = network((4, 4)).fit(X, y).predict(X_test)
    assert np.all(np.isfinite(found))
    assert np.all(found > 0)


def test_the_moment_is_that_of_logarithms(small):
    X, y, *_ = small
    target = np.log(y / y.mean() + 0.5)
    expected = (target - target.mean()) @ X / len(y)
    np.testing.assert_allclose(network((4, 4)).fit(X, y).moment_[0], expected)


def test_a_link_that_was_fitted_stays(small):
    X, y, X_test, _ = small
    model = network((4, 4)).fit(X, y)
    assert model.link_ == "log"
    assert not hasattr(model, "noise_variance_")
    expected = model.predict(X_test, return_std=True)
    model.set_params(loss="squared_error")
    np.testing.assert_array_equal(model.predict(X_test, return_std=True), expected)
    assert model.fit(X, y).link_ == "identity"
    assert np.any(model.predict(X_test) < 0)


def test_a_stream_ends_near_the_fit_on_all_rows():
    X, y, X_test, mean = planted(5)
    model = network()
    for begin in range(0, N, 150):
        model.partial_fit(X[begin : begin + 150], y[begin : begin + 150])
    expected = network().fit(X, y).predict(X_test)
    found = model.predict(X_test)
    assert divergence(mean, found) < 1.1 * divergence(mean, expected)


def test_the_model_of_samples_is_that_of_all_rows(monkeypatch):
    X, y, X_test, _ = planted(6, (6, 5), 8000)
    model = network((6, 5), tol=1e-12)
    found = model.fit(X, y).predict(X_test)
    monkeypatch.setattr(_fit, "sample_sizes", lambda *_: [])
    np.testing.assert_allclose(found, model.fit(X, y).predict(X_test), rtol=1e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"activation": "tanh"},
        {"n_filters": 2},
        {"hidden_bias": True},
        {"output_activation": "relu"},
        {"strides": 2, "sizes": (4, -1)},
        {"alpha": 5.0},
        {"fit_intercept": False},
        {"polish": False},
        {"n_jobs": 2},
    ],
    ids=str,
)
def test_the_options_of_a_network_predict_better_than_the_mean(options):
    options, better = dict(options), []
    sizes = options.pop("sizes", (4, 4))
    for seed in range(4):
        X, y, X_test, mean = planted(seed, (4, 4), 300)
        found = network(sizes, **options).fit(X, y).predict(X_test)
        better.append(divergence(mean, found) / divergence(mean, y.mean()))
    assert np.median(better) < (0.6 if options.get("fit_intercept", True) else 0.9)


def test_leave_one_out_is_for_squared_errors(small):
    with pytest.raises(ValueError, match="loss='poisson' does not go with alpha='loo'"):
        network((4, 4), alpha="loo").fit(*small[:2])


def test_a_fit_on_chunks_is_that_in_memory():
    X, y, X_test, _ = planted(7)
    smooth = network(activation="tanh")  # rounding may end a relu elsewhere
    found = np.asarray(on_dask(X, y, smooth).predict(X_test))
    np.testing.assert_allclose(found, smooth.fit(X, y).predict(X_test), rtol=1e-9)


def test_no_more_samples_than_weights_leave_the_deviation_unknown(small):
    X, y = small[:2]
    model = network((4, 4), activation="tanh", n_init=2).fit(X[:3], y[:3] + 1)
    with pytest.warns(UserWarning, match="deviations are NaN: .* weights as samples"):
        _, std = model.predict(X, return_std=True)
    assert np.all(np.isnan(std))


def test_the_moment_of_a_stream_is_that_of_the_logarithms(small):
    X, y = small[:2]
    fitted, stream = network((4, 4)).fit(X, y), network((4, 4)).partial_fit(X, y)
    np.testing.assert_allclose(stream.moment_, fitted.moment_, atol=1e-12)


@pytest.mark.parametrize("n_outputs", [1, 2])
@pytest.mark.parametrize("output_activation", ["identity", "tanh"])
def test_exports_give_means(n_outputs, output_activation):
    runtime = pytest.importorskip("onnxruntime")
    torch = pytest.importorskip("torch")
    export = importlib.import_module("skdeeptd.export")
    X, y, X_test, _ = planted(0, (4, 4), 300, n_outputs=n_outputs)
    model = network((4, 4), output_activation=output_activation).fit(X, y)
    expected = model.predict(X_test)
    session = runtime.InferenceSession(export.to_onnx(model).SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: X_test})
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-9)
    with torch.no_grad():
        found = export.to_torch(model)(torch.from_numpy(X_test)).numpy()
    np.testing.assert_allclose(found.reshape(expected.shape), expected, rtol=1e-9)


def test_few_counts_of_small_features_are_not_too_large():
    """The start of the likelihood may overflow; then a constant is the start."""
    for seed in range(20):
        X = np.random.RandomState(seed).randint(-2, 3, (2, 35)).astype(float)
        model = network(((5, 5), (2, 1), (1, 1)), input_shape=(7, 5), n_filters=3)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            found = model.fit(X, [0, 21]).predict(X)
        assert np.all(np.isfinite(found))
        assert np.sum(np.square(found - [0, 21])) <= 2 * 10.5**2


def test_means_of_far_samples_are_finite():
    assert np.isfinite(Poisson().mean(np.array([1e3, -1e3]))).all()
    assert np.isnan(Poisson().mean(np.array([np.nan]))).all()
