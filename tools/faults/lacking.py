"""``train_net.py`` in which memory runs out once, in process 1 of those that torchrun started."""

import os
import sys

from whole_runs import at_iteration, run_out_of_memory

from retina_plugin.training import run as cli

if os.environ["RANK"] == "1":
    at_iteration(run_out_of_memory)()
sys.exit(cli.main())
