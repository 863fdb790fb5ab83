"""Which images a training row holds twice: noised to be drawn, and clean to be read.

What comes after a drawn image reads it clean when the model is used, so with
`data.clean_copy` it does so in training, while the loss of the image needs it noised.
Both stand in the row, the noised one hidden from everything outside of it
(Deng et al. 2025, section 3.1).
"""

from collections.abc import Sequence

import numpy as np

from unijax.data.document import Image, Part, Text, Turn


def twice(parts: Sequence[Part]) -> frozenset[int]:
  """Returns the places of the images that a row holds twice.

  These are target images with text that is trained, or another image, after them. For
  EOI and EOS alone an image is not read again: they follow the noised one. Context
  images are there once, with noise up to `data.noise_limit`.
  """
  roles, role = [], None
  for part in parts:
    role = part.role if isinstance(part, Turn) else role
    roles.append(role)
  found, follows = set(), False
  for i in reversed(range(len(parts))):
    part = parts[i]
    if isinstance(part, Image):
      if follows and not part.context:
        found.add(i)
      follows = True
    elif isinstance(part, Text):
      follows |= bool(part.loss and part.text and roles[i] != "user")
  return frozenset(found)


def image_numbers(span: np.ndarray, hidden: np.ndarray) -> np.ndarray:
  """Numbers the images of a document so that both copies of one have one number.

  Args:
    span: int [T], number of the span at each position, -1 outside.
    hidden: bool [T], whether it is a hidden copy, which precedes the clean one.

  Returns:
    int [T]: of images, as `span` would number them without copies; -1 outside.
  """
  return span - np.searchsorted(np.unique(span[hidden]), span)
