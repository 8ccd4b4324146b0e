"""How far the samples can be trusted."""
