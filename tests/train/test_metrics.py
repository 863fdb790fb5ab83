"""Laws of metric files: every step once, nothing lost, nothing invented."""

import json

import jax.numpy as jnp
from clu.metrics import Average

from unijax.train.metrics import MetricWriter, read_metrics, to_scalars
from unijax.write.losses import NOISE_LEVELS


def test_scalars_leave_out_what_was_not_weighted():
  count = jnp.zeros(NOISE_LEVELS).at[3].set(2.0)
  metrics = {
    "loss": Average(total=jnp.float32(6.0), count=jnp.float32(4.0)),
    "none": Average(total=jnp.float32(0.0), count=jnp.float32(0.0)),
    "by_noise": Average(total=count * 5, count=count),
  }
  assert to_scalars(metrics) == {"loss": 1.5, "by_noise/0.3": 5.0}


def steps(folder):
  return [
    (line["step"], *[k for k in line if k != "step"]) for line in read_metrics(folder)
  ]


def test_resuming_cuts_back_to_the_step_resumed_from(tmp_path):
  writer = MetricWriter(tmp_path, 0)
  for step in range(4):
    if step == 2:  # hooks look at the state before the step, and do so again
      writer.scalars(step, {"score": 0.5}, "held_out")
    writer.scalars(step, {"loss": float(step)}, "train")
  writer.file.write('{"step": 4, "train/lo')  # killed while writing
  writer.close()
  assert [s for s, *_ in steps(tmp_path)] == [0, 1, 2, 2, 3]
  MetricWriter(tmp_path, 2).close()
  assert steps(tmp_path) == [(0, "train/loss"), (1, "train/loss")]
  MetricWriter(tmp_path, 0).close()
  assert steps(tmp_path) == []


def test_what_is_not_finite_is_null_in_json(tmp_path):
  writer = MetricWriter(tmp_path, 0)
  writer.scalars(0, {"loss": float("nan"), "norm": float("inf"), "ok": 1.0}, "train")
  writer.close()
  (line,) = (tmp_path / "metrics.jsonl").read_text().splitlines()
  parsed = json.loads(line, parse_constant=lambda name: 1 / 0)
  assert parsed == {"step": 0, "train/loss": None, "train/norm": None, "train/ok": 1.0}


def test_no_file_is_no_metrics(tmp_path):
  assert read_metrics(tmp_path) == []
