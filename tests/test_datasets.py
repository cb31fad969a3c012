import numpy as np
import pytest
from scipy.special import expit, softmax
from scipy.stats import chi2

from skdeeptd import DeepTDClassifier, DeepTDRegressor, datasets
from skdeeptd._network.activations import ACTIVATIONS
from skdeeptd._network.kernel_sizes import make_layout
from skdeeptd._network.network import Network, forward
from skdeeptd.datasets import (
    make_patch_cnn_classification,
    make_patch_cnn_regression,
)
from skdeeptd.metrics import kernel_similarity


def test_shapes_and_norms():
    X, y, kernels = make_patch_cnn_regression(
        30,
        ((3, 2, 3), (1, 2), (2, 2)),
        input_shape=(6, 8, 3),
        n_filters=2,
        n_outputs=4,
        random_state=0,
        return_kernels=True,
    )
    assert X.shape == (30, 144)
    assert y.shape == (30, 4)
    assert [k.shape for k in kernels] == [(4, 2, 3, 2, 3), (4, 2, 1, 2), (4, 2, 2, 2)]
    for k in kernels:
        np.testing.assert_allclose(np.linalg.norm(k.reshape(4, 2, -1), axis=2), 1)


@pytest.fixture
def networks(monkeypatch):
    """The networks that were run, the planted one last."""
    networks = []

    def recording(network, X):
        networks.append(network)
        return forward(network, X)

    monkeypatch.setattr(datasets, "forward", recording)
    return networks


PLANTED = {  # kernel shapes in full, strides in full, and what is passed
    "one axis": (((4,), (3,)), ((4,),), {"kernel_sizes": (4, 3)}),
    "overlap": (
        ((4,), (3,), (2,)),
        ((2,), (1,)),
        {"kernel_sizes": (4, 3, 2), "strides": (2, 1)},
    ),
    "what is left": (
        ((3, 2), (4, 5)),
        ((1, 1),),
        {"kernel_sizes": ((3, 2), -1), "strides": 1, "input_shape": (6, 6)},
    ),
    "what is left without overlap": (
        ((2, 2), (2, 3)),
        ((2, 2),),
        {"kernel_sizes": (2, -1), "input_shape": (4, 6)},
    ),
    "padded": (
        ((3, 2), (2, 1), (2, 4)),
        ((2, 1), (1, 1)),
        {
            "kernel_sizes": ((3, 2), (2, 1), -1),
            "strides": ((2, 1), 1),
            "input_shape": (6, 5),
        },
    ),
    "channels": (
        ((2, 2, 3), (3, 2, 1)),
        ((1, 1, 3),),
        {"kernel_sizes": ((2, 2, 3), -1), "strides": 1, "input_shape": (4, 3, 3)},
    ),
}


def by_loops(sample, kernels, steps, biases, activations):
    """Patches of a padded array, layer by layer."""
    covered = np.ones(sample.ndim, dtype=int)
    steps = [*steps, kernels[-1].shape]
    for k, step in zip(kernels[::-1], steps[::-1], strict=True):
        covered = (covered - 1) * step + k.shape
    h = np.zeros(covered)
    h[tuple(map(slice, sample.shape))] = sample
    for k, step, bias, name in zip(kernels, steps, biases, activations, strict=True):
        corners = np.ndindex(*((np.array(h.shape) - k.shape) // step + 1))
        z = {}
        for corner in corners:
            begin = np.multiply(corner, step)
            patch = h[tuple(map(slice, begin, begin + k.shape))]
            z[corner] = np.sum(patch * k) + bias
        z = np.array(list(z.values())).reshape(np.add(list(z)[-1], 1))
        h = ACTIVATIONS[name].value(z, np.empty_like(z))
    return h.item()


@pytest.mark.parametrize("hidden_bias", [False, True])
@pytest.mark.parametrize("case", PLANTED)
def test_y_is_the_planted_network_by_explicit_loops(networks, case, hidden_bias):
    shapes, steps, parameters = PLANTED[case]
    X, y, kernels = make_patch_cnn_regression(
        40,
        **parameters,
        n_filters=2,
        activation="tanh",
        hidden_bias=hidden_bias,
        random_state=0,
        return_kernels=True,
    )
    assert tuple(k.shape for k in kernels) == tuple((1, 2, *s) for s in shapes)
    last, biases = networks[-1].heads[0], networks[-1].biases
    unit = kernels[-1][0].reshape(2, -1)
    scales = np.sum(last * unit, axis=1)
    np.testing.assert_allclose(last, scales[:, np.newaxis] * unit, atol=1e-15)
    assert len(biases) == (len(shapes) - 1) * hidden_bias
    assert all(np.all(b != 0) for b in biases)
    np.testing.assert_allclose(np.abs(scales), np.abs(scales[0]))
    biases = [*biases, *np.zeros((len(shapes) - len(biases), 2))]
    activations = (*("tanh",) * len(steps), "identity")
    input_shape = parameters.get("input_shape", (X.shape[1],))
    expected = [
        sum(
            scales[r]
            * by_loops(
                x.reshape(input_shape),
                [k[0, r] for k in kernels],
                steps,
                [b[r] for b in biases],
                activations,
            )
            for r in range(2)
        )
        for x in X
    ]
    np.testing.assert_allclose(y, expected, rtol=1e-11, atol=1e-13)


def test_biases_have_half_the_size_of_the_preactivation(networks):
    """That of a linear layer on standard normal X has the deviation 1."""
    make_patch_cnn_regression(
        2, (4, 3), n_filters=2000, activation="tanh", hidden_bias=True, random_state=0
    )
    (biases,) = networks[-1].biases
    error = 1 / np.sqrt(2000)
    assert abs(np.mean(biases)) < 4 * 0.5 * error
    assert abs(np.std(biases) / 0.5 - 1) < 4 * error


def test_a_fit_without_noise_shows_the_biases(networks):
    X, y = make_patch_cnn_regression(
        600, (4, 3), hidden_bias=True, activation="softplus", random_state=0
    )
    model = DeepTDRegressor(
        (4, 3), activation="softplus", hidden_bias=True, tol=1e-12, random_state=0
    )
    model.fit(X, y)
    np.testing.assert_allclose(model.biases_[0, 0], networks[-1].biases[0], rtol=1e-4)


@pytest.mark.parametrize("n_filters", [1, 3])
def test_y_is_the_planted_network(n_filters):
    X, y, kernels = make_patch_cnn_regression(
        50,
        ((2, 3), (2, 2)),
        input_shape=(4, 6),
        n_filters=n_filters,
        random_state=1,
        return_kernels=True,
    )
    layout = make_layout(24, ((2, 3), (2, 2)), (4, 6))
    outputs = [
        forward(
            Network(
                (kernels[0][0, r].reshape(1, -1),),
                ("relu",),
                kernels[1][0, r].reshape(1, 1, -1),
                np.zeros(1),
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
    _, y = make_patch_cnn_regression(
        400, sizes, activation=activation, random_state=seed
    )
    most_frequent = np.median(y)
    assert np.mean(np.abs(y - most_frequent) > 1e-9) > 0.15
    assert np.std(y) > 0.3


@pytest.mark.parametrize("seed", range(20))
def test_filters_that_cancel_are_drawn_again(seed):
    y = make_patch_cnn_regression(50, (1,), n_filters=2, random_state=seed)[1]
    assert np.std(y) > 0.3


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("hidden_bias", [False, True])
@pytest.mark.parametrize(
    "parameters",
    [
        {"kernel_sizes": (3,) * 8, "strides": 1},
        {"kernel_sizes": (4, 3, -1), "strides": (2, 1), "input_shape": (40,)},
        {"kernel_sizes": (3, 2, -1), "strides": 1, "input_shape": (9, 9)},
        {"kernel_sizes": (3, -1), "input_shape": (7, 8)},
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_network_of_overlapping_patches_is_dead(
    activation, hidden_bias, parameters, seed
):
    _, y = make_patch_cnn_regression(
        400,
        **parameters,
        activation=activation,
        hidden_bias=hidden_bias,
        random_state=seed,
    )
    assert np.mean(np.abs(y - np.median(y)) > 1e-9) > 0.15
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
        ({"kernel_sizes": (4, -1)}, r"\(4, -1\) hold -1.*no input_shape"),
        ({"strides": 5}, "layer 1 has kernel size 4.* strides from 1 to 4 fit"),
        ({"strides": (2,)}, "each of 2 hidden layers, got 1"),
        ({"strides": (2, 1.5)}, "strides of layer 2 must hold integers, got 1.5"),
        ({"activation": "elu"}, "unknown activation 'elu'; known are relu"),
        ({"activation": ["relu"]}, "1 entries"),
    ],
)
def test_bad_parameters_are_named(parameters, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_patch_cnn_regression(**parameters)


@pytest.mark.parametrize(("sizes", "shared"), [((4, 3), 1), ((12,), 0)])
def test_outputs_that_share_filters_have_last_kernels_of_their_own(sizes, shared):
    *_, kernels = make_patch_cnn_regression(
        10,
        sizes,
        n_filters=2,
        n_outputs=3,
        share_filters=True,
        random_state=0,
        return_kernels=True,
    )
    same = [bool(np.all(k == k[0])) for k in kernels]
    assert same == [True] * shared + [False]


# Labels


@pytest.mark.parametrize(("n_classes", "n_outputs"), [(2, 1), (3, 3), (5, 5)])
def test_shapes_of_classes(n_classes, n_outputs):
    X, y, kernels, logits = make_patch_cnn_classification(
        300,
        ((3, 2, 3), (1, 2), -1),
        n_classes=n_classes,
        input_shape=(6, 8, 3),
        n_filters=2,
        random_state=0,
        return_kernels=True,
    )
    assert X.shape == (300, 144)
    assert y.dtype.kind == "i"
    np.testing.assert_array_equal(np.unique(y), range(n_classes))
    assert logits.shape == ((300,) if n_classes == 2 else (300, n_classes))
    shapes = [k.shape for k in kernels]
    assert shapes == [(n_outputs, 2, *s) for s in [(3, 2, 3), (1, 2), (2, 2, 1)]]
    model = DeepTDClassifier(
        ((3, 2, 3), (1, 2), -1), input_shape=(6, 8, 3), n_filters=2, polish=False
    ).fit(X, y)
    assert [k.shape for k in model.kernels_] == shapes
    assert model.decision_function(X).shape == logits.shape


def test_one_sample_has_a_label():
    X, y, _, logits = make_patch_cnn_classification(
        1, (3, 2), random_state=0, return_kernels=True
    )
    assert X.shape == (1, 6)
    assert y.shape == logits.shape == (1,)


@pytest.mark.parametrize("n_classes", [2, 4])
def test_logits_are_the_outputs_of_a_regression_shifted_and_scaled(n_classes):
    parameters = {"n_filters": 2, "activation": "tanh", "hidden_bias": True}
    X, _, kernels, logits = make_patch_cnn_classification(
        40,
        (4, 3),
        n_classes=n_classes,
        logit_std=2.5,
        **parameters,
        random_state=3,
        return_kernels=True,
    )
    n_outputs = 1 if n_classes == 2 else n_classes
    same_X, outputs, same_kernels = make_patch_cnn_regression(
        40,
        (4, 3),
        n_outputs=n_outputs,
        share_filters=True,
        **parameters,
        random_state=3,
        return_kernels=True,
    )
    np.testing.assert_array_equal(X, same_X)
    for k, same in zip(kernels, same_kernels, strict=True):
        np.testing.assert_array_equal(k, same)
    shift = logits - 2.5 * outputs
    np.testing.assert_allclose(shift - shift[0], 0, atol=1e-12)


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("logit_std", [0.5, 3.0])
@pytest.mark.parametrize("activation", ["relu", "softplus"])
def test_logits_have_mean_zero_and_the_given_spread(n_classes, logit_std, activation):
    *_, logits = make_patch_cnn_classification(
        20000,
        (4, 3),
        n_classes=n_classes,
        logit_std=logit_std,
        activation=activation,
        random_state=0,
        return_kernels=True,
    )
    np.testing.assert_allclose(np.std(logits, axis=0), logit_std, rtol=0.2)
    np.testing.assert_allclose(np.mean(logits, axis=0), 0, atol=0.2 * logit_std)


@pytest.mark.parametrize("n_classes", [2, 4])
@pytest.mark.parametrize("seed", range(3))
def test_labels_follow_the_probabilities(n_classes, seed):
    """Counts of each class among rows of like probability, by chi-square."""
    *_, y, _, logits = make_patch_cnn_classification(
        20000, (4, 3), n_classes=n_classes, random_state=seed, return_kernels=True
    )
    if n_classes == 2:
        probabilities = np.column_stack([1 - expit(logits), expit(logits)])
    else:
        probabilities = softmax(logits, axis=1)
    for label, p in enumerate(probabilities.T):
        groups = np.array_split(np.argsort(p), 20)
        z = [
            np.sum((y[rows] == label) - p[rows])
            / np.sqrt(np.sum(p[rows] * (1 - p[rows])))
            for rows in groups
            if np.sum(p[rows] * (1 - p[rows])) > 5
        ]
        assert len(z) > 10
        assert chi2.sf(np.sum(np.square(z)), len(z)) > 1e-4


def test_the_same_seed_gives_the_same_labels_and_another_one_others():
    first, second, other = (
        make_patch_cnn_classification(n_classes=3, random_state=s, return_kernels=True)
        for s in (5, 5, 6)
    )
    for i in (0, 1, 3):
        np.testing.assert_array_equal(first[i], second[i])
        assert np.any(first[i] != other[i])


@pytest.mark.parametrize(("n_classes", "n_known"), [(2, 2), (3, 1)])
def test_a_classifier_finds_the_planted_kernels(n_classes, n_known):
    """From 30 rows for each degree of freedom, by the median of seeds.

    Of several classes the last kernels are known up to one that they share.
    """
    n_free, found = 8 + 8 * (n_classes - 1) - 1, []
    for seed in range(5):
        X, y, kernels, _ = make_patch_cnn_classification(
            30 * n_free,
            (8, 8),
            n_classes=n_classes,
            random_state=seed,
            return_kernels=True,
        )
        model = DeepTDClassifier((8, 8), n_filters=1, random_state=seed).fit(X, y)
        found.append(kernel_similarity(model.kernels_, kernels)[:n_known].min())
    assert np.median(found) >= 0.95


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n_samples": 0}, "n_samples == 0"),
        ({"n_filters": 0}, "n_filters == 0"),
        ({"n_classes": 1}, "n_classes == 1"),
        ({"n_classes": 2.0}, "n_classes"),
        ({"logit_std": -1}, "logit_std == -1"),
        ({"logit_std": np.inf}, "logit_std must be finite, got inf"),
        ({"kernel_sizes": (4, 0)}, "at least 1, got 0"),
    ],
)
def test_bad_parameters_of_classes_are_named(parameters, message):
    with pytest.raises((ValueError, TypeError), match=message):
        make_patch_cnn_classification(**parameters)
