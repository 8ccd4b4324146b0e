"""The ways of executing a call, one a file: its kernels in order, its work, and the tiles worth a look."""
