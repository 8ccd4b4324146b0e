"""What every launch of a kernel needs: checked arguments, plans, descriptors, tickets, integers."""
