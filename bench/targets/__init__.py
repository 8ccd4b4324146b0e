"""Our kernels beside their peers, and which targets they meet."""
