"""``python -m retina_plugin.study``, the former name of ``retina study``."""

import sys

from retina_cli.main import main

if __name__ == "__main__":
    sys.exit(main(["study", *sys.argv[1:]]))
