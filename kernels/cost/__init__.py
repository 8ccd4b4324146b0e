"""What a launch costs: what it does, what the GPU offers, and the seconds that follow."""
