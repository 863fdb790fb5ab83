"""PyTorch files give their tensors, and nothing else of them is ever run."""

import json
import pickle
import zipfile

import numpy as np
import pytest

from tests.codecs.test_legacy_pth import EMPTY_DICT, constant, file, name
from unijax.checkpoint.errors import CheckpointError
from unijax.interop import files, torch_file

DATA = np.arange(12, dtype="<f4")


def tensor(
  key="0", shape=(3, 4), stride=(4, 1), kind="FloatStorage", count=12, offset=0
):
  """The pickle opcodes of a tensor of the newer format."""
  pid = b"(" + constant("storage") + name("torch", kind) + constant(key)
  pid += constant("cpu") + constant(count) + b"tQ"
  arguments = pid + constant(offset) + constant(shape) + constant(stride)
  arguments += constant(False) + EMPTY_DICT
  return name("torch._utils", "_rebuild_tensor_v2") + b"(" + arguments + b"tR"


def parameter():
  arguments = tensor() + constant(True) + EMPTY_DICT
  return name("torch._utils", "_rebuild_parameter") + b"(" + arguments + b"tR"


def state(**values):
  return EMPTY_DICT + b"(" + b"".join(constant(k) + v for k, v in values.items()) + b"u"


RAW = DATA.tobytes()


def archive(path, content, data=RAW, order=b"little", top="archive"):
  with zipfile.ZipFile(path, "w") as made:
    made.writestr(f"{top}/data.pkl", b"\x80\x02" + content + b".")
    made.writestr(f"{top}/byteorder", order)
    made.writestr(f"{top}/data/0", data)
  return path


@pytest.mark.parametrize(
  "content",
  [state(w=tensor()), state(w=parameter()), state(state_dict=state(w=tensor()),
   step=constant(7))],
  ids=["dict", "parameter", "nested"],
)  # fmt: skip
def test_tensors_are_converted(content, tmp_path):
  path = archive(tmp_path / "x.ckpt", content)
  torch_file.convert(path, tmp_path / "x.safetensors")
  found = files.open_weights(tmp_path / "x.safetensors")
  np.testing.assert_array_equal(found["w"].read(), DATA.reshape(3, 4))


def test_an_index_of_several_files_is_converted(tmp_path):
  for i in (1, 2):
    archive(tmp_path / f"part-{i}.bin", state(**{f"w{i}": tensor()}))
  index, out = (
    tmp_path / "x.bin.index.json",
    tmp_path / "to/model.safetensors.index.json",
  )
  names = {"w1": "part-1.bin", "w2": "part-2.bin"}

  def convert(**more):
    index.write_text(json.dumps({"weight_map": names | more}))
    return torch_file.convert(index, out)

  for more, said in (
    ({"w3": "part-3.bin"}, "1 are missing: part-3.bin"),
    ({"w3": "part-2.bin"}, "disagree about w3"),
    ({"w3": "../x.bin"}, "points to '../x.bin'"),
    ({"w3": "x.safetensors"}, "points to 'x.safetensors'"),
  ):
    with pytest.raises(CheckpointError, match=said):
      convert(**more)
    assert not out.exists()
  assert convert() == (2, 2 * DATA.nbytes)
  found = files.open_weights(out.parent)
  for each in names:
    np.testing.assert_array_equal(found[each].read(), DATA.reshape(3, 4))
  with pytest.raises(CheckpointError, match="name a file .safetensors.index.json"):
    torch_file.convert(index, tmp_path / "x.safetensors")


def test_views_and_narrow_numbers_are_read(tmp_path):
  turned = state(w=tensor(shape=(4, 3), stride=(1, 4)))
  found = torch_file.read(archive(tmp_path / "x.pth", turned))
  np.testing.assert_array_equal(found["w"], DATA.reshape(3, 4).T)
  half = state(w=tensor(kind="BFloat16Storage", shape=(2,), stride=(1,), count=2))
  data = np.uint16([0x3FC0, 0xBE80]).tobytes()
  found = torch_file.read(archive(tmp_path / "y.pth", half, data))
  assert found["w"].astype(float).tolist() == [1.5, -0.25]


def test_files_of_before_torch_1_6_are_read(tmp_path):
  (tmp_path / "x.pth").write_bytes(file())
  found = torch_file.read(tmp_path / "x.pth")
  np.testing.assert_array_equal(found["w"], DATA.reshape(3, 4))


SYSTEM = name("os", "system") + b"(" + constant("touch ran") + b"tR"
REFUSED = {
  "a call": (dict(content=state(w=SYSTEM)), "os.system"),
  "a call beside the tensors": (
    dict(content=state(state_dict=state(w=tensor()), x=SYSTEM)), "os.system",
  ),
  "something that is no tensor": (dict(content=state(w=constant(3))), "'w', a int"),
  "no dict": (dict(content=constant(3)), "holds a int"),
  "no tensors": (dict(content=EMPTY_DICT), "holds no tensors"),
  "a storage that is cut short": (
    dict(content=state(w=tensor()), data=DATA.tobytes()[:40]), "cut short",
  ),
  "a tensor outside of its storage": (
    dict(content=state(w=tensor(offset=4))), "reaches outside",
  ),
  "a tensor that fills memory": (
    dict(content=state(w=tensor(shape=(10**6, 10**6), stride=(0, 0)))), "reaches outside",
  ),
  "a missing storage": (dict(content=state(w=tensor(key="9"))), "archive/data/9"),
  "another byte order": (dict(content=state(w=tensor()), order=b"big"), "big-endian"),
  "a damaged pickle": (dict(content=b"\xff\xff"), "is damaged"),
}  # fmt: skip


@pytest.mark.parametrize("what", REFUSED)
def test_all_else_is_refused_and_not_run(what, tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  options, said = REFUSED[what]
  path = archive(tmp_path / "x.pth", **options)
  with pytest.raises(CheckpointError, match="x.pth") as error:
    torch_file.convert(path, tmp_path / "out.safetensors")
  assert said in str(error.value)
  assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_files_of_another_kind_are_named(tmp_path):
  with pytest.raises(CheckpointError, match="no such file"):
    torch_file.read(tmp_path / "none.pth")
  (tmp_path / "x.pth").write_bytes(pickle.dumps({"a": 1}))
  with pytest.raises(CheckpointError, match="x.pth"):
    torch_file.read(tmp_path / "x.pth")
  with zipfile.ZipFile(tmp_path / "y.pth", "w") as made:
    made.writestr("notes.txt", "hello")
  with pytest.raises(CheckpointError, match="no data.pkl"):
    torch_file.read(tmp_path / "y.pth")
  with pytest.raises(CheckpointError, match="name a file .safetensors"):
    torch_file.convert(tmp_path / "x.pth", tmp_path / "x.npz")
