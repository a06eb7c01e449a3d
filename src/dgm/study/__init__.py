"""A human study: raters tell real examples from generated ones, and choose the better of two."""
