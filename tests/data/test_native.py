"""Pictures that keep their shape, from files to rows."""

import dataclasses

import numpy as np
import pytest
from PIL import Image as Picture

from tests import small
from tests.laws import variants
from unijax.config import ConfigError, SourceConfig
from unijax.data import images
from unijax.data.document import DataError, Document, Image, Text
from unijax.data.rows import stack
from unijax.data.sources import make_sources

RELEASED = images.Prepare("native", "bicubic", 0, 28, 56 * 56, 28 * 28 * 1280)


@pytest.mark.parametrize(
  ("shape", "wanted"),
  [
    ((280, 420), (280, 420)),
    ((281, 405), (280, 392)),  # 405 / 28 is 14.46
    ((42, 70), (56, 56)),  # halves to the even side: 1.5 to 2, 2.5 to 2
    ((1, 1), (56, 56)),
    ((10, 200), (28, 252)),  # too small: both sides as much longer, rounded up
    ((3000, 4000), (840, 1148)),  # too large: likewise shorter, rounded down
    ((20, 3990), (28, 3976)),
  ],
)
def test_sizes_are_those_of_the_paper(shape, wanted):
  assert images.native_size(*shape, RELEASED) == wanted


def test_what_is_no_picture_for_an_encoder_is_refused():
  with pytest.raises(DataError, match="more than 200 times"):
    images.native_size(10, 2001, RELEASED)
  with pytest.raises(DataError, match="it needs step"):
    images.Prepare("native")


def shaped(seed: int, height: int, width: int) -> Image:
  pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
  return Image(lambda: pixels, height, width, True, f"noise {seed}")


def test_rows_hold_pictures_of_unequal_grids():
  c = variants.config("none-shared")
  b = small.builder(c)
  one, two, three = shaped(1, 8, 12), shaped(2, 4, 4), shaped(3, 4, 20)
  first = Document((Text("ab"), one, Text("c"), two, Text("d")), 1)
  laid = [b.layout(first), b.layout(Document((three,), 2))]
  assert b.measure(first) == (len(laid[0]), 2)
  place = [p for p, f in zip(laid[0].position, laid[0].feature, strict=True) if f >= 0]
  wide = [(3, 3 + r, 3 + c) for r in range(2) for c in range(3)]
  assert place == [*wide, (7, 7, 7)]
  text = [p[0] for p, f in zip(laid[0].position, laid[0].feature, strict=True) if f < 0]
  assert text == [0, 1, 2, 6, 8, 9]  # after the longer side of each picture
  row = b.row(laid)
  F, side = c.features, c.vision.patch_size
  assert row.grid_BI2[:3].tolist() == [[4, 6], [2, 2], [2, 10]]
  assert not row.grid_BI2[3:].any() and not row.pixels_BIHWC[3:].any()
  seen = row.feature_BT[row.feature_BT >= 0].tolist()
  assert seen == [*range(6), F, *range(2 * F, 2 * F + 5)]
  for slot, image in enumerate((one, two, three)):
    rows, columns = row.grid_BI2[slot]
    blocks = row.pixels_BIHWC[slot, : rows * columns]
    x = blocks.reshape(rows // 2, columns // 2, 2, 2, side, side, 3)
    x = x.transpose(0, 2, 4, 1, 3, 5, 6).reshape(image.height, image.width, 3)
    np.testing.assert_array_equal(x, image.pixels())
  chunk = b.chunk(b.layout(Document((two,), 3)), 16, features=2)
  assert chunk.pixels_BIHWC.shape == (1, 8, side**2, 3)
  assert stack([chunk, chunk]).grid_BI2.shape == (2, 1, 2)


@pytest.mark.parametrize("shape", [(8, 10), (6, 8), (16, 12), (0, 4)])
def test_pictures_of_other_sizes_are_named(shape):
  b = small.builder(variants.config("none-shared"))
  with pytest.raises(DataError, match=r"noise 1.*multiples of 4 px.*at most 128"):
    b.layout(Document((shaped(1, *shape),), 1))


def test_files_are_read_in_their_shape():
  c = variants.config("none-shared")
  prepare = images.prepare_of(c)
  content = images.encode_png(shaped(1, 30, 17).pixels())
  pixels = images.decode(content, 8, images.Limits(), "a file", prepare)
  assert pixels.shape == (12, 8, 3)  # 30 x 17 are 128 pixels at half of 15 x 8.5
  again = Picture.fromarray(shaped(1, 30, 17).pixels())
  again = again.resize((8, 12), Picture.Resampling.LANCZOS)
  np.testing.assert_array_equal(pixels, again)


def test_a_folder_of_pictures_keeps_their_shapes(tmp_path):
  """Known from headers, upright; what is read, and laid out, is of these shapes."""
  shapes, lines = ((30, 17), (8, 40), (3, 3)), []
  for i, shape in enumerate(shapes):
    turned = Picture.Exif()
    turned[0x0112] = 6 if i == 1 else 1  # a quarter turn
    picture = Picture.fromarray(shaped(i, *shape).pixels())
    picture.save(tmp_path / f"{i}.png", exif=turned)
    lines.append(f'{{"image": "{i}.png", "caption": "{i}"}}')
  (tmp_path / "captions.jsonl").write_text("\n".join(lines))
  options = {"path": str(tmp_path), "split": "all", "tasks": {"describe": 1.0}}
  c = variants.config("none-shared")
  files = SourceConfig("files", "folder", 1.0, options)
  c = dataclasses.replace(c, data=dataclasses.replace(c.data, sources=(files,)))
  ((source, _),) = make_sources(c)
  found = {}
  for number in range(len(source)):
    document = source[number]
    image = next(p for p in document.parts if isinstance(p, Image))
    assert image.pixels().shape == (image.height, image.width, 3)
    text = next(p.text for p in document.parts if isinstance(p, Text))
    found[text] = image.height, image.width
    layout = small.builder(c).layout(document)
    assert (np.array(layout.feature) >= 0).sum() == image.height * image.width // 16
  assert found == {"0": (12, 8), "1": (24, 4), "2": (4, 4)}


@pytest.mark.parametrize(
  ("knobs", "message"),
  [
    (dict(model__connector="resampler"), "padded to one number of patches"),
    (dict(vision__positions="learned"), "no grid of one size"),
    (dict(vision__rope_grid=4), "no grid of one size"),
    (dict(data__native_pixels=(16, 15)), "must rise"),
    (dict(data__native_pixels=(0, 15)), "must hold a position of 4 x 4"),
    (dict(model__rope_sections=(2, 3, 2)), "8 together"),
    (dict(model__positions="sequential"), "gives no rows and columns"),
    (dict(vision__whole_blocks=(2,)), "the number of a block"),
    (dict(vision__pool="class"), "vision.window: 2 patches"),
    (dict(vision__window=0), "read with vision.window only"),
    (dict(train__task="alignment"), "reads squares"),
  ],
)
def test_what_does_not_go_together_is_named(knobs, message):
  with pytest.raises(ConfigError, match=message):
    variants.config("none-shared", **knobs)


def test_patches_that_are_written_have_places():
  with pytest.raises(ConfigError, match="'native' pictures have no places"):
    small.config(data__fit="native")
