"""What all forms share: their contract, the names of their stages, their steps, and rows sorted by expert."""
