import numpy as np
import pytest
from scipy.signal import lfilter
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.metrics import r2_score
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.model_selection import KFold

from skdeeptd import DeepTDFeatures, DeepTDRidge
from skdeeptd._solvers.ridge import cv_kernel_ridge, cv_ridge, penalties, principal

RNG = np.random.default_rng(0)
F, Y = RNG.standard_normal((30, 12)), RNG.standard_normal((30, 2))
WEIGHT = RNG.uniform(0.5, 2, 30)
KERNELS = pytest.mark.parametrize("kernel", ["linear", "rbf"])


@pytest.mark.parametrize(("n_rows", "n_entries"), [(30, 12), (27, 1), (30, 1), (9, 12)])
def test_ridge_is_that_of_scikit_learn_with_the_penalty_of_refits(n_rows, n_entries):
    """Blocks of more and of fewer rows than entries, and single rows."""
    F_, Y_, weight = F[:n_rows, :n_entries], Y[:n_rows], WEIGHT[:n_rows]
    found = cv_ridge(F_, Y_, weight)
    center = weight @ F_ / weight.sum()
    table = (F_ - center) * np.sqrt(weight)[:, np.newaxis]
    largest = np.linalg.norm(table, 2) ** 2
    for output in range(2):
        y, errors = Y_[:, output], []
        alphas = penalties(np.array([largest]))
        for alpha in alphas:
            model, error = Ridge(alpha, solver="svd"), 0.0
            for others, left in KFold(min(20, n_rows)).split(F_):
                model.fit(F_[others], y[others], weight[others])
                error += weight[left] @ (y[left] - model.predict(F_[left])) ** 2
            errors.append(error)
        best = np.argmin(errors)
        np.testing.assert_allclose(found.alpha[output], alphas[best])
        np.testing.assert_allclose(
            found.cv_error[output], errors[best] / n_rows, rtol=1e-6
        )
        model = Ridge(found.alpha[output], solver="svd").fit(F_, y, weight)
        np.testing.assert_allclose(found.coef[:, output], model.coef_, atol=1e-9)
        np.testing.assert_allclose(found.intercept[output], model.intercept_)


def test_a_linear_kernel_is_plain_ridge():
    plain, of_kernel = cv_ridge(F, Y, WEIGHT), cv_kernel_ridge(F @ F.T, Y, WEIGHT)
    np.testing.assert_allclose(F.T @ of_kernel.coef, plain.coef, atol=1e-10)
    for name in ("intercept", "alpha", "scale", "cv_error"):
        np.testing.assert_allclose(
            getattr(of_kernel, name), getattr(plain, name), rtol=1e-8
        )


def test_kernel_ridge_is_that_of_scikit_learn_where_the_mean_is_zero():
    gram = rbf_kernel(F, gamma=0.05)
    found = cv_kernel_ridge(gram, Y, np.ones(30))
    mean = gram.mean(axis=0)
    centered = gram - mean - mean[:, np.newaxis] + mean.mean()
    for output in range(2):
        y = Y[:, output] - Y[:, output].mean()
        model = KernelRidge(alpha=found.alpha[output], kernel="precomputed")
        expected = model.fit(centered, y).predict(centered) + Y[:, output].mean()
        ours = gram @ found.coef[:, output] + found.intercept[output]
        np.testing.assert_allclose(ours, expected, atol=1e-8)


def test_windows_of_a_series_need_neighbours_left_out_together():
    """Three steps ahead of an oscillation; single rows left out promise too much."""
    scores = {20: [], 150: []}
    for seed in range(8):
        noise = np.random.default_rng(seed).standard_normal(400)
        series = lfilter([1], [1, -1.6, 0.9], noise) / 4
        X = np.lib.stride_tricks.sliding_window_view(series, 20)[:-3]
        y = series[22:, np.newaxis]
        known, new = X[:150], X[160:]
        gram, cross = (rbf_kernel(rows, known, gamma=0.01) for rows in (known, new))
        for n_blocks, of_number in scores.items():
            found = cv_kernel_ridge(gram, y[:150], np.ones(150), n_blocks)
            predicted = found.intercept + cross @ found.coef
            of_number.append(r2_score(y[160:], predicted))
    assert np.mean(scores[20]) > 0.3
    assert np.mean(scores[150]) < 0


def test_rows_that_are_sorted_by_y_do_no_harm():
    X, digit = load_digits(return_X_y=True)
    model = DeepTDRidge(DeepTDFeatures(random_state=0))
    for seed in range(5):
        rows = np.random.RandomState(seed).permutation(len(X))
        train, test = rows[:150], rows[150:]
        in_order = train[np.argsort(digit[train], kind="stable")]
        mixed, ordered = (
            clone(model)
            .fit(X[known].reshape(-1, 8, 8), digit[known])
            .score(X[test].reshape(-1, 8, 8), digit[test])
            for known in (train, in_order)
        )
        assert ordered > mixed - 0.1


def data(n_rows=60):
    X = np.random.default_rng(1).standard_normal((n_rows, 16))
    return X, np.sin(X[:, 0]) + X[:, 5] + 0.1 * X[:, 9] ** 2


@KERNELS
def test_deviations_are_those_of_a_gaussian_process(kernel):
    X, y = data()
    model = DeepTDRidge(DeepTDFeatures(random_state=0), kernel=kernel).fit(X, y)
    new = np.random.default_rng(2).standard_normal((20, 16))
    _, std = model.predict(new, return_std=True)
    known, table = (model.features_.transform(rows) for rows in (X, new))
    if kernel == "linear":
        gram, cross, own = known @ known.T, table @ known.T, np.sum(table**2, axis=1)
    else:
        gram, cross = (rbf_kernel(a, known, gamma=model.gamma_) for a in (known, table))
        own = np.ones(20)
    mean = gram.mean(axis=0)
    gram_c = gram - mean - mean[:, np.newaxis] + mean.mean()
    cross_c = cross - mean - cross.mean(axis=1, keepdims=True) + mean.mean()
    own_c = own - 2 * cross.mean(axis=1) + mean.mean()
    alpha = model.alpha_[0]
    solved = np.linalg.solve(gram_c + alpha * np.eye(60), cross_c.T)
    variance = (own_c - np.sum(cross_c.T * solved, axis=0)) / alpha + 1 / 60
    np.testing.assert_allclose(std**2, model.variance_scale_[0] * variance, rtol=1e-5)


def kriging(known, cross, own, y):
    """Mean and covariance at new rows of a Gaussian process with an unknown mean."""
    solved = np.linalg.solve(known, cross.T).T
    ones = np.linalg.solve(known, np.ones(len(known)))
    rest = 1 - solved.sum(axis=1)
    covariance = own - solved @ cross.T + np.outer(rest, rest) / ones.sum()
    return rest * (ones @ y) / ones.sum() + solved @ y, covariance


@KERNELS
@pytest.mark.parametrize("weight_unit", [1, 1e-3])
def test_weights_count_in_predictions_and_deviations(kernel, weight_unit):
    """The penalty is large, so that the variance of the mean counts."""
    rng = np.random.default_rng(5)
    X, noise = rng.standard_normal((40, 10)), rng.standard_normal(40)
    weight = np.r_[np.full(10, 9.0), np.full(30, 0.2)]
    y, weight = 3 + noise / np.sqrt(weight), weight_unit * weight
    new = rng.standard_normal((20, 10))
    features = DeepTDFeatures((4,), n_filters=1, random_state=0)
    model = DeepTDRidge(features, kernel=kernel).fit(X, y, weight)
    predicted, std = model.predict(new, return_std=True)
    known, table = (model.features_.transform(rows) for rows in (X, new))
    if kernel == "rbf":
        gram, cross, own = (
            rbf_kernel(a, b, gamma=model.gamma_) / model.alpha_
            for a, b in ((known, known), (table, known), (table, table))
        )
    else:
        gram, cross, own = (
            a @ b.T / model.alpha_
            for a, b in ((known, known), (table, known), (table, table))
        )
    mean, covariance = kriging(gram + np.diag(1 / weight), cross, own, y)
    variance = np.diag(covariance)
    np.testing.assert_allclose(predicted, mean, rtol=1e-8)
    np.testing.assert_allclose(std**2, variance * model.variance_scale_, rtol=1e-6)
    assert np.median(variance) < 10 / weight.sum()


@pytest.mark.parametrize("n_entries", [1, 12, 50])
def test_standardised_residuals_of_refits_have_mean_square_one(n_entries):
    """Each of three blocks is predicted by the Gaussian process of the other rows."""
    rng = np.random.default_rng(6)
    F, weight = rng.standard_normal((30, n_entries)), rng.uniform(0.2, 5, 30)
    y = F[:, 0] + 2 + rng.standard_normal(30) / np.sqrt(weight)
    found = cv_ridge(F, y[:, np.newaxis], weight, n_blocks=3)
    covariance = F @ F.T / found.alpha + np.diag(1 / weight)
    squares = errors = 0.0
    for others, left in KFold(3).split(F):
        blocks = (covariance[np.ix_(a, others)] for a in (others, left))
        mean, of_mean = kriging(*blocks, covariance[np.ix_(left, left)], y[others])
        squares += (y[left] - mean) @ np.linalg.solve(of_mean, y[left] - mean)
        errors += weight[left] @ (y[left] - mean) ** 2
    np.testing.assert_allclose(found.scale, squares / 30, rtol=1e-6)
    np.testing.assert_allclose(found.cv_error, errors / 30, rtol=1e-6)


@KERNELS
@pytest.mark.parametrize("noise", [0.02, 0.3, 1.0])
def test_deviations_are_of_the_size_of_the_errors(kernel, noise):
    """Also if the fit interpolates and in-sample residuals vanish."""
    errors, deviations, noises, interpolates = [], [], [], []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        X = np.cumsum(rng.standard_normal((260, 30)), axis=1)
        X -= X.mean(axis=1, keepdims=True)
        mean = np.tanh(X[:, 3] - X[:, 9]) + X[:, 20] / 5
        y = mean[:60] + noise * rng.standard_normal(60)
        model = DeepTDRidge(DeepTDFeatures(random_state=seed), kernel=kernel)
        predicted, std = model.fit(X[:60], y).predict(X[60:], return_std=True)
        errors.append(np.abs(predicted - mean[60:]))
        deviations.append(std)
        noises.append(model.noise_variance_)
        interpolates.append(np.std(model.predict(X[:60]) - y) < 1e-3 * np.std(y))
    errors, deviations = np.array(errors), np.array(deviations)
    assert np.mean(errors < 2 * deviations) > 0.85
    ratio = np.sqrt(np.mean(deviations**2, 1) / np.mean(errors**2, 1))
    assert 0.67 < np.median(ratio) < 1.5
    assert np.all((ratio > 0.4) & (ratio < 2.5)), ratio
    assert np.all(np.array(noises) > 0.8 * noise**2)
    assert np.any(interpolates) or kernel == "linear"


def test_one_sample_has_no_deviations():
    X, y = data()
    with pytest.warns(UserWarning, match="deviations are NaN"):
        model = DeepTDRidge().fit(X[:1], y[:1])
    predicted, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(predicted, y[0])
    assert np.all(np.isnan(std))
    assert np.all(np.isnan(model.noise_variance_))


@pytest.mark.parametrize("gamma", [None, 1e-16, 1e-9, 1e3])
@pytest.mark.parametrize("value", [0.0, 0.1, -4e5])
def test_a_kernel_of_constant_samples_predicts_the_mean(value, gamma):
    y = data()[1]
    X = np.full((60, 16), value)
    model = DeepTDRidge(kernel="rbf", gamma=gamma).fit(X, y)
    predicted, std = model.predict(X + np.eye(60, 16), return_std=True)
    np.testing.assert_allclose(predicted, y.mean(), rtol=1e-9)
    np.testing.assert_allclose(std, std[0], rtol=1e-6)
    assert 0 < std[0] < y.std()


@pytest.mark.parametrize("gamma", [1e-300, 1e-16, 1e-14, 1e-12, 1e-6, 1e6])
@pytest.mark.parametrize("unit", [1e-310, 1.0])
def test_kernels_of_any_width_predict_within_the_range_of_y(unit, gamma):
    X, y = data(120)
    model = DeepTDRidge(kernel="rbf", gamma=gamma, random_state=0)
    model.fit(unit * X[:60], y[:60])
    predicted, std = model.predict(unit * X, return_std=True)
    assert np.abs(predicted).max() < 3 * np.abs(y).max()
    assert np.all((std > 0) & (std < 3 * np.abs(y).max()))


def test_directions_that_are_rounding_errors_are_left_out():
    F_ = np.column_stack([F, F[:, :3] @ [[1], [2], [-1]], F[:, 1:2] / 3])
    for table in (F_, F_[:9], F_.T):
        basis, values = principal(table)
        assert len(values) == np.linalg.matrix_rank(table)
        np.testing.assert_allclose(basis.T @ basis, np.diag(values), atol=1e-10)
        np.testing.assert_allclose(
            basis @ basis.T, table @ table.T, atol=1e-10 * values.max()
        )
    gram = 1 + 1e-3 * F[:, :2] @ F[:, :2].T
    assert len(cv_kernel_ridge(gram, Y, WEIGHT).values) == 2


@KERNELS
def test_parameters_set_after_fit_change_nothing(kernel):
    X, y = data()
    model = DeepTDRidge(DeepTDFeatures(random_state=0), kernel=kernel).fit(X, y)
    expected = model.predict(X, return_std=True)
    model.set_params(
        features__activation="tanh",
        features__pooling="both",
        kernel="rbf" if kernel == "linear" else "linear",
        gamma=3.0,
        input_shape=(4, 4),
    )
    model.features_.set_params(activation="identity", pooling="global", n_filters=1)
    np.testing.assert_array_equal(model.predict(X, return_std=True), expected)


def test_what_a_fit_stores():
    X, y = data()
    linear = DeepTDRidge(random_state=0).fit(X, np.column_stack([y, -y]))
    table = linear.features_.transform(X)
    np.testing.assert_allclose(
        linear.predict(X), linear.intercept_ + table @ linear.coef_.T
    )
    sizes = {k: np.size(v) for k, v in vars(linear).items() if k.endswith("_")}
    assert max(sizes.values()) <= min(table.shape) * table.shape[1]
    assert not {"X_fit_", "dual_coef_", "share_", "gamma_"} & set(sizes)
    many, y_many = data(1500)
    few = DeepTDFeatures((4,), strides=4, n_filters=2, random_state=0)
    stored = vars(DeepTDRidge(few).fit(many, y_many))
    assert max(np.size(v) for v in stored.values()) <= 64
    rbf = DeepTDRidge(kernel="rbf", random_state=0).fit(X, y)
    gram = rbf_kernel(rbf.features_.transform(X), rbf.X_fit_, gamma=rbf.gamma_)
    np.testing.assert_allclose(
        rbf.predict(X), (rbf.intercept_ + gram @ rbf.dual_coef_)[:, 0]
    )
    assert not hasattr(rbf, "coef_")


def test_input_shape_is_that_of_the_samples():
    X, y = data()
    images = DeepTDRidge(random_state=0).fit(X.reshape(-1, 4, 4), y)
    for model in (
        DeepTDRidge(input_shape=(4, 4), random_state=0),
        DeepTDRidge(DeepTDFeatures(input_shape=(4, 4)), random_state=0),
        DeepTDRidge(
            DeepTDFeatures(input_shape=(2, 8)), input_shape=(4, 4), random_state=0
        ),
    ):
        np.testing.assert_array_equal(model.fit(X, y).predict(X), images.predict(X))
    with pytest.raises(ValueError, match=r"\(4, 4\).*\(2, 8\)"):
        DeepTDRidge(input_shape=(2, 8)).fit(X.reshape(-1, 4, 4), y)


def test_samples_that_are_not_finite_are_named():
    X, y = data()
    X[3, 4] = np.nan
    with pytest.raises(ValueError, match=r"NaN[\s\S]*DeepTDRidge"):
        DeepTDRidge().fit(X, y)


@KERNELS
def test_outputs_have_penalties_of_their_own(kernel):
    X, y = data()
    Y = np.column_stack([y, RNG.standard_normal(60), 1e6 * y - 5])
    model = DeepTDRidge(DeepTDFeatures(random_state=0), kernel=kernel).fit(X, Y)
    assert model.predict(X).shape == (60, 3)
    np.testing.assert_allclose(
        model.predict(X)[:, 2], 1e6 * model.predict(X)[:, 0] - 5, rtol=1e-6, atol=1e-3
    )
    assert model.alpha_[1] > model.alpha_[0]
    _, std = model.predict(X, return_std=True)
    np.testing.assert_allclose(std[:, 2], 1e6 * std[:, 0], rtol=1e-6)


@KERNELS
def test_rows_of_weight_zero_do_not_count(kernel):
    X, y = data()
    weight = np.r_[np.ones(40), np.zeros(20)]
    model = DeepTDRidge(DeepTDFeatures(random_state=0), kernel=kernel)
    weighted = clone(model).fit(X, np.where(weight > 0, y, 1e3), sample_weight=weight)
    np.testing.assert_allclose(
        weighted.predict(X), clone(model).fit(X[:40], y[:40]).predict(X), atol=1e-9
    )


def test_kernel_ridge_on_images():
    X, digit = load_digits(return_X_y=True)
    X, y = X.reshape(-1, 8, 8), digit % 2
    scores = []
    for seed in range(3):
        rows = np.random.RandomState(seed).permutation(len(X))
        train, test = rows[:150], rows[150:]
        features = DeepTDFeatures(pooling="both", standardize=False, random_state=seed)
        model = DeepTDRidge(features, kernel="rbf").fit(X[train], y[train])
        scores.append(model.score(X[test], y[test]))
    assert np.mean(scores) > 0.78


def test_a_constant_target_and_a_given_gamma():
    X, y = data()
    constant = DeepTDRidge().fit(X, np.full(60, 3.0))
    np.testing.assert_allclose(constant.predict(X), 3)
    assert DeepTDRidge(kernel="rbf", gamma=0.01).fit(X, y).gamma_ == 0.01


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"kernel": "cubic"}, "kernel"),
        ({"gamma": 0}, "gamma"),
        ({"features": RidgeCV()}, "features"),
        ({"features": DeepTDFeatures(n_filters=0)}, "n_filters"),
    ],
)
def test_bad_parameters(parameters, message):
    with pytest.raises(ValueError, match=message):
        DeepTDRidge(**parameters).fit(*data())
