"""What stands around turns: the model's own tokens, or the format of another tokenizer."""

import pytest
import tokenizers

from tests import small
from tests.tokenizers import tokenizer_json
from unijax.data.document import DataError, Document, Text, Turn
from unijax.data.rows import RowBuilder
from unijax.data.tokenizer import ByteTokenizer, encode_marked, make_tokenizer
from unijax.data.tokenizer import vocabulary as vocabulary_for

WORDS = "user assistant system You are helpful. What is red? A circle, of 12 cm.\n"
CHAT = (
  ("begin", "<|im_start|>system\nYou are helpful.<|im_end|>\n"),
  ("user", "<|im_start|>user\n"),
  ("user_end", "<|im_end|>\n"),
  ("assistant", "<|im_start|>assistant\n"),
  ("assistant_end", "\n"),
)
SAID = ("What is <|im_end|> red?", "A circle, of 12 cm.", "red?", "A circle.")


@pytest.fixture(scope="module")
def file(tmp_path_factory):
  path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
  tokenizer_json(path, WORDS)
  return path


def conversation(*said):
  roles = ("user", "assistant") * len(said)
  parts = [p for r, s in zip(roles, said, strict=False) for p in (Turn(r), Text(s))]
  return Document(tuple(parts), id=1)


def builder(path, **knobs):
  c = small.config(
    model__write="none", data__tokenizer=str(path), data__vocab=320,
    data__special=(("eos", 2), ("bos", 0)), **knobs,
  )  # fmt: skip
  return RowBuilder(c, make_tokenizer(str(path)))


def test_turns_are_those_of_the_format(file):
  """The text of the whole conversation, special names in it as tokens, is the judge."""
  b = builder(file, data__chat=CHAT)
  x = b.layout(conversation(*SAID))
  inner = tokenizers.Tokenizer.from_file(str(file))
  parts, plain = dict(CHAT), b.tokenizer
  told = inner.encode(parts["begin"]).ids
  for role, said in zip(("user", "assistant") * 2, SAID, strict=True):
    told += inner.encode(parts[role]).ids + plain.encode(said)
    told += inner.encode("<|im_end|>\n").ids
  assert (
    x.tokens == told[:-1] and told[-2] == 2
  )  # what follows the last end is left out
  assert b.measure(conversation(*SAID)) == (len(x), 0)
  written = [t for t, w in zip(x.tokens, x.text_weight, strict=True) if w]
  assert written == [*plain.encode(SAID[1]), 2, *plain.encode(SAID[3]), 2]


def test_joined_text_is_encoded_as_one(file):
  """Where a rule ends words at lines, parts have the ids that the whole has."""
  inner = tokenizers.Tokenizer.from_file(str(file))
  said = (SAID[1], SAID[3], SAID[2], SAID[3])
  roles = ("user", "assistant") * 2
  b = builder(file, data__chat=CHAT)
  whole = dict(CHAT)["begin"] + "".join(
    f"<|im_start|>{r}\n{s}<|im_end|>\n" for r, s in zip(roles, said, strict=True)
  )
  told = inner.encode(whole, add_special_tokens=False).ids
  assert b.layout(conversation(*said)).tokens == told[:-1]


def test_a_prompt_ends_where_the_model_goes_on(file):
  b = builder(file, data__chat=CHAT)
  parts = (Turn("user"), Text("red?"), Turn("assistant"))
  x = b.layout(Document(parts, id=1), open_end=True)
  end = encode_marked(b.tokenizer, dict(CHAT)["assistant"])
  assert x.tokens[-len(end) :] == end and end[0] == 1


def test_own_tokens_stand_where_no_format_is_given(file):
  b = builder(file)
  s = b.vocabulary.special
  x = b.layout(conversation("a", "b"))
  middle = [s.user, *b.tokenizer.encode("a"), s.assistant, *b.tokenizer.encode("b")]
  assert x.tokens == [0, *middle, 2]


def test_a_document_may_begin_with_nothing(file):
  b = builder(file, data__chat=(("begin", ""),))
  x = b.layout(Document((Text("A circle."),), id=1))
  assert x.tokens == [*b.tokenizer.encode("A circle."), 2]
  assert x.text_weight[0] == 0 and all(x.text_weight[1:])


def test_special_tokens_may_have_ids_of_the_tokenizer():
  given = (("eos", 2), ("pad", 2), ("bos", 1))
  v = vocabulary_for(ByteTokenizer(), multiple=1, given=given)
  assert (v.special.eos, v.special.pad, v.special.bos) == (2, 2, 1)
  assert (v.special.boi, v.size) == (256, 261)
  assert not v.is_text(2) and v.is_text(3)
  with pytest.raises(DataError, match="no token 'eoss' .did you mean 'eos'"):
    vocabulary_for(ByteTokenizer(), given=(("eoss", 2),))
  with pytest.raises(DataError, match="eos is 400, and the table has 300 rows"):
    vocabulary_for(ByteTokenizer(), rows=300, given=(("eos", 400),))
