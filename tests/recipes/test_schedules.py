"""The trunk of a schedule does not depend on the run's length; a decay from one of its checkpoints is the whole run."""

import json
import math
from types import SimpleNamespace
from typing import Any

import pytest
from composer.core import Time, Timestamp

from model.checkpoint import read_manifest
from recipes.build import build_scheduler
from recipes.metrics import series
from recipes.preflight import preflight
from recipes.report import NORM
from recipes.schema import Training

LR = "lr-AdamW/group0"
DECAYING = {"name": "warmup_stable_decay", "t_warmup": "4ba", "t_decay": "8ba"}
CONSTANT = {"name": "constant_with_warmup", "t_warmup": "4ba"}
EXCLUDED = {"name": "decoupled_adamw", "lr": 1e-3, "weight_decay": 1e-2,
            "no_weight_decay": ["embeddings", "norms", "biases"]}  # fmt: skip


def config(run, **changes: Any) -> Training:
    return Training.model_validate({**json.loads((run.folder / "run.yaml").read_text()), **changes})


@pytest.fixture
def multipliers(new_run):
    """The multiplier after each batch of a run; 4 sequences of 64 tokens a batch, 12 batches an epoch."""
    runs = iter(range(100))

    def multipliers(scheduler: dict[str, Any], max_duration: str, batches: int) -> list[float]:
        run = config(new_run(f"run{next(runs)}"), scheduler=scheduler, max_duration=max_duration)
        schedule = build_scheduler(run)
        state: Any = SimpleNamespace(max_duration=Time.from_timestring(run.max_duration), dataloader_len=Time(12, "ba"))
        values = []
        for batch in range(batches + 1):
            state.timestamp = Timestamp(
                epoch=batch // 12, batch=batch, batch_in_epoch=batch % 12, sample=4 * batch, token=256 * batch
            )
            values.append(schedule(state))
        return values

    return multipliers


@pytest.mark.parametrize("form", ["1-sqrt", "linear"])
def test_the_multiplier_before_the_decay_does_not_depend_on_the_length_of_the_run(multipliers, form):
    short = multipliers({**DECAYING, "form": form}, "20ba", 20)
    long = multipliers({**DECAYING, "form": form}, "40ba", 40)
    trunk = multipliers(CONSTANT, "1000ba", 40)
    assert short[:13] == long[:13] == trunk[:13]
    assert long[:33] == trunk[:33]
    assert short[:5] == [0, 0.25, 0.5, 0.75, 1.0] and short[12] == 1.0
    assert short[13] < 1 and long[33] < 1


def test_the_decay_has_the_form_that_is_asked_for_and_ends_at_alpha_f(multipliers):
    root = multipliers({**DECAYING, "alpha_f": 0.1}, "20ba", 20)
    line = multipliers({**DECAYING, "form": "linear"}, "20ba", 20)
    assert root[12:] == pytest.approx([0.1 + 0.9 * (1 - math.sqrt(x / 8)) for x in range(9)])
    assert line[12:] == pytest.approx([1 - x / 8 for x in range(9)])
    assert root[20] == pytest.approx(0.1) and line[20] == 0


@pytest.mark.parametrize(
    ("t_warmup", "t_decay", "max_duration"),
    [
        ("4ba", "8ba", "5120tok"),
        ("1024tok", "2048tok", "20ba"),
        ("16sp", "0.4dur", "20ba"),
        ("0.2dur", "32sp", "5120tok"),
        ("4ba", "8ba", "80sp"),
    ],
)
def test_times_in_any_unit_give_the_same_schedule(multipliers, t_warmup, t_decay, max_duration):
    expected = multipliers(DECAYING, "20ba", 20)
    scheduler = {**DECAYING, "t_warmup": t_warmup, "t_decay": t_decay}
    assert multipliers(scheduler, max_duration, 20) == pytest.approx(expected)


def test_epochs_and_batches_go_together(multipliers):
    scheduler = {**DECAYING, "t_warmup": "1ep", "t_decay": "1ep"}
    in_batches = {**DECAYING, "t_warmup": "12ba", "t_decay": "12ba"}
    assert multipliers(scheduler, "3ep", 36) == pytest.approx(multipliers(in_batches, "36ba", 36))
    assert multipliers(DECAYING, "3ep", 36) == pytest.approx(multipliers(DECAYING, "36ba", 36))


def test_a_warmup_in_batches_is_taken_in_a_cosine_over_tokens_too(multipliers):
    """As in yamls/biomedlm.yaml. Composer alone refuses it at the first batch."""
    in_batches = multipliers({"name": "cosine_with_warmup", "t_warmup": "4ba"}, "20ba", 20)
    assert multipliers({"name": "cosine_with_warmup", "t_warmup": "4ba"}, "5120tok", 20) == pytest.approx(in_batches)


@pytest.mark.slow
def test_a_trunk_decayed_later_is_the_run_that_decays_and_groups_survive_it_bit_for_bit(new_run):
    """Two ranks, dropout on, two groups of parameters; the trunk is saved within its second epoch, at 15 and at 20."""
    monitor = {"lr_monitor": {}}
    whole = new_run("whole", optimizer=EXCLUDED, callbacks=monitor, scheduler=DECAYING, max_duration="24ba")
    trunk = new_run("trunk", optimizer=EXCLUDED, callbacks=monitor, scheduler=CONSTANT, max_duration="20ba")
    whole.train(2)
    trunk.train(2)
    start = trunk.checkpoints / "ep1-ba15"
    decayed = new_run("decayed", optimizer=EXCLUDED, callbacks=monitor, scheduler=DECAYING, max_duration="24ba",
                      load_path=str(start))  # fmt: skip
    assert "resumed at batch 15" in decayed.train(2)
    assert decayed.losses() == whole.losses()[15:]
    assert series(decayed.metrics(), NORM)[1] == series(whole.metrics(), NORM)[1][15:]
    assert series(decayed.metrics(), LR)[1] == series(whole.metrics(), LR)[1][15:]
    assert series(whole.metrics(), LR)[1][-1] < 2e-4

    longer = new_run("longer", optimizer=EXCLUDED, callbacks=monitor, scheduler=DECAYING, max_duration="30ba",
                     load_path=str(trunk.checkpoints / "ep1-ba20"))  # fmt: skip
    longer.train(2)
    rates = series(longer.metrics(), LR)[1]
    assert rates[0] == rates[2] == 1e-3 and rates[-1] < 2e-4 and len(rates) == 10

    shard = start / "__1_0.distcp"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    refused = new_run("refused", optimizer=EXCLUDED, scheduler=DECAYING, max_duration="24ba", load_path=str(start))
    process = refused.start(2)
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 2, output
    assert "__1_0.distcp: its sha256 is not the manifest's" in output and refused.losses() == []


@pytest.mark.slow
def test_groups_of_parameters_resume_bit_for_bit_after_a_kill(new_run):
    whole = new_run("whole", optimizer=EXCLUDED, save_interval="4ba")
    killed = new_run("killed", optimizer=EXCLUDED, save_interval="4ba")
    decays = new_run("decays", optimizer={**EXCLUDED, "no_weight_decay": []})
    whole.train(2)
    killed.train_and_kill(2, at_batch=6, saved="ep0-ba4")
    killed.train(2)
    assert killed.losses() == whole.losses()
    assert series(killed.metrics(), NORM) == series(whole.metrics(), NORM)
    decays.train(2)
    assert decays.losses()[0] == whole.losses()[0] and decays.losses()[-1] != whole.losses()[-1]


@pytest.mark.slow
def test_a_threshold_of_infinity_logs_the_norm_and_clips_nothing(new_run):
    logged, without = new_run("logged"), new_run("without", algorithms={})
    logged.train(2, "algorithms.gradient_clipping.clipping_threshold=.inf")
    without.train(2)
    assert logged.losses() == without.losses()
    assert series(without.metrics(), NORM)[1] == []
    assert len(series(logged.metrics(), NORM)[1]) == 20


@pytest.fixture
def trunk(new_run):
    """A checkpoint as a trunk leaves it, as far as a preflight looks: a constant rate, batch 15."""
    run = new_run("trunk")
    found = preflight(config(run), 1, False)
    assert found.model is not None
    manifest = {
        "model": found.model.to_dict(),
        "files": {},
        "epoch": 1,
        "batch": 15,
        "samples": 50,
        "optimizer": config(run).optimizer.model_dump(),
        "schedule": {"scheduler": CONSTANT, "max_duration": "20ba"},
    }
    place = run.checkpoints / "ep1-ba15"
    place.mkdir(parents=True)

    def write(**changes: Any) -> str:
        (place / "manifest.json").write_text(json.dumps(manifest | changes))
        return str(place)

    return write


def faults(new_run, place: str, name: str = "new", **changes: Any) -> list[str]:
    found = preflight(config(new_run(name), load_path=place, **changes), 1, False)
    return found.faults + found.missing


def test_a_sound_load_path_is_where_the_run_goes_on_from(new_run, trunk):
    run = config(new_run("new"), load_path=trunk(), scheduler=DECAYING, max_duration="24ba")
    found = preflight(run, 1, False)
    assert found.faults == [] and found.missing == []
    assert found.resume_from is not None and found.resume_from.batch == 15


def test_a_load_path_that_does_not_fit_is_refused_with_the_reason(new_run, trunk):
    assert any("not a whole checkpoint" in fault for fault in faults(new_run, "/nowhere/ep0-ba3", "a"))
    folder = trunk().removesuffix("/ep1-ba15")
    assert any(
        f"the newest whole checkpoint in it is {folder}/ep1-ba15" in fault for fault in faults(new_run, folder, "b")
    )
    model = read_manifest(trunk())["model"] | {"n_heads": 4}
    assert any("has n_heads 4, here it is 2" in fault for fault in faults(new_run, trunk(model=model), "c"))
    assert any("49 sequences" in fault for fault in faults(new_run, trunk(samples=49), "d"))
    assert any(
        "load_path is at batch 15 already" in fault for fault in faults(new_run, trunk(), "e", max_duration="15ba")
    )
    (told,) = faults(new_run, trunk(), "f", optimizer=EXCLUDED | {"weight_decay": 1e-4})
    assert "optimizer.no_weight_decay [], here it is ['embeddings', 'norms', 'biases']" in told
    (told,) = faults(new_run, trunk(), "g", optimizer={"name": "decoupled_adamw", "lr": 2e-3, "weight_decay": 1e-4})
    assert "optimizer.lr 0.001, here it is 0.002" in told


def test_a_decay_that_has_begun_cannot_become_another(new_run, trunk):
    (told,) = faults(new_run, trunk(), "within", scheduler=DECAYING, max_duration="20ba")
    assert "decayed nowhere there and would decay from batch 12 to 20 here" in told
    decaying = trunk(schedule={"scheduler": DECAYING, "max_duration": "20ba"})
    (told,) = faults(new_run, decaying, "longer", scheduler=DECAYING, max_duration="40ba")
    assert "decayed from batch 12 to 20 there and would decay from batch 32 to 40 here" in told
    assert faults(new_run, decaying, "same", scheduler=DECAYING, max_duration="20ba") == []
    own = new_run("own", scheduler=DECAYING, max_duration="40ba")
    (own.checkpoints / "ep1-ba15").mkdir(parents=True)
    (own.checkpoints / "ep1-ba15" / "manifest.json").write_text(json.dumps(read_manifest(decaying)))
    assert any("decayed from batch 12 to 20" in fault for fault in preflight(config(own), 1, False).faults)


def test_a_runs_own_checkpoints_come_before_load_path(new_run, trunk):
    run = new_run("resumed")
    (run.checkpoints / "ep0-ba5").mkdir(parents=True)
    manifest = read_manifest(trunk()) | {"epoch": 0, "batch": 5}
    (run.checkpoints / "ep0-ba5" / "manifest.json").write_text(json.dumps(manifest))
    found = preflight(config(run, load_path=trunk()), 1, False)
    assert found.faults == [] and found.resume_from is not None and found.resume_from.batch == 5


def test_a_schedule_longer_than_the_run_is_told_when_only_the_data_show_it(new_run):
    run = config(new_run("epochs"), scheduler={**DECAYING, "t_warmup": "5ba", "t_decay": "8ba"}, max_duration="1ep")
    assert any("scheduler.t_decay" in fault for fault in preflight(run, 1, False).faults)
