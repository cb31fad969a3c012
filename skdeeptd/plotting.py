"""Draw models with displays like those of scikit-learn.

The constructor of a display stores arrays, ``plot`` draws them, and ``from_estimator``
takes them from an estimator and draws them.
"""

from skdeeptd._plot.candidates import CandidatesDisplay
from skdeeptd._plot.features import ImportanceDisplay, MetricDisplay
from skdeeptd._plot.input_maps import MomentDisplay, ReceptiveFieldDisplay
from skdeeptd._plot.kernels import KernelDisplay
from skdeeptd._plot.results import LinearComparisonDisplay, NoveltyDisplay

__all__ = [
    "CandidatesDisplay",
    "ImportanceDisplay",
    "KernelDisplay",
    "LinearComparisonDisplay",
    "MetricDisplay",
    "MomentDisplay",
    "NoveltyDisplay",
    "ReceptiveFieldDisplay",
]

for _name in __all__:
    globals()[_name].__module__ = __name__
