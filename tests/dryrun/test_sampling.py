"""The dry run of sampling compiles the three functions that sampling calls."""

import importlib.util

import pytest

from tests.dryrun import golden
from tests.dryrun.test_plan import SMALL
from unijax.dryrun import table


@pytest.mark.skipif(
  importlib.util.find_spec("libtpu") is None, reason="needs the aot extra (libtpu)"
)
def test_memory_and_cycles_of_each_function():
  report, code = golden.plan([
    *SMALL, "--topology=v5e:2x2", "--sampling", "--rows=2",
    "--config.sample.guidance=2.0",
  ])  # fmt: skip
  assert code == 0 and report["fits"]
  parts = report["functions"]
  assert set(parts) == {"prefill", "decode_text", "draw_image"}
  depth, rows, slots, heads, width = 2, 2, 128, 2, 32
  cache = 2 * depth * rows * slots * heads * width * 4 + rows * 4
  assert parts["prefill"]["memory_bytes"]["cache"] == cache
  assert parts["draw_image"]["memory_bytes"]["cache"] == 2 * cache
  for f in parts.values():
    assert f["cycles"]["total"] > 0
    assert f["memory_bytes"]["params"] == parts["prefill"]["memory_bytes"]["params"]
  assert parts["decode_text"]["loops_of_unknown_length"], "its length is an argument"
  assert "one token a row" in "\n".join(table.sampling_lines(report))
