"""
Displays: what a network has learned, and from what
===================================================

The six displays of skdeeptd.plotting. The signals
come from a network with kernels of 4, 5 and 6 weights, and noise of half their size is
added; the images are digits.
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

X, y, planted = make_patch_cnn_regression(
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
# Which kernel sizes? The candidates and their cross-validated scores. Most are dropped
# after a short fit, and their scores are those of that short fit.

CandidatesDisplay.from_estimator(search, n_best=40)

# %%
# Is a network needed at all? Both models are cross-validated on the same folds, and the
# network predicts held-out rows clearly better than the linear model.

result = compare_with_linear(search.best_estimator_, X, y)
LinearComparisonDisplay.from_result(result)
print(result.text[0])

# %%
# Does the moment look like a network of that shape? Its rows are the patches of the
# first layer.

MomentDisplay.from_estimator(search)

# %%
# The kernels with their 95 % bands, and dashed the planted ones. The sign of the last
# kernel is free: the scale can take it.

display = KernelDisplay.from_estimator(search)
n_held = 0
layers = zip(planted, display.kernels, display.kernel_stds, display.axes_, strict=True)
for true, (kernel,), (std,), (ax,) in layers:
    true = true[0, 0] * np.sign(kernel @ true[0, 0])
    ax.stairs(true, np.arange(len(true) + 1) - 0.5, baseline=None, ls="--", color="k")
    n_held += np.sum(np.abs(true - kernel) < 1.96 * std)
print(f"{n_held} of the 15 planted weights are inside their band")

# %%
# Which features matter, and in which direction? The height is the effect
# of one standard deviation, with a 95 % band.

display = ImportanceDisplay.from_estimator(search, X)
display.figure_.savefig("importance.png", dpi=150)
print("the feature that matters most:", np.argmax(display.magnitude))

# %%
# What makes these digits odd (blue) or even (red)? Each image stands beside the
# derivative of the network's output by its pixels.

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
