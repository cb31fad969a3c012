"""Who may import whom, and what is public."""

import ast
import importlib
import inspect
import pkgutil
import re
import tomllib
from pathlib import Path

import pytest

import skdeeptd
from skdeeptd._regressor import DOCUMENTATION

# Every module and what it may import: of the package only what stands above it.
ALLOWED = {
    "_activations": {"numpy", "scipy"},
    "_geometry": {"numpy"},
    "_linalg": {"numpy"},
    "_compat": {"sklearn"},
    "_optional": set(),
    "_rows": {"numpy", "joblib", "threadpoolctl", "sklearn.utils.parallel"},
    "_network": {"numpy", "_activations"},
    "_moments": {"numpy"},
    "_stream": {"numpy", "_rows"},
    "_decomposition": {"numpy", "scipy", "_linalg"},
    "_problem": {"numpy", "_moments", "_rows"},
    "_polish": {"numpy", "scipy", "_linalg", "_network"},
    "_diagnosis": {"numpy", "_linalg", "_decomposition", "_moments", "_network"},
    "_uncertainty": {"numpy", "_activations", "_linalg", "_network", "_polish"},
    "_calibration": {"numpy", "_activations", "_linalg", "_network", "_polish"},
    "_search": {
        *("numpy", "_rows", "_network", "_moments", "_decomposition", "_polish"),
        "_calibration",
    },
    "_deeptd": {"numpy", "_network", "_search"},
    "_regressor": {
        *("numpy", "scipy", "sklearn"),
        *("_activations", "_compat", "_geometry", "_rows", "_network", "_problem"),
        *("_decomposition", "_polish", "_uncertainty", "_diagnosis"),
        *("_search", "_deeptd", "_stream"),
    },
    "_regressor_cv": {
        *("numpy", "sklearn", "_compat", "_geometry", "_problem", "_rows"),
        *("_search", "_regressor"),
    },
    "_chunks": {"numpy", "_optional", "_rows"},
    "dask": {
        *("numpy", "sklearn", "_chunks", "_compat", "_optional", "_regressor", "_rows"),
    },
    "metrics": {"numpy", "scipy"},
    "export": {
        *("numpy", "sklearn", "_activations", "_geometry", "_optional"),
        *("_regressor", "_regressor_cv"),
    },
    "datasets": {"numpy", "sklearn", "_activations", "_geometry", "_network"},
    "plotting": {"numpy", "sklearn", "_activations", "_optional"},
    "__init__": {"_geometry", "_regressor", "_regressor_cv"},
    "__main__": {"numpy", "sklearn", "skdeeptd", "datasets", "metrics", "plotting"},
}
STANDARD = {
    *("argparse", "collections", "contextlib", "copy", "ctypes", "dataclasses"),
    *("functools", "importlib", "itertools", "math", "numbers", "operator", "platform"),
    *("sys", "threading", "time", "typing", "warnings"),
}
PUBLIC = [
    *("skdeeptd", "skdeeptd.dask", "skdeeptd.datasets", "skdeeptd.export"),
    *("skdeeptd.metrics", "skdeeptd.plotting"),
]
SOURCE = Path(skdeeptd.__file__).parent


def imports_of(module):
    yield from imports_below(ast.parse((SOURCE / f"{module}.py").read_text()))


def imports_below(tree):
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute"
            yield node.module


def test_the_list_holds_every_module():
    assert set(ALLOWED) == {path.stem for path in SOURCE.glob("*.py")}


@pytest.mark.parametrize("module", ALLOWED)
def test_imports_point_down(module):
    above = list(ALLOWED)[: list(ALLOWED).index(module)]
    for name in imports_of(module):
        name = name.removeprefix("skdeeptd.")
        if name.split(".")[0] in STANDARD:
            continue
        allowed = [a for a in ALLOWED[module] if name == a or name.startswith(a + ".")]
        assert allowed, f"{module} imports {name}"
        assert name in above or not name.startswith("_")


def test_private_scikit_learn_names_come_through_one_module():
    private = re.compile(r"from sklearn[\w.]*(?:\._\w+[\w.]* import| import _)")
    users = [p.stem for p in SOURCE.glob("*.py") if private.search(p.read_text())]
    assert users == ["_compat"]


def test_no_import_inside_a_function():
    for module in ALLOWED:
        tree = ast.parse((SOURCE / f"{module}.py").read_text())
        functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)]
        inner = {name for f in functions for name in imports_below(f)}
        assert not inner, module


def test_all_names_are_there_and_documented():
    assert skdeeptd.__all__ == [
        "DeepTDRegressor",
        "DeepTDRegressorCV",
        "kernel_size_grid",
    ]
    for name in skdeeptd.__all__:
        assert getattr(skdeeptd, name).__doc__


@pytest.mark.parametrize("module", PUBLIC)
def test_public_functions_have_complete_docstrings(module):
    module = importlib.import_module(module)
    functions = [
        value
        for name, value in vars(module).items()
        if not name.startswith("_")
        and callable(value)
        and value.__module__.startswith(module.__name__)
    ]
    assert functions
    for function in functions:
        has_parameters = len(inspect.signature(function).parameters) > 0
        for section in ["Parameters"] * has_parameters + ["Examples"]:
            assert f"{section}\n" in function.__doc__, (function, section)


def test_public_modules_are_these():
    modules = {m.name for m in pkgutil.iter_modules(skdeeptd.__path__, "skdeeptd.")}
    public = {m for m in modules if not m.split(".")[1].startswith("_")}
    assert public | {"skdeeptd"} == set(PUBLIC)


def test_notebooks_link_to_the_documentation_of_the_project():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())
    assert project["project"]["urls"]["Documentation"] == DOCUMENTATION
    for estimator in (skdeeptd.DeepTDRegressor(), skdeeptd.DeepTDRegressorCV()):
        page = f"generated/skdeeptd.{type(estimator).__name__}.html"
        assert f"{DOCUMENTATION}/{page}" in estimator._repr_html_()
