"""Test R2 of the default call without one kind of candidate, on development data.

The candidates of DeepTDAutoRegressor, networks left out, are fitted to the folds and to
all training rows once. Then the average is computed with all candidates, and without
those of a kind: a transformer, a kernel, or all views. The table shows the change of
the mean test R2 over the sets, and the mean rank of each average among all of them.
Ranks are of the means over the splits. At most 150 training rows; sets, splits and
scores are those of real_data.py.

Run: python -m pip install ".[benchmarks]", then with OMP_NUM_THREADS=1
python benchmarks/ablation.py [--splits 2] [--sets tecator,corn] [--folder DIR]
"""

import argparse
import warnings
from functools import partial
from pathlib import Path

import numpy as np
from real_data import print_head, print_row, splits_of
from scipy.stats import rankdata
from sets import DEVELOPMENT, load_folder
from sklearn.base import clone
from sklearn.metrics import r2_score

from skdeeptd import DeepTDAutoRegressor, DeepTDFeatures, DeepTDRidge
from skdeeptd._stacking import heaviest, squared_error_weights


def held_out_and_test(folds, candidates, X, y, X_test):
    """Return predictions of held-out rows and of test rows: (models, rows, outputs)."""
    held_out, test = [], []
    for candidate in candidates:
        parts = [clone(candidate).fit(f.X, f.y).predict(f.X_test) for f in folds]
        held_out.append(np.concatenate(parts).reshape(len(X), -1))
        whole = clone(candidate).fit(X, y)
        test.append(whole.predict(X_test).reshape(len(X_test), -1))
    return np.array(held_out), np.array(test)


def average(held_out, test, y, models, most=8):
    """Return the test predictions of the average of some of the models."""
    columns, ones = y.reshape(len(y), -1), np.ones(len(y))
    found = np.empty_like(test[0])
    for output, column in enumerate(columns.T):
        own = held_out[models, :, output]

        def weigh(some, own=own, column=column):
            return squared_error_weights(own[some], column, ones)

        weights = heaviest(weigh, len(models), most)
        found[:, output] = weights @ test[models, :, output]
    return found


def kinds_of(model):
    """Return the kind of kernel and the kind of features of a candidate."""
    features = model.features
    name = "filters" if isinstance(features, DeepTDFeatures) else "signal"
    if name == "filters" and features.pooling != "global":
        name += f", {features.pooling} parts"
    if features.view:
        name += f", {features.view}"
    return f"{model.kernel} ridge", name


def left_out(models):
    """Return the candidates of each variant of the default call, as an index."""
    kernels, kinds = zip(*map(kinds_of, models))
    groups = {"nothing": [False] * len(models)}
    for kind in dict.fromkeys(kinds):
        groups[kind] = [k == kind for k in kinds]
    groups["views"] = [k.endswith(("derivative", "snv")) for k in kinds]
    for kernel in dict.fromkeys(kernels):
        groups[kernel] = [k == kernel for k in kernels]
    return {key: np.flatnonzero(~np.array(out)) for key, out in groups.items()}


def scores_of(data, n_splits, n_rows=150):
    """Return the test R2 of each variant, a list over the splits."""
    found = {}
    for train, test in list(splits_of(data, n_rows))[:n_splits]:
        X, y = data.X[train].reshape(len(train), -1).astype(float), data.y[train]
        model = DeepTDAutoRegressor(input_shape=data.X.shape[1:], random_state=0)
        model.set_params(max_time=1e-6).fit(X, y)  # only lists the candidates
        listed = model.cv_results_["estimator"]
        candidates = [c for c in listed if isinstance(c, DeepTDRidge)]
        X_test = data.X[test].reshape(len(test), -1).astype(float)
        folds = model._folds(X, y, np.ones(len(X)), None, {})
        found_by_all = held_out_and_test(folds, candidates, X, y, X_test)
        predict = partial(
            average, *found_by_all, np.concatenate([f.y_test for f in folds])
        )
        for key, models in left_out(candidates).items():
            y_test = data.y[test].reshape(len(test), -1)
            varies = y_test.std(axis=0) > 0
            r2 = r2_score(y_test[:, varies], predict(models)[:, varies])
            found.setdefault(key, []).append(r2)
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", help="names, commas between them")
    parser.add_argument("--splits", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="more sets, as in real_data.py")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    known = DEVELOPMENT | (load_folder(args.folder) if args.folder else {})
    rows = []
    for name in args.sets.split(",") if args.sets else known:
        scores = scores_of(known[name](), args.splits)
        rows.append({key: np.mean(r2) for key, r2 in scores.items()})
        print(name, *[f"{key} {r2:.3f}" for key, r2 in rows[-1].items()], flush=True)
    keys = list(dict.fromkeys(key for row in rows for key in row))
    table = np.array([[row.get(key, row["nothing"]) for key in keys] for row in rows])
    ranks = np.mean([rankdata(-row) for row in table], axis=0)
    changes = np.clip(table, -1, 1) - np.clip(table[:, :1], -1, 1)
    print_head("left out", "change of mean R2", "mean rank", "largest loss")
    for key, change, rank in zip(keys, changes.T, ranks, strict=True):
        print_row(key, f"{change.mean():+.4f}", f"{rank:.1f}", f"{change.min():+.3f}")


if __name__ == "__main__":
    main()
