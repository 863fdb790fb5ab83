"""Text tokenizers behind one interface, and the special tokens that stand after them.

A tokenizer knows text only: it never adds a special token, and a special token's name
written inside a text stays text. The special tokens of the model are ids appended after
the text vocabulary by `vocabulary`, so any tokenizer can be used unchanged.
"""

import dataclasses
import functools
import hashlib
import itertools
import pathlib
import re
from collections.abc import Iterable, Mapping
from typing import ClassVar, Protocol

import numpy as np

from unijax.code_ids import CodeIds
from unijax.config import Config
from unijax.data.document import DataError
from unijax.errors import nearest


class Tokenizer(Protocol):
  """Turns text into ids in [0, vocab_size) and back."""

  vocab_size: int  # text ids only
  signature: str  # short hash of everything that decides the ids
  marks: Mapping[str, int]  # names that are tokens where somebody means them, and ids
  added: Mapping[str, int]  # these, and others that are no learnt pieces of text

  def encode(self, text: str) -> list[int]:
    """Returns text ids; no special token is ever added."""

  def decode(self, ids: Iterable[int]) -> str:
    """Returns text. Ids that are no text are left out; broken UTF-8 becomes U+FFFD."""


class ByteTokenizer:
  """The 256 bytes of UTF-8. No file, no training, no unknown text."""

  vocab_size = 256
  signature = "bytes"
  marks: ClassVar[Mapping[str, int]] = {}
  added: ClassVar[Mapping[str, int]] = {}

  def encode(self, text: str) -> list[int]:
    """Returns UTF-8 bytes; a lone surrogate, which has none, becomes '?'."""
    return list(text.encode("utf-8", errors="replace"))

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text; other ids are left out, broken UTF-8 becomes U+FFFD."""
    return bytes(i for i in ids if 0 <= i < 256).decode("utf-8", errors="replace")


class _FileTokenizer:
  """Keeps the file's bytes, so that pickling needs neither the file nor its path."""

  kind = ""

  def __init__(self, content: bytes, name: str):
    self.content = content
    self.name = name
    self.signature = f"{self.kind}-{hashlib.sha256(content).hexdigest()[:16]}"
    try:
      self._load()
    except ModuleNotFoundError:
      raise
    except Exception as error:
      raise DataError(f"tokenizer {name} is no {self.kind} model: {error}") from error

  def _load(self) -> None:
    raise NotImplementedError

  def __reduce__(self):
    return type(self), (self.content, self.name)

  def _text_ids(self, ids: Iterable[int]) -> list[int]:
    return [int(i) for i in ids if 0 <= i < self.vocab_size]


class SentencePieceTokenizer(_FileTokenizer):
  """A SentencePiece `*.model`."""

  kind = "sentencepiece"

  def _load(self) -> None:
    import sentencepiece

    self.processor = sentencepiece.SentencePieceProcessor()
    self.processor.LoadFromSerializedProto(self.content)
    self.vocab_size = self.processor.vocab_size()
    named = [
      i for i in range(self.vocab_size)
      if self.processor.is_control(i) or self.processor.is_unknown(i)
    ]  # fmt: skip
    self.added = self.marks = {self.processor.id_to_piece(i): i for i in named}

  def encode(self, text: str) -> list[int]:
    """Returns piece ids without begin or end of sentence."""
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    return self.processor.encode(text, add_bos=False, add_eos=False)

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text; control pieces and ids beyond the vocabulary are left out."""
    return self.processor.decode(self._text_ids(ids))


class HuggingFaceTokenizer(_FileTokenizer):
  """A `tokenizer.json` as written by the `tokenizers` library."""

  kind = "tokenizer-json"

  def _load(self) -> None:
    import tokenizers

    self.tokenizer = tokenizers.Tokenizer.from_buffer(self.content)
    self.tokenizer.no_truncation()
    self.tokenizer.no_padding()
    # "<|end|>" inside a document must not end it: special names are read as text.
    self.tokenizer.encode_special_tokens = True
    self.vocab_size = 1 + max(self.tokenizer.get_vocab().values())  # ids may have gaps
    added = self.tokenizer.get_added_tokens_decoder()
    self.added = {token.content: i for i, token in added.items()}
    self.marks = {token.content: i for i, token in added.items() if token.special}

  def around_nothing(self) -> list[int]:
    """Ids that the file's post-processor puts around an empty text."""
    return self.tokenizer.encode("", add_special_tokens=True).ids

  def encode(self, text: str) -> list[int]:
    """Returns ids without the special tokens of the file's post-processor."""
    text = text.encode("utf-8", errors="replace").decode("utf-8")
    return self.tokenizer.encode(text, add_special_tokens=False).ids

  def decode(self, ids: Iterable[int]) -> str:
    """Returns the text; special ids and ids beyond the vocabulary are left out."""
    return self.tokenizer.decode(self._text_ids(ids), skip_special_tokens=True)


def split_marked(
  tokenizer: Tokenizer, text: str, more: Iterable[tuple[str, int]] = ()
) -> list[int | str]:
  """Cuts what a person wrote about turns into text and ids of `marks` named in it.

  `more` are marks beside those of the tokenizer, and before them.
  """
  marks = {**tokenizer.marks, **dict(more)}
  if not marks:
    return [text] if text else []
  longest_first = sorted(map(re.escape, marks), key=len, reverse=True)
  pieces = re.split(f"({'|'.join(longest_first)})", text)
  return [marks.get(piece, piece) for piece in pieces if piece]


def encode_marked(tokenizer: Tokenizer, text: str) -> list[int]:
  """Encodes what a person wrote about turns, in which names of `marks` are tokens.

  What a user or a document says is never read so.
  """
  ids = []
  for piece in split_marked(tokenizer, text):
    ids += [piece] if isinstance(piece, int) else tokenizer.encode(piece)
  return ids


def make_tokenizer(path: str) -> Tokenizer:
  """Returns the tokenizer at `path` (`*.model`, `*.json`), or for the word 'bytes'.

  Raises DataError when the file is missing, of another kind, or damaged.
  """
  if path == "bytes":
    return ByteTokenizer()
  kinds = {".model": SentencePieceTokenizer, ".json": HuggingFaceTokenizer}
  kind = kinds.get(pathlib.Path(path).suffix.lower())
  if kind is None:
    raise DataError(
      f"tokenizer {path!r}: expected 'bytes', a SentencePiece file (*.model) or a "
      "tokenizer.json (*.json)"
    )
  try:
    content = pathlib.Path(path).read_bytes()
  except OSError as error:
    raise DataError(
      f"tokenizer {path!r} cannot be read ({error.strerror}); give the path of a file, "
      "or 'bytes' for the built-in byte tokenizer"
    ) from error
  return kind(content, path)


@dataclasses.dataclass(frozen=True)
class SpecialTokens:
  """Ids of the model's own tokens. The order of the fields is the order of the ids."""

  pad: int  # fills a row
  bos: int  # a document begins
  eos: int  # a document, or the assistant's turn, ends
  boi: int  # an image begins
  eoi: int  # an image has ended
  time: int  # carries the timestep before an image, where the model asks for it
  user: int  # the user speaks from here on
  assistant: int  # the assistant speaks from here on


@dataclasses.dataclass(frozen=True)
class Vocabulary:
  """Text ids [0, text_size), the special tokens, unused ids; at the end image codes.

  After the codes stand the mask token and the slots of an image, if there are any: the
  last `codes + masks + slots` ids are theirs, whatever the tokenizer; codes that are
  `listed` are elsewhere.
  """

  text_size: int
  special: SpecialTokens
  size: int
  codes: int = 0  # image codes
  masks: bool = False  # whether there is a mask token
  slots: int = 0  # tokens that stand between BOI and an image
  listed: tuple[int, ...] = ()  # ids of codes 0, 1, ..; (): those before the mask

  @functools.cached_property
  def code_ids(self) -> CodeIds:
    """Where the codes of images stand."""
    first = self.first_slot - self.codes - self.masks
    return CodeIds(first, self.codes, self.listed)

  @property
  def first_slot(self) -> int:
    """Id of the first slot of an image."""
    return self.size - self.slots

  @functools.cached_property
  def names(self) -> dict[int, str]:
    """Names of the special tokens by id, such as {259: 'boi'}, for display."""
    names = {i: name for name, i in dataclasses.asdict(self.special).items()}
    return names | {self.first_slot + i: f"slot {i}" for i in range(self.slots)}

  @functools.cached_property
  def words(self) -> np.ndarray:
    """Which ids the tokenizer has, codes of images apart: bool [size]."""
    return (np.arange(self.size) < self.text_size) & ~self.code_ids.among(self.size)

  def is_text(self, token: int) -> bool:
    """Says whether this id is text: of the tokenizer, no special token and no code."""
    return 0 <= token < self.size and self.words[token] and token not in self.names

  def of_images(self, token: int) -> bool:
    """Says whether this id stands for a part of an image: a code, mask or slot."""
    return token >= self.first_slot - self.masks or token in self.code_ids


def vocabulary_of(config: Config, tokenizer: Tokenizer) -> Vocabulary:
  """Returns the vocabulary of a config: with image codes where it writes them."""
  return vocabulary(
    tokenizer, codes=config.codebook, masks=config.write.masks, slots=config.slots,
    rows=config.data.vocab, given=config.data.special, listed=config.data.code_ids,
  )  # fmt: skip


def vocabulary(
  tokenizer: Tokenizer,
  multiple: int = 8,
  codes: int = 0,
  masks: bool = False,
  slots: int = 0,
  rows: int = 0,
  given: Iterable[tuple[str, int]] = (),
  listed: tuple[int, ...] = (),
) -> Vocabulary:
  """Returns the model's vocabulary; its size is rounded up to a multiple.

  The multiple keeps the embedding and the logits divisible by the mesh axis that they
  are sharded over. `rows` above 0 is the size itself, as published models have it.
  `given` are special tokens that have ids already; two may share one. `listed` are ids
  of codes that have them already.
  Raises DataError if the multiple is not positive, the rows are too few, or a given
  token or code has no such name or no row, or both the same row.
  """
  if multiple < 1:
    raise DataError(f"vocabulary: multiple must be at least 1, got {multiple}")
  first, ids = tokenizer.vocab_size, dict(given)
  names = [field.name for field in dataclasses.fields(SpecialTokens)]
  for name in ids:
    if name not in names:
      raise DataError(f"data.special: no token {name!r}{nearest(name, names)}")
  own = [name for name in names if name not in ids]
  count = len(own)
  special = SpecialTokens(**ids, **dict(zip(own, itertools.count(first), strict=False)))
  behind = masks + slots + (0 if listed else codes)  # of all text
  needed = first + count + behind
  if 0 < rows < needed:
    raise DataError(
      f"data.vocab: {rows} ids, but {needed} are needed: {first} of the tokenizer, "
      f"{count} special tokens, {codes} codes, {int(masks)} mask and {slots} slots; "
      "0 takes what is needed"
    )
  size = rows or -(-needed // multiple) * multiple
  for name, token in ids.items():
    if not 0 <= token < size - behind:
      raise DataError(f"data.special: {name} is {token}, and the table has {size} rows")
  if listed and not 0 <= min(listed) <= max(listed) < size - behind:
    raise DataError(f"data.code_ids: up to {max(listed)}, and there are {size} rows")
  if both := set(listed) & set(dataclasses.astuple(special)):
    raise DataError(f"data.code_ids: {min(both)} is a special token's, too")
  return Vocabulary(first, special, size, codes, masks, slots, listed)
