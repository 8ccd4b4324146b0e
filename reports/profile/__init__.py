"""Where a call spends its time."""
