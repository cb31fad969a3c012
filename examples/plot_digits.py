"""
Odd and even digits: eight small networks on 8 x 8 images
=========================================================

Is the digit in an image even (+1) or odd (-1)? Each of eight filters looks at the
sixteen 2 x 2 patches of the image with one kernel, and weighs the answers with a 4 x 4
kernel: 20 weights and a scale per filter. The same five folds score the same network on
strips of four pixels, for which the image is one long row, on patches of four pixels
from anywhere in the image, and RidgeCV, which has a weight for each of the 64 pixels.
All networks do far better than RidgeCV; which pixels share a patch matters little in
images as small as these.
"""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.datasets import load_digits
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import KFold, cross_validate

from skdeeptd import DeepTDRegressor

PICTURE = "digits_kernels.png"


def accuracy(estimator, X, y):
    return np.mean(np.sign(estimator.predict(X)) == y)


X, digit = load_digits(return_X_y=True)
X, y = X / 16, np.where(digit % 2 == 0, 1.0, -1.0)

network = DeepTDRegressor(
    kernel_sizes=((2, 2), (4, 4)),
    input_shape=(8, 8),
    n_filters=8,
    output_activation="relu",
    alpha=1.0,
    n_init=4,
    tol=1e-4,
    random_state=0,
)
strips = clone(network).set_params(kernel_sizes=(4, 16), input_shape=None)
shuffled = X[:, np.random.RandomState(0).permutation(64)]
models = {
    "DeepTDRegressor, 2 x 2 patches": (network, X),
    "the same on strips of 4 pixels": (strips, X),
    "the same on shuffled pixels": (network, shuffled),
    "RidgeCV": (RidgeCV(alphas=np.logspace(-3, 3, 13)), X),
}

print(f"{len(y)} images, 5 folds, mean and standard deviation over the folds")
for name, (estimator, features) in models.items():
    scores = cross_validate(
        estimator,
        features,
        y,
        cv=KFold(5, shuffle=True, random_state=0),
        scoring={"R2": "r2", "accuracy": accuracy},
    )
    print(
        f"{name:31}",
        *(
            f"{key} {scores[f'test_{key}'].mean():.2f} +- "
            f"{scores[f'test_{key}'].std():.2f}  "
            for key in ("R2", "accuracy")
        ),
        f"{scores['fit_time'].mean():.2f} s per fit",
    )

# %%
# The kernels, with the filter of the largest scale first. Red adds, blue subtracts; the
# colours of a layer share one range.

network.fit(X, y)
order = np.argsort(-np.abs(network.scales_[0]))
figure, axes = plt.subplots(2, 8, figsize=(11, 3.4), layout="constrained")
for row, kernels in zip(axes, network.kernels_, strict=True):
    limit = np.abs(kernels).max()
    for ax, r in zip(row, order, strict=True):
        image = ax.imshow(kernels[0, r], cmap="RdBu_r", vmin=-limit, vmax=limit)
        ax.set(xticks=[], yticks=[])
    figure.colorbar(image, ax=row, shrink=0.9)
for ax, r in zip(axes[0], order, strict=True):
    ax.set_title(f"scale {network.scales_[0, r]:+.2f}", fontsize=9)
axes[0, 0].set_ylabel("layer 1, 2 x 2", fontsize=9)
axes[1, 0].set_ylabel("layer 2, 4 x 4", fontsize=9)
figure.suptitle("Kernels of eight filters: even digits against odd ones", fontsize=11)
figure.savefig(PICTURE, dpi=150)
print(f"kernels drawn to {PICTURE}")
