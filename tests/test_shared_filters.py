"""Regressors whose outputs share filters: planted truths, units, weights, streams."""

import importlib

import numpy as np
import pytest

from skdeeptd import DeepTDRegressor, DeepTDRegressorCV
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity

SHAPES = {
    "last kernels": {"kernel_sizes": (8, 4), "n_filters": 3},
    "scales": {"kernel_sizes": (6, 4, 1), "activation": ("relu", "identity")},
    "three layers": {"kernel_sizes": (4, 3, 2), "n_filters": 2},
    "biases, overlap": {
        "kernel_sizes": (4, -1),
        "strides": 2,
        "input_shape": (12,),
        "hidden_bias": True,
        "activation": "tanh",
        "n_filters": 2,
    },
    "tanh at the end": {
        "kernel_sizes": (6, 3),
        "activation": "identity",
        "output_activation": "tanh",
        "n_filters": 2,
    },
}


def planted(shape, seed, n_samples=600, n_outputs=4, noise=0.0):
    return make_patch_cnn_regression(
        n_samples,
        **{"n_filters": 2, **SHAPES[shape]},
        n_outputs=n_outputs,
        share_filters=True,
        noise=noise,
        random_state=seed,
        return_kernels=True,
    )


def model_of(shape, **changed):
    given = {"n_filters": 2, **SHAPES[shape], "share_filters": True, "random_state": 0}
    return DeepTDRegressor(**{**given, **changed})


@pytest.mark.parametrize("shape", SHAPES)
def test_a_planted_truth_is_recovered_exactly(shape):
    exact = 0
    for seed in range(4):
        X, y, _ = planted(shape, seed)
        exact += (
            model_of(shape).fit(X[:400], y[:400]).score(X[400:], y[400:]) > 1 - 1e-9
        )
    assert exact >= 3


def test_hidden_kernels_are_one_and_those_of_the_truth():
    X, y, kernels = planted("three layers", 0)
    model = model_of("three layers").fit(X, y)
    for k in model.kernels_[:-1]:
        assert np.array_equal(k, np.broadcast_to(k[:1], k.shape))
    assert not np.allclose(model.kernels_[-1][0], model.kernels_[-1][1])
    assert kernel_similarity(model.kernels_, kernels).min() > 1 - 1e-9


def test_noise_leaves_what_the_number_of_weights_says():
    ratios = []
    for seed in range(6):
        X, y, _ = planted("last kernels", seed, 3000, 10, noise=0.5)
        clean = planted("last kernels", seed, 3000, 10)[1]
        model = model_of("last kernels").fit(X[:1000], y[:1000])
        error = np.mean((model.predict(X[1000:]) - clean[1000:]) ** 2)
        theory = 0.25 * (3 * 7 / 10 + 3 * 4 + 1) / 1000
        ratios.append(error / theory)
    assert 0.7 < np.mean(ratios) < 1.3


def test_the_order_and_the_units_of_outputs_do_not_matter():
    X, y, _ = planted("last kernels", 1, noise=0.3)
    predicted = model_of("last kernels").fit(X, y).predict(X)
    order, units = [2, 0, 3, 1], np.array([1e3, 1.0, 1e-4, 7.0])
    other = model_of("last kernels").fit(X, (y * units + 5)[:, order]).predict(X)
    back = (other - 5) / units[order]
    assert np.abs(back - predicted[:, order]).max() < 1e-4


@pytest.mark.parametrize("alpha", [0.0, 3.0])
def test_weights_are_as_good_as_repeated_rows(alpha):
    X, y, _ = planted("last kernels", 1, noise=0.3)
    weight = np.random.RandomState(0).randint(0, 4, len(X))
    tight = {"alpha": alpha, "tol": 1e-12}
    weighted = model_of("last kernels", **tight).fit(X, y, sample_weight=weight)
    rows = np.repeat(np.arange(len(X)), weight)
    repeated = model_of("last kernels", **tight).fit(X[rows], y[rows])
    assert np.allclose(weighted.predict(X), repeated.predict(X), atol=1e-5)
    assert np.allclose(
        weighted.noise_variance_, repeated.noise_variance_, rtol=1e-5, atol=0
    )


def test_any_number_of_threads_gives_the_same_bits(monkeypatch):
    monkeypatch.setattr("skdeeptd._data.rows.PARALLEL_BYTES", 0)
    monkeypatch.setattr("skdeeptd._data.rows.BLOCK_ROWS", 16)
    X, y, _ = planted("last kernels", 1, noise=0.3)
    one, two = (model_of("last kernels", n_jobs=n).fit(X, y) for n in (1, 2))
    for a, b in zip(one.kernels_, two.kernels_, strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(one.covariance_, two.covariance_)


def test_one_output_and_one_layer_are_the_plain_fit():
    X, y, _ = planted("last kernels", 1, noise=0.3)
    cases = [(y[:, :1], {}), (y, {"kernel_sizes": (32,), "n_filters": 1})]
    for target, changed in cases:
        plain = model_of("last kernels", share_filters=False, **changed)
        shared = model_of("last kernels", **changed)
        expected = plain.fit(X, target).predict(X)
        assert np.array_equal(shared.fit(X, target).predict(X), expected)


def test_a_constant_output_is_predicted_as_one():
    X, y, _ = planted("last kernels", 1)
    y[:, 1] = 3.0
    with pytest.warns(UserWarning, match=r"output \[1\]"):
        model = model_of("last kernels").fit(X, y)
    assert np.array_equal(model.predict(X)[:, 1], np.full(len(X), 3.0))
    assert model.score(X, y) > 1 - 1e-9


@pytest.mark.parametrize("shape", ["last kernels", "scales", "biases, overlap"])
def test_intervals_hold_the_truth_as_often_as_they_say(shape):
    """The clean output is within 1.96 deviations 19 times in 20."""
    inside, noises = [], []
    for seed in range(8):
        X, y, _ = planted(shape, seed, 500, 6, noise=0.1)
        clean = planted(shape, seed, 500, 6)[1]
        model = model_of(shape).fit(X, y)
        predicted, std = model.predict(X, return_std=True)
        inside.append(np.mean(np.abs(predicted - clean) < 1.96 * std))
        noises.append(np.mean(model.noise_variance_))
    assert 0.9 < np.median(inside) < 0.99
    assert np.median(noises) == pytest.approx(0.01, rel=0.06)


def test_what_was_learned_of_a_stream_is_kept():
    X, y, _ = planted("last kernels", 1, noise=0.3)
    stream, whole = model_of("last kernels"), model_of("last kernels").fit(X, y)
    for begin in range(0, 600, 150):
        part = slice(begin, begin + 150)
        stream.partial_fit(X[part], y[part])
    assert np.allclose(stream.predict(X), whole.predict(X), atol=1e-3)


def test_leave_one_out_chooses_one_penalty_for_all():
    X, y, _ = planted("last kernels", 1, 150, 6, noise=2.0)
    clean = planted("last kernels", 1, 150, 6)[1]
    errors = {}
    for alpha in ("loo", 0.0):
        model = model_of("last kernels", alpha=alpha).fit(X, y)
        errors[alpha] = np.mean((model.predict(X) - clean) ** 2)
    assert errors["loo"] < 0.7 * errors[0.0]
    model = model_of("last kernels", alpha="loo").fit(X, y)
    assert len(set(model.alpha_)) == 1


def test_the_choice_among_shapes_shares_filters():
    X, y, _ = planted("last kernels", 1, noise=0.1)
    grid = {
        "kernel_sizes": [(8, 4), (4, 8), (16, 2)],
        "n_filters": [3],
        "share_filters": [True],
    }
    search = DeepTDRegressorCV(grid, cv=3, random_state=0).fit(X, y)
    assert search.best_params_["kernel_sizes"] == (8, 4)
    hidden = search.best_estimator_.kernels_[0]
    assert np.array_equal(hidden[0], hidden[1])


def test_without_a_polish_kernels_are_those_of_the_moment():
    X, y, kernels = planted("three layers", 0, 20000)
    model = model_of("three layers", polish=False).fit(X, y)
    assert kernel_similarity(model.kernels_, kernels).min() > 0.8
    assert not hasattr(model, "covariance_")


def test_displays_draw_outputs_that_share():
    plt = pytest.importorskip("matplotlib.pyplot")
    plotting = importlib.import_module("skdeeptd.plotting")
    X, y, _ = planted("last kernels", 1, noise=0.3)
    model = model_of("last kernels").fit(X, y)
    for output in (0, 3):
        drawn = plotting.KernelDisplay.from_estimator(model, output=output)
        assert len(drawn.kernels) == 2
        plotting.MomentDisplay.from_estimator(model, output=output)
        plotting.ReceptiveFieldDisplay.from_estimator(model, X, output=output)
    plt.close("all")
