"""A label as a user names it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dgm.errors import UnknownName, Unsupported

if TYPE_CHECKING:
    from dgm.protocols import Model

HELP = "its name or its number, for a model trained with --conditional"


def number(label: str | None, model: Model, about: Mapping[str, Any]) -> int | None:
    """The number of a label of the data that a run was trained on; a name that is a number is taken as a name.

    Args:
        about: What the run's config.json says of its data.

    Raises:
        Unsupported: Where the model was trained without labels.
        UnknownName: With the nearest label.
    """
    if label is None:
        return None
    from dgm.networks.embeddings import classes_of

    classes = classes_of(model)
    if not classes:
        raise Unsupported("this model was trained without labels", "leave --label out, or train with --conditional")
    names = list(about.get("labels") or map(str, range(classes)))
    if label in names:
        return names.index(label)
    if label.isascii() and label.isdigit() and int(label) < classes:
        return int(label)
    raise UnknownName.of("label of this run", label, names)
