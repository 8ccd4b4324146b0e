"""From how many rows on sparse beats dense."""
