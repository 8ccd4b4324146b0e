"""Clocks, sampling, caches, disturbance, memory, energy, and what the machine can do at most."""
