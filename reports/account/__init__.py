"""The account of the gap between the floor and the measured time."""
