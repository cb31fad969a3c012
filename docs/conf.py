import importlib.util
import pydoc

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
    "numpydoc",
    "myst_parser",
    "sphinx_design",
    "sphinx_gallery.gen_gallery",
    "matplotlib.sphinxext.plot_directive",
    "matplotlib.sphinxext.figmpl_directive",
]
exclude_patterns = ["_build", "_templates", "tables"]
templates_path = ["_templates"]
nitpicky = True

html_theme = "pydata_sphinx_theme"
html_title = "skdeeptd"
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
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
    "write_computation_times": False,
}
if importlib.util.find_spec("torch") is None:
    sphinx_gallery_conf["ignore_pattern"] = "plot_fine_tuning"
    exclude_patterns.append("generated/gallery/plot_fine_tuning.rst")  # an older build


# Docstrings, mostly inherited ones, refer to other packages. Names that exist there
# become links, so that broken references need not be ignored.
SKLEARN = "https://scikit-learn.org/stable"
OBJECTS = {
    "sklearn": f"{SKLEARN}/modules/generated",
    "numpy": "https://numpy.org/doc/stable/reference/generated",
    "joblib": "https://joblib.readthedocs.io/en/stable/generated",
}
LABELS = {
    "metadata_routing": f"{SKLEARN}/metadata_routing.html",
    "meta-estimator": f"{SKLEARN}/glossary.html#term-meta-estimator",
    "accuracy_score": f"{SKLEARN}/modules/model_evaluation.html#accuracy-score",
    "r2_score": f"{SKLEARN}/modules/model_evaluation.html#r2-score",
}


def link_elsewhere(app, env, node, content):
    target = node["reftarget"]
    url, folder = LABELS.get(target), OBJECTS.get(target.split(".")[0])
    if folder and pydoc.locate(target):
        url = f"{folder}/{target}.html"
    return url and nodes.reference("", "", content, internal=False, refuri=url)


def write_mathml(writer, node):
    """Write MathML, which browsers draw without fetching MathJax from another site."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def write_display(writer, node):
    writer.body.append(tex2mathml(node.astext(), as_block=True))
    raise nodes.SkipNode


def setup(app):
    app.connect("missing-reference", link_elsewhere)
    app.add_html_math_renderer("mathml", (write_mathml, None), (write_display, None))
