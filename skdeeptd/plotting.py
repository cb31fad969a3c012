"""Pictures of a fitted model, as displays in scikit-learn's manner.

The constructor of a display stores arrays, ``plot`` draws them, and ``from_estimator``
takes them from a fitted estimator and draws them.
"""

from skdeeptd._plot.held_out import HeldOutDisplay
from skdeeptd._plot.importance import ImportanceDisplay
from skdeeptd._plot.kernels import KernelDisplay
from skdeeptd._plot.moment import MomentDisplay
from skdeeptd._plot.path import PathDisplay
from skdeeptd._plot.receptive_field import ReceptiveFieldDisplay

__all__ = [
    "HeldOutDisplay",
    "ImportanceDisplay",
    "KernelDisplay",
    "MomentDisplay",
    "PathDisplay",
    "ReceptiveFieldDisplay",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
