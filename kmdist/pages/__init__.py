"""Pages about runs and nights that people click: one file each, or served live on loopback.

==================  ============================================================================
`run_report`        the page of a run, with images as it holds them
`night_report`      that of a nightly job
`notebook`          a run in a notebook; `napari`: in napari
`page`              templates, curves as SVG, and the policy that lets a page load nothing
`server`            the same page live, for runs too large to embed; `tiles` of its pyramids
==================  ============================================================================
"""
