"""Pages about runs and nights that people click: one file each, or served live on loopback.

==================  ============================================================================
`run_report`        the page of a run, and `night_report` that of a nightly job
`embedding`         images of a run as a page holds them
`charts`            curves as SVG
`page`              templates, and the policy that lets a page load nothing
`server`            the same page live, for runs too large to embed; `tiles` of its pyramids
==================  ============================================================================
"""
