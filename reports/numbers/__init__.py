"""Units, statistics, and groups."""
