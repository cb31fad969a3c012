"""DeepTD for one output: search among few rows, polish on growing samples, then on all.

==========  ==================  ==================================================
symbol      name                meaning
==========  ==================  ==================================================
n           ``n_rows``          rows of the problem
m           ``n_weights``       weights of the network
n_1 < n_2   ``sizes``           rows of the samples
==========  ==================  ==================================================

A network is told from noise by a number of rows for each of its weights, however many
there are. So the search sees a sample; what it finds is polished on larger ones, and on
all rows only at the end, when few steps are left to take. The search goes on in the
next sample where a network explains too little to be told from noise, or where the rows
turn out to tell something else than those of the sample did.
"""

import functools

import numpy as np

from skdeeptd._network import pack
from skdeeptd._search import AGREEING, EXACT, constant_network, refine, search

ROWS_PER_WEIGHT, FEWEST_ROWS = 50, 1000  # of the smallest sample
LEAST_PER_WEIGHT = 10  # where that would take too much memory
GROWTH = 4  # from a sample to the next, and to all rows at least
SAMPLE_BYTES = 2**26  # most that a sample takes
SETTLED = 10  # times what noise explains: no other network is looked for
UNLIKE = 2.0  # ratio of a network's shares in two sets of rows that tell unlike things
ROUNDING = 1e-10  # relative gain on a constant that may be rounding error


def learn(problem, output, task, step=search):
    """The network of one output of a ``Problem`` that fits a ``Task`` best.

    ``step`` is how to begin: ``search`` or ``refine``, perhaps from a known network.

    Returns
    -------
    Polished
        With all scales zero where nothing does better than a constant.
    """
    rows = problem.of_output(output)
    constant = constant_network(rows, task)
    if not np.any(task.moment) or constant.loss == 0:
        return constant
    n_weights = len(pack(task.blank))
    sizes = sample_sizes(problem.n_rows, n_weights, task.moment.nbytes)
    if not sizes:
        rows = rows.with_dtype(float)
    rng, known = np.random.RandomState(task.seed), None
    for size in sizes if task.polish else sizes[:1]:
        task.report(f"sample of {size} rows")
        of_sample = task.with_alpha_times(size / problem.total)
        found = _continue(known, step, of_sample, rows.sample(size, rng))
        if (1 - found.share) * size >= SETTLED * n_weights:
            step = functools.partial(refine, network=found.result.network)
            known = found
            if found.share <= EXACT:
                break
        else:
            step = functools.partial(search, first=found.result.network)
            known = None
            task = task._replace(n_init=max(AGREEING, task.n_init // GROWTH))
    if task.polish or not sizes:
        found = _continue(known, step, task, rows)
    return found.result if found.share < 1 - ROUNDING else constant


def _continue(known, step, task, rows):
    """``step`` on new rows, and a search where these are unlike those of ``known``."""
    found = rows.run(functools.partial(step, task))
    if known is None or found.share <= EXACT:
        return found
    if known.share / UNLIKE <= found.share <= known.share * UNLIKE:
        return found
    task.report("these rows are unlike those of the sample: search")
    first = found.result.network
    return rows.run(functools.partial(search, task, first=first))


def sample_sizes(n_rows, n_weights, row_bytes):
    """Rows of the samples, none where they would not pay or hold too few."""
    most = SAMPLE_BYTES // row_bytes
    size, sizes = min(max(FEWEST_ROWS, ROWS_PER_WEIGHT * n_weights), most), []
    if size < LEAST_PER_WEIGHT * n_weights:
        return []
    while GROWTH * size <= n_rows and size <= most:
        sizes.append(size)
        size *= GROWTH
    return sizes
