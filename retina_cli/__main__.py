"""``python -m retina_cli`` is ``retina``."""

import sys

from .main import main

if __name__ == "__main__":
    sys.exit(main())
