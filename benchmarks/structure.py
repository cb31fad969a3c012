"""Count the functions of the package that a call runs, and its lines of code.

lines of code   lines that hold code: no docstrings, comments or blank lines
files           those with a function that runs during the call
functions       those that run, methods included; comprehensions and lambdas do not
                count as functions of their own
constants       module constants, names in capitals, that this code names
record types    named tuples and data classes; the call makes an instance of each

All threads are traced. The modules for threads and scratch memory are left out.

Run: python benchmarks/structure.py [--list]
"""

import argparse
import ast
import sys
import threading
import warnings
from pathlib import Path

import numpy as np

import skdeeptd
from skdeeptd.datasets import make_patch_cnn_regression

SOURCE = Path(skdeeptd.__file__).parent
LEFT_OUT = ("scratch.py", "threads.py")
NO_FUNCTIONS = {"<lambda>", "<listcomp>", "<genexpr>", "<dictcomp>", "<setcomp>"}


def count_code_lines(path):
    text, docstrings = path.read_text(), set()
    for node in ast.walk(ast.parse(text)):
        may_have_one = isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef)
        if may_have_one and ast.get_docstring(node) is not None:
            docstrings.update(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    lines = enumerate(text.splitlines(), 1)
    lines = (line.strip() for number, line in lines if number not in docstrings)
    return sum(line != "" and not line.startswith("#") for line in lines)


def record_made_by(frame):
    """Return the record type if a frame makes an instance of one, or None.

    ``__new__`` of a named tuple has its class as ``_cls``, ``__init__`` of a data class
    its instance as the first argument.
    """
    code, owner = frame.f_code, frame.f_locals.get("_cls")
    if code.co_name == "__init__":
        owner = type(frame.f_locals.get(code.co_varnames[0]))
    is_own = isinstance(owner, type) and owner.__module__.startswith("skdeeptd")
    is_record = hasattr(owner, "__dataclass_fields__") or hasattr(owner, "_fields")
    return owner if is_own and is_record else None


def trace(function):
    """Return the code objects of the package that a call runs, and the record types."""
    codes, made = set(), set()

    def profile(frame, event, argument):
        if event != "call":
            return
        path = frame.f_code.co_filename
        if path.startswith(str(SOURCE)) and not path.endswith(LEFT_OUT):
            codes.add(frame.f_code)
        if owner := record_made_by(frame):
            made.add(owner.__qualname__)

    threading.setprofile(profile)
    sys.setprofile(profile)
    try:
        function()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return codes, made


def constants_of(codes):
    """Return the module constants that code objects name."""
    known = {getattr(m, "__file__", None): vars(m) for m in sys.modules.values()}
    return {
        name
        for code in codes
        for name in code.co_names
        if name.isupper() and name in known.get(code.co_filename, ())
    }


def calls():
    """Return one call of each kind, on planted data."""
    X, y = make_patch_cnn_regression(300, (8, 8), noise=0.3, random_state=0)[:2]
    regressor = skdeeptd.DeepTDRegressor((8, 8), random_state=0)
    auto = getattr(skdeeptd, "DeepTDAutoRegressor", skdeeptd.DeepTDRegressorCV)
    classifier = skdeeptd.DeepTDClassifier((8, 8), random_state=0)
    return {
        "DeepTDRegressor.fit": lambda: regressor.fit(X, y),
        "DeepTDRegressor.predict": lambda: regressor.predict(X),
        f"{auto.__name__}.fit": lambda: auto(random_state=0).fit(X, y),
        "DeepTDClassifier.fit": lambda: classifier.fit(X, y > np.median(y)),
    }


def main():
    how = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    parser = argparse.ArgumentParser(description=__doc__, **how)
    parser.add_argument("--list", action="store_true", help="print the names too")
    lists_names = parser.parse_args().list
    warnings.simplefilter("ignore")
    lines = [count_code_lines(path) for path in SOURCE.rglob("*.py")]
    print(f"{len(lines)} files, {sum(lines)} lines of code")
    print(
        "| call | files | functions | constants | record types |\n|---|---|---|---|---|"
    )
    for name, call in calls().items():
        codes, records = trace(call)
        functions = {code for code in codes if code.co_name not in NO_FUNCTIONS}
        files = {code.co_filename for code in functions}
        found = files, functions, constants_of(codes), records
        print("|", " | ".join([name, *(str(len(names)) for names in found)]), "|")
        if lists_names:
            files = ((Path(c.co_filename).name, c.co_qualname) for c in functions)
            print(*(":".join(name) for name in sorted(files)), sep="\n")
            print(*map(sorted, found[2:]), sep="\n")


if __name__ == "__main__":
    main()
