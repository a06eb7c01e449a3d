"""Three folders of digits, each image with a condition of another kind: attributes, a caption, a small image.

python examples/conditions.py

The images are scikit-learn's. docs/conditions.md trains on the folders.
"""

from __future__ import annotations

import csv
from pathlib import Path

import numpy
from PIL import Image
from sklearn.datasets import load_digits

NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LOOPS = (0, 6, 8, 9)


def main() -> None:
    digits = load_digits()
    grey = (digits.images * 255 / 16).round().astype(numpy.uint8)
    small = digits.images.reshape(-1, 4, 2, 4, 2).mean((2, 4))  # each pixel the mean of four
    write("attributes", grey)
    write("captions", grey)
    write("pairs/x", grey)
    write("pairs/condition", (small * 255 / 16).round().astype(numpy.uint8))
    attributes = [[int(d) % 2, int(d in LOOPS), int(d > 4)] for d in digits.target]
    table("attributes/attributes.csv", ["odd", "has_loop", "greater_than_4"], attributes)
    table("captions/captions.csv", ["caption"], [[f"a {NAMES[d]}"] for d in digits.target])


def write(folder: str, images: numpy.ndarray) -> None:
    Path(folder).mkdir(parents=True, exist_ok=True)
    for k, image in enumerate(images):
        Image.fromarray(image).save(f"{folder}/{k:04d}.png")


def table(path: str, columns: list[str], rows: list[list[object]]) -> None:
    """A row an image, which is named in the first column."""
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file)
        lines.writerow(["file", *columns])
        lines.writerows([f"{k:04d}.png", *row] for k, row in enumerate(rows))


if __name__ == "__main__":
    main()
