import numpy as np
import pytest

from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._model.layout import make_layout
from skdeeptd._model.network import PatchCNN, forward
from skdeeptd.datasets import make_patch_cnn_regression


def test_shapes_and_norms():
    X, y, kernels = make_patch_cnn_regression(
        30,
        ((3, 2, 3), (1, 2), (2, 2)),
        input_shape=(6, 8, 3),
        n_filters=2,
        n_outputs=4,
        random_state=0,
    )
    assert X.shape == (30, 144)
    assert y.shape == (30, 4)
    assert [k.shape for k in kernels] == [(4, 2, 3, 2, 3), (4, 2, 1, 2), (4, 2, 2, 2)]
    for k in kernels:
        np.testing.assert_allclose(np.linalg.norm(k.reshape(4, 2, -1), axis=2), 1)


@pytest.mark.parametrize("n_filters", [1, 3])
def test_y_is_the_planted_network(n_filters):
    X, y, kernels = make_patch_cnn_regression(
        50, ((2, 3), (2, 2)), input_shape=(4, 6), n_filters=n_filters, random_state=1
    )
    layout = make_layout(24, ((2, 3), (2, 2)), (4, 6))
    outputs = [
        forward(
            PatchCNN(
                tuple(k[0, r].reshape(1, -1) for k in kernels),
                np.ones(1),
                0.0,
                ("relu", "identity"),
                layout.orders,
            ),
            X,
        )
        for r in range(n_filters)
    ]
    scales, rss, *_ = np.linalg.lstsq(np.column_stack(outputs), y, rcond=None)
    assert rss < 1e-20
    np.testing.assert_allclose(np.abs(scales), np.abs(scales[0]))


def test_the_same_seed_gives_the_same_bytes_and_another_one_others():
    first, second = (make_patch_cnn_regression(random_state=5) for _ in range(2))
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert np.any(first[1] != make_patch_cnn_regression(random_state=6)[1])


def test_noise_has_the_given_standard_deviation_and_y_unit_variance():
    clean = make_patch_cnn_regression(20000, (3, 2), random_state=0)
    noisy = make_patch_cnn_regression(20000, (3, 2), noise=0.5, random_state=0)
    np.testing.assert_array_equal(clean[0], noisy[0])
    np.testing.assert_allclose(np.std(noisy[1] - clean[1]), 0.5, rtol=0.03)
    np.testing.assert_allclose(np.std(clean[1]), 1, rtol=0.15)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("sizes", [(2,) * 12, (3,) * 6, (4, 1, 2), (5,)])
@pytest.mark.parametrize("seed", range(3))
def test_no_network_is_dead(activation, sizes, seed):
    _, y, _ = make_patch_cnn_regression(
        400, sizes, activation=activation, random_state=seed
    )
    most_frequent = np.median(y)
    assert np.mean(np.abs(y - most_frequent) > 1e-9) > 0.15
    assert np.std(y) > 0.3


@pytest.mark.parametrize("seed", range(20))
def test_filters_that_cancel_are_drawn_again(seed):
    y = make_patch_cnn_regression(50, (1,), n_filters=2, random_state=seed)[1]
    assert np.std(y) > 0.3


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_samples": 0}, "n_samples == 0"),
        ({"n_filters": 0}, "n_filters == 0"),
        ({"n_outputs": 1.5}, "n_outputs"),
        ({"noise": -1}, "noise == -1"),
        ({"noise": np.inf}, "noise must be finite, got inf"),
        ({"kernel_sizes": ()}, "empty"),
        ({"kernel_sizes": (4, 0)}, "at least 1, got 0"),
        ({"input_shape": (5, 5)}, r"example \(5, 5\)|length 5"),
        ({"activation": "elu"}, "unknown activation 'elu'; known are relu"),
        ({"activation": ["relu"]}, "1 entries"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_patch_cnn_regression(**parameters)
