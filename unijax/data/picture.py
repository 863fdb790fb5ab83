"""Rows as a picture and as text: what the model reads, and what it is trained on.

Works on the numpy arrays of a batch alone, so that what is shown is what a training
step gets, and not what the data pipeline meant.
"""

import dataclasses

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from unijax.data import row_text
from unijax.data.tokenizer import Tokenizer, Vocabulary

_GUTTER = 62  # pixels on the left, for the names of the strips
_TILE = 22  # height of a token or patch
_STRIP = 13  # height of a strip
_RULER = 12
_GAP = 14  # between lines
_INK, _FAINT, _PAPER, _EMPTY = "#1c1c1c", "#8a8a8a", "#ffffff", "#f1f1ee"
_COLOURS = ("#4e79a7", "#f28e2b", "#59a14f", "#b07aa1", "#9c755f", "#e15759", "#76b7b2",
            "#d4a92a")  # fmt: skip
_SPECIAL = {
  "pad": "#d9d9d9", "bos": "#3d3d3d", "eos": "#3d3d3d", "boi": "#0b7a75",
  "eoi": "#0b7a75", "time": "#7a5195", "user": "#c8553d", "assistant": "#2f6690",
  "feature": "#8d6e3f",
}  # fmt: skip
_LABEL = {"assistant": "asst", "feature": "eye"}
_TEXT_WEIGHT, _IMAGE_WEIGHT = "#2b8a3e", "#d9480f"


@dataclasses.dataclass(frozen=True)
class _Style:
  """What every cell of one picture shares."""

  vocabulary: Vocabulary
  tokenizer: Tokenizer
  patch_size: int
  cell: int  # width of a position in pixels
  columns: int  # positions of a line
  pictures: dict  # (row, image) -> uint8 [h, w, 3], where images are codes

  def line_height(self) -> int:
    return _RULER + _TILE + 4 * _STRIP + _GAP


def draw_rows(
  batch,
  vocabulary: Vocabulary,
  tokenizer: Tokenizer,
  patch_size: int,
  columns: int = 64,
  codec=None,
) -> Picture.Image:
  """Draws every row of a batch, `columns` positions a line, padding at the end cut.

  A line has from top to bottom: positions; tokens as characters or coloured names, and
  patches as pictures; the image a position belongs to; its document; the weight of the
  text loss; the weight of the image loss. A full bar is the largest weight of the row.

  Args:
    batch: numpy arrays tokens_BT, patches_BTC, span_BT, patch_BT, segment_BT,
      text_weight_BT and image_weight_BT.
    vocabulary, tokenizer: of the tokens.
    patch_size: side of a patch. Patches of three channels are RGB in [-1, 1]; of
      others the first three channels are stretched to the range of the row.
    columns: positions of a line.
    codec: what shows codes as pixels, where images are codes.

  Raises:
    ValueError: the channels of a patch are no multiple of patch_size squared.
  """
  channels = batch.patches_BTC.shape[-1]
  if channels % patch_size**2:
    raise ValueError(
      f"patches of {channels} channels cannot be {patch_size}x{patch_size}: give the "
      "patch size the batch was made with"
    )
  style = _Style(
    vocabulary, tokenizer, patch_size, _cell(batch, tokenizer), columns,
    _pictures(batch, vocabulary, codec) if vocabulary.codes and codec.draws else {},
  )  # fmt: skip
  lengths = [row_text.length(segment_T) for segment_T in batch.segment_BT]
  lines = [max(1, -(-length // columns)) for length in lengths]
  height = sum(24 + n * style.line_height() for n in lines) + 34
  width = _GUTTER + columns * style.cell + 12
  canvas = Picture.new("RGB", (width, height), _PAPER)
  draw = ImageDraw.Draw(canvas)
  y = 6
  for row, length in enumerate(lengths):
    draw.text((6, y), row_text.headline(batch, row, length), font=_font(13), fill=_INK)
    y += 20
    for start in range(0, max(length, 1), columns):
      _draw_line(
        canvas, draw, batch, row, start, min(start + columns, length), y, style
      )
      y += style.line_height()
    y += 4
  _draw_legend(draw, y + 6)
  return canvas


def _cell(batch, tokenizer: Tokenizer) -> int:
  """Returns a width that fits nine in ten of the tokens' texts."""
  text = batch.tokens_BT[
    (batch.patch_BT < 0) & (batch.tokens_BT < tokenizer.vocab_size)
  ]
  widths = [_font(11).getlength(tokenizer.decode([t])) for t in text.ravel()[:2000]]
  fits = np.percentile(widths, 90) if widths else 0
  return int(np.clip(fits + 6, _TILE, 64))


def _draw_line(canvas, draw, batch, row, start, stop, y, style: _Style) -> None:
  """Draws positions [start, stop) of a row with their strips, from y down."""
  names = ("", "tokens", "image", "document", "text loss", "image loss")
  tops = np.cumsum([y, _RULER, _TILE, _STRIP, _STRIP, _STRIP])
  for name, top, high in zip(names, tops, (0, _TILE, *[_STRIP] * 4), strict=True):
    draw.text((6, top + high // 2), name, font=_font(10), fill=_FAINT, anchor="lm")
  most_text = max(float(batch.text_weight_BT[row].max()), 1e-9)
  most_image = max(float(batch.image_weight_BT[row].max()), 1e-9)
  for t in range(start, stop):
    x = _GUTTER + (t - start) * style.cell
    if t % 8 == 0:
      draw.text((x + 1, tops[0]), str(t), font=_font(9), fill=_FAINT)
    _draw_position(canvas, draw, batch, row, t, (x, tops[1]), style)
    _draw_number(draw, batch.span_BT[row], t, start, -1, (x, tops[2]), style.cell)
    _draw_number(draw, batch.segment_BT[row], t, start, 0, (x, tops[3]), style.cell)
    shares = (
      (float(batch.text_weight_BT[row, t]) / most_text, tops[4], _TEXT_WEIGHT),
      (float(batch.image_weight_BT[row, t]) / most_image, tops[5], _IMAGE_WEIGHT),
    )
    for share, top, colour in shares:
      bottom = top + _STRIP - 2
      draw.rectangle((x, top, x + style.cell - 2, bottom), fill=_EMPTY)
      if share > 0:
        full = bottom - round(share * (_STRIP - 2))
        draw.rectangle((x, full, x + style.cell - 2, bottom), fill=colour)


def _draw_position(canvas, draw, batch, row, t, corner, style: _Style) -> None:
  """Draws one position: a patch, a special token, or the characters of a token."""
  x, y = int(corner[0]), int(corner[1])
  box = (x, y, x + style.cell - 2, y + _TILE - 2)
  middle = (x + (style.cell - 1) / 2, y + _TILE / 2 - 1)
  drawn = style.pictures or batch.patches_BTC.shape[-1]
  if batch.patch_BT[row, t] >= 0 and drawn:
    tile = _tile(batch, row, t, style)
    side = (style.cell - 1, _TILE - 1)
    canvas.paste(tile.resize(side, Picture.Resampling.NEAREST), (x, y))
    draw.rectangle(box, outline="#cfcfca")  # white patches would not be seen
    return
  token = int(batch.tokens_BT[row, t])
  name = style.vocabulary.names.get(token)
  name = "feature" if row_text.is_feature(batch, row, t) else name
  if name:
    draw.rectangle(box, fill=_SPECIAL[name])
    label, size, colour = _LABEL.get(name, name), 9, "white"
  elif style.vocabulary.is_text(token):
    draw.rectangle(box, fill=_EMPTY)
    label, size, colour = _character(style.tokenizer, token), 12, _INK
  elif token in style.vocabulary.code_ids:  # of a codec that draws none
    draw.rectangle(box, fill=_EMPTY)
    label, size, colour = str(style.vocabulary.code_ids.codes(token)), 9, _INK
  else:  # rounding of the vocabulary: no data should have it
    draw.rectangle(box, fill="#e03131")
    label, size, colour = str(token), 9, "white"
  while size > 7 and _font(size).getlength(label) > style.cell - 3:
    size -= 1
  draw.text(middle, label, font=_font(size), fill=colour, anchor="mm")


def _character(tokenizer: Tokenizer, token: int) -> str:
  """Returns what to write for a text token; blanks and broken bytes can be seen."""
  text = tokenizer.decode([token])
  if not text or "\ufffd" in text:
    return f"{token:02X}"
  return text.replace(" ", "_").replace("\n", "\\n").replace("\t", "\\t")


def _pictures(batch, vocabulary: Vocabulary, codec) -> dict:
  """Decodes every image of codes: (row, number of the image) -> pixels."""
  pictures = {}
  for row, number in sorted({*zip(*np.nonzero(batch.patch_BT == 0), strict=True)}):
    same = batch.span_BT[row] == batch.span_BT[row, number]
    here = same & (batch.patch_BT[row] >= 0)
    codes = vocabulary.code_ids.codes(batch.tokens_BT[row][here])
    side = round(len(codes) ** 0.5)
    key = int(row), int(batch.span_BT[row, number])
    pictures[key] = codec.from_codes(codes.reshape(side, side))
  return pictures


def _tile(batch, row: int, t: int, style: _Style) -> Picture.Image:
  """Returns one patch, or what a code stands for, as a small picture."""
  patch_size = style.patch_size
  if style.pictures:
    pixels = style.pictures[row, int(batch.span_BT[row, t])]
    same = batch.span_BT[row] == batch.span_BT[row, t]
    side = round((same & (batch.patch_BT[row] >= 0)).sum() ** 0.5)
    step, place = len(pixels) // side, divmod(int(batch.patch_BT[row, t]), side)
    y, x = (step * n for n in place)
    return Picture.fromarray(pixels[y : y + step, x : x + step])
  patch = np.asarray(batch.patches_BTC[row, t], np.float32)
  patch = patch.reshape(patch_size, patch_size, -1)[..., :3]
  if batch.patches_BTC.shape[-1] == 3 * patch_size**2:
    pixels = (patch + 1) * 127.5
  else:
    patch = np.repeat(patch, 3, axis=2)[..., :3] if patch.shape[2] < 3 else patch
    values = batch.patches_BTC[row]
    span = max(float(values.max() - values.min()), 1e-9)
    pixels = (patch - float(values.min())) * (255.0 / span)
  return Picture.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8))


def _draw_number(draw, number_T, t, start, none, corner, cell) -> None:
  """Draws a strip's cell: the colour of a number, written where it begins."""
  x, y = corner
  number = int(number_T[t])
  begins = t == start or int(number_T[t - 1]) != number
  joined = t + 1 < len(number_T) and int(number_T[t + 1]) == number
  right = x + cell - (0 if joined and number != none else 2)
  fill = _EMPTY if number == none else _COLOURS[number % len(_COLOURS)]
  draw.rectangle((x, y, right, y + _STRIP - 3), fill=fill)
  if begins and number != none:
    draw.text((x + 3, y - 1), str(number), font=_font(10), fill="white")


def _draw_legend(draw, y: int) -> None:
  x = 6
  entries = list(_SPECIAL.items())
  entries += [("trained text", _TEXT_WEIGHT), ("trained patch", _IMAGE_WEIGHT)]
  for name, colour in entries:
    draw.rectangle((x, y, x + 11, y + 11), fill=colour)
    draw.text((x + 16, y - 1), name, font=_font(11), fill=_INK)
    x += 30 + int(_font(11).getlength(name))


def _font(size: int) -> ImageFont.FreeTypeFont:
  return _FONTS.setdefault(size, ImageFont.load_default(size))


_FONTS: dict[int, ImageFont.FreeTypeFont] = {}
