"""Laws of tokenizers: round trips, ids in range, special tokens never inside text."""

import io
import pickle

import numpy as np
import pytest

from unijax.data.document import DataError
from unijax.data.tokenizer import ByteTokenizer, make_tokenizer, vocabulary

TEXTS = ("a red circle", "Grüße, 世界! 🦊", "<|end|> is text", "", "two\nlines\t.")


def train_sentencepiece(path):
  import sentencepiece

  model = io.BytesIO()
  sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(["the red circle is above the blue square"] * 20),
    model_writer=model,
    vocab_size=300,
    model_type="bpe",
    byte_fallback=True,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    hard_vocab_limit=False,
    minloglevel=2,
  )
  path.write_bytes(model.getvalue())


def train_tokenizer_json(path):
  import tokenizers
  from tokenizers import decoders, models, pre_tokenizers, processors, trainers

  tokenizer = tokenizers.Tokenizer(models.BPE())
  tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
  tokenizer.decoder = decoders.ByteLevel()
  trainer = trainers.BpeTrainer(
    vocab_size=300,
    special_tokens=["<|end|>"],
    show_progress=False,
    initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
  )
  tokenizer.train_from_iterator(["the red circle is above the blue square"], trainer)
  tokenizer.post_processor = processors.TemplateProcessing(
    single="<|end|> $A <|end|>", special_tokens=[("<|end|>", 0)]
  )
  tokenizer.enable_truncation(max_length=4)
  tokenizer.enable_padding(length=40)
  tokenizer.save(str(path))


@pytest.fixture(scope="module", params=["bytes", "t.model", "t.json"])
def tokenizer(request, tmp_path_factory):
  if request.param == "bytes":
    return make_tokenizer("bytes")
  path = tmp_path_factory.mktemp("tokenizer") / request.param
  {"t.model": train_sentencepiece, "t.json": train_tokenizer_json}[request.param](path)
  return make_tokenizer(str(path))


def test_decode_undoes_encode(tokenizer):
  for text in TEXTS:
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_ids_are_inside_the_vocabulary(tokenizer):
  for text in TEXTS:
    assert all(0 <= i < tokenizer.vocab_size for i in tokenizer.encode(text))
  assert tokenizer.encode("") == []


def test_special_tokens_are_neither_added_nor_read_from_text(tokenizer):
  ids = tokenizer.encode("<|end|>")
  assert len(ids) > 1  # a special token would be one id
  assert tokenizer.decode(ids) == "<|end|>"


def test_decode_leaves_out_foreign_ids_and_marks_broken_text(tokenizer):
  ids = tokenizer.encode("red")
  assert tokenizer.decode([tokenizer.vocab_size + 3, *ids, -1]) == "red"
  assert ByteTokenizer().decode("é".encode()[:1]) == "\ufffd"


def test_a_lone_surrogate_can_be_encoded(tokenizer):
  assert tokenizer.decode(tokenizer.encode("a\ud800b")) == "a?b"


def test_pickles_without_its_file(tokenizer):
  copy = pickle.loads(pickle.dumps(tokenizer))
  assert copy.signature == tokenizer.signature
  assert [copy.encode(t) for t in TEXTS] == [tokenizer.encode(t) for t in TEXTS]


def test_signature_follows_the_content(tmp_path):
  train_tokenizer_json(tmp_path / "a.json")
  (tmp_path / "b.json").write_bytes((tmp_path / "a.json").read_bytes())
  (tmp_path / "c.json").write_bytes((tmp_path / "a.json").read_bytes() + b" ")
  a, b, c = (
    make_tokenizer(str(tmp_path / n)).signature for n in ("a.json", "b.json", "c.json")
  )
  assert a == b != c


@pytest.mark.parametrize(
  "name, content, message",
  [
    ("none.json", None, "cannot be read"),
    ("vocab.txt", b"", "expected 'bytes'"),
    ("bad.model", b"not a model", "no sentencepiece model"),
    ("bad.json", b"{}", "no tokenizer-json model"),
  ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
  if content is not None:
    (tmp_path / name).write_bytes(content)
  with pytest.raises(DataError, match=message) as error:
    make_tokenizer(str(tmp_path / name))
  assert name in str(error.value)


def test_special_tokens_stand_after_the_text_in_their_order():
  vocab = vocabulary(ByteTokenizer(), multiple=8)
  s = vocab.special
  ids = [s.pad, s.bos, s.eos, s.boi, s.eoi, s.time, s.user, s.assistant]
  assert ids == list(range(256, 264))
  assert vocab.size == 264
  assert vocab.names[s.boi] == "boi"
  assert vocab.is_text(255) and not vocab.is_text(256)


def test_a_table_may_have_more_rows_than_needed_but_not_fewer():
  known = vocabulary(ByteTokenizer(), codes=16, slots=2, rows=1001)
  assert (known.size, known.first_slot, known.code_ids.first) == (1001, 999, 983)
  with pytest.raises(DataError, match="data.vocab: 281 ids.* 282 are needed"):
    vocabulary(ByteTokenizer(), codes=16, slots=2, rows=281)


def test_codes_that_a_tokenizer_has_are_no_text():
  known = vocabulary(ByteTokenizer(), codes=3, slots=1, listed=(200, 7, 255))
  assert (known.size, known.first_slot) == (272, 271)  # 264 and the slot, by eights
  assert [i for i in range(known.size) if not known.words[i]][:3] == [7, 200, 255]
  assert known.is_text(8) and not known.is_text(200) and not known.is_text(264)
  assert known.of_images(7) and known.of_images(271) and not known.of_images(8)
  ids = known.code_ids.of(np.array([[2, 0], [1, 1]]))
  assert ids.tolist() == [[255, 200], [7, 7]]
  assert known.code_ids.codes(ids).tolist() == [[2, 0], [1, 1]]
  for listed, told in (((271,), "272 rows"), ((257,), "257 is a special token's")):
    with pytest.raises(DataError, match=f"data.code_ids: .*{told}"):
      vocabulary(ByteTokenizer(), codes=1, slots=1, listed=listed)


def test_vocabulary_size_is_the_next_multiple():
  assert vocabulary(ByteTokenizer(), multiple=1).size == 264
  assert vocabulary(ByteTokenizer(), multiple=128).size == 384
  with pytest.raises(DataError, match="multiple"):
    vocabulary(ByteTokenizer(), multiple=0)
