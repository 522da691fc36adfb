"""``python -m retina_plugin.analysis``, the former name of ``retina analyze``."""

import sys

from retina_cli.main import main

if __name__ == "__main__":
    sys.exit(main(["analyze", *sys.argv[1:]]))
