"""Figures have one source: the tables that benchmarks write."""

import re
import runpy
from pathlib import Path

ROOT = Path(__file__).parents[1]
program = runpy.run_path(str(ROOT / "benchmarks" / "tables.py"))


def test_readme_repeats_the_tables_of_the_documentation():
    assert "\n".join(program["readme_rows"]()) in (ROOT / "README.md").read_text()


def test_readme_and_ranks_agree_on_the_number_of_data_sets():
    (header,) = re.findall(r"\| method \|.*", (ROOT / "README.md").read_text())
    read_table = program["read_table"]
    for name in ("development", "fresh"):
        n_sets = len(read_table(name)) - 1
        assert read_table(f"{name}_ranks")[0][0] == f"small, {n_sets} sets"
        assert re.search(rf"\b{n_sets}\b", header)


def test_every_saved_table_has_a_benchmark_and_a_place_in_the_documentation():
    saved = {path.stem for path in (ROOT / "docs" / "tables").glob("*.md")}
    pages = "".join(p.read_text() for p in (ROOT / "docs").glob("benchmark*.md"))
    assert saved == set(re.findall(r"\{include\} tables/(\w+)\.md", pages))
    names = " ".join(names for _, names in program["BENCHMARKS"].values()).split()
    assert saved == set(names) - {"-"}
