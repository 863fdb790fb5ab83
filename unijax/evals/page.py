"""The report of a run: its evaluation, samples and training as one HTML page."""

import pathlib
import platform
import resource

import jax
import numpy as np

from unijax import report
from unijax.config import to_dict
from unijax.evals.during import load_samples
from unijax.evals.scenes import Outcome
from unijax.evals.suite import Evaluation
from unijax.infer import prompts
from unijax.infer.load import LoadedRun
from unijax.report import Section, Series
from unijax.train.metrics import read_metrics
from unijax.train.progress import LOSSES
from unijax.write.losses import NOISE_LEVELS

NAMES = {
  "draw": "pictures drawn right", "describe": "captions right",
  "ask": "questions right", "edit": "edits right",
}  # fmt: skip
SPLIT_NAMES = {
  "iid": "held-out scenes", "combo": "unseen colour-shape pairs",
  "count": "more things than trained on", "relation": "unseen relations",
  "paraphrase": "unseen wordings",
}  # fmt: skip
SHOWN = 24  # examples of a kind on the page
STRIPS = 4  # denoising strips


def headline(result: Evaluation, bars: dict | None = None) -> list[report.Score]:
  """The scores of every task and split, with bars to reach by (split, task)."""
  rows = []
  first = next(iter(result.outcomes), (None,))[0]
  for (split, task), outcome in result.outcomes.items():
    value, low, high = outcome.table()["exact"]
    rows.append(report.Score(
      f"{NAMES[task]}: {SPLIT_NAMES[split]}", value, low, high, percent=True,
      bar=(bars or {}).get((split, task)), count=len(outcome.items),
      baselines=result.baselines.get(task, {}) if split == first else {},
    ))  # fmt: skip
  for name, (value, low, high) in result.cycles.items():
    label = f"round trip {name.replace('_', ' → ')} agrees"
    rows.append(report.Score(label, value, low, high, percent=True))
  if result.bits_per_byte is not None:
    rows.append(report.Score(
      "held-out text, bits per byte", result.bits_per_byte, higher_is_better=False
    ))  # fmt: skip
  if result.drawings:
    kid, scale = result.drawings.kid, result.drawings.scale
    rows.append(report.Score(
      "emoji, kid_lite", kid.value, kid.low, kid.high, higher_is_better=False,
      baselines={"other emoji": scale.value}, count=len(result.drawings.drawn),
      note="a proxy on EfficientNet-Lite0 features; not comparable to published KID",
    ))  # fmt: skip
  return rows


def write(
  path: str | pathlib.Path,
  workdir: str | pathlib.Path,
  run: LoadedRun,
  result: Evaluation,
  *,
  title: str = "unijax run",
  lead: str = "",
  bars: dict | None = None,
) -> pathlib.Path:
  """Writes the page of a run and returns its path.

  Args:
    path: HTML file to write.
    workdir: directory of the run, for its curves and samples.
    run: the loaded run; it draws the denoising strips.
    result: what `suite.evaluate` measured.
    title, lead: heading and first sentence.
    bars: (split, task) -> score to reach.
  """
  workdir = pathlib.Path(workdir)
  sections = [
    Section("Scores", [report.scores(headline(result, bars))], lead=(
      "Exact: every picture is read back from its pixels, every sentence parsed. "
      "Intervals are 95 % bootstrap. Baselines: an oracle that knows the truth, a "
      "prior that never looks, and a stand-in that sees all but colour."
    )),
    *_examples(result),
    *_training(workdir),
    _strips(run, result),
    _breakdown(result),
    _about(workdir, run, result),
  ]  # fmt: skip
  content = report.ReportContent(
    title, [s for s in sections if s is not None], lead, [_tiles(run, result)]
  )
  return report.build_report(path, content)


def throughput(workdir: pathlib.Path) -> dict[str, float]:
  """Median rates of training, from the run's metrics."""
  lines = [x for x in read_metrics(workdir) if "train/tokens_per_second" in x]
  names = ("tokens_per_second", "steps_per_second", "data_wait_share")
  return {
    name: float(np.median([x[f"train/{name}"] for x in lines])) for name in names
  } if lines else {}  # fmt: skip


def _tiles(run: LoadedRun, result: Evaluation):
  count = sum(x.size for x in jax.tree.leaves(run.params))
  tiles = [("parameters", f"{count / 1e6:.2f} M", ""), ("steps", run.step, "")]
  first = next(iter(result.outcomes), (None,))[0]
  for task, name in NAMES.items():
    if (first, task) in result.outcomes:
      tiles.append((name, f"{result.exact(first, task)[0]:.1%}", "held-out scenes"))
  return report.tiles(tiles)


def _examples(result: Evaluation):
  outcomes = result.outcomes
  for (split, task), outcome in outcomes.items():
    if task == "draw":
      grid = report.image_grid(_drawn(outcome), size=96)
      yield Section(f"Drawn from captions: {SPLIT_NAMES[split]}", [grid])
  for (split, task), outcome in outcomes.items():
    if split == next(iter(outcomes))[0] and task != "draw":
      yield _read(outcome)
  if result.drawings:
    d = result.drawings
    shown = min(len(d.drawn), 48)
    pairs = [
      report.Picture(np.concatenate([d.real[i], d.drawn[i]], axis=1), d.captions[i])
      for i in range(shown)
    ]
    yield Section("Emoji", [report.image_grid(pairs, size=128)], lead=(
      "Left the real drawing, right the model's from the name alone. "
      "OpenMoji, CC BY-SA 4.0."
    ))  # fmt: skip


def _drawn(outcome: Outcome):
  return [
    report.Picture(pixels, item.text, score.exact, "" if score.exact else score.reason)
    for item, pixels, score in _first(outcome)
  ]


def _read(outcome: Outcome) -> Section:
  if outcome.task == "describe":
    grid = report.image_grid([
      report.Picture(item.pixels, text, score.exact, score.reason)
      for item, text, score in _first(outcome)
    ], size=96)  # fmt: skip
    return Section("Described", [grid])
  if outcome.task == "ask":
    cards = report.questions([
      report.Answer(item.pixels, item.question, text, item.answer, score.exact)
      for item, text, score in _first(outcome)
    ])  # fmt: skip
    return Section("Asked and answered", [cards])
  cards = report.edits([
    report.Edit(item.pixels, item.text, pixels, score.exact, score.reason)
    for item, pixels, score in _first(outcome)
  ])  # fmt: skip
  return Section("Edited by instruction", [cards])


def _first(outcome: Outcome):
  triples = list(zip(outcome.items, outcome.outputs, outcome.scores, strict=True))
  return triples[:SHOWN]


def _training(workdir: pathlib.Path):
  lines = read_metrics(workdir)

  def series(label, key):
    points = [(x["step"], x[key]) for x in lines if x.get(key) is not None]
    return Series(label, [p[0] for p in points], [p[1] for p in points])

  charts = [
    report.line_chart(
      f"{title} loss", [series("training", f"train/{key}"),
                        series("held out", f"held_out/{key}")], log_y=True
    )
    for title, key in LOSSES
    if any(f"train/{key}" in line for line in lines)
  ]  # fmt: skip
  quick = [series(NAMES[task], f"quick/{task}_exact") for task in NAMES]
  levels = [
    series(f"t {i / NOISE_LEVELS:.1f}–{(i + 1) / NOISE_LEVELS:.1f}",
           f"held_out/image_mse_by_noise/{i / NOISE_LEVELS:.1f}")
    for i in range(NOISE_LEVELS)
  ]  # fmt: skip
  levels = [s for s in levels if len(s.x)]
  yield Section("Training", [
    report.columns(*charts),
    report.columns(
      report.line_chart("quick scores", quick),
      report.line_chart("held-out image loss by noise level", levels, log_y=True,
                        ordered=True),
    ),
  ], lead="Watch the scores: only very noisy pictures need the text.")  # fmt: skip
  texts, steps = load_samples(workdir)
  if steps:
    chosen = sorted(steps)[:: max(1, len(steps) // 8)]
    images = [[steps[s][i] for s in chosen] for i in range(len(texts))]
    yield Section("The same prompts and noise, over training", [
      report.picture_table(texts, [f"{s:,}" for s in chosen], images, corner="step")
    ])  # fmt: skip


def _strips(run: LoadedRun, result: Evaluation) -> Section | None:
  drawn = [o for (_, task), o in result.outcomes.items() if task == "draw"]
  if not drawn:
    return None
  items = drawn[0].items[:STRIPS]
  strips: list[list] = [[] for _ in items]
  shares: list[float] = []

  def watch(row, share, pixels):
    strips[row].append(pixels)
    if row == 0:
      shares.append(share)

  run.generator(rows=run.config.eval.batch_size).generate(
    [prompts.draw(x.text, run.chat, i) for i, x in enumerate(items)], on_image=watch
  )
  table = report.picture_table(
    [x.text for x in items], [f"{s:.0%}" for s in shares], strips, corner="denoised"
  )
  return Section("Denoising", [table], lead=(
    "What the model has of the picture while it draws, beginning with nothing."
  ))  # fmt: skip


def _breakdown(result: Evaluation) -> Section | None:
  rows = [
    (SPLIT_NAMES[split], NAMES[task], name.removeprefix("exact/").replace("_", " "),
     f"{value:.1%}", f"{low:.1%} – {high:.1%}")
    for (split, task), outcome in result.outcomes.items()
    for name, (value, low, high) in outcome.table().items()
    if name != "exact"
  ]  # fmt: skip
  if not rows:
    return None
  head = ("split", "task", "part", "score", "95 % interval")
  return Section(
    "Every score", [report.details("Open the table", report.table(head, rows))]
  )


def _about(workdir: pathlib.Path, run: LoadedRun, result: Evaluation) -> Section:
  from unijax.train.run import versions

  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
  rates = throughput(workdir)
  speed = {
    "training, positions a second": round(rates.get("tokens_per_second", 0)),
    "training, steps a second": round(rates.get("steps_per_second", 0), 2),
    "share of time waiting for data": f"{rates.get('data_wait_share', 0):.1%}",
    "peak memory of this process, GiB": round(peak, 2),
    "seconds of evaluation": round(sum(result.seconds.values()), 1),
  }
  return Section("Run", [
    report.columns(
      report.key_values(speed, "Speed and memory"),
      report.key_values({**versions(), "machine": platform.machine()}, "Versions"),
    ),
    report.config(to_dict(run.config)),
  ])  # fmt: skip
