"""What a call is: its experts, routing and sizes, and the options of the kernels that run it."""
