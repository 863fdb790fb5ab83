"""What is measured of alignment runs, while they train and by `unijax eval`."""

import dataclasses
import pathlib

import jax

from unijax import report as pages
from unijax.checkpoint import rundir
from unijax.checkpoint.store import Store
from unijax.config import Config, to_dict
from unijax.evals import held_out
from unijax.evals.retrieval import Retrieval, Score
from unijax.report import Section
from unijax.train import adapters, tasks
from unijax.train.encoders import write_encoder
from unijax.train.functions import StepFunctions
from unijax.train.run import Hook, Run

RESULTS = (
  "train/loss", "held_out/loss", "held_out/cosine", "held_out/match_accuracy",
  "zero_shot/scenes/image_to_text@1", "zero_shot/scenes/text_to_image@1",
  "zero_shot/scenes/kind", "zero_shot/emoji/image_to_text@1",
  "zero_shot/emoji/name_of_trained",
)  # fmt: skip


def hooks(config: Config) -> list[Hook]:
  """Held-out losses, zero-shot scores, and the encoder as files.

  The last two need all weights in one process: a run of several has only the losses.
  """
  made = [Hook(config.train.eval_every, _losses)]
  if jax.process_count() == 1:
    made += [
      Hook(config.train.eval_every, _ZeroShot()),
      Hook(config.train.eval_every, _export),
    ]
  return made


def _losses(run: Run, state, step: int) -> None:
  batches = run.config.eval.loss_batches
  params = run.functions.averaged(state)
  scalars = held_out.losses(run.config, run.functions, params, batches)
  run.writer.scalars(step, scalars, "held_out")
  run.progress.say(f"step {step}: held-out loss {scalars['loss']:.4f}")


class _ZeroShot:
  """Retrieval and classification; what is asked is the same at every call."""

  def __init__(self):
    self.retrieval = None  # one for the whole run: its functions compile once

  def __call__(self, run: Run, state, step: int) -> None:
    objective = run.functions.task.objective
    if not hasattr(objective, "texts"):
      return
    self.retrieval = self.retrieval or Retrieval(run.config, objective)
    scores = self.retrieval.scores(run.functions.averaged(state))
    run.writer.scalars(step, {n: s.value[0] for n, s in scores.items()}, "zero_shot")
    shown = "  ".join(
      f"{n} {s.value[0]:.2f}" for n, s in scores.items() if "@5" not in n
    )
    run.progress.say(f"step {step}: {shown}")


def _export(run: Run, state, step: int) -> None:
  write_encoder(run.workdir, run.config, run.functions.averaged(state), step)


def evaluate(
  workdir: str, step: int | None, report: pathlib.Path | None, options: dict
) -> dict:
  """Evaluates an alignment run; prints the table; returns all figures.

  The arguments are those of `evals.tasks.Evaluation`; of the options `items` is read.
  """
  config = rundir.read_config(workdir)
  tokenizer = rundir.tokenizer_path(workdir, config)
  data = dataclasses.replace(config.data, tokenizer=tokenizer)
  config = adapters.without(dataclasses.replace(config, data=data))
  functions = StepFunctions(config, tasks.make_loader(config).vocab)
  store = Store(workdir, read_only=True)
  try:
    params, done = store.weights(functions.abstract_state().params, step)
  finally:
    store.close()
  objective, losses = functions.task.objective, {}
  if config.align.objective != "none":
    losses = held_out.losses(config, functions, params, config.eval.loss_batches)
  scores: dict[str, Score] = {}
  if hasattr(objective, "images"):
    retrieval = Retrieval(config, objective)
    scores = retrieval.scores(params, options["items"])
  rows = _rows(losses, scores)
  print(pages.score_table(rows))
  result = {
    "step": done, "held_out": losses,
    "zero_shot": {n: [round(v, 4) for v in s.value] for n, s in scores.items()},
  }  # fmt: skip
  if report:
    result["report"] = str(_page(report, workdir, config, rows))
  return result


def _rows(losses, scores: dict[str, Score]) -> list[pages.Score]:
  rows = [
    pages.Score(name, *score.value, percent=True, count=score.count,
                baselines={"chance": score.chance})
    for name, score in scores.items()
  ]  # fmt: skip
  for name in ("loss", "cosine", "accuracy", "match_accuracy"):
    if name in losses:
      lower = name == "loss"
      rows.append(
        pages.Score(f"held-out {name}", losses[name], higher_is_better=not lower)
      )
  return rows


def _page(path, workdir, config: Config, rows) -> pathlib.Path:
  lead = (
    "Retrieval on held-out pairs with captions that all differ, classification by "
    "captions; 95 % bootstrap intervals."
  )
  sections = [
    Section("Scores", [pages.scores(rows)], lead=lead),
    Section("Config", [pages.config(to_dict(config))]),
  ]
  title = f"Alignment: {pathlib.Path(workdir).name}"
  return pages.build_report(path, pages.ReportContent(title, sections))
