"""`python -m codax` is the `codax` command."""

import sys

from codax.cli.main import main

sys.exit(main())
