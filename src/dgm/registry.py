"""The table of models: name, where its class is, its family, its paper. Nothing is imported until it is used."""

from __future__ import annotations

import dataclasses
import importlib
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import distributions
from typing import TYPE_CHECKING, Any

from dgm import settings
from dgm.errors import BadInput, UnknownName
from dgm.inputs import of_type
from dgm.space import Space

if TYPE_CHECKING:
    from dgm.protocols import Model


@dataclass(frozen=True)
class Spec:
    """One model of the table.

    Attributes:
        target: ``package.module:Class``.
        family: The family's name, as in the folder of the model's file.
        paper: Authors and year, with the arXiv number where there is one.
        summary: One line that says what it is.
        likelihood: The kind it has of images: exact, lower_bound, estimate, unnormalised or none.
    """

    target: str
    family: str
    paper: str
    summary: str
    likelihood: str

    def load(self) -> type[Model]:
        return _class_at(self.target)


MODELS: Mapping[str, Spec] = {
    "gmm": Spec(
        "dgm.models.mixture.gmm:GMM",
        "mixture",
        "Dempster, Laird & Rubin 1977",
        "mixture of Gaussians, fitted by expectation maximisation",
        "lower_bound",
    ),
    "fvsbn": Spec(
        "dgm.models.autoregressive.fvsbn:FVSBN",
        "autoregressive",
        "Neal 1992; Frey, Hinton & Dayan 1996",
        "logistic regression of each dimension on all before it",
        "exact",
    ),
    "nade": Spec(
        "dgm.models.autoregressive.nade:NADE",
        "autoregressive",
        "Larochelle & Murray 2011; Uria et al. 2013, arXiv:1306.0186",
        "one hidden layer a dimension, its weights shared by all",
        "exact",
    ),
    "made": Spec(
        "dgm.models.autoregressive.made:MADE",
        "autoregressive",
        "Germain et al. 2015, arXiv:1502.03509",
        "masked autoencoder: every conditional in one pass",
        "exact",
    ),
    "orderless_made": Spec(
        "dgm.models.autoregressive.orderless_made:OrderlessMADE",
        "autoregressive",
        "Germain et al. 2015, arXiv:1502.03509",
        "masked autoencoder in many orders, averaged",
        "exact",
    ),
    "pixelrnn": Spec(
        "dgm.models.autoregressive.pixelrnn:PixelRNN",
        "autoregressive",
        "van den Oord et al. 2016, arXiv:1601.06759",
        "LSTMs down the rows or along the diagonals",
        "exact",
    ),
    "pixelcnn": Spec(
        "dgm.models.autoregressive.pixelcnn:PixelCNN",
        "autoregressive",
        "van den Oord et al. 2016, arXiv:1601.06759",
        "masked convolutions over the pixels above and to the left",
        "exact",
    ),
    "gated_pixelcnn": Spec(
        "dgm.models.autoregressive.gated_pixelcnn:GatedPixelCNN",
        "autoregressive",
        "van den Oord et al. 2016, arXiv:1606.05328",
        "gated convolutions in two stacks that see every earlier pixel",
        "exact",
    ),
    "pixelcnn_pp": Spec(
        "dgm.models.autoregressive.pixelcnn_pp:PixelCNNPP",
        "autoregressive",
        "Salimans et al. 2017, arXiv:1701.05517",
        "whole pixels by a mixture of discretised logistics, at several resolutions",
        "exact",
    ),
    "image_gpt": Spec(
        "dgm.models.autoregressive.image_gpt:ImageGPT",
        "autoregressive",
        "Chen et al. 2020",
        "causal transformer over pixels in reading order",
        "exact",
    ),
    "char_gpt": Spec(
        "dgm.models.autoregressive.char_gpt:CharGPT",
        "autoregressive",
        "Radford et al. 2019",
        "causal transformer over the characters of a text",
        "exact",
    ),
    "wavenet": Spec(
        "dgm.models.autoregressive.wavenet:WaveNet",
        "autoregressive",
        "van den Oord et al. 2016, arXiv:1609.03499",
        "dilated causal convolutions over sound",
        "exact",
    ),
    "autoencoder": Spec(
        "dgm.models.autoencoder.autoencoder:Autoencoder",
        "autoencoder",
        "Hinton & Salakhutdinov 2006",
        "code and reconstruction, sampled through a Gaussian fitted to the codes",
        "none",
    ),
    "vae": Spec(
        "dgm.models.vae.vae:VAE",
        "vae",
        "Kingma & Welling 2013, arXiv:1312.6114",
        "variational autoencoder with a Gaussian posterior",
        "lower_bound",
    ),
    "realnvp": Spec(
        "dgm.models.flow.realnvp:RealNVP",
        "flow",
        "Dinh et al. 2016, arXiv:1605.08803",
        "affine coupling layers, inverted in closed form",
        "lower_bound",
    ),
    "gan": Spec(
        "dgm.models.gan.gan:GAN",
        "gan",
        "Goodfellow et al. 2014, arXiv:1406.2661",
        "generator against discriminator, non-saturating loss",
        "none",
    ),
    "ebm": Spec(
        "dgm.models.energy.ebm:EBM",
        "energy",
        "Du & Mordatch 2019, arXiv:1903.08689",
        "energy network sampled by Langevin dynamics with a replay buffer",
        "unnormalised",
    ),
    "score_matching": Spec(
        "dgm.models.score.score_matching:ScoreMatching",
        "score",
        "Hyvärinen 2005; Vincent 2011; Song et al. 2019, arXiv:1905.07088",
        "score at one noise level: explicit, implicit, sliced or denoising, Langevin dynamics",
        "none",
    ),
    "ncsn": Spec(
        "dgm.models.score.ncsn:NCSN",
        "score",
        "Song & Ermon 2019, arXiv:1907.05600",
        "score at many noise levels, annealed Langevin dynamics, density by the ODE",
        "estimate",
    ),
    "score_sde": Spec(
        "dgm.models.score.score_sde:ScoreSDE",
        "score",
        "Song et al. 2020, arXiv:2011.13456",
        "score in continuous time along an SDE, predictor and corrector, density by the ODE",
        "estimate",
    ),
    "ddpm": Spec(
        "dgm.models.diffusion.ddpm:DDPM",
        "diffusion",
        "Ho et al. 2020, arXiv:2006.11239",
        "denoising diffusion, ancestral and DDIM sampling",
        "lower_bound",
    ),
    "ddim": Spec(
        "dgm.models.diffusion.ddim:DDIM",
        "diffusion",
        "Song et al. 2020, arXiv:2010.02502",
        "DDPM's training, samples without noise on the way, a code for each image",
        "lower_bound",
    ),
    "vdm": Spec(
        "dgm.models.diffusion.vdm:VDM",
        "diffusion",
        "Kingma et al. 2021, arXiv:2107.00630",
        "diffusion with a learnt noise schedule, trained on its bound",
        "lower_bound",
    ),
    "edm": Spec(
        "dgm.models.diffusion.edm:EDM",
        "diffusion",
        "Karras et al. 2022, arXiv:2206.00364",
        "preconditioned denoiser, sampled in few steps of Heun's method",
        "estimate",
    ),
    "flow_matching": Spec(
        "dgm.models.flow_matching.flow_matching:FlowMatching",
        "flow_matching",
        "Lipman et al. 2022, arXiv:2210.02747",
        "velocity of straight paths from noise to data, Euler and Heun",
        "estimate",
    ),
    "ot_cfm": Spec(
        "dgm.models.flow_matching.ot_cfm:OTCFM",
        "flow_matching",
        "Tong et al. 2023, arXiv:2302.00482; Pooladian et al. 2023, arXiv:2304.14772",
        "flow matching of noise paired to each batch by optimal transport",
        "estimate",
    ),
    "rectified_flow": Spec(
        "dgm.models.flow_matching.rectified_flow:RectifiedFlow",
        "flow_matching",
        "Liu et al. 2022, arXiv:2209.03003",
        "flow matching, then once more on its own pairs, sampled in a step or few",
        "estimate",
    ),
    "mean_flow": Spec(
        "dgm.models.flow_matching.mean_flow:MeanFlow",
        "flow_matching",
        "Geng et al. 2025, arXiv:2505.13447",
        "average velocity between two times, sampled in one step",
        "estimate",
    ),
    "masked_diffusion": Spec(
        "dgm.models.discrete_diffusion.masked_diffusion:MaskedDiffusion",
        "discrete_diffusion",
        "Sahoo et al. 2024, arXiv:2406.07524",
        "values masked at random and predicted all at once",
        "lower_bound",
    ),
}


# what `dgm compare` compares unless told otherwise
ONE_OF_EACH_FAMILY = (
    "gmm",
    "made",
    "autoencoder",
    "vae",
    "realnvp",
    "gan",
    "ebm",
    "ncsn",
    "ddpm",
    "flow_matching",
    "masked_diffusion",
)


# every package.module:Class that the user has named in this process: files may name those again
_named: set[str] = set()


@cache
def entry_point_models() -> Mapping[str, str]:
    """Others' models, by the entry points of the group ``dgm.models``: name to ``package.module:Class``.

    Those of installed packages: the empty entry of Python's path, the working directory, where a file may lie that was
    downloaded with a run, is left out.
    """
    installed = distributions(path=[place for place in sys.path if place])
    points = (point for package in installed for point in package.entry_points)
    return {point.name: point.value for point in points if point.group == "dgm.models"}


def model_class(name: str) -> type[Model]:
    """The class of a model that the user names: of the table, of an entry point, or ``package.module:Class``.

    The last is imported, so ``name`` must not come from a file: `class_in_file` is for those.

    Raises:
        UnknownName: With the nearest name there is.
        BadInput: For a class that cannot be imported, with the reason.
    """
    if name in MODELS:
        return MODELS[name].load()
    if name in entry_point_models():
        return _class_at(entry_point_models()[name])
    if ":" in name:
        found = _class_at(name)
        _named.add(name)
        return found
    raise UnknownName.of("model", name, [*MODELS, *entry_point_models()])


def class_in_file(name: str) -> type[Model]:
    """The class of a model that a file names: a name of `dgm models`, or a class that the user has named before.

    Raises:
        UnknownName: With the nearest name there is.
        BadInput: For any other ``package.module:Class``: a file chooses no code.
    """
    if is_own(name) and name not in _named:
        wrong = f"the file names the model '{name}', which is code that dgm does not come with"
        raise BadInput(
            wrong, "if you trust that code: --trust on the command line, dgm.load(path, model=Class) in Python"
        )
    return model_class(name)


def is_own(name: str) -> bool:
    """Whether it is ``package.module:Class``, and no name of `dgm models`."""
    return ":" in name and name not in MODELS and name not in entry_point_models()


def model_name(cls: type[Model]) -> str:
    """The name by which `model_class` finds ``cls``."""
    target = f"{cls.__module__}:{cls.__qualname__}"
    named = {spec.target: name for name, spec in MODELS.items()} | {
        value: name for name, value in entry_point_models().items()
    }
    return named.get(target, target)


def create(name: str, space: Space, condition: Space | None = None, **config: Any) -> Model:
    """A model of ``space``, untrained: p(x), or p(x|y) for every y of the space ``condition``.

    A model that takes only continuous x is wrapped on a discrete space: it is trained on x + u with u uniform on
    [0, 1), and its likelihood becomes a lower bound on log P(x).

    Args:
        name: As in `model_class`.
        condition: The space of y, such as ``Space.categories(10)`` for one of ten labels; None for a model without.
        config: The model's own settings; those not named keep their defaults.

    Raises:
        UnknownName: For a model or a setting that does not exist.
        BadInput: For a setting out of range, a space or a condition that the model does not take, or more weights than
            memory.

    Example:
        >>> create("realnvp", Space.continuous((2,)), layers=2).config.layers
        2
    """
    of_type("a model's name", name, str, "give it first, then the space; `dgm models` lists the names")
    of_type("the space", space, Space, "give dgm.Space.levels((1, 8, 8), 17) or the like, or a data set's own .space")
    if condition is not None:
        of_type("the condition", condition, Space, "give the space of y, such as dgm.Space.categories(10)")
    return _made(model_class(name), name, space, condition, config)


def _made(cls: type[Model], name: str, space: Space, condition: Space | None, config: Mapping[str, Any]) -> Model:
    """The model, which keeps its condition."""
    if "classes" in cls.Config.__dataclass_fields__:  # of the models whose only condition is a label
        if condition is not None and (condition.kind, condition.shape) != ("categories", ()):
            raise BadInput(f"{name} takes one label as its condition, got {condition}", "take Space.categories(n)")
        config = {**config} if condition is None else {**config, "classes": condition.values}
    elif condition is not None:
        raise BadInput(f"{name} takes no condition, got {condition}", "leave it out; `dgm models` lists the others")
    model = _of_kind(cls, name, space, config)
    if condition is None and (labels := config.get("classes")):
        condition = Space.categories(labels)
    parts: tuple[Any, ...] = (model, getattr(model, "dequantised", model))
    for part in parts:
        part.condition = condition
    return model


def _of_kind(cls: type[Model], name: str, space: Space, config: Mapping[str, Any]) -> Model:
    chosen = settings.build(cls.Config, config, what=name)
    kinds = getattr(cls, "spaces", {space.kind} - {"record"})
    from dgm.memory import bounded

    if space.optional:
        raise BadInput(f"an example cannot be missing as a whole, got {space}", "make it a part of a Space.record")
    if not space.shape:
        raise BadInput(f"{name} takes examples of at least one dimension, got a {space}", "give it the shape (1,)")
    if space.kind in kinds:
        return bounded(lambda: cls(space, chosen), name)
    if space.discrete and space.kind != "tokens" and "continuous" in kinds:
        from dgm.distributions.dequantisation import dequantise

        inner = Space.continuous(space.shape, low=0.0, high=float(space.values or 0))
        return bounded(lambda: dequantise(cls(inner, chosen), space), name)
    taken = " or ".join(sorted(kinds))
    raise BadInput(f"{name} takes {taken} data, got a {space.kind} space", "choose another; `dgm models` lists them")


def describe(model: Model) -> dict[str, Any]:
    """What `from_description` needs to make the model again, untrained; plain values, fit for JSON."""
    bare: Any = getattr(model, "dequantised", model)
    config = {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in dataclasses.asdict(bare.config).items()
    }
    described = {"name": model_name(type(bare)), "config": config, "space": model.space.to_json()}
    condition: Space | None = getattr(model, "condition", None)
    return described if condition is None else {**described, "condition": condition.to_json()}


def from_description(description: Mapping[str, Any], model: type[Model] | None = None) -> Model:
    """The model of `describe`, untrained.

    Args:
        model: The class to use; None takes the one that the description names, as `class_in_file` allows.
    """
    name = description["name"]
    cls = class_in_file(name) if model is None else model
    condition = Space.from_json(description["condition"]) if "condition" in description else None
    return _made(cls, name, Space.from_json(description["space"]), condition, description["config"])


def _class_at(target: str) -> type[Model]:
    module, _, attribute = target.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError, SyntaxError) as error:
        wrong = f"the model '{target}' cannot be imported: {error}"
        raise BadInput(wrong, "give it as package.module:Class, from where Python finds it") from error
    if not isinstance(found, type) or not hasattr(found, "Config"):
        raise BadInput(f"'{target}' is no model: it needs to be a class with a Config", "see docs/own-model.md")
    return found
