import numpy as np

from skdeeptd._solver.choice import _clearly_ahead, _survivors


def shapes(n):
    return [{"kernel_sizes": (i,), "n_filters": 1, "alpha": 0.0} for i in range(n)]


def test_a_linear_candidate_survives_the_first_stage_whatever_its_score():
    scores = np.linspace(0.9, 0.1, 40)[:, np.newaxis] + np.zeros((40, 3))
    linear = np.arange(40) == 39
    alive = _survivors(scores, shapes(40), linear, stage=0)
    assert alive.tolist() == [0, 1, 2, 3, 4, 39]


def test_the_best_shapes_are_those_of_each_number_of_filters():
    candidates = [{**c, "n_filters": n} for n in (1, 2) for c in shapes(8)]
    scores = np.r_[np.linspace(0.5, 0.1, 8), np.linspace(0.9, 0.6, 8)][:, np.newaxis]
    alive = _survivors(scores, candidates, np.zeros(16, dtype=bool), stage=0)
    assert alive.tolist() == [0, 1, 2, 8, 9, 10]


def test_ahead_is_two_standard_errors_of_the_paired_difference():
    differences = np.array([0.0, 1.0, 2.0, 3.0])
    error = differences.std(ddof=1) / 2
    for ahead, clear in [(2.01, True), (1.99, False)]:
        shifted = differences - differences.mean() + ahead * error
        others = np.array([0.3, -0.2, 0.8, 0.1])
        assert _clearly_ahead(others + shifted, others) == clear


def test_who_is_not_clearly_behind_stays():
    scores = np.array([[0.9, 0.8, 0.85], [0.89, 0.82, 0.84], [0.1, 0.2, 0.1]])
    alive = _survivors(scores, shapes(3), np.zeros(3, dtype=bool), stage=1)
    assert alive.tolist() == [0, 1]


def test_a_candidate_without_a_score_is_left():
    scores = np.array([[0.9, np.nan], [0.5, 0.6]])
    alive = _survivors(scores, shapes(2), np.zeros(2, dtype=bool), stage=1)
    assert alive.tolist() == [1]
