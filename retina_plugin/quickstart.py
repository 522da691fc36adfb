"""``python -m retina_plugin.quickstart``, the former name of ``retina quickstart``."""

import sys

from retina_cli.main import main

if __name__ == "__main__":
    sys.exit(main(["quickstart", *sys.argv[1:]]))
