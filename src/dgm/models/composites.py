"""The table of models that are made of others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Composite:
    """A model that is made of others, which a description names as its parts.

    Attributes:
        target: ``package.module:Class``.
        title: How a table names it, with the titles of its parts.
        trained: The part that is trained, and whose settings a user gives.
        family: How a table names its family; empty for that of the part that is trained.
    """

    target: str
    title: str
    trained: str
    family: str = ""


COMPOSITES: Mapping[str, Composite] = {
    "dequantised": Composite("dgm.distributions.dequantisation:Dequantised", "{model}", "model"),
    "autoguided": Composite("dgm.models.autoguided:Autoguided", "{model} away from {weak}", "model"),
    "two_stage": Composite("dgm.models.two_stage:TwoStage", "{prior} on {first_stage}", "prior", "two stages"),
}
