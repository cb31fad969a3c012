"""Learn dilated filters from pooled second moments, and pool their responses.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
x           ``signals``         (rows, channels, places), each channel of mean zero
                                and spread one
x_ip        ``patches``         (rows, d, positions): d is channels times taps
y           ``y``               (rows, outputs), of mean zero and spread one
m           ``first``           (d,): mean of x_ip over rows and positions
S           ``second``          (d, d): mean over rows of C_i
M_o         ``cross``           (outputs, d, d): mean over rows of y_io C_i
k_r         ``kernels``         (filters, d)
z_irp       ``z``               (rows, filters, positions): k_r'x_ip + b_r, of mean
                                zero and spread one in the training rows
            ``center, unit``    (entries,), mean and spread of the responses
==========  ==================  ==================================================

C_i is the mean of x_ip x_ip' over the positions p. If a pattern may occur anywhere, the
first moment of y and x_p averages it out, but the second does not. With W = S^-1/2 let
v be a leading eigenvector of sum_o (W'M_o W)^2. The mean square over a signal along the
direction k = W v predicts y best (Stein's lemma, applied twice: E grad^2 f). The
moments cost one pass over the rows and O(d^2) numbers for each dilation. Random filters
beside the learned ones find patterns that are not in the second moment.

Half of the filters of each kind subtract the mean of the patch in each channel, because
the level of a signal often hides the pattern. Their kernels sum to zero, so that they
are kernels like the others.
"""

import functools
import itertools
import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import helmert

from skdeeptd._data.rows import RowBlocks, concatenate_blocks
from skdeeptd._data.scratch import empty
from skdeeptd._data.signals import (
    CLIP,
    SignalLayout,
    as_signals,
    channel_units,
    floored,
    in_units,
    mean_and_spread,
    typical_spread,
)
from skdeeptd._init.moment_directions import leading_directions

QUANTILES = (0.1, 0.25, 0.5, 0.75, 0.9)  # of the responses; thresholds of shares
QUANTILE_WIDTH = 0.1  # share of the responses over which a ramp rises from 0 to 1
FAR = 1e12  # standard deviations; sums of larger values could overflow in float32
EACH_POSITION = 2**31  # more parts than there are positions


class Bank(NamedTuple):
    """Hold filters of one size and dilation: kernels (filters, d) and biases.

    ``ramps``, (filters, shares, 2), holds the begin and the end of each ramp.
    """

    taps: tuple
    dilation: int
    kernels: np.ndarray
    biases: np.ndarray
    ramps: np.ndarray


class Filters(NamedTuple):
    """Hold learned filters; standardised responses beyond ``clip`` are set to it."""

    layout: SignalLayout
    view: str | None
    pooling: tuple
    shift: np.ndarray
    scale: np.ndarray
    banks: tuple
    center: np.ndarray
    unit: np.ndarray
    clip: float = CLIP


def default_taps(lengths, one_axis=9, several_axes=3):
    """Return the size of a patch: 9 values, or 3 x 3, at most half of each axis."""
    most = one_axis if len(lengths) == 1 else several_axes
    return tuple(min(most, max(1, n // 2)) for n in lengths)


def largest_dilation(lengths, taps):
    """Return the largest dilation of a patch that fits; 1 for a patch of one value."""
    sizes = zip(lengths, taps, strict=True)
    return min(((n - 1) // (k - 1) for n, k in sizes if k > 1), default=1)


def default_dilations(lengths, taps):
    """Return 1, 2, 4, ... while the patch fits."""
    return tuple(2**i for i in range(largest_dilation(lengths, taps).bit_length()))


@functools.lru_cache(maxsize=256)
def geometry(lengths, taps, dilation, max_positions=1000):
    """Return the places of patches, an index (taps, positions), and their grid.

    Every second, third, ... position is taken if they are many.
    """
    counts = [n - (k - 1) * dilation for n, k in zip(lengths, taps, strict=True)]
    step = 1
    while math.prod(-(-n // step) for n in counts) > max_positions:
        step += 1
    index = np.zeros((1, 1), dtype=int)
    for n, count, k in zip(lengths, counts, taps, strict=True):
        on_axis = dilation * np.arange(k)[:, np.newaxis] + np.arange(0, count, step)
        index = n * index[:, np.newaxis, :, np.newaxis] + on_axis[:, np.newaxis]
        index = index.reshape(index.shape[0] * k, -1)
    return index, tuple(-(-n // step) for n in counts)


def patches_of(signals, places):
    """Return the patches, (rows, d, positions), in memory that the next call reuses."""
    shape = *signals.shape[:2], *places.shape
    patches = empty("patches", shape, signals.dtype)
    signals.take(places, axis=2, out=patches, mode="clip")  # other modes are slower
    return patches.reshape(len(signals), -1, places.shape[1])


@np.errstate(over="ignore", invalid="ignore")
def learn_filters(
    rows, layout, view, shapes, counts, pooling, rng, most_outputs=10, least_spread=0.01
):
    """Learn filters from the pooled moments of the signals and of y.

    Parameters
    ----------
    rows : RowBlocks
        Rows of positive weights, with targets (rows, outputs).
    layout : SignalLayout
    view : str or None
        An argument of ``as_signals``.
    shapes : sequence of (taps, dilation)
        The banks.
    counts : (int, int)
        Numbers of filters of each bank that are learned, and of random ones; half of
        each kind sees patches of mean zero.
    pooling : tuple of int
        An argument of ``pooled``.
    rng : numpy.random.RandomState
    most_outputs : int
        More outputs are replaced by this number of Gaussian mixtures.
    least_spread : float
        Responses of a smaller spread, relative to the typical one, become zeros, which
        a scaler after the transformer cannot make large.

    Returns
    -------
    filters : Filters
    responses : ndarray of shape (rows, entries)
        Standardised responses of the rows.

    Raises
    ------
    FloatingPointError
        If a feature is not finite.
    """
    share = rows.weight / np.sum(rows.weight)
    signals = as_signals(rows.X.astype(float, copy=False), layout, view)
    shift, scale = channel_units(signals, share)
    standard = ((signals - shift) / scale).reshape(len(signals), -1)
    mean, spread, _ = mean_and_spread(rows.y, share)
    y, n_outputs = (rows.y - mean) / np.where(spread > 0, spread, np.inf), len(mean)
    if n_outputs > most_outputs:  # Gaussian mixtures of them
        y = y @ rng.standard_normal((n_outputs, most_outputs)) / np.sqrt(n_outputs)
    parts = RowBlocks(standard, y, share, rows.n_jobs)
    banks = tuple(_learned(parts, layout, shape, counts, rng) for shape in shapes)
    filters = Filters(layout, view, pooling, shift, scale, banks, None, None)
    function = functools.partial(_raw_responses, filters)
    raw = concatenate_blocks(function, standard, rows.n_jobs, _width(filters))
    center, spread, _ = mean_and_spread(raw, share)
    typical = typical_spread(spread, np.inf)
    unit = floored(spread, typical)
    unit[spread <= least_spread * typical] = np.inf
    raw -= center
    raw /= unit
    filters = filters._replace(center=center, unit=unit)
    return filters, np.clip(raw, -filters.clip, filters.clip, out=raw)


def filter_responses(filters, X, n_jobs=None):
    """Return standardised and clipped responses, (rows, entries), in the dtype of X.

    Rows that are not finite have NaN.
    """
    dtype, clip = X.dtype, filters.clip
    center, unit = filters.center.astype(dtype), filters.unit.astype(dtype)
    banks = tuple(
        Bank(bank.taps, bank.dilation, *(a.astype(dtype) for a in bank[2:]))
        for bank in filters.banks
    )
    own = filters._replace(banks=banks)

    def responses(block):
        with np.errstate(over="ignore", invalid="ignore"):
            signals = as_signals(block, filters.layout, filters.view)
            standard = in_units(signals, filters.shift, filters.scale)
            standard = np.clip(standard, -FAR, FAR).astype(dtype)
            raw = _raw_responses(own, standard.reshape(len(block), -1))
            raw = np.clip((raw - center) / unit, -clip, clip)
            raw[~np.isfinite(block).all(axis=1)] = np.nan
        return raw

    return concatenate_blocks(responses, X, n_jobs, _width(filters))


def parts_of(grid, n_parts):
    """Return the begin of each part, for each axis of a grid of positions."""
    return [[i * n // p for i in range(p)] for n in grid for p in [min(n, n_parts)]]


def distinct_parts(grid, pooling):
    """Return the numbers of parts that cut a grid differently."""
    found = {}
    for n_parts in pooling:
        found.setdefault(tuple(min(n, n_parts) for n in grid), n_parts)
    return tuple(found.values())


def statistics_of(grid, n_parts):
    """Return the names of the statistics of each part.

    Shares need many positions, so only the whole axis has them; the mean, the maximum
    and the value of a single position are the same.
    """
    if n_parts == 1 and math.prod(grid) > 1:
        return (*(f"share{i}" for i in range(len(QUANTILES))), "max", "abs", "mean")
    if n_parts < max(grid):
        return ("max", "abs", "mean")
    return ("abs", "mean")


def pooled(z, ramps, grid, n_parts):
    """Return the statistics of z over parts of the positions.

    Parameters
    ----------
    z : array of shape (rows, filters, positions)
    ramps : array of shape (filters, shares, 2)
    grid : tuple of int
        Number of positions on each axis.
    n_parts : int
        Parts of each axis.

    Returns
    -------
    list of array of shape (rows, filters, parts)
        In the order of ``statistics_of``. A share is the mean over the positions of a
        ramp from 0 to 1 around a quantile: a step would make the responses of nearly
        equal rows differ.
    """
    starts = parts_of(grid, n_parts)
    counts = functools.reduce(
        np.multiply.outer,
        [np.diff([*begin, n]) for begin, n in zip(starts, grid, strict=True)],
    ).astype(z.dtype)
    z = z.reshape(*z.shape[:2], *grid)
    scratch = empty("statistic", z.shape, z.dtype)

    def reduced(values, ufunc):
        for axis, begin in enumerate(starts, start=2):
            if len(begin) < values.shape[axis]:
                values = ufunc.reduceat(values, begin, axis=axis)
        return values

    def mean(values):
        return (reduced(values, np.add) / counts).reshape(*z.shape[:2], -1)

    def share(number):
        low, high = (ends.reshape(-1, *(1,) * len(grid)) for ends in ramps[:, number].T)
        above = mean(np.clip(z, low, high, out=scratch)) - ramps[:, number, :1]
        return above / (ramps[:, number, 1:] - ramps[:, number, :1])

    functions = {
        **{f"share{i}": functools.partial(share, i) for i in range(len(QUANTILES))},
        "max": lambda: reduced(z, np.maximum).reshape(*z.shape[:2], -1),
        "abs": lambda: mean(np.abs(z, out=scratch)),
        "mean": lambda: mean(z),
    }
    return [functions[name]() for name in statistics_of(grid, n_parts)]


def column_names(filters):
    """Return the names of the columns of the responses."""
    names = []
    for bank in filters.banks:
        size = "x".join(map(str, bank.taps))
        _, grid = geometry(filters.layout.lengths, bank.taps, bank.dilation)
        for n_parts in distinct_parts(grid, filters.pooling):
            lengths = [len(begin) for begin in parts_of(grid, n_parts)]
            whole = "x".join(map(str, lengths))
            places = [
                "" if max(lengths) == 1 else f"_part{'x'.join(map(str, p))}of{whole}"
                for p in np.ndindex(*lengths)
            ]
            names += [
                f"size{size}_dilation{bank.dilation}_filter{i}_{name}{place}"
                for name in statistics_of(grid, n_parts)
                for i, place in itertools.product(range(len(bank.kernels)), places)
            ]
    return names


def pooled_moments(rows, layout, places):
    """Return m, S and M_o of rows of standardised signals: one pass."""
    taps, n_positions = places.shape
    d = layout.n_channels * taps

    def statistic(X, y, weight):
        patches = patches_of(X.reshape(len(X), layout.n_channels, -1), places)
        mean_squares = patches @ patches.transpose(0, 2, 1) / n_positions
        return (
            weight @ patches.mean(axis=2),
            np.tensordot(weight, mean_squares, axes=1),
            np.tensordot((y * weight[:, np.newaxis]).T, mean_squares, axes=1),
        )

    return rows.reduce(statistic, width=d * (n_positions + d))


def _learned(rows, layout, shape, counts, rng):
    """Return a bank of learned and random filters."""
    taps, dilation = shape
    places, _ = geometry(layout.lengths, taps, dilation)
    first, second, cross = pooled_moments(rows, layout, places)
    d, mean_free = len(first), np.kron(np.eye(layout.n_channels), helmert(len(places)))
    kernels = []
    for half, basis in enumerate([np.eye(d), mean_free]):  # orthonormal rows
        n_learned, n_random = ((n + 1 - half) // 2 for n in counts)
        moments = basis @ second @ basis.T, basis @ cross @ basis.T
        learned = moment_directions(*moments, n_learned, rng)
        drawn = rng.standard_normal((n_random, len(basis)))
        kernels.append(np.concatenate([learned, drawn]) @ basis)
    kernels = np.concatenate(kernels)
    mean = kernels @ first
    square = np.einsum("fi,ij,fj->f", kernels, second, kernels)
    variance = square - mean**2
    size = np.sum(kernels**2, axis=1) * np.trace(second)
    varies = variance > d * np.finfo(float).eps * size
    factor = np.where(varies, 1 / np.sqrt(np.where(varies, variance, 1)), 0)
    kernels, biases = kernels * factor[:, np.newaxis], -mean * factor
    ramps = _ramps(rows, layout, places, kernels, biases)
    return Bank(taps, dilation, kernels, biases, ramps)


def _ramps(rows, layout, places, kernels, biases, most_rows=256, most_places=24):
    """Return begin and end of the ramps of shares: quantiles of the responses.

    The quantiles are those at evenly spaced positions; of many rows those at even steps
    of the summed weights count, in the order of y, so that the order given does not
    matter. The lightest row counts as one. A ramp is at least a thousandth of a
    standard deviation wide.
    """
    some, weight = np.arange(len(rows.X)), rows.weight
    if round(np.sum(weight) / np.min(weight)) > most_rows:
        order = np.lexsort([rows.X.sum(axis=1), *rows.y.T])
        sums = np.cumsum(weight[order])
        steps = (np.arange(most_rows) + 0.618) / most_rows  # between equal weights
        drawn = np.minimum(np.searchsorted(sums, sums[-1] * steps), len(sums) - 1)
        some, weight = np.unique(order[drawn], return_counts=True)
    n_places = places.shape[1]
    thinned = np.linspace(0, n_places - 1, min(n_places, most_places)).astype(int)
    signals = rows.X[some].reshape(len(some), layout.n_channels, -1)
    patches = patches_of(signals, places[:, thinned])
    z = (kernels @ patches + biases[:, np.newaxis]).transpose(1, 0, 2)
    z = z.reshape(len(kernels), -1)
    sums = np.cumsum(np.repeat(weight, len(thinned))[np.argsort(z, axis=1)], axis=1)
    z = np.sort(z, axis=1)
    ends = np.array(QUANTILES)[:, np.newaxis] + QUANTILE_WIDTH * np.array([-0.5, 0.5])
    # Sums of weights are rounded: a quantile between equal sums must not depend on it.
    targets = ends.ravel() * (1 - 1e-9)
    found = [
        values[np.searchsorted(total / total[-1], targets)]
        for values, total in zip(z, sums, strict=True)
    ]
    ramps = np.reshape(found, (len(kernels), len(QUANTILES), 2))
    ramps[:, :, 1] = np.maximum(ramps[:, :, 1], ramps[:, :, 0] + 1e-3)
    return ramps


def moment_directions(second, cross, n, rng, ridge=0.01):
    """Return the ``n`` leading directions of whitened M_o, and random ones beyond d.

    ``ridge``, a share of the mean eigenvalue of S, bounds the whitening.
    """
    if not second.size:
        return np.zeros((n, 0))
    values, vectors = np.linalg.eigh(second)
    floor = ridge * np.mean(values)
    scale = np.sqrt(np.maximum(values, 0) + (floor if floor > 0 else 1))
    whitening = (vectors / scale) @ vectors.T  # without the signs that LAPACK chooses
    whitened = whitening @ cross @ whitening
    gram = np.sum(whitened @ whitened, axis=0)
    return leading_directions(gram, n, rng) @ whitening


def _width(filters):
    """Return the numbers that the responses take for each row, at most at a time."""
    widths = []
    for bank in filters.banks:
        places, _ = geometry(filters.layout.lengths, bank.taps, bank.dilation)
        widths.append((bank.kernels.shape[1] + 2 * len(bank.kernels)) * places.shape[1])
    return max(widths)


def _raw_responses(filters, X):
    """Return responses of rows of standardised signals, without standardisation."""
    signals, columns = X.reshape(len(X), filters.layout.n_channels, -1), []
    for bank in filters.banks:
        places, grid = geometry(filters.layout.lengths, bank.taps, bank.dilation)
        patches = patches_of(signals, places)
        shape = len(X), len(bank.kernels), places.shape[1]
        z = empty("z", shape, np.result_type(bank.kernels, patches))
        np.matmul(bank.kernels, patches, out=z)
        z += bank.biases[:, np.newaxis]
        for n_parts in distinct_parts(grid, filters.pooling):
            columns += pooled(z, bank.ramps, grid, n_parts)
    return np.concatenate([c.reshape(len(X), -1) for c in columns], axis=1)
