"""Run benchmarks, and save the tables that they print in docs/tables.

The documentation includes these files, and the table of the README repeats some of
their numbers. ``BENCHMARKS`` holds for each name a command and the tables that it
prints, in their order; "-" is a table that is not saved.

Run: python -m pip install ".[benchmarks]", then
python benchmarks/tables.py [NAME ...] [--printed FILE] [argument of the benchmark ...]

Without a name the names are listed. --printed saves the tables of an earlier output.
"""

import argparse
import itertools
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
FOLDER = HERE.parent / "docs" / "tables"
README = HERE.parent / "README.md"
IN_README = {
    "partial least squares": "PLS",
    "support vector regression": "SVR",
    "Gaussian process": "GaussianProcess",
    "gradient boosting (LightGBM)": "LightGBM",
    "MiniRocket": "MiniRocket",
    "QUANT": "QUANT",
    "`DeepTDAutoRegressor()`": "DeepTD",
}
BENCHMARKS = {
    "meat": ("real_data.py --sizes small --sets tecator", "- - meat"),
    "development": (
        "real_data.py --sizes small --splits 2",
        "development - development_ranks",
    ),
    "thousand": (
        "real_data.py --sizes whole --splits 2",
        "thousand - thousand_ranks",
    ),
    "fresh": (
        "real_data.py --sizes small --splits 2 --group fresh",
        "fresh - fresh_ranks",
    ),
    "ablation": ("ablation.py --splits 2", "ablation"),
    "classes": (
        "classification.py --parts real",
        "classes_accuracy classes_log_loss",
    ),
    "classes_simulated": (
        "classification.py --parts planted",
        "classes_simulated classes_kernels",
    ),
    "intervals": ("intervals.py", "intervals"),
    "recovery": ("recovery.py --slow-trials 2", "recovery recovery_time"),
    "noise": ("noise.py", "noise"),
    "inputs": ("inputs.py", "inputs"),
    "overlap": ("overlap.py", "overlap overlap_time"),
    "shared": ("shared.py --trials 3", "shared - -"),
    "choice": ("choice.py", "choice"),
    "outliers": ("outliers.py", "outliers"),
    "poisson": ("poisson.py", "poisson"),
    "depth": ("depth.py", "depth_sweep depth"),
    "speed": ("speed.py passes", "speed"),
    "speed_one_row": ("speed.py one_row", "speed_one_row"),
    "speed_filters": ("speed.py filters", "speed_filters"),
    "speed_defaults": ("speed.py defaults", "speed_defaults"),
    "speed_scaling": ("speed.py scaling", "speed_scaling"),
    "speed_memory": ("speed.py memory", "speed_memory"),
    "speed_peers": ("speed.py peers", "speed_peers"),
    "speed_dask": ("speed.py dask", "speed_dask"),
}


def printed_by(command):
    """Run a benchmark with one thread, show its output, and return the lines."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    call = [sys.executable, *command.split()]
    lines = []
    with subprocess.Popen(
        call, stdout=subprocess.PIPE, text=True, cwd=HERE, env=environment
    ) as process:
        for line in process.stdout:
            print(line, end="", flush=True)
            lines.append(line)
    if process.returncode:
        sys.exit(f"{' '.join(call)} failed")
    return lines


def save(name, lines):
    """Save the Markdown tables among the lines, with the command that printed them."""
    command, names = BENCHMARKS[name]
    groups = itertools.groupby(lines, lambda line: line.startswith("|"))
    tables = ["".join(group) for is_table, group in groups if is_table]
    names = names.split()
    if len(tables) != len(names):
        sys.exit(f"{name} has {len(names)} tables, but {len(tables)} were printed")
    for table_name, table in zip(names, tables, strict=True):
        if table_name != "-":
            text = f"`python benchmarks/{command}`:\n\n{{.numbers}}\n{table}"
            (FOLDER / f"{table_name}.md").write_text(text)


def read_table(name):
    """Return the rows of a saved table as lists of cells, the header first."""
    lines = (FOLDER / f"{name}.md").read_text().splitlines()
    head, _, *rows = [line[1:-1].split("|") for line in lines if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in (head, *rows)]


def readme_rows():
    """Return the lines of the table of the README, by the saved tables."""
    names = "fresh_ranks", "development_ranks", "meat"
    columns = [{row[0]: row[1] for row in read_table(name)} for name in names]
    return [
        " | ".join([f"| {shown}", *(column[m] for column in columns)]) + " |"
        for shown, m in IN_README.items()
    ]


def update_readme():
    before, head, rest = README.read_text().partition("| method |")
    table, after = rest.split("\n\n", maxsplit=1)
    lines = [head + table.split("\n")[0], table.split("\n")[1], *readme_rows()]
    README.write_text(before + "\n".join(lines) + "\n\n" + after)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--printed", type=Path, help="save the tables of this file")
    options, further = parser.parse_known_args()
    if unknown := set(options.names) - set(BENCHMARKS):
        parser.error(f"no name {sorted(unknown)}, only {list(BENCHMARKS)}")
    if not options.names:
        print("\n".join(f"{name:18} {row[0]}" for name, row in BENCHMARKS.items()))
    for name in options.names:
        if options.printed:
            lines = options.printed.read_text().splitlines(keepends=True)
        else:
            lines = printed_by(" ".join([BENCHMARKS[name][0], *further]))
        save(name, lines)
    update_readme()


if __name__ == "__main__":
    main()
