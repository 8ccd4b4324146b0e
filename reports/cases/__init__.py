"""What else each case says: work, memory, cold caches, all cases in one table, and why others have no time."""
