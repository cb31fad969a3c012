"""
Displays: draw a network, its data and a search
===============================================

This example shows the six displays of skdeeptd.plotting. The signals come from a
network with kernels of 4, 5 and 6 weights, with noise of half the standard deviation of
y; the images are digits.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits

from skdeeptd import DeepTDRegressor, DeepTDRegressorCV, kernel_size_grid
from skdeeptd.datasets import make_patch_cnn_regression
from skdeeptd.inspection import compare_with_linear
from skdeeptd.plotting import (
    CandidatesDisplay,
    ImportanceDisplay,
    KernelDisplay,
    LinearComparisonDisplay,
    MomentDisplay,
    ReceptiveFieldDisplay,
)

X, y, kernels = make_patch_cnn_regression(
    n_samples=400,
    kernel_sizes=(4, 5, 6),
    noise=0.5,
    random_state=0,
    return_kernels=True,
)
grid = {"kernel_sizes": kernel_size_grid(120, max_layers=3), "alpha": [1e-3]}
search = DeepTDRegressorCV(grid, random_state=0).fit(X, y)
print("best:", search.best_params_)

# %%
# Which kernel sizes are best? The display shows the candidates and their
# cross-validated scores. Most candidates are dropped after a short fit (successive
# halving), and keep the score of that fit.

CandidatesDisplay.from_estimator(search, n_best=40)

# %%
# Is a network better than a linear model? Both are cross-validated on the same folds,
# and the network predicts held-out samples clearly better.

result = compare_with_linear(search.best_estimator_, X, y)
LinearComparisonDisplay.from_result(result)
print(result.text[0])

# %%
# How much of the moment do the kernels explain? Each row of the image is a patch of the
# first layer.

MomentDisplay.from_estimator(search)

# %%
# The kernels with their 95 % bands, and dashed lines for the true kernels. The sign of
# the last kernel is not determined, because the scale may have the opposite sign.

display = KernelDisplay.from_estimator(search)
n_held = 0
layers = zip(kernels, display.kernels, display.kernel_stds, display.axes_, strict=True)
for true, (kernel,), (std,), (ax,) in layers:
    true = true[0, 0] * np.sign(kernel @ true[0, 0])
    ax.stairs(true, np.arange(len(true) + 1) - 0.5, baseline=None, ls="--", color="k")
    n_held += np.sum(np.abs(true - kernel) < 1.96 * std)
print(f"{n_held} of the 15 true weights are inside their band")

# %%
# Which features matter, and in which direction? The height is the effect of one
# standard deviation of a feature, with a 95 % band.

display = ImportanceDisplay.from_estimator(search, X)
display.figure_.savefig("importance.png", dpi=150)
print("the feature with the largest effect:", np.argmax(display.magnitude))

# %%
# Which pixels make these digits odd (blue) or even (red)? Below each image is the
# derivative of the output of the network by the pixels.

images, digit = load_digits(return_X_y=True)
images, parity = images / 16, np.where(digit % 2 == 0, 1.0, -1.0)
network = DeepTDRegressor(
    kernel_sizes=((2, 2), (4, 4)),
    input_shape=(8, 8),
    n_filters=8,
    alpha=1.0,
    n_init=4,
    tol=1e-4,
    random_state=0,
).fit(images, parity)
figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
for (above, below), i in zip(axes.T, (3, 8, 9), strict=True):
    above.imshow(images[i].reshape(8, 8), cmap="gray_r")
    output = network.predict(images[i : i + 1])[0]
    above.set(title=f"output {output:+.2f}", xticks=[], yticks=[])
    ReceptiveFieldDisplay.from_estimator(network, images[i : i + 1], ax=below)
plt.show()

# sphinx_gallery_thumbnail_number = 4
