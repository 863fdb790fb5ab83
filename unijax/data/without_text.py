"""Rows without text in which the places of what follows stay, for guidance.

  padded   padding stands for text, and is seen (Wu et al. 2024, Janus)
  hidden   the places of text stay empty: nobody sees them (Ma et al. 2024, JanusFlow)

What begins a document or an image, and images, stay in both.
"""

from unijax.data.layout import Layout
from unijax.data.tokenizer import Vocabulary


def _text(x: Layout, vocabulary: Vocabulary) -> list[int]:
  """Positions of text."""
  special = vocabulary.special
  kept = (special.bos, special.boi, special.eoi)
  return [
    i
    for i, token in enumerate(x.tokens)
    if x.span[i] == -1 and token not in kept and not vocabulary.of_images(token)
  ]


def pad(x: Layout, vocabulary: Vocabulary) -> None:
  """Puts padding, which nothing predicts, in the place of all text of a layout."""
  for i in _text(x, vocabulary):
    x.tokens[i], x.text_weight[i] = vocabulary.special.pad, 0.0


def hide(x: Layout, vocabulary: Vocabulary) -> None:
  """Takes all text out of a layout; what is left keeps its rotary positions."""
  x.leave_out(_text(x, vocabulary))


EMPTY = {"padded": pad, "hidden": hide}  # values of `data.without_text`
