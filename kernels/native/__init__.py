"""The kernel for CPUs: C++ that is built at its first use."""
