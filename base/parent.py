"""What Linux does for a process when the one that started it dies without having said so."""

import ctypes

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None)  # loaded before any fork


def signal_at_death_of_parent(number: int) -> None:
    """Have the kernel send this process a signal once its parent is dead; its own children do not inherit that."""
    LIBC.prctl(PR_SET_PDEATHSIG, number)
