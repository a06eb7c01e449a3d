"""Calls of the public API as a new user may write them: wrong ones, and ones of other types that should work.

Arguments that a function does not have, or lacks, are not among them: Python itself answers those in one line.
Run as a script it makes every call and prints what came of it, as JSON.
"""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import torch

REFUSED = {
    "create": """
        dgm.create("vae", digits)
        dgm.create(digits.space, "vae")
        dgm.create(None, space)
        dgm.create(7, space)
        dgm.create("vae", None)
        dgm.create("vae", (1, 8, 8))
        dgm.create("vae", "digits")
        dgm.create("vae", x)
        dgm.create("vae", dgm.Space)
        dgm.create("vaee", space)
        dgm.create("", space)
        dgm.create(dgm.MODELS["vae"], space)
        dgm.create("vae", space, latent="8")
        dgm.create("vae", space, latent=8.5)
        dgm.create("vae", space, latent=8.0)
        dgm.create("vae", space, latent=True)
        dgm.create("vae", space, latent=None)
        dgm.create("vae", space, latent=0)
        dgm.create("vae", space, latent=-1)
        dgm.create("vae", space, latent=[8])
        dgm.create("vae", space, latent=numpy.zeros((40, 40)))
        dgm.create("vae", space, latent=torch.zeros(40, 40))
        dgm.create("vae", space, latents=8)
        dgm.create("vae", space, config={"latent": 8})
        dgm.create("vae", space, **{"latent dim": 8})
        dgm.create("vae", dgm.Space.tokens(4, 5))
        dgm.create("char_gpt", space)
        dgm.create("pixelcnn", dgm.Space.binary((7,)))
        dgm.create("made", space, dropout=2)
        dgm.create("made", space, dropout="much")
        dgm.create("made", space, dropout=math.nan)
        dgm.create("made", space, dgm.Space.categories(-1))
        dgm.create("made", space, "ten")
        dgm.create("ddpm", space, schedule="linaer")
        dgm.create("ddpm", space, schedule=3)
        dgm.create("ddpm", space, width=9)
        dgm.create("os:system", space)
        dgm.create("nowhere.at:All", space)
        dgm.create("dgm.space:Space", space)
    """,
    "space": """
        dgm.Space.binary(28)
        dgm.Space.binary(None)
        dgm.Space.binary("28")
        dgm.Space.binary((1, 28.0, 28))
        dgm.Space.binary((1, "28", 28))
        dgm.Space.binary((0,))
        dgm.Space.binary((-3,))
        dgm.Space.binary((True,))
        dgm.Space.binary(x)
        dgm.Space.levels((1, 8, 8), 1)
        dgm.Space.levels((1, 8, 8), "17")
        dgm.Space.levels((1, 8, 8), 17.0)
        dgm.Space.levels((1, 8, 8), None)
        dgm.Space.levels((1, 8, 8), True)
        dgm.Space.levels(17, (1, 8, 8))
        dgm.Space.tokens("abc", 3)
        dgm.Space.tokens(3, "abc")
        dgm.Space.tokens(3.5, 4)
        dgm.Space.tokens(3, [1, 2])
        dgm.Space.tokens(0, 4)
        dgm.Space.continuous((2,), low=0.0)
        dgm.Space.continuous((2,), low="0", high="1")
        dgm.Space.continuous((2,), low=1.0, high=0.0)
        dgm.Space.continuous((2,), low=0.0, high=math.inf)
        dgm.Space.continuous((2,), low=math.nan, high=1.0)
        dgm.Space.continuous((2,), loc=1.0)
        dgm.Space.continuous((2,), loc=("a", "b"))
        dgm.Space.continuous((2,), loc=(1.0,))
        dgm.Space.continuous((2,), scale=(1.0, 0.0))
        dgm.Space.continuous((2,), scale=(1.0, math.nan))
        dgm.Space(shape=(2,), kind="real")
        dgm.Space(shape=(2,), kind=None)
        dgm.Space.from_json(None)
        dgm.Space.from_json([])
        dgm.Space.from_json({})
        dgm.Space.from_json({"shape": "2", "kind": "binary", "values": 2})
        dgm.Space.from_json({"shape": [2], "kind": "binary", "valeus": 2})
        space.check(None)
        space.check("x")
        space.check(3)
        space.check(x[0])
        space.check(x.float())
        space.check(x + 30)
        space.check(x[:, :, :4])
        space.check([])
        space.check([[1, 2], [3]])
        plane.check(x)
        plane.check(torch.zeros(3, 2, dtype=torch.complex64))
        plane.check(torch.full((3, 2), math.nan))
        plane.check(torch.zeros(3, 2, dtype=torch.int64))
        dgm.Space.continuous((2,), low=0.0, high=1.0).check(torch.full((3, 2), 2.0))
    """,
    "log_likelihood": """
        dgm.log_likelihood("made", x)
        dgm.log_likelihood(None, x)
        dgm.log_likelihood(x, made)
        dgm.log_likelihood(dgm.MODELS["made"], x)
        dgm.log_likelihood(torch.nn.Linear(2, 2), x)
        dgm.log_likelihood(made, None)
        dgm.log_likelihood(made, "x")
        dgm.log_likelihood(made, digits, y)
        dgm.log_likelihood(flow, digits)
        dgm.log_likelihood(made, x, trace="exact")
        dgm.log_likelihood(denoiser, x, trace="exakt")
        dgm.log_likelihood(denoiser, x, solver="ralston")
        dgm.log_likelihood(denoiser, x, solver=4)
        dgm.log_likelihood(denoiser, x, solver="rk4", tolerance=1e-3)
        dgm.log_likelihood(denoiser, x, solver_steps=9)
        dgm.log_likelihood(denoiser, x, solver="rk4", solver_steps=0)
        dgm.log_likelihood(denoiser, x, tolerance=0)
        dgm.log_likelihood(denoiser, x, tolerance="fine")
        dgm.log_likelihood(made, DataLoader(["a", "b"]))
        dgm.log_likelihood(made, DataLoader([]))
        dgm.log_likelihood(made, TensorDataset(x))
        dgm.log_likelihood(made, (x, y))
        dgm.log_likelihood(made, 3)
        dgm.log_likelihood(made, x[0])
        dgm.log_likelihood(made, x.float())
        dgm.log_likelihood(made, x.double() / 16)
        dgm.log_likelihood(made, x.to(torch.complex64))
        dgm.log_likelihood(made, x + 30)
        dgm.log_likelihood(made, x.flatten(1))
        dgm.log_likelihood(made, [x, x])
        dgm.log_likelihood(made, x.to_sparse())
        dgm.log_likelihood(made, numpy.array(["a", "b"]))
        dgm.log_likelihood(made, numpy.array([None]))
        dgm.log_likelihood(made, x, y)
        dgm.log_likelihood(gmm, x, y)
        dgm.log_likelihood(labelled, x)
        dgm.log_likelihood(labelled, x, "three")
        dgm.log_likelihood(labelled, x, y.float())
        dgm.log_likelihood(labelled, x, 3.0)
        dgm.log_likelihood(labelled, x, True)
        dgm.log_likelihood(labelled, x, y[:3])
        dgm.log_likelihood(labelled, x, y + 10)
        dgm.log_likelihood(labelled, x, y - 11)
        dgm.log_likelihood(labelled, x, y[:, None])
        dgm.log_likelihood(labelled, x, ["a"] * 8)
        dgm.log_likelihood(labelled, x, [0.5] * 8)
        dgm.log_likelihood(labelled, x, digits.labels)
        dgm.log_likelihood(labelled, x, y, marginal=True)
        dgm.log_likelihood(made, x, marginal=True)
        dgm.log_likelihood(labelled, x, y, marginal="no")
        dgm.log_likelihood(made, x, draws=0)
        dgm.log_likelihood(made, x, draws=-1)
        dgm.log_likelihood(made, x, draws=True)
        dgm.log_likelihood(made, x, draws=1.5)
        dgm.log_likelihood(made, x, draws="1")
        dgm.log_likelihood(made, x, draws=None)
        dgm.log_likelihood(made, x, draws=[1])
        dgm.log_likelihood(made, x, kind="exakt")
        dgm.log_likelihood(made, x, kind=3)
        dgm.log_likelihood(made, x, kind=True)
        dgm.log_likelihood(made, x, kind="lower_bound")
        dgm.log_likelihood(gan, x)
        dgm.log_likelihood(flow, torch.full((3, 2), math.inf))
        dgm.log_likelihood(flow, torch.zeros(3, 2, dtype=torch.int64))
    """,
    "sample": """
        dgm.sample("made", 3)
        dgm.sample(None, 3)
        dgm.sample(3, made)
        dgm.sample(dgm.MODELS["made"], 3)
        dgm.sample(torch.nn.Linear(2, 2), 3)
        dgm.sample(made, 0)
        dgm.sample(made, -1)
        dgm.sample(made, 2.5)
        dgm.sample(made, 2.0)
        dgm.sample(made, "2")
        dgm.sample(made, None)
        dgm.sample(made, True)
        dgm.sample(made, [2])
        dgm.sample(made, 10**15)
        dgm.sample(made, 2, temperature=0.5)
        dgm.sample(made, 2, seed=1.5)
        dgm.sample(made, 2, seed="1")
        dgm.sample(made, 2, seed=True)
        dgm.sample(made, 2, seed=[1])
        dgm.sample(made, 2, seed=math.nan)
        dgm.sample(made, 2, seed=-5)
        dgm.sample(made, 2, seed=2**63)
        dgm.sample(made, 2, 1)
        dgm.sample(gmm, 2, 1)
        dgm.sample(labelled, 2, 10)
        dgm.sample(labelled, 2, -1)
        dgm.sample(labelled, 2, 1.0)
        dgm.sample(labelled, 2, "one")
        dgm.sample(labelled, 2, [1, 2, 3])
        dgm.sample(labelled, 2, [[1], [2]])
        dgm.sample(labelled, 2, [1.0, 2.0])
        dgm.sample(labelled, 2, [None, 1])
        dgm.sample(labelled, 2, True)
        dgm.sample(made, 2, given=x[:1])
        dgm.sample(made, 2, observed=3)
        dgm.sample(made, 2, given=x[:3], observed=3)
        dgm.sample(made, 2, given=x[:1], observed=65)
        dgm.sample(made, 2, given=x[:1], observed=-1)
        dgm.sample(made, 2, given=x[:1], observed=0.5)
        dgm.sample(made, 2, given=x[0], observed=3)
        dgm.sample(made, 2, given="half", observed=3)
        dgm.sample(vae, 2, given=x[:1], observed=3)
        dgm.sample(made, 2, solver="heun")
        dgm.sample(made, 2, guidance=2.0)
        dgm.sample(made, 2, mean=True)
        dgm.sample(made, 2, length=3)
        dgm.sample(made, 2, decoding=0.5)
        dgm.sample(made, 2, decoding=dgm.DecodingOptions(temperature=-1))
        dgm.sample(vae, 2, decoding=dgm.DecodingOptions(temperature=0.5))
        dgm.sample(vae, 2, eta=0.5)
        dgm.sample(denoiser, 2, solver="hein")
        dgm.sample(denoiser, 2, solver=3)
        dgm.sample(denoiser, 2, spacing="even")
        dgm.sample(denoiser, 2, sampling_steps=0)
        dgm.sample(denoiser, 2, sampling_steps="9")
        dgm.sample(denoiser, 2, eta=2)
        dgm.sample(denoiser, 2, eta="much")
        dgm.sample(denoiser, 2, solver="heun", eta=0.5)
        dgm.sample(denoiser, 2, guidance=2.0)
        dgm.sample(denoiser, 2, guidance="much")
        dgm.sample(denoiser, 2, guidance=dgm.Guidance(scale=-1))
        dgm.sample(denoiser, 2, guidance=dgm.Guidance(scale=2, interval=(0.5, 0.1)))
        dgm.sample(denoiser, 2, guidance=dgm.Guidance(scale=2, interval=3))
        dgm.sample(denoiser, 2, guidance=dgm.Guidance(scale=2, weak=made))
        dgm.trajectory(None, 2)
        dgm.trajectory(made, 0)
        dgm.trajectory(vae, 2, solver="heun")
        made.sample(0)
        made.sample(-1)
        made.sample(2.5)
        made.sample("2")
        made.sample(2, seed=1.5)
        made.sample(2, seed="1")
        vae.sample(0)
        vae.sample(2, seed=1.5)
        vae.sample(2, seed=-1)
        vae.sample(2, seed=numpy.uint64(2**63))
        labelled.sample(2, y)
        labelled.sample(2, torch.tensor([1.0, 2.0]))
        labelled.sample(2, [1, 2])
        made.loss(x, y)
        labelled.loss(x, y.float())
    """,
    "fit": """
        list(dgm.fit(made, x[:0], steps=1))
        list(dgm.fit(flow, x, steps=1))
        list(dgm.fit(labelled, x, steps=1))
        list(dgm.fit(labelled, digits.train.x, steps=1))
        list(dgm.fit(made, (x, y), steps=1))
        list(dgm.fit(made, "digits", steps=1))
        list(dgm.fit(made, None, steps=1))
        list(dgm.fit(digits, made, steps=1))
        list(dgm.fit("made", digits, steps=1))
        list(dgm.fit(None, digits, steps=1))
        list(dgm.fit(torch.nn.Linear(2, 2), digits, steps=1))
        list(dgm.fit(flow, digits, steps=1))
        list(dgm.fit(made, digits, steps=0))
        list(dgm.fit(made, digits, steps=-1))
        list(dgm.fit(made, digits, steps="10"))
        list(dgm.fit(made, digits, steps=1.5))
        list(dgm.fit(made, digits, steps=True))
        list(dgm.fit(made, digits, steps=1, budget=1.0))
        list(dgm.fit(made, digits, budget="60s"))
        list(dgm.fit(made, digits, budget=-1.0))
        list(dgm.fit(made, digits, steps=1, lr="fast"))
        list(dgm.fit(made, digits, steps=1, lr=-1.0))
        list(dgm.fit(made, digits, steps=1, lr=math.nan))
        list(dgm.fit(made, digits, steps=1, batch=0))
        list(dgm.fit(made, digits, steps=1, betas=0.9))
        list(dgm.fit(made, digits, steps=1, betas=(0.9,)))
        list(dgm.fit(made, digits, steps=1, learning_rate=1e-3))
        list(dgm.fit(made, digits, steps=1, epochs=3))
        list(dgm.fit(made, digits, steps=1, accelerator="gpu"))
        list(dgm.fit(made, digits, steps=1, devices=0))
        list(dgm.fit(made, digits, steps=1, seed=1.5))
        list(dgm.fit(made, digits, steps=1, resume=True))
        list(dgm.fit(made, digits, steps=1, out=3))
        list(dgm.fit(made, digits, steps=1, out=folder))
        list(dgm.fit(wide, digits, steps=1, out=folder / "five"))
    """,
    "load": """
        dgm.load(None)
        dgm.load(3)
        dgm.load(made)
        dgm.load("nowhere")
        dgm.load(folder)
        dgm.load(folder / "a.npy")
        dgm.load("")
        dgm.load("vae")
        dgm.load(folder / "new", device="abacus")
        dgm.load(folder / "new", device=3.5)
    """,
    "edit": """
        dgm.edit.inpaint(made, x, mask)
        dgm.edit.inpaint(plain, points, mask)
        dgm.edit.inpaint(denoiser, x.float(), mask)
        dgm.edit.inpaint(denoiser, x, mask.int())
        dgm.edit.inpaint(denoiser, x, torch.ones(7, 8).bool())
        dgm.edit.inpaint(denoiser, x, torch.ones(2, 1, 8, 8).bool())
        dgm.edit.inpaint(denoiser, x, mask, n=0)
        dgm.edit.inpaint(denoiser, x, mask, seed=0.5)
        dgm.edit.inpaint(denoiser, x, mask, seed=2**70)
        dgm.edit.inpaint(denoiser, x, mask, 3)
        dgm.edit.superres(denoiser, x)
        dgm.edit.superres(denoiser, x[..., :4, :4], 3)
        dgm.edit.superres(denoiser, x[..., :4, :4], 1)
        dgm.edit.superres(denoiser, x[..., :4, :4], noise=-1)
        dgm.edit.colourise(denoiser, x)
        dgm.edit.deblur(denoiser, x, 0)
        dgm.edit.deblur(denoiser, x, "much")
        dgm.edit.restore(denoiser, points, "blur")
        dgm.edit.encode(denoiser, x, sampling_steps=0)
        dgm.edit.interpolate(denoiser, x[:1])
        dgm.edit.interpolate(denoiser, x, n=1)
        dgm.edit.spread(denoiser, x)
    """,
    "save": """
        dgm.save(None, folder / "none")
        dgm.save("made", folder / "none")
        dgm.save(made, None)
        dgm.save(made, folder)
        dgm.save(made, folder / "none", x)
        dgm.save(flow, folder / "none", digits)
        dgm.save(made, folder / "none", names=["a"])
        dgm.save(labelled, folder / "none", names=["a"])
        dgm.save(labelled, folder / "none", names=3)
    """,
    "data": """
        dgm.data.load(None)
        dgm.data.load(3)
        dgm.data.load("")
        dgm.data.load("digit")
        dgm.data.load("nowhere.npy")
        dgm.data.load(Path("nowhere.csv"))
        dgm.data.load(b"digits")
        dgm.data.load(["digits"])
        dgm.data.load("digits", size=8)
        dgm.data.load("digits", seed=1)
        dgm.data.load(folder / "a.npy", size=8)
        dgm.data.load(folder / "a.npy", seed=1.5)
        dgm.data.load(folder / "a.npy", seed="1")
        dgm.data.load(folder / "a.npy", seed=-1)
        dgm.data.load(folder / "a.npy", seed=None)
        dgm.data.load(digits)
        dgm.data.load(made)
        dgm.data.load(space)
        dgm.data.load(numpy.zeros(20))
        dgm.data.load(numpy.zeros((3, 2)))
        dgm.data.load(numpy.zeros((0, 2)))
        dgm.data.load(numpy.full((20, 2), math.nan))
        dgm.data.load(numpy.array([["a", "b"]] * 20))
        dgm.data.load(numpy.array([[None, 1]] * 20))
        dgm.data.load(numpy.zeros((20, 2), dtype=complex))
        dgm.data.load(numpy.full((20, 2), -3))
        dgm.data.load(numpy.ma.masked_less(rows, 0))
        dgm.data.load(torch.zeros(20, 2, device="meta"))
        dgm.data.load(rows, y=numpy.array(["cat", None] * 20, dtype=object))
        dgm.data.load(rows, y=[1, 2])
        dgm.data.load(rows, labels=[0] * 40)
        dgm.data.load(rows, seed=1.5)
        dgm.data.load(rows, size=8)
        dgm.data.load([[1.0, 2.0], [3.0]])
        dgm.data.load(pyarrow.table({"a": ["x"] * 20}))
        dgm.data.load(pyarrow.table({"a": [1.0] * 20}))
        dgm.data.load(pyarrow.table({"a": [None] * 20}))
        dgm.data.load(pyarrow.table({"a": [[1.0]] * 20}))
        dgm.data.load([[0.5]] * 20, types="a=real")
        dgm.data.load(pyarrow.table({"a": list(range(20))}), types=3)
        dgm.data.load(Frame({"a": numpy.array(["x"] * 20)}))
        dgm.data.load(Frame({}))
    """,
    "evaluate": """
        evaluate(made, None)
        evaluate(made, x)
        evaluate(digits, made)
        evaluate("made", digits)
        evaluate(made, "digits")
        evaluate(flow, digits)
        evaluate(made, digits, samples=0)
        evaluate(made, digits, samples="many")
        evaluate(made, digits, samples=50.5)
        evaluate(made, digits, split="tset")
        evaluate(made, digits, split=None)
        evaluate(made, digits, spaces=["vgg"])
        evaluate(made, digits, spaces="pixels")
        evaluate(made, digits, draws=0)
        evaluate(made, digits, draws=True)
        evaluate(made, digits, seed=1.5)
        evaluate(made, digits, seed="1")
        evaluate(made, digits, seed=-1)
        evaluate(made, digits, marginal=True)
    """,
    "check": """
        list(contracts.check(None))
        list(dgm.check("maed"))
        list(dgm.check(3))
        list(contracts.check(digits))
        list(contracts.check(torch.nn.Linear(2, 2)))
        list(contracts.check(dgm.MODELS["made"]))
    """,
}

TAKEN = """
    dgm.create("vae", space, latent=numpy.int64(8)).config.latent
    dgm.create("made", space, dropout=numpy.float32(0.5)).config.dropout
    dgm.create("made", space, dropout=0).config.dropout
    dgm.Space.binary([1, 28, 28]).shape
    dgm.Space.binary(numpy.array([1, 28, 28])).shape
    dgm.Space.binary(torch.Size([4])).shape
    dgm.Space.levels((numpy.int64(4),), numpy.int32(5)).to_json()
    dgm.Space.continuous((2,), low=0, high=1).bounds
    dgm.Space.continuous((2,), loc=numpy.zeros(2), scale=torch.ones(2)).loc
    dgm.log_likelihood(made, x.numpy()).nats
    dgm.log_likelihood(made, x.tolist()).nats
    dgm.log_likelihood(made, x.int()).nats
    dgm.log_likelihood(flow, points.double()).nats
    dgm.log_likelihood(flow, points.half()).nats
    dgm.log_likelihood(flow, points.numpy()).nats
    dgm.log_likelihood(labelled, x, y.tolist()).nats
    dgm.log_likelihood(labelled, x, y.numpy()).nats
    dgm.log_likelihood(labelled, x, y.int()).nats
    dgm.log_likelihood(labelled, x, 3).nats
    dgm.log_likelihood(vae, x, draws=numpy.int64(2)).nats
    dgm.sample(made, numpy.int64(3))
    dgm.sample(made, 3, seed=numpy.int64(5))
    dgm.sample(made, 3, seed=numpy.uint8(5))
    dgm.sample(made, 3, seed=2**63 - 1)
    dgm.sample(made, 3, seed=torch.tensor(5))
    dgm.sample(made, 3, seed=None)
    made.sample(3, seed=numpy.int64(5))
    made.sample(3, seed=numpy.uint64(2**63 - 1))
    vae.sample(3, seed=numpy.int32(5))
    dgm.sample(labelled, 3, 2)
    dgm.sample(labelled, 3, "2")
    dgm.log_likelihood(labelled, x, "3").nats
    dgm.sample(labelled, 3, [0, 1, 2])
    dgm.sample(labelled, 3, numpy.array([0, 1, 2], dtype=numpy.uint8))
    dgm.sample(labelled, 3, numpy.int64(2))
    dgm.sample(made, 3, given=x[:1].numpy(), observed=numpy.int64(3))
    [*dgm.fit(made, digits, steps=numpy.int64(1))]
    [*dgm.fit(made, digits, steps=1, lr=numpy.float64(1e-3), betas=[0.9, 0.99], seed=numpy.int64(3))]
    [*dgm.fit(made, digits, steps=1, out=str(folder / "new"))]
    dgm.load(folder / "new")
    dgm.load(str(folder / "new"))
    dgm.data.load(folder / "a.npy").space
    dgm.data.load(str(folder / "a.npy"), seed=numpy.int64(1)).space
    dgm.data.load(rows).space
    dgm.data.load(torch.from_numpy(rows)).space
    dgm.data.load(rows.tolist()).space
    dgm.data.load(rows, y=[0, 1] * 20).labels
    dgm.data.load(rows, y=["cat", "dog"] * 20, seed=3).labels
    dgm.data.load(rows, y=numpy.array(["cat", "dog"] * 20, dtype=object)).labels
    dgm.data.load(torch.tensor(rows, requires_grad=True)).space
    dgm.data.load(numpy.ma.masked_array(rows)).space
    dgm.data.load(x.expand(8, 3, 8, 8).repeat(5, 1, 1, 1)).space
    dgm.data.load(pyarrow.table({"a": rows[:, 0], "b": rows[:, 1]})).columns
    dgm.data.load(Frame({"a": rows[:, 0], "b": rows[:, 1]})).columns
    space.check(x.numpy())
    dgm.log_likelihood(made, digits.validation)
    dgm.log_likelihood(labelled, digits.validation)
    dgm.log_likelihood(labelled, DataLoader(TensorDataset(x, y), batch_size=3))
    dgm.log_likelihood(made, DataLoader(x, batch_size=3))
    [*dgm.fit(made, x, steps=1)]
    [*dgm.fit(made, x.numpy(), steps=1)]
    [*dgm.fit(made, digits.train, steps=1)]
    [*dgm.fit(labelled, DataLoader(TensorDataset(x, y), batch_size=3), steps=1)]
    dgm.save(labelled, folder / "saved", names=list("abcdefghij"))
    dgm.load(folder / "saved", device=torch.device("cpu"))
"""


def lines(text: str) -> list[str]:
    return [line.strip() for line in text.splitlines() if line.strip()]


class Frame:
    """What of a pandas or polars table is asked for: its columns' names, and each column by its name."""

    def __init__(self, columns: dict[str, Any]) -> None:
        self.columns = list(columns)
        self.held = columns

    def __getitem__(self, name: str) -> Any:
        return self.held[name]

    def __len__(self) -> int:
        return len(next(iter(self.held.values()), ()))


def names(folder: Path) -> dict[str, Any]:
    """What the calls may name."""
    import math

    import numpy
    import pyarrow
    import torch

    import dgm
    from dgm import contracts
    from dgm.evaluation import evaluate

    torch.manual_seed(0)
    digits, plane = dgm.data.load("digits"), dgm.Space.continuous((2,))
    space, rows = digits.space, numpy.random.default_rng(0).normal(size=(40, 2))
    numpy.save(folder / "a.npy", rows)
    models = {
        "made": dgm.create("made", space, hidden=8),
        "labelled": dgm.create("made", space, dgm.Space.categories(10), hidden=8),
        "wide": dgm.create("made", space, dgm.Space.categories(5), hidden=8),
        "vae": dgm.create("vae", space),
        "gmm": dgm.create("gmm", space, components=2),
        "gan": dgm.create("gan", space),
        "flow": dgm.create("realnvp", plane, layers=2),
        "denoiser": dgm.create("ddpm", space, width=8),
        "plain": dgm.create("ddpm", plane, width=8),
    }
    return models | {
        "dgm": dgm,
        "math": math,
        "numpy": numpy,
        "pyarrow": pyarrow,
        "torch": torch,
        "DataLoader": torch.utils.data.DataLoader,
        "TensorDataset": torch.utils.data.TensorDataset,
        "contracts": contracts,
        "evaluate": evaluate,
        "Path": Path,
        "Frame": Frame,
        "digits": digits,
        "space": space,
        "plane": plane,
        "rows": rows,
        "points": torch.from_numpy(rows).float(),
        "x": digits.test.x[:8],
        "y": digits.test.y[:8],
        "folder": folder,
        "mask": torch.ones(8, 8).bool(),
    }


def outcome(call: str, known: dict[str, Any]) -> str:
    from dgm.errors import DgmError

    signal.alarm(60)
    try:
        eval(call, known)  # noqa: S307 - the calls above
    except DgmError as error:
        return f"line: {error}" if str(error).isprintable() else f"lines: {error}"
    except BaseException as error:
        return f"raw: {type(error).__name__}: {' '.join(str(error).split())[:200]}"
    finally:
        signal.alarm(0)
    return "taken"


if __name__ == "__main__":
    torch.set_num_threads(1)  # as the other processes of the tests: waiting threads slow a busy machine down
    known = names(Path(sys.argv[1]))
    calls = [call for group in REFUSED.values() for call in lines(group)] + lines(TAKEN)
    print(json.dumps({call: outcome(call, dict(known)) for call in calls}))
