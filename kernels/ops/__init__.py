"""The kernels, each beside its reference in plain PyTorch."""
