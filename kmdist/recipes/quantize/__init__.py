"""Photographs to palettes: one for a collection, or one an image."""
