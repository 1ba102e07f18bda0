"""Sphinx: ``pip install -e '.[docs]' && python -m sphinx -W docs docs/_build``."""

import matplotlib
from sphinx_gallery.sorting import ExplicitOrder

import kmdist

matplotlib.use("agg")

project = "kmdist"
author = "the kmdist developers"
version = release = kmdist.__version__
extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_click",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build", "*.md", "examples", "**/sg_execution_times.rst"]
html_theme = "pydata_sphinx_theme"
html_title = "kmdist"
html_theme_options = {
    "logo": {"text": "kmdist"},
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "header_links_before_dropdown": 7,
    "navbar_persistent": ["search-button"],  # the field's name is not what it shows
    "collapse_navigation": True,
}
html_context = {"default_mode": "auto"}
html_sidebars = {"index": []}
html_show_sourcelink = False
html_static_path = ["_static"]
html_css_files = ["kmdist.css"]
smartquotes = False  # "--resume" is an option
autosummary_generate = True
autodoc_typehints = "none"
default_role = "code"
numpydoc_show_class_members = False
GALLERY = [
    "colors",
    "face",
    "color_texture",
    "textures",
    "segment",
    "digits",
    "sweep",
    "report",
    "predict",
    "spaces",
    "choose_k",
    "estimator",
    "bisecting",
    "dask_ml",
]
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "within_subsection_order": ExplicitOrder([f"plot_{name}.py" for name in GALLERY]),
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "capture_repr": ("_repr_html_",),
}
