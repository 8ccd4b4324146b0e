"""What the compiler makes of kernels, without a GPU: what is compiled, for which targets, and what is read off it."""
