"""``python -m retina_plugin.data.sample``."""

import sys

from .files import main

if __name__ == "__main__":
    sys.exit(main())
