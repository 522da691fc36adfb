"""``python -m retina_plugin.export``."""

import sys

from .cli import main

sys.exit(main())
