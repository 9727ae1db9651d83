"""What every workload's graph ends with, under one name, so that the composite can join them."""

from __future__ import annotations

import operator
from typing import Annotated, TypedDict


class Result(TypedDict):
    """What one workload made."""

    workload: str
    text: str


class Output(TypedDict):
    """The output of every graph: one result, or one of each subgraph."""

    results: Annotated[list[Result], operator.add]
