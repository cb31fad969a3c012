"""Packages that come with an extra, imported where they are needed."""

import importlib


def optional(module, extra):
    """The module; ImportError that names the extra where it cannot be imported."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs {module}, which cannot be imported: {error}; install it with "
            f'python -m pip install "skdeeptd[{extra}]"'
        ) from error
