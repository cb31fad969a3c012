"""
Learned features before any estimator
=====================================

DeepTDFeatures is a transformer: it learns filters from X and y, and returns their
responses, so that any estimator of scikit-learn can follow. This example compares three
classifiers, with and without it, on 200 images of the ten digits.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.datasets import load_digits
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedShuffleSplit, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from skdeeptd import DeepTDFeatures

X, digit = load_digits(return_X_y=True)
estimators = {
    "LogisticRegression": LogisticRegression(max_iter=1000),
    "RandomForest": RandomForestClassifier(random_state=0),
    "SVC": SVC(),
}

# %%
# ``input_shape`` is the shape of an image. The transformer takes numbers in y as
# continuous, so ``target_type="multiclass"`` declares the digits to be classes.
# ``pooling`` summarizes the responses of each filter over the whole image, and over
# four parts of each axis.

features = DeepTDFeatures(
    input_shape=(8, 8),
    pooling=("global", 4),
    target_type="multiclass",
    random_state=0,
)
steps = {"the pixels": StandardScaler(), "DeepTDFeatures": features}

# %%
# The filters are learned from y, so they must be learned within each split. A Pipeline
# does this.

cv = StratifiedShuffleSplit(5, train_size=200, random_state=0)
accuracies = {
    step: [
        cross_val_score(make_pipeline(transformer, estimator), X, digit, cv=cv)
        for estimator in estimators.values()
    ]
    for step, transformer in steps.items()
}
for i, name in enumerate(estimators):
    for step, accuracy in accuracies.items():
        mean, std = accuracy[i].mean(), accuracy[i].std()
        print(f"{name:18} after {step:14}  accuracy {mean:.3f} +- {std:.3f}")

# %%
# Mean and standard deviation over five splits with 200 training images.

figure, ax = plt.subplots(figsize=(6.5, 4), layout="constrained")
for step, shift in zip(accuracies, (-0.1, 0.1), strict=True):
    values = np.array(accuracies[step])
    place = np.arange(3) + shift
    ax.errorbar(
        place, values.mean(1), values.std(1), fmt="o", ms=9, capsize=4, label=step
    )
ax.set_xticks(range(3), estimators, fontsize="large")
ax.set(xlim=(-0.5, 2.5), ylim=(0.88, 1))
ax.set_ylabel("accuracy on other images", fontsize="large")
ax.legend(title="after", fontsize="large", loc="upper right")
plt.show()
