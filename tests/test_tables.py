"""The numbers of the README are those of the tables that benchmarks write."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
read_table = runpy.run_path(str(ROOT / "docs" / "read_table.py"))["read_table"]
METHODS = {
    "PLS": "PLS",
    "support vector regression": "SVR",
    "Gaussian process": "GaussianProcess",
    "gradient boosting (LightGBM)": "LightGBM",
    "MiniRocket": "MiniRocket",
    "QUANT": "QUANT",
    "`DeepTDAutoRegressor()`": "DeepTD",
}


def readme_rows():
    """Return the cells of each method in the README."""
    lines = (ROOT / "README.md").read_text().splitlines()
    rows = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return {cells[0]: cells[1:] for cells in rows if cells[0] in METHODS}


def test_readme_compares_all_methods():
    assert list(readme_rows()) == list(METHODS)


@pytest.mark.parametrize("name", METHODS)
def test_numbers_of_the_readme_are_those_of_the_tables(name):
    tables = [read_table(t) for t in ("meat", "development_ranks", "fresh_ranks")]
    expected = [
        next(row[1] for row in table if row[0] == METHODS[name]) for table in tables
    ]
    assert readme_rows()[name] == expected


def test_readme_and_ranks_agree_on_the_number_of_data_sets():
    (header,) = re.findall(r"\| method \|.*", (ROOT / "README.md").read_text())
    for name in ("development", "fresh"):
        n_sets = len(read_table(name)) - 1
        assert read_table(f"{name}_ranks")[0][0] == f"small, {n_sets} sets"
        assert re.search(rf"\b{n_sets}\b", header)


def test_all_tables_are_shown_and_known_to_the_program_that_writes_them():
    saved = {path.stem for path in (ROOT / "docs" / "tables").glob("*.md")}
    pages = "".join(p.read_text() for p in (ROOT / "docs").glob("benchmark*.md"))
    assert saved == set(re.findall(r"\{include\} tables/(\w+)\.md", pages))
    program = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))
    names = " ".join(names for _, names in program["BENCHMARKS"].values()).split()
    assert saved == set(names) - {"-"}
