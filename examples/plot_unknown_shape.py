"""
Unknown patch structure: choose kernel sizes by cross-validation
================================================================

300 noisy signals of 120 points come from a network with kernels of 4, 5 and 6 weights.
DeepTDRegressorCV compares all kernel sizes of at most three layers, and finds these.
"""

import matplotlib.pyplot as plt
import numpy as np

from skdeeptd import DeepTDRegressorCV, kernel_size_grid
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.inspection import compare_with_linear

X, y = make_patch_cnn_regression(
    n_samples=300, kernel_sizes=(4, 5, 6), noise=0.2, random_state=0
)
grid = {"kernel_sizes": kernel_size_grid(120, max_layers=3), "alpha": [1e-3]}
search = DeepTDRegressorCV(grid, random_state=0).fit(X, y)
results = search.cv_results_
print(
    f"{len(results['params'])} candidates, best: {search.best_params_['kernel_sizes']}"
)
print(f"R2 on held-out folds {search.best_score_:.3f}")
print(compare_with_linear(search.best_estimator_, X, y).text[0])

# %%
# The ten best kernel sizes. A candidate that was dropped early has the score of its
# last incomplete fit. A network of one layer, (120,), is always fitted completely.

best = np.argsort(results["rank_test_score"])[:10]
mean, std = results["mean_test_score"][best], results["std_test_score"][best]
stages = results["stage"][best]
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
names = {3: "complete fit", 2: "short fit only", 1: "initial estimate only"}
for stage, name in names.items():
    rows = np.flatnonzero(stages == stage)
    if len(rows):
        color = f"C{3 - stage}"
        ax.errorbar(mean[rows], rows, xerr=std[rows], fmt="o", color=color, label=name)
labels = [str(results["params"][i]["kernel_sizes"]) for i in best]
ax.set_yticks(range(10), labels)
ax.set(
    xlabel="R2 on held-out folds, mean and standard deviation", ylabel="kernel sizes"
)
ax.invert_yaxis()
figure.legend(loc="outside upper center", ncols=2)
plt.show()
