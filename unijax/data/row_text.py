"""Rows of a batch as text, a line per document."""

import numpy as np

from unijax.data.tokenizer import Tokenizer, Vocabulary


def text_rows(batch, vocabulary: Vocabulary, tokenizer: Tokenizer) -> str:
  """Returns the rows as text, a line per document; what is trained stands in ⟦ ⟧."""
  lines = ["⟦ ⟧ is trained; <name> is a special token"]
  for row, segment_T in enumerate(batch.segment_BT):
    lines.append(headline(batch, row, length(segment_T)))
    for number in range(1, int(segment_T.max(initial=0)) + 1):
      places = np.flatnonzero(segment_T == number)
      text = _document_text(batch, row, places, vocabulary, tokenizer)
      lines.append(f"  {number}: {text}")
  return "\n".join(lines)


def _document_text(batch, row, places, vocabulary, tokenizer) -> str:
  """Returns one document as text: runs of the same sort and weight, in order."""

  def sort(t):
    patch = int(batch.patch_BT[row, t])
    if patch >= 0:
      return "image", int(batch.span_BT[row, t]), batch.image_weight_BT[row, t] > 0
    if is_feature(batch, row, t):
      return "features", int(batch.span_BT[row, t]), False
    token = int(batch.tokens_BT[row, t])
    trained = batch.text_weight_BT[row, t] > 0
    return ("text", -1, trained) if vocabulary.is_text(token) else ("id", t, trained)

  runs: list[tuple[tuple, list[int]]] = []
  for t in places:
    if not runs or runs[-1][0] != sort(t):
      runs.append((sort(t), []))
    runs[-1][1].append(int(t))
  pieces = []
  for (kind, number, trained), run in runs:
    tokens = [int(batch.tokens_BT[row, t]) for t in run]
    if kind == "image":
      piece = f"(image {number}: {len(run)} patches)"
    elif kind == "features":
      piece = f"(image {number}: {len(run)} features)"
    elif kind == "text":
      piece = tokenizer.decode(tokens)
    else:
      piece = f"<{vocabulary.names.get(tokens[0], f'unused {tokens[0]}')}>"
    pieces.append(f"⟦{piece}⟧" if trained else piece)
  return "".join(pieces).replace("⟧⟦", "").replace("\n", "\\n")


def is_feature(batch, row: int, t: int) -> bool:
  """Whether a position holds nothing but what an encoder says."""
  encodes = batch.feature_BT is not None
  return encodes and batch.feature_BT[row, t] >= 0 > batch.patch_BT[row, t]


def headline(batch, row: int, length: int) -> str:
  """Returns what a row holds, in numbers; `length` is as the function of this name."""
  total = batch.segment_BT.shape[1]
  documents = int(batch.segment_BT[row].max(initial=0))
  pictures = int(batch.span_BT[row].max(initial=-1)) + 1
  text = int((batch.text_weight_BT[row] > 0).sum())
  patches = int((batch.image_weight_BT[row] > 0).sum())
  return (
    f"row {row}: {length} of {total} positions filled, {documents} documents, "
    f"{pictures} images; trained on {text} tokens and {patches} patches"
  )


def length(segment_T: np.ndarray) -> int:
  """Returns the number of positions before the padding at the end."""
  filled = np.flatnonzero(segment_T > 0)
  return int(filled[-1]) + 1 if len(filled) else 0
