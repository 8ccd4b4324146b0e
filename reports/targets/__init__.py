"""Which targets our kernels meet."""
