"""
Few samples: against ridge regression and a perceptron
======================================================

1000 features, a network of 28 free weights, no noise. The moment alone comes closer as
the samples grow but never arrives; after the polish the network is exact from a few
samples per weight on. Ridge regression would need more samples than there are features
to see even the linear part, and a perceptron of 50 hidden units has far more weights.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.neural_network import MLPRegressor

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression

SIZES, N_SEEDS, N_TEST = (10, 10, 10), 5, 500
N_TRAIN = [40, 60, 120, 250, 600]
models = {
    "DeepTDRegressor()": DeepTDRegressor(SIZES, random_state=0),
    "DeepTDRegressor(polish=False)": DeepTDRegressor(SIZES, polish=False),
    "RidgeCV": RidgeCV(alphas=np.logspace(-1, 5, 13)),
    "MLPRegressor": MLPRegressor(
        hidden_layer_sizes=50, alpha=10.0, max_iter=1000, random_state=0
    ),
}

scores = {name: np.empty((len(N_TRAIN), N_SEEDS)) for name in models}
for seed in range(N_SEEDS):
    X, y, _ = make_patch_cnn_regression(N_TEST + max(N_TRAIN), SIZES, random_state=seed)
    for i, n in enumerate(N_TRAIN):
        train = slice(N_TEST, N_TEST + n)
        for name, model in models.items():
            model.fit(X[train], y[train])
            scores[name][i, seed] = model.score(X[:N_TEST], y[:N_TEST])

print(f"median test R2 over {N_SEEDS} networks")
print(f"{'samples':30}", *(f"{n:7}" for n in N_TRAIN))
for name, score in scores.items():
    print(f"{name:30}", *(f"{value:7.3f}" for value in np.median(score, axis=1)))

# %%
# The median over five networks, and their middle half.

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
figure.savefig("few_samples.png", dpi=150)
