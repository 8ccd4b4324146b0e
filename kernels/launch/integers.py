"""Integers on the host: triton.cdiv and triton.next_power_of_2 are for kernels too, and take microseconds here."""


def cdiv(size: int, part: int) -> int:
    """Return how many parts hold `size`."""
    return -(-size // part)


def next_power_of_2(size: int) -> int:
    """Return the least power of two that is not below `size`, which is at least 1."""
    return 1 << (size - 1).bit_length()
