"""``python -m cometlog``: the command line."""

import sys

from cometlog.cli import main

sys.exit(main())
