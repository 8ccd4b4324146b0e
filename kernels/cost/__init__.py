"""What a launch costs: its work, the numbers of the GPU, and the seconds that follow from both."""
