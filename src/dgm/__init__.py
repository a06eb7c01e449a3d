"""dgm: every family of deep generative model under one contract.

>>> import dgm
>>> digits = dgm.data.load("digits")
>>> model = dgm.create("gmm", digits.space, components=3)
>>> dgm.sample(model, 2).shape
torch.Size([2, 1, 8, 8])
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# name -> the module that has it; imported when first asked for, so that `import dgm` and `dgm --help` load no torch
_LAZY = {
    "Space": "dgm.space",
    "Likelihood": "dgm.likelihood",
    "Kind": "dgm.likelihood",
    "log_likelihood": "dgm.likelihood",
    "create": "dgm.registry",
    "MODELS": "dgm.registry",
    "sample": "dgm.sampling",
    "fit": "dgm.training",
    "load": "dgm.runs",
    "data": "dgm.data",
}

__all__ = ["MODELS", "Kind", "Likelihood", "Space", "create", "data", "fit", "load", "log_likelihood", "sample"]

if TYPE_CHECKING:
    from dgm import data
    from dgm.likelihood import Kind, Likelihood, log_likelihood
    from dgm.registry import MODELS, create
    from dgm.runs import load
    from dgm.sampling import sample
    from dgm.space import Space
    from dgm.training import fit


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'dgm' has no attribute '{name}'")
    module = importlib.import_module(_LAZY[name])
    return module if module.__name__ == f"dgm.{name}" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_LAZY])
