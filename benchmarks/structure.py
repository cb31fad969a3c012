"""Count what one call reads of the package, and its lines of code.

A call is traced with ``sys.setprofile``: the files and functions that run, the module
constants (names in capitals) that these functions name, and the record types
(named tuples and data classes) that are made. Threads and scratch memory are left out.
"""

import argparse
import ast
import sys
import threading
import types
import warnings
from pathlib import Path

import numpy as np

import skdeeptd

SOURCE = Path(skdeeptd.__file__).parent
LEFT_OUT = ("scratch.py", "threads.py")


def count_code_lines(path):
    """Count the lines that hold code: no docstring, comment or blank line."""
    text = path.read_text()
    kept = set()
    tree = ast.parse(text)
    docstrings = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            if ast.get_docstring(node) is not None:
                first = node.body[0]
                docstrings.update(range(first.lineno, first.end_lineno + 1))
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped and not stripped.startswith("#") and number not in docstrings:
            kept.add(number)
    return len(kept)


def is_record(owner):
    """Tell named tuples and data classes of the package from other classes."""
    is_own = isinstance(owner, type) and owner.__module__.startswith("skdeeptd")
    return is_own and (
        hasattr(owner, "__dataclass_fields__")
        or (issubclass(owner, tuple) and hasattr(owner, "_fields"))
    )


def trace(function):
    """Return the code objects of the package that a call runs."""
    codes, made = set(), set()
    records = {
        name: value
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("skdeeptd")
        for name, value in vars(module).items()
        if is_record(value)
    }
    new_codes = {}
    for name, owner in records.items():
        if "__dataclass_fields__" in vars(owner):
            new_codes[owner.__init__.__code__] = name
        else:
            new = owner.__new__
            if isinstance(new, types.FunctionType):
                new_codes[new.__code__] = name

    def profile(frame, event, argument):
        if event != "call":
            return
        code = frame.f_code
        if code in new_codes:
            made.add(new_codes[code])
        path = code.co_filename
        if path.startswith(str(SOURCE)) and not path.endswith(LEFT_OUT):
            codes.add(code)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return codes, made


def constants_of(codes):
    """Return the module constants that the functions of a call name."""
    modules = {
        getattr(module, "__file__", None): module for module in sys.modules.values()
    }
    found = set()
    for code in codes:
        known = vars(modules.get(code.co_filename, types))
        for name in code.co_names:
            if name.isupper() and name in known:
                found.add(name)
    return found


def figures(function):
    """Return the numbers of files, functions, constants and record types."""
    codes, made = trace(function)
    named = {
        code
        for code in codes
        if code.co_name not in ("<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>")
    }
    files = {code.co_filename for code in named}
    return files, named, constants_of(codes), made


def calls():
    """Return one call of each kind, on planted data."""
    from skdeeptd.datasets import make_patch_cnn_regression

    X, y, *_ = make_patch_cnn_regression(
        n_samples=300, kernel_sizes=(8, 8), noise=0.3, random_state=0
    )
    labels = (y > np.median(y)).astype(int)
    regressor = skdeeptd.DeepTDRegressor((8, 8), random_state=0)
    auto = getattr(skdeeptd, "DeepTDAutoRegressor", skdeeptd.DeepTDRegressorCV)
    classifier = skdeeptd.DeepTDClassifier((8, 8), random_state=0)
    return {
        "DeepTDRegressor.fit": lambda: regressor.fit(X, y),
        "DeepTDRegressor.predict": lambda: regressor.predict(X),
        f"{auto.__name__}.fit": lambda: auto(random_state=0).fit(X, y),
        "DeepTDClassifier.fit": lambda: classifier.fit(X, labels),
    }


def main():
    """Print the figures of each call, and the lines of code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", action="store_true", help="print the names too")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore")
    lines = {path: count_code_lines(path) for path in sorted(SOURCE.rglob("*.py"))}
    print(f"{len(lines)} files, {sum(lines.values())} lines of code")
    print("| call | files | functions | constants | record types |")
    print("|---|---|---|---|---|")
    for name, call in calls().items():
        files, functions, constants, records = figures(call)
        counts = [len(found) for found in (files, functions, constants, records)]
        print(f"| {name} | " + " | ".join(map(str, counts)) + " |")
        if arguments.list:
            names = sorted(
                f"{Path(c.co_filename).name}:{c.co_qualname}" for c in functions
            )
            print("\n".join(names), sorted(constants), sorted(records), sep="\n")


if __name__ == "__main__":
    main()
