"""Sizes of patches, and steps between them, where nobody names any.

A signal gets patches of a sixteenth, an eighth and a quarter of its length, an image
some of a sixth, a quarter and a third of each side, but 3, 4 and 5 at least. An axis
that is short beside the others is one of channels, and lies in a patch whole.
"""

import math

from skdeeptd._model.layout import is_short, n_patches

SHARES_OF_SIGNALS = 1 / 16, 1 / 8, 1 / 4  # of the length
SHARES_OF_IMAGES = 1 / 6, 1 / 4, 1 / 3
LEAST = 3, 4, 5
PARTS = 4, 2, 1  # of a patch, of which a step is one
MOST_PATCHES = 200  # of one size


def default_patches(input_shape):
    """Kernel shapes, each a tuple with an entry per axis.

    Parameters
    ----------
    input_shape : tuple of int

    Returns
    -------
    list of tuple
    """
    is_long = [n > LEAST[0] and not is_short(n, input_shape) for n in input_shape]
    shares = SHARES_OF_SIGNALS if sum(is_long) == 1 else SHARES_OF_IMAGES
    found = [
        tuple(
            min(n, max(least, round(share * n))) if long else n
            for n, long in zip(input_shape, is_long, strict=True)
        )
        for share, least in zip(shares, LEAST, strict=True)
    ]
    return list(dict.fromkeys(found))


def default_strides(shape, input_shape):
    """A quarter of each side of the patch, or more where patches would be many."""
    for part in PARTS:
        strides = tuple(max(1, d // part) for d in shape)
        if math.prod(n_patches(input_shape, shape, strides)) <= MOST_PATCHES:
            break
    return strides
