"""What every launch of a kernel needs: checked arguments, descriptors, tickets, integers."""
