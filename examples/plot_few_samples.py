"""
Few samples: how many does a network need?
==========================================

The data have 1000 features and come from a network with 28 free weights, without noise.
The estimate from the moment alone improves with more samples, but keeps a bias. After
the Gauss-Newton iterations the network is exact from a few samples per weight. Ridge
regression would need more samples than features, and finds only the linear part.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeCV

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression

SIZES, N_SEEDS, N_TEST = (10, 10, 10), 5, 500
N_TRAIN = [40, 60, 120, 250, 600]
models = {
    "DeepTDRegressor()": DeepTDRegressor(SIZES, random_state=0),
    "DeepTDRegressor(polish=False)": DeepTDRegressor(SIZES, polish=False),
    "RidgeCV": RidgeCV(alphas=np.logspace(-1, 5, 5)),
}

scores = {name: np.empty((len(N_TRAIN), N_SEEDS)) for name in models}
for seed in range(N_SEEDS):
    X, y = make_patch_cnn_regression(N_TEST + max(N_TRAIN), SIZES, random_state=seed)
    for i, n in enumerate(N_TRAIN):
        train = slice(N_TEST, N_TEST + n)
        for name, model in models.items():
            model.fit(X[train], y[train])
            scores[name][i, seed] = model.score(X[:N_TEST], y[:N_TEST])

print(f"test R2, mean and standard deviation over {N_SEEDS} networks")
print(f"{'samples':29}", *(f"{n:13}" for n in N_TRAIN))
for name, score in scores.items():
    cells = zip(score.mean(axis=1), score.std(axis=1), strict=True)
    print(f"{name:29}", *(f"{mean:5.2f} +- {std:.2f}" for mean, std in cells))

# %%
# The median over five networks, and the range between the quartiles.

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for name, score in scores.items():
    low, middle, high = np.quantile(score, [0.25, 0.5, 0.75], axis=1)
    ax.plot(N_TRAIN, middle, "o-", label=name)
    ax.fill_between(N_TRAIN, low, high, alpha=0.2)
ax.set(
    xscale="log",
    ylim=(-0.55, 1.05),
    xlabel="training samples (1000 features, 28 free weights)",
    ylabel="test R2",
)
ax.set_xticks(N_TRAIN, N_TRAIN)
ax.minorticks_off()
ax.axhline(0, color="0.7", lw=0.8, zorder=0)
ax.legend(loc="lower right")
plt.show()
