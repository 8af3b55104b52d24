"""What a node must reach. Imports nothing heavy: the launch configuration holds these keys, too."""

from typing import Annotated

from pydantic import Field

from base.configuration import Section


class Thresholds(Section):
    """Each is an argument of ``python -m recipes.node_check`` and a key of ``node_check`` in a launch configuration."""

    matmul_fraction: Annotated[
        float, Field(gt=0, le=1, description="least rate of matrix products, as a part of the median rank's")
    ] = 0.9
    clock_fraction: Annotated[
        float, Field(gt=0, le=1, description="least clock of a GPU under load, as a part of the median GPU's")
    ] = 0.8
    allreduce_fraction: Annotated[
        float, Field(gt=0, le=1, description="least rate of all-reduce, as a part of the best node's or pair's")
    ] = 0.5
    clock_skew_seconds: Annotated[
        float, Field(gt=0, description="how far a node's clock may be off the median one; S3 refuses 900")
    ] = 5.0
    spare_gb: Annotated[
        float, Field(ge=0, description="what must stay free on the disk beside the run's shards and checkpoints")
    ] = 5.0
    join_seconds: Annotated[float, Field(gt=0, description="how long nodes wait for each other to come")] = 300.0
    step_seconds: Annotated[float, Field(gt=0, description="how long nodes wait for each other's measurements")] = 300.0
