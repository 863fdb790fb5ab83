"""Pictures of files become squares as where released encoders were trained."""

import io
import pathlib

import numpy as np
import pytest
from PIL import Image as Picture

from tests import small
from unijax.config import ConfigError
from unijax.data import sources
from unijax.data.document import DataError
from unijax.data.images import Limits, Prepare, decode

# Made by transformers 5.23's CLIPImageProcessorPil, SiglipImageProcessorPil,
# BitImageProcessorPil (shorter side 16 there) and JanusImageProcessorPil (its least side
# 1), of `picture`, to 14 pixels.
KEPT = pathlib.Path(__file__).parents[1] / "interop" / "expected_pictures.npz"
KINDS = {
  "clip": Prepare("resize", "bicubic"),
  "siglip": Prepare("squeeze", "bicubic"),
  "dinov2": Prepare("resize", "bicubic", 16),
  "janus": Prepare("pad", "bicubic"),
}


def picture(width: int, height: int) -> bytes:
  """A PNG file that no two ways to resize make the same of."""
  y, x = np.mgrid[:height, :width]
  channels = (x * 37 + y * 11) % 256, (x * x + 3 * y) % 256, (y * y * 5 + x) % 256
  file = io.BytesIO()
  Picture.fromarray(np.stack(channels, -1).astype(np.uint8)).save(file, "PNG")
  return file.getvalue()


@pytest.mark.parametrize("shape", [(41, 23), (19, 33)], ids=str)
@pytest.mark.parametrize("kind", KINDS)
def test_squares_are_those_of_the_library(kind, shape):
  with np.load(KEPT) as kept:
    want = kept[f"{kind}-{shape[0]}-{shape[1]}"]
  found = decode(picture(*shape), 14, Limits(), "x", KINDS[kind])
  np.testing.assert_array_equal(found, want)
  assert (decode(picture(*shape), 14, Limits(), "x") != want).any()


def test_sources_are_told_by_the_data_section(tmp_path):
  (tmp_path / "a.png").write_bytes(picture(41, 23))
  line = '{"image": "a.png", "caption": "waves"}\n'
  (tmp_path / "captions.jsonl").write_text(line)
  entry = {"kind": "folder", "weight": 1.0, "options": {"path": str(tmp_path)}}
  knobs = dict(data__image_size=14, data__fit="resize", data__resample="bicubic")

  def pixels(**options):
    mine = {**entry, "options": {**entry["options"], "held_out": 0.0, **options}}
    c = small.config(data__sources={"mine": mine}, **knobs)
    ((source, _),) = sources.make_sources(c)
    return source.pair(0, 0)[1].pixels()

  with np.load(KEPT) as kept:
    np.testing.assert_array_equal(pixels(), kept["clip-41-23"])
    np.testing.assert_array_equal(pixels(fit="squeeze"), kept["siglip-41-23"])


def test_mistakes_are_named():
  with pytest.raises(DataError, match="fit must be one of crop, resize, pad, squeeze"):
    Prepare("stretch")
  with pytest.raises(ConfigError, match="with data.fit='resize' only"):
    small.config(data__resize=8)
  with pytest.raises(ConfigError, match="data.resize: 2 pixels hold no square"):
    small.config(data__resize=2, data__fit="resize")
