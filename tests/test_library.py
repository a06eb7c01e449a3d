"""The library does what the command line does: the same results of the same seed, to the bit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy
import pytest
import torch
from commands import dgm as command
from torch.utils.data import DataLoader, TensorDataset

import dgm
from dgm.contracts import perturbed
from dgm.errors import BadInput, DamagedRun
from dgm.runs import Run

DIGITS = dgm.data.load("digits")
LABELS = dgm.Space.categories(10)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of models that no one trained, saved as from a loop of one's own."""
    folder = tmp_path_factory.mktemp("library")
    torch.manual_seed(0)
    words = folder / "words.txt"
    words.write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    text = dgm.data.load(words, context=16)
    dgm.save(perturbed(dgm.create("ddpm", DIGITS.space, LABELS, width=8)), folder / "ddpm", DIGITS)
    dgm.save(perturbed(dgm.create("vae", DIGITS.space)), folder / "vae", DIGITS)
    dgm.save(perturbed(dgm.create("made", DIGITS.space, hidden=8)), folder / "made", DIGITS)
    dgm.save(perturbed(dgm.create("masked_diffusion", DIGITS.space)), folder / "masked", DIGITS)
    dgm.save(perturbed(dgm.create("char_gpt", text.space, layers=1, width=16)), folder / "text", text)
    return folder


def sampled(runs: Path, arguments: str) -> torch.Tensor:
    out = runs / "x.npz"
    out.unlink(missing_ok=True)
    done = command(f"sample {arguments} --out x.npz", runs)
    assert done.returncode == 0, done.stderr
    return torch.from_numpy(numpy.load(out)["x"])


def test_samples_are_those_of_the_command(runs: Path) -> None:
    half, sevens = numpy.zeros((1, 1, 8, 8), numpy.uint8), torch.full((3,), 7)
    numpy.savez(runs / "half.npz", x=half)
    weak = dgm.load(runs / "ddpm")
    cases = {
        "ddpm -n 3 --label 7": {"condition": sevens},
        "ddpm -n 3 --seed 5": {"seed": 5},
        "ddpm -n 3 --label 7 --solver heun --sampling-steps 4 --spacing karras --guidance 2": {
            "condition": 7,
            "solver": "heun",
            "sampling_steps": 4,
            "spacing": "karras",
            "guidance": 2.0,
        },
        "ddpm -n 3 --sampling-steps 4 --eta 0.5 --autoguidance ddpm --guidance 2": {
            "sampling_steps": 4,
            "eta": 0.5,
            "guidance": dgm.Guidance(scale=2.0, weak=weak),
        },
        "vae -n 3 --mean": {"mean": True},
        "masked -n 3 --sampling-steps 2": {"sampling_steps": 2},
        "made -n 3 --temperature 0.5 --given half.npz --observed 0.25": {
            "decoding": dgm.DecodingOptions(temperature=0.5),
            "given": half,
            "observed": 16,
        },
    }
    for line, how in cases.items():
        model = dgm.load(runs / line.split()[0])
        x = dgm.sample(model, 3, **how)  # type: ignore[arg-type]
        assert torch.equal(x, sampled(runs, line)), line
        *_, last = dgm.trajectory(model, 3, **how)  # type: ignore[arg-type]
        assert torch.equal(last.x.cpu(), x), line
        plain = dgm.sample(model, 3)
        assert ("--label" in line) or "--temp" in line or not torch.equal(plain, x), line
    assert dgm.load(runs / "masked").config == dgm.load(runs / "masked").config


def test_another_number_of_steps_is_for_one_call_alone(runs: Path) -> None:
    model = dgm.load(runs / "masked")
    config = model.config
    assert len(list(dgm.trajectory(model, 2, sampling_steps=3))) == 3
    assert model.config == config
    way = dgm.trajectory(model, 2, sampling_steps=3)
    next(way)
    way.close()  # type: ignore[attr-defined]
    assert model.config == config


def test_a_long_text_is_that_of_the_command(runs: Path) -> None:
    model = dgm.load(runs / "text")
    x = dgm.sample(model, 2, length=40, seed=3)
    assert x.shape == (2, 40)
    assert torch.equal(x, sampled(runs, "text -n 2 --length 40 --seed 3"))
    assert torch.equal(x[:, :16], dgm.sample(model, 2, seed=3))


def test_progress_rises_to_the_end(runs: Path) -> None:
    told = list[tuple[float, str]]()
    dgm.sample(dgm.load(runs / "made"), 300, progress=lambda share, text: told.append((share, text)))
    shares = [share for share, _ in told]
    assert shares == sorted(shares)
    assert (shares[-1], told[-1][1].split(",")[0]) == (1.0, "300 of 300")


def test_a_saved_model_is_the_same_again(runs: Path) -> None:
    run = Run(runs / "ddpm")
    again = dgm.load(run.path, device="cpu")
    assert again.names.labels == DIGITS.names.labels
    shares = again.marginal.shares
    torch.testing.assert_close(shares, DIGITS.train.y.bincount().double() / len(DIGITS.train))  # type: ignore[union-attr]
    assert run.dataset().describe() == DIGITS.describe()
    assert sorted(path.name for path in run.path.iterdir()) == ["config.json", "manifest.json", "weights.safetensors"]


def test_a_model_of_unstated_data_asks_for_it(runs: Path) -> None:
    model = dgm.create("made", DIGITS.space, LABELS, hidden=8)
    where = dgm.save(model, runs / "unstated", names=list("abcdefghij"))
    assert dgm.load(where).names.labels == tuple("abcdefghij")
    with pytest.raises(BadInput, match="does not name its training data; name it: --data"):
        Run(where).dataset()
    assert Run(where).dataset("digits").space == DIGITS.space
    with pytest.raises(BadInput, match="toy/moons of continuous 2"):
        Run(where).dataset("toy/moons")
    sevens = sampled(runs, "unstated -n 2 --label h")
    assert torch.equal(sevens, dgm.sample(model.eval(), 2, 7))


def test_what_cannot_be_saved_leaves_nothing(runs: Path) -> None:
    model = dgm.create("made", DIGITS.space, hidden=8)
    with torch.no_grad():
        next(model.parameters()).fill_(torch.nan)
    with pytest.raises(BadInput, match="are not finite"):
        dgm.save(model, runs / "broken")
    with pytest.raises(BadInput, match="exists"):
        dgm.save(model, runs / "made")
    assert not [path for path in runs.iterdir() if "broken" in path.name]
    with pytest.raises(DamagedRun):
        dgm.load(runs / "broken")


def test_an_evaluation_is_that_of_the_command(runs: Path) -> None:
    done = command("evaluate made --samples 60 --features pixels --seed 3 --json", runs)
    assert done.returncode == 0, done.stderr
    found, model = json.loads(done.stdout), dgm.load(runs / "made")
    again = dgm.evaluate(model, DIGITS, samples=60, spaces=["pixels"], seed=3)
    for part in ("likelihood", "metrics", "reference", "memorisation", "features", "skipped"):
        assert found[part] == json.loads(json.dumps(again[part])), part


def test_a_check_is_that_of_the_command(runs: Path) -> None:
    done = command("check made --json", runs)
    here = [(r.space, r.law, str(r.outcome), r.detail) for r in dgm.check(dgm.load(runs / "made"))]
    assert [(r["space"], r["law"], r["outcome"], r["detail"]) for r in json.loads(done.stdout)] == here
    assert {space for space, *_ in here} == {str(DIGITS.space)}
    first = next(dgm.check("made"))
    assert first.space == "binary 1×3×3"


def test_a_likelihood_is_of_whatever_holds_examples(runs: Path) -> None:
    x, y = DIGITS.test.x[:20], DIGITS.test.y[:20]  # type: ignore[index]
    made, labelled = dgm.load(runs / "made"), dgm.create("made", DIGITS.space, LABELS, hidden=8)
    whole = dgm.log_likelihood(made, DIGITS.test.x).nats
    for data in (DIGITS, DIGITS.test):
        assert torch.equal(dgm.log_likelihood(made, data).nats, whole)
    for data in (DataLoader(TensorDataset(x, y), batch_size=7), DataLoader(TensorDataset(x), batch_size=7)):
        assert torch.equal(dgm.log_likelihood(made, data).nats, dgm.log_likelihood(made, x).nats)
    expected = dgm.log_likelihood(labelled, x, y)
    assert torch.equal(dgm.log_likelihood(labelled, DataLoader(TensorDataset(x, y), batch_size=7)).nats, expected.nats)
    assert dgm.log_likelihood(labelled, DIGITS, marginal=True).condition is None


def test_training_takes_whatever_holds_examples() -> None:
    x, y = DIGITS.train.x[:64], DIGITS.train.y[:64]  # type: ignore[index]

    def weights(data: object) -> torch.Tensor:
        torch.manual_seed(0)
        model = dgm.create("made", DIGITS.space, LABELS, hidden=8)
        list(dgm.fit(model, data, steps=3, batch=16))  # type: ignore[arg-type]
        return torch.cat([parameter.flatten() for parameter in model.parameters()])

    split = dgm.data.Split(x, y)
    assert torch.equal(weights(split), weights(DataLoader(TensorDataset(x, y), batch_size=7)))
    torch.manual_seed(0)
    model = dgm.create("made", DIGITS.space, hidden=8)
    assert [step.step for step in dgm.fit(model, x, steps=2, batch=16)] == [1, 2]


def test_how_an_ode_is_solved_may_be_chosen(runs: Path) -> None:
    """What the numbers are is tested beside the solver: here, that they are asked for."""
    plane = perturbed(dgm.create("flow_matching", dgm.Space.continuous((2,)), width=8))
    x = torch.randn(5, 2)
    own = dgm.log_likelihood(plane, x)
    fine = dgm.log_likelihood(plane, x, solver="rk4", solver_steps=60, trace="exact")
    assert (own.kind, fine.method) == ("estimate", "ODE by rk4 in 60 steps, exact trace, 1 draw")
    torch.testing.assert_close(fine.nats, own.nats, rtol=0, atol=3e-2)  # the first is to its tolerance
    done = command("evaluate ddpm --samples 20 --features pixels --solver euler --solver-steps 1 --json", runs)
    assert done.returncode == 0, done.stderr
    estimate = next(row for row in json.loads(done.stdout)["likelihood"] if row["kind"] == "estimate")
    assert estimate["method"].startswith("ODE by euler in 1 steps, stochastic trace, dequantised by noise")


def test_edits_are_those_of_the_command(runs: Path) -> None:
    model, x, few = dgm.load(runs / "ddpm"), DIGITS.test.x[:4], dgm.edit.Resampling(sampling_steps=4, resamplings=2)
    low = dgm.edit.AveragePooling(2)
    blur = dgm.edit.Blur((8, 8), 0.7)
    measured = dgm.edit.measure(model, x, low, noise=0.1, seed=3)
    known = torch.arange(8)[:, None].expand(8, 8) < 4
    sampling = "-n 2 --sampling-steps 4 --resamplings 2 --seed 3"
    of_each = {"n": 2, "seed": 3, "resampling": few}
    cases = {
        f"inpaint ddpm --mask bottom {sampling} --label 2": dgm.edit.inpaint(model, x, known, 2, **of_each),  # type: ignore[arg-type]
        f"superres ddpm --noise 0.1 {sampling}": dgm.edit.restore(model, measured, low, noise=0.1, **of_each),  # type: ignore[arg-type]
        f"deblur ddpm --blur 0.7 {sampling}": dgm.edit.restore(  # type: ignore[arg-type]
            model, dgm.edit.measure(model, x, blur), blur, **of_each
        ),
        "encode ddpm --sampling-steps 3 --label 2": dgm.edit.encode(model, x, 2, sampling_steps=3),
        "reconstruct ddpm --sampling-steps 3": dgm.edit.reconstruct(model, x, sampling_steps=3).x,
        "interpolate ddpm --sampling-steps 3 -n 3": dgm.edit.interpolate(model, x, sampling_steps=3, n=3),
    }
    for line, found in cases.items():
        done = command(f"edit {line} --examples 4 --out edited.npz", runs)
        assert done.returncode == 0, done.stderr
        written = numpy.load(runs / "edited.npz")
        (runs / "edited.npz").unlink()
        found = found if found.shape[0] == 4 and found.dim() == 4 else found.flatten(0, 1)
        assert torch.equal(torch.from_numpy(written["z" if "encode" in line else "x"]), found), line
    grey = low(model.scaling(x))
    given = model.scaling.inverse(grey)
    again = dgm.edit.superres(model, given, 2, **of_each)
    assert torch.equal(again, dgm.edit.restore(model, model.scaling(given), low, **of_each))  # type: ignore[arg-type]
