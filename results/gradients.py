"""The variance of both gradients of discrete_vae, and the bias of Gumbel-softmax, on digits.

python results/gradients.py    writes results/digits-discrete_vae-gradients.json

The gradients are with respect to the logits of q(z|x) for 16 held-out images, of a model with three latents of four
values, whose exact gradient is a sum over 64 codes.
"""

from __future__ import annotations

import argparse
import json
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import dgm
from dgm.files import write_json
from dgm.models.vae import discrete_vae

STEPS, IMAGES, DRAWS, SEED = 600, 16, 1000, 0


def trained() -> tuple[Any, Tensor]:
    digits = dgm.data.load("digits")
    torch.manual_seed(SEED)
    model: Any = dgm.create("discrete_vae", digits.space, latent=3, categories=4, hidden=64)
    for _ in dgm.fit(model, digits, steps=STEPS, seed=SEED):
        ...
    return model.double().train(), digits.test.x[:IMAGES]


def exact(model: Any, x: Tensor) -> Tensor:
    """The gradient of the bound's negative, summed over all codes, (IMAGES, 12)."""
    logits = model.encoder(model.reader(x).flatten(1)).detach().requires_grad_()
    log_q = logits.unflatten(1, model.prior.shape).log_softmax(-1)
    codes = torch.cartesian_prod(*[torch.arange(4)] * 3)
    of_code = torch.stack([log_q[:, k, codes[:, k]] for k in range(3)]).sum(0)
    log_p = torch.stack([model.likelihood(x, z.expand(len(x), 3)) for z in codes], 1)
    bound = (of_code.exp() * log_p).sum(1) - model.divergence(log_q)
    return torch.autograd.grad(-bound.sum(), logits)[0]


def drawn(model: Any, x: Tensor) -> Tensor:
    """DRAWS of the gradient of the loss, (DRAWS, IMAGES, 12)."""
    seen: list[Tensor] = []
    handle = model.encoder.register_forward_hook(lambda module, given, out: seen.append(out))
    loss = model.loss(x.repeat(DRAWS, 1, 1, 1))
    handle.remove()
    return torch.autograd.grad(loss.sum(), seen[0])[0].unflatten(0, (DRAWS, len(x)))


def measured(name: str, gradients: Tensor, true: Tensor) -> dict[str, Any]:
    bias = (gradients.mean(0) - true).square().sum(1) - gradients.var(0).sum(1) / DRAWS  # without that of the mean
    return {
        "gradient": name,
        "variance": float(gradients.var(0).sum(1).mean()),
        "squared_bias": max(0.0, float(bias.mean())),
    }


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    model, x = trained()
    true, rows = exact(model, x), []
    for temperature in (2.0, 1.0, 0.5, 0.1):
        model.config = replace(model.config, temperature=temperature)
        rows.append(measured(f"gumbel, temperature {temperature}", drawn(model, x), true))
    for draws in (2, 4):
        model.config = replace(model.config, gradient="reinforce", draws=draws)
        rows.append(measured(f"reinforce, {draws} draws, baseline", drawn(model, x), true))
    baseline, discrete_vae.others = discrete_vae.others, torch.zeros_like
    rows.append(measured("reinforce, 4 draws, no baseline", drawn(model, x), true))
    discrete_vae.others = baseline
    document = {
        "command": "python results/gradients.py",
        "seed": SEED,
        "protocol": f"digits, {STEPS} steps, {IMAGES} test images, {DRAWS} draws; in nats², summed over 12 logits",
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "squared_norm": float(true.square().sum(1).mean()),
        "rows": rows,
    }
    write_json(document, Path(__file__).parent / "digits-discrete_vae-gradients.json")
    print(json.dumps(document, indent=2))


if __name__ == "__main__":
    main()
