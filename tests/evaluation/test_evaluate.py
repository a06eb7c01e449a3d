"""The whole document, of a model whose truth is known."""

from __future__ import annotations

import importlib
import json
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

import dgm
from dgm import data
from dgm.condition import Names
from dgm.data import Dataset, Split
from dgm.data.dataset import matching
from dgm.errors import BadInput, Interrupted, Unsupported
from dgm.evaluation.evaluate import evaluate
from dgm.evaluation.features import Features, features
from dgm.evaluation.held_out import HeldOut, fitting_rows
from dgm.evaluation.skipping import Skipped
from dgm.networks.conditions import Marginal
from dgm.seeds import Seed, streams
from dgm.space import Space

evaluation = importlib.import_module("dgm.evaluation.evaluate")  # the name is that of its function too
of_samples = importlib.import_module("dgm.evaluation.samples")
module_of_features = importlib.import_module("dgm.evaluation.features")


class Repeats(nn.Module):
    """Samples that are training examples of the labels given: a model that has learnt by heart and dropped the rest."""

    @dataclass(frozen=True, kw_only=True)
    class Config:
        pass

    def __init__(self, dataset: Dataset, labels: list[int]) -> None:
        super().__init__()
        self.space, self.config = dataset.space, self.Config()
        assert dataset.train.y is not None
        self.kept = dataset.train.x[torch.isin(dataset.train.y, torch.tensor(labels))]

    def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
        return self.kept[(streams(n, seed).uniform(()) * len(self.kept)).long()]


@pytest.fixture(scope="module")
def digits() -> Dataset:
    return data.load("digits")


def test_memorisation_and_dropped_modes_are_shown(digits: Dataset) -> None:
    document = json.loads(json.dumps(evaluate(Repeats(digits, [0, 1, 2]), digits, samples=200)))
    assert document["likelihood"] == []
    assert document["memorisation"]["exact"] == 1
    assert document["memorisation"]["held_out_share"] < 0.05
    assert document["modes"]["found"] == 3
    assert document["modes"]["total_variation"] == pytest.approx(0.7, abs=0.05)
    values = {m["name"]: m for m in document["metrics"] if m["features"] == "classifier"}
    assert values["coverage"]["value"] < 0.5 < values["coverage"]["reference"]["low"]
    assert values["frechet"]["value"] > 5 * values["frechet"]["reference"]["high"]
    assert {name: values[name].get("k") for name in ("precision", "recall", "density", "coverage", "kernel")} == {
        "precision": 3,
        "recall": 3,
        "density": 5,
        "coverage": 5,
        "kernel": None,
    }
    assert values["diversity"]["value"] == pytest.approx(3, abs=0.3)
    about = document["features"]["classifier"]
    assert about["test_accuracy"] > 0.95
    assert about["trained_on"] == "500 of the 1,000 training examples"
    assert document["skipped"] == []


def test_copies_and_their_distances_are_those_of_the_scaled_examples() -> None:
    """Of a table in other units, with examples 1, 4 and 16 apart once scaled."""
    x = torch.tensor([[0.0], [1.0], [5.0], [21.0]])
    table = Dataset(
        name="t",
        space=Space.continuous((1,), loc=(7.0,), scale=(10.0,)),
        train=Split(10 * x + 7),
        validation=Split(10 * x + 7),
        test=Split(10 * x + 7),
        split="by hand",
    )
    samples = torch.tensor([[0.0], [5.5], [8.0], [30.0], [5.0]])
    held_out = torch.tensor([[1.5], [1.0], [2.0], [21.0], [5.0], [5.0]])
    found = of_samples.memorisation(table, 10 * samples + 7, 10 * held_out + 7)
    assert (found["share"], found["exact"]) == (pytest.approx(3 / 5), pytest.approx(2 / 5))
    assert (found["held_out_share"], found["held_out_exact"]) == (pytest.approx(3 / 5), pytest.approx(3 / 5))
    assert found["nearest"] == [0, 2, 2, 3, 2]
    assert found["distance"] == pytest.approx([0, 0.5, 3, 9, 0], abs=1e-4)
    assert (found["median_distance"], found["held_out_median_distance"]) == pytest.approx((0.5, 0.0), abs=1e-4)
    assert found["n_train"] == 4
    many = of_samples.memorisation(table, 10 * samples.repeat(3, 1) + 7, 10 * held_out + 7)
    assert many["nearest"] == [0, 2, 2, 3, 2] * 2  # of ten, which a report shows
    assert len(many["distance"]) == 10


def test_a_label_is_found_from_a_tenth_of_its_share_on(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The classifier says what the first pixel says; labels are a tenth of the data each, but for what they are."""
    sure = lambda x: torch.nn.functional.one_hot(x[:, 0, 0, 0].long(), 10).double().log()  # noqa: E731
    counting = importlib.import_module("dgm.evaluation.modes")
    monkeypatch.setattr(counting, "features", lambda name, dataset: Features("classifier", sure, {}, sure))
    samples = torch.zeros(1000, 1, 8, 8, dtype=torch.uint8)
    samples[:500, 0, 0, 0] = 1
    samples[500:520, 0, 0, 0], samples[520:528, 0, 0, 0] = 2, 3
    found = counting.modes(digits, samples)
    assert found is not None
    assert digits.train.y is not None
    expected = digits.train.y.bincount().double() / 1000
    assert found["shares"] == pytest.approx([0.472, 0.5, 0.02, 0.008, 0, 0, 0, 0, 0, 0])
    assert (found["found"], found["of"]) == (3, 10)
    off = (torch.tensor(found["shares"]).double() - expected).clamp_min(0).sum().item()
    assert found["total_variation"] == pytest.approx(off, abs=1e-6)


def test_the_classifier_is_the_same_from_the_cache(digits: Dataset) -> None:
    first, again = features("classifier", digits), features("classifier", digits)
    assert first.about == again.about
    assert torch.equal(first.of(digits.test.x[:10]), again.of(digits.test.x[:10]))
    assert first.log_p is not None
    log_p = first.log_p(digits.test.x)
    torch.testing.assert_close(log_p.logsumexp(1), torch.zeros(len(log_p), dtype=torch.float64))
    right = (log_p.argmax(1) == digits.test.y).double().mean().item()
    assert first.about["test_accuracy"] == pytest.approx(right, abs=1e-4)
    assert torch.equal(first.log_p(digits.test.x), log_p)  # without dropout


def test_pca_keeps_the_variance_that_it_says(digits: Dataset) -> None:
    space = features("pca", digits)
    fitted = digits.train.x[fitting_rows(digits)]
    z, x = space.of(fitted), features("pixels", digits).of(fitted)
    assert float(z.var(0).sum() / x.var(0).sum()) == pytest.approx(space.about["variance_kept"], abs=1e-3)
    off = z.T.cov() - torch.diag(z.var(0))
    assert off.abs().max() < 1e-9
    assert z.shape[1] == space.about["dim"] == 32
    assert z.mean(0).abs().max() < 1e-9
    theirs = PCA(32, svd_solver="full").fit(x.numpy())
    np.testing.assert_allclose(abs(theirs.transform(x.numpy())), z.abs().numpy(), atol=1e-6)
    assert space.about["variance_kept"] == pytest.approx(theirs.explained_variance_ratio_.sum(), abs=1e-4)


def test_components_of_large_images_are_found_without_all_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same distances and variances as by the exact decomposition, of more examples than components.

    Kills: rows for columns, singular values for variances, the smallest components, a threshold that is never reached.
    """
    x = (torch.randn(150, 90) * torch.logspace(1, -1, 90)) @ torch.linalg.qr(torch.randn(90, 90)).Q
    centred = (x - x.mean(0)).double()
    exact, variances = module_of_features.leading_components(centred)
    monkeypatch.setattr(module_of_features, "WIDE", 89)
    basis, found = module_of_features.leading_components(centred)
    torch.testing.assert_close(found, variances)
    torch.testing.assert_close((basis.mT @ exact).abs(), torch.eye(32).double(), atol=1e-6, rtol=0)
    few, _ = module_of_features.leading_components(centred[:20])
    assert few.shape == (90, 20)
    torch.testing.assert_close(few.mT @ few, torch.eye(20).double())
    torch.testing.assert_close(centred[:20] @ few @ few.mT, centred[:20])  # twenty rows span no more


def test_a_table_is_standardised_before_it_is_compared() -> None:
    x = torch.randn(100, 2) * torch.tensor([1e4, 1e-3])
    split = Split(x)
    space = Space.continuous((2,), loc=(0.0, 0.0), scale=(1e4, 1e-3))
    table = Dataset(name="t", space=space, train=split, validation=split, test=split, split="all")
    assert torch.allclose(features("pixels", table).of(x).std(0), torch.ones(2).double(), atol=0.25)


def test_categories_of_any_number_are_as_far_apart() -> None:
    """Of a record: ones and zeros up to 32 categories, then bits, with a mean squared distance of 2 too.

    A missing value is 0 with a mark, a number in its own scale.
    """
    few, many = (Space.categories(k, optional=k == 32) for k in (32, 33))
    age = Space.levels((), 40, loc=(11.0,), scale=(6.0,))
    of = module_of_features.of_columns(Space.record(few=few, many=many, age=age))
    x = torch.stack([torch.arange(33).double().remainder(32), torch.arange(33).double(), torch.arange(33).double()], 1)
    x[32, 0] = torch.nan
    found = of(x)
    assert found.shape == (33, 32 + 1 + 6 + 1)
    torch.testing.assert_close(found[:, :33], torch.eye(33).double())
    bits = (torch.arange(33)[:, None] >> torch.arange(6)) & 1
    torch.testing.assert_close(found[:, 33:39] * 6**0.5 / 2, bits.double())
    torch.testing.assert_close(found[:, 39], (torch.arange(33).double() - 11.5) / 6)


def test_an_attribute_is_there_from_even_odds_on() -> None:
    """And the loss is that of each attribute alone, or of one of the labels."""
    logits = torch.tensor([[0.2, -0.2], [3.0, 0.7]])
    binary: Any = replace(data.load("toy/moons"))
    assert module_of_features.guess_of(lambda x: x, binary)(logits).tolist() == [[1, 0], [1, 1]]
    y = torch.tensor([[1, 0], [0, 1]])
    each = torch.nn.functional.softplus(logits * (1 - 2 * y)).mean()
    torch.testing.assert_close(module_of_features.loss_of(logits, y), each)
    label = torch.tensor([0, 1])
    torch.testing.assert_close(module_of_features.loss_of(logits, label), -logits.log_softmax(1)[[0, 1], label].mean())


def test_progress_only_rises(digits: Dataset) -> None:
    """Also over a bound that is measured twice, the second time with importance weights."""
    model, shares = dgm.create("vae", digits.space).eval(), list[float]()
    evaluate(model, digits, samples=100, spaces=["pixels"], progress=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert (shares[0], shares[-1]) == (0, 1)


def test_features_take_the_third_of_the_progress_before_memorisation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each space half of its part for its features and half for real data in the samples' place."""
    x, seen = torch.randn(80, 40), dict[str, float]()
    parts = dict.fromkeys(("train", "validation", "test"), Split(x))
    table = Dataset(name="t", space=Space.continuous((40,)), **parts, split="")
    monkeypatch.setattr(of_samples, "metrics", lambda *arguments: arguments[-1](1.0) or [])
    document: dict[str, Any] = {"features": {}, "metrics": []}
    pool = HeldOut(table, "test")

    def progress(share: float, text: str) -> None:
        seen[text] = share

    of_samples.measure_samples(document, x, None, pool, Split(x), ["pca", "pixels"], Skipped(), progress)
    assert seen == pytest.approx(
        {
            "pca features": 0.6,
            "real data in pca features": 0.75,
            "pixels features": 0.75,
            "real data in pixels features": 0.9,
            "memorisation": 0.9,
        }
    )


def test_copies_are_looked_for_beside_those_of_the_evaluated_split(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y, seen = torch.randn(80, 2), torch.randn(30, 2), list[tuple[Tensor, Tensor]]()
    table = Dataset(
        name="t", space=Space.continuous((2,)), train=Split(x), validation=Split(x), test=Split(y), split=""
    )
    for name in ("memorisation", "duplicates"):
        monkeypatch.setattr(of_samples, name, lambda dataset, samples, held, *rest: seen.append((samples, held)))
    document: dict[str, Any] = {"features": {}, "metrics": []}
    samples = torch.randn(9, 2)
    pool = HeldOut(table, "test")
    of_samples.measure_samples(document, samples, None, pool, table.test, [], Skipped(), lambda share, text: None)
    assert [(one is samples, other is y) for one, other in seen] == [(True, True)] * 2


@pytest.mark.parametrize(("held_out", "compared"), [(19, 50), (20, 20), (70, 50)])
def test_as_many_samples_are_compared_as_there_are_held_out_examples(held_out: int, compared: int) -> None:
    """Unless there are fewer than 20, of which no reference is drawn."""
    x = torch.randn(2 * held_out, 2)
    parts = {"train": Split(x), "validation": Split(x[:0]), "test": Split(x)}  # half of the training split is held out
    table = Dataset(name="t", space=Space.continuous((2,)), **parts, split="")
    pool = HeldOut(table, "test")
    assert len(pool) == held_out
    assert of_samples.samples_compared(50, pool) == compared


def test_the_speed_is_samples_a_second(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 14.0])
    monkeypatch.setattr(of_samples.time, "perf_counter", lambda: next(clock))
    monkeypatch.setattr(of_samples, "sample", lambda model, n, y, seed: torch.zeros(n))
    _, about = of_samples.timed_sample(dgm.create("gmm", digits.space), 8, 3)
    assert (about["n"], about["seed"], about["seconds"], about["per_second"]) == (8, 3, 4.0, 2.0)


def test_a_small_split_costs_only_what_needs_more_examples() -> None:
    """Five test rows: no fifth neighbour, no extrapolation; the likelihood and the rest are there."""
    x = torch.randn(60, 3)
    parts = {"train": Split(x[:50]), "validation": Split(x[50:55]), "test": Split(x[55:])}
    table = Dataset(name="t", space=Space.continuous((3,)), **parts, split="by hand")
    model = dgm.create("gmm", table.space)
    for _ in dgm.fit(model, table, steps=2):
        pass
    document = evaluate(model, table, samples=40)
    assert document["likelihood"][0]["n"] == 5
    assert {"kernel", "frechet"} <= {row["name"] for row in document["metrics"]}
    reasons = {row["what"]: row["reason"] for row in document["skipped"]}
    assert "got 4" in reasons["precision, recall, density, coverage in pixels features"]
    assert reasons["frechet infinity in pixels features"] == "too few examples, or features not finite"
    assert document["memorisation"] is not None


def test_distances_that_memory_does_not_hold_are_refused_before_a_sample_is_drawn(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of no more samples than there are held-out examples, 800 here, whose blocks take 100 kB each."""
    monkeypatch.setattr(evaluation, "timed_sample", failing)
    monkeypatch.setattr("dgm.memory.available", lambda: 2**26)
    with pytest.raises(BadInput, match=r"measuring 700 samples takes 0.1 GiB of memory, 0.1 GiB are free; ask for few"):
        evaluate(Repeats(digits, [0]), digits, samples=700)
    monkeypatch.setattr("dgm.memory.available", lambda: 2**28)
    with pytest.raises(BadInput, match="nothing could be measured"):
        evaluate(Repeats(digits, [0]), digits, samples=90_000)
    pool, n = HeldOut(digits, "test"), 300  # of 64 numbers: blocks, copies, and float64 of samples and training data
    needed = n * (100_000 + 64 * 64) + 16 * 64 * (n + len(digits.train))
    monkeypatch.setattr("dgm.memory.available", lambda: needed)
    evaluation.refuse_distances_beyond_memory(pool, n)
    monkeypatch.setattr("dgm.memory.available", lambda: needed - 1)
    with pytest.raises(BadInput, match="measuring 300 samples"):
        evaluation.refuse_distances_beyond_memory(pool, n)


def failing(*arguments: object, **options: object) -> None:
    raise ZeroDivisionError("no such\nluck")


def test_conditions_of_a_constant_are_different_ones(digits: Dataset) -> None:
    few = Split(digits.test.x[:5], torch.tensor([3, 1, 3, 0, 1]))
    assert evaluation.given_conditions(Faithful(digits, obeys=True), few).tolist() == [0, 1, 3]
    assert evaluation.given_conditions(Repeats(digits, [0]), few) is None


def test_bounds_are_drawn_as_often_as_is_asked(digits: Dataset) -> None:
    document = evaluate(dgm.create("vae", digits.space).eval(), digits, samples=20, spaces=[], draws=3)
    assert [row["draws"] for row in document["likelihood"]] == [3, 16]


def test_a_likelihood_is_given_the_labels_or_summed_over_them(digits: Dataset) -> None:
    few = replace(digits, test=Split(digits.test.x[:20], digits.test.y[:20]))
    model = dgm.create("made", digits.space, condition=digits.condition, hidden=4).eval()
    for marginal, condition in ((False, "label"), (True, None)):
        (row,) = evaluate(model, few, samples=20, spaces=[], marginal=marginal)["likelihood"]
        assert row["condition"] == condition


def test_a_measure_that_fails_is_named_and_the_others_stay(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """Copies in pixels are looked for also where features, such as those of a download, cannot be had."""
    monkeypatch.setattr(of_samples, "duplicates", failing)
    monkeypatch.setattr("dgm.evaluation.features.principal_components", failing)
    document = evaluate(Repeats(digits, [0, 1]), digits, samples=100, spaces=["pca", "pixels"])
    reason = "ZeroDivisionError: no such luck"
    assert document["skipped"] == [{"what": "pca features", "reason": reason}, {"what": "duplicates", "reason": reason}]
    assert document["memorisation"]["share"] == 1
    assert document["memorisation"]["in_features"] == {}
    assert {row["features"] for row in document["metrics"]} == {"pixels"}


def test_samples_that_fail_leave_the_likelihood(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dgm.registry.MODELS["vae"].load(), "sample", failing)
    document = evaluate(dgm.create("vae", digits.space).eval(), digits, samples=100)
    assert len(document["likelihood"]) == 2
    assert [row["what"] for row in document["skipped"]] == ["samples"]


def test_where_nothing_is_measured_nothing_is_returned(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evaluation, "timed_sample", failing)
    with pytest.raises(BadInput, match="nothing could be measured: ZeroDivisionError: no such luck"):
        evaluate(Repeats(digits, [0]), digits, samples=100)


def test_a_request_to_stop_is_no_failure(digits: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*arguments: object) -> None:
        raise Interrupted("stopped", "go on", 15)

    monkeypatch.setattr(evaluation, "timed_sample", stopped)
    with pytest.raises(Interrupted):
        evaluate(Repeats(digits, [0]), digits, samples=100)


class Faithful(nn.Module):
    """Draws real examples of the condition it is given, or of another one."""

    def __init__(self, dataset: Dataset, *, obeys: bool) -> None:
        super().__init__()
        self.space, self.config = dataset.space, Repeats.Config()
        self.condition, self.obeys = dataset.condition, obeys
        self.x, self.y = dataset.train.x, dataset.train.y
        assert self.condition is not None
        self.marginal = Marginal(self.condition)
        assert self.y is not None
        self.marginal.fit(self.y)

    def sample(self, n: int, y: Tensor | None = None, *, seed: Seed = None) -> Tensor:
        assert y is not None
        assert self.y is not None
        u = streams(n, seed).uniform(())
        found = []
        for k, wanted in enumerate(y if self.obeys else y.roll(1, 0)):
            rows = matching(self.y, wanted)
            found.append(self.x[rows[int(u[k] * len(rows))]])
        return torch.stack(found)


def with_attributes(digits: Dataset) -> Dataset:
    """The digits, and of each whether it is odd and whether it has a loop."""

    def attributes(split: Split) -> Split:
        assert split.y is not None
        loops = torch.isin(split.y, torch.tensor([0, 6, 8, 9]))
        return replace(split, y=torch.stack([split.y % 2, loops], 1).to(torch.uint8))

    parts: dict[str, Any] = {name: attributes(split) for name, split in digits.splits.items()}
    names = Names(columns=("odd", "loop"))
    return replace(digits, condition=Space.binary((2,)), names=names, **parts)


def test_samples_that_follow_their_condition_agree_with_it_as_real_ones_do(digits: Dataset) -> None:
    """Kills: conditions other than those that were drawn, a classifier of another condition."""
    for dataset, what in ((digits, "labels"), (with_attributes(digits), "attributes")):
        followed, other = (
            evaluate(Faithful(dataset, obeys=obeys), dataset, samples=200, spaces=["classifier"])["agreement"]
            for obeys in (True, False)
        )
        assert followed["share"] > 0.9 < followed["held_out_share"]
        assert followed["rule"].startswith(what)
        assert other["share"] < 0.7


def test_one_condition_is_set_beside_the_examples_that_have_it(digits: Dataset) -> None:
    """Kills: samples of other conditions, examples of others beside them, features fitted on one condition alone."""
    model = Faithful(digits, obeys=True)
    seven = torch.tensor(7)
    document = evaluate(model, digits, samples=100, spaces=["pixels", "classifier"], condition=seven)
    assert document["agreement"]["share"] > 0.9
    assert document["modes"] is None
    assert digits.test.y is not None
    n = int((digits.test.y == 7).sum())
    assert {row["n_real"] for row in document["metrics"]} == {n}
    same = {(row["features"], row["name"]): row["value"] for row in document["metrics"]}
    all_labels = evaluate(model, digits, samples=100, spaces=["pixels", "classifier"])
    for row in all_labels["metrics"]:
        if row["name"] == "coverage":
            assert same[row["features"], "coverage"] == pytest.approx(row["value"], abs=0.35)
    with pytest.raises(Unsupported, match="without a condition"):
        evaluate(Repeats(digits, [3]), digits, condition=seven)
    some = torch.cat([(digits.test.y == 7).nonzero()[:1, 0], (digits.test.y != 7).nonzero()[:, 0]])
    one_seven = replace(digits, test=Split(digits.test.x[some], digits.test.y[some]))
    for dataset, condition in ((digits, torch.tensor(77)), (one_seven, seven)):
        with pytest.raises(BadInput, match="fewer than 2 examples"):
            evaluate(model, dataset, condition=condition)
    assert document["reference"]["of"] == HeldOut(digits, "test", seven).description()


def test_the_classifier_sees_large_images_in_blocks_means() -> None:
    """Of sides that are multiples of its largest; a side below that stays. Kills: images at their own size."""
    side, x = module_of_features.LARGEST, torch.randn(2, 3, 2 * module_of_features.LARGEST, 5)
    blocks = x.unflatten(2, (side, 2)).mean(3)
    assert module_of_features.reduced(x).shape == (2, 3, side, 5)
    torch.testing.assert_close(module_of_features.reduced(x), blocks)
    small = x[:, :, :side]
    assert torch.equal(module_of_features.reduced(small), small)
