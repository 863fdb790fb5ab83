"""Text in blocks: what the model writes is cut into blocks that are written at once.

A block is a stretch of `size` positions whose text may be hidden and filled in any
order. It begins where the model begins to write, goes on until something stands there
that the model does not write (the user's turn, an image), and its rest is padding,
which the model writes too: that is how it says where a text ends.

In `span` the first block of a row is -2, the next one -3; -1 is plain text.
"""

from unijax.types import FIRST_BLOCK


def write(x, ids, weight: float, size: int, pad: int | None = None) -> None:
  """Appends tokens that the model writes to a `rows.Layout`.

  Args:
    x: the layout.
    ids: tokens.
    weight: loss weight of each.
    size: positions of a block; 0: the model writes token by token.
    pad: fills the rest of the last block; None leaves it open.
  """
  ids = list(ids)
  if size and pad is not None:
    ids += [pad] * ((x.left - len(ids)) % size)
  first = len(x)
  x.add_tokens(ids, weight)
  if not size:
    return
  for i in range(first, len(x)):
    if not x.left:
      x.blocks, x.left = x.blocks + 1, size
    x.span[i] = FIRST_BLOCK - (x.blocks - 1)
    x.left -= 1


def close(x, size: int, pad: int) -> None:
  """Fills the last block with padding that has the loss weight of what it follows."""
  if x.left:
    write(x, (), x.text_weight[-1], size, pad)


def take_open(x, size: int):
  """Returns (the layout before its open block, the tokens of that)."""
  if not x.left:
    return x, []
  count = size - x.left
  rest = x.part(0, len(x) - count)
  rest.next_position -= count
  rest.blocks = x.blocks - 1
  return rest, x.tokens[-count:]
