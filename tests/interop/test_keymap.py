"""The table of keys: what each line means, what is refused, and that all goes back."""

import math

import numpy as np
import pytest

from tests.interop.keys import Form
from unijax.checkpoint.errors import CheckpointError
from unijax.interop import matching, ops, stream
from unijax.interop.keymap import Drop, Key, Table

N, D, H, G, K = 3, 4, 4, 2, 6  # layers, width, heads, grouped heads, width of a head
OPS = {
  "copy": (ops.COPY, (5, 3)), "linear": (ops.LINEAR, (5, 3)),
  "conv": (ops.CONV, (3, 3, 4, 5)), "conv 1x1": (ops.CONV, (1, 1, 4, 5)),
  "conv of three axes": (ops.CONV, (2, 3, 3, 4, 5)),
  "matrix for 1x1": (ops.CONV_OR_LINEAR, (1, 1, 4, 5)),
  "patches": (ops.Patches(3), (12, 5)), "films": (ops.Patches(3, 2), (24, 5)),
  "patches of a matrix": (ops.Patches(3, flat=True), (12, 5)), "ones": (ops.Ones(2, ops.LINEAR), (5, 3)),
  "behind": (ops.Ones(2, ops.LINEAR, behind=True), (5, 3)), "a frame behind": (ops.Ones(1, ops.CONV, behind=True), (1, 1, 4, 5)),
  "front": (ops.Front(2, ops.LINEAR), (1, 1, 5, 3)),
  "repeated": (ops.Repeated(1, ops.RopePairs(4)), (1, 4)),
  "scalar": (ops.Ones(1), ()), "plus": (ops.Plus(1.0), (5,)),
  "rope": (ops.RopePairs(4, ops.LINEAR), (5, 8)), "rope of a scale": (ops.RopePairs(4), (4,)),
  "chunks": (ops.Chunks((1, 2, 0), ops.LINEAR), (5, 9)),
  "part": (ops.Part(0, ops.LINEAR), (5, 3)), "whole": (ops.WHOLE, ()),
  "linear as 1x1": (ops.Linear(conv=True), (5, 3)),
  "negative": (ops.Negative(ops.LINEAR), (5, 3)),
  "shuffled": (ops.Shuffled(3, ops.LINEAR), (5, 12)),
}  # fmt: skip


@pytest.mark.parametrize("name", OPS)
def test_every_operation_goes_back(name):
  op, shape = OPS[name]
  ours = np.arange(math.prod(shape), dtype=np.float32).reshape(shape)
  theirs = op.back(ours)
  assert theirs.shape == op.shapes(shape)[0]
  np.testing.assert_array_equal(op.into(theirs), ours)
  for other in op.shapes(shape)[1:]:
    np.testing.assert_array_equal(op.into(theirs.reshape(other)), ours)


def test_operations_do_what_they_say():
  matrix = np.arange(6).reshape(2, 3)
  assert (ops.LINEAR.into(matrix) == matrix.T).all()
  conv = np.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
  assert ops.CONV.into(conv)[1, 0, 2, 1] == conv[1, 2, 1, 0]
  assert ops.Patches(3).into(conv)[(1 * 2 + 0) * 3 + 2, 1] == conv[1, 2, 1, 0]
  flat = ops.Patches(3, flat=True).into(conv.reshape(2, 12))
  assert (flat == ops.Patches(3).into(conv)).all()
  heads = np.arange(8)  # two heads of two pairs: (0 1) (2 3), (4 5) (6 7)
  assert ops.RopePairs(4).into(heads).tolist() == [0, 2, 1, 3, 4, 6, 5, 7]
  assert ops.Chunks((1, 0)).into(np.arange(4)).tolist() == [2, 3, 0, 1]
  assert ops.Shuffled(2).into(np.arange(6)).tolist() == [0, 3, 1, 4, 2, 5]
  assert ops.Negative().into(np.arange(2)).tolist() == [0, -1]
  assert ops.Plus(1.0).into(np.float32([0.5])).tolist() == [1.5]


TABLE = Table(
  keys=(
    Key("embedding/table", "<text>embed.weight"),
    Key("blocks/q/kernel", "<text>layers.{i}.qkv.weight", ops.Part(0, ops.LINEAR)),
    Key("blocks/k/kernel", "<text>layers.{i}.qkv.weight", ops.Part(1, ops.LINEAR)),
    Key("blocks/v/kernel", "<text>layers.{i}.qkv.weight", ops.Part(2, ops.LINEAR)),
    Key("blocks/norm/scale", ("<text>layers.{i}.norm.weight", "<text>layers.{i}.ln.g")),
    Key("experts/up", "<text>layers.{2*i+1}.experts.{e}.up.weight", ops.LINEAR),
    Key("up{l}/kernel", "up.{~l}.weight", ops.LINEAR),
    Key("head/kernel", "head.weight", ops.LINEAR),
  ),
  prefixes={"text": ("model.", "lm.model.")},
  drops=(
    Drop("<text>rope.freqs", lambda shape: np.arange(shape[0]) / 2),
    Drop("<text>layers.{i}.position_ids"),
    Drop("optimizer.*"),
  ),
)
OURS = {
  "embedding/table": Form((7, D)), "blocks/q/kernel": Form((N, D, H * K)),
  "blocks/k/kernel": Form((N, D, G * K)), "blocks/v/kernel": Form((N, D, G * K)),
  "blocks/norm/scale": Form((N, D)), "experts/up": Form((N, 2, D, 5)),
  "up0/kernel": Form((2, 3)), "up1/kernel": Form((2, 3)), "up2/kernel": Form((2, 3)),
}  # fmt: skip


class Numbers(Form):
  """An array as `safetensors.Entry` hands it out."""

  def __init__(self, array):
    super().__init__(array.shape)
    self.dtype, self._array = array.dtype, array

  def read(self):
    return self._array


def release(prefix="model.", norm="norm.weight"):
  """A file that fits: every number says where it is from."""
  rng = np.random.default_rng(0)
  names = {f"{prefix}embed.weight": (7, D)}
  for i in range(N):
    names[f"{prefix}layers.{i}.qkv.weight"] = ((H + 2 * G) * K, D)
    names[f"{prefix}layers.{i}.{norm}"] = (D,)
    for e in range(2):
      names[f"{prefix}layers.{2 * i + 1}.experts.{e}.up.weight"] = (5, D)
    names[f"up.{i}.weight"] = (3, 2)
  return {n: Numbers(rng.normal(size=s).astype(np.float32)) for n, s in names.items()}


def leaves(match, theirs):
  return {n: np.asarray(x) for n, x in stream.read(match.pieces, theirs, OURS)}


@pytest.mark.parametrize("prefix", ["model.", "lm.model."])
@pytest.mark.parametrize("norm", ["norm.weight", "ln.g"])
def test_every_number_comes_to_its_place(prefix, norm):
  theirs = release(prefix, norm)
  match = matching.match(TABLE, OURS, theirs)
  assert match.report.fits, match.report.text()
  assert match.report.consumed == sorted(theirs)
  found = leaves(match, theirs)
  qkv = theirs[f"{prefix}layers.1.qkv.weight"].read()
  np.testing.assert_array_equal(found["blocks/q/kernel"][1], qkv[: H * K].T)
  np.testing.assert_array_equal(found["blocks/v/kernel"][1], qkv[(H + G) * K :].T)
  up = theirs[f"{prefix}layers.5.experts.1.up.weight"].read()
  np.testing.assert_array_equal(found["experts/up"][2, 1], up.T)
  np.testing.assert_array_equal(found["up0/kernel"], theirs["up.2.weight"].read().T)


def test_a_name_may_have_its_own_operation():
  """The same weights fused in one layout and apart in another."""
  fused = lambda part: ("qk.weight", ops.Part(part, ops.LINEAR))
  table = Table((
    Key("q", ("q.weight", fused(0)), ops.LINEAR),
    Key("k", ("k.weight", fused(1)), ops.LINEAR),
  ))  # fmt: skip
  ours = {"q": Form((2, 4)), "k": Form((2, 3))}
  whole = np.arange(14, dtype=np.float32).reshape(7, 2)
  apart = {"q.weight": Numbers(whole[:4]), "k.weight": Numbers(whole[4:])}
  for theirs in (apart, {"qk.weight": Numbers(whole)}):
    match = matching.match(table, ours, theirs)
    assert match.report.fits, match.report.text()
    found = dict(stream.read(match.pieces, theirs, ours))
    np.testing.assert_array_equal(found["q"], whole[:4].T)
    np.testing.assert_array_equal(found["k"], whole[4:].T)
  assert set(matching.plan(table, ours)) == {"q.weight", "k.weight"}


def test_what_is_written_is_what_was_read():
  theirs = release("lm.model.", "ln.g")
  found = leaves(matching.match(TABLE, OURS, theirs), theirs)
  back = dict(stream.arrays(matching.plan(TABLE, OURS), found.__getitem__))
  canonical = release()  # the same numbers under the first names
  assert back.keys() == canonical.keys()
  for name, x in canonical.items():
    np.testing.assert_array_equal(back[name], x.read(), err_msg=name)


def test_all_that_is_wrong_is_listed_at_once():
  theirs = release()
  theirs["model.extra.weight"] = Form((2,))
  theirs["optimizer.state.3"] = Form((9,))
  theirs["model.layers.1.position_ids"] = Form((9,))
  del theirs["up.1.weight"]
  theirs["model.layers.2.norm.weight"] = Form((D + 1,))
  theirs["model.layers.0.ln.g"] = Form((D,))
  report = matching.match(TABLE, OURS, theirs).report
  assert not report.fits
  assert report.unknown == ["model.extra.weight", "model.layers.0.ln.g",
                            "model.layers.0.norm.weight"]  # fmt: skip
  assert report.dropped == ["model.layers.1.position_ids", "optimizer.state.3"]
  assert report.missing == ["up.1.weight: for up1/kernel"]
  text = report.text()
  assert "both are there for blocks/norm/scale[0]" in text
  assert f"float32[{D + 1}] in the file, [{D}] wanted for blocks/norm/scale[2]" in text
  assert "2 dropped, 3 unknown, 1 missing, 2 misfit" in text


def test_fused_weights_of_another_split_are_a_misfit():
  theirs = release()
  theirs["model.layers.0.qkv.weight"] = Form((H * K, D))
  report = matching.match(TABLE, OURS, theirs).report
  assert report.misfit == [
    f"model.layers.0.qkv.weight: float32[{H * K}, {D}] in the file, "
    f"[48, {D}] or [48, {D}, 1, 1] wanted for blocks/q/kernel[0]"
  ]


def test_whole_numbers_do_not_become_weights():
  theirs = release()
  theirs["up.0.weight"] = Numbers(np.zeros((3, 2), np.int32))
  assert "int32" in matching.match(TABLE, OURS, theirs).report.misfit[0]


def test_a_leaf_that_no_key_fills_is_missing():
  report = matching.match(TABLE, {**OURS, "new/bias": Form((3,))}, release()).report
  assert report.missing == ["new/bias: no key of the table fills it"]
  with pytest.raises(CheckpointError, match="new/bias"):
    matching.plan(TABLE, {**OURS, "new/bias": Form((3,))})
  with pytest.raises(CheckpointError, match="cannot be .* of up0/kernel"):
    matching.plan(TABLE, {**OURS, "up0/kernel": Form((2, 3, 1, 1, 1))})


def test_tables_that_use_numbers_twice_are_refused():
  twice = Table((Key("a", "x"), Key("b", "x")))
  ours = {"a": Form((2,)), "b": Form((2,))}
  with pytest.raises(CheckpointError, match="x is wanted by a, b"):
    matching.match(twice, ours, {"x": Form((2,))})
  with pytest.raises(CheckpointError, match="a has two keys"):
    matching.match(Table((Key("a", "x"), Key("a", "y"))), {"a": Form((2,))}, {})


def test_dropped_tables_must_hold_their_formula():
  theirs = {"model.rope.freqs": Numbers(np.float32([0, 0.5, 1]))}
  stream.check_dropped(TABLE, list(theirs), theirs)
  theirs = {"model.rope.freqs": Numbers(np.float32([0, 0.5, 1.1]))}
  with pytest.raises(CheckpointError, match="rope.freqs holds other numbers"):
    stream.check_dropped(TABLE, list(theirs), theirs)


def test_each_device_reads_its_own_part():
  """The stretches that shards ask for, in place of the whole leaf."""
  theirs = release()
  match = matching.match(TABLE, OURS, theirs)
  for leaf, parts in match.pieces.items():
    want = OURS[leaf]
    whole = stream._local(parts, theirs, want, tuple(map(slice, want.shape)))
    half = tuple(slice(n // 2, n) for n in want.shape)
    part = stream._local(parts, theirs, want, half)
    np.testing.assert_array_equal(part, whole[half])
