import numpy as np
import pytest

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
