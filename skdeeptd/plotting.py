"""Pictures of a fitted network, as displays in scikit-learn's manner.

The constructor of a display stores arrays, ``plot`` draws them, and ``from_estimator``
computes them from the attributes of a fitted estimator and draws them.

==========  ======================  =============================================
symbol      array                   axes
==========  ======================  =============================================
k_l         ``kernels[l]``          (n_filters,) + kernel_size, unit norm
S           ``moment``              input_shape
K           ``products``            (features, n_filters): outer product of the
                                    kernels of each filter, padding included
df / dx     ``weights``             input_shape: mean over the samples
==========  ======================  =============================================
"""

import functools
import math
from numbers import Integral

import numpy as np
from sklearn.utils.validation import check_is_fitted, validate_data

from skdeeptd._model.activations import ACTIVATIONS
from skdeeptd._optional import optional

NORMAL_95 = 1.96  # standard deviations to either side that hold 95 %
SINGULAR = 1e-5  # relative size of the singular values that a projection drops
TALLEST = 1.5  # height over width of the axes of an image in a new figure
FENCE = 3  # spreads below the lower quartile where outliers begin
STAGES = {  # of DeepTDRegressorCV: what it means, colour and marker
    3: ("fitted in full", "C0", "o"),
    2: ("left after the short polish", "C1", "s"),
    1: ("left before the polish", "0.5", "D"),
}


class KernelDisplay:
    """Kernels of one output: a row per layer, a column per filter.

    A kernel of one axis is drawn as steps, with a 95 % band where the standard
    deviations are known. A kernel of two axes is an image, one of more axes an image
    per channel; a cross marks a weight whose 95 % band holds zero. The kernels of a
    layer share their range.

    The band is that of ``covariance_`` for the kernel of unit norm. A filter of scale
    zero has none, and only crosses: the data say nothing of its kernels.

    Parameters
    ----------
    kernels : sequence of array-like of shape (n_filters,) + kernel_size
        The kernels of each layer, first layer first.
    kernel_stds : sequence of array-like of the same shapes, default=None
        Their standard deviations. None, or NaN, where they are not known.
    scales : array-like of shape (n_filters,), default=None
        For the titles.
    filters : array-like of shape (n_filters,), default=None
        The numbers of the filters, for the titles. None for 0, 1, ...

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (n_layers, n_filters)
    figure_ : matplotlib Figure

    See Also
    --------
    skdeeptd.metrics.kernel_similarity : Compare two lists of kernels.

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import KernelDisplay
    >>> X, y, kernels = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(6, 4), noise=0.3, random_state=0
    ... )
    >>> model = DeepTDRegressor((6, 4), random_state=0).fit(X, y)
    >>> KernelDisplay.from_estimator(model).axes_.shape
    (2, 1)

    The planted kernels:

    >>> display = KernelDisplay([k[0] for k in kernels]).plot()
    """

    def __init__(self, kernels, *, kernel_stds=None, scales=None, filters=None):
        self.kernels = kernels
        self.kernel_stds = kernel_stds
        self.scales = scales
        self.filters = filters

    @classmethod
    def from_estimator(cls, estimator, *, output=0, filters=None, ax=None):
        """Draw the kernels of a fitted estimator.

        Parameters
        ----------
        estimator : DeepTDRegressor or DeepTDRegressorCV
        output : int, default=0
        filters : int or sequence of int, default=None
            Which filters to draw, in this order; None for all.
        ax : matplotlib Axes or array of them, default=None
            As in ``plot``.

        Returns
        -------
        KernelDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where there are no kernels, no such output or filter, or ``ax`` does not
            fit.
        """
        _check_fitted(estimator, output)
        filters = _check_filters(filters, estimator.scales_.shape[1])
        stds = None
        if hasattr(estimator, "covariance_"):
            stds = [std[filters] for std in _kernel_stds(estimator, output)]
        display = cls(
            [k[output, filters] for k in estimator.kernels_],
            kernel_stds=stds,
            scales=estimator.scales_[output, filters],
            filters=filters,
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the kernels.

        Parameters
        ----------
        ax : matplotlib Axes or array of them, default=None
            One per layer and filter, layer by layer. None makes a new figure.

        Returns
        -------
        KernelDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else.
        """
        kernels = [np.asarray(k) for k in self.kernels]
        stds = self.kernel_stds
        if stds is None:
            stds = [np.full(k.shape, np.nan) for k in kernels]
        n_layers, n_filters = len(kernels), len(kernels[0])
        figsize = max(4.5, 1.5 + 1.5 * n_filters), 0.6 + 1.6 * n_layers
        self.axes_ = _axes(ax, (n_layers, n_filters), figsize)
        self.figure_ = self.axes_[0, 0].figure
        layers = zip(self.axes_, kernels, stds, strict=True)
        for layer, (axes, k, std) in enumerate(layers, 1):
            draw = self._draw_steps if k.ndim == 2 else self._draw_images
            draw(axes, k, NORMAL_95 * np.asarray(std))
            axes[0].set_ylabel(f"layer {layer}")
        for ax, title in zip(self.axes_[0], self._titles(n_filters), strict=True):
            ax.set_title(title, fontsize="medium")
        if kernels[-1].ndim == 2:
            for ax in self.axes_[-1]:
                ax.set_xlabel("weight")
        return self

    def _titles(self, n_filters):
        filters = range(n_filters) if self.filters is None else self.filters
        titles = [f"filter {number}" for number in filters]
        if self.scales is None:
            return titles
        return [
            f"{title}\nscale {scale:+.2g}"
            for title, scale in zip(titles, self.scales, strict=True)
        ]

    def _draw_steps(self, axes, kernels, bands):
        known = np.where(np.isfinite(bands), bands, 0)
        limit = 1.05 * _largest(np.abs(kernels) + known)
        for ax, kernel, band in zip(axes, kernels, bands, strict=True):
            _draw_steps(ax, kernel, band)
            ax.set(ylim=(-limit, limit))
            ax.tick_params(labelleft=ax is axes[0])

    def _draw_images(self, axes, kernels, bands):
        limit, label = _largest(kernels), ""
        for ax, kernel, band in zip(axes, kernels, bands, strict=True):
            image = _draw_image(ax, kernel, limit)
            unsure = _side_by_side(np.abs(kernel) <= band)
            rows, columns = np.nonzero(unsure == 1)
            if len(rows):
                ax.plot(columns, rows, "x", color="0.4", markersize=4)
                label = "x: 95 % band\nholds zero"
            ax.set(xticks=[], yticks=[])
        _draw_color_bar(image, axes, label)


class MomentDisplay:
    """The moment of one output, beside the part of it that the kernels explain.

    That part is the projection of the moment on the outer products of the kernels, of
    which there is one per filter. An input of one axis is cut into the patches of the
    first layer, one below the other; one of more than two axes is an image per channel.

    Parameters
    ----------
    moment : array-like of shape input_shape
    explained : array-like of shape input_shape
        The part that the kernels explain.
    share, share_by_noise : float
        ``explained_moment_`` of the output, and ``explained_by_noise_``.
    patch_size : int, default=None
        Weights of the first kernel, for an input of one axis; None for one patch.

    Attributes
    ----------
    axes_ : ndarray of matplotlib Axes of shape (2,)
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import MomentDisplay
    >>> X, y, _ = make_patch_cnn_regression(
    ...     n_samples=1000, kernel_sizes=(8, 8), random_state=0
    ... )
    >>> model = DeepTDRegressor((8, 8), random_state=0).fit(X, y)
    >>> print(MomentDisplay.from_estimator(model).axes_[1].get_title())
    explained by the kernels: 0.90
    (if y were noise: 0.41)
    """

    def __init__(self, moment, explained, *, share, share_by_noise, patch_size=None):
        self.moment = moment
        self.explained = explained
        self.share = share
        self.share_by_noise = share_by_noise
        self.patch_size = patch_size

    @classmethod
    def from_estimator(cls, estimator, *, output=0, ax=None):
        """Draw the moment of a fitted estimator.

        Parameters
        ----------
        estimator : DeepTDRegressor or DeepTDRegressorCV
        output : int, default=0
        ax : array of two matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        MomentDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where there is no moment, no such output, or ``ax`` does not fit.
        """
        _check_fitted(estimator, output)
        moment = estimator.moment_[output].astype(float)
        display = cls(
            moment,
            _explained_part(moment, _kernels_on_all_axes(estimator, output)),
            share=float(estimator.explained_moment_[output]),
            share_by_noise=estimator.explained_by_noise_,
            patch_size=estimator.kernels_[0][output, 0].size,
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the moment and its explained part.

        Parameters
        ----------
        ax : array of two matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        MomentDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else.
        """
        arrays = [np.asarray(self.moment), np.asarray(self.explained)]
        one_axis = arrays[0].ndim == 1
        if one_axis:
            arrays = [_rows(array, self.patch_size) for array in arrays]
        height = 3.2 if one_axis else 3.2 * _height(arrays[0].shape)
        self.axes_ = _axes(ax, (1, 2), (8, 1 + height))[0]
        self.figure_ = self.axes_[0].figure
        titles = (
            "moment",
            f"explained by the kernels: {self.share:.2f}\n"
            f"(if y were noise: {self.share_by_noise:.2f})",
        )
        limit = _largest(arrays)
        for ax, array, title in zip(self.axes_, arrays, titles, strict=True):
            image = _draw_image(ax, array, limit)
            ax.set_title(title, fontsize="medium")
            if one_axis:
                ax.set(aspect="auto", xlabel="feature in its patch")
        if one_axis:
            self.axes_[0].set_ylabel("patch of layer 1")
        _draw_color_bar(image, self.axes_, "moment")
        return self


class ReceptiveFieldDisplay:
    """What the network looks at: the weight of each feature in its output.

    That is the derivative of the output by the feature: the weights of the linear model
    that the network is around a sample, or their mean over samples. On average over
    standard normal samples the moment estimates it (Stein's lemma); for a single linear
    layer it is the same at every sample. Where a relu meets zero its slope is taken as
    zero.

    An input of one axis is drawn as steps, one of two axes as an image, one of more as
    an image per channel.

    Parameters
    ----------
    weights : array-like of shape input_shape
        The derivatives.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressor
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import ReceptiveFieldDisplay
    >>> X, y, _ = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(6, 4), random_state=0
    ... )
    >>> model = DeepTDRegressor((6, 4), random_state=0).fit(X, y)
    >>> ReceptiveFieldDisplay.from_estimator(model, X[:1]).weights.shape
    (24,)
    """

    def __init__(self, weights):
        self.weights = weights

    @classmethod
    def from_estimator(cls, estimator, X, *, output=0, ax=None):
        """Draw the mean derivative of an output at samples.

        Parameters
        ----------
        estimator : DeepTDRegressor or DeepTDRegressorCV
        X : array-like of shape (n_samples, n_features) or (n_samples,) + input_shape
            The samples; ``X[:1]`` for the first one alone.
        output : int, default=0
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        ReceptiveFieldDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where there are no kernels, no such output, X does not fit the estimator
            or holds NaN or inf, or ``ax`` does not fit.
        """
        _check_fitted(estimator, output)
        samples = _samples(estimator, X)
        return cls(_mean_gradient(estimator, samples, output)).plot(ax)

    def plot(self, ax=None):
        """Draw the weights.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        ReceptiveFieldDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else.
        """
        weights, label = np.asarray(self.weights), "derivative of the output"
        height = 5 * _height(weights.shape) if weights.ndim > 1 else 3
        self.ax_ = _axes(ax, (1, 1), (6.5, 0.8 + height)).item()
        self.figure_ = self.ax_.figure
        if weights.ndim == 1:
            _draw_steps(self.ax_, weights)
            self.ax_.set(xlabel="feature", ylabel=label)
        else:
            image = _draw_image(self.ax_, weights, _largest(weights))
            _draw_color_bar(image, [self.ax_], label)
        return self


class PathDisplay:
    """Scores of the candidates of a DeepTDRegressorCV, the one in use first.

    A line shows the mean and the standard deviation over the folds. Colour and marker
    tell the last stage that a candidate reached, since the scores of a stage are of its
    fits: only those of the third are in full. A star marks the candidate in use. A
    score far below the others is a number at the edge: below the lower quartile by more
    than three interquartile ranges, or standard deviations where these are larger.

    Parameters
    ----------
    labels : sequence of str
        A line for each candidate, in the order in which they are drawn; the one in use
        first.
    mean, std : array-like of shape (n_candidates,)
        Score on the held-out folds.
    stage : array-like of shape (n_candidates,)
        The last stage, from 1 to 3, that the candidate reached.
    n_left_out : int, default=0
        Candidates of a worse rank that are not drawn.

    Attributes
    ----------
    ax_ : matplotlib Axes
    figure_ : matplotlib Figure

    Examples
    --------
    >>> from skdeeptd import DeepTDRegressorCV
    >>> from skdeeptd.datasets import make_patch_cnn_regression
    >>> from skdeeptd.plotting import PathDisplay
    >>> X, y, _ = make_patch_cnn_regression(
    ...     n_samples=200, kernel_sizes=(4, 6), noise=0.1, random_state=0
    ... )
    >>> search = DeepTDRegressorCV(random_state=0).fit(X, y)
    >>> display = PathDisplay.from_estimator(search, n_best=10)
    >>> display.labels[0]
    '(4, 6)'
    """

    def __init__(self, labels, mean, std, stage, *, n_left_out=0):
        self.labels = labels
        self.mean = mean
        self.std = std
        self.stage = stage
        self.n_left_out = n_left_out

    @classmethod
    def from_estimator(cls, estimator, *, n_best=50, ax=None):
        """Draw the candidates of a fitted search, best rank first.

        Parameters
        ----------
        estimator : DeepTDRegressorCV
        n_best : int, default=50
            Most candidates to draw; the others rank behind them.
        ax : matplotlib Axes, default=None
            As in ``plot``.

        Returns
        -------
        PathDisplay

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before ``fit``.
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where the estimator is not a DeepTDRegressorCV, ``n_best`` is not a positive
            integer, or ``ax`` does not fit.
        """
        check_is_fitted(estimator)
        results = getattr(estimator, "cv_results_", {})
        if "stage" not in results:
            raise TypeError(
                f"PathDisplay draws the candidates of a DeepTDRegressorCV, "
                f"got {type(estimator).__name__}"
            )
        if not isinstance(n_best, Integral) or n_best < 1:
            raise ValueError(f"n_best must be an integer of at least 1, got {n_best!r}")
        order = np.argsort(results["rank_test_score"])
        best = estimator.best_index_
        order = np.array([best, *order[order != best]])
        labels = _labels(results["params"])
        drawn = order[:n_best]
        display = cls(
            [labels[i] for i in drawn],
            results["mean_test_score"][drawn],
            results["std_test_score"][drawn],
            results["stage"][drawn],
            n_left_out=len(order) - len(drawn),
        )
        return display.plot(ax)

    def plot(self, ax=None):
        """Draw the scores.

        Parameters
        ----------
        ax : matplotlib Axes, default=None
            None makes a new figure.

        Returns
        -------
        PathDisplay
            The display itself.

        Raises
        ------
        ImportError
            Where matplotlib is not installed.
        ValueError, TypeError
            Where ``ax`` holds another number of axes, or something else.
        """
        mean, std, stage = map(np.asarray, (self.mean, self.std, self.stage))
        n_drawn = len(mean)
        ax = self.ax_ = _axes(ax, (1, 1), (7, 1.6 + 0.19 * n_drawn)).item()
        self.figure_ = ax.figure
        fence = _fence(mean, std)
        far = mean < fence
        for number, (meaning, color, marker) in STAGES.items():
            rows = np.flatnonzero((stage == number) & ~far)
            if not np.any(stage == number):
                continue
            ax.errorbar(
                mean[rows],
                rows,
                xerr=std[rows],
                fmt=marker,
                color=color,
                markerfacecolor=color if number == max(STAGES) else "white",
                markersize=5,
                label=meaning,
            )
        for row in np.flatnonzero(far):
            color = STAGES[stage[row]][1]
            ax.plot(fence, row, "<", color=color, markersize=5)
            ax.annotate(
                f"{mean[row]:.3g}",
                (fence, row),
                xytext=(9, 0),
                textcoords="offset points",
                va="center",
                fontsize="small",
            )
        ax.plot(
            max(mean[0], fence),
            0,
            "*",
            color="gold",
            mec="k",
            markersize=13,
            label="in use",
        )
        ax.set_yticks(range(n_drawn), self.labels, fontsize="small")
        ax.set_ylim(n_drawn - 0.4, -0.6)
        ax.set_xlabel("score on held-out folds: mean and standard deviation")
        if self.n_left_out:
            ax.set_ylabel(f"best {n_drawn} of {n_drawn + self.n_left_out} candidates")
        ax.grid(axis="y", color="0.9")
        ax.set_axisbelow(True)
        ax.legend(loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2, frameon=False)
        return self


def _axes(ax, shape, figsize):
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


def _check_fitted(estimator, output):
    check_is_fitted(estimator)
    if not hasattr(estimator, "kernels_"):
        raise TypeError(
            f"the display draws a DeepTDRegressor or DeepTDRegressorCV, "
            f"got {type(estimator).__name__}"
        )
    _check_index("output", output, len(estimator.scales_))


def _check_index(name, value, n_values):
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    if not is_integer or not 0 <= value < n_values:
        raise ValueError(
            f"{name} must be an integer from 0 to {n_values - 1}, got {value!r}"
        )


def _check_filters(filters, n_filters):
    """The numbers of the filters as an array."""
    filters = np.arange(n_filters) if filters is None else np.atleast_1d(filters)
    if filters.ndim > 1 or not len(filters):
        raise ValueError(
            f"filters must name one filter or more, got {filters.tolist()}"
        )
    for number in filters.tolist():
        _check_index("filters", number, n_filters)
    return filters


def _samples(estimator, X):
    """X with a row per sample, checked as ``predict`` does."""
    shape = getattr(X, "shape", ())[1:]
    if len(shape) > 1:
        if shape != estimator.input_shape_:
            raise ValueError(
                f"X has samples of shape {shape}, but the network takes samples of "
                f"shape {estimator.input_shape_}"
            )
        X = X.reshape(len(X), -1)
    return validate_data(estimator, X, dtype=float, reset=False)


def _kernel_stds(estimator, output):
    """Standard deviations of the unit kernels, infinite where nothing was learned.

    ``covariance_`` is that of w = gain * k. What varies in k = w / |w| is what of w is
    orthogonal to it.
    """
    covariance, end = estimator.covariance_[output], 0
    stds = [np.full(k.shape[1:], np.inf) for k in estimator.kernels_]
    per_filter = (len(covariance) - 1) // len(stds[0])
    for r, layer in np.ndindex(estimator.gains_.shape[1:]):
        k, gain = (
            estimator.kernels_[layer][output, r],
            estimator.gains_[output, r, layer],
        )
        begin = r * per_filter if layer == 0 else end
        end = begin + k.size
        if gain * estimator.scales_[output, r] == 0:
            continue
        of_layer = covariance[begin:end, begin:end]
        with_k = of_layer @ k.ravel()
        variance = np.diagonal(of_layer) + k.ravel() * (
            (k.ravel() @ with_k) * k.ravel() - 2 * with_k
        )
        stds[layer][r] = np.sqrt(np.maximum(variance, 0)).reshape(k.shape) / gain
    return stds


def _kernels_on_all_axes(estimator, output):
    """Per layer (n_filters,) + kernel size, with an axis for each of the input's."""
    n_axes = len(estimator.input_shape_)
    return [
        k[output].reshape(k.shape[1:] + (1,) * (n_axes + 2 - k.ndim)).astype(float)
        for k in estimator.kernels_
    ]


def _padding(kernels, input_shape):
    """Zeros at the end of each axis, as ``numpy.pad`` takes them."""
    covered = np.prod([k.shape[1:] for k in kernels], axis=0)
    return [(0, c - n) for c, n in zip(covered, input_shape, strict=True)]


def _explained_part(moment, kernels):
    """Projection of the moment on the outer products of the kernels."""
    padded = np.pad(moment, _padding(kernels, moment.shape))
    products = [
        functools.reduce(np.kron, of_filter[::-1]).ravel()
        for of_filter in zip(*kernels, strict=True)
    ]
    products = np.column_stack(products)
    factors = np.linalg.lstsq(products, padded.ravel(), rcond=SINGULAR)[0]
    part = (products @ factors).reshape(padded.shape)
    return part[tuple(map(slice, moment.shape))]


def _mean_gradient(estimator, X, output):
    """Mean over the rows of the derivative of an output by the input."""
    shape = estimator.input_shape_
    kernels = _kernels_on_all_axes(estimator, output)
    samples = np.pad(X.reshape(-1, *shape), [(0, 0), *_padding(kernels, shape)])
    gradient = 0.0
    for r, scale in enumerate(estimator.scales_[output].astype(float)):
        gains = estimator.gains_[output, r].astype(float)
        weights = [g * k[r] for k, g in zip(kernels, gains, strict=True)]
        biases = estimator.biases_[output, r]
        slopes = _slopes(samples, weights, biases, estimator.activations_)
        back = np.full((len(X),) + (1,) * len(shape), scale)
        for layer in reversed(range(len(weights))):
            back = back * slopes[layer]
            if layer == 0:
                back = np.mean(back, axis=0, keepdims=True)
            back = np.kron(back, weights[layer][np.newaxis])
        gradient = gradient + back[0]
    return gradient[tuple(map(slice, shape))]


def _slopes(h, weights, biases, activations):
    """Per layer of one filter the derivatives of its activation."""
    slopes = []
    for layer, (k, name) in enumerate(zip(weights, activations, strict=True)):
        cut = [(n // d, d) for n, d in zip(h.shape[1:], k.shape, strict=True)]
        patches = h.reshape(len(h), *sum(cut, ()))
        z = np.tensordot(patches, k, axes=(range(2, patches.ndim, 2), range(k.ndim)))
        if layer < len(biases):
            z += biases[layer]
        slopes.append(ACTIVATIONS[name].derivative(z))
        h = ACTIVATIONS[name].value(z)
    return slopes


def _labels(candidates):
    """What tells the candidates from each other, at least their kernel sizes."""
    varied = [
        name
        for name in ("n_filters", "alpha")
        if len({candidate[name] for candidate in candidates}) > 1
    ]
    return [
        ", ".join([str(c["kernel_sizes"]), *(f"{name}={c[name]:g}" for name in varied)])
        for c in candidates
    ]


def _fence(mean, std):
    """The score below which a mean is far from the others."""
    known = np.isfinite(mean) & np.isfinite(std)
    if not np.any(known):
        return -np.inf
    low, high = np.quantile(mean[known], [0.25, 0.75])
    return low - FENCE * max(high - low, np.median(std[known]))


def _largest(values):
    """The largest absolute value but for NaN, or 1 where there is none above zero."""
    return float(np.nanmax(np.abs(values))) or 1.0


def _rows(values, length):
    """An array of one axis cut into rows; NaN fills the last one."""
    length = length or len(values)
    rows = np.full((math.ceil(len(values) / length), length), np.nan)
    rows.flat[: len(values)] = values
    return rows


def _side_by_side(array):
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


def _height(shape):
    """Height over width of the axes for an array of this shape."""
    n_rows, n_columns = _grid(shape)
    return min(n_rows * shape[0] / (n_columns * shape[1]), TALLEST)


def _draw_steps(ax, values, band=None):
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


def _draw_image(ax, array, limit):
    """Signed numbers in diverging colours; of more than two axes slice beside slice."""
    image = ax.imshow(
        _side_by_side(array),
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


def _draw_color_bar(image, axes, label):
    """Right of the axes, with ticks that do not depend on its height."""
    bar = axes[0].figure.colorbar(image, ax=list(axes), shrink=0.9)
    bar.set_label(label, fontsize="small")
    bar.locator.set_params(nbins=5)
