"""Measure how close estimated kernels are to true ones.

==========  ======================  ==================================================
symbol      array                   axes
==========  ======================  ==================================================
k_l         ``kernels[l]``          (n_outputs, n_filters) + kernel_size
c           ``cosines``             (n_layers, n_filters, n_filters): between each
                                    estimated filter and each true one
==========  ======================  ==================================================
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment


def kernel_similarity(
    estimated: Sequence[ArrayLike], true: Sequence[ArrayLike]
) -> np.ndarray:
    """Compute the absolute cosine between estimated and true kernels for each layer.

    >>> import numpy as np
    >>> from skdeeptd.metrics import kernel_similarity
    >>> true = [np.array([[[1.0, 0.0], [0.0, 1.0]]]), np.array([[[1.0], [1.0]]])]
    >>> estimated = [np.array([[[0.0, 2.0], [-3.0, 3.0]]]), np.ones((1, 2, 1))]
    >>> kernel_similarity(estimated, true).round(3)
    array([0.854, 1.   ])

    The filters of each output are matched by linear assignment: the sum of the cosines
    over all layers is largest. Signs and norms are ignored, because not all of them are
    identifiable.

    Parameters
    ----------
    estimated : sequence of array-like of shape (n_outputs, n_filters) + kernel_size
        Kernels per layer, as in ``DeepTDRegressor.kernels_``.
    true : sequence of array-like of the same shapes
        True kernels per layer.

    Returns
    -------
    ndarray of shape (n_layers,)
        Mean over the outputs and their matched filters, between 0 and 1. A kernel with
        norm 0 has cosine 0 with every other kernel.

    Raises
    ------
    ValueError
        If estimated and true kernels have different shapes.
    """
    found = [np.asarray(k, dtype=float) for k in estimated]
    expected = [np.asarray(k, dtype=float) for k in true]
    shapes = [k.shape for k in found], [k.shape for k in expected]
    if shapes[0] != shapes[1] or not shapes[0] or min(map(len, shapes[0])) < 3:
        raise ValueError(
            f"estimated and true kernels must have the same shapes (n_outputs, "
            f"n_filters, *kernel_size) in every layer, got {shapes[0]} and {shapes[1]}"
        )
    matched = [
        _match_filters([k[output] for k in found], [k[output] for k in expected])
        for output in range(len(expected[0]))
    ]
    return np.mean(matched, axis=(0, 2))


def _match_filters(estimated: list[np.ndarray], true: list[np.ndarray]) -> np.ndarray:
    """Return the cosines of matched filters, (n_layers, n_filters)."""
    cosines = np.array(
        [
            np.abs(_unit_rows(a) @ _unit_rows(b).T)
            for a, b in zip(estimated, true, strict=True)
        ]
    )
    rows, columns = linear_sum_assignment(cosines.sum(axis=0), maximize=True)
    return cosines[:, rows, columns]


def _unit_rows(kernels: np.ndarray) -> np.ndarray:
    flat = kernels.reshape(len(kernels), -1)
    norms = np.linalg.norm(flat, axis=1, keepdims=True)
    return flat / np.where(norms > 0, norms, 1)
