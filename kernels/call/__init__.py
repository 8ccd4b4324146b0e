"""One call: it checks and names its arguments, and runs as a torch operator."""
