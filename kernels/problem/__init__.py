"""What a call computes and how it is executed, in sizes and options."""
