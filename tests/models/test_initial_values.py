"""What is constant in an untrained model, and at which value: heads that start at zero, gains that start at one."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from torch import Tensor, nn

from dgm.errors import DgmError
from dgm.models.table import MODELS
from dgm.registry import create
from dgm.space import Space

VECTOR, IMAGE, BITS, TEXT = (
    Space.continuous((4,)),
    Space.levels((1, 8, 8), 17),
    Space.binary((8,)),
    Space.tokens(16, 20),
)
DENOISER = ["body.head.bias", "body.head.weight", "body.norms.#.bias"]
ATTENTION, NORMS = ["head.bias", "head.weight"], ["body.layers.#.norm_#.weight", "body.norm.weight"]
OF_VAES = {-1.0: ["log_scale"], 0.0: ["quick.shift", "trained"]}
ACTNORM = ["initialised", "loc", "log_scale"]
GATES = ["first", "gates", "last"]


def under(prefix: str, names: list[str]) -> list[str]:
    return [f"{prefix}.{name}" for name in names]


def denoiser(prefix: str = "network") -> dict[float, list[str]]:
    return {0.0: under(prefix, DENOISER), 1.0: [f"{prefix}.body.norms.#.weight"]}


def layers(prefix: str) -> dict[float, list[str]]:
    return {0.0: under(prefix, ["bias", "weight"])}


CASES: list[tuple[list[str], Space, dict[float, list[str]]]] = [
    (["ddpm", "edm", "flow_matching", "mean_flow", "ncsn", "score_matching", "score_sde"], VECTOR, denoiser()),
    (["ot_cfm"], VECTOR, denoiser("matching.network")),
    (["ddim"], VECTOR, denoiser("ddpm.network")),
    (["vdm"], VECTOR, {-8.0: ["path.v"], 0.0: [*under("network", DENOISER), "path.w"], 1.0: denoiser()[1.0]}),
    (["vae", "iwae", "hierarchical_vae", "ladder_vae"], VECTOR, OF_VAES),
    (["beta_vae", "tc_vae"], VECTOR, {-1.0: ["log_scale"], 0.0: ["quick.shift"]}),
    (["autoencoder", "contractive_ae", "denoising_ae", "sparse_ae"], VECTOR, {0.0: ["mean"]}),
    (["stacked_ae"], VECTOR, {0.0: ["mean", "step"]}),
    (["maf"], VECTOR, layers("transform.#.transform.#.network.layers.#")),
    (["nsf"], VECTOR, layers("transform.#.transform.#.network.layers.#")),
    (["realnvp"], VECTOR, layers("transform.#.transform.#.network.#")),
    (["residual_flow"], VECTOR, {0.0: under("transform.#", ACTNORM), 0.5: ["transform.#.network.#.beta"]}),
    (["tarflow"], VECTOR, {0.0: under("transform.#", ATTENTION), 1.0: under("transform.#", NORMS)}),
    (["char_gpt"], TEXT, {0.0: under("network", ATTENTION), 1.0: under("network", NORMS)}),
    (["integer_flow"], IMAGE, {0.0: ["started", *layers("resolutions.#.couplings.#.network.last.#")[0.0]]}),
    (["nade"], VECTOR, {0.0: ["b", "c"], 1.0: ["rho"]}),
    (["rbm"], BITS, {0.0: ["a", "b", "base", "started"]}),
    (["gmm"], VECTOR, {0.0: ["fitted"], 0.05: ["weights"]}),
    (["kde"], VECTOR, {0.0: ["fitted"], 0.5: ["h"]}),
    (["vq_vae"], IMAGE, {0.0: ["codebook.counts", "codebook.sums"]}),
    (["energy_matching"], VECTOR, {0.0: ["trained"]}),
    (["progressive_gan"], VECTOR, {0.0: ["steps"]}),
    (
        ["td_vae"],
        VECTOR,
        {
            0.0: [
                *(f"{gated}.{part}.bias" for gated in ("belief", "smoothing", "transition") for part in GATES),
                *("decoder.#.bias", "first", "frame.#.bias", "trained"),
            ]
        },
    ),
]


@pytest.mark.parametrize(("name", "space", "expected"), [(name, *case) for names, *case in CASES for name in names])
def test_constants_of_an_untrained_model(name: str, space: Space, expected: dict[float, list[str]]) -> None:
    """Of parameters and buffers, without drawn single numbers, masks, and the location and scale of the data."""
    assert name in MODELS
    model, found = create(name, space), dict[float, set[str]]()
    for full_name, tensor in model.state_dict().items():
        of_data = "scaling." in full_name or full_name.endswith(".mask")
        random = tensor.is_floating_point() and tensor.numel() == 1 and float(tensor) % 0.5
        if not of_data and not random and tensor.numel() and (tensor == tensor.flatten()[0]).all():
            found.setdefault(float(tensor.flatten()[0]), set()).add(re.sub(r"\d+", "#", full_name))
    assert {value: sorted(names) for value, names in found.items()} == {
        value: sorted(names) for value, names in expected.items()
    }


def created(name: str) -> nn.Module:
    """On the first space that the model takes."""
    for space in (IMAGE, VECTOR, BITS, TEXT, Space.binary((4, 1, 1, 1))):
        try:
            return create(name, space)  # type: ignore[return-value]
        except DgmError:
            continue
    raise AssertionError(f"{name} takes none of the spaces")


def tensors(value: object) -> Iterator[Tensor]:
    """Also those in lists, tuples and dictionaries."""
    if isinstance(value, Tensor):
        yield value
    for inner in value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ():
        yield from tensors(inner)


@pytest.mark.parametrize("name", MODELS)
def test_all_numbers_of_a_model_move_with_it(name: str) -> None:
    """To a GPU or to float64: they are parameters or buffers. Kills: a plain attribute for either.

    A masked layer's product takes the mask of its buffer.
    """
    left = {
        f"{type(module).__name__}.{attribute}"
        for module in created(name).modules()
        for attribute, value in vars(module).items()
        if not attribute.startswith("_") and any(tensor.is_floating_point() for tensor in tensors(value))
    }
    assert left <= {"MaskedLinear.staircase"}
