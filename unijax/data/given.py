"""Text that a model is given, encoded as one where no token stands between.

Where words end depends on what stands beside them: a format's "user: " and what a user
says have other ids together than one after the other. Where a model was trained on the
latter, a seam stands between them.
"""

from collections.abc import Callable, Iterable, Sequence

SEAM = -1  # no token


class Given:
  """Collects ids and texts, and gives back ids.

  Args:
    encode: text -> ids.
  """

  def __init__(self, encode: Callable[[str], Iterable[int]]):
    self.encode = encode
    self.pieces: list[int | str] = []

  def add(self, pieces: Sequence[int | str]) -> None:
    """Appends ids, seams and texts."""
    for piece in pieces:
      if self.pieces and isinstance(piece, str) and isinstance(self.pieces[-1], str):
        self.pieces[-1] += piece
      else:
        self.pieces.append(piece)

  def take(self) -> list[int]:
    """Returns the ids of all of it, and forgets it."""
    pieces, self.pieces, ids = self.pieces, [], []
    for piece in pieces:
      ids += self.encode(piece) if isinstance(piece, str) else [piece]
    return [i for i in ids if i != SEAM]
