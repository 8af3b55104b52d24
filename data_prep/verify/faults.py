"""What verification finds wrong."""

import json
from typing import Any

from base import storage


class Faults:
    """What is wrong, by the stage that must be done again."""

    def __init__(self) -> None:
        self.found: list[tuple[str, str]] = []

    def check(self, holds: bool, stage: str, message: str) -> None:
        """Note the message unless it holds."""
        if not holds:
            self.found.append((stage, message))

    def read_json(self, location: str, stage: str) -> Any:
        """The content of a file that a stage has written. Raises CannotGoOn when it is not JSON."""
        try:
            return json.loads(storage.read_bytes(location))
        except ValueError as error:
            self.check(False, stage, f"{location}: not JSON: {error}")
            raise CannotGoOn from None


class CannotGoOn(Exception):
    """Without the file at fault nothing more can be checked; the fault is noted."""
