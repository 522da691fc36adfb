"""``python -m retina_plugin`` is ``retina``."""

import sys

from .apps.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
