"""Packages that come with an extra, imported where they are needed."""

import importlib
from types import ModuleType

EXTRAS = {  # as in pyproject.toml
    "plot": ["matplotlib>=3.8"],
    "dask": ["dask[array]>=2025.4.1", "distributed>=2025.4.1"],
    "torch": ["torch>=2"],
    "onnx": ["onnx>=1.17", "onnxruntime>=1.19", "skl2onnx>=1.18"],
    "skops": ["skops>=0.11"],
}


def installation(extra: str) -> str:
    """The command that installs what an extra asks for."""
    return "python -m pip install " + " ".join(f'"{p}"' for p in EXTRAS[extra])


def optional(module: str, extra: str) -> ModuleType:
    """The module; ImportError that says how to install it where that fails."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            f"this needs {module}, which cannot be imported: {error}; install it with "
            f"{installation(extra)}"
        ) from error
