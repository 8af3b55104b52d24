"""What guards have done to a run, beside its checkpoints: batches to leave out, and where it has stopped.

``SAVE_FOLDER/guard.json``. Without a save_folder nothing is recorded. Imports nothing heavy.
"""

import json
from dataclasses import asdict, dataclass, field
from typing import Any

from base import storage
from base.errors import UserError
from model.checkpoint import Checkpoint, list_checkpoints

RECORD = "guard.json"


@dataclass(frozen=True)
class LeftOut:
    """Batches ``from_batch`` (the checkpoint that was gone back to) up to ``to_batch``, without it."""

    from_batch: int
    to_batch: int
    from_sample: int
    to_sample: int
    reason: str
    written: str


@dataclass(frozen=True)
class Stop:
    """A guard has stopped the run at this batch, counted from 0."""

    batch: int
    reason: str
    written: str


@dataclass
class Interventions:
    """The record; a run reads it at its start, and its guard writes it."""

    left_out: list[LeftOut] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)

    @property
    def samples(self) -> list[tuple[int, int]]:
        """The ranges of sequences that are not to be trained."""
        return [(one.from_sample, one.to_sample) for one in self.left_out]

    def leave_out(self, batch: int) -> bool:
        """Whether a checkpoint after so many batches is one of those that were gone back behind.

        One at ``to_batch`` is not: before the guard none was written there, afterwards at the end of an epoch.
        """
        return any(one.from_batch < batch < one.to_batch for one in self.left_out)


def read_interventions(save_folder: str | None) -> Interventions:
    """What the record says; nothing when there is none. Raises UserError when it is damaged."""
    place = storage.join(save_folder, RECORD) if save_folder is not None else None
    if place is None or not storage.exists(place):
        return Interventions()
    try:
        record: dict[str, Any] = json.loads(storage.read_bytes(place))
        left_out = [LeftOut(**one) for one in record["left_out"]]
        return Interventions(left_out, [Stop(**one) for one in record["stops"]])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{place}: damaged: {error}; it says which batches are left out: mend it, or delete it to train them"
        ) from error


def write_interventions(save_folder: str, interventions: Interventions) -> None:
    """Replace the record."""
    storage.write_bytes(storage.join(save_folder, RECORD), json.dumps(asdict(interventions), indent=1).encode())


def to_go_on_from(save_folder: str) -> list[Checkpoint]:
    """The whole checkpoints of a run that are not left out, oldest first."""
    interventions = read_interventions(save_folder)
    return [one for one in list_checkpoints(save_folder) if one.whole and not interventions.leave_out(one.batch)]
