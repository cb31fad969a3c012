"""Networks as attributes and back: nothing is lost, and no misfit is accepted."""

import copy

import numpy as np
import pytest

from skdeeptd import DeepTDFeatures, DeepTDRegressor
from skdeeptd._network import fitted
from skdeeptd._network.fitted import attributes_of, layout_of, networks_of, predictions
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import blank_network, forward
from skdeeptd._network.parameters import normalize, pack, unpack

SHAPES = {  # kernel sizes, input shape, strides
    "one axis": ((3, 4), (12,), None),
    "overlap": ((4, 5), (12,), (2,)),
    "one layer": ((12,), (12,), None),
    "image": (((2, 3), (2, 2)), (4, 6), None),
}


class Holder:
    """Any object with the attributes of a fitted estimator."""

    def __init__(self, networks, layout, activations, dtype=np.float64, n_filters=3):
        vars(self).update(
            attributes_of(networks, layout, activations, dtype, n_filters)
        )
        self.n_features_in_ = int(np.prod(layout.input_shape))


def activations_of(layout, activation="tanh", last="identity"):
    return (activation,) * (len(layout.sizes) - 1) + (last,)


def random_networks(layout, activations, n_outputs=2, bias=True):
    """Draw networks in the form of a fit: biases, and normalized kernels."""
    blank = blank_network(layout, 3, activations, hidden_bias=bias)
    rng = np.random.default_rng(0)
    return [
        normalize(
            unpack(rng.standard_normal(pack(blank).shape), blank)._replace(
                heads=rng.standard_normal(blank.heads.shape),
                intercept=rng.standard_normal(1),
            )
        )
        for _ in range(n_outputs)
    ]


def layout_named(name):
    kernel_sizes, input_shape, strides = SHAPES[name]
    n_features = int(np.prod(input_shape))
    return make_layout(n_features, kernel_sizes, input_shape, strides=strides)


def holder(name="one axis", last="identity", **more):
    layout = layout_named(name)
    activations = activations_of(layout, last=last)
    return Holder(random_networks(layout, activations, **more), layout, activations)


@pytest.mark.parametrize("last", ["identity", "softplus", "relu"])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("name", SHAPES)
def test_attributes_and_back_is_the_same_network(name, activation, bias, last):
    layout = layout_named(name)
    activations = activations_of(layout, activation, last)
    networks = random_networks(layout, activations, bias=bias)
    X = np.random.default_rng(1).standard_normal((5, int(np.prod(layout.input_shape))))
    again = networks_of(Holder(networks, layout, activations))
    for network, other in zip(networks, again, strict=True):
        assert other.activations == network.activations
        np.testing.assert_allclose(forward(other, X), forward(network, X), rtol=1e-12)
        for a, b in zip(normalize(other).kernels, network.kernels, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-12)
        np.testing.assert_allclose(normalize(other).heads, network.heads, rtol=1e-12)
        for a, b in zip(other.orders, network.orders, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("last", ["identity", "tanh"])
@pytest.mark.parametrize("name", SHAPES)
def test_networks_and_back_are_the_same_attributes(name, last):
    first = holder(name, last)
    second = Holder(networks_of(first), layout_of(first), first.activations_)
    assert vars(first).keys() == vars(second).keys()
    for key, value in vars(first).items():
        if key == "kernels_":
            assert len(value) == len(second.kernels_)
            for a, b in zip(value, second.kernels_, strict=True):
                np.testing.assert_allclose(b, a, rtol=1e-12)
        elif isinstance(value, np.ndarray):
            np.testing.assert_allclose(vars(second)[key], value, rtol=1e-12)
        else:
            assert vars(second)[key] == value


def test_filters_of_a_single_linear_layer_share_its_weights_evenly():
    layout = layout_named("one layer")
    (network,) = random_networks(layout, ("identity",), n_outputs=1)
    estimator = Holder([network], layout, ("identity",))
    weights = estimator.kernels_[0][0] * estimator.scales_[0][:, np.newaxis]
    assert weights.shape == (3, 12)
    np.testing.assert_allclose(weights, np.tile(network.heads[0, 0] / 3, (3, 1)))


def test_a_last_layer_that_is_not_linear_keeps_its_norm_as_a_gain():
    estimator = holder("one axis", last="tanh")
    assert np.all(np.abs(estimator.gains_[:, :, 1] - 1) > 1e-3)
    (linear,) = {tuple(g) for g in holder("one axis").gains_[:, :, 1]}
    np.testing.assert_array_equal(linear, 1)


def test_kernels_have_unit_norm_and_the_axes_of_the_table():
    estimator = holder("image")
    assert [k.shape for k in estimator.kernels_] == [(2, 3, 2, 3), (2, 3, 2, 2)]
    for k in estimator.kernels_:
        norms = np.sqrt(np.sum(k**2, axis=(2, 3)))
        np.testing.assert_allclose(norms, 1, rtol=1e-12)
    assert estimator.gains_.shape == (2, 3, 2)
    assert estimator.scales_.shape == (2, 3)
    assert estimator.biases_.shape == (2, 3, 1)
    assert estimator.intercept_.shape == (2,)


@pytest.mark.parametrize(
    ("factor", "message"), [(1e39, "overflows float32"), (1e-50, "underflows float32")]
)
def test_a_number_beyond_float32_is_an_error(factor, message):
    layout = layout_named("one axis")
    activations = activations_of(layout)
    networks = [
        n._replace(heads=n.heads * factor) for n in random_networks(layout, activations)
    ]
    attributes_of(networks, layout, activations, np.float64, 3)
    with pytest.raises(FloatingPointError, match=rf"scales_ holds .*{message}"):
        attributes_of(networks, layout, activations, np.float32, 3)


def test_an_intercept_may_vanish_in_float32_but_not_overflow():
    layout = layout_named("one axis")
    activations = activations_of(layout)

    def attributes(value):
        networks = [
            n._replace(intercept=np.array([value]))
            for n in random_networks(layout, activations)
        ]
        return attributes_of(networks, layout, activations, np.float32, 3)

    assert not np.any(attributes(1e-50)["intercept_"])
    with pytest.raises(FloatingPointError, match=r"intercept_ .* overflows float32"):
        attributes(1e50)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("kernel_sizes_", (4, 3), "changed after the fit"),
        ("kernel_sizes_", (3,), "changed after the fit"),
        ("kernel_sizes_", [3, 5], "changed after the fit"),
        ("strides_", (2,), "the last kernel must take all that is left"),
        ("strides_", (3, 3), "an entry for each of 1 hidden layers, got 2"),
        ("input_shape_", (13,), "holds 13 numbers, but X has 12"),
        ("input_shape_", (3, 4), "the last kernel must take all that is left"),
        ("n_features_in_", 24, "holds 12 numbers, but X has 24"),
        ("gains_", np.ones((1, 3, 2)), "changed after the fit"),
        ("scales_", np.ones((2, 1)), "changed after the fit"),
        ("biases_", np.ones((2, 1, 1)), "changed after the fit"),
        ("intercept_", np.ones(1), r"intercept_ has the shape \(1,\), .* 2 outputs"),
    ],
)
def test_attributes_that_do_not_fit_each_other_are_an_error(name, value, message):
    estimator = holder()
    networks_of(estimator)  # the layout is known before the change
    setattr(estimator, name, value)
    with pytest.raises(ValueError, match=message):
        networks_of(estimator)


@pytest.mark.parametrize("name", SHAPES)
def test_sizes_may_be_lists_as_some_files_have_them(name):
    estimator, expected = holder(name), layout_of(holder(name))
    for key in ("kernel_sizes_", "strides_", "input_shape_"):
        value = [list(v) if np.iterable(v) else v for v in vars(estimator)[key]]
        vars(estimator)[key] = value
    assert layout_of(estimator)[:3] == expected[:3]


def test_a_layout_is_parsed_once(monkeypatch):
    """Also that of a copy, and those of features."""
    X = np.random.default_rng(0).standard_normal((60, 12))
    y = np.maximum(X[:, 0], 0) + X[:, 5]
    network = DeepTDRegressor((3, 4), n_init=1, random_state=0).fit(X, y)
    features = DeepTDFeatures(random_state=0).fit(X, y)
    before = network.predict(X), features.transform(X)
    monkeypatch.setattr(fitted, "make_layout", None)
    np.testing.assert_array_equal(copy.deepcopy(network).predict(X), before[0])
    np.testing.assert_array_equal(copy.deepcopy(features).transform(X), before[1])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_predictions_are_those_of_each_network_in_the_dtype_of_X(dtype):
    estimator = holder()
    X = np.random.default_rng(1).standard_normal((7, 12)).astype(dtype)
    networks = networks_of(estimator)
    found = predictions(networks, X)
    assert found.dtype == dtype
    expected = np.column_stack([forward(n, X.astype(float)) for n in networks])
    np.testing.assert_allclose(found, expected, rtol=100 * np.finfo(dtype).eps)
