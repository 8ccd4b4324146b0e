"""Two results compared, and the gate."""
