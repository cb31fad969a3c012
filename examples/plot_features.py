"""
Learned features before an estimator of your own
================================================

DeepTDFeatures is a transformer: it learns filters from X and y, and gives what they
see. So any estimator of scikit-learn can follow. Here are three, with and without it,
on 200 images of the ten digits.
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
# ``input_shape`` says that a row is an image. Labels that are numbers could be a
# quantity: ``target_type="multiclass"`` says that they are classes. ``pooling="both"``
# gives the response of each filter at each position, and statistics over the image.

features = DeepTDFeatures(
    input_shape=(8, 8), pooling="both", target_type="multiclass", random_state=0
)
steps = {"the pixels": StandardScaler(), "DeepTDFeatures": features}

# %%
# These features know the labels, so they must be learned within each split: that is
# what a Pipeline is for.

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
# Mean and standard deviation over five splits of 200 images for training.

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
