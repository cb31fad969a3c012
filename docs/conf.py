import skdeeptd

project = "skdeeptd"
author = copyright = "the skdeeptd developers"
version = release = skdeeptd.__version__

extensions = ["sphinx.ext.autodoc", "sphinx.ext.autosummary", "numpydoc"]
exclude_patterns = ["_build"]
html_theme = "pydata_sphinx_theme"
html_title = "skdeeptd"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}

autosummary_generate = True
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
# Labels and classes of scikit-learn and joblib, named in inherited docstrings.
suppress_warnings = ["ref.ref", "ref.term"]
