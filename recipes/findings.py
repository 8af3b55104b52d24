"""What the checks before training have found, and how it is told. Imports nothing heavy."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from base.errors import NotThere, StoreTrouble, UserError
from base.progress import say
from model.checkpoint import Checkpoint
from model.config import GPTConfig


@dataclass(frozen=True)
class Shards:
    """A folder with packed sequences; ``sha256`` is of what they hold, wherever they lie."""

    place: str
    samples: int
    sha256: str
    bytes: int  # as they lie on a node's disk
    index_bytes: int
    largest_shard: int
    ids_seen: str = ""  # of which shards the ids were looked at; nothing while the vocabulary is not known


@dataclass
class Findings:
    """What was found.

    ``faults`` must be mended; ``missing`` is not there yet, or not to be seen from here, ``for_now`` of it since the
    store fails; ``warnings`` should be read.
    """

    model: GPTConfig | None = None
    tokenizer_sha256: str | None = None
    entries: int | None = None
    end_of_text: int | None = None
    shards: dict[str, Shards] = field(default_factory=dict)  # by the key of the configuration
    samples: int | None = None  # of an epoch
    shard_bytes: dict[str, float] = field(default_factory=dict)  # that a cache folder has to hold
    batches: int | None = None
    sequences: int | None = None  # that the whole run trains, those before its checkpoint included
    trained: int = 0  # of these, before the checkpoint that it goes on from
    done: float = 0.0  # the part of the run that lies before the checkpoint that it goes on from
    checkpoints: list[Checkpoint] = field(default_factory=list)
    resume_from: Checkpoint | None = None  # the newest whole one of the run itself, or else the one at load_path
    faults: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    for_now: set[str] = field(default_factory=set)
    warnings: list[str] = field(default_factory=list)

    def take(self, *looks: Callable[[], None]) -> None:
        """Take every look, whatever is wrong in the others."""
        for look in looks:
            try:
                look()
            except NotThere as error:
                self.missing.append(str(error))
                if isinstance(error, StoreTrouble):
                    self.for_now.add(str(error))
            except UserError as error:
                self.faults.append(str(error))


def require_sound(found: Findings, missing_too: bool) -> None:
    """Raise one UserError with all faults, a StoreTrouble when there are no others; ``missing_too`` counts what is not
    there yet as well."""
    faults = found.faults + (found.missing if missing_too else [])
    if faults:
        number = f"{len(faults)} fault{'s' if len(faults) > 1 else ''}"
        kind = StoreTrouble if found.for_now.issuperset(faults) else UserError
        raise kind(f"{number} before training\n" + "\n".join(f"  {fault}" for fault in faults), shared=True)


def tell_warnings(found: Findings) -> None:
    """Say what should be read, on rank 0; the run sheet of ``--check`` has it, too."""
    if os.environ.get("RANK", "0") == "0":
        for warning in found.warnings:
            say(f"warning: {warning}")
