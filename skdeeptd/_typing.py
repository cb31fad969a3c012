"""Types that several public signatures share."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np

KernelSizes = Sequence[int | Sequence[int]]
Strides = int | Sequence[int | Sequence[int]]
Method = TypeVar("Method", bound=Callable)
RandomState = int | np.random.RandomState | None
