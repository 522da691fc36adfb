"""``python -m retina_plugin.quickstart``."""

import sys

from .apps.quickstart import main

if __name__ == "__main__":
    sys.exit(main())
