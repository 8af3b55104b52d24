"""Stand-in of branch ``download`` for the module of this name: the two functions that the downloader calls."""

import re
from collections.abc import Sequence
from typing import Any, get_args

from data_prep.schema import License

POLICIES: dict[str, tuple[str, ...]] = {
    "commercial": ("CC0", "public domain", "CC BY", "CC BY-SA", "CC BY-ND"),
    "redistributable": ("CC0", "public domain", "CC BY", "CC BY-SA"),
}


def from_code(text: str | None) -> Any:
    """A code of NLM's metadata without its version, or None."""
    code = re.sub(r"\s+\d.*$", "", (text or "").strip())
    return code if code in get_args(License) else None


def permitted(code: str | None, policy: str | Sequence[str]) -> bool:
    """Whether a licence is among those of a policy."""
    if isinstance(policy, str):
        return policy == "all" or code in POLICIES[policy]
    return code in policy
