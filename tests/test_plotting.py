"""What the displays draw, against numbers that are found in another way."""

import copy
import itertools
import pickle
import sys
import warnings

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer
from matplotlib.patches import StepPatch
from sklearn.base import BaseEstimator
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.utils import Bunch

from skdeeptd import (
    DeepTDClassifier,
    DeepTDRegressor,
    DeepTDRegressorCV,
    kernel_size_grid,
    plotting,
)
from skdeeptd._covariance import kernel_stds
from skdeeptd._network.fitted import networks_of
from skdeeptd._network.network import head_features, hidden_forward
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.inspection import compare_with_linear, effective_weights
from skdeeptd.plotting import (
    CandidatesDisplay,
    ImportanceDisplay,
    KernelDisplay,
    LinearComparisonDisplay,
    MomentDisplay,
    ReceptiveFieldDisplay,
)

matplotlib.use("Agg")
import matplotlib.pyplot as plt


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def fitted(kernel_sizes, n_samples=150, n_outputs=1, **parameters):
    """A network that is stopped soon, fitted to noisy data; its X."""
    rng = np.random.default_rng(0)
    shape = parameters.get("input_shape") or (np.prod(kernel_sizes),)
    X = rng.standard_normal((n_samples, np.prod(shape)))
    linear = rng.standard_normal((X.shape[1], n_outputs))
    y = np.maximum(X @ linear, 0) + rng.standard_normal((n_samples, n_outputs))
    model = DeepTDRegressor(
        kernel_sizes, **{"n_init": 1, "max_iter": 30, "random_state": 0, **parameters}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit(X, y if n_outputs > 1 else y[:, 0]), X


@pytest.fixture(scope="module")
def search():
    """More than thirty shapes, of which some leave in each stage."""
    X, y = make_patch_cnn_regression(150, (6, 12), noise=0.2, random_state=0)
    grid = {
        "kernel_sizes": kernel_size_grid(72, max_layers=3),
        "alpha": [1e-2],
        "n_init": [2],
    }
    return DeepTDRegressorCV(grid, cv=3, random_state=0).fit(X, y)


def steps(ax):
    """The values and the base of the band, if there is one, and of the line."""
    patches = [p for p in ax.patches if isinstance(p, StepPatch)]
    return [(p.get_data().values, p.get_data().baseline) for p in patches]


def drawn_steps(ax):
    return steps(ax)[-1][0]


def image_of(ax):
    (image,) = ax.images
    return image.get_array()


def assert_nothing_overlaps_or_is_cut_off(figure):
    figure.canvas.draw()
    inside = figure.bbox.padded(1)
    boxes = [text.get_window_extent() for text in figure.texts]
    for ax in figure.axes:
        ticks = [
            label
            for i, axis in enumerate((ax.xaxis, ax.yaxis))
            for label in axis.get_majorticklabels()
            if min(axis.get_view_interval())
            <= label.get_position()[i]
            <= max(axis.get_view_interval())
        ]
        texts = [*ticks, *ax.texts, ax.title, ax.xaxis.label, ax.yaxis.label]
        legend = ax.get_legend()
        texts += legend.get_texts() if legend else []
        boxes += [
            t.get_window_extent() for t in texts if t.get_text() and t.get_visible()
        ]
    assert boxes
    for box in boxes:
        assert inside.contains(box.x0, box.y0), box
        assert inside.contains(box.x1, box.y1), box
    for one, other in itertools.combinations(boxes, 2):
        assert not one.padded(-1).overlaps(other.padded(-1)), (one, other)


# Kernels


def test_lines_are_the_kernels_a_row_per_layer_a_column_per_filter():
    model, _ = fitted((4, 3, 2), n_filters=3, n_outputs=2)
    display = KernelDisplay.from_estimator(model, output=1)
    assert display.axes_.shape == (3, 3)
    for layer, r in np.ndindex(3, 3):
        expected = model.kernels_[layer][1, r]
        np.testing.assert_array_equal(drawn_steps(display.axes_[layer, r]), expected)
    titles = [ax.get_title() for ax in display.axes_[0]]
    expected = [f"filter {r}\nscale {s:+.2g}" for r, s in enumerate(model.scales_[1])]
    assert titles == expected
    chosen = KernelDisplay.from_estimator(model, output=1, filters=[2, 0])
    assert [ax.get_title() for ax in chosen.axes_[0]] == [titles[2], titles[0]]
    np.testing.assert_array_equal(
        drawn_steps(chosen.axes_[1, 0]), model.kernels_[1][1, 2]
    )
    single = KernelDisplay.from_estimator(model, filters=np.int64(1))
    assert single.axes_.shape == (3, 1)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_band_is_that_of_the_unit_kernel(activation):
    """By finite differences of w / |w| at w = gain * k."""
    model, _ = fitted(
        (4, 3, 2), n_filters=2, n_outputs=2, activation=activation, hidden_bias=True
    )
    display = KernelDisplay.from_estimator(model, output=1)
    n_weights = 4 + 3 + 2
    for r, (layer, begin, d) in itertools.product(
        range(2), [(0, 0, 4), (1, 4, 3), (2, 7, 2)]
    ):
        begin += r * (n_weights + 1 + 2)
        covariance = model.covariance_[1, begin : begin + d, begin : begin + d]
        k = model.kernels_[layer][1, r]
        w = k * model.gains_[1, r, layer]
        shifts = 1e-6 * np.eye(d)
        unit = [(v / np.linalg.norm(v)) for v in [*(w + shifts), *(w - shifts)]]
        jacobian = (np.array(unit[:d]) - unit[d:]).T / 2e-6
        std = np.sqrt(np.diag(jacobian @ covariance @ jacobian.T))
        assert np.all(std > 0)
        ((upper, lower), (line, _)) = steps(display.axes_[layer, r])
        np.testing.assert_array_equal(line, k)
        np.testing.assert_allclose(upper - k, 1.96 * std, rtol=1e-5)
        np.testing.assert_allclose(k - lower, 1.96 * std, rtol=1e-5)


def kernels_with_gains(model):
    """The kernels of output 0 as stored, per layer (filters, entries)."""
    gains = model.gains_[0].T[:, :, np.newaxis]
    kernels = zip(model.kernels_, gains, strict=True)
    return [k[0].reshape(len(gain), -1) * gain for k, gain in kernels]


def unit_kernels(stored, n_filters, sizes):
    """The kernels of unit norm in the order of the stored weights, by filter."""
    by_filter = stored[:-1].reshape(n_filters, -1)
    *kernels, _ = np.split(by_filter, np.cumsum(sizes), axis=1)
    units = [k / np.linalg.norm(k, axis=1, keepdims=True) for k in kernels]
    return np.hstack(units)


def test_stds_are_those_of_the_delta_method():
    """The covariance is that of all parameters, of other filters and layers too."""
    model, _ = fitted((4, 3, 2), n_filters=3, activation="tanh", hidden_bias=True)
    kernels, scales = kernels_with_gains(model), model.scales_[0]
    by_filter = np.column_stack([*kernels, scales, model.biases_[0]])
    stored = np.append(by_filter, model.intercept_)
    assert model.covariance_[0].shape == (len(stored), len(stored))
    root = np.random.default_rng(0).standard_normal((len(stored), len(stored)))
    covariance, shifts = root @ root.T, 1e-6 * np.eye(len(stored))
    above, below = (
        np.array([unit_kernels(stored + s, 3, (4, 3, 2)) for s in sign * shifts])
        for sign in (1, -1)
    )
    jacobian = np.moveaxis(above - below, 0, 2) / 2e-6
    variance = np.einsum("rip,pq,riq->ri", jacobian, covariance, jacobian)
    stds = np.column_stack(kernel_stds(kernels, scales, covariance))
    np.testing.assert_allclose(stds, np.sqrt(variance), rtol=1e-5)


def test_stds_are_infinite_of_a_filter_without_scale_or_kernel():
    model, _ = fitted((4, 3), n_filters=3, activation="tanh")
    first, second = kernels_with_gains(model)
    kernels, scales = (first * [[1], [0], [1]], second), model.scales_[0] * [0, 1, 1]
    first, second = kernel_stds(kernels, scales, model.covariance_[0])
    assert np.isinf(first[:2]).all()
    assert np.isinf(second[0]).all()
    assert np.isfinite(second[1]).all()
    assert np.isfinite(first[2]).all()


def test_band_of_a_linear_layer_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((60, 12))
    y = X @ rng.standard_normal(12) + rng.standard_normal(60)
    model = DeepTDRegressor((12,), tol=1e-12, random_state=0).fit(X, y)
    ols = LinearRegression().fit(X, y)
    centred = X - X.mean(axis=0)
    sigma2 = np.sum((y - ols.predict(X)) ** 2) / (60 - 13)
    covariance = sigma2 * np.linalg.inv(centred.T @ centred)
    norm = np.linalg.norm(ols.coef_)
    k = ols.coef_ / norm
    jacobian = (np.eye(12) - np.outer(k, k)) / norm
    std = np.sqrt(np.diag(jacobian @ covariance @ jacobian))
    ((upper, lower), _) = steps(KernelDisplay.from_estimator(model).axes_[0, 0])
    np.testing.assert_allclose(upper - lower, 2 * 1.96 * std, rtol=1e-6)


def test_band_holds_the_planted_kernels():
    """The 95 % bands of 40 fits hold 95 % of the entries, within four errors."""
    rng = np.random.default_rng(0)
    X, y, kernels = make_patch_cnn_regression(
        400, (4, 3), random_state=0, return_kernels=True
    )
    held = []
    for _ in range(40):
        noisy = y + 0.5 * rng.standard_normal(len(y))
        model = DeepTDRegressor((4, 3), n_init=2, random_state=0).fit(X, noisy)
        display = KernelDisplay.from_estimator(model)
        plt.close(display.figure_)
        for layer, true in enumerate(kernels):
            ((upper, lower), (k, _)) = steps(display.axes_[layer, 0])
            true = true[0, 0] * np.sign(k @ true[0, 0])
            held += [*((lower < true) & (true < upper))]
    error = np.sqrt(0.95 * 0.05 / len(held))
    assert abs(np.mean(held) - 0.95) < 4 * error


def test_kernels_of_overlapping_patches_are_drawn_with_their_shapes_and_bands():
    model, _ = fitted((5, 3, -1), strides=(2, 1), input_shape=(17,), hidden_bias=True)
    display = KernelDisplay.from_estimator(model)
    for ax, k, d in zip(display.axes_[:, 0], model.kernels_, (5, 3, 5), strict=True):
        ((upper, lower), (line, _)) = steps(ax)
        np.testing.assert_array_equal(line, k[0, 0])
        assert line.shape == (d,)
        assert np.all(upper > lower)
    kernels = kernels_with_gains(model)
    stds = kernel_stds(kernels, model.scales_[0], model.covariance_[0])
    for drawn, std in zip(display.kernel_stds, stds, strict=True):
        np.testing.assert_array_equal(drawn, std)


def test_no_band_where_the_covariance_is_not_known():
    alone, _ = fitted((4, 3), polish=False)
    few, _ = fitted((4, 3), n_samples=6)
    for model in (alone, few):
        for ax in KernelDisplay.from_estimator(model).axes_.flat:
            assert len(steps(ax)) == 1
    planted = [k[0] for k in alone.kernels_]
    display = KernelDisplay(planted).plot()
    np.testing.assert_array_equal(drawn_steps(display.axes_[0, 0]), planted[0][0])
    assert display.axes_[0, 0].get_title() == "filter 0"


def test_images_share_centred_colours_and_crosses_mark_what_may_be_zero():
    model, _ = fitted(((2, 3), (2, 2)), input_shape=(4, 6), n_filters=2)
    display = KernelDisplay.from_estimator(model)
    assert len(display.figure_.axes) == 4 + 2  # a colour bar per layer
    for layer, kernels in enumerate(model.kernels_):
        limit = np.abs(kernels).max()
        for r in range(2):
            ax = display.axes_[layer, r]
            np.testing.assert_array_equal(image_of(ax), kernels[0, r])
            assert ax.images[0].get_clim() == (-limit, limit)
            assert ax.images[0].get_cmap().name == "RdBu_r"
            std = display.kernel_stds[layer][r]
            expected = {
                (column, row)
                for row, column in np.ndindex(kernels.shape[2:])
                if abs(kernels[0, r, row, column]) <= 1.96 * std[row, column]
            }
            crosses = {tuple(xy) for line in ax.lines for xy in line.get_xydata()}
            assert crosses == expected
    marked = [len(ax.lines) for ax in display.axes_.flat]
    assert sum(marked) > 0
    display.figure_.canvas.draw()
    right = max(ax.get_window_extent().x1 for ax in display.axes_.flat)
    for bar in display.figure_.axes[4:]:
        assert bar.get_window_extent().x0 > right


def test_channels_stand_side_by_side():
    kernels = [np.arange(2 * 2 * 3.0).reshape(1, 2, 2, 3)]
    (ax,) = KernelDisplay(kernels).plot().axes_.flat
    expected = np.hstack([kernels[0][0, :, :, c] for c in range(3)])
    np.testing.assert_array_equal(image_of(ax), expected)
    (ax,) = KernelDisplay([np.ones((1, 2, 2, 5))]).plot().axes_.flat
    picture = image_of(ax)
    assert picture.shape == (2 * 2, 3 * 2)
    assert picture.mask.sum() == 4
    assert picture.mask[2:, 4:].all()


def test_a_filter_of_scale_zero_is_not_sure_of_anything():
    model, _ = fitted(((2, 3), (2, 2)), input_shape=(4, 6), n_filters=2)
    model.scales_[0, 1] = 0
    display = KernelDisplay.from_estimator(model)
    for ax, k in zip(display.axes_[:, 1], model.kernels_, strict=True):
        assert sum(len(line.get_xydata()) for line in ax.lines) == k[0, 1].size


# Moment

CASES = [
    {"kernel_sizes": (4, 3, 2)},
    {"kernel_sizes": (4, 3), "input_shape": (11,)},
    {"kernel_sizes": ((2, 3), (2, 2)), "input_shape": (4, 6)},
    {"kernel_sizes": ((2, 2, 3), (2, 2)), "input_shape": (4, 4, 3)},
    {
        "kernel_sizes": ((2, 2), (2, 2)),
        "input_shape": (3, 4),
        "n_filters": 2,
    },
    {"kernel_sizes": (5, 4), "n_filters": 3, "n_outputs": 2},
    {"kernel_sizes": (5, 3, -1), "strides": (2, 1), "input_shape": (17,)},
    {
        "kernel_sizes": (4, 3, -1),
        "strides": (4, 1),
        "input_shape": (22,),
    },
    {
        "kernel_sizes": ((3, 2), -1),
        "strides": 1,
        "input_shape": (5, 6),
        "n_filters": 2,
    },
    {
        "kernel_sizes": ((3, 2, 3), (2, 2), -1),
        "strides": ((2, 1), 1),
        "input_shape": (6, 4, 3),
    },
]


def outer_products(model, output):
    """Per filter, for each place the products of the weights on each way to it."""
    n_axes = len(model.input_shape_)
    kernels = [
        k[output].reshape(k.shape[1:] + (1,) * (n_axes + 2 - k.ndim))
        for k in model.kernels_
    ]
    steps = [np.atleast_1d(s) for s in model.strides_]
    steps = [[*s, *(1,) * (n_axes - len(s))] for s in steps]
    steps.append(kernels[-1].shape[1:])
    products = np.ones((len(kernels[0]), *(1,) * n_axes))
    for k, step in zip(kernels[::-1], steps[::-1], strict=True):
        places = (np.array(products.shape[1:]) - 1) * step + k.shape[1:]
        below = np.zeros((len(k), *places))
        for r, *at in np.ndindex(*products.shape):
            for entry in np.ndindex(*k.shape[1:]):
                place = np.multiply(at, step) + entry
                below[r, *place] += products[r, *at] * k[r, *entry]
        products = below
    return products


@pytest.mark.parametrize("case", CASES)
def test_moment_stands_beside_its_projection_on_the_outer_products(case):
    model, _ = fitted(**case)
    for output, moment in enumerate(model.moment_):
        display = MomentDisplay.from_estimator(model, output=output)
        products = outer_products(model, output)
        inside = (slice(None), *(slice(n) for n in moment.shape))
        basis, _ = np.linalg.qr(products[inside].reshape(len(products), -1).T)
        part = (basis @ (basis.T @ moment.ravel())).reshape(moment.shape)
        np.testing.assert_allclose(display.explained, part, rtol=1e-9, atol=1e-12)
        for ax, array in zip(display.axes_, (moment, display.explained), strict=True):
            if not ax.images:
                np.testing.assert_array_equal(drawn_steps(ax), array)
                continue
            drawn = np.ma.masked_invalid(image_of(ax)).compressed()
            if moment.ndim == 3:
                array = np.moveaxis(array, 2, 1)
            np.testing.assert_array_equal(drawn, array.ravel())


def test_a_signal_is_cut_into_the_patches_of_the_first_layer():
    model, _ = fitted((4, 3), input_shape=(11,))
    display = MomentDisplay.from_estimator(model)
    picture = image_of(display.axes_[0])
    assert picture.shape == (3, 4)
    assert picture.mask.sum() == 1
    assert picture[1, 2] == model.moment_[0, 4 + 2]
    limit = max(np.abs(model.moment_).max(), np.abs(display.explained).max())
    for ax in display.axes_:
        assert ax.images[0].get_clim() == (-limit, limit)
    titles = [ax.get_title() for ax in display.axes_]
    assert titles == ["moment", "explained by the kernels"]
    one_row = MomentDisplay(np.ones(5), np.ones(5), patch_size=5).plot()
    assert image_of(one_row.axes_[0]).shape == (1, 5)


@pytest.mark.parametrize(
    ("kernel_sizes", "strides", "cut"),
    [((4, -1), 2, False), ((4, 3, -1), (4, 1), True), ((22,), None, True)],
)
def test_a_signal_is_not_cut_where_the_patches_of_the_first_layer_overlap(
    kernel_sizes, strides, cut
):
    model, _ = fitted(kernel_sizes, strides=strides, input_shape=(22,))
    display = MomentDisplay.from_estimator(model)
    assert [len(ax.images) for ax in display.axes_] == [cut, cut]
    if cut:
        assert image_of(display.axes_[0]).shape[1] == kernel_sizes[0]
        return
    assert display.patch_size is None
    drawn = [drawn_steps(ax) for ax in display.axes_]
    np.testing.assert_array_equal(drawn, [model.moment_[0], display.explained])
    limits = {ax.get_ylim() for ax in display.axes_}
    assert limits == {(-1.05 * np.abs(drawn).max(), 1.05 * np.abs(drawn).max())}
    assert {ax.get_xlabel() for ax in display.axes_} == {"feature"}
    assert [ax.get_ylabel() for ax in display.axes_] == ["moment", ""]
    titles = [ax.get_title() for ax in display.axes_]
    assert titles == ["moment", "explained by the kernels"]


# Receptive field

ACTIVATIONS = ["relu", "leaky_relu", "identity", "tanh", "softplus", "logistic"]


STEP = 1e-6


def rounding_of_output(model, X, output):
    """Return the rounding of the terms of an output; they may cancel each other."""
    network = networks_of(model)[output]
    features = head_features(network, hidden_forward(network, X), X)
    (heads,) = network.heads
    terms = np.sum(features.reshape(len(X), *heads.shape) * heads, axis=2)
    size = np.abs(network.intercept[0]) + np.abs(terms).sum(axis=1).max()
    return 4 * np.finfo(float).eps * size


def by_differences(model, x, output):
    shifts = STEP * np.eye(x.size)
    above, below = model.predict(x + shifts), model.predict(x - shifts)
    differences = (above - below).reshape(x.size, -1)[:, output] / (2 * STEP)
    return differences.reshape(model.input_shape_)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_field_is_the_limit_of_differences(case, activation):
    model, X = fitted(
        **case,
        n_samples=100,
        activation=activation,
        output_activation="softplus",
        hidden_bias=True,
        alpha=1.0,
    )
    for output in range(len(model.scales_)):
        gradients = [by_differences(model, x, output) for x in X[:3]]
        tolerance = 1e-6 * np.abs(gradients).max()
        assert tolerance > 0
        tolerance += rounding_of_output(model, X[:3], output) / STEP
        for rows, expected in [
            (slice(0, 1), gradients[0]),
            (slice(1, 2), gradients[1]),
            (slice(0, 3), np.mean(gradients, axis=0)),
        ]:
            display = ReceptiveFieldDisplay.from_estimator(
                model, X[rows], output=output
            )
            np.testing.assert_allclose(display.weights, expected, atol=tolerance)


def test_field_of_a_linear_layer_is_its_weights():
    model, X = fitted((12,))
    display = ReceptiveFieldDisplay.from_estimator(model, X)
    weights = model.scales_[0, 0] * model.kernels_[0][0, 0]
    np.testing.assert_allclose(drawn_steps(display.ax_), weights, rtol=1e-12)
    ols = LinearRegression().fit(X, model.predict(X))
    np.testing.assert_allclose(drawn_steps(display.ax_), ols.coef_, rtol=1e-9)


def test_field_of_images_is_an_image_with_centred_colours():
    model, X = fitted(((2, 2), (2, 3)), input_shape=(4, 6))
    images = X.reshape(-1, 4, 6)
    display = ReceptiveFieldDisplay.from_estimator(model, images)
    flat = ReceptiveFieldDisplay.from_estimator(model, X)
    np.testing.assert_array_equal(display.weights, flat.weights)
    np.testing.assert_array_equal(image_of(display.ax_), display.weights)
    limit = np.abs(display.weights).max()
    assert display.ax_.images[0].get_clim() == (-limit, limit)
    assert len(display.figure_.axes) == 2


def test_single_precision():
    X, y = make_patch_cnn_regression(100, (4, 3), activation="tanh", random_state=0)
    fields = {}
    for dtype in (np.float64, np.float32):
        model = DeepTDRegressor((4, 3), activation="tanh", n_init=2, random_state=0)
        model.fit(X.astype(dtype), y)
        assert model.kernels_[0].dtype == dtype
        field = ReceptiveFieldDisplay.from_estimator(model, X.astype(dtype))
        fields[dtype] = field.weights
        KernelDisplay.from_estimator(model)
        MomentDisplay.from_estimator(model)
    scale = np.abs(fields[np.float64]).max()
    np.testing.assert_allclose(*fields.values(), rtol=0, atol=1e-5 * scale)


# Search


def points(ax):
    """By row the mean that is drawn, its colour, and whether the marker is filled."""
    drawn = {}
    for container in ax.containers:
        line = container.lines[0]
        filled = to_hex(line.get_markerfacecolor()) == to_hex(line.get_color())
        for x, y in line.get_xydata():
            drawn[int(y)] = x, to_hex(line.get_color()), filled
    return drawn


def label_of(params):
    """The label of a candidate that differs from others in kernel sizes only."""
    return f"network, kernel sizes {params['kernel_sizes']}"


def test_every_candidate_has_its_score_and_the_look_of_its_stage(search):
    results = search.cv_results_
    assert len(results["params"]) > 30
    assert set(results["stage"]) == {1, 2, 3}
    ax = CandidatesDisplay.from_estimator(search).ax_
    drawn = points(ax)
    labels = [label.get_text() for label in ax.get_yticklabels()]
    params = enumerate(results["params"])
    by_label = {label_of(p): i for i, p in params}
    looks = {}
    for row, label in enumerate(labels):
        i = by_label.pop(label)
        if row in drawn:
            mean, *look = drawn[row]
            looks.setdefault(results["stage"][i], set()).add(tuple(look))
        else:
            (note,) = [t for t in ax.texts if t.xy[1] == row]
            mean = float(note.get_text())
        assert mean == pytest.approx(results["mean_test_score"][i], rel=1e-2)
    assert not by_label
    assert len({*looks[1], *looks[2], *looks[3]}) == 3
    assert [looks[stage].pop()[1] for stage in (1, 2, 3)] == [False, False, True]


def test_error_bars_are_the_standard_deviations(search):
    results = search.cv_results_
    display = CandidatesDisplay.from_estimator(search, n_best=3)
    order = np.argsort(results["rank_test_score"])[:3]
    (container, *_) = display.ax_.containers
    ((low, _), (high, _)), *_ = container.lines[2][0].get_segments()
    assert high - low == pytest.approx(2 * results["std_test_score"][order[0]])


def test_best_candidate_is_first_and_has_the_star(search):
    ax = CandidatesDisplay.from_estimator(search, n_best=5).ax_
    label = label_of(search.best_params_)
    assert ax.get_yticklabels()[0].get_text() == label
    (star,) = [line for line in ax.lines if line.get_marker() == "*"]
    np.testing.assert_allclose(star.get_xydata(), [[search.best_score_, 0]])
    low, high = ax.get_ylim()
    assert low > high
    n_candidates = len(search.cv_results_["params"])
    assert ax.get_ylabel() == f"best 5 of {n_candidates} candidates"


def test_the_best_candidate_is_first_even_if_another_ranks_before_it(search):
    search = copy.copy(search)
    ranks = search.cv_results_["rank_test_score"]
    search.best_index_ = int(np.flatnonzero(ranks == 2)[0])
    display = CandidatesDisplay.from_estimator(search, n_best=2)
    by_rank = np.array(search.cv_results_["params"])[np.argsort(ranks)]
    second, first = (label_of(by_rank[i]) for i in (1, 0))
    assert display.labels == [second, first]


def test_scores_far_below_the_others_do_not_squeeze_them():
    mean = np.array([0.9, 0.8, 0.7, 0.6, -300.0])
    stage = [3, 2, 1, 1, 1]
    display = CandidatesDisplay(list("abcde"), mean, np.full(5, 0.1), stage).plot()
    low, high = display.ax_.get_xlim()
    assert -1 < low < 0.6
    assert 0.9 < high < 2
    (note,) = display.ax_.texts
    assert note.get_text() == "-300"
    assert note.xy[1] == 4


def test_labels_say_what_varies():
    X, y = make_patch_cnn_regression(60, (4, 3), noise=0.2, random_state=0)
    grid = {
        "kernel_sizes": [(4, 3)],
        "n_filters": [1, 2],
        "alpha": [0.5, 2],
        "n_init": [1],
    }
    search = DeepTDRegressorCV(grid, cv=2, random_state=0).fit(X, y)
    display = CandidatesDisplay.from_estimator(search)
    assert sorted(display.labels) == [
        f"network, kernel sizes (4, 3), alpha={a}, n_filters={r}"
        for a in (0.5, 2)
        for r in (1, 2)
    ]


class Table(BaseEstimator):
    """Any fitted search with a table of stages."""

    def fit(self, params, **columns):
        self.cv_results_ = {"params": params, **columns}
        return self


def test_any_search_with_stages_is_drawn_with_the_weights_of_its_candidates():
    search = Table().fit(
        [{"model": "gp"}, {"alpha": 2.0}, {}],
        mean_test_score=np.array([0.8, 0.9, 0.1]),
        std_test_score=np.full(3, 0.1),
        rank_test_score=np.array([2, 1, 3]),
        stage=np.array([3, 3, 0]),
        weight=np.array([0.25, 0.75, 0.0]),
    )
    display = CandidatesDisplay.from_estimator(search)
    expected = ["alpha=2.0, weight 0.75", "gp, weight 0.25", "default parameters"]
    assert display.labels == expected
    drawn = [label.get_text() for label in display.ax_.get_yticklabels()]
    assert drawn == expected
    del search.cv_results_["weight"]
    labels = CandidatesDisplay.from_estimator(search).labels
    assert labels == ["alpha=2.0", "gp", "default parameters"]


# Comparison with a linear model


def bars(ax):
    """By legend entry the positions and lengths of its bars."""
    return {
        container.get_label(): [
            (bar.get_y() + bar.get_height() / 2, bar.get_width()) for bar in container
        ]
        for container in ax.containers
        if isinstance(container, BarContainer)
    }


def intervals(ax):
    """The ends of each error bar."""
    bars = [c for c in ax.containers if isinstance(c, ErrorbarContainer)]
    ends = [bar.lines[2][0].get_segments() for bar in bars]
    return np.reshape(ends, (-1, 2, 2))


@pytest.fixture(scope="module")
def compared():
    """A network, data of two outputs, and their comparison."""
    model, X = fitted((4, 3), n_outputs=2)
    y = model.predict(X) + np.random.default_rng(0).standard_normal((150, 2))
    return model, X, y, compare_with_linear(model, X, y)


def test_bars_are_the_scores_beside_each_other_with_the_conclusion(compared):
    *_, result = compared
    display = LinearComparisonDisplay.from_result(result)
    drawn = bars(display.ax_)
    assert list(drawn) == ["linear model", "network"]
    for label, name in [("linear model", "linear"), ("network", "network")]:
        lengths = [length for _, length in drawn[label]]
        np.testing.assert_array_equal(lengths, result[name])
    pairs = zip(*drawn.values(), strict=True)
    for output, (linear, network) in enumerate(pairs):
        assert output - 0.5 < linear[0] < output < network[0] < output + 0.5
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    conclusions = enumerate(result.conclusion)
    assert labels == [f"output {i}\nconclusion: {c}" for i, c in conclusions]
    low, high = display.ax_.get_ylim()
    assert low > high
    assert len(display.ax_.texts) == 0


def test_error_bars_of_scores_are_one_standard_error_to_either_side(compared):
    *_, result = compared
    ends = intervals(LinearComparisonDisplay.from_result(result).ax_)
    scores = np.r_[result.linear, result.network]
    std_errors = np.r_[result.linear_se, result.network_se]
    np.testing.assert_allclose(ends[:, 0, 0], scores - std_errors)
    np.testing.assert_allclose(ends[:, 1, 0], scores + std_errors)


def test_the_display_computes_the_comparison(compared):
    model, X, y, _ = compared
    options = {"cv": 3, "linear": Ridge(), "sample_weight": np.arange(150) % 3}
    result = compare_with_linear(model, X, y, **options)
    display = LinearComparisonDisplay.from_estimator(
        model, X, y, **options, output_names=["mass", "charge"]
    )
    for name in ("network", "linear", "network_se", "linear_se"):
        np.testing.assert_array_equal(display.result[name], result[name])
    labels = [label.get_text() for label in display.ax_.get_yticklabels()]
    names = zip(["mass", "charge"], result.conclusion, strict=True)
    assert labels == [f"{name}\nconclusion: {c}" for name, c in names]


def made_up(network, linear, conclusion):
    std_errors = {f"{name}_se": np.full(len(network), 0.1) for name in SCORES}
    scores = dict(zip(SCORES, map(np.array, (network, linear)), strict=True))
    return Bunch(**scores, **std_errors, conclusion=conclusion)


SCORES = "network", "linear"


def test_bars_far_below_zero_end_and_have_their_number():
    result = made_up(
        [-31.4, 0.9, -0.1], [0.5, -2.5, 0], ["linear", "network", "nothing"]
    )
    display = LinearComparisonDisplay(result).plot()
    low, high = display.ax_.get_xlim()
    drawn = bars(display.ax_)
    assert [length for _, length in drawn["network"]] == [low, 0.9, -0.1]
    assert [length for _, length in drawn["linear model"]] == [0.5, low, 0]
    assert -0.5 < low < 0
    assert high == 1
    notes = {t.xy[1]: t.get_text() for t in display.ax_.texts}
    places = drawn["network"][0][0], drawn["linear model"][1][0]
    assert notes == dict(zip(places, ["-31.4", "-2.5"], strict=True))


def test_another_number_of_output_names_is_an_error(compared):
    *_, result = compared
    with pytest.raises(ValueError, match="holds 1 names for 2 outputs"):
        LinearComparisonDisplay.from_result(result, output_names=["mass"])


# Classes


def fitted_classes(labels, kernel_sizes=(4, 3, 2), n_samples=150, **parameters):
    """Return a classifier of labels that follow linear scores, X and y."""
    rng = np.random.default_rng(0)
    shape = parameters.get("input_shape") or (np.prod(kernel_sizes),)
    X = rng.standard_normal((n_samples, np.prod(shape)))
    scores = X @ rng.standard_normal((X.shape[1], len(labels)))
    model = DeepTDClassifier(
        kernel_sizes, polish=False, n_init=1, random_state=0, **parameters
    )
    y = np.array(labels)[scores.argmax(axis=1)]
    return model.fit(X, y), X, y


NAMES = {  # labels, and the classes whose logits the outputs are
    "two": (["no", "yes"], ["yes"]),
    "several": ([7, 0, 3], [0, 3, 7]),
}


@pytest.mark.parametrize("case", NAMES)
def test_displays_of_a_classifier_name_the_class_of_a_logit(case):
    labels, classes = NAMES[case]
    model, X, _ = fitted_classes(labels, n_filters=2)
    assert len(model.scales_) == len(classes)
    for output, label in enumerate(classes):
        kernels = KernelDisplay.from_estimator(model, output=output)
        assert kernels.figure_.get_suptitle() == f"class {label}"
        for layer, r in np.ndindex(3, 2):
            expected = model.kernels_[layer][output, r]
            drawn = drawn_steps(kernels.axes_[layer, r])
            np.testing.assert_array_equal(drawn, expected)
        moment = MomentDisplay.from_estimator(model, output=output)
        assert [ax.get_title() for ax in moment.axes_] == [
            f"moment of class {label}",
            "explained by the kernels",
        ]
        drawn = image_of(moment.axes_[0])
        np.testing.assert_array_equal(drawn.ravel(), model.moment_[output])
        field = ReceptiveFieldDisplay.from_estimator(model, X, output=output)
        assert field.ax_.get_title() == f"class {label}"


@pytest.mark.parametrize("case", NAMES)
def test_moment_of_a_class_is_the_way_from_the_others_to_it(case):
    """The cross-moment of X and its ones and zeros, up to a factor above zero."""
    labels, classes = NAMES[case]
    model, X, y = fitted_classes(labels)
    for output, label in enumerate(classes):
        way = X[y == label].mean(axis=0) - X[y != label].mean(axis=0)
        drawn = MomentDisplay.from_estimator(model, output=output).moment
        unit, expected = (v / np.linalg.norm(v) for v in (drawn, way))
        np.testing.assert_allclose(unit, expected, atol=1e-12)


@pytest.mark.parametrize("case", NAMES)
def test_field_of_a_logit_is_the_limit_of_differences(case):
    labels, classes = NAMES[case]
    model, X, _ = fitted_classes(labels, activation="tanh")
    shifts = STEP * np.eye(X.shape[1])
    for output in range(len(classes)):
        above, below = (
            model.decision_function(X[0] + s).reshape(len(s), -1)[:, output]
            for s in (shifts, -shifts)
        )
        expected = (above - below) / (2 * STEP)
        field = ReceptiveFieldDisplay.from_estimator(model, X[:1], output=output)
        atol = 1e-6 * np.abs(expected).max()
        np.testing.assert_allclose(field.weights, expected, atol=atol)


def test_a_figure_of_the_caller_keeps_its_title():
    model, _, _ = fitted_classes(["no", "yes"])
    figure, axes = plt.subplots(3, 1)
    figure.suptitle("mine")
    KernelDisplay.from_estimator(model, ax=axes)
    assert figure.get_suptitle() == "mine"


def test_a_regressor_has_no_names():
    model, X = fitted((4, 3))
    assert KernelDisplay.from_estimator(model).figure_.get_suptitle() == ""
    assert ReceptiveFieldDisplay.from_estimator(model, X).ax_.get_title() == ""


def test_displays_of_what_a_classifier_does_not_have_say_so():
    model, X, y = fitted_classes(["no", "yes"])
    with pytest.raises(TypeError, match="must be a regressor, got DeepTDClassifier"):
        LinearComparisonDisplay.from_estimator(model, X, y)
    with pytest.raises(TypeError, match=r"entry 'stage', .* got DeepTDClassifier"):
        CandidatesDisplay.from_estimator(model)


# All of them


@pytest.mark.parametrize("name", plotting.__all__)
def test_displays_are_found_where_they_are_documented(name):
    display = getattr(plotting, name)
    assert (display.__module__, display.__qualname__) == ("skdeeptd.plotting", name)
    assert pickle.loads(pickle.dumps(display)) is display


def displays_of(search):
    signal, X = fitted((4, 3, 2), n_filters=8)
    yield KernelDisplay.from_estimator(signal)
    yield MomentDisplay.from_estimator(signal)
    yield ReceptiveFieldDisplay.from_estimator(signal, X)
    images, X = fitted(((2, 2, 3), (4, 2)), input_shape=(8, 4, 3), n_filters=2)
    yield KernelDisplay.from_estimator(images)
    yield MomentDisplay.from_estimator(images)
    yield ReceptiveFieldDisplay.from_estimator(images, X)
    for parameters in CASES[-4:]:
        overlapping, X = fitted(**parameters)
        yield KernelDisplay.from_estimator(overlapping)
        yield MomentDisplay.from_estimator(overlapping)
        yield ReceptiveFieldDisplay.from_estimator(overlapping, X)
    linear, _ = fitted((30,))
    yield KernelDisplay.from_estimator(linear)
    yield MomentDisplay.from_estimator(linear)
    for shape in [{}, {"kernel_sizes": ((2, 2, 3), -1), "input_shape": (8, 4, 3)}]:
        classes, X, _ = fitted_classes(["virginica", "versicolor", "setosa"], **shape)
        yield KernelDisplay.from_estimator(classes)
        yield MomentDisplay.from_estimator(classes, output=1)
        yield ReceptiveFieldDisplay.from_estimator(classes, X, output=2)
    r2 = np.array([-3e4, -0.15, 0.99, 0.5])
    yield LinearComparisonDisplay.from_result(
        made_up(r2, r2[::-1], ["nothing"] * 4),
        output_names=["y", "glucose", "fructose, dissolved", "loss on drying"],
    )
    yield CandidatesDisplay.from_estimator(search)
    yield CandidatesDisplay.from_estimator(search, n_best=2)
    labels = [
        f"((2, 3), (4, {i})), n_filters=2, alpha=0.1, weight 1" for i in range(80)
    ]
    mean = np.append(-1e4, np.linspace(0.9, 0.1, 79))
    stage = np.repeat([3, 2, 1, 0], 20)
    yield CandidatesDisplay(labels, mean, np.full(80, 0.1), stage).plot()


def test_nothing_overlaps_or_is_cut_off(search):
    for display in displays_of(search):
        assert_nothing_overlaps_or_is_cut_off(display.figure_)
        plt.close(display.figure_)


@pytest.mark.parametrize("height", np.arange(4, 6, 0.25))
def test_nothing_is_cut_off_in_a_figure_of_the_caller(height):
    """Ticks that changed with the room they get once the layout is made would be."""
    figure, axes = plt.subplots(2, 3, figsize=(9, height), layout="constrained")
    square = np.linspace(-1, 1, 64).reshape(8, 8)
    for limit, (above, below) in zip([1.12, 0.76, 0.98], axes.T, strict=True):
        above.imshow(square)
        ReceptiveFieldDisplay(limit * square).plot(below)
    assert_nothing_overlaps_or_is_cut_off(figure)


@pytest.mark.parametrize(
    ("draw", "n_axes", "shape"),
    [
        (lambda m, _, __, ax: KernelDisplay.from_estimator(m, ax=ax), 4, "2 x 2"),
        (lambda m, _, __, ax: MomentDisplay.from_estimator(m, ax=ax), 2, "1 x 2"),
        (
            lambda m, X, _, ax: ReceptiveFieldDisplay.from_estimator(m, X, ax=ax),
            1,
            "1 x 1",
        ),
        (
            lambda _, __, ___, ax: LinearComparisonDisplay.from_result(
                made_up([0.5], [0], ["network"]), ax=ax
            ),
            1,
            "1 x 1",
        ),
        (lambda _, __, s, ax: CandidatesDisplay.from_estimator(s, ax=ax), 1, "1 x 1"),
    ],
)
def test_given_axes_are_used_and_another_number_is_an_error(
    draw, n_axes, shape, search
):
    model, X = fitted((4, 3), n_filters=2)
    figure, axes = plt.subplots(1, n_axes, squeeze=False)
    display = draw(model, X, search, axes if n_axes > 1 else axes.item())
    assert display.figure_ is figure
    drawn = display.axes_ if n_axes > 1 else [display.ax_]
    assert list(np.ravel(drawn)) == list(axes.flat)
    assert plt.get_fignums() == [figure.number]
    too_many = plt.subplots(1, n_axes + 2)[1]
    message = rf"ax holds {n_axes + 2} axes, but {n_axes} are needed \({shape}\)"
    with pytest.raises(ValueError, match=message):
        draw(model, X, search, too_many)
    with pytest.raises(TypeError, match="must hold matplotlib Axes, got 'left'"):
        draw(model, X, search, "left")


FROM_ESTIMATOR = [
    KernelDisplay.from_estimator,
    MomentDisplay.from_estimator,
    lambda model, **kw: ReceptiveFieldDisplay.from_estimator(
        model, np.ones((2, 6)), **kw
    ),
]


@pytest.mark.parametrize("draw", FROM_ESTIMATOR)
def test_bad_estimators(draw):
    for unfitted in (DeepTDRegressor(), DeepTDRegressorCV(), DeepTDClassifier()):
        with pytest.raises(NotFittedError):
            draw(unfitted)
    ridge = Ridge().fit(np.eye(6), np.ones(6))
    with pytest.raises(TypeError, match=r"draws a DeepTDRegressor or .* got Ridge"):
        draw(ridge)


@pytest.mark.parametrize("draw", FROM_ESTIMATOR)
def test_bad_outputs(draw):
    model, _ = fitted((3, 2), n_outputs=2)
    for bad in (2, -1, 0.0, True, "y"):
        with pytest.raises(
            ValueError, match=f"output must .* from 0 to 1, got {bad!r}"
        ):
            draw(model, output=bad)


def test_bad_filters():
    model, _ = fitted((3, 2), n_filters=2)
    for bad in (2, [0, -1], [True, False], [0.5]):
        with pytest.raises(ValueError, match=r"filters must .* from 0 to 1, got"):
            KernelDisplay.from_estimator(model, filters=bad)
    for bad in ([], [[0, 1]]):
        with pytest.raises(ValueError, match="filters must name one filter or more"):
            KernelDisplay.from_estimator(model, filters=bad)


def test_bad_samples():
    model, X = fitted(((2, 2), (2, 1)), input_shape=(4, 2))
    with pytest.raises(ValueError, match=r"shape \(2, 4\), but .* is \(4, 2\)"):
        ReceptiveFieldDisplay.from_estimator(model, X.reshape(-1, 2, 4))
    with pytest.raises(ValueError, match=r"7 features, but .* expecting 8"):
        ReceptiveFieldDisplay.from_estimator(model, X[:, :7])
    with pytest.raises(ValueError, match="Expected 2D array"):
        ReceptiveFieldDisplay.from_estimator(model, X[0])
    with pytest.raises(ValueError, match="NaN"):
        ReceptiveFieldDisplay.from_estimator(model, np.where(X > 2, np.nan, X))


def test_attributes_that_were_changed_are_an_error():
    model, _ = fitted((3, 2))
    model.kernel_sizes_ = (2, 3)
    for draw in FROM_ESTIMATOR:
        with pytest.raises(ValueError, match=r"kernel_sizes_ is \(2, 3\), but"):
            draw(model)


def test_bad_searches(search):
    with pytest.raises(NotFittedError):
        CandidatesDisplay.from_estimator(DeepTDRegressorCV())
    model, _ = fitted((3, 2))
    message = "an entry 'stage', such as a DeepTDRegressorCV, got DeepTDRegressor"
    with pytest.raises(TypeError, match=message):
        CandidatesDisplay.from_estimator(model)
    for bad in (0, -3, 2.5, None):
        with pytest.raises(ValueError, match=f"n_best must .* at least 1, got {bad!r}"):
            CandidatesDisplay.from_estimator(search, n_best=bad)


def test_without_matplotlib_the_message_names_it(monkeypatch):
    model, _ = fitted((3, 2))
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError, match='pip install "matplotlib>='):
        KernelDisplay.from_estimator(model)


# Pipelines


def halved(X):
    return X / 2


@pytest.mark.parametrize("n_steps", [0, 1, 2])
def test_displays_draw_the_last_step_of_a_pipeline(n_steps):
    model, X = fitted((4, 3), hidden_bias=True)
    pipeline, seen = make_pipeline(model), X / 2**n_steps
    for _ in range(n_steps):
        pipeline = make_pipeline(FunctionTransformer(halved).fit(X), pipeline)
    for display, name, of_pipeline, of_model in (
        (KernelDisplay, "kernels", (), ()),
        (MomentDisplay, "moment", (), ()),
        (ReceptiveFieldDisplay, "weights", (X,), (seen,)),
    ):
        given = display.from_estimator(pipeline, *of_pipeline)
        own = display.from_estimator(model, *of_model)
        np.testing.assert_equal(getattr(given, name), getattr(own, name))


def test_the_candidates_of_the_last_step_of_a_pipeline(search):
    given = CandidatesDisplay.from_estimator(
        make_pipeline(FunctionTransformer(), search)
    )
    assert given.labels == CandidatesDisplay.from_estimator(search).labels


@pytest.mark.parametrize("draw", [*FROM_ESTIMATOR, CandidatesDisplay.from_estimator])
def test_a_pipeline_that_ends_otherwise_is_an_error_that_names_the_step(draw):
    ends = make_pipeline(StandardScaler(), Ridge()).fit(np.eye(6), np.ones(6))
    with pytest.raises(TypeError, match="a Pipeline whose last step 'ridge' is Ridge"):
        draw(ends)


# What matters


def test_importance_of_a_signal_is_steps_with_a_band_coloured_by_sign():
    model, X = fitted((4, 3))
    found = effective_weights(model, X)
    display = ImportanceDisplay.from_estimator(model, X)
    ((upper, lower), (line, _)) = steps(display.ax_)
    np.testing.assert_array_equal(line, found.magnitude)
    band = 1.96 * found.standard_error
    np.testing.assert_allclose(upper, found.magnitude + band)
    np.testing.assert_allclose(lower, np.maximum(found.magnitude - band, 0))
    bars = [p for p in display.ax_.patches if not isinstance(p, StepPatch)]
    assert [bar.get_height() for bar in bars] == found.magnitude.tolist()
    for bar, sign in zip(bars, found.sign, strict=True):
        red, _, blue, _ = bar.get_facecolor()
        assert (red > blue) == (sign > 0) or abs(sign) < 0.05
    assert display.ax_.get_xlabel() == "feature"


def test_importance_over_refits_has_the_band_of_their_spread():
    model, X = fitted((4, 3))
    others = [fitted((4, 3), n_samples=n)[0] for n in (60, 100)]
    found = effective_weights(model, X, refits=others)
    display = ImportanceDisplay.from_estimator(model, X, refits=others)
    np.testing.assert_array_equal(display.std, found.refit_std)


def test_importance_of_an_image_is_paler_the_less_a_pixel_matters():
    model, X = fitted(((2, 3), (2, 2)), input_shape=(4, 6))
    found = effective_weights(model, X)
    ax = ImportanceDisplay.from_estimator(model, X).ax_
    np.testing.assert_array_equal(image_of(ax), found.sign)
    alpha = ax.images[0].get_alpha()
    np.testing.assert_allclose(alpha, found.magnitude / found.magnitude.max())
    assert ax.images[0].get_clim() == (-1, 1)


def test_importance_of_named_features_is_bars_the_largest_on_top():
    _, X = fitted((4, 3))
    names = [f"f{i}" for i in range(12)]
    frame = pd.DataFrame(X, columns=names)
    model = DeepTDRegressor((12,)).fit(frame, X @ np.arange(-6, 6))
    pipeline = make_pipeline(StandardScaler(), Ridge()).fit(frame, frame["f3"])
    for fitted_model, given in ((model, frame), (pipeline, frame)):
        found = effective_weights(fitted_model, given)
        display = ImportanceDisplay.from_estimator(fitted_model, given, n_best=5)
        best = np.argsort(-found.magnitude)[:5]
        labels = [t.get_text() for t in display.ax_.get_yticklabels()]
        assert labels == [names[i] for i in best]
        bars = [bar.get_width() for bar in display.ax_.patches]
        assert bars == found.magnitude[best].tolist()
        assert display.ax_.get_ylabel() == "best 5 of 12 features"
    with pytest.raises(ValueError, match="holds 2 names of 12 features"):
        ImportanceDisplay.from_estimator(model, frame, feature_names=["a", "b"])
    for bad in (0, 2.5):
        with pytest.raises(ValueError, match=f"n_best must .* least 1, got {bad}"):
            ImportanceDisplay.from_estimator(model, frame, n_best=bad)


@pytest.mark.parametrize("step", [0.5, -0.5])
def test_names_that_are_numbers_are_places(step):
    model, X = fitted((4, 3))
    names = [str(850 + step * i) for i in range(12)]
    ax = ImportanceDisplay.from_estimator(model, X, feature_names=names).ax_
    edges = steps(ax)
    assert len(edges) == 2
    begin, end = ax.get_xlim()
    assert begin == pytest.approx(850 - step / 2)
    assert end == pytest.approx(850 + 11.5 * step)


def test_importance_of_a_class_names_it():
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 12))
    y = np.array(["a", "b", "c"])[np.digitize(X[:, 0], [-0.4, 0.4])]
    model = DeepTDClassifier((4, 3), alpha=1.0, random_state=0).fit(X, y)
    assert ImportanceDisplay.from_estimator(model, X, output=2).name == "class c"
    model.fit(X, y == "a")
    assert ImportanceDisplay.from_estimator(model, X).name == "class True"


def test_pictures_of_importance_are_whole():
    model, X = fitted((4, 3))
    wide, Z = fitted(((3, 5), (1, 4)), input_shape=(3, 20))
    names = [f"a rather long name {i}" for i in range(12)]
    for display in (
        ImportanceDisplay.from_estimator(model, X),
        ImportanceDisplay.from_estimator(model, X, feature_names=names),
        ImportanceDisplay.from_estimator(wide, Z),
    ):
        assert_nothing_overlaps_or_is_cut_off(display.figure_)
