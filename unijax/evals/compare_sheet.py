"""Pictures of several systems on one sheet: a row a system, a column a prompt."""

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from unijax.evals.sheet import INK, PAPER, RIGHT, WRONG

CELL, GAP, LABEL, LINE = 96, 6, 170, 14  # pixels
WORDS = 4  # lines of a prompt above its column


def draw(groups: Sequence[tuple[list[dict], list[tuple[str, list[np.ndarray]]]]]):
  """Draws the groups one below the other.

  A frame is green where a picture is exactly what was asked for, red where it is not.

  Args:
    groups: (results of systems, rows of (label, uint8 [h, w, 3] each)); the rows may
      begin with originals, which no system made.
  """
  height = sum(_height(rows) for _, rows in groups)
  most = max(len(pictures) for _, rows in groups for _, pictures in rows)
  sheet = Picture.new("RGB", (LABEL + most * (CELL + GAP) + GAP, height + GAP), PAPER)
  y = GAP
  for systems, rows in groups:
    _group(sheet, y, systems, rows)
    y += _height(rows)
  return sheet


def _height(rows) -> int:
  return WORDS * LINE + GAP + len(rows) * (CELL + GAP) + GAP


def _group(sheet, y: int, systems: list[dict], rows) -> None:
  pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(11)
  for column, words in enumerate(systems[0]["words"]):
    text = "\n".join(textwrap.wrap(words, 16)[:WORDS])
    pen.multiline_text(
      (LABEL + column * (CELL + GAP), y), text, fill=INK, font=font, spacing=1
    )
  y += WORDS * LINE + GAP
  exact = {x["name"]: x["exact"] for x in systems}
  for label, pictures in rows:
    name = "\n".join(textwrap.wrap(label, 24))
    pen.multiline_text((GAP, y + CELL // 3), name, fill=INK, font=font)
    for column, pixels in enumerate(pictures):
      x = LABEL + column * (CELL + GAP)
      scaled = Picture.fromarray(pixels).resize(
        (CELL, CELL), Picture.Resampling.NEAREST
      )
      sheet.paste(scaled, (x, y))
      if exact.get(label):
        colour = RIGHT if exact[label][column] else WRONG
        frame = [x - 2, y - 2, x + CELL + 1, y + CELL + 1]
        pen.rectangle(frame, outline=colour, width=2)
    y += CELL + GAP
