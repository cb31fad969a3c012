"""
Choose the number of filters
============================

The signals come from a network with three filters. DeepTDRegressorCV compares networks
with one to six filters on held-out folds: the score rises up to three filters.
"""

import matplotlib.pyplot as plt
import numpy as np

from skdeeptd import DeepTDRegressorCV
from skdeeptd.datasets import make_patch_cnn_regression

X, y = make_patch_cnn_regression(
    n_samples=600, kernel_sizes=(6, 5, 4), n_filters=3, noise=0.3, random_state=1
)
n_filters = [1, 2, 3, 4, 5, 6]
grid = {"kernel_sizes": [(6, 5, 4)], "n_filters": n_filters, "alpha": [0.1]}
search = DeepTDRegressorCV(grid, random_state=0).fit(X, y)
print("best:", search.best_params_)

# %%
# Mean and standard deviation over the folds. Filled points are complete fits. Hollow
# points were dropped after a short fit, because they were clearly behind (successive
# halving).

names = ("mean_test_score", "std_test_score", "stage")
mean, std, stages = (search.cv_results_[name] for name in names)
for n, score, stage in zip(n_filters, mean, stages, strict=True):
    print(f"{n} filters: R2 {score:.3f}, stage {stage}")
figure, ax = plt.subplots(figsize=(6, 3.8), layout="constrained")
ax.errorbar(n_filters, mean, std, fmt="o-", mfc="white", capsize=3)
last = stages == 3
ax.plot(np.array(n_filters)[last], mean[last], "o", color="C0", zorder=3)
ax.axvline(3, color="0.7", ls=":", zorder=0)
ax.set(xlabel="filters (the data have three)", ylabel="R2 on held-out folds")
plt.show()
