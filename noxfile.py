"""The tasks of a developer, each in its own environment: ``nox -l`` lists them."""

import glob

import nox

nox.needs_version = ">=2025"
nox.options.default_venv_backend = "uv|virtualenv"


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, or those that are named."""
    session.install("-e.[tests]")
    session.run("pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Lint, check the format, and check the types."""
    session.install("-e.[tests,types]")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("mypy")
    session.run("pyright", "tests/typed_script.py")


@nox.session(default=False)
def docs(session: nox.Session) -> None:
    """Build the documentation into docs/_build, and check its links."""
    session.install("-e.[docs]")
    session.run("python", "-m", "sphinx", "-W", "docs", "docs/_build")
    session.run("python", "docs/check_links.py", "docs/_build")


@nox.session(default=False)
def benchmarks(session: nox.Session) -> None:
    """List the benchmarks, or run the one that is named, with its options."""
    if not session.posargs:
        session.log("\n".join(sorted(glob.glob("benchmarks/*.py"))))
        return
    session.install("-e.[benchmarks]")
    session.run("python", *session.posargs)


@nox.session(default=False)
def tools(session: nox.Session) -> None:
    """Run the pages of the documentation with other packages, and mlflow."""
    session.install("-e.[tests,tools]")
    # Warnings of the other packages are no errors.
    pages = ["docs/preprocessing.rst", "docs/other_tools.rst", "tests/test_saving.py"]
    session.run("pytest", "-n0", "-Wdefault", *pages, *session.posargs)


@nox.session(default=False)
def build(session: nox.Session) -> None:
    """Build and check the archive and the wheel in dist."""
    session.install("build", "twine")
    session.run("python", "-m", "build")
    session.run("twine", "check", "--strict", *glob.glob("dist/*"))
