"""What the YAMLs of data preparation say of themselves is so."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from base.configuration import load_configuration
from data_prep.schema import DataConfiguration

FOLDER = Path("yamls/data")
PLACES = ("pubmed", "pmc", "out")


def keys(tree: Any, above: str = "") -> dict[str, Any]:
    """Dotted key → value; of sections their keys, of everything else itself."""
    if not isinstance(tree, dict) or not tree:
        return {above: tree}
    found: dict[str, Any] = {}
    for name, value in tree.items():
        found |= keys(value, f"{above}.{name}".lstrip("."))
    return found


def defaults() -> dict[str, Any]:
    return keys(DataConfiguration(pubmed="x", out="x").model_dump(exclude=set(PLACES)))


def written(name: str) -> dict[str, Any]:
    return keys(yaml.safe_load((FOLDER / name).read_text(encoding="utf-8")))


def test_every_key_is_in_biomedlm_yaml_with_its_default() -> None:
    found = written("biomedlm.yaml")
    assert {key: value for key, value in found.items() if key not in PLACES} == defaults()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_each_yaml_loads_and_the_others_set_only_what_differs(path: Path) -> None:
    load_configuration(str(path), ["out=x"], DataConfiguration)
    if path.stem != "biomedlm":
        same = {key for key, value in written(path.name).items() if defaults().get(key, ...) == value}
        assert same <= {"work"}, "the same as the default: biomedlm.yaml has it"
