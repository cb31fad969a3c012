"""Check arguments and draw the parts that several displays share."""

import math
from numbers import Integral

import numpy as np
from sklearn.base import is_classifier
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from skdeeptd._base import BasePatchNetwork
from skdeeptd._optional import optional
from skdeeptd._validation import check_index, unwrap_pipeline

NORMAL_95 = 1.96  # half-width of a 95 % interval in standard deviations


def get_axes(ax, shape, figsize):
    """Return the given axes, or those of a new figure, as an array of this shape."""
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


def describe_estimator(estimator):
    """Return the class of an estimator, or of the last step of a Pipeline, in words."""
    if not isinstance(estimator, Pipeline):
        return type(estimator).__name__
    name, last = estimator.steps[-1]
    kind = last if isinstance(last, str) else describe_estimator(last)
    return f"a Pipeline whose last step {name!r} is {kind}"


def fitted_network(estimator, output):
    """Return the network: the last step of a Pipeline, the best one of a search.

    Raises
    ------
    TypeError
        If it is not a network.
    """
    given = estimator
    estimator, _ = unwrap_pipeline(estimator)
    check_is_fitted(estimator)
    if hasattr(estimator, "best_estimator_"):
        given = estimator = estimator.best_estimator_
    if not isinstance(estimator, BasePatchNetwork):
        raise TypeError(
            f"the display draws a DeepTDRegressor or DeepTDClassifier, or a search "
            f"whose best_estimator_ is one, got {describe_estimator(given)}"
        )
    check_index("output", output, len(estimator.scales_))
    return estimator


def output_name(estimator, output):
    """Return a name for the class of a logit; None for a regressor."""
    if not is_classifier(estimator):
        return None
    classes = estimator.classes_
    return f"class {classes[1] if len(classes) == 2 else classes[output]}"


def check_n_best(n_best):
    """Raise an error if ``n_best`` is not a positive integer."""
    if not isinstance(n_best, Integral) or n_best < 1:
        raise ValueError(f"n_best must be an integer of at least 1, got {n_best!r}")


def max_abs(values):
    """Return the largest absolute value, without NaN, or 1 if it is zero."""
    return float(np.nanmax(np.abs(values))) or 1.0


def tile_slices(array):
    """Lay out the slices of an array of two or more axes on a grid; NaN fills it."""
    height, width = array.shape[:2]
    slices = array.reshape(height, width, -1).astype(float)
    n_rows, n_columns = _tiling(array.shape)
    picture = np.full((n_rows * n_columns, height, width), np.nan)
    picture[: slices.shape[2]] = np.moveaxis(slices, 2, 0)
    picture = picture.reshape(n_rows, n_columns, height, width).swapaxes(1, 2)
    return picture.reshape(n_rows * height, n_columns * width)


def _tiling(shape):
    """Return the numbers of rows and columns of slices."""
    n_slices = math.prod(shape[2:])
    n_columns = n_slices if n_slices <= 4 else math.ceil(math.sqrt(n_slices))
    return math.ceil(n_slices / n_columns), n_columns


def height_over_width(shape, most=1.5):
    """Return height over width, at most ``most``, of the image of an array."""
    n_rows, n_columns = _tiling(shape)
    return min(n_rows * shape[0] / (n_columns * shape[1]), most)


def draw_steps(ax, values, band=None):
    """Draw a step for each value, and a band around them if it is finite."""
    edges = np.arange(len(values) + 1) - 0.5
    ax.axhline(0, color="0.7", linewidth=0.8)
    if band is not None and np.all(np.isfinite(band)):
        fill = {"fill": True, "color": "C0", "alpha": 0.3}
        ax.stairs(values + band, edges, baseline=values - band, **fill)
    ax.stairs(values, edges, baseline=None, color="C0", linewidth=1)
    ax.locator_params(axis="x", integer=True, min_n_ticks=1)
    ax.set_xlim(edges[0], edges[-1])


def draw_image(ax, array, limit):
    """Draw signed numbers in diverging colours, slices of more axes on a grid."""
    colors = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
    image = ax.imshow(tile_slices(array), interpolation="nearest", **colors)
    ax.set_facecolor("0.8")
    n_rows, n_columns = _tiling(array.shape)
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
    """Draw a colour bar right of the axes; its ticks do not depend on its height."""
    bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.9)
    bar.set_label(label, fontsize="small")
    bar.locator.set_params(nbins=5)


def write_beside(ax, x, y, text):
    """Write small text to the right of a point."""
    where = {"xytext": (9, 0), "textcoords": "offset points", "va": "center"}
    ax.annotate(text, (x, y), fontsize="small", **where)


def draw_legend(ax):
    """Draw the legend above the axes."""
    ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
