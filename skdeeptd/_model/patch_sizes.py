"""Sizes of patches, and steps between them, where nobody names any.

A signal gets patches of a sixteenth, an eighth and a quarter of its length, an image
some of a sixth, a quarter and a third of each side, but 3, 4 and 5 at least. An axis
that is short beside the others is one of channels, and lies in a patch whole.
"""

import math

SHARES = {1: (1 / 16, 1 / 8, 1 / 4)}  # of the length, by the number of long axes
SHARES_OF_IMAGES = (1 / 6, 1 / 4, 1 / 3)
LEAST = (3, 4, 5)
SHORT = 4  # an axis is short where another is more than so many times as long
OVERLAP = 4  # a step is so small a part of a patch
MOST_PATCHES = 200  # of one size


def default_patches(input_shape):
    """Kernel shapes and strides, each a tuple with an entry per axis.

    Parameters
    ----------
    input_shape : tuple of int

    Returns
    -------
    list of (tuple, tuple)
    """
    longest = max(input_shape)
    is_long = [n > LEAST[0] and n * SHORT >= longest for n in input_shape]
    shares = SHARES.get(sum(is_long), SHARES_OF_IMAGES)
    found = {}
    for share, least in zip(shares, LEAST, strict=True):
        shape = tuple(
            min(n, max(least, round(share * n))) if long else n
            for n, long in zip(input_shape, is_long, strict=True)
        )
        found[shape] = default_strides(shape, input_shape)
    return list(found.items())


def default_strides(shape, input_shape):
    """A quarter of each side of the patch, or more where patches would be many."""
    overlap = OVERLAP
    while True:
        strides = tuple(max(1, int(d / overlap)) for d in shape)
        patches = [
            -(-(n - d) // s) + 1
            for n, d, s in zip(input_shape, shape, strides, strict=True)
        ]
        if math.prod(patches) <= MOST_PATCHES or overlap <= 1:
            return strides
        overlap /= 2
