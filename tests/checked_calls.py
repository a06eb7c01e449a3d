"""How calls are checked against their annotations in tests."""

from __future__ import annotations

from typing import Any

from beartype import BeartypeConf, FrozenDict, beartype

from dgm.protocols import Model, Module

# tests give functions a model of the few methods that these call
checked = beartype(conf=BeartypeConf(hint_overrides=FrozenDict({Model: Any, Module: Any})))
