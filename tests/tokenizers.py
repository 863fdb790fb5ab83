"""A small tokenizer.json as released chat models have one."""

import pathlib

SPLIT = r"\p{N}|[^\r\n\p{L}\p{N}]?\p{L}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
MARKS = ("<s>", "<|im_start|>", "<|im_end|>")  # ids 0, 1, 2


def tokenizer_json(
  path: pathlib.Path, words: str, vocab: int = 300, begin=(), marks=MARKS
) -> None:
  """Bytes with a rule of where words end, and special tokens.

  Args:
    path: of the file.
    words: that pairs are learnt from.
    vocab: ids, at least 256 and the marks.
    begin: names that its post-processor puts before a text.
    marks: names of special tokens, whose ids begin at 0.
  """
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, processors, trainers

  made = tokenizers.Tokenizer(models.BPE())
  split = pre_tokenizers.Split(tokenizers.Regex(SPLIT), "isolated")
  made.pre_tokenizer = pre_tokenizers.Sequence(
    [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
  )
  made.decoder = decoders.ByteLevel()
  alphabet = pre_tokenizers.ByteLevel.alphabet()
  trainer = trainers.BpeTrainer(
    vocab_size=vocab, special_tokens=list(marks), initial_alphabet=alphabet,
    show_progress=False,
  )  # fmt: skip
  made.train_from_iterator([words] * 4, trainer)
  if begin:
    made.post_processor = processors.TemplateProcessing(
      single=" ".join([*begin, "$A"]),
      special_tokens=[(name, marks.index(name)) for name in begin],
    )
  made.save(str(path))


PIECES = ("<pad>", "<s>", "</s>", "<image>")  # ids 0, 1, 2, 3


def llama_json(path: pathlib.Path, words: str, vocab=200, names=PIECES) -> None:
  """Pieces that begin with the space before them; every text begins with one.

  Args:
    path: of the file.
    words: that pairs are learnt from.
    vocab: ids, at least 101.
    names: of special tokens; "<s>" begins a text.
  """
  import tokenizers
  from tokenizers import decoders, models, normalizers, processors, trainers

  made = tokenizers.Tokenizer(models.BPE())
  made.normalizer = normalizers.Sequence(
    [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
  )
  made.decoder = decoders.Sequence(
    [decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
  )
  trainer = trainers.BpeTrainer(
    vocab_size=vocab, special_tokens=list(names), show_progress=False,
    initial_alphabet=["\n", *map(chr, range(33, 127))],
  )  # fmt: skip
  made.train_from_iterator(words.split() * 4, trainer)
  made.post_processor = processors.TemplateProcessing(
    single="<s> $A", special_tokens=[("<s>", names.index("<s>"))]
  )
  made.save(str(path))
