"""Lossless compression with the likelihood of a model: entropy coding, codecs, the container, and files."""
