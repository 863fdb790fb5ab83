"""Laws of the row picture: what is drawn and printed is what the arrays hold."""

import numpy as np
import pytest

from unijax.data import picture
from unijax.data.picture import draw_rows
from unijax.data.row_text import text_rows
from unijax.data.tokenizer import ByteTokenizer, vocabulary
from unijax.types import Batch

TOKENIZER = ByteTokenizer()
VOCABULARY = vocabulary(TOKENIZER)
S = VOCABULARY.special


def batch(patch_size=2, channels=3, length=24):
  """One row: <bos>hi<boi>4 patches<eoi><eos><bos>ok<eos>, then padding."""
  images = [[-1] * 4, [0, 1, 2, 3]]
  tokens = [S.bos, *b"hi", S.boi, 0, 0, 0, 0, S.eoi, S.eos, S.bos, *b"ok", S.eos]
  span = [*images[0], 0, 0, 0, 0]
  patch = [*images[0], *images[1]]
  segment = [1] * 10 + [2] * 4
  text = [0, 0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 1, 0.5, 1]
  image = [0] * 4 + [1] * 4
  patches = np.zeros((1, length, patch_size**2 * channels), np.float32)
  patches[0, 4:8] = np.linspace(-1, 1, 4)[:, None]

  def row(values, none, dtype):
    return np.array([[*values, *[none] * (length - len(values))]], dtype)

  return Batch(
    tokens_BT=row(tokens, S.pad, np.int32),
    patches_BTC=patches,
    span_BT=row(span, -1, np.int32),
    patch_BT=row(patch, -1, np.int32),
    segment_BT=row(segment, 0, np.int32),
    position_BTA=np.zeros((1, length, 3), np.int32),
    text_weight_BT=row(text, 0, np.float32),
    image_weight_BT=row(image, 0, np.float32),
    noise_limit_BT=np.zeros((1, length), np.float32),
    image_key_BT=np.zeros((1, length), np.uint32),
  )


def drawn(b, **options):
  image = draw_rows(b, VOCABULARY, TOKENIZER, options.pop("patch_size", 2), **options)
  return np.asarray(image).astype(int)


def strip(pixels, t, number):
  """The middle of a position's cell in the tokens (0) or strip 1 to 4, from below."""
  x = picture._GUTTER + t * picture._TILE + picture._TILE // 2
  top = 26 + picture._RULER
  if number == 0:
    return pixels[top + picture._TILE // 2, x]
  at = top + picture._TILE + (number - 1) * picture._STRIP + picture._STRIP - 4
  return pixels[at, x]


def rgb(colour):
  return [int(colour[i : i + 2], 16) for i in (1, 3, 5)]


def test_patches_are_drawn_in_their_own_colours():
  pixels = drawn(batch())
  for t, value in zip(range(4, 8), (0, 85, 170, 255), strict=True):
    assert strip(pixels, t, 0).tolist() == [value] * 3


def test_strips_show_images_documents_and_weights():
  pixels = drawn(batch())
  empty = rgb(picture._EMPTY)
  for t in range(14):
    in_image, second = 4 <= t < 8, t >= 10
    image_colour = rgb(picture._COLOURS[0]) if in_image else empty
    assert strip(pixels, t, 1).tolist() == image_colour, t
    assert strip(pixels, t, 2).tolist() == rgb(picture._COLOURS[1 + second]), t
    trained = batch().text_weight_BT[0, t] > 0
    assert strip(pixels, t, 3).tolist() == (
      rgb(picture._TEXT_WEIGHT) if trained else empty
    ), t
    assert strip(pixels, t, 4).tolist() == (
      rgb(picture._IMAGE_WEIGHT) if in_image else empty
    ), t


def test_a_smaller_weight_is_a_lower_bar():
  pixels = drawn(batch())
  x = picture._GUTTER + 4
  top = 26 + picture._RULER + picture._TILE + 2 * picture._STRIP
  column = pixels[top : top + picture._STRIP]
  green = rgb(picture._TEXT_WEIGHT)
  high = [
    (column[:, x + t * picture._TILE] == green).all(axis=1).sum() for t in (11, 12)
  ]
  assert high[0] == picture._STRIP - 1 and high[0] // 2 <= high[1] <= high[0] // 2 + 1


def test_special_tokens_have_their_colour():
  b = batch()
  pixels = drawn(b)
  corner = 26 + picture._RULER + 1
  for t in (0, 3, 8, 9):
    name = VOCABULARY.names[int(b.tokens_BT[0, t])]
    at = pixels[corner, picture._GUTTER + t * picture._TILE + 1]
    assert at.tolist() == rgb(picture._SPECIAL[name])


def test_padding_at_the_end_is_not_drawn_and_long_rows_wrap():
  short, long = drawn(batch(length=24)), drawn(batch(length=500))
  assert short.shape == long.shape
  wrapped = drawn(batch(), columns=8)
  assert wrapped.shape[0] > short.shape[0] and wrapped.shape[1] < short.shape[1]


def test_an_empty_row_can_be_drawn():
  b = batch()
  b = b.replace(segment_BT=np.zeros_like(b.segment_BT))
  assert drawn(b).shape[0] > 50
  assert "0 of 24 positions" in text_rows(b, VOCABULARY, TOKENIZER)


@pytest.mark.parametrize("channels", [1, 2, 4, 16])
def test_latents_are_stretched_to_their_range(channels):
  pixels = drawn(batch(channels=channels))
  values = [strip(pixels, t, 0).tolist() for t in range(4, 8)]
  assert values[0] == [0] * 3 and values[-1] == [255] * 3


def test_a_wrong_patch_size_is_refused():
  with pytest.raises(ValueError, match="patches of 12 channels cannot be 5x5"):
    drawn(batch(), patch_size=5)


def test_text_shows_documents_images_and_what_is_trained():
  lines = text_rows(batch(), VOCABULARY, TOKENIZER).splitlines()
  assert lines[1].startswith("row 0: 14 of 24 positions filled, 2 documents, 1 images")
  assert lines[1].endswith("trained on 5 tokens and 4 patches")
  assert lines[2] == "  1: <bos>hi⟦<boi>(image 0: 4 patches)⟧<eoi>⟦<eos>⟧"
  assert lines[3] == "  2: <bos>⟦ok<eos>⟧"


def test_broken_bytes_and_ids_beyond_the_vocabulary_are_shown():
  b = batch()
  b.tokens_BT[0, 1] = 0xC3
  b.tokens_BT[0, 2] = VOCABULARY.size + 5
  assert drawn(b).shape == drawn(batch()).shape
  assert f"\ufffd<unused {VOCABULARY.size + 5}>" in text_rows(b, VOCABULARY, TOKENIZER)
  assert picture._character(TOKENIZER, 0xC3) == "C3"
  assert picture._character(TOKENIZER, ord(" ")) == "_"
