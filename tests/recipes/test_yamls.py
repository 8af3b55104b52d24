"""Every YAML that comes with the recipe is sound, and is the model that its name and its table say."""

import re
from pathlib import Path

import pytest

from base.configuration import load_configuration
from data_prep.schema import DataConfiguration
from model.config import GPTConfig
from recipes.evaluation import Evaluation
from recipes.launch.__main__ import FORMS
from recipes.preflight import preflight
from recipes.run_sheet import run_sheet
from recipes.schema import Training
from recipes.times import parse_time, part_of_run

ROOT = Path(__file__).parents[2]
YAMLS = ROOT / "yamls"
RUNS = [*YAMLS.glob("*.yaml"), *YAMLS.glob("ladder/*.yaml"), *YAMLS.glob("ablation/*.yaml")]
LADDER = sorted(YAMLS.glob("ladder/*.yaml"))
ASKED_FOR = {"plain": ["master_addr=node0"], "kubernetes": ["image=biomedlm"]}  # what no YAML can know
UNITS = {"m": 1e6, "b": 1e9}


def load(path: Path) -> Training:
    return load_configuration(str(path), [], Training)


def shape(config: Training) -> GPTConfig:
    return config.gpt_config(config.model.vocab_size or 0)


def two_digits(number: float) -> float:
    return float(f"{number:.1e}")


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(YAMLS)))
def test_every_run_is_sound_and_its_sheet_can_be_printed(path, tmp_path, monkeypatch):
    monkeypatch.setenv("BIOMEDLM_BUCKET", str(tmp_path / "bucket"))
    monkeypatch.setenv("BIOMEDLM_SCRATCH", str(tmp_path / "scratch"))
    overrides = [f"variables.bucket={tmp_path}/bucket"] if path.name == "quickstart.yaml" else []
    config = load_configuration(str(path), overrides, Training)
    ranks = config.hardware.count if config.hardware else 1
    found = preflight(config, ranks, probe_writing=False)
    assert found.faults == []
    assert "DOES NOT FIT" not in run_sheet(config, found, ranks)


def test_every_other_yaml_is_sound():
    for path in YAMLS.glob("data/*.yaml"):
        load_configuration(str(path), ["out=somewhere"], DataConfiguration)
    for path in YAMLS.glob("eval/*.yaml"):
        load_configuration(str(path), ["model=somewhere", "data=somewhere"], Evaluation)
    for path in YAMLS.glob("launch/*.yaml"):
        load_configuration(str(path), ASKED_FOR.get(path.stem, []), FORMS[path.stem].schema)
    others = [path for folder in ("data", "eval", "launch") for path in YAMLS.glob(f"{folder}/*.yaml")]
    assert len(RUNS) + len(others) == len([*YAMLS.rglob("*.yaml")])


def test_v2_is_the_same_architecture():
    faithful, improved = load(YAMLS / "biomedlm.yaml"), load(YAMLS / "biomedlm_v2.yaml")
    assert shape(faithful) == GPTConfig() and shape(improved) == GPTConfig(attn_pdrop=0.0)
    assert improved.model.document_mask and not faithful.model.document_mask
    assert faithful.max_duration == improved.max_duration
    assert faithful.global_train_batch_size == improved.global_train_batch_size
    assert improved.save_folder != faithful.save_folder and improved.run_folder != faithful.run_folder


@pytest.mark.parametrize("path", LADDER, ids=lambda path: path.stem)
def test_a_rung_has_the_size_of_its_name_and_the_values_of_the_rules(path):
    config, model = load(path), shape(load(path))
    size = model.n_parameters
    named = re.fullmatch(r"([\d.]+)([mb])", path.stem)
    assert named and size == pytest.approx(float(named[1]) * UNITS[named[2]], rel=0.14)  # 125M has GPT-2's entries
    assert f"{size:,} parameters" in path.read_text()
    assert model == GPTConfig(d_model=model.d_model, n_layers=model.n_layers, n_heads=model.n_heads, attn_pdrop=0.0)
    assert 48 <= model.d_model / model.n_layers <= 80 and model.d_head in (32, 64, 128)
    assert config.optimizer.lr == two_digits(4e-4 * (GPTConfig().n_parameters / size) ** 0.25)
    assert config.optimizer.weight_decay == pytest.approx(0.1 * config.optimizer.lr)
    warmup, unit = parse_time(config.scheduler.t_warmup)
    assert (warmup, unit) == (two_digits(size), "tok")
    assert parse_time(config.max_duration) == (20 * warmup, "tok")
    best = 0.58 * (20 * warmup) ** 0.571 / config.max_seq_len
    assert config.global_train_batch_size in (2**power for power in range(12))
    assert 2**-0.5 < config.global_train_batch_size / best < 2**0.5
    assert part_of_run(config.scheduler.t_warmup, config) == pytest.approx(0.05)


def test_the_table_of_the_ladder_is_what_its_files_say():
    rows = re.findall(r"^\| `(\S+)\.yaml` \|(.*)\|$", (ROOT / "docs" / "ladder.md").read_text(), flags=re.M)
    assert {name for name, _ in rows} == {path.stem for path in LADDER} | {"biomedlm_v2"}
    for name, rest in rows:
        config = load(YAMLS / ("" if name == "biomedlm_v2" else "ladder") / f"{name}.yaml")
        model = shape(config)
        cells = [cell.strip() for cell in rest.split("|")]
        tokens = parse_time(config.max_duration)[0]
        batches = -(-tokens // config.tokens_per_batch)
        assert cells[:4] == [
            f"{model.d_model} / {model.n_layers} / {model.n_heads}",
            f"{model.n_parameters:,}",
            f"{model.n_parameters - model.vocab_size * model.d_model:,}",
            f"{config.optimizer.lr:.1e}".replace("e-0", "e-"),
        ]
        assert cells[4] == str(config.global_train_batch_size) and cells[6] == f"{batches:,}"
        assert float(cells[5].removesuffix("B")) * 1e9 == tokens
        assert float(cells[7]) == pytest.approx(model.flops_per_token() / 1e9, rel=1e-3)
        assert float(cells[8]) == pytest.approx(batches * config.tokens_per_batch * model.flops_per_token(), rel=1e-2)


def test_the_runs_of_the_tokenizer_ablation_differ_in_what_they_compare_alone():
    ours, gpt2, padded = (load(YAMLS / "ablation" / f"tokenizer_{name}.yaml") for name in
                          ("biomedlm", "gpt2", "biomedlm_50257"))  # fmt: skip
    sizes = [shape(config).n_parameters for config in (ours, gpt2, padded)]
    assert sizes == [108_034_560, 124_439_808, 124_439_808]
    for path in YAMLS.glob("ablation/*.yaml"):
        assert f"{shape(load(path)).n_parameters:,}" in path.read_text().replace("\n# ", " ")
    compared = {"run_name", "run_folder", "save_folder", "model", "tokenizer", "train_loader", "eval_loader"}
    for other in (gpt2, padded):
        assert other.model_dump(exclude=compared) == ours.model_dump(exclude=compared)
        assert other.model.model_copy(update={"vocab_size": 28896}) == ours.model
    assert padded.tokenizer == ours.tokenizer and padded.train_loader == ours.train_loader
    assert padded.eval_loader == ours.eval_loader
    assert gpt2.train_loader.dataset.remote != ours.train_loader.dataset.remote


@pytest.mark.parametrize("path", RUNS, ids=lambda path: str(path.relative_to(YAMLS)))
def test_every_run_reads_its_tokenizer_and_both_splits_from_one_preparation(path):
    config = load(path)
    assert config.eval_loader is not None
    train, held_out = config.train_loader.dataset, config.eval_loader.dataset
    assert (train.remote, train.local) == (held_out.remote, held_out.local)
    assert f"{config.tokenizer.name.rpartition('/')[0]}/mds" == train.remote
