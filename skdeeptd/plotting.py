"""Draw models with displays like those of scikit-learn.

The constructor of a display stores arrays, ``plot`` draws them, and ``from_estimator``
takes them from an estimator and draws them.
"""

from skdeeptd._plot.candidates import CandidatesDisplay
from skdeeptd._plot.importance import ImportanceDisplay
from skdeeptd._plot.kernels import KernelDisplay
from skdeeptd._plot.linear_comparison import LinearComparisonDisplay
from skdeeptd._plot.metric import MetricDisplay
from skdeeptd._plot.moment import MomentDisplay
from skdeeptd._plot.novelty import NoveltyDisplay
from skdeeptd._plot.receptive_field import ReceptiveFieldDisplay

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
