"""The command `python -m comprehend_phi.testing.parity`."""

import sys

from .command import main

sys.exit(main())
