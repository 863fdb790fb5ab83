"""Tables of text: for a terminal, and in Markdown."""

from collections.abc import Sequence


def plain_table(
  head: Sequence[str], rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)
) -> str:
  """Returns aligned lines; columns in `left` begin at the left, the rest are figures.

  Runs of white space inside a cell become one space.
  """
  cells = [[" ".join(str(c).split()) for c in row] for row in [head, *rows]]
  widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
  lines = [
    "  ".join(
      cell.ljust(width) if i in left else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths, strict=True))
    ).rstrip()
    for row in cells
  ]
  lines.insert(1, "  ".join("─" * width for width in widths))
  return "\n".join(lines)


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
  """Returns a table in Markdown; cells are taken as they are."""
  lines = (head, ["---"] * len(head), *rows)
  return "\n".join(f"| {' | '.join(line)} |" for line in lines)
