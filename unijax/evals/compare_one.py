"""One system of a comparison: counted, trained for its share, scored and drawn."""

import functools
import hashlib
import json
import pathlib
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from PIL import Image as Picture

from unijax import config_file
from unijax.checkpoint import rundir
from unijax.config import Config
from unijax.data.scenes import SceneOptions
from unijax.disk import write_whole
from unijax.dryrun import products
from unijax.evals import alignment, codec, during, reconstruction, suite
from unijax.evals.figures import SCORES
from unijax.evals.scenes import Outcome, scene_options
from unijax.infer.load import load_run
from unijax.train import events, loop, tasks
from unijax.train.run import Hook

VERSION = 2  # of the scores: another number scores finished runs again
# The scenes that all are scored on, whatever a config trains on: one or two things.
SCENES = dict(min_objects=1, max_objects=2, grid=2, sizes=False)
SPLITS = ["iid", "combo"]
SHOWN = 8  # pictures of a system
SPOKEN = 3  # captions and answers of it
WARM_UP = 10  # the learning rate grows over one part of so many at most
POINTS = 50  # of a loss curve, at least
STEPS = ("step", "data_wait", "other")  # spans of a run that steps take


class Scored(NamedTuple):
  """What was found of a run.

  Attributes:
    scores: name -> (value, low, high) or (value,).
    about: anything else, as plain values.
    pictures: uint8 [n, h, w, 3], or None for a system without.
    words: what each picture was asked to be; () for none.
    exact: whether it is that; () where nobody can say.
    said: {asked, answer, truth, exact} of what it says of pictures.
    read: those pictures, in parallel, or None.
    originals: what pictures reconstruct, or None.
  """

  scores: dict
  about: dict
  pictures: np.ndarray | None = None
  words: tuple[str, ...] = ()
  exact: tuple[bool, ...] = ()
  said: tuple[dict, ...] = ()
  read: np.ndarray | None = None
  originals: np.ndarray | None = None


def run(job: dict) -> dict:
  """Does one job of `compare`; of a finished one returns what it found.

  Args:
    job: name, config, overrides, flops, prompts, workdir.

  Returns:
    The figures of the system, as compare.json has them.
  """
  arguments = [f"--config={job['config']}", *job["overrides"]]
  config = config_file.load(arguments)
  counted, knobs = budget(config, job["flops"])
  more = [f"--config.{path}={value}" for path, value in knobs.items()]
  config = config_file.load([*arguments, *more])
  folder = pathlib.Path(job["workdir"])
  asked = [VERSION, rundir.config_hash(config), job["prompts"]]
  key = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
  if (done := finished(folder, key)) is not None:
    return done
  print(f"{job['name']}: {config.train.steps} steps: {', '.join(more)}", flush=True)
  hooks = TASKS[config.train.task].hooks(config)
  about = {"name": job["name"], "config": job["config"]}
  return train_and_score(config, folder, hooks, job["prompts"], key, about, counted)


def finished(folder: pathlib.Path, key: str) -> dict | None:
  """What was found of a run, if it was scored under this key."""
  path = folder / SCORES
  if not path.is_file():
    return None
  content = json.loads(path.read_text())
  return content["result"] if content["key"] == key else None


def train_and_score(
  config: Config, folder: pathlib.Path, hooks: list[Hook], prompts: int, key: str,
  about: dict, counted: dict,
) -> dict:  # fmt: skip
  """Trains a run, or goes on with it; scores it and writes scores.json.

  Args:
    config: of the run.
    folder: its directory.
    hooks: what is followed while it trains.
    prompts: of a task and split; pictures for a codec.
    key: of these scores.
    about: name and config, for tables.
    counted: steps and FLOPs, as `budget` counts them.

  Returns:
    The figures of the run.
  """
  began = time.monotonic()
  state, _ = loop.train(config, folder, hooks)
  parameters = sum(x.size for x in jax.tree.leaves(state.params))
  account = events.account(events.read(folder))["seconds"]
  del state
  scoring = time.monotonic()
  scored = TASKS[config.train.task].score(str(folder), prompts)
  result = {
    **about, "task": config.train.task,
    "hash": rundir.config_hash(config), "parameters": int(parameters), **counted,
    "seconds": {
      "training": round(sum(account[name] for name in STEPS), 1),
      "scoring": round(time.monotonic() - scoring, 1),
      "all": round(time.monotonic() - began, 1),
    },
    "scores": {
      name: [round(float(x), 5) for x in values]
      for name, values in scored.scores.items()
    },
    "about": scored.about, "words": list(scored.words), "exact": list(scored.exact),
    "said": list(scored.said),
    "drawn": _save(folder, "drawn", scored.pictures),
    "read": _save(folder, "read", scored.read),
    "originals": _save(folder, "originals", scored.originals),
  }  # fmt: skip
  content = json.dumps({"key": key, "result": result}, indent=1) + "\n"
  write_whole(folder / SCORES, content)
  return result


def budget(config: Config, flops: float | None) -> tuple[dict, dict[str, int]]:
  """How many steps a budget buys.

  Stages keep their shares of the steps. What follows from the number of steps
  follows; a warm-up is at most a tenth of them.

  Args:
    config: of a run.
    flops: to be spent; None counts the steps that it has.

  Returns:
    ({steps, flops_per_step, flops of all steps}; {path: value} of what changes).
  """
  each = _costs(config)
  steps = [config.at(number).train.steps for number in range(len(each))]
  whole = sum(n * cost for n, cost in zip(steps, each, strict=True))
  share = 1.0 if flops is None else flops / whole
  bought = [max(1, int(n * share)) for n in steps]
  total = sum(bought)
  spent = sum(n * cost for n, cost in zip(bought, each, strict=True))
  counted = {"steps": total, "flops_per_step": spent / total, "flops": spent}
  names = [stage.name for stage in config.stages]
  return (counted, {}) if flops is None else (counted, {
    "train.steps": 0 if names else total,
    **{f"stages.{name}.steps": n for name, n in zip(names, bought, strict=False)},
    "optim.warmup_steps": min(config.optim.warmup_steps, total // WARM_UP),
    "train.log_every": max(1, min(config.train.log_every, total // POINTS)),
    "train.eval_every": max(1, total // 2),
    "train.sample_every": max(1, total // 4),
  })  # fmt: skip


_COSTS: dict[str, list[float]] = {}  # of a config: several budgets count it once


def _costs(config: Config) -> list[float]:
  """FLOPs of a step of each stage."""
  key = rundir.config_hash(config)
  if key not in _COSTS:
    loader = tasks.make_loader(config)
    batch = loader.batch(0)
    _COSTS[key] = [
      products.train_step(config.at(number), loader.vocab, batch)
      for number in range(len(config.starts))
    ]
  return _COSTS[key]


def scenes(workdir: str, prompts: int) -> Scored:
  """Scores of a run that draws: scenes, and held-out losses."""
  loaded = load_run(workdir)
  found = suite.evaluate(
    loaded, splits=SPLITS, items=prompts, scenes=SCENES, extras=False
  )
  scores: dict = {
    f"{split} {task}": outcome.table()["exact"]
    for (split, task), outcome in found.outcomes.items()
  }
  if found.bits_per_byte is not None:
    scores["bits per byte"] = (found.bits_per_byte,)
  own = scene_options(loaded.config)
  about = {
    "write": loaded.config.model.write, "held_out": found.losses,
    "trained_on": _said_of(own) if own else None,
    "parts": found.summary()["scenes"],
    "guess": {f"iid {task}": x["prior"] for task, x in found.baselines.items()},
  }  # fmt: skip
  drawn = found.outcomes.get(("iid", "draw"))
  pictures, words, exact = None, (), ()
  if drawn:
    pictures = np.stack(drawn.outputs[:SHOWN])
    words = tuple(item.text for item in drawn.items[:SHOWN])
    exact = tuple(bool(s.exact) for s in drawn.scores[:SHOWN])
  spoken = [found.outcomes.get(("iid", task)) for task in ("describe", "ask")]
  said = tuple(line for outcome in spoken if outcome for line in _said(outcome))
  seen = [x.pixels for outcome in spoken if outcome for x in outcome.items[:SPOKEN]]
  read = np.stack(seen) if seen else None
  return Scored(scores, about, pictures, words, exact, said, read)


def _said_of(options: SceneOptions) -> dict:
  return {name: getattr(options, name) for name in (*SCENES, "image_size")}


def _said(outcome: Outcome) -> list[dict]:
  """The first answers of a run; a caption has no one truth."""
  triples = zip(outcome.items, outcome.outputs, outcome.scores, strict=True)
  return [
    {
      "asked": getattr(item, "question", "what is this?"), "answer": answer,
      "truth": getattr(item, "answer", ""), "exact": bool(score.exact),
    }
    for item, answer, score in list(triples)[:SPOKEN]
  ]  # fmt: skip


def pictures(workdir: str, prompts: int) -> Scored:
  """Scores of a codec: what comes back of held-out pictures."""
  step, found, frozen = codec.measure(workdir, None, prompts)
  figures = found.figures()
  del figures["latent_std"]
  intervals = reconstruction.intervals(found)
  scores = {name: intervals.get(name, (value,)) for name, value in figures.items()}
  about = {
    "step": step, "stride": frozen.stride, "channels": frozen.channels,
    "codebook": frozen.codebook,
  }  # fmt: skip
  shown = found.originals[:SHOWN]
  words = tuple(f"picture {i}" for i in range(len(shown)))
  return Scored(scores, about, found.decoded[:SHOWN], words, originals=shown)


def pairs(workdir: str, prompts: int) -> Scored:
  """Scores of encoders: retrieval and classification by captions."""
  found = alignment.evaluate(workdir, None, None, {"items": prompts, "split": None})
  scores = {n: v for n, v in found["zero_shot"].items() if "@5" not in n}
  return Scored(scores, {"held_out": found["held_out"]})


class Measured(NamedTuple):
  """How runs of a task are followed and scored here."""

  hooks: Callable[[Config], list[Hook]]
  score: Callable[[str, int], Scored]


_DRAWS = Measured(functools.partial(during.hooks, samples=False), scenes)
TASKS = {
  "unified": _DRAWS,
  "drawing": _DRAWS,
  "codec": Measured(codec.hooks, pictures),
  "decoder": Measured(codec.hooks, pictures),
  "alignment": Measured(alignment.hooks, pairs),
}


def _save(folder: pathlib.Path, name: str, pixels: np.ndarray | None) -> str:
  """Writes pictures side by side as NAME.png; '' for none."""
  if pixels is None:
    return ""
  strip = np.concatenate(list(pixels), axis=1)
  Picture.fromarray(strip).save(folder / f"{name}.png")
  return f"{name}.png"
