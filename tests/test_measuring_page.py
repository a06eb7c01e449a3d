"""docs/measuring.md is made from the figures, and its sentences are true of them."""

from __future__ import annotations

import importlib.util
import json
import math
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_the_page_is_what_the_figures_say() -> None:
    spec = importlib.util.spec_from_file_location("measuring", ROOT / "docs" / "measuring.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (ROOT / "docs" / "measuring.md").read_text(encoding="utf-8") == module.page()


def test_the_three_cases_are_in_the_figures() -> None:
    found = json.loads((ROOT / "results" / "theis-digits.json").read_text(encoding="utf-8"))
    model, mixture, lookup = found["cases"]
    assert 0 < model["nats"] - mixture["nats"] <= math.log(100)
    assert mixture["two_sample_accuracy"] > 0.9
    assert lookup["nats"] < -64 * math.log(17)
    low, high = lookup["two_sample_interval"]
    assert low < 0.5 < high
    assert lookup["frechet_infinity"] < model["frechet_infinity"] < mixture["frechet_infinity"]
    assert lookup["memorised"] > 0.5 > model["memorised"]
    windows = found["parzen"]
    assert windows["200 means of k-means"]["nats"] > windows["200 training digits"]["nats"]
