"""A hidden layer of filters of several sizes from the moments, without a polish.

==========  ==================  ==================================================
symbol      name                axes
==========  ==================  ==================================================
x           ``X``               (rows, features)
            ``shift, scale``    (features,), mean and spread of x
k_r, b_r    ``bank``            a layer whose filters have one size
z_rp        ``z``               (filters, rows, patches): k_r'x_p + b_r
h_rp        ``h``               phi(z_rp)
            ``center, unit``    (entries,), mean and spread of what comes out
==========  ==================  ==================================================

The filters are those of ``second_moment``. What comes out is standardised by a spread
with a floor and clipped, so that whatever the rows to come hold, nothing explodes along
directions in which the rows of the fit hardly varied.
"""

import functools
import itertools
from typing import NamedTuple

import numpy as np

from skdeeptd._data.rows import RowBlocks, concatenate_blocks
from skdeeptd._model.network import (
    PatchCNN,
    layers_forward,
    numbers_per_row,
    patch_order,
)
from skdeeptd._solver.calibration import mean_square
from skdeeptd._solver.second_moment import BIAS_STD, all_patch_moments, kernels_of

FLOOR = 0.1  # of the median spread, that every spread has at least
HARDLY = 0.01  # of the median spread, below which a response is left out
CLIP = 5.0  # spreads, beyond which an entry stays
SEGMENTS = 4  # parts of the input that are pooled by themselves
RESPONSES = ("local", "pooled", "all")


class FilterSpec(NamedTuple):
    """What filters to learn; ``orders`` and ``sizes`` hold an entry per bank.

    An order is that of the features in the patches, as in ``Layout.orders``; a size is
    that of the kernels. ``responses`` are "local", those of each patch, "pooled", which
    forget where a patch lies, or "all".
    """

    orders: tuple
    sizes: tuple
    n_filters: int
    activation: str
    responses: str
    standardize: bool


class Filters(NamedTuple):
    """``banks`` are networks of one layer with a bias."""

    banks: tuple
    responses: str
    shift: np.ndarray
    scale: np.ndarray
    center: np.ndarray
    unit: np.ndarray


@np.errstate(over="ignore", invalid="ignore")
def learn_filters(rows, spec, rng, like=None):
    """Filters from the moments of X and of targets of unit spread.

    Parameters
    ----------
    rows : RowBlocks
        Of positive weights, with targets (rows, outputs).
    spec : FilterSpec
    rng : numpy.random.RandomState
    like : Filters or None
        Of the same rows, and of a spec with other activations or responses only: the
        kernels are theirs.

    Returns
    -------
    Filters

    Raises
    ------
    FloatingPointError
        Where squares overflow.
    """
    share = rows.weight / np.sum(rows.weight)
    shift, spread = _mean_and_spread(rows.X.astype(float), share)
    if not spec.standardize:
        spread = np.full_like(spread, np.sqrt(np.mean(spread**2)))
    scale = _floored(spread)
    y_mean, y_spread = _mean_and_spread(rows.y, share)
    y = (rows.y - y_mean) / np.where(y_spread > 0, y_spread, 1.0)
    standard = RowBlocks((rows.X - shift) / scale, y, rows.weight, rows.n_jobs)
    if not np.all(np.isfinite(scale)):
        raise FloatingPointError("the squares of a feature overflow")
    if like is None:
        banks = tuple(
            _bank(standard, order, size, spec, rng)
            for order, size in zip(spec.orders, spec.sizes, strict=True)
        )
    else:
        activations = (spec.activation,)
        banks = tuple(bank._replace(activations=activations) for bank in like.banks)
    of_block = functools.partial(_raw_of_block, banks, spec.responses)
    raw = concatenate_blocks(of_block, standard.X, rows.n_jobs, _width(banks))
    center, spread = _mean_and_spread(raw, share)
    return Filters(banks, spec.responses, shift, scale, center, _unit_of(spread))


def responses_of(filters, X, n_jobs=None):
    """Standardised and clipped, (rows, entries), in the dtype of X.

    NaN in the rows where X is not finite.
    """
    dtype = X.dtype
    banks = tuple(bank.astype(dtype) for bank in filters.banks)
    shift, scale, center, unit = (values.astype(dtype) for values in filters[2:])

    def outputs(block):
        with np.errstate(over="ignore", invalid="ignore"):
            raw = _raw_of_block(banks, filters.responses, (block - shift) / scale)
            raw = np.clip((raw - center) / unit, -CLIP, CLIP)
            raw[~np.isfinite(block.sum(axis=1))] = np.nan
        return raw

    return concatenate_blocks(outputs, X, n_jobs, _width(banks))


def _mean_and_spread(values, share):
    mean = share @ values
    return mean, np.sqrt(share @ (values - mean) ** 2)


def _floored(spread):
    """At least a tenth of the median, and one where nothing varies."""
    floored = np.maximum(spread, FLOOR * np.median(spread))
    return np.where(floored > 0, floored, 1.0)


def _unit_of(spread):
    """Infinite for responses that hardly vary: a scaler behind them finds zeros."""
    return np.where(spread < HARDLY * np.median(spread), np.inf, _floored(spread))


def _bank(rows, order, size, spec, rng):
    """Filters of one size, whose pre-activations have a mean square of one."""
    n_filters = spec.n_filters
    zeros = np.zeros((n_filters, size)), np.zeros(n_filters)
    bank = bank_of(order, *zeros, spec.activation)
    moments = all_patch_moments(bank, rows, rng)
    kernels = kernels_of(*moments, n_filters, rng)
    kernels *= rng.choice([-1.0, 1.0], size=(n_filters, 1))
    root = np.sqrt(mean_square(bank._replace(kernels=(kernels,)), rows, layer=0))
    kernels /= np.where(root > 0, root, 1.0)[:, np.newaxis]
    biases = BIAS_STD * rng.standard_normal(n_filters)
    return bank._replace(kernels=(kernels,), biases=(biases,))


def bank_of(order, kernels, biases, activation):
    """The layer of filters of one size."""
    return PatchCNN(
        kernels=(kernels,),
        scales=np.ones(len(kernels)),
        intercept=0.0,
        activations=(activation,),
        orders=(order,),
        biases=(biases,),
    )


def _width(banks):
    return sum(map(numbers_per_row, banks))


def _raw_of_block(banks, responses, X):
    columns = []
    for bank in banks:
        layer = layers_forward(bank, patch_order(bank, X))[0]
        if responses != "pooled":
            columns.append(layer.h.transpose(1, 0, 2).reshape(len(X), -1).copy())
        if responses != "local":
            columns += _pooled(layer.z, layer.h)
    return np.concatenate(columns, axis=1)


def _pooled(z, h):
    """Mean, share above zero and maximum, of all patches and of parts of them."""
    return [
        statistic.T
        for part in pooled_parts(z.shape[2])
        for statistic in (
            h[:, :, part].mean(axis=2),
            (z[:, :, part] > 0).mean(axis=2).astype(z.dtype),
            z[:, :, part].max(axis=2),
        )
    ]


def pooled_parts(n_patches):
    """All patches, and where they are enough, those of each segment."""
    ends = [i * n_patches // SEGMENTS for i in range(SEGMENTS + 1)]
    segments = [slice(a, b) for a, b in itertools.pairwise(ends)]
    return [slice(0, n_patches), *segments * (n_patches >= 2 * SEGMENTS)]
