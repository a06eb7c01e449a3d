"""dgm: every family of deep generative model under one contract.

>>> import dgm
>>> digits = dgm.data.load("digits")
>>> model = dgm.create("gmm", digits.space, components=3)
>>> dgm.sample(model, 2).shape
torch.Size([2, 1, 8, 8])
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"
TYPE_CHECKING = (
    False  # for type checkers, as `typing.TYPE_CHECKING`; typing itself takes longer to import than the rest
)

# the module of each name; it is imported at the first use, so that `import dgm` and `dgm --help` do not load torch
_LAZY = {
    "MODELS": "dgm.models.table",
    "DecodingOptions": "dgm.samplers.sequential",
    "Guidance": "dgm.samplers.options",
    "Kind": "dgm.likelihood",
    "Likelihood": "dgm.likelihood",
    "Space": "dgm.space",
    "check": "dgm.contracts",
    "compare": "dgm.comparison",
    "create": "dgm.registry",
    "evaluate": "dgm.evaluation.evaluate",
    "fit": "dgm.training",
    "load": "dgm.runs",
    "log_likelihood": "dgm.likelihood",
    "pull": "dgm.hub",
    "push": "dgm.hub",
    "sample": "dgm.sampling",
    "save": "dgm.saving",
    "trajectory": "dgm.sampling",
    "two_stage": "dgm.training.codes",
    "write_report": "dgm.report.render",
}
# the modules that are a name themselves
_MODULES = {"data": "dgm.data", "edit": "dgm.edit"}

__all__ = [
    "MODELS",
    "DecodingOptions",
    "Guidance",
    "Kind",
    "Likelihood",
    "Space",
    "check",
    "compare",
    "create",
    "data",
    "edit",
    "evaluate",
    "fit",
    "load",
    "log_likelihood",
    "pull",
    "push",
    "sample",
    "save",
    "trajectory",
    "two_stage",
    "write_report",
]

if TYPE_CHECKING:
    from typing import Any

    from dgm import data, edit
    from dgm.comparison import compare
    from dgm.contracts import check
    from dgm.evaluation.evaluate import evaluate
    from dgm.hub import pull, push
    from dgm.likelihood import Kind, Likelihood, log_likelihood
    from dgm.models.table import MODELS
    from dgm.registry import create
    from dgm.report.render import write_report
    from dgm.runs import load
    from dgm.samplers.options import Guidance
    from dgm.samplers.sequential import DecodingOptions
    from dgm.sampling import sample, trajectory
    from dgm.saving import save
    from dgm.space import Space
    from dgm.training import fit
    from dgm.training.codes import two_stage


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    if name not in _LAZY:
        raise AttributeError(f"module 'dgm' has no attribute '{name}'")
    return getattr(importlib.import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY, *_MODULES])
