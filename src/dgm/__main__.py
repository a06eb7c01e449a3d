"""``python -m dgm``."""

import os
import sys

if __name__ == "__main__":
    # `python -m` searches the working directory first for every module, and it may contain files of a downloaded run
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
        del sys.path[0]
    from dgm.cli.main import main

    sys.exit(main())
