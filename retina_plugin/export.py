"""``python -m retina_plugin.export``, the former name of ``retina export``."""

import sys

from retina_cli.main import main

if __name__ == "__main__":
    sys.exit(main(["export", *sys.argv[1:]]))
