"""Every file format, shared by who writes and who reads."""
