"""A Mixture of Experts in Triton kernels, each beside its reference in plain PyTorch."""
