"""``python -m retina_plugin.data.sample``, the former name of ``retina sample``."""

import sys

from retina_cli.main import main

if __name__ == "__main__":
    sys.exit(main(["sample", *sys.argv[1:]]))
