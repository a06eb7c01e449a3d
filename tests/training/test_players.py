"""Each player's own optimiser, penalties at an interval, and buffers that move after the step."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn
from trainees import SPACE, Noisy, Normal, Point, made, points

from dgm.cli import train
from dgm.errors import BadInput, UnknownName
from dgm.protocols import Regulariser
from dgm.training import fit
from dgm.training.devices import fabric_for
from dgm.training.players import Player
from dgm.training.settings import Settings, settings_for


class Pair(nn.Module):
    """A game of two points that both go to the mean of the data."""

    Config = Point.Config
    players: ClassVar[tuple[str, ...]] = ("first", "second")
    defaults: ClassVar[dict[str, Any]] = {"lr": 1e-2, "players": {"second": {"lr": 3e-2, "betas": (0.0, 0.9)}}}

    def __init__(self) -> None:
        super().__init__()
        self.space, self.config = SPACE, self.Config()
        self.first, self.second = Point(SPACE, self.config), Point(SPACE, self.config)

    def losses(self, x: Tensor, y: Tensor | None = None) -> Iterator[tuple[str, Tensor]]:
        yield "first", self.first.loss(x)
        yield "second", self.second.loss(x)


def trained(module: nn.Module, optimiser: torch.optim.Optimizer, batches: list[Tensor]) -> Tensor:
    for x in batches:
        optimiser.zero_grad()
        module.loss(x).mean().backward()
        optimiser.step()
    return module.mean.detach()


def batches_of(model: Any, **settings: Any) -> list[Tensor]:
    """What each step sees, which depends on the seed alone."""
    seen: list[Tensor] = []
    watched = Normal(SPACE, Normal.Config())
    list(fit(watched, points(), **settings))
    seen += [x for x, _ in watched.seen]
    return seen


HOW = {"steps": 7, "batch": 16, "schedule": "constant", "select": "last", "precision": "32-true", "patience": 0}


@pytest.mark.parametrize(
    ("chosen", "first", "second"),
    [
        ({}, {"lr": 1e-2}, {"lr": 3e-2, "betas": (0.0, 0.9)}),
        ({"lr": 0.5}, {"lr": 0.5}, {"lr": 3e-2, "betas": (0.0, 0.9)}),
        (
            {"players": {"second": {"lr": 0.1}, "first": {"betas": (0.5, 0.5)}}},
            {"lr": 1e-2, "betas": (0.5, 0.5)},
            {"lr": 0.1, "betas": (0.0, 0.9)},
        ),
    ],
)
def test_each_player_has_its_own_rate_and_betas(chosen: Any, first: Any, second: Any) -> None:
    """Against torch's AdamW by hand. Kills: one rate for all, the model's own given up where another is chosen."""
    model = Pair()
    list(fit(model, points(), **HOW, **chosen))
    batches = batches_of(model, **HOW)
    for player, own in ((model.first, first), (model.second, second)):
        alone = Point(SPACE, Point.Config())
        expected = trained(alone, torch.optim.AdamW(alone.parameters(), weight_decay=0, **own), batches)
        torch.testing.assert_close(player.mean.detach(), expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("name", "optimiser"),
    [
        ("rmsprop", lambda p: torch.optim.RMSprop(p, lr=0.01, alpha=0.97, weight_decay=0.2)),
        ("sgd", lambda p: torch.optim.SGD(p, lr=0.01, momentum=0.8, weight_decay=0.2)),
    ],
)
def test_other_optimisers_are_torchs_and_go_on_to_the_same_bits(name: str, optimiser: Any, tmp_path: Any) -> None:
    how = {**HOW, "optimiser": name, "lr": 0.01, "betas": (0.8, 0.97), "weight_decay": 0.2, "checkpoint_every": 0.0}
    model = Point(SPACE, Point.Config())
    list(fit(model, points(), **how, out=tmp_path / "whole"))
    alone = Point(SPACE, Point.Config())
    expected = trained(alone, optimiser(alone.parameters()), batches_of(model, **HOW))
    torch.testing.assert_close(model.mean.detach(), expected, rtol=1e-6, atol=1e-7)
    steps = fit(Point(SPACE, Point.Config()), points(), **how, out=tmp_path / "cut")
    [next(steps) for _ in range(4)]
    steps.close()
    resumed = Point(SPACE, Point.Config())
    list(fit(resumed, points(), out=tmp_path / "cut", resume=True))
    assert torch.equal(resumed.mean, model.mean)


def test_settings_of_a_player_that_there_is_not_are_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean 'second'"):
        fit(Pair(), points(), players={"secnd": {"lr": 0.1}})
    with pytest.raises(BadInput, match="Normal is not a game and has no player 'first'"):
        fit(Normal(SPACE, Normal.Config()), points(), players={"first": {"lr": 0.1}})
    with pytest.raises(BadInput, match="second's lr must be at least 0"):
        fit(Pair(), points(), players={"second": {"lr": -0.1}})
    with pytest.raises(UnknownName, match="no option of second is called 'rate'"):
        fit(Pair(), points(), players={"second": {"rate": 0.1}})


def test_the_command_line_has_options_for_each_player() -> None:
    parser = train.Parser(prog="dgm train")
    train.add_arguments(parser, "gan", typed=True)
    chosen = parser.parse_args(
        ["gan", "--players.discriminator.lr", "4e-4", "--players.discriminator.betas", "[0,0.9]"]
    )
    assert train.training_settings(chosen)["players"] == {"discriminator": {"lr": 4e-4, "betas": (0, 0.9)}}
    assert train.training_settings(parser.parse_args(["gan"]))["players"] is None


def test_settings_are_built_from_a_run_and_from_a_model() -> None:
    from dataclasses import asdict

    settings = settings_for(Pair(), {"steps": 3})
    assert settings.players == {"second": {"lr": 3e-2, "betas": (0.0, 0.9)}}
    assert settings_for(Pair(), {}, asdict(settings)) == settings
    assert settings.of_player("second").lr == 3e-2
    assert settings.of_player("first") == Settings(lr=1e-2).of_player("first")
    assert settings.of_player("prior.second").lr == 3e-2  # of a part


class Pulled(Point):
    """A point that a penalty draws to 10, at every third step three times as much."""

    def __init__(self) -> None:
        super().__init__(SPACE, Point.Config())
        self.asked = 0

    def regularisers(self) -> Sequence[Regulariser]:
        return [Regulariser("model", 3, self.pull)]

    def pull(self, x: Tensor, y: Tensor | None) -> Tensor:
        self.asked += 1
        return (self.mean - 10).square().sum().expand(len(x))


def test_a_penalty_is_due_at_an_interval_and_multiplied_by_it() -> None:
    """By hand with plain gradient descent. Kills: every step, a wrong first step, a factor left out."""
    model = Pulled()
    sgd = {"optimiser": "sgd", "betas": (0.0, 0.0), "lr": 0.01}
    steps = list(fit(model, points(), **HOW, **sgd))
    assert model.asked == 3  # at steps 1, 4 and 7
    mean = torch.zeros(4)
    for k, x in enumerate(batches_of(model, **HOW)):
        loss = (x - mean).square().sum(1).mean().item()
        assert steps[k].losses["model"] == pytest.approx(loss, rel=1e-5)  # the penalty is no part of what is shown
        gradient = 2 * (mean - x.mean(0)) + (3 * 2 * (mean - 10) if k % 3 == 0 else 0)
        mean = mean - 0.01 * gradient
    torch.testing.assert_close(model.mean.detach(), mean, rtol=1e-5, atol=1e-6)


def test_a_players_norm_is_of_all_of_its_gradients() -> None:
    module, settings = nn.Linear(2, 1), Settings(accelerator="cpu")
    player = Player(module, settings.of_player("model"), fabric_for(settings))
    player.gradient(3 * module.weight.sum() + 4 * module.bias.sum())
    assert player.gradient_norm() == pytest.approx(math.sqrt(9 + 9 + 16))


class Twice(Pulled):
    """The same penalty two times, and one of a player that there is not."""

    def regularisers(self) -> Sequence[Regulariser]:
        return [Regulariser(player, 1, self.pull) for player in ("model", "model", "other")]


def test_penalties_of_one_player_are_added() -> None:
    """One step of plain descent from 0. Kills: their mean, a penalty of another player."""
    model = Twice()
    list(fit(model, points(), steps=1, batch=64, optimiser="sgd", betas=(0.0, 0.0), lr=0.01, select="last", ema=0.0))
    (x,) = batches_of(model, steps=1, batch=64)
    torch.testing.assert_close(model.mean.detach(), -0.01 * (-2 * x.mean(0) - 2 * 2 * 10))


def test_buffers_move_once_a_step_with_what_the_loss_gave() -> None:
    """Kills: before the step, at validations too, without the loss's outputs."""
    model = made("noisy")
    list(fit(model, points(), steps=5, batch=16, validate_every=1))
    assert int(model.visited) == 5 * 16

    class Watching(Noisy):
        def after_step(self, *outputs: Tensor) -> None:
            self.last = (outputs[0], self.network[0].bias.detach().clone())

    watching = Watching(SPACE, Noisy.Config())
    list(fit(watching, points(), steps=3, batch=16, select="last", ema=0.0))
    x, bias = watching.last
    assert torch.equal(x, batches_of(watching, **{**HOW, "steps": 3})[-1])
    assert torch.equal(bias, watching.network[0].bias)
