"""Forms that another package executes: ONNX Runtime and the kernels of peers."""
