"""Laws of the interval mask: it says what its definition says, on every layout."""

import itertools

import numpy as np
import pytest

from unijax.nn import masks

T = 6  # positions of an enumerated row
# What a position may be: text, the first position of an image, or one more of it; in
# the document of the position before, or in a new one.
KINDS = ("text", "new text", "image", "new image", "more")
RANDOM_ROWS, RANDOM_T = 200, 40


def defined(span, segment, image_mask):
  """bool [B, T, T] by the definition: document, order, and both ways in an image."""
  index = np.arange(span.shape[1])
  q, k = (slice(None), slice(None), None), (slice(None), None)
  same_document = (segment[q] == segment[k]) & (segment[q] > 0)
  same_image = (span[q] == span[k]) & (span[q] >= 0)
  earlier = index[None, None, :] <= index[None, :, None]
  sees = same_document & earlier
  if image_mask == "bidirectional":
    sees |= same_document & same_image
  return sees | (index[None, None, :] == index[None, :, None])


def row(kinds, length):
  """Returns (span, segment) of a row; positions beyond `kinds` are padding."""
  span, segment = np.full(length, -1, np.int32), np.zeros(length, np.int32)
  image, document = -1, 1
  for i, kind in enumerate(kinds):
    document += kind.startswith("new")
    image += kind.endswith("image")
    segment[i] = document
    if kind != "text" and kind != "new text":
      span[i] = image
  return span, segment


def every_row():
  """All rows of up to T positions, with padding after them."""
  for n in range(T + 1):
    for kinds in itertools.product(KINDS, repeat=n):
      in_image = [k in ("image", "new image", "more") for k in kinds]
      if all(i and in_image[i - 1] for i, k in enumerate(kinds) if k == "more"):
        yield row(kinds, T)


def random_row(rng):
  """A longer row of runs of text and of images, some of them side by side."""
  kinds = []
  while len(kinds) < RANDOM_T:
    new = "new " if rng.random() < 0.25 else ""
    n = int(rng.integers(1, 7))
    if rng.random() < 0.5:
      kinds += [f"{new}text"] + ["text"] * (n - 1)
    else:
      kinds += [f"{new}image"] + ["more"] * (n - 1)
  return row(kinds[: rng.integers(1, RANDOM_T + 1)], RANDOM_T)


@pytest.mark.parametrize("image_mask", ["bidirectional", "causal"])
@pytest.mark.parametrize("layouts", ["every short row", "random long rows"])
def test_intervals_are_the_definition(image_mask, layouts):
  rng = np.random.default_rng(0)
  made = every_row() if layouts == "every short row" else (
    random_row(rng) for _ in range(RANDOM_ROWS)
  )  # fmt: skip
  span, segment = (np.stack(x) for x in zip(*made, strict=True))
  start, end = masks.intervals(span, segment, image_mask)
  index = np.broadcast_to(np.arange(span.shape[1], dtype=np.int32), span.shape)
  got = np.asarray(masks.allowed(start, end, index))
  wrong = (got != defined(span, segment, image_mask)).any(axis=(1, 2))
  assert not wrong.any(), (
    f"{wrong.sum()} of {len(span)} rows; first: span {span[wrong][0]}, "
    f"segment {segment[wrong][0]}"
  )


def test_the_enumeration_has_the_hard_cases():
  span, segment = (np.stack(x) for x in zip(*every_row(), strict=True))
  side_by_side = (span[:, 1:] > span[:, :-1]) & (span[:, :-1] >= 0)
  crossing = segment[:, 1:] > segment[:, :-1]
  assert (side_by_side & ~crossing).any() and (side_by_side & crossing).any()
  assert (span[:, -1] >= 0).any() and (segment[:, -1] == 0).any()
  assert len(span) > 5000


def test_a_row_by_hand():
  # document 1: text, image of 2, image of 2; document 2: image of 2, text; padding
  span = np.array([[-1, 0, 0, 1, 1, 2, 2, -1, -1]])
  segment = np.array([[1, 1, 1, 1, 1, 2, 2, 2, 0]])
  start, end = masks.intervals(span, segment, "bidirectional")
  assert start.tolist() == [[0, 0, 0, 0, 0, 5, 5, 5, 8]]
  assert end.tolist() == [[0, 2, 2, 4, 4, 6, 6, 7, 8]]
  start, end = masks.intervals(span, segment, "causal")
  assert start.tolist() == [[0, 0, 0, 0, 0, 5, 5, 5, 8]]
  assert end.tolist() == [list(range(9))]


@pytest.mark.parametrize("image_mask", ["bidirectional", "causal"])
def test_hidden_images_are_seen_by_themselves_alone(image_mask):
  rng = np.random.default_rng(1)
  made = [random_row(rng) for _ in range(RANDOM_ROWS)]
  span, segment = (np.stack(x) for x in zip(*made, strict=True))
  chosen = rng.random((len(span), span.max() + 1)) < 0.5  # some of the images
  hide = np.take_along_axis(chosen, np.maximum(span, 0), axis=1) & (span >= 0)
  start, end = masks.intervals(span, segment, image_mask)
  index = np.broadcast_to(np.arange(RANDOM_T, dtype=np.int32), span.shape)
  hidden = masks.hidden_spans(span, hide)
  same = span[:, :, None] == span[:, None, :]
  want = defined(span, segment, image_mask) & (~hide[:, None, :] | same)
  got = np.asarray(masks.allowed(start, end, index, hidden))
  assert (got == want).all() and (want != defined(span, segment, image_mask)).any()
  assert (np.asarray(masks.shown(start, end, hidden)) == want.sum(-1)).all()
  assert masks.hidden_spans(span, None) is None
