"""``python -m dgm``."""

import os
import sys

if __name__ == "__main__":
    # `python -m` looks for every module in the working directory first; beside a downloaded run anything may lie
    if not sys.flags.safe_path and sys.path[0] in ("", os.getcwd()):  # noqa: PTH109
        del sys.path[0]
    from dgm.cli.main import main

    sys.exit(main())
