"""Secrets in what is shown: found by the name of their key, as the login of a URL, or by the value that the environment
has under such a name. All that prints or stores text for others to read passes through here."""

import os
import re
from itertools import pairwise
from typing import Any

MASK = "***"
SHORTEST = 8  # characters of a variable's value that is looked for in text: shorter ones stand in innocent words, too
ALONE = {"passwd", "passphrase", "secret", "credential", "credentials", "apikey", "authorization"}
TOGETHER = {("api", "key"), ("access", "key"), ("private", "key"), ("secret", "key"), ("auth", "token")}
PLACES = {"file", "path", "dir", "folder"}  # where a secret lies is none
NO_SECRET = {"credentials_secret"}  # of a launch configuration: the name of a secret of Kubernetes
OF_TEXT = {"bos", "eos", "unk", "pad", "sep", "cls", "mask"}  # tokens of a tokenizer

LOGIN = re.compile(r"(?<=://)[^/\s?#'\"]+@")
ASSIGNED = re.compile(
    r"""(?P<name>[A-Za-z][\w.-]*)
    (?P<between>=|(?P<quote>['"]):\s*(?P=quote))
    (?P<value>(?!\$\{|null\b)[^\s&,;'"]+)""",  # ${…} stands for one and is none
    re.X,
)


def names_secret(name: str) -> bool:
    """Whether a key or an environment variable of this name holds a secret: ``WANDB_API_KEY``, ``hf_token``."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name)  # apiKey
    parts = [part for part in re.split(r"[^a-z0-9]+", words.lower()) if part]
    if not parts or parts[-1] in PLACES or name.lower() in NO_SECRET:
        return False
    if parts[-1] == "token":
        return not OF_TEXT & set(parts)
    alone = any(part in ALONE or part.endswith("password") for part in parts)  # PGPASSWORD
    return alone or any(pair in TOGETHER for pair in pairwise(parts))


def without_secrets(text: str) -> str:
    """The text with ``***`` for logins of URLs, for the value in ``NAME=VALUE``, and for values of the environment."""
    for value in _of_environment():
        text = text.replace(value, MASK)
    return ASSIGNED.sub(_mask_value, LOGIN.sub(f"{MASK}@", text))


def masked(value: Any, key: str = "") -> Any:
    """The same for dictionaries and lists, by the names of their keys, too."""
    if isinstance(value, dict):
        return {name: masked(inner, str(name)) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [masked(inner, key) for inner in value]
    if value is not None and not isinstance(value, bool) and names_secret(key):
        return MASK
    return without_secrets(value) if isinstance(value, str) else value


def _mask_value(found: re.Match[str]) -> str:
    return f"{found['name']}{found['between']}{MASK}" if names_secret(found["name"]) else found[0]


def _of_environment() -> list[str]:
    """Longest first, for one may stand in another."""
    values = {value for name, value in os.environ.items() if len(value) >= SHORTEST and names_secret(name)}
    return sorted(values, key=len, reverse=True)
