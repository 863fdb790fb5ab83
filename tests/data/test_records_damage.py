"""Damaged, foreign and incomplete prepared data is an error that says where."""

import pytest

from tests.data.test_records import Numbered, plain, read_all
from unijax.data import record_bytes, records
from unijax.data.document import DataError
from unijax.data.prepare import prepare
from unijax.data.records import RecordsOptions, RecordsSource


def flip(path, needle):
  content = bytearray(path.read_bytes())
  content[bytes(content).index(needle) + 3] ^= 1
  path.write_bytes(bytes(content))


def test_a_flipped_bit_is_an_error_and_names_the_record(tmp_path):
  prepare(Numbered(10), str(tmp_path / "out"))
  flip(tmp_path / "out" / records.shard_name(0), b"text 7")
  source = RecordsSource(RecordsOptions(path=str(tmp_path / "out"), split="all"))
  assert plain(source[6]) == plain(Numbered(10)[6])
  with pytest.raises(DataError, match="array_record, record 7: .*damaged: prepare"):
    source[7]


def test_missing_and_cut_files_are_found_at_once(tmp_path):
  prepare(Numbered(10), str(tmp_path / "out"), shard_documents=5)
  path = tmp_path / "out" / records.shard_name(1)
  content = path.read_bytes()
  path.write_bytes(content[:100])
  with pytest.raises(DataError, match="00001.array_record has 100 bytes, expected"):
    read_all(tmp_path / "out")
  path.unlink()
  with pytest.raises(DataError, match="00001.array_record is missing"):
    read_all(tmp_path / "out")


@pytest.mark.parametrize(
  "content, message",
  [
    (None, "no prepared data.*unijax data prepare"),
    ("{ cut", "no prepared data"),
    ('{"version": 99}', "version 99, this program reads 2"),
    ('{"version": 2}', "info.json has changed"),
    ("[2]", "no prepared data"),
  ],
)
def test_a_folder_that_is_no_prepared_data_is_named(tmp_path, content, message):
  if content is not None:
    (tmp_path / "info.json").write_text(content)
  with pytest.raises(DataError, match=message):
    RecordsSource(RecordsOptions(path=str(tmp_path)))


def test_records_of_another_program_are_refused():
  for record in (
    b"",
    b"junk",
    record_bytes.msgpack.packb({"v": 2, "parts": []}) + 16 * b"x",
  ):
    with pytest.raises(DataError, match="file x: changed record: .*prepare"):
      record_bytes.unpack(record, 0, "file x")
  for content in (b"\xc1", record_bytes.msgpack.packb({"v": 1, "parts": []}), b"\x07"):
    record = content + record_bytes._digest(content, 0, "")
    with pytest.raises(DataError, match="file x: no document of this program"):
      record_bytes.unpack(record, 0, "file x")


def test_a_record_belongs_to_its_place_and_its_folder():
  record = record_bytes.pack(Numbered(1)[0], 3, "source a")
  assert plain(record_bytes.unpack(record, 0, "x", 3, "source a")) == plain(
    Numbered(1)[0]
  )
  for number, origin in ((4, "source a"), (3, "source b")):
    with pytest.raises(DataError, match="x: changed record"):
      record_bytes.unpack(record, 0, "x", number, origin)


def test_changed_info_and_lengths_are_found(tmp_path):
  prepare(Numbered(10), str(tmp_path / "out"))
  options = RecordsOptions(str(tmp_path / "out"))
  for name, old, new in (
    ("info.json", b'"documents": 10', b'"documents": 11'),
    ("lengths.npz", b"group", b"grouq"),
  ):
    path = tmp_path / "out" / name
    content = path.read_bytes()
    path.write_bytes(content.replace(old, new))
    with pytest.raises(DataError, match=f"{name} has changed since it was written"):
      RecordsSource(options)
    path.write_bytes(content)
  assert len(RecordsSource(options)) > 0
