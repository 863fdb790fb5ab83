"""Laws of where training starts, and of taking parameters from another run."""

import re
import shutil

import jax
import jax.numpy as jnp
import pytest

from tests.checkpoint.states import equal, make_run, state
from unijax.checkpoint import fits, start
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.start import Start, first_state, parse_init, renamed
from unijax.checkpoint.store import Store


@pytest.fixture(scope="module")
def other(tmp_path_factory):
  """Another run, with steps 3 and 5."""
  return make_run(tmp_path_factory.mktemp("other"), 3, 5)


def begin(workdir, options, init=lambda: state(0)):
  said = []
  store = Store(workdir, say=said.append)
  try:
    abstract = fits.abstract_state(init)
    return *first_state(store, init, abstract, options), said
  finally:
    store.close()


def test_the_order(tmp_path, other):
  run = make_run(tmp_path / "run", 7)
  everything = Start(resume_from=f"{other}@3")
  found, how, _ = begin(run, everything)
  assert equal(found, state(7)) and how == f"resumed {run} at step 7"
  found, how, _ = begin(tmp_path / "a", everything)
  assert equal(found, state(3)) and how == f"the whole state of {other} at step 3"
  found, _, _ = begin(tmp_path / "b", Start(resume_from=str(other)))
  assert equal(found, state(5))
  found, how, _ = begin(tmp_path / "c", Start(init_from=str(other)))
  assert how == f"2 of 2 parameters of {other} at step 5"
  found, how, _ = begin(tmp_path / "d", Start())
  assert equal(found, state(0)) and how == "from scratch"


def test_never_and_must(tmp_path):
  run = make_run(tmp_path / "run", 7)
  with pytest.raises(
    CheckpointError, match=r"has checkpoints \[7\] and --resume=never"
  ):
    begin(run, Start(resume="never"))
  with pytest.raises(CheckpointError, match="has no checkpoint and --resume=must"):
    begin(tmp_path / "new", Start(resume="must"))
  assert equal(begin(run, Start(resume="must"))[0], state(7))
  assert equal(begin(tmp_path / "new", Start(resume="never"))[0], state(0))


def test_what_cannot_be_asked_for(tmp_path, other):
  with pytest.raises(CheckpointError, match="--resume-from or --init-from, not both"):
    Start(resume_from="a", init_from="b")
  with pytest.raises(CheckpointError, match="--resume=maybe: must be one of auto"):
    Start(resume="maybe")
  with pytest.raises(CheckpointError, match="--init-allow=all: must be one of missing"):
    Start(init_allow=("all",))
  with pytest.raises(CheckpointError, match="holds no run"):
    begin(tmp_path / "run", Start(init_from=str(tmp_path / "none")))
  with pytest.raises(CheckpointError, match=r"has not step 4: it has steps \[3, 5\]"):
    begin(tmp_path / "run", Start(init_from=f"{other}@4"))
  with pytest.raises(CheckpointError, match=r"'\(' is no regex"):
    parse_init(f"{other}:(=>x")
  with pytest.raises(CheckpointError, match="'a' has no '=>'"):
    parse_init(f"{other}:a")


def test_parameters_are_taken_and_nothing_else(tmp_path, other):
  found, _, said = begin(tmp_path / "run", Start(init_from=f"{other}@3"))
  assert equal(found.params, state(3).params)
  assert equal(found.ema_params, state(3).params)
  assert equal(found.opt_state, state(0).opt_state) and int(found.step) == 0
  pointers = lambda tree: {x.unsafe_buffer_pointer() for x in jax.tree.leaves(tree)}
  assert not pointers(found.params) & pointers(found.ema_params)  # both are donated
  assert said == [f"parameters of {other} at step 3: 0 missing, 0 unexpected, 0 misfit"]


def larger():
  """A state whose parameters differ: b.c is renamed, a is wider, d is new."""
  base = state(1)
  params = {"a": jnp.ones((4, 9)), "b": {"new": jnp.ones(5)}, "d": jnp.ones(2)}
  return base.replace(params=params, ema_params=params)


def test_what_does_not_fit_is_refused_with_a_report(tmp_path, other):
  with pytest.raises(CheckpointError) as error:
    begin(tmp_path / "run", Start(init_from=str(other)), larger)
  assert str(error.value).splitlines() == [
    f"parameters of {other} at step 5: 2 missing, 1 unexpected, 1 misfit",
    "  b.new: nothing there",
    "  d: nothing there",
    "  b.c: nothing here",
    "  a: float32[4, 8] there, float32[4, 9] here",
    "Rename with --init-from=PATH:REGEX=>NAME,.. (an empty NAME leaves parameters out), "
    "or accept with --init-allow=missing,unexpected,misfit",
  ]


def test_what_is_allowed_stays_fresh(tmp_path, other):
  rules = r":b\.(.*)=>b.new"
  for allow in ((), ("missing",), ("misfit",), ("unexpected", "misfit")):
    with pytest.raises(CheckpointError, match="1 missing, 0 unexpected, 1 misfit"):
      begin(
        tmp_path / "run", Start(init_from=f"{other}{rules}", init_allow=allow), larger
      )
  options = Start(init_from=f"{other}{rules}", init_allow=("missing", "misfit"))
  found, how, said = begin(tmp_path / "run", options, larger)
  assert how.startswith("1 of 3 parameters") and "d: nothing there" in said[0]
  want = {**larger().params, "b": {"new": state(5).params["b"]["c"]}}
  assert equal(found.params, want) and equal(found.ema_params, want)


def test_one_parameter_may_fill_two(tmp_path, other):
  """As a dense model fills the copies of one that has a copy for each modality."""

  def twice():
    base = state(1)
    params = {"a": base.params["a"], "b": {"c": {n: jnp.ones(5) for n in "xy"}}}
    return base.replace(params=params, ema_params=params)

  options = Start(init_from=rf"{other}:b\.c=>b.c.x|b.c.y")
  found, how, _ = begin(tmp_path / "run", options, twice)
  c = state(5).params["b"]["c"]
  assert equal(found.params, {"a": state(5).params["a"], "b": {"c": {"x": c, "y": c}}})
  assert how.startswith("3 of 3 parameters")
  x, y = jax.tree.leaves(found.params["b"])
  assert x.unsafe_buffer_pointer() != y.unsafe_buffer_pointer()  # both are donated


def test_renaming():
  names = ["blocks.0.w", "blocks.1.w", "head"]
  rule = lambda a, b: (re.compile(a), b)
  assert renamed(names, [rule(r"blocks\.(\d)\.w", r"layers.\1.kernel")]) == {
    "layers.0.kernel": "blocks.0.w", "layers.1.kernel": "blocks.1.w", "head": "head",
  }  # fmt: skip
  assert renamed(names, [rule("head", ""), rule(".*0.*", "y")]) == {
    "y": "blocks.0.w", "blocks.1.w": "blocks.1.w",
  }  # fmt: skip
  assert renamed(["w"], [rule("(w)", r"\1.text|\1.image")]) == {
    "w.text": "w", "w.image": "w",
  }  # fmt: skip
  with pytest.raises(CheckpointError, match="w and w both become x"):
    renamed(["w"], [rule("w", "x|x")])
  with pytest.raises(CheckpointError, match="'hea' matches no parameter; they are:"):
    renamed(names, [rule("hea", "x")])  # the whole name has to match
  with pytest.raises(CheckpointError, match="blocks.0.w and blocks.1.w both become x"):
    renamed(names, [rule("blocks.*", "x")])
  with pytest.raises(CheckpointError, match="invalid group reference"):
    renamed(names, [rule("head", r"\2")])
  path, rules = parse_init(r"run@4:a\x2cb=>c,d=>")
  assert path == "run@4"
  assert [(r.pattern, name) for r, name in rules] == [(r"a\x2cb", "c"), ("d", "")]
  assert rules[0][0].fullmatch("a,b")


def test_a_damaged_source_falls_back_and_is_left_alone(tmp_path, other):
  copy = shutil.copytree(other, tmp_path / "copy")
  (copy / "checkpoints" / "5" / "manifest.json").unlink()
  found, _, said = begin(tmp_path / "run", Start(init_from=str(copy)))
  assert equal(found.params, state(3).params)
  assert "checkpoint 5 of" in said[0] and "using step 3 instead" in said[0]
  assert (copy / "checkpoints" / "5").is_dir()


def test_where_a_run_is_said(tmp_path, other):
  assert start.open_run(str(other))[1] is None
  at = make_run(tmp_path / "run@home", 1)  # an @ in its name
  reader, step = start.open_run(str(at))
  assert reader.workdir == at and step is None
  reader.close()
