"""
Data larger than memory
=======================

``fit`` reads a file that numpy can map block by block. ``partial_fit`` learns from data
that come in batches, from a database or a detector. The file of this example is small,
so that the example runs in seconds; the same code works for many gigabytes.

Both methods use bounded memory (out-of-core learning). If the samples can be read
again, map the file and call ``fit``. It takes the moment of all samples, searches on a
subsample, and ends with iterations over all samples. ``partial_fit`` takes the moment
of all samples too, but iterates on a random subsample only. More samples then improve
the fit less.
"""

import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression

N_SEEDS, N_TEST, BATCH, N_BATCHES = 5, 2000, 500, 16

# %%
# The data come from five networks with kernels of 8, 8 and 4 weights. The noise has the
# same variance as their outputs. A model can predict after each call of
# ``partial_fit``, so that its score can be followed.

seen = BATCH * 2 ** np.arange(5)
streamed, mapped = np.empty((N_SEEDS, len(seen))), np.empty(N_SEEDS)
for seed in range(N_SEEDS):
    X, mean = make_patch_cnn_regression(
        N_TEST + BATCH * N_BATCHES, (8, 8, 4), random_state=seed
    )
    rng = np.random.default_rng(seed)
    y = mean + mean.std() * rng.standard_normal(len(mean))
    X_test, mean_test = X[:N_TEST], mean[:N_TEST]

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, X[N_TEST:].astype(np.float32))
        file, y = np.load(path, mmap_mode="r"), y[N_TEST:]

        model = DeepTDRegressor((8, 8, 4), random_state=0).fit(file, y)
        mapped[seed] = model.score(X_test, mean_test)

        model = DeepTDRegressor((8, 8, 4), random_state=0)
        for begin in range(0, len(file), BATCH):
            rows = slice(begin, begin + BATCH)
            model.partial_fit(file[rows], y[rows])
            if begin + BATCH in seen:
                i = list(seen).index(begin + BATCH)
                streamed[seed, i] = model.score(X_test, mean_test)
        del file

print(f"R2 of the noiseless y of other rows, {N_SEEDS} networks")
for n, r2 in zip(seen, streamed.T, strict=True):
    print(f"partial_fit, {n:4} rows  {r2.mean():.3f} +- {r2.std():.3f}")
print(f"fit, {BATCH * N_BATCHES:12} rows  {mapped.mean():.3f} +- {mapped.std():.3f}")

# %%
# The unexplained share of the variance of y: means over the networks, with bars of one
# standard error.

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
missed, spread = 1 - streamed.mean(axis=0), streamed.std(axis=0) / np.sqrt(N_SEEDS)
ax.errorbar(seen, missed, spread, fmt="o-", capsize=4, label="partial_fit")
ax.axhline(1 - mapped.mean(), color="C1", ls="--", label="fit to the mapped file")
ax.set(xscale="log", yscale="log")
ax.set_xticks(seen, seen)
ax.set_yticks(ticks := [0.002, 0.005, 0.01, 0.02, 0.05], ticks)
ax.minorticks_off()
ax.set_xlabel("rows seen", fontsize="large")
ax.set_ylabel("1 - R2 of the noiseless y", fontsize="large")
ax.legend(fontsize="large")
plt.show()
