"""
Channels first: series in the layout of aeon and sktime
=======================================================

aeon and sktime store series of several channels as (n, channels, time). The kernel
sizes of this example are written for channels last. One FunctionTransformer moves the
channels. A second one flattens each sample, so that StandardScaler can follow, because
channels seldom have the same unit.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import RidgeCV
from sklearn.model_selection import ShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdeeptd import DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression

# %%
# The data have three channels of 60 time steps in very different units. y comes from a
# network with noise: its first kernel has 5 time steps and all channels, its second one
# has 12 patches.

KERNEL_SIZES = ((5, 3), (12, 1))
X, y, kernels = make_patch_cnn_regression(
    400,
    KERNEL_SIZES,
    input_shape=(60, 3),
    noise=0.3,
    random_state=0,
    return_kernels=True,
)
X = np.moveaxis(X.reshape(-1, 60, 3), -1, 1)
X = X * [[1000.0], [1.0], [0.01]] + [[20.0], [0.0], [5.0]]
print("channels first:", X.shape)

# %%
# In the Pipeline ``input_shape`` is the shape of a sample before it was flattened.

channels_last = FunctionTransformer(
    np.moveaxis, kw_args={"source": 1, "destination": -1}
)


def rows_of(X):
    return X.reshape(len(X), -1)


flat = FunctionTransformer(rows_of)
model = make_pipeline(
    channels_last,
    flat,
    StandardScaler(),
    DeepTDRegressor(KERNEL_SIZES, input_shape=(60, 3), random_state=0),
)
ridge = make_pipeline(flat, StandardScaler(), RidgeCV(np.logspace(-1, 4, 11)))
cv = ShuffleSplit(5, test_size=0.25, random_state=0)
for name, estimator in {"DeepTDRegressor": model, "RidgeCV": ridge}.items():
    r2 = cross_val_score(estimator, X, y, cv=cv)
    print(f"{name:16} R2 {r2.mean():.2f} +- {r2.std():.2f}")

# %%
# The kernel of the first layer has a column for each channel. The learned kernel
# (solid) agrees with the true one (dashed), up to the sign, which is not determined.

kernel = model.fit(X, y)[-1].kernels_[0][0, 0]
true = kernels[0][0, 0]
kernel = kernel * np.sign(np.sum(kernel * true))
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
edges = np.arange(6) - 0.5
for channel in range(3):
    color = f"C{channel}"
    learned, name = kernel[:, channel], f"channel {channel}"
    ax.stairs(learned, edges, baseline=None, color=color, lw=3, label=name)
    ax.stairs(true[:, channel], edges, baseline=None, color="k", ls="--", lw=1.5)
ax.set_xlabel("time within the patch", fontsize="large")
ax.set_ylabel("weight of the first kernel", fontsize="large")
ax.legend()
plt.show()
