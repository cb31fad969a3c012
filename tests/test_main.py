import re
import subprocess
import sys
import tomllib
from pathlib import Path

import matplotlib.image
import numpy as np
import pytest

from skdeeptd import __main__, __version__
from skdeeptd._optional import EXTRAS, optional

ROOT = Path(__file__).parent.parent


def run(*arguments, cwd=None):
    command = [sys.executable, "-m", "skdeeptd", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)


def test_one_screen_with_the_version_the_extras_and_a_demonstration(tmp_path):
    done = run("--plot", str(tmp_path / "kernels.png"))
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) < 24
    assert max(map(len, lines[:-1])) <= 100
    assert lines[0].startswith(f"skdeeptd {__version__}, Python")
    assert [line.split()[0] for line in lines[2:7]] == list(EXTRAS)
    scores = {line[:34].strip(): float(line[34:].split()[0]) for line in lines[10:13]}
    ridge, moment, polished = scores.values()
    assert ridge < moment < polished
    assert polished > 0.98
    cosines = [float(c) for c in re.findall(r"\d\.\d{4}", lines[12][52:])]
    assert min(cosines) > 0.99
    picture = matplotlib.image.imread(tmp_path / "kernels.png")
    assert np.std(picture[..., :3]) > 0.05


def test_what_is_missing_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(EXTRAS, "torch", ["no-such-package>=2"])
    (line,) = [line for line in __main__.installed() if "no-such-package" in line]
    command = 'python -m pip install "no-such-package>=2"'
    assert f"torch  missing: {command}" in line
    with pytest.raises(ImportError, match=re.escape(command)):
        optional("no_such_package", extra="torch")


def test_only_what_is_missing_is_to_be_installed(monkeypatch):
    monkeypatch.setitem(EXTRAS, "torch", ["numpy>=1", "no-such-package>=2"])
    (line,) = [line for line in __main__.installed() if "no-such-package" in line]
    assert line.endswith('pip install "no-such-package>=2"')


def test_the_screen_is_no_wider_without_the_extras(monkeypatch):
    monkeypatch.setattr(__main__, "version", lambda _: None)
    lines = list(__main__.installed())
    assert sum(" missing: " in line for line in lines) == len(EXTRAS)
    assert max(map(len, lines)) <= 100


def test_a_picture_without_a_name_says_where_it_is(tmp_path):
    done = run("--plot", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f": {__main__.PICTURE}")
    assert (tmp_path / __main__.PICTURE).exists()


@pytest.mark.parametrize("named", [True, False])
def test_a_file_that_exists_is_not_overwritten(tmp_path, named):
    name = "notes.png" if named else __main__.PICTURE
    (tmp_path / name).write_text("not a picture")
    done = run("--plot", *([name] if named else []), cwd=tmp_path)
    assert done.returncode == 2
    assert f"{name} exists; name another file" in done.stderr
    assert (tmp_path / name).read_text() == "not a picture"


def test_the_citation_and_the_changelog_have_the_version():
    citation = (ROOT / "CITATION.cff").read_text()
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == __version__
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == __version__


def test_an_unknown_option_is_an_error_with_the_usage():
    done = run("--draw")
    assert done.returncode == 2
    assert "--plot [FILE]" in done.stderr


def test_the_extras_are_those_of_the_package():
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())
    extras = pyproject["project"]["optional-dependencies"]
    for extra, requirements in EXTRAS.items():
        assert requirements == extras[extra]
