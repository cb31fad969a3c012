import re

import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from skdeeptd import DeepTDAutoRegressor, DeepTDRegressor
from skdeeptd.datasets import make_patch_cnn_regression

pytest.importorskip("sklearn.callback", reason="came with scikit-learn 1.9")

X, y = make_patch_cnn_regression(200, (4, 6), noise=0.3, random_state=0)
Y = np.column_stack([y, y[::-1]])
ESTIMATORS = [
    DeepTDRegressor((4, 6), random_state=0),
    DeepTDAutoRegressor(cv=2, random_state=0),
]


class Recorder:
    """Writes down the tasks, and whether the estimator predicts at their end."""

    def __init__(self):
        self.begun, self.ended, self.ready, self.open = [], [], [], 0

    def setup(self, estimator, context):
        self.open += 1

    def on_fit_task_begin(self, estimator, context):
        self.begun.append(context.task_name)

    def on_fit_task_end(self, estimator, context, *, X, y, fitted_estimator):
        self.ended.append(context.task_name)
        if fitted_estimator is not None:
            self.ready.append((context.task_name, fitted_estimator.score(X, y)))

    def teardown(self, estimator, context):
        self.open -= 1


def test_callbacks_see_every_stage_of_a_fit():
    recorder = Recorder()
    model = DeepTDRegressor((4, 6)).set_callbacks(recorder).fit(X, Y)
    stages = ["fit", "moment", "kernels", "output 0", "output 1", "uncertainty"]
    assert recorder.begun == stages
    assert sorted(recorder.ended) == sorted(stages)
    assert recorder.ready == [("fit", model.score(X, Y))]
    assert recorder.open == 0


def test_callbacks_see_every_stage_of_a_comparison():
    recorder = Recorder()
    model = DeepTDAutoRegressor(cv=2).set_callbacks(recorder).fit(X, y)
    steps = ["first fold", "other folds"]
    steps += [f"networks, stage {number}" for number in (1, 2, 3)]
    steps.append("fit of all samples")
    names = list(model.leaderboard()["model"])
    begun = [name for name in recorder.begun if name not in names]
    assert begun == ["fit", *steps]
    assert set(names) <= set(recorder.begun)
    last = recorder.begun[recorder.begun.index(steps[-1]) + 1 :]
    assert len(last) == len(model.estimators_)
    assert recorder.ready == [("fit", model.score(X, y))]


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_callbacks_change_nothing(estimator):
    expected = estimator.fit(X, y).predict(X)
    estimator.set_callbacks(Recorder())
    np.testing.assert_array_equal(estimator.fit(X, y).predict(X), expected)
    estimator.set_callbacks()


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_callbacks_are_torn_down_where_the_fit_fails(estimator):
    recorder = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        estimator.set_callbacks(recorder).fit(np.where(X > 2, np.nan, X), y)
    estimator.set_callbacks()
    assert recorder.begun[0] == "fit"
    assert not recorder.ended
    assert recorder.open == 0


def test_the_progress_bar_of_scikit_learn_reaches_the_end(capsys):
    pytest.importorskip("rich")
    from sklearn.callback import ProgressBar

    search = GridSearchCV(
        make_pipeline(StandardScaler(), DeepTDRegressor()),
        {"deeptdregressor__kernel_sizes": [(4, 6), (6, 4)]},
        cv=2,
    )
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, y)
    shown = re.findall(r"DeepTDRegressor - fit.* (\d+)%", capsys.readouterr().out)
    assert shown == ["100"] * 5
