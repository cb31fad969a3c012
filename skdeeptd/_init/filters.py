"""Learn convolutional filters of several sizes from moments, and apply them.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
x           ``X``               (rows, features)
            ``shift, scale``    (features,), mean and spread of x
k_r, b_r    ``bank``            a layer whose filters have one size
z_rp        ``z``               (filters, rows, patches): k_r'x_p + b_r
h_rp        ``h``               phi(z_rp)
            ``center, unit``    (entries,), mean and spread of the responses
==========  ==================  ==================================================

The filters are those of ``moment_directions``; no descent follows. Features and
responses are standardised by a spread with a floor, and the responses are clipped, so
that new rows cannot have large responses along directions that hardly vary in the
training rows.
"""

import functools
import math
from typing import NamedTuple

import numpy as np
from scipy.linalg import norm

from skdeeptd._data.rows import RowBlocks, concatenate_blocks
from skdeeptd._init.moment_directions import moment_filters
from skdeeptd._network.network import hidden_forward, numbers_per_row


class Filters(NamedTuple):
    """Hold learned filters; ``banks`` are networks of one layer with a bias.

    Standardised responses beyond ``clip`` are set to it.
    """

    banks: tuple
    pooling: str
    shift: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    unit: np.ndarray
    clip: float = 5.0


class Statistic(NamedTuple):
    """Name one statistic of the responses of a bank, with a column per filter.

    ``kind`` is "mean" of h, "positive", the share of patches with z > 0, "max" of z, or
    "each", h itself, with a column per filter and patch.
    """

    kind: str
    patches: slice
    name: str


@np.errstate(over="ignore", invalid="ignore")
def learn_filters(rows, banks, pooling, standardize, rng=None):
    """Learn filters from the moments of X and of targets of unit spread.

    Parameters
    ----------
    rows : RowBlocks
        Of positive weights, with targets (rows, outputs).
    banks : tuple of Network
        Layers of filters of one size each.
    pooling : str
        An argument of ``pooled_statistics``.
    standardize : bool
        Whether each feature is divided by its own spread.
    rng : numpy.random.RandomState or None
        None keeps the kernels and biases of ``banks``, learned from the same rows.

    Returns
    -------
    Filters

    Raises
    ------
    FloatingPointError
        If a feature is not finite.
    """
    share = rows.weight / np.sum(rows.weight)
    shift, spread, size = _mean_and_spread(rows.X.astype(float), share)
    if not np.all(np.isfinite(spread)):
        raise FloatingPointError("the spread of a feature overflows")
    if not standardize:
        spread = np.full_like(spread, norm(spread) / np.sqrt(len(spread)))
    scale = _floored(spread, _typical(spread, size))
    y_mean, y_spread, _ = _mean_and_spread(rows.y, share)
    y = (rows.y - y_mean) / np.where(y_spread > 0, y_spread, np.inf)
    standard = RowBlocks((rows.X - shift) / scale, y, rows.weight, rows.n_jobs)
    if rng is not None:
        banks = tuple(_learned(bank, standard, rng) for bank in banks)
    raw_responses = functools.partial(_raw_responses, banks, pooling)
    raw = concatenate_blocks(raw_responses, standard.X, rows.n_jobs, _width(banks))
    center, spread, _ = _mean_and_spread(raw, share)
    return Filters(banks, pooling, shift, scale, center, _response_unit(spread))


def filter_responses(filters, X, n_jobs=None):
    """Return standardised and clipped responses, (rows, entries), in the dtype of X.

    Rows that are not finite have NaN.
    """
    dtype, clip = X.dtype, filters.clip
    banks = tuple(bank.astype(dtype) for bank in filters.banks)
    center, unit = filters.center.astype(dtype), filters.unit.astype(dtype)

    def responses(block):
        with np.errstate(over="ignore", invalid="ignore"):
            standard = ((block - filters.shift) / filters.scale).astype(dtype)
            raw = _raw_responses(banks, filters.pooling, standard)
            raw = np.clip((raw - center) / unit, -clip, clip)
            raw[~np.isfinite(block.sum(axis=1))] = np.nan
        return raw

    return concatenate_blocks(responses, X, n_jobs, _width(banks))


def pooled_statistics(pooling, n_patches, n_parts=4):
    """List the statistics of the responses of a bank, in the order of the columns.

    Parameters
    ----------
    pooling : {"local", "global", "both"}
        The response at each patch, statistics over patches, or both. The statistics are
        over all patches and, if each part has at least two, over parts of them.
    n_patches : int
    n_parts : int

    Returns
    -------
    list of Statistic

    Raises
    ------
    ValueError
        If ``pooling`` is unknown.
    """
    parts = [("", slice(0, n_patches))]
    if n_patches >= 2 * n_parts:
        ends = [i * n_patches // n_parts for i in range(n_parts + 1)]
        parts += [(f"_part{i}", slice(*ends[i : i + 2])) for i in range(n_parts)]
    local = [Statistic("each", parts[0][1], "position")]
    pooled = [
        Statistic(kind, patches, kind + part)
        for part, patches in parts
        for kind in ("mean", "positive", "max")
    ]
    statistics = {"local": local, "global": pooled, "both": local + pooled}
    if pooling not in statistics:
        raise ValueError(f"pooling must be one of {list(statistics)}, got {pooling!r}")
    return statistics[pooling]


def column_names(pooling, shape, grid, n_filters):
    """Return the names of the columns of a bank of kernels of this shape.

    ``grid`` holds the number of patches on each axis.
    """
    size, filters = "x".join(map(str, shape)), range(n_filters)
    places = ["x".join(map(str, place)) for place in np.ndindex(grid)]
    names = []
    for kind, _, name in pooled_statistics(pooling, math.prod(grid)):
        ends = [name + place for place in places] if kind == "each" else [name]
        names += [f"size{size}_filter{i}_{end}" for i in filters for end in ends]
    return names


def _mean_and_spread(values, share):
    """Return mean, standard deviation and largest size of each column.

    A deviation below the rounding of the values is zero. The squares are those of
    values over their size, so that they neither overflow nor underflow.
    """
    size = np.abs(values).max(axis=0)
    unit = np.where(size > 0, size, 1.0)
    scaled = values / unit
    deviation = scaled - scaled[0]
    mean = share @ deviation
    spread = np.sqrt(share @ (deviation - mean) ** 2)
    spread[spread <= 8 * np.finfo(float).eps] = 0.0
    return unit * (scaled[0] + mean), unit * spread, size


def _typical(spread, size, least=1e-3):
    """Return the median spread of the columns that vary, zero if there are none.

    A column varies if its spread is more than ``least`` times its size, or ``least``
    times the largest spread.
    """
    varies = spread > least * np.minimum(size, spread.max())
    return np.median(spread[varies]) if np.any(varies) else 0.0


def _floored(spread, typical, floor=0.1):
    """Return the spread, at least ``floor`` times the typical one.

    If the typical spread is zero, then no column varies: the unit is infinite.
    """
    if typical > 0:
        return np.maximum(spread, floor * typical)
    return np.full_like(spread, np.inf)


def _response_unit(spread, least=0.01):
    """Return what to divide by: infinity if the spread is below ``least`` typical ones.

    A scaler after the transformer then finds zeros, which it cannot make large.
    """
    typical = _typical(spread, np.inf)
    return np.where(spread <= least * typical, np.inf, _floored(spread, typical))


def _learned(bank, rows, rng):
    """Return filters of one size whose pre-activations have a mean square of one."""
    kernels, root, biases = moment_filters(bank, rows, rng)
    kernels /= np.where(root > 0, root, 1.0)[:, np.newaxis]
    return bank._replace(kernels=(kernels,), biases=(biases,))


def _width(banks):
    return sum(map(numbers_per_row, banks))


def _raw_responses(banks, pooling, X):
    columns = []
    for bank in banks:
        layer = hidden_forward(bank, X)[0]
        columns += [
            _columns(statistic, layer.z, layer.h)
            for statistic in pooled_statistics(pooling, layer.z.shape[2])
        ]
    return np.concatenate(columns, axis=1)


def _columns(statistic, z, h):
    """Return the columns of a statistic, (rows, columns)."""
    z, h = z[:, :, statistic.patches], h[:, :, statistic.patches]
    functions = {
        "each": lambda: h.transpose(1, 0, 2).reshape(h.shape[1], -1).copy(),
        "mean": lambda: h.mean(axis=2).T,
        "positive": lambda: (z > 0).mean(axis=2).astype(z.dtype).T,
        "max": lambda: z.max(axis=2).T,
    }
    return functions[statistic.kind]()
