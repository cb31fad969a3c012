import os

# Before scipy is imported, so that scikit-learn's array API check runs too.
os.environ.setdefault("SCIPY_ARRAY_API", "1")
