"""Law: no damage passes silently, and nothing is lost but the damaged checkpoint."""

import dataclasses
import json
import pathlib
import random
import shutil

import pytest

from tests.checkpoint.states import ABSTRACT, equal, files, make_run, state
from unijax.checkpoint import integrity
from unijax.checkpoint.errors import CheckpointError, DamagedError
from unijax.checkpoint.reader import Reader
from unijax.checkpoint.store import Store


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
  """A run with checkpoints 3 and 5; never changed."""
  return make_run(tmp_path_factory.mktemp("whole"), 3, 5)


@pytest.fixture
def run(whole, tmp_path) -> pathlib.Path:
  return shutil.copytree(whole, tmp_path / "run")


def names(whole) -> list[str]:
  found = sorted(files(whole / "checkpoints" / "5"))
  assert "manifest.json" in found and len(found) > 8
  return found


def restored(workdir, read_only=False):
  """(step of what came back, what was said)."""
  said = []
  store = Store(workdir, read_only=read_only, say=said.append)
  try:
    found = store.restore(ABSTRACT)
  finally:
    store.close()
  step = int(found.step)
  assert equal(found, state(step)), "a state that was never saved"
  return step, said


def check_damaged(whole, workdir, word) -> None:
  """5 is found damaged, named once, set aside; 3 is used and untouched."""
  before = files(workdir / "checkpoints" / "5")
  step, said = restored(workdir)
  assert step == 3
  assert len(said) == 1 and said[0].count("\n") == 0
  assert (
    said[0].startswith(f"checkpoint 5 of {workdir} is damaged (") and word in said[0]
  )
  assert said[0].endswith("using step 3 instead; the damaged one is kept as 5.damaged")
  assert files(workdir / "checkpoints" / "5.damaged") == before
  assert not (workdir / "checkpoints" / "5").exists()
  check_kept(whole, workdir)
  assert restored(workdir) == (3, [])


def check_kept(whole, workdir) -> None:
  assert files(workdir / "checkpoints" / "3") == files(whole / "checkpoints" / "3")


def test_one_byte_of_any_file(whole, tmp_path):
  rng, harmless = random.Random(0), 0
  for number, name in enumerate(names(whole)):
    size = (whole / "checkpoints" / "5" / name).stat().st_size
    for place in sorted({0, size // 2, size - 1, *rng.choices(range(size), k=3)}):
      workdir = shutil.copytree(whole, tmp_path / f"{number}-{place}")
      path = workdir / "checkpoints" / "5" / name
      content = bytearray(path.read_bytes())
      content[place] ^= 1 << rng.randrange(8)
      path.write_bytes(content)
      if name == "manifest.json" and says_the_same(whole, content):
        assert restored(workdir) == (5, [])
        harmless += 1
      else:
        check_damaged(whole, workdir, f"file {name} ")
      shutil.rmtree(workdir)
  assert harmless < 3  # white space of the manifest


def says_the_same(whole, content) -> bool:
  try:
    return json.loads(content) == json.loads(
      (whole / "checkpoints" / "5" / "manifest.json").read_text()
    )
  except ValueError:
    return False


@pytest.mark.parametrize(
  "how", ["empty", "half", "one byte less", "one more", "delete"]
)
def test_any_file_cut_grown_or_deleted(whole, tmp_path, how):
  for number, name in enumerate(names(whole)):
    workdir = shutil.copytree(whole, tmp_path / str(number))
    path = workdir / "checkpoints" / "5" / name
    content = path.read_bytes()
    changed = {
      "empty": b"", "half": content[: len(content) // 2],
      "one byte less": content.rstrip(b"\n")[:-1], "one more": content + b"x",
    }  # fmt: skip
    path.unlink() if how == "delete" else path.write_bytes(changed[how])
    check_damaged(whole, workdir, f"file {name} ")


def test_an_empty_directory(whole, run):
  shutil.rmtree(run / "checkpoints" / "5")
  (run / "checkpoints" / "5").mkdir()
  check_damaged(whole, run, "file manifest.json is missing")


def test_a_directory_where_a_file_was(whole, run):
  path = run / "checkpoints" / "5" / "state" / "_METADATA"
  path.unlink()
  path.mkdir()
  step, said = restored(run)
  assert step == 3 and "file state/_METADATA " in said[0]
  check_kept(whole, run)


def test_another_step_in_its_place(whole, run):
  shutil.rmtree(run / "checkpoints" / "5")
  shutil.copytree(run / "checkpoints" / "3", run / "checkpoints" / "5")
  check_damaged(whole, run, "manifest.json is of step 3")


def test_what_an_interrupted_save_leaves(whole, run):
  for name in ("7.tmp", "7.old.tmp"):
    shutil.copytree(run / "checkpoints" / "5", run / "checkpoints" / name)
    (run / "checkpoints" / name / "manifest.json").unlink()
  (run / "checkpoints" / "notes.tmp").mkdir()  # not ours
  assert restored(run, read_only=True) == (5, [])
  assert (run / "checkpoints" / "7.tmp").exists()
  assert restored(run) == (5, [])
  assert {p.name for p in (run / "checkpoints").iterdir()} == {"3", "5", "notes.tmp"}


def signed(folder: pathlib.Path) -> None:
  """Makes the manifest believe the files as they are now."""
  manifest = integrity.read_manifest(folder)
  found = integrity.hash_files(folder)
  integrity.write_manifest(folder, dataclasses.replace(manifest, files=found))


def test_wrong_numbers_in_sound_files_are_found_by_the_digest(whole, run):
  """As memory that flips a bit between device and disk would write them."""
  manifest = integrity.read_manifest(run / "checkpoints" / "5")
  three, five = (run / "checkpoints" / n / "state" for n in ("3", "5"))
  shutil.rmtree(five)
  shutil.copytree(three, five)
  integrity.write_manifest(run / "checkpoints" / "5", manifest)
  signed(run / "checkpoints" / "5")
  check_damaged(whole, run, "leaf ")


def test_reading_falls_back_and_changes_nothing(whole, run):
  (run / "checkpoints" / "5" / "manifest.json").unlink()
  before = sorted(run.rglob("*"))
  step, said = restored(run, read_only=True)
  assert step == 3 and said == [
    f"checkpoint 5 of {run} is damaged (file manifest.json is missing): "
    "using step 3 instead"
  ]
  assert sorted(run.rglob("*")) == before


def test_a_step_that_was_asked_for_is_not_replaced_by_another(run):
  (run / "checkpoints" / "5" / "manifest.json").unlink()
  reader = Reader(run)
  with pytest.raises(CheckpointError, match=r"5 of .* is damaged .*another of \[3\]"):
    reader.restore(ABSTRACT, 5)
  reader.close()


def test_none_left(run):
  for step in ("3", "5"):
    (run / "checkpoints" / step / "manifest.json").unlink()
  before = sorted(run.rglob("*"))
  for _ in range(2):  # nothing is set aside: a second start does not begin anew
    store = Store(run)
    with pytest.raises(
      DamagedError, match=r"no checkpoint .* whole \(step 5: file"
    ) as e:
      store.restore(ABSTRACT)
    assert e.value.exit_code == 3
    store.close()
  assert sorted(run.rglob("*")) == before


def test_a_second_damaged_checkpoint_of_the_same_step(run):
  (run / "checkpoints" / "5.damaged").mkdir()
  (run / "checkpoints" / "5" / "manifest.json").unlink()
  _, said = restored(run)
  assert said[0].endswith("the damaged one is kept as 5.damaged-2")


def test_a_file_one_may_not_read_is_not_damage(run, monkeypatch):
  def refused(path):  # root, as which tests may run, is never refused
    raise PermissionError(13, "Permission denied", str(path))

  before = sorted(run.rglob("*"))
  store = Store(run)
  with monkeypatch.context() as patched:
    patched.setattr(pathlib.Path, "read_bytes", refused)
    with pytest.raises(CheckpointError, match="may not be read: Permission denied"):
      store.restore(ABSTRACT)
  store.close()
  assert sorted(run.rglob("*")) == before
  assert restored(run) == (5, [])
