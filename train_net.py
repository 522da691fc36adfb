#!/usr/bin/env python
"""Train or evaluate a RetinaNet: see ``python train_net.py --help`` and retina_plugin/engine/cli.py."""

import sys

from retina_plugin.engine.cli import main

if __name__ == "__main__":
    sys.exit(main())
