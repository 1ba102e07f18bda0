"""From a file to pixels: headers, integrity, decoders."""
