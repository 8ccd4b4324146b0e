"""Units and statistics."""
