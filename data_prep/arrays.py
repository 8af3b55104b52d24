"""Arrays in files of the work folder."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from base.storage import write_aside


def save_array(path: Path, array: NDArray[np.generic]) -> None:
    """Write a ``.npy`` file, which appears whole or not at all."""
    with write_aside(path) as aside, open(aside, "wb") as file:
        np.save(file, array)
