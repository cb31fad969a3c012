"""Packages that come with an extra, imported where they are needed."""

import importlib
from collections.abc import Iterable
from types import ModuleType

EXTRAS = {  # as in pyproject.toml
    "plot": ["matplotlib>=3.8"],
    "dask": ["dask[array]>=2025.4.1", "distributed>=2025.4.1"],
    "torch": ["torch>=2"],
    "onnx": ["onnx>=1.17", "onnxruntime>=1.19", "skl2onnx>=1.18"],
    "skops": ["skops>=0.11"],
}


def installation(requirements: Iterable[str]) -> str:
    """The command that installs them."""
    return "python -m pip install " + " ".join(f'"{r}"' for r in requirements)


def optional(module: str, extra: str) -> ModuleType:
    """The module; ImportError that says how to install it where that fails."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs {module}, which cannot be imported: {error}; install it with "
            f"{installation(EXTRAS[extra])}"
        ) from error
