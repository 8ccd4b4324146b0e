"""Import this where ceilings are measured and nobody reads them: they take a moment instead of four seconds."""

from bench.timing.ceilings import measure_ceilings

measure_ceilings.__defaults__ = (0.1,)
