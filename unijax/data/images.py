"""From the bytes of a picture file to uint8 pixels: upright, RGB, of a shape to read.

Whatever is wrong with a file becomes a DataError that names it; `reason` is a short
phrase to count by.
"""

import dataclasses
import io
import math

import numpy as np
from PIL import Image as Picture
from PIL import ImageOps

from unijax.config import Config
from unijax.data.document import DataError

# Formats that Pillow decodes by itself, in memory (EPS, say, would start Ghostscript).
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm")


class BadItem(DataError):
  """One item of a data set is unusable; `reason` is the phrase it is counted under."""

  def __init__(self, name: str, reason: str, detail: str, fix: str):
    super().__init__(name, reason, detail, fix)  # all of them, so that it pickles
    self.name, self.reason = name, reason

  def __str__(self):
    name, reason, detail, fix = self.args
    return f"{name}: {reason}: {detail}; {fix}"


@dataclasses.dataclass(frozen=True)
class Limits:
  """Which pictures are accepted, by their size before resizing, in pixels."""

  max_pixels: int = 50_000_000  # height * width; guards memory against crafted files
  min_side: int = 1  # of the shorter side; web data has many 1-pixel trackers

  def __post_init__(self):
    if self.max_pixels < 1 or self.min_side < 1:
      raise DataError(f"max_pixels and min_side must be positive, got {self}")


FILTERS = {
  "lanczos": Picture.Resampling.LANCZOS,
  "bicubic": Picture.Resampling.BICUBIC,
  "bilinear": Picture.Resampling.BILINEAR,
}
FITS = ("crop", "resize", "pad", "squeeze", "native")
LONGEST = 200  # times the shorter side, of a picture that keeps its shape
GREY = (127, 127, 127)  # beside a picture that is padded


@dataclasses.dataclass(frozen=True)
class Prepare:
  """How a picture of any shape becomes a square, or keeps its shape.

  Attributes:
    fit: crop (the middle, then resized), resize (the shorter side, then the middle is
      cut out, as most released encoders have it), pad (the longer side, then grey on
      both sides of it), squeeze (both sides, all of it) or native: see `native_size`.
    resample: of `FILTERS`.
    side: pixels of the shorter side with fit="resize"; 0 are those of the square.
    step, least, most: of `native_size`.
  """

  fit: str = "crop"
  resample: str = "lanczos"
  side: int = 0
  step: int = 0
  least: int = 0
  most: int = 0

  def __post_init__(self):
    if self.fit == "native" and not 0 < self.step**2 <= self.most >= self.least:
      raise DataError(
        "fit='native' keeps the shape of pictures: it needs step, the pixels a side of "
        "a position (vision.patch_size, twice that where 2 x 2 become one), and the "
        f"least and most pixels (data.native_pixels), got {self}"
      )
    if self.fit not in FITS or self.resample not in FILTERS or self.side < 0:
      raise DataError(
        f"fit must be one of {', '.join(FITS)}, resample one of {', '.join(FILTERS)} "
        f"and the shorter side not negative, got {self}"
      )


CROP = Prepare()


def prepare_of(config: Config) -> Prepare:
  """How the pictures of a run are made ready."""
  data = config.data
  if not config.native:
    return Prepare(data.fit, data.resample, data.resize)
  return Prepare(data.fit, data.resample, 0, config.unit_pixels, *data.native_pixels)


def decode(
  content: bytes, size: int, limits: Limits, name: str, prepare: Prepare = CROP
) -> np.ndarray:
  """Returns a picture as a square, uint8 [size, size, 3], or in its shape.

  EXIF rotation is applied, transparency is laid on white, 16-bit grey is scaled to 8
  bits, and of an animation the first frame is taken.

  Raises:
    BadItem: no picture, a truncated one, or one outside the limits.
  """
  picture = _opened(content, name)
  width, height = picture.size
  if width * height > limits.max_pixels:
    raise _too_large(
      name, f"{width}x{height} pixels are more than max_pixels={limits.max_pixels}"
    )
  if min(width, height) < limits.min_side:
    detail = f"{width}x{height} pixels, but min_side={limits.min_side}"
    raise BadItem(name, "too small a picture", detail, _FIX)
  try:
    # JPEG can decode at 1/2, 1/4 or 1/8 of its size, several times as fast.
    if prepare.fit == "crop":  # others are to be as where an encoder was trained
      picture.draft(None, (2 * size, 2 * size))
    picture.load()
    picture = to_rgb(ImageOps.exif_transpose(picture))
  except Exception as error:
    detail = f"{type(error).__name__}: {error}"
    raise BadItem(name, "broken picture", detail, _FIX) from error
  return square(picture, size, prepare)


def _opened(content: bytes, name: str) -> Picture.Image:
  """The picture with its header read, and no more; raises BadItem."""
  try:
    return Picture.open(io.BytesIO(content), formats=FORMATS)
  except Picture.DecompressionBombError as error:
    raise _too_large(name, str(error)) from error
  except Exception as error:  # Pillow's plugins raise many kinds for broken headers
    detail = "an empty file" if not content else f"no {', '.join(FORMATS)} picture"
    raise BadItem(name, "unreadable picture", detail, _FIX) from error


ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # an EXIF tag; its values for a quarter turn


def native_size_of(content: bytes, name: str, prepare: Prepare) -> tuple[int, int]:
  """`native_size` of what a file holds, upright, from its header.

  Raises:
    BadItem: no picture, or one of no shape that can be read.
  """
  picture = _opened(content, name)
  width, height = picture.size
  if picture.getexif().get(ORIENTATION) in TURNED:
    width, height = height, width
  try:
    return native_size(height, width, prepare)
  except DataError as error:
    raise BadItem(name, "too long a picture", str(error), _FIX) from error


def to_rgb(picture: Picture.Image) -> Picture.Image:
  """Returns the picture in mode RGB: grey, palette, CMYK and alpha are converted.

  Raises ValueError for floating-point pixels.
  """
  if picture.mode == "F":
    raise ValueError("pixels are floating point, which has no agreed white")
  if picture.mode.startswith("I"):  # 16-bit grey; bare "I" may also hold 8 bits
    values = np.asarray(picture, np.float64)
    narrow = picture.mode == "I" and values.max(initial=0) <= 255
    top = 255.0 if narrow else 65535.0
    grey = np.rint(values.clip(0, top) * (255.0 / top)).astype(np.uint8)
    picture = Picture.fromarray(grey)
  if picture.has_transparency_data:
    picture = picture.convert("RGBA")
    white = Picture.new("RGBA", picture.size, "white")
    picture = Picture.alpha_composite(white, picture)
  return picture.convert("RGB")


def square(picture: Picture.Image, size: int, prepare: Prepare = CROP) -> np.ndarray:
  """Returns a picture, resized with antialiasing, as uint8 [size, size, 3].

  With fit="native" it is of `native_size` in place of a square.

  Raises:
    DataError: one side is `LONGEST` times the other, or more.
  """
  resample = FILTERS[prepare.resample]
  if prepare.fit == "crop":
    # Cropped first: resizing with a box would mix in pixels from outside of it.
    picture = _middle(picture, min(picture.size))
  elif prepare.fit == "resize":
    short = prepare.side or size
    sides = [int(short * side / min(picture.size)) for side in picture.size]
    return np.asarray(_middle(picture.resize(sides, resample), size))
  elif prepare.fit == "pad":
    longer = max(picture.size)
    sides = [max(round(side * size / longer), 1) for side in picture.size]
    canvas = Picture.new("RGB", (size, size), GREY)
    corner = tuple((size - side) // 2 for side in sides)
    canvas.paste(picture.resize(sides, resample), corner)
    return np.asarray(canvas)
  elif prepare.fit == "native":
    height, width = native_size(*picture.size[::-1], prepare)
    return np.asarray(picture.resize((width, height), resample))
  return np.asarray(picture.resize((size, size), resample))


def native_size(height: int, width: int, prepare: Prepare) -> tuple[int, int]:
  """Height and width of a picture that keeps its shape, nearly.

  Both become multiples of `prepare.step`, the nearest ones where these are of at least
  `least` and at most `most` pixels; else both sides are first made longer or shorter by
  one factor, to just these pixels, and then rounded up or down (Wang et al. 2024).

  Raises:
    DataError: one side is more than `LONGEST` times the other.
  """
  step = prepare.step
  if max(height, width) > LONGEST * min(height, width):
    raise DataError(
      f"a picture of {height}x{width} pixels: one side is more than {LONGEST} times "
      "the other, which no encoder of pictures in their shape was trained on: crop it"
    )
  sides = [round(x / step) * step for x in (height, width)]
  pixels = sides[0] * sides[1]
  if pixels > prepare.most:
    shrink = math.sqrt(height * width / prepare.most)
    sides = [max(step, int(x / shrink / step) * step) for x in (height, width)]
  elif pixels < max(prepare.least, 1):
    grow = math.sqrt(max(prepare.least, 1) / (height * width))
    sides = [math.ceil(x * grow / step) * step for x in (height, width)]
  return sides[0], sides[1]


def _middle(picture: Picture.Image, side: int) -> Picture.Image:
  left, top = ((length - side) // 2 for length in picture.size)
  return picture.crop((left, top, left + side, top + side))


def encode_png(pixels: np.ndarray) -> bytes:
  """Returns uint8 [height, width, 3] as the bytes of a PNG file, without loss."""
  buffer = io.BytesIO()
  Picture.fromarray(pixels).save(buffer, "PNG")
  return buffer.getvalue()


def decode_png(content: bytes, name: str) -> np.ndarray:
  """Returns uint8 [height, width, 3], undoing `encode_png`; raises BadItem."""
  try:
    with Picture.open(io.BytesIO(content), formats=("PNG",)) as picture:
      return np.asarray(picture.convert("RGB"))
  except Exception as error:
    detail = f"{type(error).__name__}: {error}"
    raise BadItem(name, "broken picture", detail, "prepare the data again") from error


_FIX = "remove the item, or leave such items out with on_error='skip'"


def _too_large(name: str, detail: str) -> BadItem:
  fix = "shrink it, raise max_pixels, or leave such items out with on_error='skip'"
  return BadItem(name, "too large a picture", detail, fix)
