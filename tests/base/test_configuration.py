"""A configuration with faults is refused with all of them, each with its place and the nearest known key."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from base.configuration import Schema, Section, dump_configuration, load_configuration
from base.errors import UserError


class Adam(Section):
    name: Literal["adam"]
    lr: float
    betas: list[float] = [0.9, 0.95]


class SGD(Section):
    name: Literal["sgd"]
    lr: float
    momentum: float = 0.0


class Sharding(Section):
    strategy: Literal["FULL", "NONE"] = "FULL"


class Run(Schema):
    run_name: str
    batch: int = 8
    optimizer: Annotated[Adam | SGD, Field(discriminator="name")]
    sharding: Sharding | None = None
    folder: str = "out"
    variables: dict[str, Any] = {}

    @classmethod
    def cross_checks(cls) -> list[Callable[[Any], Iterable[tuple[str, str]]]]:
        def even(run: Any) -> Iterable[tuple[str, str]]:
            if run.batch % 2:
                yield "batch", "must be even"

        return [even]


SOUND = """\
run_name: a
optimizer:
  name: adam
  lr: 1e-4
"""


@pytest.fixture
def load(tmp_path: Path):
    def load(text: str, *overrides: str) -> Run:
        path = tmp_path / "run.yaml"
        path.write_text(text)
        return load_configuration(str(path), list(overrides), Run)

    return load


def faults(load, text: str, *overrides: str) -> str:
    with pytest.raises(UserError) as error:
        load(text, *overrides)
    return str(error.value)


def test_a_sound_file_gives_typed_values_and_defaults(load):
    run = load(SOUND)
    assert run.optimizer == Adam(name="adam", lr=1e-4)
    assert run.batch == 8


def test_three_faults_are_reported_in_one_message_with_their_places(load):
    message = faults(load, "run_name: 7\noptimizer: {name: adam, lr: fast}\nshardin: {}\n")
    assert message.startswith("3 faults")
    assert "run.yaml:1: run_name" in message
    assert "run.yaml:2: optimizer.lr" in message
    assert "run.yaml:3: shardin: unknown key; did you mean sharding?" in message


def test_an_unknown_nested_key_names_the_nearest_known_one(load):
    message = faults(load, SOUND + "sharding: {strateggy: FULL}\n")
    assert "run.yaml:5: sharding.strateggy: unknown key; did you mean sharding.strategy?" in message


def test_a_key_at_the_wrong_level_names_the_right_one(load):
    assert "did you mean optimizer.lr?" in faults(load, SOUND, "lr=3")


def test_a_fault_in_an_argument_names_the_argument(load):
    assert "argument optimizer.momentum=3: optimizer.momentum: unknown key" in faults(
        load, SOUND, "optimizer.momentum=3"
    )


def test_a_cross_check_is_made_though_another_section_is_at_fault(load):
    message = faults(load, SOUND + "batch: 7\nsharding: 3\n")
    assert "batch: must be even" in message and "sharding" in message


def test_types_are_not_guessed(load):
    assert "batch" in faults(load, SOUND, "batch=true")
    assert "batch" in faults(load, SOUND, "batch=8.5")
    assert "run_name" in faults(load, SOUND, "run_name=7")


def test_a_number_where_text_is_wanted_is_told_how_to_be_written(load):
    assert """quote it, as an argument 'run_name="7"'""" in faults(load, SOUND, "run_name=7")
    assert load(SOUND, 'run_name="7"').run_name == "7"


def test_a_key_that_stands_twice_is_a_fault(load):
    assert "batch: stands twice, at" in faults(load, SOUND + "batch: 2\nbatch: 4\n")


def test_a_missing_key_is_named(load):
    assert "run_name: is missing" in faults(load, "optimizer: {name: sgd, lr: 1.0}\n")
    assert "optimizer.lr: is missing" in faults(load, "run_name: a\noptimizer: {name: sgd}\n")


def test_overrides_win_and_reach_into_sections(load):
    assert load(SOUND, "optimizer.lr=3e-4", "batch=4").optimizer.lr == 3e-4
    assert load(SOUND, "optimizer.betas=[0.8, 0.9]").optimizer.betas == [0.8, 0.9]


def test_interpolation_reaches_other_keys(load):
    assert load(SOUND + "variables: {root: /data}\nfolder: ${variables.root}/${run_name}\n").folder == "/data/a"


def test_an_environment_variable_is_taken_or_its_default_or_it_is_a_fault(load, monkeypatch):
    text = SOUND + "folder: ${oc.env:RECIPE_FOLDER}\n"
    monkeypatch.setenv("RECIPE_FOLDER", "/there")
    assert load(text).folder == "/there"
    monkeypatch.delenv("RECIPE_FOLDER")
    assert load(SOUND + "folder: ${oc.env:RECIPE_FOLDER,/default}\n").folder == "/default"
    message = faults(load, text)
    assert "run.yaml:5: folder" in message and "RECIPE_FOLDER" in message and "default" in message


def test_a_date_stays_text(load):
    assert load(SOUND, "folder=2026-09-14").folder == "2026-09-14"


def test_an_interpolation_to_nowhere_is_a_fault_beside_the_others(load):
    message = faults(load, SOUND + "folder: ${nowhere}\nbatch: x\n")
    assert "folder" in message and "nowhere" in message and "batch" in message


@pytest.mark.parametrize("text", ["[1, 2]", "a: [", "\x00"])
def test_what_is_no_configuration_is_refused_with_the_file_named(load, text):
    assert "run.yaml" in faults(load, text)


def test_yaml_cannot_make_objects(load):
    assert "run.yaml" in faults(load, "run_name: !!python/object/apply:os.system ['true']\n")


def test_a_dumped_configuration_loads_as_the_same(load):
    run = load(SOUND, "batch=4")
    assert load(dump_configuration(run)) == run


def test_a_missing_file_says_where_configurations_are():
    with pytest.raises(UserError, match="yamls/"):
        load_configuration("nowhere.yaml", [], Run)


def test_an_override_without_value_is_a_fault(load):
    assert "key=value" in faults(load, SOUND, "batch")


def test_a_cross_check_of_something_that_is_no_key_is_an_error_and_not_left_out_in_silence(load, monkeypatch):
    monkeypatch.setattr(Run, "cross_checks", lambda: [lambda run: [("batch", run.batches_per_epoch)]])
    with pytest.raises(AttributeError, match="batches_per_epoch"):
        load(SOUND)


BASED = "base: ../below.yaml\nrun_name: b\n"


@pytest.fixture
def based(tmp_path: Path):
    """Load ``upper`` from a folder of its own, laid over ``below.yaml`` beside that folder."""

    def based(upper: str, *overrides: str, below: str = SOUND) -> Run:
        (tmp_path / "below.yaml").write_text(below)
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / "run.yaml").write_text(upper)
        return load_configuration(str(tmp_path / "folder" / "run.yaml"), list(overrides), Run)

    return based


def test_what_a_file_does_not_say_its_base_says_key_by_key(based):
    run = based(BASED + "optimizer: {betas: [0.5, 0.6]}\n", below=SOUND + "batch: 4\n")
    assert (run.run_name, run.batch) == ("b", 4)
    assert run.optimizer == Adam(name="adam", lr=1e-4, betas=[0.5, 0.6])
    assert based(BASED, "batch=2", below=SOUND + "batch: 4\n").batch == 2
    assert based(BASED + "sharding: null\n", below=SOUND + "sharding: {}\n").sharding is None
    assert based(BASED + "folder: x/${run_name}\n").folder == "x/b"


def test_a_section_with_another_name_replaces_the_whole_section_of_the_base(based):
    below = SOUND + "  betas: [0.1, 0.2]\n"
    assert based(BASED + "optimizer: {name: sgd, lr: 1.0}\n", below=below).optimizer == SGD(name="sgd", lr=1.0)
    assert "optimizer.lr: is missing" in faults(based, BASED + "optimizer: {name: sgd}\n")


def test_a_base_may_have_a_base(based, tmp_path):
    (tmp_path / "lowest.yaml").write_text(SOUND + "batch: 4\nfolder: lowest\n")
    run = based(BASED, below="base: lowest.yaml\nfolder: below\n")
    assert (run.run_name, run.batch, run.folder) == ("b", 4, "below")


def test_a_fault_names_the_file_and_line_that_the_key_comes_from(based):
    message = faults(lambda text: based(text, below=SOUND + "batch: x\nshardin: 3\n"), BASED + "folder: 7\n")
    assert message.startswith("3 faults")
    assert "below.yaml:5: batch: " in message and "below.yaml:6: shardin: unknown key" in message
    assert "folder/run.yaml:3: folder: " in message
    replaced = faults(lambda text: based(text, below=SOUND + "  betas: [x, y]\n"), BASED + "optimizer: {betas: 3}\n")
    assert "folder/run.yaml:3: optimizer.betas" in replaced and "1 fault " in replaced


def test_a_base_that_cannot_be_read_is_told_with_its_place(based, tmp_path):
    assert "run.yaml:1: base: " in faults(based, "base: nowhere.yaml\n")
    assert "nowhere.yaml: no such file" in faults(based, "base: nowhere.yaml\n")
    assert "it is 3" in faults(based, "base: 3\n")
    assert "is based on this file" in faults(lambda text: based(text, below="base: folder/run.yaml\n"), BASED)
    assert "is based on this file" in faults(based, "base: run.yaml\n")
    assert "argument base=x.yaml: base: stands in a file alone" in faults(based, BASED, "base=x.yaml")


@pytest.mark.parametrize("place", ["file", "argument"])
def test_yaml_makes_no_objects(load, tmp_path, place):
    mark = tmp_path / "was-run"
    hostile = f"!!python/object/apply:os.system ['touch {mark}']"
    if place == "file":
        with pytest.raises(UserError, match=r"not valid YAML.*python/object"):
            load(f"{SOUND}folder: {hostile}\n")
    else:
        assert load(SOUND, f"folder={hostile}").folder == hostile
    assert not mark.exists()


def test_no_secret_is_dumped_or_told_and_each_is_read(load, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "planted-token")
    monkeypatch.setenv("PLACE", "https://u:planted-login@host/x")
    variables = "variables:\n  a: ${oc.env:HF_TOKEN}\n  b: ${oc.env:PLACE}\n  api_key: planted-literal\n"
    run = load(SOUND + variables)
    assert run.variables == {"a": "planted-token", "b": "https://u:planted-login@host/x", "api_key": "planted-literal"}
    assert load(dump_configuration(run)).variables == {"a": "***", "b": "https://***@host/x", "api_key": "***"}
    with pytest.raises(UserError) as error:
        load(
            f"{SOUND}batch: https://u:planted-login@host\nsharding: {{strategy: planted-token, password: planted-x}}\n"
        )
    assert "3 faults" in str(error.value) and "planted" not in str(error.value)


@pytest.mark.parametrize(
    "argument", ["variables.password=planted", "folder=http://u:planted@host", "folder=planted-token"]
)
def test_a_secret_as_an_argument_is_refused(load, monkeypatch, argument):
    monkeypatch.setenv("HF_TOKEN", "planted-token")
    with pytest.raises(UserError, match=r"process list.*oc\.env") as error:
        load(SOUND, argument)
    assert "planted" not in str(error.value)
    assert load(SOUND, "variables.password=${oc.env:HF_TOKEN}").variables == {"password": "planted-token"}
