#!/usr/bin/env python
"""``python train_net.py`` is ``retina train``: train or evaluate a RetinaNet."""

import sys

from retina_cli.main import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]], prog="train_net.py"))
