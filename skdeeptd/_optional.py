"""Import packages that come with an extra."""

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
    """Return the command that installs the requirements."""
    return "python -m pip install " + " ".join(f'"{r}"' for r in requirements)


def optional(module: str, extra: str) -> ModuleType:
    """Import a module; if that fails, raise an error with the command to install it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs {module}, which cannot be imported: {error}; install it with "
            f"{installation(EXTRAS[extra])}"
        ) from error
