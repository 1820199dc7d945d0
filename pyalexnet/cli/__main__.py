"""``python -m pyalexnet.cli`` is the command ``pyalexnet``."""

import sys

from pyalexnet.cli import main

sys.exit(main())
