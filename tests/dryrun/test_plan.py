"""The dry run itself: the real step, compiled for devices that are not here."""

import importlib.metadata
import importlib.util
import json

import jax
import pytest

from tests.dryrun import golden
from unijax import config_file
from unijax.dryrun import plan, search, table
from unijax.dryrun.compiled import Outcome, out_of_memory

needs_libtpu = pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="needs the aot extra (libtpu)"
)
SMALL = [
  "plan", "--config=configs/transfusion.py:tiny", "--config.model.depth=2",
  "--config.model.scan_unroll=1", "--config.optim.name=adamw",
  "--config.model.width=64", "--config.model.heads=2", "--config.model.kv_heads=2",
  "--config.model.mlp_width=128",
]  # fmt: skip


def state_parts(report: dict, parts: int) -> None:
  """Moments are twice the parameters, the average is as large as they are."""
  m = report["memory_bytes"]
  assert m["params"] == m["ema"] > 0
  assert m["optimizer"] == pytest.approx(2 * m["params"], abs=64)
  rows, T = 16 // parts, 128
  assert m["batch"] == rows * T * 4 * (5 + 3 + 3 + 1 + 768 - 1)


def test_simulated_devices():
  report, code = golden.plan([*SMALL, "--topology=cpu:8"])
  assert code == 0 and report["fits"]
  assert report["mesh"] == {"fsdp": 8}
  state_parts(report, 8)
  axes = {c["axis"] for c in report["collectives"]}
  assert axes == {"fsdp"}, "an axis of size one moves nothing"
  assert "roofline" not in report, "nothing is published about simulated devices"
  assert report["rows"]["rows"] == 16


@needs_libtpu
def test_a_tpu_slice():
  report, code = golden.plan([*SMALL, "--topology=v5e:2x2"])
  assert code == 0 and report["fits"] and report["mesh"] == {"fsdp": 4}
  state_parts(report, 4)
  assert report["cycles"]["total"] > 0 and report["loops_of_unknown_length"] == []
  r = report["roofline"]
  assert r["step_seconds_at_least"] == max(r["seconds"].values())
  assert 0 < r["mfu_at_most"] <= 1
  assert report["flops"]["model"] > 0
  text = "\n".join(table.lines(report))
  assert "fits" in text and "bounds, not predictions" in text


@pytest.mark.slow
@pytest.mark.parametrize(
  "topology", ["cpu:4", pytest.param("v5e:2x2", marks=needs_libtpu)]
)
def test_two_slices_meet_over_the_slow_network(topology):
  report, _ = golden.plan([*SMALL, f"--topology={topology}", "--slices=2"])
  assert report["mesh"] == {"replica": 2, "fsdp": 4}
  slow = [c for c in report["collectives"] if c["network"] == "DCN"]
  assert slow and all("replica" in c["axis"] for c in slow)
  fast = [c for c in report["collectives"] if c["network"] == "ICI"]
  assert fast and all(c["axis"] == "fsdp" for c in fast)
  # Every chip exchanges at least its part of the gradients.
  assert sum(c["sent_bytes"] for c in slow) > 0.9 * report["memory_bytes"]["params"]


@needs_libtpu
@pytest.mark.slow
def test_what_does_not_fit_says_what_would():
  """1,024 rows a chip whose attention alone takes 17 GiB; four parts take a quarter."""
  report, code = golden.plan([
    *SMALL, "--topology=v5e:2x2", "--config.train.batch_size=4096",
    "--config.data.seq_len=1024", "--config.data.images_per_row=15", "--search=2",
  ])  # fmt: skip
  assert code == 4 and not report["fits"]
  assert report["needs_bytes"] > report["memory_limit_bytes"]
  assert report["change"]["train.micro_batches"] > 1
  assert report["tried"][-1]["fits"]
  text = "\n".join(table.lines(report))
  assert "DOES NOT FIT" in text
  assert (
    f"--config.train.micro_batches={report['change']['train.micro_batches']}" in text
  )


def same_compiler(expected: dict) -> bool:
  package, _, version = expected["compiler"].partition(" ")
  there = importlib.util.find_spec(package) is not None
  return (
    there
    and importlib.metadata.version(package) == version
    and jax.__version__ == expected["jax"]
  )


WRITTEN = sorted(golden.FOLDER.glob("*.json"))
ENDS = (golden.SIZES[0], golden.SIZES[-1])


@pytest.mark.parametrize(
  "size",
  [*ENDS, *(pytest.param(s, marks=pytest.mark.slow) for s in golden.SIZES[1:-1])],
)
def test_golden_flops(size):
  """They need no compiler."""
  name = f"{size}-on-v5e-16"
  config = config_file.load([x for x in golden.arguments(name) if "--config" in x])
  rows, vocab = plan.read_rows(config)
  found = plan.count(config, vocab, rows)["flops"]["model"]
  expected = json.loads((golden.FOLDER / f"{name}.json").read_text())["flops"]["model"]
  assert found == pytest.approx(expected, rel=0.002)


@needs_libtpu
@pytest.mark.slow
@pytest.mark.parametrize("path", WRITTEN, ids=lambda p: p.stem)
def test_golden(path):
  """Memory, collectives and FLOPs within 2 % of what was recorded."""
  expected = json.loads(path.read_text())
  if not same_compiler(expected):
    pytest.skip(f"recorded with {expected['compiler']} and jax {expected['jax']}")
  report, _ = golden.plan(golden.arguments(path.stem))
  near = lambda x: pytest.approx(x, rel=0.02)
  assert report["fits"] == expected["fits"] and report["mesh"] == expected["mesh"]
  least = 0.002 * expected["memory_bytes"].get("total", 0)  # of small parts
  assert report["memory_bytes"] == pytest.approx(
    expected["memory_bytes"], rel=0.02, abs=least
  )
  assert report["flops"]["model"] == near(expected["flops"]["model"])
  traffic = lambda r: {
    f"{c['kind']} {c['axis']} {c['network']} {what}": c[what]
    for c in r["collectives"]
    for what in ("count", "sent_bytes")
  }
  if expected["fits"]:
    assert traffic(report) == near(traffic(expected))
    assert report["cycles"]["total"] == near(expected["cycles"]["total"])


@pytest.mark.parametrize(
  ("message", "needs", "limit"),
  [
    ("RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO "
     "temporaries (42.54G) exceeds available HBM (15.75G).", 42.54 + 1, 15.75),
    ("RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 16.03G of 15.75G "
     "hbm. Exceeded hbm capacity by 286.7M.", 16.03, 15.75),
  ],
)  # fmt: skip
def test_running_out_of_memory_is_read(message, needs, limit):
  found = out_of_memory(message, 2**30)
  assert found == (round(needs * 2**30), round(limit * 2**30))


def test_an_unknown_message_gives_no_numbers():
  assert out_of_memory("RESOURCE_EXHAUSTED: too much", 0) == (None, None)


GIB = 2**30


def changes(c, needs, held, rows=32, limit=16):
  outcome = Outcome(
    False, {"params": held * GIB}, "", 1.0, 1.0, needs * GIB, limit * GIB
  )
  return list(search.candidates(c, rows, outcome))


def test_the_search_starts_with_the_cheapest_change_that_can_be_enough():
  from tests import small

  c = small.config(train__batch_size=32)
  first, *rest = changes(c, needs=16 + 4 * 12, held=4)
  assert first == {"train.micro_batches": 8}  # 60 GiB of temporaries into 12: over 5
  assert {"model.remat": "dots"} in rest
  assert rest.index({"model.remat": "dots"}) < rest.index({"mesh.preset": "fsdp_tp"})


def test_a_state_that_is_too_large_needs_another_mesh():
  from tests import small

  c = small.config(train__batch_size=32)
  found = changes(c, needs=64, held=20)
  assert all("mesh.preset" in change for change in found)


def test_the_search_stops_at_what_fits_and_counts_what_it_compiled():
  from tests import small
  from unijax.config import ConfigError

  c = small.config(train__batch_size=32)
  outcome = Outcome(False, {"params": GIB}, "", 1.0, 1.0, 20 * GIB, 16 * GIB)
  asked = []

  def attempt(config, label):
    asked.append(label)
    if config.train.micro_batches == 2:
      raise ConfigError("rows do not divide")
    fits = config.model.remat == "dots"
    return Outcome(fits, {"total": GIB}, "", 1.0, 1.0, 17 * GIB, 16 * GIB)

  knobs, new, tried = search.search(c, 32, outcome, attempt, most=5)
  assert knobs == {"model.remat": "dots"} and new.fits
  assert [t.fits for t in tried] == [False, False, True]
  assert "divide" in tried[0].why and "17.00 of 16.00" in tried[1].why
  assert search.search(c, 32, outcome, attempt, most=1)[0] is None
