"""How the C library treats memory between two training steps."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3
"""From `malloc.h` of the GNU C library."""


def keep_freed_memory() -> None:
    """Lets this process keep what it frees, for the next step asks for the same again.

    The GNU C library hands large blocks back to the system, which then clears page by page what the
    next step asks for: on a CPU a fifth of a step of the smallest model. Other C libraries do
    otherwise; there, nothing is changed. No number depends on it.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    libc.mallopt(_M_MMAP_THRESHOLD, 2**30)
    libc.mallopt(_M_TRIM_THRESHOLD, 2**30)
    libc.mallopt(_M_TOP_PAD, 2**28)
