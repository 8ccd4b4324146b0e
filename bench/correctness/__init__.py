"""The float64 reference, routing decisions, and the comparison with them."""
