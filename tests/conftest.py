import os

import pytest

# Before scipy is imported, so that scikit-learn's array API check runs too.
os.environ.setdefault("SCIPY_ARRAY_API", "1")


@pytest.fixture
def without_verdict(monkeypatch):
    """Fits without the networks of rows held out, where many are repeated."""
    from skdeeptd._base import BasePatchRegressor

    monkeypatch.setattr(BasePatchRegressor, "_store_verdict", lambda *_: None)
