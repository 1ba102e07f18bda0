"""The run format: names, layout, chunks, metadata."""
