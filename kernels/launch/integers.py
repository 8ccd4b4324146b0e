"""Integer functions for the host: triton.cdiv and triton.next_power_of_2 work there too, but take microseconds."""


def cdiv(size: int, part: int) -> int:
    """Return how many parts of `part` hold `size`."""
    return -(-size // part)


def next_power_of_2(size: int) -> int:
    """Return the least power of two that is at least `size`; `size` is 1 or more."""
    return 1 << (size - 1).bit_length()
