import importlib.util
import os

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx_gallery.sorting import FunctionSortKey

import skdeeptd

project = "skdeeptd"
author = copyright = "the skdeeptd developers"
version = release = skdeeptd.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.intersphinx",
    "numpydoc",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "matplotlib.sphinxext.plot_directive",
    "matplotlib.sphinxext.figmpl_directive",
]
exclude_patterns = ["_build", "_templates", "tables"]
templates_path = ["_templates"]

# Without a network the inventory is empty: references to other packages stay text.
NO_NETWORK = (None, "no_network.inv")
intersphinx_mapping = {
    "sklearn": ("https://scikit-learn.org/stable", NO_NETWORK),
    "numpy": ("https://numpy.org/doc/stable", NO_NETWORK),
    "joblib": ("https://joblib.readthedocs.io/en/stable", NO_NETWORK),
}
intersphinx_timeout = 10
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(sklearn|numpy|joblib)\..*"),
    ("std:.*", "metadata_routing|meta-estimator|accuracy_score|r2_score"),
]

html_theme = "pydata_sphinx_theme"
html_title = "skdeeptd"
html_logo = html_favicon = "_static/logo.svg"  # readable on light and dark
html_theme_options = {
    "logo": {"text": "skdeeptd"},
    "github_url": "https://github.com/skdeeptd/skdeeptd",
    "navbar_persistent": ["search-button"],
    "navbar_end": ["version-switcher", "theme-switcher", "navbar-icon-links"],
    "switcher": {
        "json_url": "_static/versions.json",
        "version_match": os.environ.get("READTHEDOCS_VERSION", "latest"),
    },
    "check_switcher": False,
    "show_toc_level": 2,
}
html_static_path = ["_static"]
html_css_files = ["skdeeptd.css"]
pages_alone = ["index", "install", "benchmarks", "benchmark_tables"]
pages_alone += ["contributing", "changelog"]
html_sidebars = {page: [] for page in pages_alone}
html_show_sourcelink = False
html_copy_source = False
html_math_renderer = "mathml"

toc_object_entries_show_parents = "hide"
autodoc_typehints = "none"  # the docstrings say more
numpydoc_show_class_members = False  # the template lists them
numpydoc_xref_param_type = False

myst_enable_extensions = ["attrs_block"]

copybutton_prompt_text = r">>> |\.\.\. "
copybutton_prompt_is_regexp = True
copybutton_selector = ":not(.sphx-glr-script-out) > div.highlight > pre"

plot_formats = [("png", 100)]
plot_srcset = ["2x"]
plot_html_show_formats = False
plot_html_show_source_link = False
plot_pre_code = "import matplotlib.pyplot as plt"
plot_basedir = "."

EXAMPLES = [  # in the order of the gallery
    f"plot_{name}.py"
    for name in (
        "digits",
        "spectra",
        "novelty",
        "series",
        "channels",
        "features",
        "memory",
        "few_samples",
        "unknown_shape",
        "number_of_filters",
        "displays",
        "fine_tuning",
    )
]
sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "generated/gallery",
    "backreferences_dir": "generated/backreferences",
    "doc_module": ("skdeeptd",),
    "reference_url": {"skdeeptd": None},
    "within_subsection_order": FunctionSortKey(EXAMPLES.index),
    "image_srcset": ["2x"],
    "capture_repr": (),  # displays at the end of a cell
    "show_signature": False,
    "remove_config_comments": True,
    "write_computation_times": False,
}
if importlib.util.find_spec("torch") is None:
    sphinx_gallery_conf["ignore_pattern"] = "plot_fine_tuning"
    exclude_patterns.append("generated/gallery/plot_fine_tuning.rst")  # an older build


def write_mathml(writer, node):
    """Write MathML, which browsers draw without fetching MathJax from another site."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_display(writer, node):
    formula = tex2mathml(node.astext(), as_block=True)
    writer.body.append(f'<div class="formula">{formula}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (write_mathml, None), (write_display, None))
