"""What a model can do under each of its settings, and what it then does not claim."""

from __future__ import annotations

from typing import Any

import pytest

from dgm import protocols
from dgm.models.gan import MODELS as GANS
from dgm.models.gan.base import Options
from dgm.registry import create, model_class
from dgm.space import Space

PLANE, IMAGE, CLIP = Space.continuous((2,)), Space.continuous((1, 4, 4)), Space.binary((3, 4))
LABELS = Space.categories(3)
CHAINS = {"Progressive", "Samplable", "Trainable", "Unnormalised"}
PERSISTENT = CHAINS | {"Stateful", "Diagnosed"}
FLOW = {"DataDependent", "Invertible", "Latent", "Samplable", "Trainable"}
MACHINE = CHAINS | {"AnnealedConstant", "DataDependent"}
MIXTURE = {"ExactLikelihood", "Samplable"}
CASES: list[tuple[str, Space, Space | None, dict[str, Any], set[str]]] = [
    ("ebm", PLANE, None, {}, PERSISTENT),
    ("ebm", PLANE, LABELS, {}, PERSISTENT | {"DataDependent"}),  # whose chains start with labels of the data
    ("ebm", PLANE, LABELS, {"trainer": "cd"}, CHAINS),
    ("ebm", PLANE, None, {"trainer": "nce"}, CHAINS | {"DataDependent"}),
    ("ebm", PLANE, None, {"trainer": "denoising"}, CHAINS),
    ("jem", PLANE, None, {}, PERSISTENT),
    ("jem", PLANE, LABELS, {}, PERSISTENT | {"Classifying"}),
    ("rbm", CLIP, None, {"hidden": 20}, MACHINE | {"ExactLikelihood"}),  # log Z by enumeration
    ("rbm", CLIP, None, {"hidden": 21}, MACHINE | {"EstimatedLikelihood"}),
    ("rbm", CLIP, None, {"hidden": 4, "chains": 2}, MACHINE | {"ExactLikelihood", "Stateful"}),
    ("gmm", PLANE, None, {}, MIXTURE | {"Fittable", "Imputing"}),
    ("gmm", PLANE, None, {"fitting": "gradient"}, MIXTURE | {"Trainable", "Imputing"}),
    ("kde", PLANE, None, {}, MIXTURE | {"Fittable", "Imputing"}),
    ("kde", PLANE, None, {"kernel": "tophat"}, MIXTURE | {"Fittable"}),
    ("nice", PLANE, None, {}, FLOW | {"ExactLikelihood", "Reparameterised"}),
    ("maf", PLANE, None, {"base": "mixture"}, FLOW | {"ExactLikelihood"}),  # of a drawn component
    ("maf", PLANE, None, {"base": "resampled"}, FLOW | {"EstimatedLikelihood"}),
    ("residual_flow", PLANE, None, {}, FLOW | {"ExactLikelihood"}),
    ("residual_flow", Space.continuous((16,)), None, {}, FLOW | {"ExactLikelihood"}),
    # whose log-determinant is an estimate, so that the exact density of a prior on z makes none of x
    ("residual_flow", Space.continuous((17,)), None, {}, FLOW - {"Invertible"} | {"EstimatedLikelihood"}),
    ("residual_flow", IMAGE, None, {}, FLOW - {"Invertible"} | {"EstimatedLikelihood"}),
    ("ffjord", IMAGE, None, {}, FLOW - {"Invertible"} | {"EstimatedLikelihood"}),
    ("tarflow", PLANE, None, {}, FLOW | {"ExactLikelihood"}),
]


@pytest.mark.parametrize(
    ("name", "space", "condition", "config", "expected"),
    CASES,
    ids=[f"{name} {space} {config}" for name, space, _, config, _ in CASES],
)
def test_what_a_model_can_do_follows_from_its_settings(
    name: str, space: Space, condition: Space | None, config: dict[str, Any], expected: set[str]
) -> None:
    model = create(name, space, condition=condition, **config)
    assert {one.__name__ for one in protocols.CAPABILITIES if protocols.has(model, one)} == expected


def test_a_game_has_the_penalties_that_its_paper_names_alone() -> None:
    """Kills: a default of `Options` that every game would have."""
    off = {"r1", "r2", "gradient_penalty", "one_sided_penalty", "drift", "weight_clip"}
    named = {
        "wgan": {"weight_clip"},
        "wgan_gp": {"gradient_penalty"},
        "r3gan": {"r1", "r2"},
        "progressive_gan": {"gradient_penalty", "drift"},
    }
    configs = {name: model_class(name).Config() for name in GANS if issubclass(model_class(name).Config, Options)}
    found = {name: {one for one in off if getattr(config, one)} for name, config in configs.items()}
    assert found == {name: named.get(name, set()) for name in configs}
    assert configs.keys() >= named.keys()
