"""What a step on a GPU must not do: wait for the device. On the meta device a look at a value raises."""

from __future__ import annotations

import pytest
import torch

import dgm
from dgm.data import Split
from dgm.errors import BadInput
from dgm.protocols import MultiPlayer, has
from dgm.training import Settings, fit
from dgm.training.batches import Batches, moved, resident
from dgm.training.devices import refuse_missing_devices


def conditional(name: str, **settings: int) -> dgm.protocols.Model:
    return dgm.create(name, dgm.Space.levels((1, 8, 8), 17), dgm.Space.categories(10), **settings)


@pytest.mark.parametrize("name", ["vae", "gan", "ddpm", "edm", "flow_matching", "rectified_flow", "ncsn", "realnvp"])
def test_a_loss_looks_at_no_value(name: str) -> None:
    """Kills: labels compared with their range on the device, a step counted there and read."""
    model = conditional(name).to("meta").train()
    x, y = torch.zeros(4, 1, 8, 8, dtype=torch.uint8, device="meta"), torch.zeros(4, dtype=torch.int64, device="meta")
    for loss in [loss for _, loss in model.losses(x, y)] if has(model, MultiPlayer) else [model.loss(x, y)]:
        assert (loss.shape, loss.device.type) == ((4,), "meta")


def test_the_reflows_step_stays_with_the_processor_and_is_saved() -> None:
    model = conditional("rectified_flow", reflow_after=2).to("meta").train()
    x = torch.zeros(4, 1, 8, 8, dtype=torch.uint8, device="meta")
    for _ in range(3):  # the third is of pairs
        model.loss(x, torch.zeros(4, dtype=torch.int64, device="meta"))
        model.after_step()
    assert model.step.device.type == "cpu"
    assert int(model.state_dict()["step"]) == 3


@pytest.mark.parametrize(
    ("name", "counter"), [("progressive_gan", "steps"), ("energy_matching", "trained"), ("stacked_ae", "step")]
)
def test_steps_are_counted_without_the_device(name: str, counter: str) -> None:
    model = dgm.create(name, dgm.Space.levels((1, 8, 8), 17)).to("meta").train()
    for _ in range(3):
        model.after_step(torch.zeros(4, 12, device="meta"))
    assert int(model.state_dict()[counter]) == 3


def test_labels_are_looked_at_before_the_training() -> None:
    data = dgm.data.load("digits")
    model = dgm.create("vae", data.space, dgm.Space.categories(9))
    with pytest.raises(BadInput, match="expected values from 0 to 8, got 0 to 9"):
        fit(model, data, steps=1)


def test_data_that_fits_is_indexed_where_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    """Kept on the device if it takes a quarter of what is free there, and no more; what is drawn anew is not."""
    split, free = Split(torch.arange(100.0).view(25, 4), torch.arange(25)), [2400]
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (free[0], 10_000))
    copied = []
    monkeypatch.setattr(torch.Tensor, "to", lambda x, *to, **how: copied.append(x.nbytes) or x)
    cuda = torch.device("cuda")
    assert resident(split, cuda) is not split
    assert copied == [400, 200]
    free[0] = 2396
    assert resident(split, cuda) is split
    free[0] = 10_000
    transformed = Split(split.x, split.y, transform=lambda x, generator: x)
    assert resident(transformed, cuda) is transformed
    assert resident(split, torch.device("cpu")) is split


def test_what_does_not_fit_is_pinned_and_copied_without_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: calls.append("pinned") or x)
    monkeypatch.setattr(torch.Tensor, "to", lambda x, device, non_blocking: calls.append((device, non_blocking)) or x)
    moved(torch.zeros(3), torch.device("cuda"))
    assert calls == ["pinned", (torch.device("cuda"), True)]
    moved(torch.zeros(3), torch.device("cpu"))
    assert calls[2:] == [(torch.device("cpu"), True)]


def test_there_are_at_most_four_processes_for_each_core(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    refuse_missing_devices(Settings(devices=12, accelerator="cpu"))
    with pytest.raises(BadInput, match="up to 12 cpu devices at once, got --devices 13"):
        refuse_missing_devices(Settings(devices=13, accelerator="cpu"))


def test_batches_are_the_rows_of_the_order() -> None:
    """Of 14 in batches of four, two are left out in each epoch."""
    split = Split(torch.arange(14.0)[:, None], torch.arange(14))
    batches = Batches(split, 4, 3, rank=0, world=1, device=torch.device("cpu"))
    for step in range(6):
        rows = dgm.data.order(14, 3, step // 3)[4 * (step % 3) :][:4]
        x, y = batches.at(step)
        assert torch.equal(x[:, 0].long(), rows)
        assert torch.equal(y, rows)
