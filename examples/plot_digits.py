"""
Images: classify odd and even digits, and inspect the network
=============================================================

DeepTDClassifier is a small convolutional network with the methods of any classifier of
scikit-learn. In this example eight filters see overlapping patches of images of 8 x 8
pixels. The network is far more accurate than logistic regression on the 64 pixels. The
example draws the kernels, and the pixels that make a digit odd (a saliency map).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold, cross_validate

from skdeeptd import DeepTDClassifier
from skdeeptd.plotting import KernelDisplay, ReceptiveFieldDisplay

X, digit = load_digits(return_X_y=True)
X, parity = X / 16, np.where(digit % 2 == 0, "even", "odd")

# %%
# Each image is a flat row of X, and ``input_shape`` is the shape of an image. A kernel
# of 4 x 4 pixels with stride 2 has 3 x 3 patches. The last size, -1, is one kernel for
# all patches. ``alpha`` corresponds to 1/C of LogisticRegression. Two starts and a
# large ``tol`` make the fit fast.

network = DeepTDClassifier(
    ((4, 4), -1),
    strides=2,
    input_shape=(8, 8),
    n_filters=8,
    alpha=1.0,
    n_init=2,
    tol=1e-3,
    random_state=0,
)
models = {
    "DeepTDClassifier": network,
    "LogisticRegression": LogisticRegression(C=10, max_iter=1000),
}
print(f"{len(X)} images, 5 folds, mean and standard deviation over the folds")
cv = StratifiedKFold(5, shuffle=True, random_state=0)
for name, model in models.items():
    scores = cross_validate(model, X, parity, cv=cv)
    accuracy, seconds = scores["test_score"], scores["fit_time"].mean()
    print(
        f"{name:18}  accuracy {accuracy.mean():.2f} +- {accuracy.std():.2f}  "
        f"{seconds:.1f} s per fit"
    )

# %%
# Four of the eight filters. The kernel of the first layer is the pattern that a filter
# detects in a patch; the kernel of the second layer weights the positions of the
# patches. Red is positive, blue negative.

network.fit(X, parity)
KernelDisplay.from_estimator(network, filters=range(4))

# %%
# Which pixels make these digits odd (red) or even (blue)? Below each image is the
# derivative of its logit by the pixels: ink on a red pixel raises the probability of
# odd.

figure, axes = plt.subplots(2, 3, figsize=(8, 5), layout="constrained")
for (above, below), i in zip(axes.T, (3, 8, 9), strict=True):
    image = X[i : i + 1]
    above.imshow(image.reshape(8, 8), cmap="gray_r")
    odd = network.predict_proba(image)[0, 1]
    above.set_title(f"odd with {odd:.0%}", fontsize="x-large")
    above.set(xticks=[], yticks=[])
    ReceptiveFieldDisplay.from_estimator(network, image, ax=below)
    below.set_title(None)
plt.show()

# sphinx_gallery_thumbnail_number = 2
