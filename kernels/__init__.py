"""Triton kernels of the sparse head, each beside its plain-PyTorch reference."""
