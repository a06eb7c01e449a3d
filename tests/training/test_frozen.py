"""Parts that stay as they are lie beside the checkpoints once, and a training goes on to the same bits with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from trainees import SPACE, Noisy, Normal, points

from dgm import registry, runs, tensor_files
from dgm.errors import DamagedRun
from dgm.training import fit
from dgm.training.frozen import frozen_names

HOW = {"steps": 9, "batch": 16, "checkpoint_every": 0.0, "precision": "32-true", "ema": 0.9}


class Staged(nn.Module):
    """A first stage that is frozen, with a buffer of its own, and a prior of its codes."""

    Config = Normal.Config
    defaults: ClassVar[dict[str, Any]] = {}

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.space, self.config = SPACE, self.Config()
        self.first_stage = Noisy(SPACE, Noisy.Config()).requires_grad_(False)
        self.first_stage.visited += 7 + seed
        self.prior = Normal(SPACE, Normal.Config())

    @property
    def parts(self) -> dict[str, Any]:
        return {"first_stage": self.first_stage, "prior": self.prior}

    def loss(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.prior.loss(self.first_stage.network(x))


@pytest.fixture(autouse=True)
def described(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table of composites has no place for this one."""
    monkeypatch.setattr(registry, "describe", lambda model: {"name": "staged", "config": {}, "space": SPACE.to_json()})


def test_what_is_frozen() -> None:
    """Weights and buffers of a part without gradients. Kills: weights alone, a moving part taken along."""
    assert frozen_names(Staged()) == {f"first_stage.{name}" for name in Staged().first_stage.state_dict()}
    assert not frozen_names(Noisy(SPACE, Noisy.Config()))
    partly = Staged()
    next(partly.prior.parameters()).requires_grad_(False)
    assert frozen_names(partly) == frozen_names(Staged())
    nested: Any = nn.Module()
    nested.model = Staged()
    nested.parts = {"within": nested.model}
    assert "model.first_stage.visited" in frozen_names(nested)


def test_checkpoints_leave_them_out_and_go_on_to_the_same_bits(tmp_path: Path) -> None:
    """Also from another first stage: the run's own is put back. Kills: it is trained on, forgotten or averaged."""
    whole = Staged()
    list(fit(whole, points(), out=tmp_path / "whole", **HOW))
    steps = fit(Staged(), points(), out=tmp_path / "cut", **HOW)
    [next(steps) for _ in range(5)]
    steps.close()
    run = runs.Run(tmp_path / "cut")
    state, _ = run.newest_checkpoint()
    assert not [name for name in state if "first_stage" in name]
    assert set(run.weights()) == set(whole.state_dict())
    resumed = Staged(seed=1)
    list(fit(resumed, points(), out=tmp_path / "cut", resume=True))
    torch.testing.assert_close(resumed.state_dict(), whole.state_dict(), rtol=0, atol=0)
    assert int(resumed.first_stage.visited) == 7
    assert set(tensor_files.read_weights(tmp_path / "cut/weights.safetensors")) == set(whole.state_dict())


def test_a_damaged_one_is_refused(tmp_path: Path) -> None:
    steps = fit(Staged(), points(), out=tmp_path / "run", **HOW)
    next(steps)
    steps.close()
    path = tmp_path / "run" / tensor_files.FROZEN
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedRun, match=r"frozen.safetensors is damaged: its sha256 is not the checkpoint's"):
        next(fit(Staged(), points(), out=tmp_path / "run", resume=True))
    path.unlink()
    with pytest.raises(DamagedRun, match=r"frozen.safetensors is missing"):
        runs.Run(tmp_path / "run").weights()
