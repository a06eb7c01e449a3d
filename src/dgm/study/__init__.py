"""A human study: raters distinguish real examples from generated ones, and choose the better of two."""
