"""Read the tables that benchmarks/tables.py writes."""

from pathlib import Path

TABLES = Path(__file__).parent / "tables"


def read_table(name):
    """Return the rows of a table as lists of cells, the header first."""
    lines = (TABLES / f"{name}.md").read_text().splitlines()
    lines = [line for line in lines if line.startswith("|")]
    del lines[1]  # the rule below the header
    return [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
