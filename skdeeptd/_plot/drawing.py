"""What the displays share: checks, axes, steps, images."""

import math
from numbers import Integral

import numpy as np
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdeeptd._base import BasePatchNetwork, check_index
from skdeeptd._optional import optional
from skdeeptd._search_cv import BaseSearch

TALLEST = 1.5  # height over width of the axes of an image in a new figure
NORMAL_95 = 1.96  # standard deviations to either side that hold 95 %


def axes_for(ax, shape, figsize):
    """The axes given, or those of a new figure, as an array of this shape."""
    plt = optional("matplotlib.pyplot", extra="plot")
    if ax is None:
        figure = plt.figure(figsize=figsize, layout="constrained")
        return figure.subplots(*shape, squeeze=False)
    axes = np.array(ax, dtype=object)
    for given in axes.flat:
        if not isinstance(given, plt.Axes):
            raise TypeError(f"ax must hold matplotlib Axes, got {given!r}")
    if axes.size != math.prod(shape):
        raise ValueError(
            f"ax holds {axes.size} axes, but {math.prod(shape)} are needed "
            f"({shape[0]} x {shape[1]})"
        )
    return axes.reshape(shape)


def behind_steps(estimator, X=None):
    """The last step of a Pipeline, and what the steps before it make of X."""
    if not isinstance(estimator, Pipeline):
        return estimator, X
    check_is_fitted(estimator)
    if X is not None and len(estimator) > 1:
        X = estimator[:-1].transform(X)
    return behind_steps(estimator[-1], X)


def described(estimator):
    """The kind of an estimator, and of a Pipeline which step is of it."""
    if not isinstance(estimator, Pipeline):
        return type(estimator).__name__
    name, last = estimator.steps[-1]
    kind = last if isinstance(last, str) else described(last)
    return f"a Pipeline whose last step {name!r} is {kind}"


def fitted_network(estimator, output=0):
    """The estimator, last step or best one of a choice, if it has such an output.

    Raises
    ------
    TypeError
        Where that is no network.
    """
    given = estimator
    estimator, _ = behind_steps(estimator)
    if isinstance(estimator, BaseSearch):
        check_is_fitted(estimator)
        given = estimator = estimator.best_estimator_
    if not isinstance(estimator, BasePatchNetwork):
        raise TypeError(
            f"the display draws a DeepTDRegressor or DeepTDClassifier, or a "
            f"DeepTDRegressorCV or DeepTDClassifierCV whose best_estimator_ is one, "
            f"got {described(given)}"
        )
    check_is_fitted(estimator)
    check_index("output", output, len(estimator.scales_))
    return estimator


def name_of_output(estimator, output):
    """The class whose logit it is; None of a regressor."""
    if not is_classifier(estimator):
        return None
    classes = estimator.classes_
    return f"class {classes[1] if len(classes) == 2 else classes[output]}"


def check_n_best(n_best):
    """Raise where it is not a positive integer."""
    if not isinstance(n_best, Integral) or n_best < 1:
        raise ValueError(f"n_best must be an integer of at least 1, got {n_best!r}")


def largest(values):
    """The largest absolute value but for NaN, or 1 where there is none above zero."""
    return float(np.nanmax(np.abs(values))) or 1.0


def side_by_side(array):
    """Slices of an array of two axes or more on a grid; NaN where there are too few."""
    height, width = array.shape[:2]
    slices = array.reshape(height, width, -1).astype(float)
    n_rows, n_columns = _grid(array.shape)
    picture = np.full((n_rows * n_columns, height, width), np.nan)
    picture[: slices.shape[2]] = np.moveaxis(slices, 2, 0)
    picture = picture.reshape(n_rows, n_columns, height, width).swapaxes(1, 2)
    return picture.reshape(n_rows * height, n_columns * width)


def _grid(shape):
    """Rows and columns of slices in the picture of an array of this shape."""
    n_slices = math.prod(shape[2:])
    n_columns = n_slices if n_slices <= 4 else math.ceil(math.sqrt(n_slices))
    return math.ceil(n_slices / n_columns), n_columns


def height_of(shape):
    """Height over width of the axes for an array of this shape."""
    n_rows, n_columns = _grid(shape)
    return min(n_rows * shape[0] / (n_columns * shape[1]), TALLEST)


def draw_steps(ax, values, band=None):
    """A step per value, around it the band where that is finite."""
    edges = np.arange(len(values) + 1) - 0.5
    ax.axhline(0, color="0.7", linewidth=0.8)
    if band is not None and np.all(np.isfinite(band)):
        ax.stairs(
            values + band,
            edges,
            baseline=values - band,
            fill=True,
            color="C0",
            alpha=0.3,
        )
    ax.stairs(values, edges, baseline=None, color="C0", linewidth=1)
    ax.locator_params(axis="x", integer=True, min_n_ticks=1)
    ax.set_xlim(edges[0], edges[-1])


def draw_image(ax, array, limit):
    """Signed numbers in diverging colours; of more than two axes slice beside slice."""
    image = ax.imshow(
        side_by_side(array),
        cmap="RdBu_r",
        vmin=-limit,
        vmax=limit,
        interpolation="nearest",
    )
    ax.set_facecolor("0.8")
    n_rows, n_columns = _grid(array.shape)
    for i in range(1, n_rows):
        ax.axhline(i * array.shape[0] - 0.5, color="k", linewidth=1)
    for i in range(1, n_columns):
        ax.axvline(i * array.shape[1] - 0.5, color="k", linewidth=1)
    if array.ndim > 2:
        ax.set(xticks=[], yticks=[])
    else:
        ax.locator_params(integer=True, min_n_ticks=1)
    return image


def draw_color_bar(image, axes, label):
    """Right of the axes, with ticks that do not depend on its height."""
    bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.9)
    bar.set_label(label, fontsize="small")
    bar.locator.set_params(nbins=5)


def write_beside(ax, x, y, text):
    """Small text to the right of a point."""
    ax.annotate(
        text,
        (x, y),
        xytext=(9, 0),
        textcoords="offset points",
        va="center",
        fontsize="small",
    )


def draw_legend(ax):
    """Above the axes, where it hides nothing."""
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
