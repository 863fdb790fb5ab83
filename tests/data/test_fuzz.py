"""Whatever happens to a file, it gives the same documents and rows or a named error.

A few hundred mutations of each kind run by default, 10,000 with the slow tests.
"""

import random
import shutil

import pytest

from tests.data.test_records import Numbered, plain
from unijax.data.document import DataError
from unijax.data.plan import Plan, Windows, pack
from unijax.data.plan_cache import NAME, PlanCache
from unijax.data.prepare import prepare
from unijax.data.record_bytes import unpack
from unijax.data.records import RecordsOptions, RecordsSource

COUNTS = [300, pytest.param(10_000, marks=pytest.mark.slow)]


def mutate(content: bytes, rng: random.Random) -> bytes:
  """One of the ways in which files go wrong; the length is kept more often than not."""
  data, at = bytearray(content), rng.randrange(len(content))
  kind = rng.randrange(7)
  if kind == 0:
    data[at] ^= 1 << rng.randrange(8)
  elif kind == 1:
    for _ in range(rng.randint(1, 20)):
      data[rng.randrange(len(data))] = rng.randrange(256)
  elif kind == 2:
    other = rng.randrange(len(data))
    data[at], data[other] = data[other], data[at]
  elif kind == 3:
    data[at : at + rng.randint(1, 64)] = bytes(min(64, len(data) - at))
  elif kind == 4:
    del data[at:]
  elif kind == 5:
    source, length = rng.randrange(len(data)), rng.randint(1, 200)
    data[at : at + length] = data[source : source + length]
  else:
    data[at:at] = rng.randbytes(rng.randint(1, 30))
  return bytes(data)


def resized(data: bytes, size: int) -> bytes:
  """The same number of bytes as before, so that sizes give nothing away."""
  return data[:size] + bytes(size - len(data[:size]))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
  path = tmp_path_factory.mktemp("fuzz") / "out"
  prepare(Numbered(12), str(path), shard_documents=6)
  return path


@pytest.mark.parametrize("count", COUNTS)
def test_prepared_folders(folder, tmp_path, count):
  rng = random.Random(count)
  copy = tmp_path / "copy"
  shutil.copytree(folder, copy)
  files = sorted(copy.iterdir())
  whole = RecordsSource(RecordsOptions(str(folder), split="train", held_out=0.3))
  documents = [plain(whole[i]) for i in range(len(whole))]
  assert documents
  refused = 0
  for _ in range(count):
    file = rng.choice(files)
    content = file.read_bytes()
    changed = mutate(content, rng)
    if rng.random() < 0.7:
      changed = resized(changed, len(content))
    file.write_bytes(changed)
    try:
      source = RecordsSource(RecordsOptions(str(copy), split="train", held_out=0.3))
      assert source.signature == whole.signature
      for i in range(len(source)):
        try:
          assert plain(source[i]) == documents[i]
        except DataError as error:
          assert "array_record" in str(error), error
          raise
    except DataError as error:
      assert str(copy) in str(error), error
      refused += 1
    file.write_bytes(content)
  assert refused > 0.4 * count  # much of a shard is padding, or of the other split


@pytest.mark.parametrize("count", COUNTS)
def test_records(count):
  """Without the container, whose own hashes would find most of this."""
  from unijax.data.record_bytes import pack as pack_record

  rng = random.Random(count)
  records = [pack_record(Numbered(4)[i], i, "me") for i in range(4)]
  whole = [plain(unpack(r, 0, "r", i, "me")) for i, r in enumerate(records)]
  for _ in range(count):
    i = rng.randrange(4)
    changed = mutate(records[i], rng)
    try:
      got = plain(unpack(changed, 0, "file, record 3", i, "me"))
      assert got == whole[i] and changed == records[i]
    except DataError as error:
      assert str(error).startswith("file, record 3: changed record")
      assert changed != records[i]


def planned(rng: random.Random) -> Windows:
  rows = [rng.randint(1, 200) for _ in range(40)]
  return Windows(rows, [50 * r for r in rows], [rng.getrandbits(32) for _ in rows])


@pytest.mark.parametrize("count", COUNTS)
def test_plans_on_disk(tmp_path, caplog, count):
  rng = random.Random(count)
  windows = planned(rng)
  PlanCache(tmp_path, "plan").save(windows, now=True)
  path = tmp_path / NAME
  content = path.read_bytes()
  for _ in range(count):
    changed = mutate(content, rng)
    path.write_bytes(changed)
    caplog.clear()
    read = PlanCache(tmp_path, "plan").read()
    if changed == content:
      assert read == windows
    else:
      assert len(read) == 0
      assert [r.getMessage() for r in caplog.records] == [
        f"{path} is damaged: the windows before the first row are planned again"
      ]


@pytest.mark.parametrize("count", COUNTS)
def test_lengths_given_to_the_packer(count):
  rng = random.Random(count)
  capacity, most = 60, 6
  junk = [0, -1, capacity + 1, 2**70, None, 3.0, "4", float("nan"), True, most + 1]
  for _ in range(count):
    n = rng.randint(0, 40)
    lengths = [rng.randint(1, capacity) for _ in range(n)]
    images = [rng.randint(0, most) for _ in range(n)]
    for _ in range(rng.randint(0, 2)):
      sizes = rng.choice([lengths, images])
      action = rng.randrange(3)
      if action == 0 and sizes:
        sizes[rng.randrange(len(sizes))] = rng.choice(junk)
      elif action == 1 and sizes:
        sizes.pop()
      else:
        sizes.append(rng.randint(1, 6))
    right = len(lengths) == len(images) and all(
      type(x) is int and low <= x <= high
      for sizes, low, high in ((lengths, 1, capacity), (images, 0, most))
      for x in sizes
    )
    try:
      rows = pack(lengths, images, capacity, most)
    except DataError as error:
      assert not right and "pack: " in str(error)
      continue
    assert right
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    for row in rows:
      assert sum(lengths[i] for i in row) <= capacity
      assert sum(images[i] for i in row) <= most


def test_a_plan_with_sizes_out_of_range_is_refused():
  plan = Plan(lambda n: (n, 0), window=4, capacity=2, most=1, seed=0)
  with pytest.raises(DataError, match="document 0 has 0 positions.*in .1, 2"):
    plan.documents(0)
