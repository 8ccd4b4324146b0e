"""What it costs: forms, subjects, clocks and traces, and the command line.

Importing this package sets what must stand in the environment before torch is imported: threads that wait asleep, not
spinning, since a spinning thread slows whatever else runs on the machine; and a profiler that keeps its log to itself.
A training is left to the threads' own habit, a short spin before they sleep, which saves it a sixth of its time.
"""

import os
import sys

if sys.argv[1:2] != ["train"]:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("KINETO_LOG_LEVEL", "99")
