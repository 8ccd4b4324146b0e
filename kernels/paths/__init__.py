"""The ways to run a call, one path a file: its kernels in order, its work, and the tiles to try."""
