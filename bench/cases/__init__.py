"""One way from a case to its record: prepare, check, sample, write."""
