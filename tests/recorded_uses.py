"""The numbers of samplers, evaluations, edits and trainings of small models, for `recorded`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from recorded_models import EXAMPLES, examples, made, settings_of
from torch import Tensor

import dgm
from dgm import edit
from dgm.data import Dataset, Split
from dgm.editing import codes
from dgm.editing.composition import Composition, Term, composed
from dgm.editing.resampling import Resampling
from dgm.errors import Unsupported
from dgm.evaluation.against import against
from dgm.evaluation.anomaly import anomaly
from dgm.evaluation.evaluate import evaluate
from dgm.evaluation.sides import Side
from dgm.samplers.options import Guidance
from dgm.samplers.solvers import SOLVERS

Numbers = Iterator[tuple[str, Tensor]]
DENOISERS = ("ncsn", "score_sde", "ddpm", "vdm", "edm", "flow_matching", "mean_flow")


def small(name: str, space: str, condition: str = "alone", **settings: Any) -> Any:
    return made(name, space, condition, settings_of(name) | settings)


def sampled() -> Iterator[tuple[str, Numbers]]:
    """Denoising models by every solver and with guidance, others with their own options."""
    for name in DENOISERS:
        yield f"{name} by a solver", by_solvers(name)
    for name in ("ddpm", "edm", "flow_matching"):
        yield f"{name} with guidance", guided(name)
        yield f"{name} by an ODE", densities(name)
    for name, space in (
        ("made", "levels"),
        ("nade", "bits"),
        ("made", "numbers"),
        ("gated_pixelcnn", "levels"),
        ("wavenet", "tokens"),
        ("pixelcnn_pp", "colours"),
        ("char_gpt", "tokens"),
        ("image_gpt", "levels"),
        ("pixelrnn", "levels"),
    ):
        yield f"{name} of {space} by other probabilities", decoded(small(name, space))
    for name in ("glow", "maf", "realnvp"):
        yield f"{name} at another temperature", tempered(small(name, "floats"))


def by_solvers(name: str) -> Numbers:
    model = small(name, "numbers", "label", condition_dropout=0.1)
    _, y = examples(model)
    for solver in SOLVERS:
        if solver == "adaptive":  # whether a step is accepted may depend on rounding
            continue
        yield solver, dgm.sample(model, EXAMPLES, y, seed=3, solver=solver, sampling_steps=4)
    for spacing in ("uniform", "quadratic", "log_snr", "karras"):
        yield spacing, dgm.sample(model, EXAMPLES, y, seed=3, solver="euler", sampling_steps=4, spacing=spacing)
    yield "eta", dgm.sample(model, EXAMPLES, y, seed=3, solver="ddim", sampling_steps=4, eta=0.6)
    states = [state.x for state in dgm.trajectory(model, EXAMPLES, y, seed=3, solver="heun", sampling_steps=3)]
    yield "states", torch.stack(states)


def guided(name: str) -> Numbers:
    model, weak = (small(name, "floats", "record", width=width) for width in (8, 4))
    _, y = examples(model)
    for what, how in (
        ("interval", Guidance(scale=1.7, interval=(0.3, 0.8))),
        ("weak model", Guidance(scale=1.7, weak=weak)),
        ("weak model in an interval", Guidance(scale=2.0, interval=(0.2, 0.9), weak=weak)),
    ):
        yield what, dgm.sample(model, EXAMPLES, y, seed=3, guidance=how, sampling_steps=4)


def densities(name: str) -> Numbers:
    model = small(name, "points", "label")
    x, y = examples(model)
    for how in (
        {"solver": "heun", "solver_steps": 3, "trace": "exact"},
        {"solver": "heun", "solver_steps": 3, "trace": "hutchinson"},
        {"solver": "rk4", "solver_steps": 2},
        {"solver": "euler", "solver_steps": 5},
    ):
        for draws in (1, 3):
            torch.manual_seed(2)
            yield f"{how}, {draws}", dgm.log_likelihood(model, x, y, kind="estimate", draws=draws, **how).nats
    yield "of all labels", dgm.log_likelihood(model, x, marginal=True, solver="heun", solver_steps=2).nats


def decoded(model: Any) -> Numbers:
    x, _ = examples(model)
    for how in ({"temperature": 0.6}, {"temperature": 0.0}, {"top_k": 2}, {"top_p": 0.6}):
        with suppress(Unsupported):  # of outputs without categories
            yield f"{how}", dgm.sample(model, EXAMPLES, seed=3, decoding=dgm.DecodingOptions(**how))
    yield "given a part", dgm.sample(model, EXAMPLES, seed=3, given=x, observed=2)
    if model.space.kind == "tokens":
        yield "a longer text", dgm.sample(model, 2, seed=3, length=3 * model.space.dim)


def tempered(model: Any) -> Numbers:
    yield "cooler", dgm.sample(model, EXAMPLES, seed=3, decoding=dgm.DecodingOptions(temperature=0.7))


# -- evaluations


def first(name: str) -> Dataset:
    """A data set of the first examples of each split."""
    whole = dgm.data.load(name)
    few = {
        part: Split(*(None if v is None else v[:60] for v in (split.x, split.y)))
        for part, split in whole.splits.items()
    }
    return replace(whole, **few)


def trained(name: str, data: Dataset, *, conditional: bool = False) -> Any:
    torch.manual_seed(0)
    model = dgm.create(name, data.space, data.condition if conditional else None, **settings_of(name))
    return descended(model, data, steps=20, validate_every=10, lr=1e-2)


def descended(model: Any, data: Dataset, **how: Any) -> Any:
    """The model after a training by SGD: Adam would turn a gradient of nothing but rounding into a step."""
    for _ in dgm.fit(model, data, batch=20, seed=1, precision="32-true", optimiser="sgd", **how):
        pass
    return model


def evaluated() -> Iterator[tuple[str, Numbers]]:
    for name, data, how in (
        ("gan", "toy/ring", {}),
        ("kde", "toy/ring", {}),
        ("gmm", "toy/grid", {}),
        ("nsf", "toy/moons", {}),
        ("vae", "digits", {"annealed": 4}),
        ("gmm", "digits", {}),
        ("kde", "digits", {"draws": 2}),
        ("rbm", "digits", {}),
        ("jem", "digits", {}),
        ("vq_vae", "digits", {}),
        ("hierarchical_vae", "digits", {"draws": 3}),
        ("gmm", "a table", {}),
        ("maf", "a table", {"target": "old"}),
        ("made", "a table", {}),
        ("gan", "digits", {"annealed": 4}),
        ("made", "digits", {"marginal": True}),
        ("edm", "digits", {"solver": "heun", "solver_steps": 2}),
    ):
        yield f"{name} on {data}", evaluation(name, data, how)
    for name in ("gmm", "vae", "jem", "pixelcnn", "rbm"):
        yield f"anomalies for {name}", anomalies(name)
    for prior, stage in (("gmm", "vae"), ("ddpm", "vae"), ("gated_pixelcnn", "vq_vae"), ("maf", "beta_vae")):
        yield f"{prior} of the codes of {stage}", of_codes(prior, stage)
    yield "one model against another", beside_each_other()


def evaluation(name: str, data: str, how: dict[str, Any]) -> Numbers:
    few = table() if data == "a table" else first(data)
    model = trained(name, few, conditional=name in ("jem", "made"))
    # small principal components and a trained classifier depend on rounding
    spaces = ["pixels"] if data == "digits" else None
    yield from leaves(evaluate(model, few, samples=50, seed=1, spaces=spaces, **how))


def table() -> Dataset:
    return dgm.data.load(rows())


def rows() -> pd.DataFrame:
    """Numbers, counts, choices and gaps."""
    drawn = np.random.default_rng(0)
    age = drawn.gamma(6.0, 6.0, 240).round()
    job = np.where(age > 30, "engineer", np.where(drawn.random(240) < 0.5, "student", "nurse"))
    pay = np.where(drawn.random(240) < 0.1, np.nan, np.exp(0.05 * age + drawn.normal(size=240)))
    return pd.DataFrame({"age": age.astype(int), "job": job, "pay": pay, "old": age > 40})


def anomalies(name: str) -> Numbers:
    few = first("digits")
    model = trained(name, few, conditional=name == "jem")
    yield from leaves(anomaly(model, few, few.train.x.flip(-1).contiguous(), "turned", seed=1, draws=2))


def beside_each_other() -> Numbers:
    few = first("toy/moons")
    sides = [Side(name, few, trained(name, few)) for name in ("kde", "nsf")]
    yield from leaves(against(*sides, samples=40))
    yield from leaves(against(sides[0], Side("moons", few), samples=40))


def of_codes(prior: str, stage: str) -> Numbers:
    """A model of another one's codes, by label, and what is filled in with it."""
    few = first("digits")
    model = dgm.two_stage(prior, trained(stage, few), few, None if prior == "gmm" else few.condition)
    descended(model, few, steps=5, validate_every=1)
    x, y = few.test.x[:3], None if prior == "gmm" else few.test.y[:3]
    yield "samples", dgm.sample(model, 3, y, seed=3)
    torch.manual_seed(2)
    yield "likelihood", dgm.log_likelihood(model, x, y, draws=2).nats
    if prior == "ddpm":
        how = Resampling(sampling_steps=3, jump=2, resamplings=2)
        yield "filled in", edit.inpaint(model, x, torch.arange(8) > 3, y, n=2, seed=3, resampling=how)


def leaves(document: Any, at: str = "") -> Numbers:
    """The numbers of a document that do not depend on the clock."""
    if isinstance(document, dict):
        for key, value in document.items():
            if key not in ("provenance", "seconds", "per_second", "threads", "skipped", "gap"):
                yield from leaves(value, f"{at}.{key}")
    elif isinstance(document, list | tuple):
        for k, value in enumerate(document):
            yield from leaves(value, f"{at}.{k}")
    elif isinstance(document, int | float):
        yield at, torch.tensor(float(document))


# -- edits


def edited() -> Iterator[tuple[str, Numbers]]:
    for name in ("ddpm", "edm", "flow_matching", "score_sde"):
        yield f"images by {name}", restored(name)
    for name, space in (
        ("gmm", "numbers"),
        ("ppca", "numbers"),
        ("made", "levels"),
        ("nade", "bits"),
        ("maf", "numbers"),
        ("vae", "levels"),
        ("orderless_made", "bits"),
        ("realnvp", "numbers"),
        ("flow_matching", "numbers"),
    ):
        yield f"missing values by {name} of {space}", completed(name, space)
    for name, space in (
        ("vae", "levels"),
        ("glow", "floats"),
        ("autoencoder", "levels"),
        ("edm", "floats"),
        ("gan", "levels"),
    ):
        yield f"codes of {name}", coded(name, space)
    for name in ("vae", "autoencoder"):
        yield f"sums of codes of {name}", summed(name)
    for name, space in (("ebm", "floats"), ("ddpm", "numbers"), ("edm", "numbers")):
        yield f"compositions of {name}", together(name, space)


def restored(name: str) -> Numbers:
    model = small(name, "colours", "label")
    x, y = examples(model)
    few = Resampling(sampling_steps=3, jump=2, resamplings=2)
    known = torch.arange(8) % 3 > 0
    how: dict[str, Any] = {"n": 2, "seed": 3, "resampling": few}
    yield "inpaint", edit.inpaint(model, x, known, y, **how)
    yield "superres", edit.superres(model, x[..., ::2, ::2], 2, y, noise=0.05, **how)
    yield "colourise", edit.colourise(model, x[:, :1], y, **how)
    yield "deblur", edit.deblur(model, x, 0.8, y, noise=0.1, **how)


def completed(name: str, space: str) -> Numbers:
    model = small(name, space)
    x, _ = examples(model)
    observed = torch.rand(x.shape, generator=torch.Generator().manual_seed(4)) < 0.6
    found = edit.impute(model, x, observed=observed, n=2, seed=3)
    yield "x", found.x
    yield "log p", found.log_p
    yield "effective draws", found.effective


def coded(name: str, space: str) -> Numbers:
    model = small(name, space)
    x, _ = examples(model)
    if name == "gan":
        found = edit.invert(model, x, steps=3, starts=2, seed=3)
        yield "inverted", found.z
        yield "error", torch.tensor(found.error)
        z = codes.drawn(model, 4, seed=3)
    else:
        z = codes.encode(model, x, seed=3)
        yield "codes", z
        yield "reconstructed", codes.reconstruct(model, x, seed=3).x
        yield "between", codes.interpolate(model, x, n=3, seed=3)
    for path in ("linear", "spherical"):
        yield path, codes.between(model, z, n=4, path=path)
    of = codes.spread(model, Split(x, None), seed=3)
    yield from of._asdict().items()
    yield "traversed", codes.traverse(model, z[0], of, dimensions=2).x


def summed(name: str) -> Numbers:
    digits = first("digits")
    model = trained(name, digits)
    found = codes.arithmetic(model, "x - 1 + 7", digits, digits.test.x[:3], seed=3)
    for part, values in found._asdict().items():
        if isinstance(values, Tensor):
            yield part, values


def together(name: str, space: str) -> Numbers:
    """Products, mixtures and negations of energies or of scores."""
    one, other, third = (small(name, space, "label") for _ in range(3))
    for factor, model in ((1.05, other), (0.93, third)):
        for parameter in model.parameters():
            parameter.data *= factor
    terms = [Term(model, torch.tensor([k])) for k, model in enumerate((one, other, third))]
    for what, of in (
        ("product", Composition(terms[:1], also=terms[1:2])),
        ("mixture", Composition(terms[:2])),
        ("negation", Composition(terms[:1], without=terms[2:], weight=0.4)),
    ):
        *_, last = composed(of, sampling_steps=3, langevin_steps=2).trajectory(3, seed=3)
        yield what, last.x


# -- data


def loaded() -> Iterator[tuple[str, Numbers]]:
    """The included sets, and a person's own data as arrays, tables, pictures and texts."""
    for name in (
        "digits",
        "stacked_digits",
        "moving_digits",
        "toy/moons",
        "toy/ring",
        "toy/checkerboard",
        "toy/spiral",
    ):
        yield name, parts_of(dgm.data.load(name))
    yield "a table", parts_of(table())
    yield "a table with a condition", parts_of(dgm.data.load(rows(), condition_columns="job,old", seed=2))
    drawn = np.random.default_rng(1)
    for what, values in (("numbers", drawn.normal(3.0, 2.0, (50, 4))), ("levels", drawn.integers(0, 9, (50, 1, 4, 4)))):
        yield f"an array of {what}", parts_of(dgm.data.load(values, y=np.arange(50) % 3, seed=3))
    with TemporaryDirectory() as folder:
        for k in range(30):
            place = Path(folder, "pictures", "ab"[k % 2])
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(drawn.integers(0, 256, (12, 10 + k % 3, 3), np.uint8)).save(place / f"{k}.png")
        Path(folder, "text.txt").write_text("a quick brown fox jumps over the lazy dog\n" * 40, encoding="utf-8")
        yield "pictures", parts_of(dgm.data.load(Path(folder, "pictures"), size=8))
        yield "grey pictures", parts_of(dgm.data.load(Path(folder, "pictures"), size=6, grey=True, seed=4))
        yield "a text", parts_of(dgm.data.load(Path(folder, "text.txt"), context=16))


def parts_of(data: Dataset) -> Numbers:
    for name, split in data.splits.items():
        if len(split):
            x, y = split.batch(torch.arange(min(len(split), 200)), torch.Generator().manual_seed(0))
            yield f"{name} x", x
            if y is not None:
                yield f"{name} y", y
    for part in [data.space, *(part for _, part in data.space.parts)]:
        for values in (part.loc, part.scale):
            if values:
                yield "units", torch.tensor(values)


# -- trainings


TRAININGS: Mapping[str, dict[str, Any]] = {
    "plain": {},
    "rmsprop": {"optimiser": "rmsprop", "betas": (0.9, 0.95)},
    "sgd": {"optimiser": "sgd", "betas": (0.8, 0.9)},
    "other moments": {"betas": (0.5, 0.9)},
    "decay": {"weight_decay": 0.3},
    "warmup": {"warmup": 3},
    "constant rate": {"schedule": "constant"},
    "clipped": {"clip": 0.01},
    "averaged": {"ema": 0.9},
    "last weights": {"select": "last"},
    "other validations": {"validate_every": 2},
    "other seed": {"seed": 5},
}


def fitted() -> Iterator[tuple[str, Numbers]]:
    digits = first("digits")
    for name in ("vae", "rbm"):
        for what, how in TRAININGS.items():
            yield f"{name}, {what}", steps(name, digits, how)
    for name in ("gan", "wgan_gp", "ddpm"):  # with gradients of nothing but rounding, which Adam turns into steps
        for what in ("decay", "warmup", "constant rate", "clipped", "averaged", "last weights", "other seed"):
            yield f"{name}, {what}", steps(name, digits, {"optimiser": "sgd"} | TRAININGS[what])


def steps(name: str, data: Dataset, how: dict[str, Any]) -> Numbers:
    torch.manual_seed(0)
    model = dgm.create(name, data.space, **settings_of(name))
    plain = {
        "steps": 6,
        "batch": 16,
        "lr": 3e-3,
        "seed": 1,
        "precision": "32-true",
        "validate_every": 1,
        "ema": 0.0,
        "clip": 0.0,
        "warmup": 0,
    }
    taken = list(dgm.fit(model, data, **plain | how))
    for player in taken[0].losses:
        yield f"losses of {player}", torch.tensor([step.losses[player] for step in taken])
    yield "rates", torch.tensor([step.lr for step in taken])
    yield "validation", torch.tensor([step.validation or 0.0 for step in taken])
    for symptom in taken[-1].symptoms:
        yield symptom, torch.tensor(taken[-1].symptoms[symptom])
    yield "weights", torch.cat([weight.detach().flatten() for weight in model.parameters()])


SUBJECTS: Mapping[str, Callable[[], Iterator[tuple[str, Numbers]]]] = {
    "samples": sampled,
    "evaluations": evaluated,
    "edits": edited,
    "data": loaded,
    "trainings": fitted,
}
