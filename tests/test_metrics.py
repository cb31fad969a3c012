import numpy as np
import pytest

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.metrics import kernel_similarity


def random_kernels(rng):
    return [rng.standard_normal((2, 3, 4)), rng.standard_normal((2, 3, 2, 5))]


def test_order_of_filters_signs_and_norms_do_not_count():
    rng = np.random.default_rng(0)
    true = random_kernels(rng)
    estimated = [k.copy() for k in true]
    for output, order in enumerate(([2, 0, 1], [1, 0, 2])):
        for k in estimated:
            k[output] = k[output][order] * rng.choice(
                [-3, 0.5], size=(3,) + (1,) * (k.ndim - 2)
            )
    np.testing.assert_allclose(kernel_similarity(estimated, true), 1, rtol=1e-12)


def test_filters_are_matched_once_for_all_layers():
    first, second = np.eye(2)[np.newaxis], np.eye(2)[np.newaxis]
    similarity = kernel_similarity([first, second], [first, second[:, ::-1]])
    assert sorted(similarity) == [0, 1]


def test_value_is_the_cosine():
    estimated, true = [np.array([[[3.0, 4.0]]])], [np.array([[[2.0, 0.0]]])]
    np.testing.assert_allclose(kernel_similarity(estimated, true), [0.6])
    np.testing.assert_array_equal(kernel_similarity([np.zeros((1, 1, 2))], true), [0])


@pytest.mark.parametrize(
    ("kernel_sizes", "input_shape", "expected"),
    [
        ((4, -1), (12,), [(4,), (9,)]),
        (((3, 2), -1), (5, 6), [(3, 2), (3, 5)]),
        (((2, 2, 3), (2, 2), -1), (5, 4, 3), [(2, 2, 3), (2, 2), (3, 2, 1)]),
    ],
)
def test_kernels_of_overlapping_patches_and_of_what_is_left(
    kernel_sizes, input_shape, expected
):
    """A fit has the shapes that were planted, and they are compared as any others."""
    X, y, planted = make_patch_cnn_regression(
        40,
        kernel_sizes,
        input_shape=input_shape,
        strides=1,
        n_filters=2,
        random_state=0,
        return_kernels=True,
    )
    model = DeepTDRegressor(
        kernel_sizes,
        input_shape=input_shape,
        strides=1,
        n_filters=2,
        polish=False,
        random_state=0,
    ).fit(X, y)
    assert [k.shape[2:] for k in model.kernels_] == expected
    orders = []
    for order in ([0, 1], [1, 0]):
        pairs = zip(model.kernels_, planted, strict=True)
        cosines = [
            np.abs(np.vdot(k[0, r], t[0, o]))
            for k, t in pairs
            for r, o in enumerate(order)
        ]
        orders.append(np.reshape(cosines, (-1, 2)).mean(axis=1))
    best = max(orders, key=np.sum)
    np.testing.assert_allclose(kernel_similarity(model.kernels_, planted), best)
    negated = [-3 * k[:, ::-1] for k in planted]
    np.testing.assert_allclose(kernel_similarity(negated, planted), 1, rtol=1e-12)


@pytest.mark.parametrize(
    ("estimated", "true"),
    [
        ([np.ones((1, 1, 3))], [np.ones((1, 1, 4))]),
        ([np.ones((1, 1, 3))], [np.ones((1, 1, 3))] * 2),
        ([np.ones((1, 2, 3))], [np.ones((1, 1, 3))]),
        ([np.ones(3)], [np.ones(3)]),
        ([], []),
    ],
)
def test_other_shapes_are_an_error(estimated, true):
    with pytest.raises(ValueError, match="same shapes"):
        kernel_similarity(estimated, true)
