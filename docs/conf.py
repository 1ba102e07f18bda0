"""Sphinx: ``pip install -e '.[docs]' && python -m sphinx -W docs docs/_build``."""

import matplotlib

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
html_theme_options = {"show_toc_level": 2, "navigation_with_keys": False}
html_static_path: list[str] = []
autosummary_generate = True
autodoc_typehints = "none"
default_role = "code"
numpydoc_show_class_members = False
sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "/plot_",
    "within_subsection_order": "FileNameSortKey",
    "abort_on_example_error": True,
    "download_all_examples": False,
    "show_memory": False,
    "capture_repr": ("_repr_html_",),
}
