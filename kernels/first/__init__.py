"""What the first minutes on a GPU should show: a step a file, most important first."""
