"""Draw the weight of each feature, in the predictions or in a learned metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator

from skdeeptd._optional import optional
from skdeeptd._plot.drawing import (
    NORMAL_95,
    check_n_best,
    draw_color_bar,
    draw_image,
    get_axes,
    height_over_width,
    max_abs,
    output_name,
    tile_slices,
)
from skdeeptd._validation import check_sequence
from skdeeptd.inspection import effective_weights, metric_weights

if TYPE_CHECKING:
    from matplotlib.axes import Axes

EFFECT = "effect of one standard deviation"
SIGN_COLORS = "#2166ac", "0.55", "#b2182b"  # negative, mixed, positive
SHARE = "share of the metric"


@dataclass(eq=False, repr=False)
class ImportanceDisplay:
    """Size and sign of the effect of each feature on the predictions of a model.

    >>> from skdeeptd import DeepTDAutoRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import ImportanceDisplay
    >>> X, y = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(6, 4), random_state=0
    ... )
    >>> model = DeepTDAutoRegressor(random_state=0).fit(X, y)
    >>> ImportanceDisplay.from_estimator(model, X).magnitude.shape
    (24,)

    The height is the magnitude of :func:`~skdeeptd.inspection.effective_weights`: the
    mean change of the prediction for a change of the feature by one standard deviation.
    The colour is the sign: red if the prediction always increases with the feature,
    blue if it always decreases, grey if the direction varies between samples.

    The features of a signal are drawn as steps with a 95 % band. Named features are
    drawn as bars with 95 % intervals, largest first. Names that are increasing or
    decreasing numbers, such as wavelengths, are positions of steps. Samples of two axes
    are drawn as an image, with pale pixels for small magnitudes, samples of more axes
    as an image for each channel.

    Parameters
    ----------
    magnitude : array-like of shape input_shape
        Mean absolute weights.
    sign : array-like of shape input_shape
        Signs from -1 to 1.
    std : array-like of shape input_shape, default=None
        Standard deviations of the magnitude; None for no bands.
    feature_names : sequence, default=None
        Names of the features, or numbers for their positions on an axis.
    n_best : int, default=20
        Maximum number of bars.
    name : str, default=None
        Name of the output, such as "class 3", for the title.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    See Also
    --------
    skdeeptd.inspection.effective_weights : Compute the numbers.
    ReceptiveFieldDisplay : Draw the derivative of a network at samples.
    """

    magnitude: ArrayLike
    sign: ArrayLike
    _: KW_ONLY
    std: ArrayLike | None = None
    feature_names: Sequence | None = None
    n_best: int = 20
    name: str | None = None

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
            A fitted model of this package or of scikit-learn. For a Pipeline the
            features are those of its input.
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            At least two samples. They also give the standard deviations.
        output, input_shape, refits
            As in :func:`~skdeeptd.inspection.effective_weights`. The bands come from
            the standard deviation over the refits or, without refits, from the standard
            error over the samples.
        feature_names : sequence, default=None
            Names of the features. None means the columns of a data frame X, else
            ``feature_names_in_`` of the estimator, if there are any.
        n_best : int, default=20
            Maximum number of bars for named features.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        ImportanceDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator or a refit is not fitted.
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            As in ``effective_weights``, or if ``n_best`` is not a positive integer, if
            there is not a name for each feature, or if ``ax`` is not one axes.
        """
        result = effective_weights(
            estimator, X, output=output, input_shape=input_shape, refits=refits
        )
        if feature_names is None:
            fitted_names = getattr(estimator, "feature_names_in_", None)
            feature_names = getattr(X, "columns", fitted_names)
        display = cls(
            result.magnitude,
            result.sign,
            std=result.standard_error if refits is None else result.refit_std,
            feature_names=feature_names,
            n_best=n_best,
            name=output_name(estimator, output),
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
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` is not one axes, ``n_best`` is not a positive integer, or there
            is not a name for each feature.
        """
        magnitude = np.asarray(self.magnitude, dtype=float)
        positions = self._positions(magnitude)
        n_bars = min(self.n_best, magnitude.size) if positions is None else None
        self.ax_ = _axes_of_features(ax, magnitude.shape, n_bars)
        self.figure_ = self.ax_.figure
        if magnitude.ndim > 1:
            self._draw_image(magnitude)
        elif positions is None:
            self._draw_bars(magnitude)
        else:
            self._draw_steps(magnitude, positions)
        if self.name is not None:
            self.ax_.set_title(self.name, fontsize="medium")
        return self

    def _positions(self, magnitude):
        """Return the positions of the features on an axis; None if they have names."""
        names = self.feature_names
        check_sequence("feature_names", names, "['a', 'b']")
        if names is None or magnitude.ndim > 1:
            return np.arange(magnitude.size)
        _check_number_of_names(names, magnitude.size)
        check_n_best(self.n_best)
        try:
            positions = np.array([float(name) for name in names])
        except ValueError:
            return None
        steps = np.diff(positions)
        ordered = np.all(steps > 0) or np.all(steps < 0)
        return positions if ordered else None

    def _draw_steps(self, magnitude, positions):
        ax, edges = self.ax_, _edges(positions)
        color = _colors(self.sign)
        ax.bar(edges[:-1], magnitude, np.diff(edges), align="edge", color=color)
        if self.std is not None:
            band = NORMAL_95 * np.asarray(self.std)
            low = np.maximum(magnitude - band, 0)
            fill = {"fill": True, "color": "k", "alpha": 0.25}
            ax.stairs(magnitude + band, edges, baseline=low, **fill)
        ax.stairs(magnitude, edges, baseline=None, color="k", linewidth=0.8)
        ax.set(xlim=(edges[0], edges[-1]), ylabel=EFFECT)
        ax.set_xlabel("feature" if self.feature_names is None else "feature name")
        self._draw_sign_bar("sign")

    def _draw_bars(self, magnitude):
        best = np.argsort(-magnitude, kind="stable")[: self.n_best]
        colors = _colors(np.asarray(self.sign)[best])
        style = {"color": colors, "error_kw": {"elinewidth": 1, "ecolor": "k"}}
        if self.std is not None:
            style["xerr"] = NORMAL_95 * np.asarray(self.std)[best]
        _draw_bars(self.ax_, magnitude, self.feature_names, best, EFFECT, **style)
        self._draw_sign_bar("sign")

    def _draw_image(self, magnitude):
        top = max_abs(magnitude)
        image = draw_image(self.ax_, np.asarray(self.sign, dtype=float), 1)
        image.set_cmap(_color_map())
        image.set_alpha(np.nan_to_num(tile_slices(magnitude / top)))
        self.ax_.set(facecolor="white", aspect="auto")
        self._draw_sign_bar(f"sign; {top:.2g} in full colour")

    def _draw_sign_bar(self, label):
        cm = optional("matplotlib.cm", extra="plot")
        signs = cm.ScalarMappable(cmap=_color_map())
        signs.set_clim(-1, 1)
        draw_color_bar(signs, [self.ax_], label)


def _color_map():
    colors = optional("matplotlib.colors", extra="plot")
    return colors.LinearSegmentedColormap.from_list("signs", SIGN_COLORS)


def _colors(sign):
    """Return the colours of signs from -1 to 1."""
    return _color_map()((np.asarray(sign) + 1) / 2)


def _edges(positions):
    """Return the middles between positions, and as far beyond the first and last."""
    if len(positions) == 1:
        return positions[0] + np.array([-0.5, 0.5])
    inner = (positions[1:] + positions[:-1]) / 2
    first, last = 2 * positions[0] - inner[0], 2 * positions[-1] - inner[-1]
    return np.array([first, *inner, last])


@dataclass(eq=False, repr=False)
class MetricDisplay:
    """Weight of each feature in the learned metric of a kernel.

    >>> from skdeeptd import DeepTDRidge, SignalScaler
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import MetricDisplay
    >>> X, y = make_patch_cnn_regression(150, (6, 4), random_state=0)
    >>> model = DeepTDRidge(SignalScaler(), kernel="rbf", metric="learned").fit(X, y)
    >>> MetricDisplay.from_estimator(model).weights.shape
    (24,)

    The weights are drawn as a line over the positions of a signal, as an image for
    samples of several axes, and as bars, largest first, for filters.

    Parameters
    ----------
    weights : array-like of shape input_shape, or (n_features_out,)
        Weights of :func:`~skdeeptd.inspection.metric_weights`.
    feature_names : sequence, default=None
        Names of the features, for bars, or numbers, for positions on an axis.
    n_best : int, default=20
        Maximum number of bars.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure
    """

    weights: ArrayLike
    _: KW_ONLY
    feature_names: Sequence | None = None
    n_best: int = 20

    @classmethod
    def from_estimator(
        cls,
        estimator: BaseEstimator,
        *,
        feature_names: Sequence | None = None,
        n_best: int = 20,
        ax: Axes | ArrayLike | None = None,
    ) -> Self:
        """Draw the metric of a fitted estimator.

        Parameters
        ----------
        estimator : DeepTDRidge or DeepTDRidgeClassifier
            Fitted, with a kernel other than "linear".
        feature_names : sequence, default=None
            Numbers for the positions of a signal, such as wavelengths. None means the
            indices of the positions, or the names of the filters.
        n_best : int, default=20
            Maximum number of bars.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        MetricDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            If the estimator is not fitted.
        ImportError
            If matplotlib is not installed.
        TypeError, AttributeError, ValueError
            As in ``metric_weights`` and ``plot``.
        """
        result = metric_weights(estimator)
        names = result.feature_names if feature_names is None else feature_names
        return cls(result.weights, feature_names=names, n_best=n_best).plot(ax)

    def plot(self, ax: Axes | ArrayLike | None = None) -> Self:
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        MetricDisplay
            The display itself.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError, TypeError
            If ``ax`` is not one axes, ``n_best`` is not a positive integer, or there
            is not a name for each feature.
        """
        weights, names = np.asarray(self.weights, dtype=float), self.feature_names
        check_sequence("feature_names", names, "['a', 'b']")
        _check_number_of_names(names, weights.size)
        check_n_best(self.n_best)
        is_image = weights.ndim > 1
        is_bars = not is_image and names is not None and isinstance(names[0], str)
        n_bars = min(self.n_best, len(weights)) if is_bars else None
        self.ax_ = _axes_of_features(ax, weights.shape, n_bars)
        self.figure_ = self.ax_.figure
        if is_image:
            top = max_abs(weights)
            image = draw_image(self.ax_, weights, top)
            image.set(cmap="Greys", clim=(0, top))
            draw_color_bar(image, [self.ax_], SHARE)
        elif is_bars:
            best = np.argsort(-weights, kind="stable")[: self.n_best]
            _draw_bars(self.ax_, weights, names, best, SHARE, color="0.4")
        else:
            self._draw_line(weights)
        return self

    def _draw_line(self, weights):
        names = self.feature_names
        positions = np.arange(len(weights)) if names is None else np.asarray(names)
        self.ax_.fill_between(positions, weights, color="0.75", linewidth=0)
        self.ax_.plot(positions, weights, color="0.2", linewidth=1)
        self.ax_.set(ylim=(0, None), ylabel=SHARE)
        self.ax_.set_xlabel("feature" if names is None else "feature name")


def _check_number_of_names(names, n_features):
    if names is not None and len(names) != n_features:
        raise ValueError(
            f"feature_names holds {len(names)} names of {n_features} features"
        )


def _axes_of_features(ax, shape, n_bars=None):
    """Return the given axes, or new ones for an image, for bars, or for a line."""
    height = 3.8 if n_bars is None else 1.2 + 0.22 * n_bars
    if len(shape) > 1:
        height = 0.8 + max(5 * height_over_width(shape), 1.6)
    return get_axes(ax, (1, 1), (6.5, height)).item()


def _draw_bars(ax, values, names, best, label, **style):
    """Draw bars of the values of these indices, the first on top."""
    ax.barh([str(names[i]) for i in best], values[best], **style)
    ax.set_ylim(len(best) - 0.4, -0.6)
    ax.set(xlim=(0, None), xlabel=label)
    if len(best) < len(values):
        ax.set_ylabel(f"best {len(best)} of {len(values)} features")
