"""The U-Net of the diffusion families beside diffusers' UNet2DModel: 32 x 32, one channel.

Same channels at each level, same batch, same optimiser. Ours has as many blocks on the way up as on the way down where
diffusers has one more, so that more of them fit at the lowest resolution for as many parameters; both counts are in
the name.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable

import torch
from timing import in_turn, no_arguments, seconds
from torch import Tensor, nn

import dgm
from dgm import Space
from dgm.networks.denoiser import Denoiser

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from diffusers import UNet2DModel

ROUNDS, BATCH, SAMPLES, STEPS = 7, 64, 16, 50
WIDTHS = (32, 64, 64)


class Peer(nn.Module):
    """UNet2DModel with our call."""

    def __init__(self, layers: int, attention: bool) -> None:
        super().__init__()
        lowest = "Attn" if attention else ""
        self.body = UNet2DModel(
            sample_size=32,
            in_channels=1,
            out_channels=1,
            layers_per_block=layers,
            block_out_channels=WIDTHS,
            down_block_types=("DownBlock2D", "DownBlock2D", f"{lowest}DownBlock2D"),
            up_block_types=(f"{lowest}UpBlock2D", "UpBlock2D", "UpBlock2D"),
            add_attention=attention,
        )

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.body(x, 1000 * t).sample


def unet(blocks: tuple[int, ...], attention: int) -> Denoiser:
    multipliers = tuple(width // WIDTHS[0] for width in WIDTHS)
    return Denoiser((1, 32, 32), width=WIDTHS[0], multipliers=multipliers, blocks=blocks, attention=attention)


def stepping(network: nn.Module, bf16: bool) -> Callable[[], None]:
    optimiser = torch.optim.AdamW(network.parameters(), fused=True)
    x, eps, t = torch.randn(BATCH, 1, 32, 32), torch.randn(BATCH, 1, 32, 32), torch.rand(BATCH)

    def step() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            loss = (network(x, t) - eps).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step


def evaluating(network: nn.Module, bf16: bool) -> Callable[[], None]:
    x, t = torch.randn(SAMPLES, 1, 32, 32), torch.rand(SAMPLES)

    @torch.no_grad()
    def evaluate() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            network(x, t)

    return evaluate


def compare(name: str, ours: Callable[[], None], peer: Callable[[], None], rounds: int = ROUNDS) -> None:
    """After a round that is not timed."""
    ours(), peer()
    in_turn(name, lambda: seconds(ours), lambda: seconds(peer), rounds=rounds, unit="ms")


def beside_diffusers(settings: str, ours: nn.Module, peer: nn.Module) -> None:
    counts = [sum(p.numel() for p in network.parameters()) for network in (ours, peer)]
    what = f"U-Net {WIDTHS}, {settings}; peer: diffusers' UNet2DModel; {counts[0]:,} and {counts[1]:,} parameters"
    for bf16 in (False, True):
        precision = "bf16 autocast" if bf16 else "float32"
        step = f"a training step at batch size {BATCH}, {precision}"
        compare(f"{what}: {step}", stepping(ours, bf16), stepping(peer, bf16))
        compare(f"{what}: one evaluation of {SAMPLES}, {precision}", evaluating(ours, bf16), evaluating(peer, bf16))
    compare(
        f"{what}: a training step at batch size {BATCH}, ours in bf16 and theirs in float32",
        stepping(ours, True),
        stepping(peer, False),
    )


def sampler() -> None:
    """What sampling takes beside the network alone, as often."""
    model = dgm.create("ddpm", Space.levels((1, 32, 32), 256), width=32, sampling_steps=STEPS).eval()
    evaluate = evaluating(model.network, False)

    def alone() -> None:
        for _ in range(STEPS):
            evaluate()

    name = f"DDPM, {SAMPLES} samples of 32×32 in {STEPS} sampling steps of DDIM; peer: its network alone, {STEPS} times"
    compare(name, lambda: model.sample(SAMPLES, seed=0), alone, rounds=3)


def main() -> None:
    torch.manual_seed(0)
    beside_diffusers("2 layers, attention at 8×8", unet((2, 2, 4), attention=8), Peer(2, attention=True))
    beside_diffusers("1 layer, no attention", unet((1, 1, 3), attention=0), Peer(1, attention=False))
    sampler()


if __name__ == "__main__":
    no_arguments(__doc__)
    main()
