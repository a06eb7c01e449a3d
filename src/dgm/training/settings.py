"""How a model is trained: the same settings for all of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

from dgm import settings
from dgm.errors import BadInput
from dgm.settings import setting

STEPS = 2000  # when neither steps nor a budget is given


@dataclass(frozen=True, kw_only=True)
class PlayerSettings:
    """What one player of a game has of its own; None is what the training's settings say.

    Two rates: GANs Trained by a Two Time-Scale Update Rule (Heusel et al., 2017), arXiv:1706.08500.
    """

    optimiser: Literal["adamw", "rmsprop", "sgd"] | None = setting(None, "its optimiser")
    lr: float | None = setting(None, "its peak learning rate", low=0.0)
    betas: tuple[float, float] | None = setting(None, "its averaging of the gradient and its square", low=0, high=1)
    weight_decay: float | None = setting(None, "its weight decay", low=0.0)
    clip: float | None = setting(None, "largest norm of its gradient; 0 does not clip", low=0.0)

    def over(self, settings: Settings) -> PlayerSettings:
        """These, with the training's where there are none."""
        names = [field.name for field in fields(self)]
        own = {name: getattr(self, name) for name in names}
        return PlayerSettings(**{n: getattr(settings, n) if value is None else value for n, value in own.items()})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The settings of `dgm.fit` and the options of ``dgm train``."""

    steps: int | None = setting(None, f"steps to train ({STEPS} if no budget is given)", low=1)
    budget: float | None = setting(None, "seconds to train, in place of steps", low=0.001)
    batch: int = setting(128, "examples a step, over all devices", low=1)
    optimiser: Literal["adamw", "rmsprop", "sgd"] = setting(
        "adamw", "what descends the loss; the first of betas is sgd's momentum, the second rmsprop's averaging"
    )
    lr: float = setting(1e-3, "peak learning rate", low=0.0)
    betas: tuple[float, float] = setting(
        (0.9, 0.999), "the optimiser's averaging of the gradient and its square", low=0, high=1
    )
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay", low=0.0)
    warmup: int = setting(0, "steps over which the learning rate rises linearly", low=0)
    schedule: Literal["cosine", "constant"] = setting("cosine", "what the learning rate does after the warm-up")
    clip: float = setting(0.0, "largest norm of the gradient; 0 does not clip", low=0.0)
    ema: float = setting(0.0, "decay of the weights' moving average; 0 keeps none", low=0.0, high=1.0)
    select: Literal["best", "last"] = setting("best", "which weights to keep, by the loss on the validation split")
    validate_every: int = setting(
        0, "steps between validations; 0 validates often at the start and 20 times later, in a tenth of the time", low=0
    )
    patience: int | Literal["auto"] = setting(
        "auto",
        "epochs without a better validation after which training stops; 0 never stops it, auto stops it on tables and "
        "small sets, once 30 epochs and a fifth of the training have gained nothing",
        low=0,
    )
    checkpoint_every: float = setting(60.0, "seconds between checkpoints", low=0.0)
    keep: int = setting(2, "checkpoints to keep", low=1)
    precision: Literal["auto", "32-true", "bf16-mixed"] = setting(
        "auto", "of the arithmetic; auto times a step in each and takes bf16-mixed where it is clearly faster"
    )
    compile: bool = setting(False, "compile the loss with torch.compile")
    accelerator: Literal["auto", "cpu", "cuda", "mps"] = setting("auto", "which kind of device")
    devices: int = setting(1, "how many processes train together", low=1)
    strategy: Literal["ddp", "fsdp"] = setting(
        "ddp", "of several processes: each has all weights, or a shard of them; see docs/clusters.md"
    )
    seed: int = setting(0, "of the initial weights, the order of the data and the noise", low=0)
    tensorboard: bool = setting(False, "write TensorBoard files too")
    players: dict[str, Any] | None = setting(  # noqa: RUF009
        None, "of a game: what each player has of its own, by its name"
    )

    def of_player(self, name: str) -> PlayerSettings:
        own = (self.players or {}).get(name.rpartition(".")[2], {})  # a player of a part is "part.player"
        return settings.build(PlayerSettings, own, what=name).over(self)


def settings_for(model: Any, chosen: Mapping[str, Any], kept: Mapping[str, Any] | None = None) -> Settings:
    """The chosen settings over those of the model's paper over the defaults.

    Args:
        kept: The settings of the run that goes on, in place of the paper's.
    """
    before = {"patience": 0}  # what a run did that was begun before there was this setting
    values = dict(getattr(model, "defaults", {})) if kept is None else before | dict(kept)
    if chosen.get("steps") is not None or chosen.get("budget") is not None:
        values |= {"steps": None, "budget": None}
    players = merged(values.get("players") or {}, chosen.get("players") or {})
    result = settings.build(Settings, values | dict(chosen, players=players or None), what="training")
    for name in players:
        result.of_player(name)  # says now what is out of range
    if result.steps is not None and result.budget is not None:
        raise BadInput("both steps and a budget are given", "give one of the two")
    if result.steps is None and result.budget is None:
        return replace(result, steps=STEPS)
    return result


def merged(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Each player's settings, those of ``after`` over those of ``before``."""
    return {name: dict(before.get(name, {})) | dict(after.get(name, {})) for name in [*before, *after]}
