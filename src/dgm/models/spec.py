"""One line of the table of models."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dgm.errors import BadInput

if TYPE_CHECKING:
    from dgm.protocols import Model


@dataclass(frozen=True)
class Spec:
    """One model of the table. Its class is imported when `load` is called.

    Attributes:
        target: ``package.module:Class``.
        likelihood: The kind of its likelihood on images: exact, lower_bound, estimate, unnormalised or none.
        paper: Authors and year, with the arXiv number if there is one.
        summary: A description in one line.
    """

    target: str
    likelihood: str
    paper: str
    summary: str

    @property
    def family(self) -> str:
        """The name of the folder that the model's file is in."""
        return self.target.split(".")[-2]

    def load(self) -> type[Model]:
        return class_at(self.target)


def family(folder: str, **models: Spec) -> dict[str, Spec]:
    """The table of one family, in which a target is the class alone: its module has the model's own name."""
    return {name: replace(spec, target=f"dgm.models.{folder}.{name}:{spec.target}") for name, spec in models.items()}


def class_at(target: str) -> type[Model]:
    """The class of ``package.module:Class``.

    Raises:
        BadInput: If the class cannot be imported, with the reason, or is not a model.
    """
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        wrong = f"the model '{target}' cannot be imported: {error}"
        raise BadInput(wrong, "give it as package.module:Class, from where Python finds it") from error
    if not isinstance(found, type) or not hasattr(found, "Config"):
        raise BadInput(f"'{target}' is not a model: it needs to be a class with a Config", "see docs/own-model.md")
    return found
