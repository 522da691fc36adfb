"""``python -m retina_plugin.export``, the former name of ``retina export``."""

import sys

from .apps.cli.export import main

if __name__ == "__main__":
    sys.exit(main())
