"""``python -m dgm``."""

import os
import sys


def is_here(path: str) -> bool:
    """Whether it is the working directory, which may have been removed."""
    try:
        return path in ("", os.getcwd())  # noqa: PTH109
    except FileNotFoundError:
        return path == ""


if __name__ == "__main__":
    # `python -m` searches the working directory first for every module, and it may contain files of a downloaded run
    if not sys.flags.safe_path and is_here(sys.path[0]):
        del sys.path[0]
    from dgm.cli.main import main

    sys.exit(main())
