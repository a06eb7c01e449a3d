"""Frozen parts of a model, which training does not change."""

from __future__ import annotations

from dgm.protocols import Model, parts_of


def frozen_names(model: Model) -> set[str]:
    """The names of the weights and buffers of the frozen parts, which are the parts without a trainable weight."""
    frozen: set[str] = set()
    places = {id(module): name for name, module in model.named_modules()}
    for part in parts_of(model).values():
        weights = list(part.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            names: set[str] = set(part.state_dict())
        else:
            names = frozen_names(part)
        frozen |= {f"{places[id(part)]}.{name}" for name in names}
    return frozen
