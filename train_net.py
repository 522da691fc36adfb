#!/usr/bin/env python
"""Train or evaluate a RetinaNet: see ``python train_net.py --help`` and retina_plugin/apps/cli/train.py."""

import sys

from retina_plugin.training.arguments import argument_parser

if __name__ == "__main__":
    argument_parser().parse_args()  # answers --help and mistakes before the seconds that importing torch takes
    from retina_plugin.training.run import main

    sys.exit(main())
