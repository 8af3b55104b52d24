"""TensorBoard, W&B and MLflow: a run that goes on from its checkpoint goes on in them as well."""

from pathlib import Path
from typing import Any

from composer.loggers import LoggerDestination, MLFlowLogger, TensorboardLogger, WandBLogger

from base.masking import masked
from recipes.schema import Training


def build_trackers(config: Training, run_id: str, goes_on: bool) -> list[LoggerDestination]:
    """Those that are asked for.

    The settings that they show are those with which the run began. Composer logs some of its own at every start, the
    number of ranks and the node's name among them; from a run that goes on with others, W&B ends it, and MLflow drops
    the metrics of the same seconds without a word.

    Args:
        config: the run's.
        run_id: what W&B knows the run by. MLflow makes its own; by the run's name the newest is taken.
        goes_on: whether it comes from a checkpoint of its own.
    """
    trackers: list[LoggerDestination] = []
    if config.loggers.wandb is not None:
        place = {"id": run_id, "resume": "allow", "dir": config.run_folder}
        wandb = WandBLogger(**config.loggers.wandb.model_dump(), init_kwargs=place)
        if goes_on:
            wandb.log_hyperparameters = lambda hyperparameters: None  # type: ignore[method-assign]
        trackers.append(wandb)
    if config.loggers.tensorboard is not None:
        tensorboard = config.loggers.tensorboard.model_dump()
        tensorboard["log_dir"] = tensorboard["log_dir"] or str(Path(config.run_folder) / "tensorboard")
        trackers.append(TensorboardLogger(**tensorboard))
    if config.loggers.mlflow is not None:
        mlflow = MLFlowLogger(
            **config.loggers.mlflow.model_dump(),
            resume=goes_on,
            ignore_hyperparameters=["*"] if goes_on else None,
            # By default a value that has not changed, such as the same score again, is left out for 100 batches.
            log_duplicated_metric_every_n_steps=1,
        )
        trackers.append(mlflow)
    return trackers


def settings(config: Training) -> dict[str, Any]:
    """The resolved configuration as trackers show it: by dotted key, without what is not set and without secrets."""
    flat: dict[str, Any] = {}

    def add(prefix: str, section: dict[str, Any]) -> None:
        for key, value in section.items():
            if isinstance(value, dict):
                add(f"{prefix}{key}.", value)
            elif value is not None:
                flat[prefix + key] = value

    add("", masked(config.model_dump()))
    return flat
