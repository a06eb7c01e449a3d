"""``python -m dgm``."""

import sys

from dgm.cli.main import main

sys.exit(main())
