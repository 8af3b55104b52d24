"""Copies many short runs of ids at once: numpy has a function for one run, and for single ids."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True)
def copy_runs(
    source: NDArray[np.uint16], begin: NDArray[np.int64], length: NDArray[np.int32], target: NDArray[np.uint16],
    to: NDArray[np.int64],
) -> None:  # fmt: skip
    """For each run, copy ``length`` ids from ``source``, from place ``begin`` on, to ``target``, from place ``to`` on.
    Every run lies within both."""
    for run in range(len(begin)):
        for place in range(length[run]):
            target[to[run] + place] = source[begin[run] + place]
