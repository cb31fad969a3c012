"""Samples as signals: channels and places, views of the signals, and their units.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
            ``layout``          how the axes of a sample make channels and places
x           ``signals``         (rows, channels, places)
s_i         ``share``           (rows,): weights over their sum
            ``shift, scale``    mean and spread of a channel, or of each column
==========  ==================  ==================================================
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy.signal import savgol_filter

VIEWS = (None, "derivative", "snv")
CONSTANT = 8  # roundings of its values, up to which a spread counts as zero
CLIP = 5.0  # standard deviations, beyond which features are set to this value


class SignalLayout(NamedTuple):
    """Hold the axes of a sample; ``order`` lists the axes of channels first."""

    input_shape: tuple
    order: tuple
    n_channels: int
    lengths: tuple  # of the other axes

    def is_one_axis_of(self, least):
        """Return whether there is one axis of places, of this length at least."""
        return len(self.lengths) == 1 and self.lengths[0] >= least


@functools.lru_cache(maxsize=64)
def signal_layout(input_shape):
    """Return the layout of samples; an axis much shorter than another has channels."""
    short = [is_short(n, input_shape) for n in input_shape]
    axes = range(len(input_shape))
    order = [a for a in axes if short[a]] + [a for a in axes if not short[a]]
    lengths = tuple(n for n, s in zip(input_shape, short, strict=True) if not s)
    n_channels = math.prod(input_shape) // max(1, math.prod(lengths))
    return SignalLayout(tuple(input_shape), tuple(order), n_channels, lengths)


def is_short(n, lengths):
    """Return whether an axis has channels: shorter than half of another, or than 4."""
    return 2 * n < max(lengths) or n <= 3 < max(lengths)


def as_signals(X, layout, view=None):
    """Return X, (rows, features), as signals, (rows, channels, places).

    "derivative" is the first derivative along the one axis of places by a filter of
    Savitzky and Golay, "snv" (standard normal variate) takes the mean of each signal
    off and divides by its spread.
    """
    arranged = X.reshape(len(X), *layout.input_shape)
    arranged = arranged.transpose(0, *(1 + axis for axis in layout.order))
    signals = arranged.reshape(len(X), layout.n_channels, -1)
    if view == "derivative":
        return derivative(signals)
    if view == "snv":
        return standard_normal_variate(signals)
    return signals


def from_signals(values, input_shape):
    """Return the values of one signal, flat, in the shape of a sample."""
    order = signal_layout(input_shape).order
    arranged = values.reshape([input_shape[axis] for axis in order])
    return arranged.transpose(np.argsort(order))


def derivative_window(n_places, longest=15):
    """Return the odd number of places that a derivative is fitted to."""
    return min(longest, (n_places - 1) // 2 * 2 + 1)


def derivative(signals, degree=2):
    """Return the slope of a polynomial fitted around each place.

    The filter takes differences of two values, which a fourth of them cannot overflow.
    """
    window = derivative_window(signals.shape[2])
    return 4 * savgol_filter(
        signals / 4, window, min(degree, window - 1), deriv=1, mode="nearest"
    ).astype(signals.dtype, copy=False)


def standard_normal_variate(signals):
    """Return each signal less its mean, over its spread; a constant one becomes zero.

    A spread below the rounding of the values counts as zero.
    """
    size = np.abs(signals).max(axis=2, keepdims=True)
    unit = np.where(size > 0, size, 1).astype(signals.dtype)
    scaled = signals / unit
    scaled = scaled - scaled.mean(axis=2, keepdims=True)
    spread = scaled.std(axis=2, keepdims=True)
    is_constant = spread <= CONSTANT * np.finfo(signals.dtype).eps
    return np.where(is_constant, 0, scaled / np.where(is_constant, 1, spread))


def in_units(values, shift, scale):
    """Return values less their shift over their scale; zero if this is infinite."""
    return np.where(np.isinf(scale), 0, (values - shift) / scale)


def channel_units(signals, share):
    """Return mean and spread of each channel, (channels, 1); infinite if constant."""
    _, n_channels, n_places = signals.shape
    columns = signals.transpose(0, 2, 1).reshape(-1, n_channels)
    shift, scale = column_units(columns, np.repeat(share / n_places, n_places))
    return shift[:, np.newaxis], scale[:, np.newaxis]


def column_units(columns, share):
    """Return mean and spread of each column, as they are; infinite if constant."""
    shift, spread, _ = mean_and_spread(columns, share)
    return shift, np.where(spread > 0, spread, np.inf)


def feature_units(columns, share):
    """Return mean and spread of each column; the spread has a floor.

    The floor is a tenth of the typical spread, so that new rows cannot be large along
    columns that hardly vary in the training rows.
    """
    shift, spread, size = mean_and_spread(columns, share)
    return shift, floored(spread, typical_spread(spread, size))


def mean_and_spread(values, share):
    """Return mean, standard deviation and largest size of each column.

    A deviation below the rounding of the values is zero. The squares are those of
    values over their size, so that they neither overflow nor underflow.

    Raises
    ------
    FloatingPointError
        If a spread overflows.
    """
    size = np.abs(values).max(axis=0)
    unit = np.where(size > 0, size, 1.0)
    scaled = values / unit
    deviation = scaled - scaled[0]
    mean = share @ deviation
    spread = np.sqrt(share @ (deviation - mean) ** 2)
    spread[spread <= CONSTANT * np.finfo(float).eps] = 0.0
    if not np.all(np.isfinite(unit * spread)):
        raise FloatingPointError("the spread of a feature overflows")
    return unit * (scaled[0] + mean), unit * spread, size


def typical_spread(spread, size, least=1e-3):
    """Return the median spread of the columns that vary, zero if there are none.

    A column varies if its spread is more than ``least`` times its size, or ``least``
    times the largest spread.
    """
    varies = spread > least * np.minimum(size, spread.max())
    return np.median(spread[varies]) if np.any(varies) else 0.0


def floored(spread, typical, floor=0.1):
    """Return the spread, at least ``floor`` times the typical one.

    If the typical spread is zero, then no column varies: the unit is infinite.
    """
    if typical > 0:
        return np.maximum(spread, floor * typical)
    return np.full_like(spread, np.inf)
