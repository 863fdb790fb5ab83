"""`unijax ckpt` as a person uses it."""

import json
import pathlib
import shutil

import numpy as np
import pytest

from tests.checkpoint.states import equal, make_run, state
from unijax import cli
from unijax.checkpoint.store import Store


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
  return make_run(tmp_path_factory.mktemp("whole"), 3, 5)


@pytest.fixture
def run(whole, tmp_path) -> pathlib.Path:
  return shutil.copytree(whole, tmp_path / "run")


def ckpt(capsys, *argv) -> tuple[dict, str]:
  """Runs an action; returns its RESULT and all that it printed."""
  cli.main(["ckpt", *map(str, argv)])
  out = capsys.readouterr().out
  *shown, last = out.rstrip("\n").split("\n")
  assert last.startswith("RESULT ")
  return json.loads(last.removeprefix("RESULT ")), "\n".join(shown)


def refuse(capsys, code, *argv) -> str:
  with pytest.raises(SystemExit) as exit_:
    cli.main(["ckpt", *map(str, argv)])
  assert exit_.value.code == code
  return capsys.readouterr().err


def damage(run, step="5") -> None:
  path = next((run / "checkpoints" / step / "state" / "d").iterdir())
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def test_ls_and_verify(run, capsys):
  result, shown = ckpt(capsys, "ls", run)
  assert [(c["step"], c["ok"]) for c in result["checkpoints"]] == [(3, True), (5, True)]
  assert shown.count("  ok") == 2
  result, shown = ckpt(capsys, "verify", run)
  assert result["verified"] == [3, 5] and shown.count("every digest holds") == 2
  damage(run)
  before = sorted(run.rglob("*"))
  result, shown = ckpt(capsys, "ls", run)
  assert [c["ok"] for c in result["checkpoints"]] == [True, False]
  assert "damaged: file state/d/" in shown
  assert "1 of 2 checkpoints" in refuse(capsys, 3, "verify", run)
  assert ckpt(capsys, "verify", f"{run}@3")[0]["verified"] == [3]
  assert "has not" in refuse(capsys, 2, "verify", f"{run}@4")
  assert sorted(run.rglob("*")) == before


def test_diff(run, capsys):
  result, shown = ckpt(capsys, "diff", f"{run}@3", f"{run}@3")
  assert result["config"] == result["structure"] == [] and result["numbers"] == {}
  result, shown = ckpt(capsys, "diff", f"{run}@3", run)
  x, y = (np.asarray(state(s).params["a"]) for s in (3, 5))
  want = np.abs(x - y).max() / max(np.abs(x).max(), np.abs(y).max())
  assert result["numbers"]["params.a"] == pytest.approx(want, rel=1e-6)
  assert result["numbers"]["step"] == pytest.approx(2 / 5)
  assert "opt_state.none" not in result["numbers"] and not result["structure"]
  other = make_run(run.parent / "other", 3)
  store = Store(other)
  wide = state(3).replace(params={"a": np.zeros((4, 9), np.float32)})
  store.save(wide, 4)
  store.close()
  result, _ = ckpt(capsys, "diff", f"{run}@3", other)
  assert result["structure"] == [
    "params.a: float32[4, 8] -> float32[4, 9]", "params.b.c: float32[5] -> nothing",
  ]  # fmt: skip
  content = json.loads((other / "config.json").read_text())
  content["config"]["seed"] = 1
  (other / "config.json").write_text(json.dumps(content))
  assert ckpt(capsys, "diff", run, other)[0]["config"] == ["seed: 0 -> 1"]


def test_rm(run, capsys):
  assert "name the checkpoint as RUN@STEP" in refuse(capsys, 2, "rm", run, "--yes")
  assert "give --yes" in refuse(capsys, 2, "rm", f"{run}@3")  # nobody to ask
  damage(run, "3")
  assert "5 is the last" in refuse(capsys, 2, "rm", f"{run}@5", "--yes")
  assert ckpt(capsys, "rm", f"{run}@3", "--yes")[0]["removed"] == ["3"]
  assert "5 is the last" in refuse(capsys, 2, "rm", f"{run}@5", "--yes")
  assert ckpt(capsys, "rm", f"{run}@5", "--yes", "--all")[0]["removed"] == ["5"]
  assert list((run / "checkpoints").iterdir()) == []
  assert "nothing that was set aside" in refuse(capsys, 2, "rm", f"{run}@damaged")
  (run / "checkpoints" / "5.damaged").mkdir()
  assert ckpt(capsys, "rm", f"{run}@damaged", "--yes")[0]["removed"] == ["5.damaged"]


def read_safetensors(path: pathlib.Path) -> tuple[dict, dict]:
  """By the description of the format alone."""
  data = path.read_bytes()
  size = int.from_bytes(data[:8], "little")
  header, numbers = json.loads(data[8 : 8 + size]), data[8 + size :]
  about, end, found = header.pop("__metadata__"), 0, {}
  assert (8 + size) % 8 == 0
  for name, entry in header.items():
    begin, stop = entry["data_offsets"]
    assert begin == end and entry["dtype"] == "F32"  # in order, without holes
    values = np.frombuffer(numbers[begin:stop], "<f4")
    found[name], end = values.reshape(entry["shape"]), stop
  assert end == len(numbers)
  return found, about


@pytest.mark.parametrize("weights", ["params", "ema"])
def test_export(run, capsys, weights):
  out = run / "new" / "x.safetensors"
  result, _ = ckpt(capsys, "export", run, f"--out={out}", f"--weights={weights}")
  assert result["step"] == 5 and result["bytes"] == out.stat().st_size
  found, about = read_safetensors(out)
  want = state(5).params if weights == "params" else state(5).ema_params
  assert equal(found, {"a": want["a"], "b.c": want["b"]["c"]})
  assert about["step"] == "5" and about["weights"] == weights
  assert [p.name for p in out.parent.iterdir()] == ["x.safetensors"]


def test_export_of_damaged_weights_falls_back(run, capsys):
  damage(run)
  out = run / "x.safetensors"
  assert ckpt(capsys, "export", run, f"--out={out}")[0]["step"] == 3
  assert "5 of" in refuse(capsys, 2, "export", f"{run}@5", f"--out={out}")
