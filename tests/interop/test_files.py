"""Published files are distrusted: whatever is wrong with one has a clear error."""

import json
import pathlib
import random

import numpy as np
import pytest

from unijax.checkpoint import safetensors
from unijax.checkpoint.errors import CheckpointError
from unijax.interop import files

ARRAYS = {
  "a": np.arange(6, dtype=np.float32).reshape(2, 3),
  "b": np.arange(4, dtype=np.float16),
  "empty": np.zeros((0, 3), np.float32),
  "scalar": np.float32(3.0),
}


def write(path, arrays=ARRAYS):
  forms = {n: (x.shape, x.dtype.name) for n, x in arrays.items()}
  safetensors.write(path, forms, arrays.items, {"format": "pt"})
  return path


def sharded(folder):
  """Two files and their index."""
  names = {"one": ["a", "empty"], "two": ["b", "scalar"]}
  for file, inside in names.items():
    write(folder / f"{file}.safetensors", {n: ARRAYS[n] for n in inside})
  placed = {n: f"{file}.safetensors" for file, inside in names.items() for n in inside}
  content = {"metadata": {"total_size": 36}, "weight_map": placed}
  (folder / "model.safetensors.index.json").write_text(json.dumps(content))
  return folder


def raw(path, header, data=b"", length=None):
  """A file with any header: text or JSON."""
  text = header if isinstance(header, bytes) else json.dumps(header).encode()
  length = len(text) if length is None else length
  path.write_bytes(length.to_bytes(8, "little") + text + data)
  return path


def entry(shape=(2,), place=(0, 8), dtype="F32"):
  return {"dtype": dtype, "shape": list(shape), "data_offsets": list(place)}


@pytest.mark.parametrize("way", ["file", "index", "folder", "folder of one"])
def test_names_shapes_and_numbers_are_read(way, tmp_path):
  path = {
    "file": lambda: write(tmp_path / "x.safetensors"),
    "index": lambda: sharded(tmp_path) / "model.safetensors.index.json",
    "folder": lambda: sharded(tmp_path),
    "folder of one": lambda: write(tmp_path / "odd.safetensors").parent,
  }[way]()
  found = files.open_weights(path)
  assert found.keys() == ARRAYS.keys()
  for name, x in ARRAYS.items():
    assert found[name].dtype == x.dtype
    np.testing.assert_array_equal(found[name].read(), x)


def test_numbers_of_eight_bits_and_of_bfloat16_are_read(tmp_path):
  for code in ("BF16", "F8_E4M3", "F8_E5M2"):
    kind = safetensors.BITS[code]
    x = np.float32([1.5, -0.25]).astype(kind)
    found = files.open_weights(write(tmp_path / "x.safetensors", {"x": x}))["x"]
    assert found.dtype == kind
    np.testing.assert_array_equal(found.read().astype(np.float32), [1.5, -0.25])


HEADERS = {
  "no JSON": (b"{not", b"", "JSON"),
  "not UTF-8": (b"\xff\xfe\xfd\xfc", b"", "JSON"),
  "deeply nested": (b"[" * 100_000, b"", "JSON"),
  "a list": ([], b"", "no JSON object"),
  "metadata that is no object": ({"__metadata__": 3}, b"", "__metadata__"),
  "a name twice": (
    b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},'
    b'"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', b"0" * 8, "'a' stands twice",
  ),
  "an unknown dtype": ({"a": entry(dtype="F4")}, b"0" * 8, "dtype 'F4'"),
  "a dtype that is a list": ({"a": entry(dtype=["F32"])}, b"0" * 8, "dtype"),
  "no shape": ({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, b"0" * 8, "'a' has no"),
  "an entry that is no object": ({"a": 7}, b"", "'a' has no"),
  "a negative size": ({"a": entry(shape=[-2])}, b"0" * 8, "shape"),
  "a size that is true": ({"a": entry(shape=[True, 2])}, b"0" * 8, "shape"),
  "a size that is no number": ({"a": entry(shape=["2"])}, b"0" * 8, "shape"),
  "an enormous size": ({"a": entry(shape=[2**60, 2**60])}, b"0" * 8, "shape"),
  "three offsets": ({"a": entry(place=[0, 8, 9])}, b"0" * 8, "data_offsets"),
  "offsets backwards": ({"a": entry(place=[8, 0])}, b"0" * 8, "8 bytes, and has -8"),
  "offsets out of range": ({"a": entry(place=[8, 16])}, b"0" * 8, "ends at byte"),
  "fewer bytes than numbers": ({"a": entry(place=[0, 4])}, b"0" * 4, "and has 4"),
  "arrays that overlap": (
    {"a": entry(), "b": entry(place=[4, 12])}, b"0" * 12, "'b' overlaps 'a'",
  ),
  "two arrays in one place": ({"a": entry(), "b": entry()}, b"0" * 8, "overlaps"),
  "a hole": ({"a": entry(), "b": entry(place=[12, 20])}, b"0" * 20, "leaves a hole"),
  "bytes at the end": ({"a": entry()}, b"0" * 12, "4 bytes at its end"),
}  # fmt: skip


@pytest.mark.parametrize("what", HEADERS)
def test_damaged_headers_are_named(what, tmp_path):
  header, data, said = HEADERS[what]
  path = raw(tmp_path / "x.safetensors", header, data)
  with pytest.raises(CheckpointError, match="x.safetensors") as error:
    files.open_weights(path)
  assert said in str(error.value)


@pytest.mark.parametrize("size", [0, 3, 8, 40])
def test_files_that_are_cut_off_are_named(size, tmp_path):
  path = write(tmp_path / "x.safetensors")
  path.write_bytes(path.read_bytes()[:size])
  with pytest.raises(CheckpointError, match="cut off"):
    files.open_weights(path)


def test_a_header_that_claims_the_memory_of_the_machine_is_not_read(tmp_path):
  path = raw(tmp_path / "x.safetensors", {}, length=2**62)
  with pytest.raises(CheckpointError, match="claims a header"):
    files.open_weights(path)


def test_a_file_that_shrinks_after_its_header_was_read_is_named(tmp_path):
  path = write(tmp_path / "x.safetensors")
  found = files.open_weights(path)
  path.write_bytes(path.read_bytes()[:16])
  with pytest.raises(CheckpointError, match="has changed"):
    found["a"].read()


def change(folder, **names):
  path = folder / "model.safetensors.index.json"
  content = json.loads(path.read_text())
  content["weight_map"] |= names
  path.write_text(json.dumps(content))


@pytest.mark.parametrize(
  "file",
  ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors", "..\\x.safetensors",
   "x.bin", "", 7, None, "a\0.safetensors", "x" * 300 + ".safetensors"],
)  # fmt: skip
def test_an_index_cannot_point_elsewhere(file, tmp_path):
  folder = sharded(tmp_path)
  write(tmp_path.parent / "secret.safetensors")
  change(folder, a=file)
  with pytest.raises(CheckpointError, match="it was not opened"):
    files.open_weights(folder)


def test_missing_and_mixed_shards_are_named(tmp_path):
  folder = sharded(tmp_path)
  (folder / "two.safetensors").rename(folder / "away")
  with pytest.raises(CheckpointError, match="two.safetensors. Fetch"):
    files.open_weights(folder)
  write(folder / "two.safetensors", {"b": ARRAYS["b"]})
  with pytest.raises(CheckpointError, match="scalar should be in two.safetensors"):
    files.open_weights(folder)
  write(folder / "two.safetensors", {n: ARRAYS[n] for n in ("a", "b", "scalar")})
  with pytest.raises(CheckpointError, match="a stands in two files"):
    files.open_weights(folder)
  write(folder / "two.safetensors", {"more": ARRAYS["b"], "scalar": ARRAYS["scalar"]})
  with pytest.raises(CheckpointError, match="two.safetensors holds more"):
    files.open_weights(folder)


@pytest.mark.parametrize(
  "content", [b"{", b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {}}', b"\xff"]
)
def test_damaged_indexes_are_named(content, tmp_path):
  folder = sharded(tmp_path)
  (folder / "model.safetensors.index.json").write_bytes(content)
  with pytest.raises(CheckpointError, match="index.json is damaged"):
    files.open_weights(folder)


@pytest.mark.parametrize("suffix", files.PICKLES)
def test_pickles_are_never_loaded(suffix, tmp_path):
  path = tmp_path / f"weights{suffix}"
  path.write_bytes(b"cos\nsystem\n(S'false'\ntR.")
  for asked in (path, tmp_path):
    with pytest.raises(CheckpointError, match="unijax ckpt convert .*weights"):
      files.open_weights(asked)


def test_folders_without_one_set_of_weights_are_named(tmp_path):
  with pytest.raises(CheckpointError, match="no such file"):
    files.open_weights(tmp_path / "nothing")
  with pytest.raises(CheckpointError, match="holds no .safetensors"):
    files.open_weights(tmp_path)
  write(tmp_path / "one.safetensors")
  write(tmp_path / "two.safetensors")
  with pytest.raises(CheckpointError, match="several sets .*one.safetensors, two"):
    files.open_weights(tmp_path)
  (tmp_path / "x.gguf").write_bytes(b"")
  with pytest.raises(CheckpointError, match="neither .safetensors"):
    files.open_weights(tmp_path / "x.gguf")


# -- fuzz ----------------------------------------------------------------------------------

WORDS = [
  b"0", b"-1", b"9" * 30, b"1e5", b"null", b"true", b"[]", b"{}", b'"F32"', b'"BOOL"',
  b'"../x.safetensors"', b"[1,2]", b'"\\ud800"', b"\xff", b"NaN",
]  # fmt: skip


def damaged(data: bytes, rng: random.Random) -> bytes:
  """Bytes with some flips, cuts, copies or words in them."""
  data = bytearray(data)
  for _ in range(rng.randint(1, 4)):
    at = rng.randrange(max(len(data), 1))
    kind = rng.randrange(5)
    if kind == 0 and data:
      data[at] ^= 1 << rng.randrange(8)
    elif kind == 1:
      del data[at : at + rng.randint(1, 12)]
    elif kind == 2:
      data[at:at] = data[at : at + rng.randint(1, 40)]
    elif kind == 3:
      data[at : at + rng.randint(0, 8)] = rng.choice(WORDS)
    elif data:
      data[at] = rng.randrange(256)
  return bytes(data)


def fuzz(folder: pathlib.Path, cases: range) -> int:
  """Damages a header or an index; returns how many files were refused.

  What is read in spite of it must be inside of its file, and readable.
  """
  sharded(folder)
  names = ["one.safetensors", "two.safetensors", "model.safetensors.index.json"]
  whole = {name: (folder / name).read_bytes() for name in names}
  refused = 0
  for seed in cases:
    rng = random.Random(seed)
    name = rng.choice(names)
    data = whole[name]
    if name.endswith(".safetensors"):
      end = 8 + int.from_bytes(data[:8], "little")
      text = damaged(data[8:end], rng)
      start = len(text).to_bytes(8, "little")
      if rng.random() < 0.2:
        start = damaged(start, rng)
      data = start + text + data[end:]
    else:
      data = damaged(data, rng)
    (folder / name).write_bytes(data)
    try:
      for x in files.open_weights(folder).values():
        assert x.path.parent == folder
        assert x.read().shape == x.shape
    except CheckpointError as error:
      refused += 1
      assert str(folder) in str(error)
    (folder / name).write_bytes(whole[name])
  return refused


def test_damage_never_crashes(tmp_path):
  assert fuzz(tmp_path, range(200)) > 100


@pytest.mark.slow
def test_much_damage_never_crashes(tmp_path):
  assert fuzz(tmp_path, range(10_000)) > 5_000
