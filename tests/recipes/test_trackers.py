"""What TensorBoard, W&B and MLflow have of a run is what ``metrics.jsonl`` has, also of one that went on."""

import json
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from recipes.metrics import LOSS, series

BITS = "metrics/eval/BitsPerByte"
History = dict[int, float]


@pytest.fixture
def tracked(tmp_path, new_run):
    """A run with all three; MLflow's place beside it."""
    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    loggers = {
        "tensorboard": {"flush_interval": 1},
        "wandb": {"project": "x", "tags": ["tried"]},
        "mlflow": {"experiment_name": "x", "tracking_uri": place},
    }
    dataset = {"remote": str(tmp_path / "tracked" / "mds"), "local": str(tmp_path / "held-out"), "split": "val"}
    validated = {"eval_loader": {"dataset": dataset}, "eval_interval": "5ba"}
    schedule = {"name": "constant_with_warmup", "t_warmup": "2ba"}
    run = new_run("tracked", loggers=loggers, scheduler=schedule, **validated)
    run.environment = {"WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    return run, place


@pytest.mark.slow
def test_a_run_in_two_parts_is_one_to_each_tracker_with_every_loss(tracked):
    run, place = tracked
    run.train(2, "max_duration=5ba")
    run.train(1, "max_duration=10ba")
    losses = dict(enumerate(run.losses()))  # Composer numbers what is logged within a batch by the batches done
    assert len(losses) == 10
    assert of_tensorboard(run.folder / "run" / "tensorboard", LOSS) == pytest.approx(losses)
    validated = dict(zip((5, 10), series(run.metrics(), BITS)[1], strict=True))
    assert of_tensorboard(run.folder / "run" / "tensorboard", BITS) == pytest.approx(validated)
    [run_id] = {run.manifest(name)["run_id"] for name in ("ep0-ba5", "ep0-ba10")}
    assert of_wandb(run.folder / "run" / "wandb") == {run_id: pytest.approx(losses)}
    assert list(of_mlflow(place, LOSS).values()) == [pytest.approx(losses)]
    # The settings of its beginning: W&B ends a run that changes one, MLflow drops what it is given with it.
    updates = [item for _, record in records(run.folder / "run" / "wandb") for item in record.config.update]
    lengths = [json.loads(item.value_json) for item in updates if item.key == "max_duration"]
    assert lengths == ["5ba"] and settings_of_mlflow(place)["max_duration"] == "5ba"


@pytest.mark.slow
def test_what_begins_anew_under_the_same_name_is_another_run_to_trackers(tracked):
    run, place = tracked
    for _ in range(2):
        run.train(1, "autoresume=false", "save_folder=null", "max_duration=3ba")
    for by_run in (of_wandb(run.folder / "run" / "wandb"), of_mlflow(place, LOSS)):
        assert [set(history) for history in by_run.values()] == [{0, 1, 2}] * 2


@pytest.mark.slow
def test_mlflow_has_a_score_at_every_batch_at_which_it_was_taken(tmp_path, new_run):
    from base.configuration import load_configuration
    from recipes.build import build_loggers
    from recipes.schema import Training

    place = f"sqlite:///{tmp_path / 'mlflow.db'}"
    run = new_run("tracked", loggers={"mlflow": {"experiment_name": "x", "tracking_uri": place}})
    (tmp_path / "tracked" / "run").mkdir()
    config = load_configuration(str(run.folder / "run.yaml"), [], Training)
    logger: Any = build_loggers(config, 20, run_id="a", goes_on=False)[-1]
    logger.init(SimpleNamespace(run_name="tracked"), None)
    for batch in (5, 10):
        logger.log_metrics({"eval/medqa/acc": 0.25}, batch)
    logger.post_close()
    assert list(of_mlflow(place, "eval/medqa/acc").values()) == [{5: 0.25, 10: 0.25}]


def of_tensorboard(folder: Path, metric: str) -> History:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [of_run] = folder.iterdir()
    events = EventAccumulator(str(of_run), size_guidance={"scalars": 0})
    events.Reload()
    return {event.step: event.value for event in events.Scalars(metric)}


def records(folder: Path) -> Iterator[tuple[str, Any]]:
    """What ``wandb sync`` would send, with the run's id: of all processes in their order."""
    from wandb.proto import wandb_internal_pb2
    from wandb.sdk.internal.datastore import DataStore

    for path in sorted(folder.glob("offline-run-*/run-*.wandb")):
        store = DataStore()
        store.open_for_scan(str(path))
        while data := store.scan_data():
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            yield path.stem.removeprefix("run-"), record


def of_wandb(folder: Path) -> dict[str, History]:
    """By run id."""
    found: dict[str, History] = defaultdict(dict)
    for run_id, record in records(folder):
        items = {item.key or "/".join(item.nested_key): item.value_json for item in record.history.item}
        if LOSS in items:
            found[run_id][int(items["_step"])] = float(items[LOSS])
    return dict(found)


def runs_of_mlflow(place: str) -> tuple[Any, list[Any]]:
    import mlflow

    client = mlflow.tracking.MlflowClient(place)
    experiments = [one.experiment_id for one in client.search_experiments() if one.name != "Default"]
    return client, client.search_runs(experiments)


def of_mlflow(place: str, metric: str) -> dict[str, History]:
    """By run id."""
    client, runs = runs_of_mlflow(place)
    ids = [run.info.run_id for run in runs]
    return {run: {one.step: one.value for one in client.get_metric_history(run, metric)} for run in ids}


def settings_of_mlflow(place: str) -> dict[str, str]:
    _, [run] = runs_of_mlflow(place)
    return dict(run.data.params)
