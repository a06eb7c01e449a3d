"""The table of composites, models that consist of other models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Composite:
    """A composite of the table, whose description contains the descriptions of its parts.

    Attributes:
        target: ``package.module:Class``.
        title: Its name in tables, with the titles of its parts.
        trained: The part that is trained; a user sets the settings of this part.
        family: The name of its family in tables; empty for the family of the trained part.
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
