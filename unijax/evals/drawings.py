"""Drawings of named glyphs against the real ones, by a distance on shipped features."""

import dataclasses

import numpy as np

from unijax.config import Config
from unijax.data.sources import make_source
from unijax.evals.kid import KidLite, kid_lite
from unijax.infer import prompts
from unijax.infer.generate import Generator


@dataclasses.dataclass
class Drawings:
  """Captions, real pictures and the model's, in parallel.

  `kid` compares the last two; `scale` is the same distance between real pictures of
  this source and as many that training never saw: what "other drawings" would score.
  Both are `kid_lite`, a proxy that is not comparable to published KID.
  """

  captions: list[str]
  real: list[np.ndarray]
  drawn: list[np.ndarray]
  kid: KidLite
  scale: KidLite


def draw_emoji(config: Config, generator: Generator, n: int, seed: int = 0):
  """Draws each training glyph in turn, `n` pictures in all.

  Returns:
    Drawings, or None where the config has no emoji.
  """
  entry = next((s for s in config.data.sources if s.kind == "emoji"), None)
  if entry is None:
    return None
  size = config.data.image_size
  source = make_source(entry, size, shift=0)
  other = make_source(entry, size, held_out=True, limit=None, shift=0)
  pairs = [source.pair(i % source.count, i) for i in range(n)]
  captions = [caption for caption, _ in pairs]
  real = [image.pixels() for _, image in pairs]
  made = generator.generate(
    [
      prompts.draw(caption, source.options.chat, seed + i)
      for i, caption in enumerate(captions)
    ]
  )
  drawn = [row.images[0] for row in made]
  unseen = [other.pair(i, i)[1].pixels() for i in range(min(n, other.count))]
  return Drawings(
    captions, real, drawn,
    kid=kid_lite(np.stack(real), np.stack(drawn)),
    scale=kid_lite(np.stack(real), np.stack(unseen)),
  )  # fmt: skip
