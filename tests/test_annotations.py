"""Public signatures have types, and their docstrings are complete and short."""

import ast
import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import skdeeptd

MODULES = ["skdeeptd"] + [
    module.name
    for module in pkgutil.iter_modules(skdeeptd.__path__, "skdeeptd.")
    if not module.name.startswith("skdeeptd._")
]
DEFAULT = re.compile(r"^ *([\w, ]+) : .*default=(.+)$", re.MULTILINE)
END = re.compile(r"[.?!](\s|$)")  # of a sentence


def public():
    for name in MODULES:
        module = importlib.import_module(name)
        for attribute, value in vars(module).items():
            is_own = getattr(value, "__module__", "").startswith(name)
            if callable(value) and is_own and not attribute.startswith("_"):
                yield f"{name}.{attribute}", value


def methods(kind):
    """Yield the methods of the package, inherited ones too, without decorators."""
    for name, method in inspect.getmembers(kind, inspect.isroutine):
        function = inspect.unwrap(getattr(method, "__func__", method))
        is_own = str(getattr(function, "__module__", "")).startswith("skdeeptd")
        if is_own and (name == "__init__" or not name.startswith("_")):
            yield name, function


def documented():
    """Public functions and methods, and the docstrings that name their parameters."""
    for name, value in public():
        if not inspect.isclass(value):
            yield pytest.param(value, value.__doc__, id=name)
            continue
        for method, function in methods(value):
            doc = value.__doc__ if method == "__init__" else function.__doc__
            yield pytest.param(function, doc, id=f"{name}.{method}")


CALLABLES = list(documented())


def test_the_list_is_whole():
    names = {parameters.id for parameters in CALLABLES}
    assert len(names) > 60
    assert {
        "skdeeptd.DeepTDRegressor.__init__",
        "skdeeptd.DeepTDRegressor.fit",
        "skdeeptd.DeepTDRegressor.predict",
        "skdeeptd.DeepTDClassifier.partial_fit",
        "skdeeptd.DeepTDAutoRegressor.leaderboard",
        "skdeeptd.DeepTDRegressorCV.fit",
        "skdeeptd.dask.DaskDeepTDClassifier.predict_proba",
        "skdeeptd.plotting.KernelDisplay.from_estimator",
        "skdeeptd.inspection.effective_weights",
        "skdeeptd.kernel_size_grid",
    } <= names


@pytest.mark.parametrize(("function", "doc"), CALLABLES)
def test_all_parameters_and_what_is_returned_have_a_type(function, doc):
    signature = inspect.signature(function)
    without = [
        name
        for name, parameter in signature.parameters.items()
        if parameter.annotation is parameter.empty and name not in ("self", "cls")
    ]
    assert not without
    assert signature.return_annotation is not signature.empty


@pytest.mark.parametrize(("function", "doc"), CALLABLES)
def test_the_docstring_has_the_default_of_the_signature(function, doc):
    parameters = inspect.signature(function).parameters
    section = doc.partition("Parameters\n")[2].partition("\n    Returns\n")[0]
    section = re.split(r"\n *Attributes\n", section)[0]
    for names, default in DEFAULT.findall(section):
        for name in names.split(", "):
            assert parameters[name].default == ast.literal_eval(default), name


def sections(doc):
    """Return the text before the first section of a docstring, and the sections."""
    first, *rest = re.split(r"^(\w[\w ]+)\n-{3,}\n", doc, flags=re.MULTILINE)
    return first, dict(zip(rest[::2], rest[1::2], strict=True))


def entries(section):
    """Yield the names and the description of each parameter."""
    for entry in filter(str.strip, re.split(r"^(?=\S)", section, flags=re.MULTILINE)):
        header, _, text = entry.partition("\n")
        yield header.partition(" :")[0].replace("*", "").split(", "), text


@pytest.mark.parametrize(("function", "doc"), CALLABLES)
def test_the_docstring_is_complete_and_short(function, doc):
    first, found = sections(inspect.cleandoc(doc))
    summary = " ".join(first.partition("\n\n")[0].split())
    assert summary.endswith(".")
    assert summary.split()[0] not in ("A", "An", "The", "This")
    signature = inspect.signature(function)
    documented = list(entries(found.get("Parameters", "")))
    names = [name for names, _ in documented for name in names]
    assert set(names) == set(signature.parameters) - {"self", "cls"}
    assert ("Returns" in found) == (signature.return_annotation not in (None, "None"))
    documented += entries(found.get("Attributes", ""))
    n_sentences = {names[0]: len(END.findall(text)) for names, text in documented}
    assert {name: n for name, n in n_sentences.items() if n > 3} == {}


@pytest.mark.parametrize(("name", "value"), list(public()))
def test_the_example_comes_first(name, value):
    first, _ = sections(inspect.getdoc(value))
    assert ">>>" in first


def test_type_checkers_see_the_annotations():
    assert (Path(skdeeptd.__file__).parent / "py.typed").exists()
