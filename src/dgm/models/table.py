"""The table of all models, from the tables of the families' folders, and of the models of other packages."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from dgm.models import (
    autoencoder,
    autoregressive,
    diffusion,
    discrete_diffusion,
    energy,
    flow,
    flow_matching,
    gan,
    mixture,
    score,
    vae,
)
from dgm.models.spec import Spec

# the families, in the order of `dgm models`
FAMILIES = (
    mixture,
    autoregressive,
    autoencoder,
    vae,
    flow,
    gan,
    energy,
    score,
    diffusion,
    flow_matching,
    discrete_diffusion,
)

MODELS: Mapping[str, Spec] = {name: spec for family in FAMILIES for name, spec in family.MODELS.items()}


@cache
def entry_point_models() -> Mapping[str, str]:
    """Models of other packages, from the entry points of the group ``dgm.models``: name to ``package.module:Class``.

    Only installed packages are searched. The empty entry of Python's path, which is the working directory, is left out,
    since it may have files that were downloaded with a run.
    """
    places = (Path(place) for place in sys.path if place)
    tables = (table for place in places if place.is_dir() for table in place.glob("*-info/entry_points.txt"))
    # importlib.metadata, slow to import and to read, only where a package has such a model
    ours = [table for table in tables if "[dgm.models]" in table.read_text(encoding="utf-8", errors="replace")]
    if not ours:
        return {}
    from importlib.metadata import Distribution

    points = (point for table in reversed(ours) for point in Distribution.at(table.parent).entry_points)
    return {point.name: point.value for point in points if point.group == "dgm.models"}
