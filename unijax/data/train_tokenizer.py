"""Trains a byte-level BPE tokenizer on the text of a config's documents."""

import pathlib

from unijax.config import Config
from unijax.data.document import DataError, Text
from unijax.data.sources import make_sources
from unijax.data.stream import DocumentStream


def train_tokenizer(
  config: Config, out: str, size: int, documents: int
) -> dict[str, float]:
  """Writes a `tokenizer.json` learnt from the first documents of the training stream.

  Every text can be encoded: merges only join bytes that are often neighbours.

  Args:
    config: its sources, in their mixture, give the text.
    out: file to write; its folder is created.
    size: ids, 256 bytes included.
    documents: how many to read.

  Returns:
    How many bytes of text a token stands for, by kind of document.

  Raises:
    DataError: fewer than 257 ids, or documents without any text.
  """
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, trainers

  if size < 257:
    raise DataError(f"data tokenizer: --size must be more than 256 bytes, got {size}")
  stream = DocumentStream(make_sources(config), config.seed)
  texts: dict[str, list[str]] = {}
  for number in range(documents):
    document, name = stream[number]
    said = [part.text for part in document.parts if isinstance(part, Text)]
    texts.setdefault(f"{name}/{document.kind}", []).extend(said)
  every = [text for group in texts.values() for text in group]
  if not every:
    raise DataError("data tokenizer: the documents of this config hold no text")
  bpe = tokenizers.Tokenizer(models.BPE())
  bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  bpe.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=size, show_progress=False,
    initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
  )  # fmt: skip
  bpe.train_from_iterator(every, trainer)
  path = pathlib.Path(out)
  path.parent.mkdir(parents=True, exist_ok=True)
  bpe.save(str(path))
  return {
    name: sum(len(t.encode()) for t in group)
    / max(1, sum(len(x.ids) for x in bpe.encode_batch(group)))
    for name, group in sorted(texts.items())
  }
