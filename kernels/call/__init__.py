"""One call: its arguments checked and named, and the torch operator that runs it."""
