"""What a run shows while it trains: held-out losses, samples, quick scores."""

import json
import pathlib

import jax
import numpy as np
from PIL import Image as Picture

from unijax.config import Config
from unijax.data.sources import make_source
from unijax.evals import held_out, mixing
from unijax.evals.scenes import SceneEvaluator, scene_options
from unijax.infer import prompts
from unijax.infer.load import make_generator
from unijax.train.progress import LOSSES
from unijax.train.run import Hook, Run

SHOWN = 8  # prompts of scenes in a sample grid
EMOJI = 4  # prompts of emoji in a sample grid


def hooks(config: Config, samples: bool = True) -> list[Hook]:
  """The hooks of an ordinary training run; `samples` are drawn and scored too.

  A run of several processes draws no samples: its weights are in no one process. Sample
  from its checkpoints with `unijax sample` or `unijax eval`.
  """
  measure = [*mixing.hooks(config), Hook(config.train.eval_every, _losses)]
  if jax.process_count() > 1 or not samples:
    return measure
  return [*measure, Hook(config.train.sample_every, _Samples(config))]


def _losses(run: Run, state, step: int) -> None:
  params, batches = run.functions.averaged(state), run.config.eval.loss_batches
  scalars = held_out.losses(run.config, run.functions, params, batches)
  run.writer.scalars(step, scalars, "held_out")
  shown = " ".join(f"{x} {scalars[name]:.4f}" for x, name in LOSSES if name in scalars)
  run.progress.say(f"step {step}: held-out {shown}")


class _Samples:
  """Draws the same prompts from the same noise, and scores a few scenes exactly."""

  def __init__(self, config: Config):
    self.config = config
    self.generator = None  # one for the whole run: its functions compile once
    self.prompts = _shown_prompts(config)

  def __call__(self, run: Run, state, step: int) -> None:
    params = run.functions.averaged(state)
    if self.generator is None:
      rows = self.config.eval.batch_size
      self.generator = make_generator(run.config, params, run.loader.builder, rows)
    self.generator.params = params
    self._grid(run, step)
    self._scores(run, step)

  def _grid(self, run: Run, step: int) -> None:
    if not self.prompts:
      return
    made = self.generator.generate(
      [prompts.draw(text, chat, seed) for seed, (text, chat) in enumerate(self.prompts)]
    )
    strip = np.concatenate([row.images[0] for row in made], axis=1)
    save_samples(run.workdir, step, [text for text, _ in self.prompts], strip)
    run.writer.image(step, "samples", strip)

  def _scores(self, run: Run, step: int) -> None:
    options = scene_options(self.config)
    if options is None:
      return
    items = self.config.eval.batch_size  # one group of rows: an error of about 0.06
    evaluator = SceneEvaluator(options, self.generator, items)
    scores = {
      f"{task}_exact": float(np.mean([s.exact for s in evaluate("iid").scores]))
      for task, evaluate in evaluator.tasks.items()
    }
    run.writer.scalars(step, scores, "quick")
    shown = "  ".join(f"{name} {value:.2f}" for name, value in scores.items())
    run.progress.say(f"step {step}: {shown}  (of {items} held-out scenes)")


def _shown_prompts(config: Config) -> list[tuple[str, bool]]:
  shown = []
  if not config.draws:
    return shown
  for entry in config.data.sources:
    if entry.kind == "scenes":
      tasks = {"tasks": {"draw": 1.0}, "caption_first": None}
      source = make_source(entry, config.data.image_size, held_out=True, **tasks)
      shown += [(source.caption(i)[0], source.options.chat) for i in range(SHOWN)]
    elif entry.kind == "emoji":
      source = make_source(entry, config.data.image_size)
      shown += [(source.pair(i, i)[0], source.options.chat) for i in range(EMOJI)]
  return shown


def save_samples(workdir: pathlib.Path, step: int, texts: list[str], strip) -> None:
  """Writes samples/STEP.png, one picture a prompt side by side, and the prompts."""
  folder = workdir / "samples"
  folder.mkdir(exist_ok=True)
  (folder / "prompts.json").write_text(json.dumps(texts, indent=1) + "\n")
  Picture.fromarray(strip).save(folder / f"{step:07d}.png")


def load_samples(
  workdir: pathlib.Path,
) -> tuple[list[str], dict[int, list[np.ndarray]]]:
  """Returns the prompts, and step -> pictures, one a prompt."""
  folder = workdir / "samples"
  if not (folder / "prompts.json").exists():
    return [], {}
  texts = json.loads((folder / "prompts.json").read_text())
  steps = {}
  for path in sorted(folder.glob("*.png")):
    strip = np.asarray(Picture.open(path).convert("RGB"))
    steps[int(path.stem)] = np.split(strip, len(texts), axis=1)
  return texts, steps
