"""The weight reader returns the arrays and runs nothing a file asks for."""

import pickle
import struct

import numpy as np
import pytest

from unijax.codecs.legacy_pth import WeightsError, read_legacy_pth

MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
DATA = np.arange(12, dtype="<f4")


def constant(value):
  """The pickle opcodes that push a plain value."""
  return pickle.dumps(value, 2)[2:-1]


def name(module, attribute):
  return f"c{module}\n{attribute}\n".encode()


EMPTY_DICT = name("collections", "OrderedDict") + b")R"


def tensor(offset=0, shape=(3, 4), stride=(4, 1), storage=None):
  storage = storage or name("torch", "FloatStorage")
  pid = b"(" + constant("storage") + storage + constant("k") + constant("cpu")
  pid += constant(12) + constant(None) + b"tQ"
  arguments = pid + constant(offset) + constant(shape) + constant(stride)
  arguments += constant(False) + EMPTY_DICT
  return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def file(
  state=None, magic=0x1950A86A20F9469CFC6C, machine=MACHINE, data=DATA, count=12
):
  state = state or EMPTY_DICT + b"(" + constant("w") + tensor() + b"u"
  return (
    pickle.dumps(magic, 2)
    + pickle.dumps(1001, 2)
    + pickle.dumps(machine, 2)
    + b"\x80\x02"
    + state
    + b"."
    + pickle.dumps(["k"], 2)
    + struct.pack("<q", count)
    + data.tobytes()
  )


def read(tmp_path, content):
  path = tmp_path / "w.pth"
  path.write_bytes(content)
  return read_legacy_pth(path)


def entry(value):
  return EMPTY_DICT + b"(" + constant("w") + value + b"u"


def test_returns_the_arrays(tmp_path):
  weights = read(tmp_path, file())
  assert list(weights) == ["w"]
  np.testing.assert_array_equal(weights["w"], DATA.reshape(3, 4))
  column_order = read(tmp_path, file(entry(tensor(1, (2, 3), (1, 4)))))["w"]
  np.testing.assert_array_equal(column_order, DATA.reshape(3, 4)[:, 1:3].T)


@pytest.mark.parametrize(
  ("module", "attribute"),
  [
    ("os", "system"),
    ("posix", "system"),
    ("builtins", "eval"),
    ("builtins", "getattr"),
    ("collections", "Counter"),  # an allowed module, another name
    ("os", "OrderedDict"),  # an allowed name, another module
    ("torch", "_rebuild_tensor_v2"),
  ],
)
def test_runs_nothing(tmp_path, module, attribute):
  mark = tmp_path / "ran"
  call = name(module, attribute) + b"(" + constant(f"touch {mark}") + b"tR"
  for content in (
    file(entry(call)),  # as a weight
    b"\x80\x02" + call + b".",  # instead of the magic number
    file(entry(tensor(storage=name(module, attribute)))),  # as a storage type
  ):
    with pytest.raises(WeightsError, match=f"asks for {module}.{attribute}"):
      read(tmp_path, content)
  assert not mark.exists()


@pytest.mark.parametrize(
  "view",
  [
    dict(shape=(4, 4)),
    dict(offset=1),
    dict(offset=-1, shape=(2,), stride=(1,)),
    dict(shape=(2,), stride=(-1,)),
    dict(shape=(2,), stride=(10**12,)),
    dict(shape=(-3, -4)),
    dict(shape=(3, 4), stride=(4,)),
  ],
)
def test_never_reads_outside_a_storage(tmp_path, view):
  with pytest.raises(WeightsError, match="reaches outside its storage"):
    read(tmp_path, file(entry(tensor(**view))))


def test_says_what_is_wrong(tmp_path):
  with pytest.raises(WeightsError, match="no such file"):
    read_legacy_pth(tmp_path / "none.pth")
  with pytest.raises(WeightsError, match="wrong magic number"):
    read(tmp_path, file(magic=1))
  with pytest.raises(WeightsError, match="big-endian"):
    read(tmp_path, file(machine={**MACHINE, "little_endian": False}))
  with pytest.raises(WeightsError, match="cut short"):
    read(tmp_path, file()[:-1])
  with pytest.raises(WeightsError, match="cut short"):
    read(tmp_path, file(count=-1))
  for length in (0, 1, 40, 100, 200):
    with pytest.raises(WeightsError, match="w.pth"):
      read(tmp_path, file()[:length])
