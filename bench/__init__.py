"""What it costs: forms, subjects, clocks and traces, and the command line.

Importing this package sets two variables that torch reads when it is imported. Threads sleep while they wait, because a
spinning thread slows whatever else runs on the machine; only a training keeps the default, a short spin before sleep,
which saves a sixth of its time. The profiler does not log.
"""

import os
import sys

if sys.argv[1:2] != ["train"]:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
