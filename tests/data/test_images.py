"""Laws of decoding: RGB, upright, square, antialiased; bad files are named."""

import io
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image as Picture

from unijax.data import images
from unijax.data.images import BadItem, Limits, decode, decode_png, encode_png


def encoded(picture, kind="PNG", **options):
  buffer = io.BytesIO()
  picture.save(buffer, kind, **options)
  return buffer.getvalue()


def halves(width=64, height=64, mode="RGB"):
  """Left half red, right half blue."""
  picture = Picture.new("RGB", (width, height), (255, 0, 0))
  picture.paste((0, 0, 255), (width // 2, 0, width, height))
  return picture.convert(mode)


def png_of_size(width, height):
  """A PNG header that promises a size, and nothing behind it."""
  header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
  chunk = b"IHDR" + header
  return (
    b"\x89PNG\r\n\x1a\n"
    + struct.pack(">I", len(header))
    + chunk
    + struct.pack(">I", zlib.crc32(chunk))
    + struct.pack(">I", 0)
    + b"IDAT"
    + struct.pack(">I", zlib.crc32(b"IDAT"))
  )


@pytest.mark.parametrize(
  "kind, mode",
  [
    ("PNG", "RGB"),
    ("PNG", "P"),
    ("PNG", "RGBA"),
    ("JPEG", "RGB"),
    ("JPEG", "CMYK"),
    ("WEBP", "RGB"),
    ("GIF", "P"),
    ("BMP", "RGB"),
    ("TIFF", "CMYK"),
  ],
)
def test_all_kinds_become_the_same_rgb(kind, mode):
  pixels = decode(encoded(halves(mode=mode), kind), 32, Limits(), "x")
  assert pixels.shape == (32, 32, 3) and pixels.dtype == np.uint8
  assert np.abs(pixels[8, 4].astype(int) - (255, 0, 0)).max() < 60
  assert np.abs(pixels[8, 28].astype(int) - (0, 0, 255)).max() < 60


@pytest.mark.parametrize("mode", ["1", "L", "LA"])
def test_grey_becomes_equal_channels(mode):
  pixels = decode(encoded(halves().convert("L").convert(mode)), 16, Limits(), "x")
  assert (pixels[..., 0] == pixels[..., 1]).all()
  assert (pixels[..., 0] == pixels[..., 2]).all()


def test_sixteen_bits_of_grey_are_scaled_and_not_cut():
  grey = Picture.fromarray(np.full((8, 8), 32896, np.uint16))
  assert (decode(encoded(grey), 8, Limits(), "x") == 128).all()
  dark = Picture.fromarray(np.full((8, 8), 200, np.uint16))
  assert (decode(encoded(dark), 8, Limits(), "x") == 1).all()


def test_transparency_is_laid_on_white():
  clear = Picture.new("RGBA", (8, 8), (255, 0, 0, 0))
  assert (decode(encoded(clear), 8, Limits(), "x") == 255).all()
  half = Picture.new("RGBA", (8, 8), (0, 0, 0, 128))
  assert np.abs(decode(encoded(half), 8, Limits(), "x").astype(int) - 127).max() <= 1
  palette = halves(mode="P")
  red = palette.getpixel((0, 0))
  pixels = decode(encoded(palette, transparency=red), 32, Limits(), "x")
  assert (pixels[8, 4] == 255).all() and pixels[8, 28, 2] > 200


def test_exif_rotation_is_applied():
  picture = halves()
  exif = picture.getexif()
  exif[0x0112] = 6  # turn by 90 degrees clockwise: left becomes top
  pixels = decode(encoded(picture, "JPEG", exif=exif), 32, Limits(), "x")
  assert pixels[4, 16, 0] > 200 and pixels[28, 16, 2] > 200


def test_the_centre_square_is_taken():
  wide = Picture.new("RGB", (300, 100), (0, 255, 0))
  wide.paste((255, 0, 0), (100, 0, 200, 100))
  pixels = decode(encoded(wide), 20, Limits(), "x")
  assert np.abs(pixels.astype(int) - (255, 0, 0)).max() <= 1


def test_resizing_is_antialiased():
  stripes = np.zeros((256, 256, 3), np.uint8)
  stripes[:, ::2] = 255
  pixels = decode(encode_png(stripes), 32, Limits(), "x").astype(int)
  assert np.abs(pixels[4:-4, 4:-4] - 128).max() < 8


@pytest.mark.parametrize("side", [256, 1024])
def test_large_jpegs_are_decoded_smaller_and_look_the_same(side):
  y, x = np.mgrid[:side, :side] // (side // 16)
  board = np.where((x + y)[..., None] % 2, (230, 60, 30), (20, 90, 200))
  picture = Picture.fromarray(board.astype(np.uint8))
  content = encoded(picture, "JPEG", quality=98, subsampling=0)
  a = decode(content, 64, Limits(), "x").astype(int)
  b = decode(encoded(picture), 64, Limits(), "x").astype(int)
  assert np.abs(a - b).mean() < 4


def test_png_round_trip_is_exact():
  pixels = np.random.default_rng(0).integers(0, 256, (9, 7, 3), np.uint8)
  assert (decode_png(encode_png(pixels), "x") == pixels).all()


def test_animations_give_their_first_frame():
  frames = [Picture.new("RGB", (8, 8), c) for c in ("red", "blue")]
  content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
  assert decode(content, 8, Limits(), "x")[0, 0].tolist() == [255, 0, 0]


GOOD = encoded(Picture.effect_noise((64, 64), 90).convert("RGB"))
JPEG = encoded(Picture.effect_noise((64, 64), 90).convert("RGB"), "JPEG")


@pytest.mark.parametrize(
  "content, reason",
  [
    (b"", "unreadable picture"),
    (b"not a picture", "unreadable picture"),
    (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "unreadable picture"),
    (GOOD[:20], "unreadable picture"),
    (GOOD[: len(GOOD) // 2], "broken picture"),
    (JPEG[: len(JPEG) // 2], "broken picture"),
    (GOOD[:2000] + b"\0" * 200 + GOOD[2200:], "broken picture"),
    (png_of_size(8000, 8000), "too large a picture"),
    (png_of_size(60000, 60000), "too large a picture"),
    (
      encoded(Picture.fromarray(np.zeros((8, 8), np.float32)), "TIFF"),
      "broken picture",
    ),
  ],
)
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bad_pictures_are_named_with_a_reason_and_a_fix(content, reason):
  with pytest.raises(BadItem) as error:
    decode(content, 32, Limits(), "folder: a.png")
  assert error.value.reason == reason
  assert str(error.value).startswith(f"folder: a.png: {reason}: ")
  assert "on_error='skip'" in str(error.value)


def test_limits_are_those_of_the_picture_before_resizing():
  content = encoded(Picture.new("RGB", (50, 40)))
  assert decode(content, 8, Limits(max_pixels=2000, min_side=40), "x").shape[0] == 8
  with pytest.raises(BadItem, match="50x40 pixels are more than max_pixels=1999"):
    decode(content, 8, Limits(max_pixels=1999), "x")
  with pytest.raises(BadItem, match="50x40 pixels, but min_side=41"):
    decode(content, 8, Limits(min_side=41), "x")


def test_the_error_survives_pickling():
  error = BadItem("a", "b", "c", "d")
  copy = pickle.loads(pickle.dumps(error))
  assert str(copy) == str(error) and copy.reason == "b"


def test_only_decoders_inside_pillow_are_used():
  assert "EPS" not in images.FORMATS
