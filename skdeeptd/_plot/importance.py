"""What matters to a model, feature by feature."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skdeeptd._optional import optional
from skdeeptd._plot.drawing import (
    NORMAL_95,
    axes_for,
    check_n_best,
    draw_color_bar,
    draw_image,
    height_of,
    largest,
    name_of_output,
    side_by_side,
)
from skdeeptd.inspection import effective_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LABEL = "effect of one standard deviation"
SIGNS = "#2166ac", "0.55", "#b2182b"  # always less, both, always more
LOWEST = 1.6  # inches of an image in a new figure
BAND = {"color": "k", "alpha": 0.25}


class ImportanceDisplay:
    """What matters to a model: the effect of each feature, and its sign.

    The height is the magnitude of :func:`~skdeeptd.inspection.effective_weights`: how
    far one standard deviation of the feature moves the prediction, on average over
    rows. The colour is its sign: red where more of the feature always means a larger
    prediction, blue where it always means a smaller one, grey where it is now this, now
    that.

    Features in an order, as of a signal, are drawn as steps over their place, with a
    95 % band. Those with names are bars, the largest on top, with 95 % intervals; names
    that are numbers, such as wavelengths, are places on an axis. An image is an image,
    the paler the less a pixel matters; one of more than two axes is an image per
    channel.

    Parameters
    ----------
    magnitude : array-like of shape input_shape
        Mean absolute weights.
    sign : array-like of shape input_shape
        From -1 to 1.
    std : array-like of shape input_shape, default=None
        Standard deviations of the magnitude. None where they are not known.
    feature_names : sequence, default=None
        The names of the features, or numbers that place them on an axis.
    n_best : int, default=20
        Most bars to draw.
    name : str, default=None
        What the output is, for the title, such as "class 3".

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skdeeptd.inspection.effective_weights : The numbers.
    ReceptiveFieldDisplay : The derivative of a network at samples.

    Examples
    --------
    >>> from skdeeptd import DeepTDAutoRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import ImportanceDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(6, 4), random_state=0
    ... )
    >>> model = DeepTDAutoRegressor(random_state=0).fit(X, y)
    >>> ImportanceDisplay.from_estimator(model, X).magnitude.shape
    (24,)
    """

    def __init__(
        self,
        magnitude: ArrayLike,
        sign: ArrayLike,
        *,
        std: ArrayLike | None = None,
        feature_names: Sequence | None = None,
        n_best: int = 20,
        name: str | None = None,
    ) -> None:
        self.magnitude = magnitude
        self.sign = sign
        self.std = std
        self.feature_names = feature_names
        self.n_best = n_best
        self.name = name

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        X: ArrayLike,
        *,
        output: int = 0,
        input_shape: Sequence[int] | None = None,
        refits: Sequence[BaseEstimator] | None = None,
        feature_names: Sequence | None = None,
        n_best: int = 20,
        ax: Axes | ArrayLike | None = None,
    ) -> Self:
        """Draw the effective weights of a fitted model.

        Parameters
        ----------
        estimator : regressor or classifier
            Of this package or of scikit-learn, or a Pipeline.
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            At least two rows. They also give the standard deviations.
        output, input_shape, refits
            As in :func:`~skdeeptd.inspection.effective_weights`. With refits the bands
            are those of the spread over them, else those of the mean over the rows.
        feature_names : sequence, default=None
            None for the columns of X where it is a data frame, else for
            ``feature_names_in_`` of the estimator where it has any.
        n_best : int, default=20
            Most bars to draw, of features with names.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        ImportanceDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            As ``effective_weights``, and where ``n_best`` is not a positive integer,
            the names are not one for each feature, or ``ax`` does not fit.
        """
        found = effective_weights(
            estimator, X, output=output, input_shape=input_shape, refits=refits
        )
        if feature_names is None:
            known = getattr(estimator, "feature_names_in_", None)
            feature_names = getattr(X, "columns", known)
        display = cls(
            found.magnitude,
            found.sign,
            std=found.standard_error if refits is None else found.refit_std,
            feature_names=feature_names,
            n_best=n_best,
            name=name_of_output(estimator, output),
        )
        return display.plot(ax)

    def plot(self, ax: Axes | ArrayLike | None = None) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        ImportanceDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else, ``n_best`` is
            not a positive integer, or the names are not one for each feature.
        """
        magnitude = np.asarray(self.magnitude, dtype=float)
        places = self._places(magnitude)
        if magnitude.ndim > 1:
            height = max(5 * height_of(magnitude.shape), LOWEST)
            figsize, draw = (6.5, 0.8 + height), self._image
        elif places is None:
            n_bars = min(self.n_best, len(magnitude))
            figsize, draw = (6.5, 1.2 + 0.22 * n_bars), self._bars
        else:
            figsize, draw = (6.5, 3.8), self._steps
        self.ax_ = axes_for(ax, (1, 1), figsize).item()
        self.figure_ = self.ax_.figure
        draw(magnitude, places)
        if self.name is not None:
            self.ax_.set_title(self.name, fontsize="medium")
        return self

    def _places(self, magnitude):
        """Of the features on an axis; None where they only have names."""
        names = self.feature_names
        if names is None or magnitude.ndim > 1:
            return np.arange(magnitude.size)
        if len(names) != magnitude.size:
            raise ValueError(
                f"feature_names holds {len(names)} names of {magnitude.size} features"
            )
        check_n_best(self.n_best)
        try:
            places = np.array([float(name) for name in names])
        except ValueError:
            return None
        ordered = np.all(np.diff(places) > 0) or np.all(np.diff(places) < 0)
        return places if ordered else None

    def _steps(self, magnitude, places):
        ax, edges = self.ax_, _edges(places)
        color = _colors()(_share(self.sign))
        ax.bar(edges[:-1], magnitude, np.diff(edges), align="edge", color=color)
        if self.std is not None:
            band = NORMAL_95 * np.asarray(self.std)
            low = np.maximum(magnitude - band, 0)
            ax.stairs(magnitude + band, edges, baseline=low, fill=True, **BAND)
        ax.stairs(magnitude, edges, baseline=None, color="k", linewidth=0.8)
        ax.set(xlim=(edges[0], edges[-1]), ylabel=LABEL)
        ax.set_xlabel("feature" if self.feature_names is None else "place")
        self._draw_bar_of_signs("sign")

    def _bars(self, magnitude, _):
        ax, best = self.ax_, np.argsort(-magnitude, kind="stable")[: self.n_best]
        band = None if self.std is None else NORMAL_95 * np.asarray(self.std)[best]
        ax.barh(
            [str(self.feature_names[i]) for i in best],
            magnitude[best],
            xerr=band,
            color=_colors()(_share(np.asarray(self.sign)[best])),
            error_kw={"elinewidth": 1, "ecolor": "k"},
        )
        ax.set_ylim(len(best) - 0.4, -0.6)
        ax.set(xlim=(0, None), xlabel=LABEL)
        if len(best) < len(magnitude):
            ax.set_ylabel(f"best {len(best)} of {len(magnitude)} features")
        self._draw_bar_of_signs("sign")

    def _image(self, magnitude, _):
        top = largest(magnitude)
        image = draw_image(self.ax_, np.asarray(self.sign, dtype=float), 1)
        image.set_cmap(_colors())
        image.set_alpha(np.nan_to_num(side_by_side(magnitude / top)))
        self.ax_.set(facecolor="white", aspect="auto")
        self._draw_bar_of_signs(f"sign; {top:.2g} in full colour")

    def _draw_bar_of_signs(self, label):
        cm = optional("matplotlib.cm", extra="plot")
        signs = cm.ScalarMappable(cmap=_colors())
        signs.set_clim(-1, 1)
        draw_color_bar(signs, [self.ax_], label)


def _colors():
    colors = optional("matplotlib.colors", extra="plot")
    return colors.LinearSegmentedColormap.from_list("signs", SIGNS)


def _share(sign):
    """Where a sign stands among the colours, from 0 to 1."""
    return (np.asarray(sign) + 1) / 2


def _edges(places):
    """Half-way between places, and as far beyond the first and the last."""
    if len(places) == 1:
        return places[0] + np.array([-0.5, 0.5])
    inner = (places[1:] + places[:-1]) / 2
    return np.array([2 * places[0] - inner[0], *inner, 2 * places[-1] - inner[-1]])
