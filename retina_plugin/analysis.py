"""``python -m retina_plugin.analysis``, the former name of ``retina analyze``."""

import sys

from .apps.cli.analyze import main

if __name__ == "__main__":
    sys.exit(main())
