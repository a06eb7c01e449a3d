"""How calls are checked against their annotations in tests."""

from __future__ import annotations

from typing import Any

from beartype import BeartypeConf, FrozenDict, beartype

from dgm.protocols import Model, Module


class OfAnything(type):
    def __instancecheck__(cls, value: Any) -> bool:
        return True

    def __subclasscheck__(cls, other: Any) -> bool:
        return True


class Anything(metaclass=OfAnything):
    """Tests give functions a model of the few methods that these call."""


checked = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Model: Anything, Module: Anything})))
