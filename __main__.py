"""``python -m transfer_parity``: the same as ``python compare.py`` in a checkout."""

import sys

from transfer_parity.compare import main

sys.exit(main())
