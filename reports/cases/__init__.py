"""What else the cases say: work, memory, cold caches, all cases in one table, and why others have no time."""
