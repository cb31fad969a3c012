"""How many new samples are novel, of the training distribution and of others.

Per data set, model and number of training samples, the share of 300 new samples that
``inspection.novelty`` calls novel, as a mean over draws of the training samples:

new       samples like the training samples; 5 % are expected
offset    plus two standard deviations, averaged over the features
shifted   all features moved by 3 % of the axis
noise     plus noise of 0.3 standard deviations of each feature
other     samples of another data set, resampled and with the same mean

Tecator (meat), corn and tablet are infrared spectra, with 215, 80 and 612 samples;
"digits" are 8 x 8 digits, "white" is independent noise, in which a shift and corn less
its mean cannot be seen. Those not drawn for training are the new ones.

Run: python -m pip install ".[benchmarks]", then with OMP_NUM_THREADS=1
python benchmarks/novelty.py [--trials 30] [--rows 60,150,500] [--sets tecator,corn]
    [--models signal]
"""

import argparse

import numpy as np
from sets import corn, tablet, tecator
from sklearn.datasets import load_digits

from skdeeptd import DeepTDFeatures, DeepTDRidge, SignalScaler
from skdeeptd.inspection import novelty

N_NEW = 300
SETS = {
    "tecator": tecator,
    "corn": corn,
    "tablet": tablet,
    "digits": lambda: load_digits(return_X_y=True),
    "white": lambda: (np.random.default_rng(0).standard_normal((2000, 100)),),
}
MODELS = {
    "signal": SignalScaler(),
    "filters": DeepTDFeatures(random_state=0),
}


def load(name):
    X = np.asarray(SETS[name]()[0], dtype=float)
    return X.reshape(len(X), -1)


def changed(train, new, other, rng):
    """Return groups of new samples by name."""
    spread = train.std(axis=0)
    return {
        "new": new,
        "offset": new + 2 * spread.mean(),
        "shifted": np.roll(new, max(1, round(0.03 * new.shape[1])), axis=1),
        "noise": new + 0.3 * spread * rng.standard_normal(new.shape),
        "other": other - other.mean() + train.mean(),
    }


def trial(X, other, features, n_rows, seed):
    """Return the share of novel samples in each group, for one draw."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(len(X))
    train, new = X[order[:n_rows]], X[order[n_rows : n_rows + N_NEW]]
    y = train @ rng.standard_normal(X.shape[1]) + rng.standard_normal(n_rows)
    model = DeepTDRidge(features).fit(train, y)
    groups = changed(train, new, other, rng).values()
    sizes = [len(group) for group in groups]
    is_novel = novelty(model, np.concatenate(list(groups)), train).is_novel
    return [np.mean(part) for part in np.split(is_novel, np.cumsum(sizes)[:-1])]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--trials", type=int, default=30)
    parser.add_argument("--rows", default="60,150,500")
    parser.add_argument("--sets", default=",".join(SETS))
    parser.add_argument("--models", default=",".join(MODELS))
    given = parser.parse_args()
    names = "new", "offset", "shifted", "noise", "other"
    print(f"| set | model | rows | {' | '.join(names)} |\n|" + "---|" * 8)
    for name in given.sets.split(","):
        X, other = load(name), load("tablet" if name == "corn" else "corn")
        at, of_other = (np.linspace(0, 1, z.shape[1]) for z in (X, other))
        other = np.array([np.interp(at, of_other, row) for row in other])
        for kind in given.models.split(","):
            for n_rows in map(int, given.rows.split(",")):
                if n_rows + 20 > len(X):
                    continue
                rows = [
                    trial(X, other, MODELS[kind], n_rows, s)
                    for s in range(given.trials)
                ]
                shares = " | ".join(f"{m:.1%}" for m in np.mean(rows, axis=0))
                print(f"| {name} | {kind} | {n_rows} | {shares} |", flush=True)


if __name__ == "__main__":
    main()
