"""One picture of what a run can do: drawings with captions, answers, edits, emoji."""

import textwrap

from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from unijax.evals.suite import Evaluation

CELL, GAP, LINES = 112, 14, 3  # pixels of a picture and between cells, lines of text
RIGHT, WRONG, INK, PAPER = (20, 120, 50), (190, 30, 40), (60, 60, 60), (255, 255, 255)
COLUMNS = 8


def contact_sheet(result: Evaluation) -> Picture.Image:
  """Draws the first outputs of each task of the first split, right or wrong.

  Text is green where the output is exactly right and red where it is not; nothing is
  picked by hand. Rows: drawn from captions (two), described, answered, edited (before
  and after), emoji.
  """
  rows = []
  split = next(iter(result.outcomes), (None,))[0]
  for task, count in (("draw", 2), ("describe", 1), ("ask", 1), ("edit", 1)):
    if (split, task) in result.outcomes:
      cells = _cells(result.outcomes[split, task])
      rows += [cells[i * COLUMNS : (i + 1) * COLUMNS] for i in range(count)]
  if result.drawings:
    drawn = zip(result.drawings.drawn, result.drawings.captions, strict=True)
    rows.append([(pixels, caption, INK) for pixels, caption in drawn][:COLUMNS])
  font = ImageFont.load_default(12)
  height = CELL + LINES * 15 + GAP
  sheet = Picture.new(
    "RGB", (COLUMNS * (CELL + GAP) + GAP, GAP + len(rows) * height), PAPER
  )
  draw = ImageDraw.Draw(sheet)
  for r, row in enumerate(rows):
    for c, (pixels, text, colour) in enumerate(row):
      x, y = GAP + c * (CELL + GAP), GAP + r * height
      scaled = Picture.fromarray(pixels).resize(
        (CELL, CELL), Picture.Resampling.NEAREST
      )
      sheet.paste(scaled, (x, y))
      draw.rectangle([x - 1, y - 1, x + CELL, y + CELL], outline=(225, 225, 225))
      lines = textwrap.wrap(text, 19)[:LINES]
      draw.multiline_text((x, y + CELL + 3), "\n".join(lines), fill=colour, font=font)
  return sheet


def _cells(outcome):
  """(picture, text, colour) of each item of an outcome; two of each edit."""
  cells = []
  for item, output, score in zip(
    outcome.items, outcome.outputs, outcome.scores, strict=True
  ):
    colour = RIGHT if score.exact else WRONG
    if outcome.task == "draw":
      cells.append((output, item.text, colour))
    elif outcome.task == "describe":
      cells.append((item.pixels, f"“{output}”", colour))
    elif outcome.task == "ask":
      cells.append((item.pixels, f"{item.question} {output}", colour))
    else:
      cells += [(item.pixels, item.text, colour), (output, "became", colour)]
  return cells
