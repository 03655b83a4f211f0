"""`python -m dreamerv2` is the `dreamerv2` command."""

import sys

from dreamerv2.cli import main

sys.exit(main())
