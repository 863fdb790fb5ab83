"""What tests of imported systems ask, and what the releases would see of it."""

import json

import numpy as np
import tokenizers
from PIL import Image as Picture

from tests.interop import numbers
from unijax import cli

QUIET = lambda text: None
WORDS = "USER: ASSISTANT: What is red? A circle, it is."
ASKED = "What is red?"


def official(release, text: str) -> list[int]:
  """Ids of a prompt in which `<image>` stands for a picture."""
  inner = tokenizers.Tokenizer.from_file(str(release / "tokenizer.json"))
  return inner.encode(text).ids


def pixels(seed: int, side: int = 14) -> np.ndarray:
  x = numbers.picture(f"cat {seed}", side, side, 3)
  return (127.5 + 127.5 * x).astype(np.uint8)


def result(capsys) -> dict:
  """What the last verb says that it has done."""
  return json.loads(capsys.readouterr().out.splitlines()[-1].removeprefix("RESULT "))


def answered(out, picture: np.ndarray, prompt: str, place, capsys) -> dict:
  """What `unijax sample` says of a picture that it reads from a file."""
  Picture.fromarray(picture).save(place / "cat.png")
  asked = [f"--image={place}/cat.png", f"--prompt={prompt}"]
  assert not cli.main(["sample", f"--workdir={out}", *asked])
  return result(capsys)


def reads_and_draws(out, side: int, place, capsys):
  """`unijax sample` answers about a picture, and draws one of so many pixels."""
  said = answered(out, pixels(0, side), ASKED, place, capsys)
  assert len(said["texts"][0]) > 8
  asked = ["--begin=image", "--prompt=a dog", f"--out={place}/dog.png", "--steps=3"]
  assert not cli.main(["sample", f"--workdir={out}", *asked])
  drawn = result(capsys)
  assert np.asarray(Picture.open(drawn["images"][0])).shape == (side, side, 3)
