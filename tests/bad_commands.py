"""Commands that a user gets wrong, made from the options that each verb has.

Every option of every verb is given values that its type does not take, or that lie outside of the range in `RANGES`;
every file and folder that a verb reads is given as one that is missing, damaged or of another kind; and `CONFLICTS`
lists what is wrong together. All of them are bad: the command is to say so in one line, to leave with 2, and to leave
nothing behind.
"""

from __future__ import annotations

import argparse
import importlib
import json
import math
import shutil
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy
from commands import dgm
from PIL import Image

WORDS = ("many", "", "1.5.2", "--")
WHOLE = ("1.5", "nan", "inf", "-3", "0", "1000000000000", "9" * 30)
REAL = ("nan", "inf", "-inf", "1e400", "-1", "0", "1e30", "1,5")
CHOICE = ("frobnicate", "")
HUGE = "1000000000"
STEPS = ("reflow_after", "stage", "fade", "steps_per_stage", "warmup")  # numbers of steps of training, which may be any

# the closed range of what is right; an option that is not here is tried with what is not a number alone
RANGES: dict[str, tuple[float, float]] = {
    "sample -n": (1, 1e9),
    "sample --seed": (0, 2**63 - 1),
    "sample --show-steps": (2, 1e4),
    "sample --temperature": (0, 1e3),
    "sample --top-k": (0, math.inf),
    "sample --top-p": (1e-9, 1),
    "sample --observed": (0, 1),
    "sample --length": (1, 1e9),
    "sample --sampling-steps": (1, 1e6),
    "sample --eta": (0, 1),
    "sample --guidance": (0, 100),
    "evaluate --samples": (20, 1e6),
    "evaluate --draws": (1, 1e6),
    "evaluate --seed": (0, 2**63 - 1),
    "compare --seeds": (1, 1e4),
    "compare --samples": (20, 1e8),
    "compare --budget": (1e-3, 1e8),
    "edit --examples": (1, 1e8),
    "edit -n": (1, 1e8),
    "edit --seed": (0, 2**63 - 1),
    "edit --sampling-steps": (1, 1e6),
    "edit --jump": (1, 1e6),
    "edit --resamplings": (1, 1e6),
    "edit --noise": (0, 10),
    "edit --factor": (2, 8),
    "edit --blur": (1e-3, 100),
    "edit --dimensions": (1, 1e8),
    "edit --width": (0, 100),
    "study --trials": (0, 1e5),
    "study --pairs": (0, 1e5),
    "study --port": (0, 65535),
    "study --seed": (0, 2**63 - 1),
    "train --steps": (1, math.inf),
    "train --budget": (1e-3, 1e8),
    "train --batch": (1, math.inf),
    "train --lr": (0, 1e3),
    "train --weight-decay": (0, 1e31),
    "train --warmup": (0, math.inf),
    "train --clip": (0, 1e31),
    "train --ema": (0, 1),
    "train --validate-every": (0, math.inf),
    "train --checkpoint-every": (0, 1e31),
    "train --keep": (1, math.inf),
    "train --devices": (1, 1000),
    "train --seed": (0, 2**63 - 1),
    "train --model.latent": (1, 1e8),
}

CONFLICTS = """
frobnicate
--frobnicate
train
train vaee --out new
train vae
train vae made --steps 2 --out new
train vae --out new --steps 5 --budget 5s
train vae --out new --steps
train vae --out vae --steps 2
train vae --out new --steps 2 --model.latnt 3
train vae --out new --steps 2 --latent 3
train vae --out new --steps 2 --betas 0.9
train vae --out new --steps 2 --betas 0.9 2
train vae --out new --steps 2 --betas [0.9,nan]
train vae --out new --steps 2 --betas [1.0,0.5]
train gan --out new --steps 2 --players.discriminator.betas [0.5,1.0]
train vae --out new --steps 2 --data digits --size 8
train vae --out new --steps 2 --data digits --size 0
train vae --out new --steps 2 --data digits --palette 0
train vae --out new --steps 2 --data digits --context 0
train vae --out new --steps 2 --data digits --rate 0
train vae --out new --steps 2 --data digits --grey
train vae --out new --steps 2 --data table.csv --size 8
train vae --out new --steps 2 --data table.csv --conditional
train vae --out new --steps 2 --data table.csv --types a=skip,b=skip,c=skip
train vae --out new --steps 2 --data table.csv --condition-columns a,a
train vae --out new --steps 2 --data pictures --size 0
train vae --out new --steps 2 --data pictures --size -4
train vae --out new --steps 2 --data pictures --size 3
train vae --out new --steps 2 --data pictures --size 1000000
train vae --out new --steps 2 --data pictures --palette 0
train vae --out new --steps 2 --data pictures --palette 1
train vae --out new --steps 2 --data pictures --seconds 1
train vae --out new --steps 2 --data pictures --conditional
train gmm --out new --steps 2 --conditional
train gmm --out new --steps 2 --compile
train gmm --out new --steps 2 --model.components 100000
train char_gpt --out new --steps 2 --data words.txt --context 0
train char_gpt --out new --steps 2 --data words.txt --context 1
train char_gpt --out new --steps 2 --data words.txt --context 1000000000
train char_gpt --out new --steps 2 --data words.txt --model.heads 3 --model.width 8
train char_gpt --out new --steps 2 --data digits
train wavenet --out new --steps 2 --data sounds --rate 0
train wavenet --out new --steps 2 --data sounds --rate 1
train wavenet --out new --steps 2 --data sounds --rate 1000000000
train wavenet --out new --steps 2 --data sounds --seconds 0
train wavenet --out new --steps 2 --data sounds --seconds nan
train wavenet --out new --steps 2 --data sounds --seconds inf
train wavenet --out new --steps 2 --data sounds --seconds 1e300
train wavenet --out new --steps 2 --data sounds --seconds 1000000000
train ddpm --out new --steps 2 --conditional --data toy/moons
train vae --out new --steps 2 --conditional --model.classes 3
train vae --out new --steps 2 --model.classes 3
train vae --out new --steps 2 --data table.csv --model.classes 3
train masked_diffusion --out new --steps 2 --data table.csv
train vae --out new --steps 2 --lr 1e30 --batch 8
train vae --out new --steps 2 --lr 1e200
train vae --out new --steps 2 --accelerator tpu
train vae --out new --steps 2 --accelerator cuda
train vae --out new --steps 2 --devices 2 --accelerator cuda
train vae --out new --steps 2 --precision 16
train mine:Model --out new --steps 2
train os:path --out new --steps 2
train json:JSONDecoder --out new --steps 2
train : --out new --steps 2
train json: --out new --steps 2
train :json --out new --steps 2
train ddpm --on vae --size 8 --out new --steps 2
train ddpm --on vae --palette 0 --out new --steps 2
train --resume nowhere
train --resume file.txt
train --resume folder
train --resume vae --out new
train --resume vae --lr 0.1
train --resume vae --data table.csv
train --resume vae --model.latent 3
train --resume vae --batch 7
train --resume vae --seed 3
train --resume vae --conditional
train --resume vae --ema 0.9
train made --resume vae
train vae --resume vae --config recipe.yaml
train --resume vae --steps 1
train --resume vae --steps 0
train --resume vae --steps -5
train --resume vae --budget inf
train --resume vae --budget nan
train --resume vae --steps 5 --budget 5s
train --resume vae --devices 100000 --steps 9
train --config
train --config nowhere
train --config nowhere.yaml --out new
train --config folder --out new
train --config file.txt --out new
train --config one.png --out new
train --config list.yaml --out new
train --config broken.yaml --out new
train --config unknown.yaml --out new
train --config nested.yaml --out new
train --config number.yaml --out new
train --config wrong.yaml --out new
train --config recipe.yaml
train --config mnist --out new
train --config mnist/nothing --out new
sample
sample vae
sample vae vae --out new.png
sample vae --out new.png --label 3
sample vae --out new.png --seed 1 --seed 2
sample table --out new.csv --where a=1 --where b=2
sample vae --out new.png --label dog
sample made --out new.png --label 10
sample made --out new.png --label -1
sample made --out new.png --label dog
sample made --out new.png --guidance 2
sample made --out new.png --solver heun
sample vae --out new.png --guidance 2
sample vae --out new.png --sampling-steps 5
sample vae --out new.png --eta 0.5
sample vae --out new.png --temperature 0.5
sample vae --out new.png --top-k 3
sample vae --out new.png --prompt to
sample vae --out new.png --length 5
sample vae --out new.png --show-steps 4
sample vae --out new.gif
sample vae --out new.wav
sample vae --out new.txt
sample vae --out -
sample vae --out new.bmp
sample vae --out new.xyz
sample vae --out folder
sample vae --out one.png
sample vae --out file.txt/new.png
sample ddpm --out new.png --guidance 2
sample ddpm --out new.png --guidance 2 --guidance-interval 0.5 0.1 --label 3
sample ddpm --out new.png --guidance 2 --guidance-interval nan 1 --label 3
sample ddpm --out new.png --guidance 2 --guidance-interval 0 --label 3
sample ddpm --out new.png --guidance-interval 0 1 --label 3
sample ddpm --out new.png --autoguidance vae
sample ddpm --out new.png --autoguidance vae --guidance 2
sample ddpm --out new.png --autoguidance nowhere --guidance 2
sample ddpm --out new.png --autoguidance moons --guidance 2
sample ddpm --out new.png --solver euler2
sample ddpm --out new.png --solver heun --eta 0.5
sample ddpm --out new.png --spacing linear
sample ddpm --out new.png --temperature 0.5
sample ddpm --out new.csv --show-steps 4
sample ddpm --out new.png --show-steps 1
sample ddpm --out new.gif --show-steps 0
sample ddpm --out new.gif --show-steps 100000000
sample ddpm --out new.png -n 100000 --show-steps 100000
sample table --out new
sample table --out new.gif
sample table --out new.wav
sample table --out new.txt
sample text --out new
sample text --out new.wav
sample text --out new.gif --length 8
sample text --out - --prompt Q
sample text --out - --prompt to --given words.txt
sample text --out - --length 100000000000
sample text --out - --given one.png
sample text --out - --given start.wav
sample text --out - --given table.csv
sample sound --out new.wav --given one.png
sample sound --out new.wav --given words.txt
sample sound --out -
sample made --out new.png --given words.txt
sample made --out new.png --given torn.png
sample made --out new.png --given three.npz -n 4
sample made --out new.png --given wrong.npz
sample made --out new.png --given one.png --observed 2
sample made --out new.png --prompt to
evaluate
evaluate vae vae
evaluate vae --split train
evaluate vae --features
evaluate vae --features vgg
evaluate vae --features pixels pixels
evaluate vae --against vae
evaluate vae --against digits --annealed 3
evaluate vae --against digits --draws 2
evaluate vae --against moons
evaluate text --against vae
evaluate vae --against damaged-cut-weights
evaluate vae --against digits --anomaly digits
evaluate vae --against digits --score table.csv
evaluate vae --against digits --out new.csv
evaluate vae --against digits --label 3
evaluate vae --anomaly digits
evaluate vae --anomaly permuted --samples 30
evaluate vae --anomaly permuted --downstream
evaluate table --score table.csv --json
evaluate table --score table.csv --features pixels
evaluate gan --marginal
evaluate vae --against table.csv
compare --models
compare --models vae,,gmm --out new
compare --models , --out new
compare --models vae,vea --out new
compare --models gmm,gmm --out new
compare --models nowhere:Class --out new
compare --models char_gpt --budget 0.1s --samples 20 --out new
compare --out file.txt
compare --out folder
compare --out vae
compare --data nowhere --out new
compare --data words.txt --models gmm --budget 0.1s --samples 20 --out new/deep/er
report
report nowhere
report folder
report file.txt
report vae --out new.pdf
report vae --out new
report vae --out folder
report vae table --out new.html
report vae --out file.txt/new.html
check
check nobody
check nowhere/run
check json:JSONDecoder
check nowhere:Class
check vae vae
models vaee
models vae made
models --jsn
data nowhere
data nowhere.csv
data folder
data file.xyz
data empty.csv
data torn.parquet
data torn.npz
data torn
data digits digits
data ./nowhere
data .
data ..
data wrong.npz
data objects.npy
data short.txt
data latin.txt
data torn_sounds
edit inpant ddpm
edit inpaint
edit inpaint ddpm --out new.png
edit inpaint ddpm --mask top
edit inpaint ddpm --mask bttom --out new.png
edit inpaint ddpm --mask folder --out new.png
edit inpaint ddpm --mask torn.png --out new.png
edit inpaint ddpm --mask words.txt --out new.png
edit inpaint vae --mask top --out new.png
edit inpaint made --mask top --out new.png
edit inpaint moons --mask top --out new.png
edit inpaint ddpm --mask top --out new.csv
edit inpaint ddpm --mask top --out folder
edit inpaint ddpm --mask top --out one.png
edit inpaint ddpm --mask top --out file.txt/new.png
edit inpaint ddpm --mask top --given nowhere.png --out new.png
edit inpaint ddpm --mask top --given folder --out new.png
edit inpaint ddpm --mask top --given torn.png --out new.png
edit inpaint ddpm --mask top --given wrong.npz --out new.png
edit inpaint ddpm --mask top --label 10 --out new.png
edit inpaint ddpm --mask top --label -1 --out new.png
edit inpaint ddpm --mask top --label dog --out new.png
edit inpaint ddpm --mask top --factor 3 --out new.png
edit superres ddpm --factor 3 --out new.png
edit colourise ddpm --out new.png
edit encode ddpm --out new.png
edit interpolate ddpm --given one.png --out new.png
edit interpolate ddpm -n 1 --out new.png
edit interpolate vae --path curved --out new.png
edit reconstruct made --out new.png
edit traverse vae --dimensions 0 --out new.png
edit traverse vae --width -1 --out new.png
edit arithmetic vae --out new.png
edit arithmetic vae --expression 11-x --out new.png
edit arithmetic vae --expression 1-+2 --out new.png
edit deblur ddpm --given three.npz --noise -1 --out new.png
study
study vae vae --port 0 --out new.jsonl
study vae made table --port 0 --out new.jsonl
study vae text --port 0 --out new.jsonl
study table --port 0 --out new.jsonl
study moons --port 0 --out new.jsonl
study vae --trials 3 --port 0 --out new.jsonl
study vae --trials 0 --pairs 0 --port 0 --out new.jsonl
study vae --trials 3000 --port 0 --out new.jsonl
study vae --split nowhere --port 0 --out new.jsonl
study vae --port 0 --out words.txt
study vae --port 0 --out file.txt/new.jsonl
study vae --port 0 --out folder
study vae --port 0 --out new.jsonl --data nowhere
study vae --host 192.0.2.1 --out new.jsonl
study vae --host nowhere.invalid --out new.jsonl
study vae --host
study vae --json --port 0 --out new.jsonl
study vae --analyse words.txt
study --analyse
study --analyse nowhere.jsonl
study --analyse folder
study --analyse words.txt
study --analyse one.png
study --analyse file.txt
report vae --out new.html --study words.txt
""".strip().splitlines()

# a run directory that is none, or is damaged, is given to each of these
READERS = (
    "sample {} --out new.png",
    "evaluate {} --samples 20",
    "report {} --out new.html",
    "check {}",
    "train --resume {}",
    "edit encode {} --out new.npz",
    "study {} --port 0 --out new.jsonl",
)
SEQUENTIAL = "sample made -n 2 --label 3 --out new.png"
# a command that works, to which one bad option is added
WORKING = {
    "sample": "sample ddpm -n 2 --label 3 --out new.png",
    "evaluate": "evaluate vae --samples 20 --features pixels",
    "compare": "compare --models gmm --budget 0.1s --samples 20 --out new",
    "report": "report vae --out new.html",
    "check": "check vae",
    "models": "models vae",
    "data": "data digits",
    "train": "train vae --steps 2 --out new",
    "study": "study vae --trials 2 --pairs 0 --port 0 --out new.jsonl",
}


def prepare(folder: Path) -> None:
    """Runs that are hardly trained, damaged ones, and files of every kind, in ``folder``."""
    (folder / "words.txt").write_text("to be or not to be, that is the question\n" * 60, encoding="utf-8")
    (folder / "short.txt").write_text("too short", encoding="utf-8")
    (folder / "latin.txt").write_bytes("né, ".encode("latin-1") * 2000)
    generator = numpy.random.default_rng(0)
    numpy.savetxt(folder / "table.csv", generator.normal(size=(60, 3)), delimiter=",", header="a,b,c", comments="")
    sound = (generator.normal(size=900) * 3000).astype("<i2").tobytes()
    for name in ("sounds", "pictures", "folder", "torn", "torn_sounds"):
        (folder / name).mkdir()
    for k in range(12):
        with wave.open(str(folder / "sounds" / f"{k}.wav"), "wb") as file:
            file.setparams((1, 2, 8000, 0, "NONE", ""))
            file.writeframes(sound)
        (folder / "torn_sounds" / f"{k}.wav").write_bytes(b"RIFF")
        shades = generator.integers(0, 256, (9 + k, 12, 3)).astype(numpy.uint8)
        Image.fromarray(shades).save(folder / "pictures" / f"{k}.png")
        (folder / "torn" / f"{k}.png").write_bytes((folder / "pictures" / f"{k}.png").read_bytes()[:40])
    shutil.copy(folder / "sounds" / "0.wav", folder / "start.wav")
    shutil.copy(folder / "torn" / "0.png", folder / "torn.png")
    Image.fromarray(generator.integers(0, 256, (8, 8)).astype(numpy.uint8)).save(folder / "one.png")
    numpy.savez(folder / "three.npz", x=numpy.zeros((3, 1, 8, 8), numpy.uint8))
    numpy.savez(folder / "wrong.npz", x=numpy.full((3, 2), numpy.nan))
    numpy.save(folder / "objects.npy", numpy.array([{}] * 20, dtype=object), allow_pickle=True)
    for name in ("file.txt", "file.xyz", "empty.csv", "folder/note.md"):
        (folder / name).touch()
    for name in ("torn.parquet", "torn.npz"):
        (folder / name).write_bytes(b"PK\x03\x04 torn")
    recipes = {
        "recipe": "name: vae\nsteps: 2\n",
        "list": "- vae\n",
        "broken": "name: [vae\n",
        "unknown": "name: vae\nstepps: 2\n",
        "nested": "name: {vae: 3}\n",
        "number": "name: 3\n",
        "wrong": "name: vae\nsteps: many\n",
    }
    for name, text in recipes.items():
        (folder / f"{name}.yaml").write_text(text, encoding="utf-8")
    for arguments in (
        "train vae --steps 4 --out vae",
        "train made --conditional --steps 2 --out made",
        "train ddpm --conditional --steps 2 --model.width 8 --out ddpm",
        "train gan --conditional --steps 2 --model.width 8 --out gan",
        "train flow_matching --data toy/moons --steps 2 --out moons",
        "train gmm --data table.csv --steps 2 --model.components 2 --out table",
        "train char_gpt --data words.txt --context 16 --steps 2 --model.layers 1 --out text",
        "train wavenet --data sounds --seconds 0.05 --steps 2 --model.layers 3 --model.width 8 --out sound",
    ):
        done = dgm(arguments, folder)
        assert done.returncode == 0, done.stderr
    for name in DAMAGES:
        shutil.copytree(folder / "vae", folder / f"damaged-{name}")
        damage(folder / f"damaged-{name}", name)


DAMAGES = (
    "no-config",
    "cut-config",
    "list-config",
    "no-model",
    "unknown-model",
    "unknown-setting",
    "wrong-setting",
    "other-format",
    "no-data",
    "moved-data",
    "no-weights",
    "cut-weights",
    "flipped-weights",
    "empty-manifest",
    "list-manifest",
    "null-space",
    "number-name",
    "cut-manifest",
    "other-weights",
)


def damage(run: Path, how: str) -> None:
    """One way to break a run."""
    config = json.loads((run / "config.json").read_text(encoding="utf-8"))
    weights = bytearray((run / "weights.safetensors").read_bytes())
    manifest: object = None
    match how:
        case "cut-config":
            (run / "config.json").write_text("{", encoding="utf-8")
            return
        case "list-config":
            config = []
        case "no-model":
            del config["model"]
        case "unknown-model":
            config["model"]["name"] = "vaee"
        case "number-name":
            config["model"]["name"] = 5
        case "unknown-setting":
            config["model"]["config"]["latnt"] = 3
        case "wrong-setting":
            config["model"]["config"]["latent"] = "many"
        case "null-space":
            config["model"]["space"] = None
        case "other-format":
            config["format"] = 99
        case "no-data":
            del config["data"]
        case "moved-data":
            config["data"] |= {"name": "/nowhere/at/all.csv"}
        case "cut-weights":
            weights = weights[: len(weights) // 2]
        case "flipped-weights":
            weights[-1] ^= 1
        case "empty-manifest":
            manifest = {}
        case "list-manifest":
            manifest = []
        case "cut-manifest":
            (run / "manifest.json").write_text("{", encoding="utf-8")
        case "other-weights":
            config["model"]["config"]["latent"] = 3
    (run / "config.json").write_text(json.dumps(config), encoding="utf-8")
    (run / "weights.safetensors").write_bytes(weights)
    if manifest is not None:
        (run / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    if how == "no-weights":
        (run / "weights.safetensors").unlink()
    if how == "no-config":
        (run / "config.json").unlink()


def commands() -> list[list[str]]:
    """All of them, each once."""
    found = [line.split() for line in CONFLICTS]
    found += [reader.format(f"damaged-{how}").split() for how in DAMAGES for reader in READERS if is_bad(how, reader)]
    found += [reader.format(path).split() for path in ("nowhere", "folder", "file.txt") for reader in READERS]
    found += [[*WORKING[verb].split(), *bad] for verb in WORKING for bad in bad_options(verb, parser_of(verb))]
    found += [[*SEQUENTIAL.split(), *bad] for bad in bad_options("sample", sequential())]
    found += [list(line) for line in edits()]
    found += [list(line) for line in settings_of_every_model()]
    return list(map(list, dict.fromkeys(map(tuple, found))))


def is_bad(how: str, reader: str) -> bool:
    """Not every verb looks at every part of a run."""
    verb = reader.split()[0]
    whole = how in ("no-config", "cut-config", "list-config", "no-model", "other-format", "no-data")
    if verb in ("report", "evaluate"):  # a run that was not evaluated is no part of a report
        return True
    if how == "moved-data":
        return verb in ("train", "edit")
    if verb == "train":  # goes on from a checkpoint, and writes weights and manifest anew
        return whole or not ("weights" in how or "manifest" in how)
    return True


def parser_of(verb: str) -> argparse.ArgumentParser:
    module = importlib.import_module(f"dgm.cli.{verb}")
    if verb == "train":
        parser = module.Parser(prog="dgm train")
        module.add_arguments(parser, "vae", typed=True)
        return parser
    parser = argparse.ArgumentParser(verb)
    module.add_arguments(parser)
    return parser


def sequential() -> argparse.ArgumentParser:
    """The options of an autoregressive model alone."""
    parser = argparse.ArgumentParser()
    (group,) = (group for group in parser_of("sample")._action_groups if group.title == "autoregressive models")
    parser._actions = group._group_actions
    return parser


def bad_options(verb: str, parser: argparse.ArgumentParser) -> Iterator[tuple[str, ...]]:
    for action in parser._actions:
        if not action.option_strings or isinstance(action, argparse._HelpAction):
            continue
        option = action.option_strings[0]
        if action.nargs == 0:
            yield (f"{option}=yes",)
            continue
        if option in ("--config", "--resume", "--print-config", "--debug"):
            continue
        for value in bad_values(f"{verb} {option}", action):
            yield (option, value)


def bad_values(name: str, action: argparse.Action) -> Iterator[str]:
    text = str(action.type)
    if name in RANGES or any(kind in text for kind in ("int", "float", "whole", "real", "number")):
        low, high = RANGES.get(name, (-math.inf, math.inf))
        yield from WORDS
        for value in (*WHOLE, *REAL):
            if not right(value, low, high):
                yield value
    elif action.choices or "Literal" in text:
        yield from CHOICE
    elif name.split()[1] in ("--out", "--data", "--given", "--against"):
        yield from ("", "folder", "nowhere/" * 40 + "x" * 300, "nowhere/" * 5 + "x" * 300, "file.txt/x.png")
    else:
        yield "" if name.split()[1] in ("--solver", "--spacing", "--models") else "nowhere"


def right(value: str, low: float, high: float) -> bool:
    try:
        number = float(value)
    except ValueError:
        return False
    return low <= number <= high and not (number == 0 < low)


def edits() -> Iterator[tuple[str, ...]]:
    from dgm.cli.edit import TASKS, common_options

    seen: set[tuple[str, ...]] = set()
    for name, task in TASKS.items():
        parser = argparse.ArgumentParser()
        if task.rows is not None:  # of tables: see test_rows.py
            continue
        task.options(parser)
        if name == "inpaint":
            common_options(parser)
        base = ("edit", name, "ddpm", "--out", "new.npz", "--examples", "2")
        base += ("--mask", "top") if name == "inpaint" else ()
        for bad in bad_options("edit", parser):
            if bad not in seen and bad[0] != "--out":
                seen.add(bad)
                yield (*base, *bad)


def settings_of_every_model() -> Iterator[tuple[str, ...]]:
    """Far too large, below the range, and no number, for each whole number that a model's Config has."""
    import dataclasses

    from dgm.models.table import MODELS
    from dgm.registry import model_class

    for model in MODELS:
        data = {"char_gpt": "words.txt", "wavenet": "sounds"}.get(model, "digits")
        for field in dataclasses.fields(model_class(model).Config):
            if type(field.default) is not int or field.name in STEPS:
                continue
            for value in ("-1", HUGE):
                yield ("train", model, "--data", data, "--steps", "2", "--out", "new", f"--model.{field.name}", value)
