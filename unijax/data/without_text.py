"""Rows in which padding stands for text, for guidance that keeps all places.

Wu et al. 2024 (Janus) draw without a prompt so: everything but what begins a document
or an image is padding, and the places of what follows stay.
"""

from unijax.data.layout import Layout
from unijax.data.tokenizer import Vocabulary


def pad(x: Layout, vocabulary: Vocabulary) -> None:
  """Puts padding, which nothing predicts, in the place of all text of a layout."""
  special = vocabulary.special
  kept = (special.bos, special.boi, special.eoi)
  for i, token in enumerate(x.tokens):
    outside = x.span[i] == -1 and not vocabulary.of_images(token)
    if outside and token not in kept:
      x.tokens[i], x.text_weight[i] = special.pad, 0.0
