"""The report of several runs: one page with a table, samples, figures, and the provenance of every number."""

import os

# matplotlib takes settings, some of which it evaluates, from a file `matplotlibrc` in the working directory, which
# may contain files of a downloaded run
exists = os.path.exists
os.path.exists = lambda path: path != "matplotlibrc" and exists(path)
try:
    import matplotlib  # noqa: F401
finally:
    os.path.exists = exists
