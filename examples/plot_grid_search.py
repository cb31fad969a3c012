"""
Finding the kernel sizes by cross-validation
============================================

300 noisy rows of 120 features come from a network with kernels of 4, 5 and 6 weights,
which is not known beforehand. GridSearchCV over seven shapes, a plain linear model
among them, finds it.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from sklearn.model_selection import GridSearchCV

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression

X, y, _ = make_patch_cnn_regression(
    n_samples=300, kernel_sizes=(4, 5, 6), noise=0.2, random_state=0
)
shapes = [(120,), (12, 10), (10, 12), (20, 6), (6, 5, 4), (4, 5, 6), (2, 6, 10)]
search = GridSearchCV(
    DeepTDRegressor(alpha=1e-3, random_state=0),
    {"kernel_sizes": shapes},
    cv=5,
)
search.fit(X, y)
print("best kernel sizes:", search.best_params_["kernel_sizes"])
for shape, mean, std in zip(
    shapes,
    search.cv_results_["mean_test_score"],
    search.cv_results_["std_test_score"],
    strict=True,
):
    print(f"{shape!s:12} R2 {mean:6.3f} +- {std:.3f}")

# %%
# The score of each shape on the held-out folds; the best, orange, is the planted one.

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.errorbar(
    search.cv_results_["mean_test_score"],
    range(len(shapes)),
    xerr=search.cv_results_["std_test_score"],
    fmt="o",
    mfc="white",
)
ax.plot(search.best_score_, search.best_index_, "o", ms=9, color="C1", zorder=3)
ax.set_yticks(range(len(shapes)), [str(shape) for shape in shapes])
ax.axvline(0, color="0.7", lw=0.8, zorder=0)
ax.set(
    xlabel="R2 on held-out folds, mean and standard deviation", ylabel="kernel sizes"
)
ax.invert_yaxis()
figure.savefig("grid_search.png", dpi=150)
