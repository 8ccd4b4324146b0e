"""What it costs: forms, workloads, clocks and traces, and the command line."""
