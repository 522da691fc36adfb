#!/usr/bin/env python
"""Train or evaluate a RetinaNet: see ``python train_net.py --help`` and retina_plugin/engine/cli.py."""

import sys

from retina_plugin.engine.arguments import argument_parser

if __name__ == "__main__":
    argument_parser().parse_args()  # answers --help and mistakes before the seconds that importing torch takes
    from retina_plugin.engine.cli import main

    sys.exit(main())
