"""The loop against the same training written out by hand."""

from __future__ import annotations

import errno
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn
from trainees import SPACE, Duel, Noisy, Normal, made, points

from dgm.data import Dataset, order
from dgm.errors import BadInput, MissingExtra, TrainingStopped, UnknownName, Unsupported
from dgm.space import Space
from dgm.training import Settings, fit
from dgm.training.players import factor
from dgm.training.settings import PlayerSettings, settings_for


def normal(condition: Space | None = None) -> Normal:
    return Normal(SPACE, Normal.Config(), condition)


def trained(model: Any, data: Dataset | None = None, **settings: Any) -> list[Any]:
    return list(fit(model, data or points(), **settings))


def test_equals_the_loop_written_by_hand() -> None:
    """Kills: another order, a cosine of step + 1, warm-up from zero, clipping by value, decay in the loss."""
    data, model, twin = points(), normal(), normal()
    trained(
        model, data, steps=11, batch=16, lr=0.1, warmup=4, clip=0.5, weight_decay=0.2, betas=(0.8, 0.95), select="last"
    )
    optimiser = torch.optim.AdamW(twin.parameters(), betas=(0.8, 0.95), weight_decay=0.2)
    for step in range(11):
        epoch, place = divmod(step, 4)
        rows = order(64, 0, epoch)[16 * place : 16 * (place + 1)]
        optimiser.param_groups[0]["lr"] = 0.1 * min(1, (step + 1) / 4) * 0.5 * (1 + math.cos(math.pi * step / 11))
        optimiser.zero_grad()
        twin.loss(data.train.x[rows]).mean().backward()
        nn.utils.clip_grad_norm_(list(twin.parameters()), 0.5)
        optimiser.step()
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=1e-6, atol=1e-7)


def test_reaches_the_maximum_of_the_likelihood() -> None:
    data, model = points(512), normal()
    trained(model, data, steps=400, batch=512, lr=0.1, select="last")
    torch.testing.assert_close(model.mean.detach(), data.train.x.mean(0), rtol=0, atol=1e-3)
    torch.testing.assert_close(model.log_scale.exp().detach(), data.train.x.std(0, correction=0), rtol=1e-3, atol=0)


def test_a_game_moves_one_player_a_turn_and_shows_it_to_the_next() -> None:
    data, model, twin = points(), made("duel"), made("duel")
    steps = trained(model, data, steps=5, batch=8, lr=0.05, schedule="constant", seed=3)
    players = {
        name: torch.optim.AdamW(getattr(twin, name).parameters(), 0.05, weight_decay=0) for name in ("critic", "forger")
    }
    from dgm.seeds import mix

    torch.manual_seed(mix(3, 0) >> 1)
    for step in range(5):
        rows = order(64, 3, 0)[8 * step : 8 * (step + 1)]
        for name, loss in twin.losses(data.train.x[rows]):
            assert steps[step].losses[name] == pytest.approx(loss.mean().item(), rel=1e-5)
            twin.zero_grad()
            loss.mean().backward()
            players[name].step()
    torch.testing.assert_close(model.state_dict(), twin.state_dict(), rtol=1e-5, atol=1e-6)


def test_a_model_is_trained_in_training_mode_and_ends_in_evaluation_mode() -> None:
    """With its dropout. Kills: the mode in which it was given kept."""
    models = [made("noisy"), made("noisy").eval()]
    for model in models:
        trained(model, steps=3)
        assert not any(part.training for part in model.modules())
    assert all(torch.equal(a, b) for a, b in zip(*(model.parameters() for model in models), strict=True))


def test_the_average_of_the_weights() -> None:
    """d = min(ema, (1 + t) / (10 + t)), t from 0 on, from the initial weights. Kills 1 - d for d and t + 1 for t."""
    model = normal()
    average, live = model.mean.detach().double().clone(), []
    for step in fit(model, points(), steps=8, batch=8, lr=0.1, ema=0.3, select="last"):
        live.append(model.mean.detach().double().clone())
        d = min(0.3, step.step / (9 + step.step))
        average = d * average + (1 - d) * live[-1]
    torch.testing.assert_close(model.mean.detach().double(), average, rtol=1e-6, atol=1e-7)
    assert not torch.allclose(average, live[-1], atol=1e-4)


def test_tied_weights_are_averaged_under_both_names() -> None:
    model = made("noisy")
    model.twin = model.network[3]
    for _ in fit(model, points(), steps=4, lr=0.1, select="last"):
        live = model.twin.weight.detach().clone()
    assert torch.equal(model.twin.weight, model.network[3].weight)
    assert not torch.equal(model.twin.weight, live)


def test_a_fit_sees_all_examples_each_pass_and_ends_when_it_has_converged() -> None:
    data, model = points(), made("creeping")
    steps = trained(model, data, batch=10)
    torch.testing.assert_close(model.mean, data.train.x.double().mean(0), rtol=0, atol=2e-6)
    assert model.moved < 1e-6
    assert 15 < len(steps) < 30
    assert [step.examples for step in steps[:3]] == [64, 128, 192]
    expected = (data.train.x.double() - model.mean).square().sum(1).mean()
    assert steps[-1].losses["model"] == pytest.approx(float(expected))


def test_an_epoch_visits_no_example_twice_and_epochs_differ() -> None:
    data, model = points(), normal()
    trained(model, data, steps=8, batch=16, select="last")
    epochs = [torch.cat([x for x, _ in model.seen[k : k + 4]]) for k in (0, 4)]
    assert all({tuple(x) for x in epoch.tolist()} == {tuple(x) for x in data.train.x.tolist()} for epoch in epochs)
    assert not torch.equal(*epochs)


def test_a_batch_is_at_most_the_data() -> None:
    steps = trained(normal(), steps=2, batch=1000)
    assert [step.examples for step in steps] == [64, 128]


@pytest.mark.parametrize("condition", [None, Space.categories(3)])
def test_labels_reach_conditional_models_alone(condition: Space | None) -> None:
    data, model = points(), normal(condition)
    trained(model, data, steps=1, batch=8, select="last")
    ((_, y),) = model.seen
    assert y is None if condition is None else torch.equal(y, data.train.y[order(64, 0, 0)[:8]])

    class Judged(Normal):
        def loss(self, x: Any, y: Any = None) -> Any:
            if not self.training:
                self.seen.append((x, y))
            return super().loss(x, y)

    judged = Judged(SPACE, Normal.Config(), condition)
    trained(judged, data, steps=1, batch=8)
    held_out = [y for x, y in judged.seen if torch.equal(x, data.validation.x)]
    assert len(held_out) == 1
    assert held_out[0] is None if condition is None else torch.equal(held_out[0], data.validation.y)


def test_a_start_from_data_has_the_first_batch() -> None:
    class Starting(Normal):
        def initialise(self, x: Any, y: Any = None) -> None:
            self.first = x

    data, model = points(), Starting(SPACE, Normal.Config())
    trained(model, data, steps=2, batch=8, select="last")
    assert torch.equal(model.first, data.train.x[order(64, 0, 0)[:8]])


# -- validation


def test_validation_is_the_mean_loss_of_the_averaged_weights() -> None:
    data, model = points(), normal()
    (*_, last) = trained(model, data, steps=10, batch=16, lr=0.1, ema=0.9, select="last", validate_every=5)
    assert len(model.seen) == 10, "the held-out examples are seen in evaluation mode"
    assert last.validation == pytest.approx(model.loss(data.validation.x).mean().item(), rel=1e-6)


def test_the_best_weights_are_kept() -> None:
    data, model, kept = points(), normal(), {}
    for step in fit(model, data, steps=40, batch=8, lr=1.0, schedule="constant", validate_every=1):
        kept[step.validation] = model.mean.detach().clone()
    assert min(kept) < list(kept)[-1]
    assert torch.equal(model.mean, kept[min(kept)])
    assert model.loss(data.validation.x).mean().item() == pytest.approx(min(kept), rel=1e-6)


def test_the_best_weights_are_the_averaged_ones_that_were_validated() -> None:
    """Kills: the weights of that step without their average, the last average."""
    data, model = points(), normal()
    steps = list(fit(model, data, steps=40, batch=8, lr=1.0, ema=0.9, schedule="constant", validate_every=1))
    losses = [step.validation for step in steps if step.validation is not None]
    assert min(losses) < losses[-1]
    assert model.loss(data.validation.x).mean().item() == pytest.approx(min(losses), rel=1e-6)


def test_validation_leaves_no_trace_in_the_training() -> None:
    one, other = made("noisy"), made("noisy")
    trained(one, steps=12, select="last", validate_every=2)
    trained(other, steps=12, select="last")
    torch.testing.assert_close(one.state_dict(), other.state_dict(), rtol=0, atol=0)


def test_validation_noise_is_the_same_each_time() -> None:
    steps = trained(made("noisy"), steps=6, lr=0.0, validate_every=2)
    assert len({step.validation for step in steps} - {None}) == 1


# -- time, precision, settings


def test_the_learning_rate_in_closed_form() -> None:
    settings = Settings(warmup=10)
    assert factor(0, 0.0, settings) == pytest.approx(0.1)
    assert factor(9, 0.0, settings) == 1
    assert factor(50, 0.5, settings) == pytest.approx(0.5)
    assert factor(99, 1.0, settings) == pytest.approx(0, abs=1e-12)
    assert factor(99, 1.0, Settings(schedule="constant")) == 1


def test_a_budget_ends_the_training_and_runs_the_schedule() -> None:
    steps = trained(normal(), budget=0.3, batch=8, lr=1.0, patience=0)
    assert 0.3 <= steps[-1].seconds < 2
    assert steps[-2].seconds < 0.3
    middle = steps[len(steps) // 2]
    assert middle.lr == pytest.approx(0.5 * (1 + math.cos(math.pi * steps[len(steps) // 2 - 1].progress)))
    assert middle.progress == pytest.approx(middle.seconds / 0.3)


def test_bf16_runs_the_loss_under_autocast() -> None:
    dtypes = []

    class Watched(Noisy):
        def loss(self, x: Any, y: Any = None) -> Any:
            dtypes.append((self.network(x).dtype, self.network[0].weight.dtype))
            return super().loss(x, y)

    trained(Watched(SPACE, Noisy.Config()), steps=2, precision="bf16-mixed")
    assert set(dtypes) == {(torch.bfloat16, torch.float32)}


def test_explicit_settings_over_the_papers_over_the_defaults() -> None:
    settings = settings_for(made("noisy"), {"clip": 2.0})
    assert (settings.clip, settings.ema, settings.lr, settings.steps) == (2.0, 0.9, 1e-3, 2000)
    kept = {"clip": 3.0, "steps": 5, "budget": None}
    assert settings_for(made("noisy"), {}, kept).clip == 3.0
    assert settings_for(made("noisy"), {"budget": 9.0}, kept).steps is None


def test_defaults_are_adams_and_rates_below_one() -> None:
    """Kingma & Ba's decay rates; steps that are given replace a budget of the model's own, and a rate of 0 is one."""
    usual = settings_for(None, {})
    assert (usual.optimiser, usual.lr, usual.betas) == ("adamw", 1e-3, (0.9, 0.999))
    assert (usual.steps, usual.batch, usual.weight_decay, usual.ema) == (2000, 128, 0, 0)
    assert (usual.schedule, usual.select, usual.checkpoint_every, usual.keep) == ("cosine", "best", 60, 2)
    given = settings_for(SimpleNamespace(defaults={"budget": 5.0}), {"steps": 7})
    assert (given.steps, given.budget) == (7, None)
    assert PlayerSettings(lr=0.0, betas=(0.0, 0.9)).over(usual).lr == 0
    for betas in ((1.0, 0.9), (0.9, 1.0)):
        for make in (Settings, PlayerSettings):
            with pytest.raises(BadInput, match="betas must be below 1"):
                make(betas=betas)


def test_the_seed_draws_the_noise_and_the_order() -> None:
    weights = []
    for seed in (0, 0, 1):
        model = made("noisy")
        trained(model, steps=5, seed=seed)
        weights.append(model.network[0].weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# -- what goes wrong


def test_mistakes_are_named_before_anything_is_written(tmp_path: Any) -> None:
    out = tmp_path / "run"
    for error, model, settings in [
        (BadInput, Normal(Space.continuous((5,)), Normal.Config()), {}),
        (BadInput, normal(), {"steps": 5, "budget": 5.0}),
        (BadInput, normal(), {"lr": -1.0}),
        (BadInput, normal(), {"resume": True, "out": None}),
        (UnknownName, normal(), {"learning_rate": 1.0}),
        (Unsupported, made("duel"), {"compile": True}),
        (Unsupported, made("creeping"), {"compile": True}),
        (Unsupported, nn.Linear(2, 2), {}),
    ]:
        model.space = getattr(model, "space", SPACE)
        with pytest.raises(error):
            fit(model, points(), **({"out": out} | settings))
    assert not out.exists()


def test_tensorboard_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match=r"pip install '\.\[tensorboard\]'"):
        fit(normal(), points(), tensorboard=True)


class Diverging(Duel):
    def losses(self, x: Any, y: Any = None) -> Any:
        for player, loss in super().losses(x, y):
            self.turn = getattr(self, "turn", -1) + 1
            yield player, loss * (math.nan if self.turn >= 7 and player == "forger" else 1)


def test_a_loss_that_is_not_finite_names_step_player_and_checkpoint(tmp_path: Any) -> None:
    """After the rollback to the state of step 2, from which nothing is trained."""
    model = Diverging(SPACE, Duel.Config())
    steps = fit(model, points(), out=tmp_path / "run", steps=9, checkpoint_every=0.0)
    weights = (model.forger.weight.detach().clone() for _ in steps)
    before = [next(weights) for _ in range(3)][1]
    with pytest.raises(TrainingStopped, match=r"loss of 'forger' is nan at step 3.*run/checkpoints/step-00000002;"):
        next(weights)
    assert torch.equal(model.forger.weight, before)


def test_a_start_that_fails_leaves_no_directory(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even those around it that it made, but what was there before. Kills: a withdrawal of what others made."""
    model = Diverging(SPACE, Duel.Config())
    with pytest.raises(TrainingStopped, match=r"loss of 'forger' is nan at step 1, .* learning rate too; train again"):
        list(fit(model, points(), out=tmp_path / "runs" / "deep" / "run", steps=100))
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "other").touch()

    def full(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("dgm.tensor_files.save_file", full)
    with pytest.raises(BadInput, match="cannot be written: No space left on device"):
        list(fit(normal(), points(), out=tmp_path / "runs" / "run", steps=9))
    assert [path.name for path in tmp_path.rglob("*")] == ["runs", "other"]


def test_devices_that_are_not_there_are_refused(tmp_path: Any) -> None:
    with pytest.raises(BadInput, match=r"this machine trains on up to .* got --devices 100000"):
        list(fit(normal(), points(), out=tmp_path / "run", steps=9, devices=100_000, accelerator="cpu"))
    assert list(tmp_path.iterdir()) == []


def test_weights_that_are_not_finite_are_not_saved(tmp_path: Any) -> None:
    model = normal()
    steps = fit(model, points(), out=tmp_path / "run", steps=9, checkpoint_every=0.0)
    assert [next(steps).step for _ in range(3)] == [1, 2, 3]
    model.mean.data[1] = math.inf
    assert [next(steps).step, next(steps).step] == [2, 3]  # after the rollback to step 1
    model.mean.data[1] = math.inf
    with pytest.raises(TrainingStopped, match=r"weights 'mean' are not finite after step 3, .*step-00000002"):
        next(steps)
    assert sorted(path.name for path in (tmp_path / "run/checkpoints").iterdir()) == ["step-00000001", "step-00000002"]


@pytest.mark.parametrize(("ema", "copies"), [(0.0, 3), (0.9, 5)])
def test_a_training_that_does_not_fit_is_refused(
    ema: float, copies: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Kills: gradients or averages that are not counted, a run left behind."""
    model = normal()
    needed = copies * 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
    monkeypatch.setattr("dgm.memory.available", lambda: needed - 1)
    with pytest.raises(BadInput, match=r"training Normal, besides its weights, takes .* are free; choose a smaller"):
        trained(model, steps=1, ema=ema, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    monkeypatch.setattr("dgm.memory.available", lambda: needed)
    assert trained(model, steps=1, ema=ema)
