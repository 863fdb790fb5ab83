"""What tests of imported systems ask, and what the releases would see of it."""

import numpy as np
import tokenizers

from tests.interop import numbers

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
