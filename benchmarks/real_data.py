"""Test R2 of DeepTD and of rivals on data sets that come with Python packages.

This is the fifth protocol. It was written before any method was run under it, except
for a trial of the rivals on one split of four sets, to see their seconds. Its scores
were seen too: xRFM then got a wider grid, and folds that choose the number of its
iterations. The sets are in sets.py; --folder adds sets that no package ships.

sizes     small: at most 150 training rows, five splits. whole: at most 1000, two
          splits; sets that have no more rows than the small size are not run again.
          At most 1000 rows are tested.
splits    Independent rows: random, a quarter for the test, the training rows drawn from
          the rest. Windows of a series: blocks of a tenth each near its end; the rows
          just before a block are for training, with a gap that keeps test targets out
          of them. Rows in groups: a group is either for training or for the test, and
          its training rows are neighbours.
scaling   The target is standardised on the training part, for all methods. DeepTD and
          Features take X as given, in its own shape. For the others each feature is
          standardised on the training part, except that MiniRocket, MultiRocket,
          MultiRocketHydra, RDST, QUANT and DrCIF take spectra as they are; on other
          kinds MiniRocket and RDST choose between both, and the rest take X as given.
choosing  On the training part only, by the mean R2 on the same three folds: shuffled,
          or blocks if the rows are a series or have groups. Only ridge regression may
          use leave-one-out for its penalty, if the rows are independent. On spectra
          every rival except DrCIF also chooses between the spectra as they are, their
          first derivative (Savitzky-Golay, 15 points), and SNV (each spectrum minus
          its mean, divided by its standard deviation).
ours      DeepTD is DeepTDAutoRegressor(random_state=0), with no other argument; it
          takes its own folds and preprocesses by itself. Features is RidgeCV after
          DeepTDFeatures(random_state=0).
shapes    CP sees images and channels as they are, and a single axis folded once, as
          evenly as possible. The methods for series see channels as they are and
          images as one series; all others see a row of numbers.
scores    Test R2, the mean over the outputs that vary in the test part, and the seconds
          of a fit with its choices. For a single set the root mean squared error is
          printed too, in the unit of its y. Every set is reported. A fit that fails
          counts as the worst, and so does a method without a result for a set.

Settings of the rivals. Each choice is one that a user would make, kept small to save
time: 100 trees in Forest, 200 in ExtraTrees and behind QUANT, 100 iterations of MLP, 10
of CP, 1000 shapelets of RDST, HGB and LightGBM with their defaults except for smaller
leaves on few rows. GaussianProcess has a constant times an RBF kernel plus white noise,
without restarts; it finds its hyperparameters on at most 300 rows, drawn at random,
then uses all rows. xRFM is the recursive feature machine of the package xrfm (its class
RFM with the kernel "l2_high_dim") and chooses the bandwidth, the penalty and the number
of iterations by the folds. MultiRocketHydra is the features of both, scaled as in aeon,
before RidgeCV. DrCIF comes with its defaults and is fitted to each output. Methods in
ONLY_IF_NAMED are run and shown only if --methods and --shown name them.

Ranks are those of the mean R2 on a set, averaged over the sets of a size. They leave
out Features, so that ours is ranked once. Two methods differ at 5 % if their mean ranks
differ by more than the critical difference of Nemenyi's test. "Level with the best"
counts the sets on which the mean of a method is within a standard error of the paired
difference, over the splits, from the best. "Below Ridge" counts the sets on which the
mean of a method is more than 0.02 below that of Ridge. Splits share rows, and a series
or a picture is a single sample of its kind: the spread over splits says little about
other data of the kind.

Scores on all sets in DEVELOPMENT were seen while the package was written. No method was
run on those in FRESH before the end of development (--group fresh).

Run: python -m pip install ".[benchmarks]", then with OMP_NUM_THREADS=1
python benchmarks/real_data.py [--sets tecator,corn] [--methods DeepTD,Ridge]
[--sizes small] [--splits 1] [--folder DIR] [--results FILE] [--with FILE]. Each result
is appended to FILE at once, and a later run skips the results that are there, unless
--anew is given. --with reads further results for the tables, and --shown names their
methods. Seconds are comparable only within one run on one machine.
"""

import argparse
import json
import time
import warnings
from pathlib import Path

import numpy as np
import torch
from aeon.regression.interval_based import DrCIFRegressor
from aeon.transformations.collection.convolution_based import (
    HydraTransformer,
    MiniRocket,
    MultiRocket,
)
from aeon.transformations.collection.interval_based import QUANTTransformer
from aeon.transformations.collection.shapelet_based import (
    RandomDilatedShapeletTransform,
)
from lightgbm import LGBMRegressor
from scipy.signal import savgol_filter
from scipy.stats import rankdata, studentized_range
from sets import DEVELOPMENT, FRESH, Data, load_folder
from sklearn.base import BaseEstimator, RegressorMixin, TransformerMixin, clone
from sklearn.cross_decomposition import PLSRegression
from sklearn.ensemble import (
    ExtraTreesRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.kernel_ridge import KernelRidge
from sklearn.linear_model import RidgeCV
from sklearn.metrics import make_scorer, r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupShuffleSplit,
    KFold,
    ShuffleSplit,
    TimeSeriesSplit,
)
from sklearn.multioutput import MultiOutputRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler
from sklearn.svm import SVR
from tensorly.regression import CPRegressor
from xrfm import RFM

import skdeeptd

GROUPS = {"development": DEVELOPMENT, "fresh": FRESH, "none": {}}
SIZES = {"small": (150, 5), "whole": (1000, 2)}  # training rows, splits
N_DRAWN = 5  # splits are drawn as in the fourth protocol, which had five
N_FOLDS = 3
MOST_TESTED = 1000
MOST_FOR_HYPERPARAMETERS = 300
PENALTIES = np.logspace(-6, 6, 25)
FAR_BELOW = 0.02


def splits_of(data, n_rows):
    """Yield the training rows and the test rows of each split."""
    if data.groups is not None:
        splitter = GroupShuffleSplit(N_DRAWN, test_size=0.25, random_state=0)
        for train, test in splitter.split(data.X, groups=data.groups):
            yield whole_groups(train, data.groups, n_rows), test[:MOST_TESTED]
    elif data.horizon is None:
        splitter = ShuffleSplit(N_DRAWN, test_size=0.25, random_state=0)
        for train, test in splitter.split(data.X):
            yield train[:n_rows], test[:MOST_TESTED]
    else:
        tested, gap = len(data.y) // 10, data.horizon - 1
        splitter = TimeSeriesSplit(N_DRAWN, test_size=tested, gap=gap)
        for train, test in splitter.split(data.X):
            yield train[-n_rows:], test[:MOST_TESTED]


def whole_groups(rows, groups, n_rows):
    """Return rows of groups in random order, at most ``n_rows``, group after group."""
    order = np.random.RandomState(0).permutation(np.unique(groups[rows]))
    rows = np.concatenate([rows[groups[rows] == group] for group in order])
    return rows[:n_rows]


def varying_r2(y, predicted):
    """Return the mean R2 over the outputs that vary in ``y``."""
    y, predicted = (np.reshape(values, (len(y), -1)) for values in (y, predicted))
    varies = np.ptp(y, axis=0) > 0
    return r2_score(y[:, varies], predicted[:, varies]) if varies.any() else 0.0


def snv(X):
    spread = X.std(axis=1, keepdims=True)
    return (X - X.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1)


def derivative(X):
    return savgol_filter(X, 15, 2, deriv=1, axis=1)


SPECTRA = ["passthrough", FunctionTransformer(derivative), FunctionTransformer(snv)]


def shaped(X, shape):
    return X.reshape(len(X), *shape)


class Task:
    """Describe the data for a method: kind, shape, folds."""

    def __init__(self, data):
        self.shape, self.n_outputs = data.X.shape[1:], data.y[:1].size
        self.n_features = int(np.prod(self.shape))
        self.alone = data.horizon is None and data.groups is None
        is_channels = data.kind == "series" and len(self.shape) == 2
        self.series = self.shape if is_channels else (1, self.n_features)
        is_spectra = data.kind == "spectra"
        self.spectra = SPECTRA if is_spectra else SPECTRA[:1]
        self.series_scales = ["passthrough", StandardScaler()][: 2 - is_spectra]
        seed = 0 if self.alone else None
        self.folds = KFold(N_FOLDS, shuffle=self.alone, random_state=seed)

    def own_shape(self, model):
        """Hand X as given to the model."""
        reshape = FunctionTransformer(shaped, kw_args={"shape": self.shape})
        return make_pipeline(reshape, model)

    def steps(self, model, shape=None):
        """Return a pipeline: preprocessing of spectra, scaling, shape, model."""
        reshape = FunctionTransformer(shaped, kw_args={"shape": shape})
        named = {
            "spectra": "passthrough",
            "scale": StandardScaler(),
            "shape": "passthrough" if shape is None else reshape,
            "model": model,
        }
        return Pipeline(list(named.items()))

    def search(self, model, shape=None, scales=None, **grid):
        """Search the grid, the scalings and the preprocessing of spectra by folds."""
        grid = {f"model__{name}": values for name, values in grid.items()}
        grid |= {"spectra": self.spectra, "scale": scales or [StandardScaler()]}
        scorer, steps = make_scorer(varying_r2), self.steps(model, shape)
        return GridSearchCV(steps, grid, scoring=scorer, cv=self.folds)

    def each_output(self, model):
        return model if self.n_outputs == 1 else MultiOutputRegressor(model)


def deeptd(task):
    return task.own_shape(skdeeptd.DeepTDAutoRegressor(random_state=0))


def features(task):
    return task.own_shape(behind(skdeeptd.DeepTDFeatures(random_state=0), task))


def behind(transformer, task):
    """Return ridge regression on features."""
    cv = None if task.alone else task.folds
    return Pipeline(
        [
            ("features", transformer),
            ("scale", StandardScaler()),
            ("ridge", RidgeCV(PENALTIES, cv=cv)),
        ]
    )


def ridge(task):
    return task.search(RidgeCV(PENALTIES, cv=None if task.alone else task.folds))


def pls(task):
    numbers = [n for n in (1, 2, 3, 4, 6, 8, 12, 16, 24) if n <= task.n_features]
    return task.search(PLSRegression(scale=False), n_components=numbers)


def svr(task):
    gammas = np.array([0.01, 0.1, 1]) / task.n_features
    grid = {"C": [1, 10, 100], "gamma": gammas}
    if task.n_outputs > 1:
        grid = {f"estimator__{name}": values for name, values in grid.items()}
    return task.search(task.each_output(SVR()), **grid)


def kernel_ridge(task):
    gammas = np.array([0.001, 0.01, 0.1, 1]) / task.n_features
    grid = {"alpha": [1e-4, 1e-3, 1e-2, 0.1, 1], "gamma": gammas}
    return task.search(KernelRidge(kernel="rbf"), **grid)


def forest(task):
    trees = RandomForestRegressor(100, max_features=1 / 3, random_state=0)
    return task.search(trees)


class Boosting(HistGradientBoostingRegressor):
    """As it comes, but with leaves that fit into few rows."""

    def fit(self, X, y):
        self.min_samples_leaf = min(20, max(5, len(X) // 10))
        return super().fit(X, y)


def boosting(task):
    return task.search(task.each_output(Boosting(random_state=0)))


class LeafyLightGBM(LGBMRegressor):
    """Use the defaults, but leaves that fit into few rows."""

    def fit(self, X, y):
        self.set_params(min_child_samples=min(20, max(5, len(X) // 10)))
        return super().fit(X, y)


def lightgbm(task):
    model = LeafyLightGBM(n_jobs=1, verbosity=-1, random_state=0)
    return task.search(task.each_output(model))


def extra_trees(task):
    trees = ExtraTreesRegressor(200, max_features=1 / 3, random_state=0)
    return task.search(trees)


class SubsetGaussianProcess(RegressorMixin, BaseEstimator):
    """Find the hyperparameters on a subset of the rows, then use all rows."""

    def __init__(self, most=MOST_FOR_HYPERPARAMETERS):
        self.most = most

    def fit(self, X, y):
        scale = X.shape[1] ** 0.5
        length = RBF(scale, (1e-2 * scale, 1e3 * scale))
        kernel = ConstantKernel(1, (1e-3, 1e4)) * length + WhiteKernel(0.1, (1e-6, 10))
        self.model_ = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
        rows = np.random.RandomState(0).permutation(len(X))[: self.most]
        self.model_.fit(X[rows], y[rows])
        if len(rows) < len(X):
            self.model_.set_params(kernel=self.model_.kernel_, optimizer=None)
            self.model_.fit(X, y)
        return self

    def predict(self, X):
        return self.model_.predict(X)


def gaussian_process(task):
    return task.search(SubsetGaussianProcess())


class RecursiveFeatureMachine(RegressorMixin, BaseEstimator):
    """Wrap the class of xrfm, whose bandwidth here is relative to the dimension."""

    def __init__(self, bandwidth=3, penalty=1e-3, n_iterations=3):
        self.bandwidth, self.penalty = bandwidth, penalty
        self.n_iterations = n_iterations

    def fit(self, X, y):
        self.shape_ = (-1, *y.shape[1:])
        X, y = (torch.as_tensor(values, dtype=torch.float32) for values in (X, y))
        rows = X, y.reshape(len(y), -1)
        self.model_ = RFM(
            "l2_high_dim",
            iters=self.n_iterations,
            bandwidth=self.bandwidth * X.shape[1] ** 0.5,
            device="cpu",
            verbose=False,
        )
        self.model_.fit(
            rows,
            rows,  # no part is held out to stop early
            iters=self.n_iterations,
            reg=self.penalty,
            verbose=False,
            return_best_params=False,
            early_stop_rfm=False,
        )
        return self

    def predict(self, X):
        y = self.model_.predict(torch.as_tensor(X, dtype=torch.float32))
        return y.numpy().astype(float).reshape(self.shape_)


def xrfm(task):
    grid = {"bandwidth": [1, 3, 10], "penalty": [1e-5, 1e-3, 1e-1]}
    return task.search(RecursiveFeatureMachine(), n_iterations=[0, 1, 2, 4], **grid)


def mlp(task):
    network = MLPRegressor(
        hidden_layer_sizes=50, solver="lbfgs", max_iter=100, random_state=0
    )
    return task.search(network, alpha=[0.3, 3, 30])


class OneOutput(TransformerMixin, BaseEstimator):
    """Fit a transformer of aeon without y if there are several outputs.

    aeon accepts one output only. A result as a tensor becomes an array.
    """

    def __init__(self, transformer):
        self.transformer = transformer

    def fit(self, X, y):
        y = y if y.ndim == 1 else None
        self.transformer_ = clone(self.transformer).fit(X, y)
        return self

    def transform(self, X):
        return np.asarray(self.transformer_.transform(X))


def minirocket(task):
    model = behind(OneOutput(MiniRocket(random_state=0)), task)
    return task.search(model, task.series, task.series_scales)


def rdst(task):
    shapelets = RandomDilatedShapeletTransform(max_shapelets=1000, random_state=0)
    model = behind(OneOutput(shapelets), task)
    return task.search(model, task.series, task.series_scales)


def multirocket(task):
    model = behind(OneOutput(MultiRocket(random_state=0)), task)
    return task.search(model, task.series, ["passthrough"])


class SparseScaler(TransformerMixin, BaseEstimator):
    """Scale the counts of Hydra as aeon does before its linear models."""

    def fit(self, X, y=None):
        X = np.sqrt(np.maximum(X, 0))
        self.mean_ = X.mean(axis=0)
        self.scale_ = X.std(axis=0, ddof=1) + np.mean(X == 0, axis=0) ** 4 + 1e-8
        return self

    def transform(self, X):
        X = np.sqrt(np.maximum(X, 0))
        return (X - self.mean_) * (X != 0) / self.scale_


def multirocket_hydra(task):
    hydra = make_pipeline(OneOutput(HydraTransformer(random_state=0)), SparseScaler())
    rocket = make_pipeline(OneOutput(MultiRocket(random_state=0)), StandardScaler())
    both = FeatureUnion([("hydra", hydra), ("rocket", rocket)])
    ridge = RidgeCV(PENALTIES, cv=None if task.alone else task.folds)
    return task.search(make_pipeline(both, ridge), task.series, ["passthrough"])


def quant(task):
    trees = ExtraTreesRegressor(200, max_features=0.1, random_state=0)
    model = make_pipeline(OneOutput(QUANTTransformer()), trees)
    return task.search(model, task.series, ["passthrough"])


def drcif(task):
    reshape = FunctionTransformer(shaped, kw_args={"shape": task.series})
    return task.each_output(make_pipeline(reshape, DrCIFRegressor(random_state=0)))


def compile_rockets(methods):
    """Fit once to noise, so that the seconds of no set contain compilation."""
    rng, rows = np.random.RandomState(0), np.arange(30)
    for shape, kind in (((60,), "spectra"), ((60,), "series"), ((2, 30), "series")):
        data = Data(rng.randn(30, *shape), rng.randn(30), kind)
        for method in methods:
            measure(METHODS[method], data, rows, rows)


class CenteredCP(RegressorMixin, BaseEstimator):
    """CPRegressor of tensorly with an intercept."""

    def __init__(self, rank=1, penalty=1):
        self.rank, self.penalty = rank, penalty

    def fit(self, X, y):
        self.mean_ = y.mean(axis=0)
        self.model_ = CPRegressor(
            self.rank, reg_W=self.penalty, n_iter_max=10, random_state=0, verbose=0
        )
        with np.errstate(all="ignore"):  # it may end at zero weights, and divides
            self.model_.fit(X, y - self.mean_)
        return self

    def predict(self, X):
        return np.nan_to_num(self.model_.predict(X)) + self.mean_


def cp(task):
    shape = task.shape
    if len(shape) == 1:
        small = max(n for n in range(1, int(shape[0] ** 0.5) + 1) if shape[0] % n == 0)
        shape = (small, shape[0] // small)
    return task.search(CenteredCP(), shape, rank=[1, 4], penalty=[1, 10, 100])


METHODS = {
    "DeepTD": deeptd,
    "Features": features,
    "Ridge": ridge,
    "PLS": pls,
    "SVR": svr,
    "KernelRidge": kernel_ridge,
    "GaussianProcess": gaussian_process,
    "xRFM": xrfm,
    "Forest": forest,
    "ExtraTrees": extra_trees,
    "HGB": boosting,
    "LightGBM": lightgbm,
    "MLP": mlp,
    "MiniRocket": minirocket,
    "MultiRocket": multirocket,
    "MultiRocketHydra": multirocket_hydra,
    "RDST": rdst,
    "QUANT": quant,
    "CP": cp,
    "DrCIF": drcif,
}
COMPILED = ["MiniRocket", "MultiRocket", "MultiRocketHydra", "RDST", "DrCIF"]
ONLY_IF_NAMED = {"Features", "HGB", "MultiRocket", "MultiRocketHydra", "RDST", "DrCIF"}
UNRANKED = {"Features"}


def measure(method, data, train, test):
    """Return the test R2, nan if the fit failed, and the seconds of one fit."""
    X = data.X.reshape(len(data.X), -1).astype(float)
    scaler = StandardScaler().fit(data.y[train].reshape(len(train), -1))
    y = scaler.transform(data.y.reshape(len(data.y), -1)).reshape(data.y.shape)
    begin = time.perf_counter()
    try:
        model = method(Task(data)).fit(X[train], y[train])
        seconds = time.perf_counter() - begin
        return varying_r2(y[test], model.predict(X[test])), seconds
    except Exception as error:  # a rival that fails must not end the run
        print(f"failed: {type(error).__name__}: {error}", flush=True)
        return np.nan, time.perf_counter() - begin


def run(sets, sizes, methods, n_splits, results, anew):
    """Measure everything, first split 0 of all sets, and keep each result at once."""
    data = {name: loader() for name, loader in sets.items()}
    for size in sizes:
        n_rows, most_splits = SIZES[size]
        for split in range(min(n_splits, most_splits)):
            for name in sets:
                if size == "whole" and 0.75 * len(data[name].y) <= SIZES["small"][0]:
                    continue
                rows = list(splits_of(data[name], n_rows))[split]
                for method in methods:
                    key = (name, size, split, method)
                    if anew or key not in results:
                        results.keep(key, measure(METHODS[method], data[name], *rows))


class Results(dict):
    """Map (set, size, split, method) to (R2, seconds), the latest of each."""

    def __init__(self, path, further=()):
        self.path = path
        for file in [*further, path]:
            if file and file.exists():
                for line in file.read_text().splitlines():
                    *key, r2, seconds = json.loads(line)
                    self[tuple(key)] = (r2, seconds)

    def keep(self, key, result):
        self[key] = result
        print(*key, "R2 {:.3f}, {:.2f} s".format(*result), flush=True)
        if self.path:
            with self.path.open("a") as file:
                print(json.dumps([*key, *result]), file=file)

    def table(self, size, sets, among=METHODS):
        """Return the methods, and for each set (methods, splits, R2 and seconds).

        A set has the splits that all methods with a result for it share. A method
        without a result for the set has nan.
        """
        own = {k: v for k, v in self.items() if k[1] == size and k[0] in sets}
        methods = [m for m in among if any(key[3] == m for key in own)]
        table = {}
        for name in sets:
            found = {m: {k[2] for k in own if k[::3] == (name, m)} for m in methods}
            present = [splits for splits in found.values() if splits]
            shared = sorted(set.intersection(*present)) if present else []
            if shared:
                keys = [[(name, size, s, m) for s in shared] for m in methods]
                missing = (np.nan, np.nan)
                values = [[own.get(key, missing) for key in row] for row in keys]
                table[name] = np.array(values)
            elif present:
                print(f"{name}: not in the tables, its methods share no split")
        return methods, table


def print_row(*cells):
    print("|", " | ".join(map(str, cells)), "|", flush=True)


def print_head(*cells):
    print()
    print_row(*cells)
    print_row(*["---"] * len(cells))


def level_with_best(r2):
    """Tell which methods are within a standard error of the lead of the best one."""
    lead = r2[np.argmax(scores_of(r2))] - r2
    error = lead.std(axis=1, ddof=1) / np.sqrt(r2.shape[1])
    return lead.mean(axis=1) <= error


def scores_of(r2):
    """Return the mean over the splits, minus infinity if one of them failed."""
    return np.nan_to_num(r2.mean(axis=1), nan=-np.inf)


def critical_difference(n_methods, n_sets):
    quantile = studentized_range.ppf(0.95, n_methods, np.inf) / np.sqrt(2)
    return quantile * np.sqrt(n_methods * (n_methods + 1) / (6 * n_sets))


def print_scores(size, methods, table):
    print_head(f"test R2, {size}", *methods)
    for name, results in table.items():
        r2 = results[..., 0]
        spread = r2.std(axis=1, ddof=1) if r2.shape[1] > 1 else np.zeros(len(r2))
        cells = [f"{a:.2f} +- {b:.2f}" for a, b in zip(r2.mean(axis=1), spread)]
        cells = ["" if "nan" in cell else cell for cell in cells]
        print_row(name.replace("_", " "), *cells)
    print_head(f"seconds, {size}", *methods)
    for name, results in table.items():
        cells = [f"{s:.2g}" for s in results[..., 1].mean(axis=1)]
        print_row(name, *["-" if cell == "nan" else cell for cell in cells])


def print_errors(data, size, methods, r2):
    """Print root mean squared errors; ``r2`` is (methods, splits), of one output."""
    print_head("error in the unit of y", "mean", "over the splits")
    splits = list(splits_of(data, SIZES[size][0]))[: r2.shape[1]]
    errors = np.sqrt(1 - r2) * [np.std(data.y[test]) for _, test in splits]
    for method, values in sorted(zip(methods, errors), key=lambda row: row[1].mean()):
        print_row(method, f"{values.mean():.2f}", f"+- {values.std():.2f}")


def print_ranks(size, methods, table):
    """Print mean ranks and counts, and which methods lack a result."""
    r2 = {name: results[..., 0] for name, results in table.items()}
    scores = np.array([scores_of(values) for values in r2.values()])
    ranks = np.mean([rankdata(-row) for row in scores], axis=0)
    title = "mean rank"
    if len(methods) > 1:
        difference = critical_difference(len(methods), len(table))
        title += f" (5 % level: {difference:.1f})"
    columns = {title: [f"{rank:.1f}" for rank in ranks]}
    if all(values.shape[1] > 1 for values in r2.values()):
        level = np.sum([level_with_best(values) for values in r2.values()], axis=0)
        columns["level with the best"] = level
    if "Ridge" in methods:
        below = scores < scores[:, [methods.index("Ridge")]] - FAR_BELOW
        columns[f"more than {FAR_BELOW} below Ridge"] = below.sum(axis=0)
    print_head(f"{size}, {len(table)} sets", *columns)
    for i in np.argsort(ranks, kind="stable"):
        print_row(methods[i], *[column[i] for column in columns.values()])
    for method, column in zip(methods, scores.T, strict=True):
        if lacking := [name for name, score in zip(r2, column) if np.isinf(score)]:
            print(f"{method} has no result and counts as last: {', '.join(lacking)}")


def print_tables(size, methods, table, sets):
    print_scores(size, methods, table)
    if len(table) == 1:
        ((name, results),) = table.items()
        print_errors(sets[name](), size, methods, results[..., 0])
        return
    ranked = [method for method in methods if method not in UNRANKED]
    places = [methods.index(method) for method in ranked]
    print_ranks(size, ranked, {name: table[name][places] for name in table})


def chosen(text, names, parser):
    """Split a list with commas and check its names."""
    if text == "none":
        return []
    wanted = text.split(",") if text else list(names)
    if unknown := set(wanted) - set(names):
        parser.error(f"{sorted(unknown)} not among {list(names)}")
    return wanted


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", help="names, commas between them")
    parser.add_argument("--group", choices=GROUPS, default="development")
    parser.add_argument("--folder", type=Path, help="of further sets, NAME.npz each")
    parser.add_argument("--methods", help="names, or none: tables only")
    parser.add_argument("--shown", help="methods in the tables")
    parser.add_argument("--sizes", help="small, whole or small,whole")
    parser.add_argument("--splits", type=int, default=N_DRAWN, help="at most")
    parser.add_argument("--results", type=Path, help="JSON lines to read and extend")
    parser.add_argument(
        "--with",
        dest="further",
        type=Path,
        action="append",
        default=[],
        help="further JSON lines to read",
    )
    parser.add_argument("--anew", action="store_true", help="repeat what FILE holds")
    args = parser.parse_args()
    known = GROUPS[args.group] | (load_folder(args.folder) if args.folder else {})
    sets = {name: known[name] for name in chosen(args.sets, known, parser)}
    sizes = chosen(args.sizes, SIZES, parser)
    default = ",".join(m for m in METHODS if m not in ONLY_IF_NAMED)
    methods = chosen(args.methods or default, METHODS, parser)
    among = chosen(args.shown or default, METHODS, parser)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    results = Results(args.results, args.further)
    compile_rockets([method for method in COMPILED if method in methods])
    run(sets, sizes, methods, args.splits, results, args.anew)
    for size in sizes:
        shown, table = results.table(size, sets, among)
        if table:
            print_tables(size, shown, table, sets)


if __name__ == "__main__":
    main()
