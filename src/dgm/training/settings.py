"""The training settings of all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from dgm import settings
from dgm.errors import BadInput
from dgm.inputs import brief
from dgm.settings import setting

STEPS = 2000  # when neither steps nor a budget is given


@dataclass(frozen=True, kw_only=True)
class PlayerSettings:
    """The settings of one player of a game; None means the value of the training settings.

    Source of two learning rates: GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017), arXiv:1706.08500.
    """

    optimiser: Literal["adamw", "rmsprop", "sgd"] | None = setting(None, "its optimiser")
    lr: float | None = setting(None, "its peak learning rate", low=0.0)
    betas: tuple[float, float] | None = setting(None, "its decay rates of the moments of the gradient", low=0, high=1)
    weight_decay: float | None = setting(None, "its weight decay", low=0.0)
    clip: float | None = setting(None, "its maximal gradient norm; 0 for no clipping", low=0.0)

    def __post_init__(self) -> None:
        refuse_endless_memory(self.betas or ())

    def over(self, settings: Settings) -> PlayerSettings:
        """These settings, with None replaced by the training settings."""
        names = [field.name for field in fields(self)]
        own = {name: getattr(self, name) for name in names}
        return PlayerSettings(**{n: getattr(settings, n) if value is None else value for n, value in own.items()})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of `dgm.fit` and the options of ``dgm train``."""

    steps: int | None = setting(None, f"steps to train ({STEPS} if no budget is given)", low=1)
    budget: float | None = setting(None, "seconds to train, in place of steps", low=0.001)
    batch: int = setting(128, "examples in each step, over all devices", low=1)
    optimiser: Literal["adamw", "rmsprop", "sgd"] = setting(
        "adamw", "the optimiser; the first of betas is the momentum of sgd, the second the decay rate of rmsprop"
    )
    lr: float = setting(1e-3, "peak learning rate", low=0.0)
    betas: tuple[float, float] = setting(
        (0.9, 0.999), "decay rates of the first and second moment of the gradient", low=0, high=1
    )
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay", low=0.0)
    warmup: int = setting(0, "steps over which the learning rate rises linearly", low=0)
    schedule: Literal["cosine", "constant"] = setting("cosine", "learning rate schedule after the warm-up")
    clip: float = setting(0.0, "maximal norm of the gradient; 0 for no clipping", low=0.0)
    ema: float = setting(
        0.0, "decay of the exponential moving average (EMA) of the weights; 0 for none", low=0.0, high=1.0
    )
    select: Literal["best", "last"] = setting(
        "best", "weights to select: of the best validation loss, or of the last step"
    )
    validate_every: int = setting(
        0,
        "steps between validations; 0 for a schedule with more validations at the start, at most a tenth of the time",
        low=0,
    )
    patience: int | Literal["auto"] = setting(
        "auto",
        "epochs without a better validation loss after which training stops; 0 for no early stopping; auto stops on "
        "tables and small sets after 30 epochs and a fifth of the training without improvement",
        low=0,
    )
    checkpoint_every: float = setting(60.0, "seconds between checkpoints", low=0.0)
    keep: int = setting(2, "number of checkpoints to keep", low=1)
    precision: Literal["auto", "32-true", "bf16-mixed"] = setting(
        "auto", "floating-point precision; auto benchmarks both and chooses bf16-mixed if it is clearly faster"
    )
    compile: bool = setting(False, "compile the loss with torch.compile")
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "kind of device")
    devices: int = setting(1, "number of devices, with one process each", low=1)
    strategy: Literal["ddp", "fsdp"] = setting(
        "ddp", "for several processes: replicated (ddp) or sharded (fsdp) weights; see docs/clusters.md"
    )
    seed: int = setting(0, "random seed of the initial weights, the order of the data and the noise", low=0)
    tensorboard: bool = setting(False, "also write TensorBoard files")
    players: dict[str, Any] | None = setting(None, "for games: the settings of each player, by its name")

    def __post_init__(self) -> None:
        refuse_endless_memory(self.betas)

    def of_player(self, name: str) -> PlayerSettings:
        own = (self.players or {}).get(name.rpartition(".")[2], {})  # the name of a part's player is "part.player"
        return settings.build(PlayerSettings, own, what=name).over(self)


def refuse_endless_memory(betas: Sequence[float]) -> None:
    """A decay rate of 1 would keep the moment of before the first step."""
    if any(beta >= 1 for beta in betas):
        raise BadInput(f"betas must be below 1, got {', '.join(map(str, betas))}", "give rates such as 0.9, 0.999")


def settings_for(model: Any, chosen: Mapping[str, Any], kept: Mapping[str, Any] | None = None) -> Settings:
    """The chosen settings; then the settings of the model's paper; then the defaults.

    Args:
        kept: The settings of the resumed run, which replace those of the paper.
    """
    before = {"patience": 0}  # the value of older runs, which do not have this setting
    own = getattr(model, "defaults", {})
    values = dict(own) if kept is None else before | dict(kept)
    if chosen.get("steps") is not None or chosen.get("budget") is not None:
        values |= {"steps": None, "budget": None}
    players = merged(values.get("players") or {}, chosen.get("players") or {})
    result = settings.build(Settings, values | dict(chosen, players=players or None), what="training", defaults=own)
    for name in players:
        result.of_player(name)  # checks the ranges
    if result.steps is not None and result.budget is not None:
        raise BadInput("both steps and a budget are given", "give one of the two")
    if result.steps is None and result.budget is None:
        return replace(result, steps=STEPS)
    return result


def merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The settings of each player in ``before``, updated with those in ``after``."""
    for given in (before, after):
        if not isinstance(given, Mapping) or not all(isinstance(each, Mapping) for each in given.values()):
            wrong = f"players must be the settings of each player by its name, got {brief(given)}"
            raise BadInput(wrong, "give them as {discriminator: {lr: 0.0004}}")
    return {name: dict(before.get(name, {})) | dict(after.get(name, {})) for name in [*before, *after]}
