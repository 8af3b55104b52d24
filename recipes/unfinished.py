"""What an evaluation that was cut off had scored already: it is not scored again by the same command."""

import hashlib
import json
from typing import Any

from base import storage
from eval.prompts import Prepared
from eval.results import Likelihoods


class Unfinished:
    """``OUT/NAME.unfinished/PROTOCOL.json`` until the results are written. Used on rank 0 alone.

    Args:
        identity: all that decides the likelihoods but for the questions: the model's contents, how it is computed.
    """

    def __init__(self, out: str, name: str, identity: dict[str, Any]):
        self.folder = storage.join(out, f"{name}.unfinished")
        self.identity = identity

    def read(self, prepared: Prepared) -> tuple[Likelihoods, dict[str, float]] | None:
        """The likelihoods as :meth:`keep` was given them; None where they are of another model or other questions."""
        place = storage.join(self.folder, f"{prepared.name}.json")
        if not storage.exists(place):
            return None
        try:
            kept = json.loads(storage.read_bytes(place))
        except ValueError:  # of another program: what is ours is written whole
            return None
        if not isinstance(kept, dict) or kept.get("key") != self._key(prepared):
            return None
        return {id: tuple(values) for id, values in kept["found"].items()}, kept["without_question"]

    def keep(self, prepared: Prepared, found: Likelihoods, without_question: dict[str, float]) -> None:
        record = {"key": self._key(prepared), "found": dict(found), "without_question": without_question}
        storage.write_bytes(storage.join(self.folder, f"{prepared.name}.json"), json.dumps(record).encode())

    def remove(self) -> None:
        """The results are written."""
        for name in storage.list_files(self.folder):
            storage.delete(storage.join(self.folder, name))

    def _key(self, prepared: Prepared) -> str:
        ids = [question.id for question in prepared.encoded]
        decides = [self.identity, prepared.prompt_hash, ids, sorted(prepared.without_question)]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()
