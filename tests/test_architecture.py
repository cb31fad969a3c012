"""Who may import whom, and what is public."""

import ast
import graphlib
import pkgutil
import re
import sys
import tomllib
from pathlib import Path

import pytest

import skdeeptd
from skdeeptd._validation import DOCUMENTATION

# The comparison of models: the search over shapes and kinds.
ENGINE = [{"_stacking"}, {"_search"}, {"_search_cv"}, {"_auto"}]
# Floors, the lowest first; a module imports of the package only what is on its own
# floor or below, and of its own floor nothing that leads back to it.
FLOORS = [
    {"_optional", "_typing", "_compat", "_array_api", "_data.scratch"},
    {"_data", "_data.threads", "_data.rows", "_data.moments", "_data.stream"},
    {"_data.serial", "_data.signals"},
    {"_data.standardize", "_data.chunks"},
    {"_loss", "_network", "_network.layout", "_network.activations"},
    {"_network.kernel_sizes", "_network.network"},
    {"_network.parameters", "_network.fitted"},
    {"_solvers", "_solvers.linalg", "_solvers.ridge", "_solvers.robust_scale"},
    {"_solvers.calibration", "_solvers.learned_kernel", "_solvers.conformal"},
    {"_solvers.heads", "_solvers.leave_one_out"},
    {"_solvers.normal_equations"},
    {"_solvers.gauss_newton"},
    {"_solvers.linear"},
    {"_init", "_init.tensor_decomposition", "_init.signs"},
    {"_init.moment_directions"},
    {"_init.multi_start", "_init.filters"},
    {"_fit"},
    {"_covariance"},
    {"_validation"},
    {"_intervals"},
    {"_base"},
    {"_features", "_ridge", "_regressor", "_classifier"},
    {"_ridge_classifier"},
    *ENGINE,
    {"_export", "_export.layers", "_export.torch_modules", "_export.onnx_graph"},
    {"_dask"},
    {"__init__", "dask", "export", "datasets", "metrics", "inspection"},
    {"_plot", "_plot.drawing", "_plot.kernels", "_plot.features"},
    {"_plot.input_maps", "_plot.candidates", "_plot.results"},
    {"plotting", "__main__"},
]
MATHS = ("_data.", "_network.", "_loss", "_solvers.", "_init.", "_fit", "_covariance")
OF_THE_MATHS = {"numpy", "scipy"}
ALSO = {  # what makes threads, and what reaches a cluster
    "_data.threads": {"threadpoolctl"},
    "_data.rows": {"joblib"},
}
# Views of signals, how filters are pooled, and the standard errors of kernels.
SHOWN_MATHS = {
    ("_export", "_data.signals"),
    ("_export", "_init.filters"),
    ("_plot", "_covariance"),
}
# What computes nothing of a network by itself.
SHOWS = {
    "_optional",
    "_validation",
    "_base",
    "_regressor",
    "_auto",
    "_plot",
    "_network",
}
SHOWS |= {
    "_search",
    "_search_cv",
    "_features",
    "_ridge",
    "_ridge_classifier",
    "_classifier",
}
SHOWS |= {"_export", "inspection"}
MOST_LINES, MOST_METHODS = 250, 12  # of a class, see lines_of
PUBLIC = [
    *("skdeeptd", "skdeeptd.dask", "skdeeptd.datasets", "skdeeptd.export"),
    *("skdeeptd.inspection", "skdeeptd.metrics", "skdeeptd.plotting"),
]
SOURCE = Path(skdeeptd.__file__).parent


def name_of(path):
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and parts[:-1] else parts)


TREES = {name_of(path): ast.parse(path.read_text()) for path in SOURCE.rglob("*.py")}


def imports_below(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module


def imports_within(module):
    for name in imports_below(TREES[module]):
        if name == "skdeeptd":
            yield "__init__"
        elif name.startswith("skdeeptd."):
            yield name.removeprefix("skdeeptd.")


def floor_of(module):
    return next(i for i, floor in enumerate(FLOORS) if module in floor)


def test_every_module_has_a_floor():
    assert set().union(*FLOORS) == set(TREES)


@pytest.mark.parametrize("module", TREES)
def test_imports_point_down(module):
    for name in imports_within(module):
        assert floor_of(name) <= floor_of(module), f"{module} imports {name}"


def test_there_is_no_circle():
    order = graphlib.TopologicalSorter({m: set(imports_within(m)) for m in TREES})
    order.prepare()


@pytest.mark.parametrize("module", [m for m in TREES if m.startswith(MATHS)])
def test_the_maths_knows_no_estimators(module):
    allowed = OF_THE_MATHS | ALSO.get(module, set()) | {"skdeeptd"}
    for name in imports_below(TREES[module]):
        known = name.split(".")[0] in sys.stdlib_module_names
        assert known or any(f"{name}.".startswith(f"{a}.") for a in allowed), name


@pytest.mark.parametrize(
    "module",
    [m for m in TREES if m.split(".")[0] in ("plotting", "export", "_plot", "_export")],
)
def test_what_shows_a_network_leaves_its_maths_to_the_model(module):
    for name in imports_within(module):
        is_known = (module.split(".")[0], name) in SHOWN_MATHS
        assert is_known or name.split(".")[0] in SHOWS, f"{module} imports {name}"


def classes():
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                yield pytest.param(node, id=f"{module}.{node.name}")


def lines_of(node):
    """Lines from the first to the last, besides docstrings and types of attributes."""
    n_lines = node.end_lineno - node.lineno + 1
    for inner in ast.walk(node):
        n_lines -= isinstance(inner, ast.AnnAssign) and inner.value is None
        if isinstance(inner, ast.ClassDef | ast.FunctionDef) and ast.get_docstring(
            inner
        ):
            first = inner.body[0]
            n_lines -= first.end_lineno - first.lineno + 1
    return n_lines


@pytest.mark.parametrize("node", list(classes()))
def test_no_class_is_large(node):
    methods = {n.name for n in node.body if isinstance(n, ast.FunctionDef)}
    assert lines_of(node) <= MOST_LINES
    if any("Regressor" in ast.unparse(base) for base in node.bases):
        assert len(methods) <= MOST_METHODS


def test_nobody_calls_a_private_method_of_another():
    for module, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                if node.attr.startswith("__") or node.attr in OF_NAMED_TUPLES:
                    continue
                owner = node.value
                is_own = isinstance(owner, ast.Name) and owner.id in ("self", "cls")
                is_super = (
                    isinstance(owner, ast.Call) and ast.unparse(owner) == "super()"
                )
                known = ast.unparse(node) in OWN_COPIES
                assert is_own or is_super or known, f"{module}: {ast.unparse(node)}"


OF_NAMED_TUPLES = {"_replace", "_asdict", "_fields"}
# A copy of itself that a method makes, or that a model makes of its parts, or the clone
# that a meta-estimator fits; class attributes; private names elsewhere.
OWN_COPIES = {
    "features._learn_rows",
    "self.features_._responses",
    "previous._table",
    "regressor._fit_reusing",
    "regressor._held_out",
    "self.regressor_._predict",
    "self.regressor_._table",
    "draft._partial_fit_batch",
    "draft._warn",
    "estimator._predict",
    "estimator._check",
    "estimator._fit_chunks",
    "BaseAuto._parameter_constraints",
    "BasePatchNetwork._parameter_constraints",
    "BaseSearch._parameter_constraints",
    "BaseSearchCV._parameter_constraints",
    "BaseSignalTransformer._parameter_constraints",
    "DeepTDRidge._parameter_constraints",
    "self._network._parameter_constraints",
    "sys._getframe",
}


def test_private_scikit_learn_names_come_through_one_module():
    private = re.compile(r"from sklearn[\w.]*(?:\._\w+[\w.]* import| import _)")
    users = [p.stem for p in SOURCE.rglob("*.py") if private.search(p.read_text())]
    assert users == ["_compat"]


def test_no_import_inside_a_function():
    for module, tree in TREES.items():
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        inner = {name for f in functions for name in imports_below(f)}
        assert not inner, module


def test_all_names_are_there_and_documented():
    assert skdeeptd.__all__ == [
        "DeepTDAutoClassifier",
        "DeepTDAutoRegressor",
        "DeepTDClassifier",
        "DeepTDClassifierCV",
        "DeepTDFeatures",
        "DeepTDRegressor",
        "DeepTDRegressorCV",
        "DeepTDRidge",
        "DeepTDRidgeClassifier",
        "SignalScaler",
        "kernel_size_grid",
    ]
    for name in skdeeptd.__all__:
        assert getattr(skdeeptd, name).__doc__


def test_public_modules_are_these():
    modules = {m.name for m in pkgutil.iter_modules(skdeeptd.__path__, "skdeeptd.")}
    public = {m for m in modules if not m.split(".")[1].startswith("_")}
    assert public | {"skdeeptd"} == set(PUBLIC)


def test_notebooks_link_to_the_documentation_of_the_project():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert project["project"]["urls"]["Documentation"] == DOCUMENTATION
    for estimator in (skdeeptd.DeepTDRegressor(), skdeeptd.DeepTDAutoRegressor()):
        page = f"generated/skdeeptd.{type(estimator).__name__}.html"
        assert f"{DOCUMENTATION}/{page}" in estimator._repr_html_()
