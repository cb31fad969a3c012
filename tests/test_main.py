import re
import subprocess
import sys
import tomllib
from pathlib import Path

import matplotlib.image
import numpy as np

from skdeeptd import __main__, __version__

ROOT = Path(__file__).parent.parent


def run(*arguments):
    command = [sys.executable, "-m", "skdeeptd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_one_screen_with_the_version_the_extras_and_a_demonstration(tmp_path):
    done = run("--plot", str(tmp_path / "kernels.png"))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) < 24
    assert max(map(len, lines[:-1])) <= 100
    assert lines[0].startswith(f"skdeeptd {__version__}, Python")
    assert [line.split()[0] for line in lines[2:7]] == list(__main__.OPTIONAL)
    scores = {line[:34].strip(): float(line[34:].split()[0]) for line in lines[10:13]}
    ridge, moment, polished = scores.values()
    assert ridge < moment < polished
    assert polished > 0.98
    cosines = [float(c) for c in re.findall(r"\d\.\d{4}", lines[12][52:])]
    assert min(cosines) > 0.99
    picture = matplotlib.image.imread(tmp_path / "kernels.png")
    assert np.std(picture[..., :3]) > 0.05


def test_what_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(__main__.OPTIONAL, "torch", ["no-such-package"])
    (line,) = [line for line in __main__.installed() if "no-such-package" in line]
    assert 'no-such-package missing: python -m pip install "skdeeptd[torch]"' in line


def test_an_unknown_option_is_an_error_with_the_usage():
    done = run("--draw")
    assert done.returncode == 2
    assert "--plot FILE" in done.stderr


def test_the_extras_are_those_of_the_package():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = pyproject["project"]["optional-dependencies"]
    for extra, packages in __main__.OPTIONAL.items():
        named = {re.match(r"[\w-]+", package)[0] for package in extras[extra]}
        assert named == set(packages)
