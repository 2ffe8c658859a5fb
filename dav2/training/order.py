"""The order in which samples are seen: decided by a seed and a position, remembered nowhere."""

_MASK = (1 << 64) - 1
_NUM_ROUNDS = 6


def permuted(position: int, length: int, *, seed: int) -> int:
    """Returns the index of the sample at a position of an endless stream of passes.

    Each pass over the samples is an exact permutation of its own. Nothing is stored, so that any
    position can be asked for: training resumes anywhere, on any number of processes. A Feistel
    network permutes the next larger power of four, and walks on until it lands below `length`
    (cycle walking: Black and Rogaway 2002, "Ciphers with arbitrary finite domains").

    Args:
        position: Place in the stream, from 0; pass `position // length`.
        length: Number of samples.
        seed: Other seeds give other orders.

    Raises:
        ValueError: If there is no sample, or the position is negative.
    """
    if length < 1 or position < 0:
        raise ValueError(
            f"permuted: expected at least one sample and a position from 0, "
            f"got {length} samples and position {position}"
        )
    number, index = divmod(position, length)
    key = mixed(mixed(seed) ^ number)
    half = max(1, ((length - 1).bit_length() + 1) // 2)
    low = (1 << half) - 1
    while True:
        left, right = index >> half, index & low
        for turn in range(_NUM_ROUNDS):
            left, right = right, left ^ (mixed(key + (turn << 32) + right) & low)
        index = (left << half) | right
        if index < length:
            return index


def mixed(value: int) -> int:
    """Returns 64 well-mixed bits of an integer (SplitMix64: Steele et al. 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)
