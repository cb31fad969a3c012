"""Choose the doctests of the pages.

pytest does not collect the input and output of a build, and skips the examples of a
section that imports a package which is not installed.
"""

import doctest
import importlib.util
import re
from bisect import bisect

collect_ignore = ["conf.py", "generated", "_build"]
collect_ignore_glob = ["*_picture.py"]
IMPORTED = re.compile(r"^\s*(?:from|import) (\w+)", re.MULTILINE)


def pytest_itemcollected(item):
    """Mark the examples of sections without their packages to be skipped."""
    lines = item.dtest.docstring.splitlines()
    underlines = [n for n, line in enumerate(lines) if re.fullmatch("--+", line)]
    section_of = {e: bisect(underlines, e.lineno) for e in item.dtest.examples}
    without = {
        section
        for example, section in section_of.items()
        for name in IMPORTED.findall(example.source)
        if importlib.util.find_spec(name) is None
    }
    for example, section in section_of.items():
        if section in without:
            example.options[doctest.SKIP] = True
