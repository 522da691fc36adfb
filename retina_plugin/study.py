"""``python -m retina_plugin.study``, the former name of ``retina study``."""

import sys

from .apps.cli.study import main

if __name__ == "__main__":
    sys.exit(main())
