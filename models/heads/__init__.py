"""The dense, soft and sparse heads, their experts, and what each costs."""
