"""What is measured of a codec run: while it trains, at its end, by `unijax eval`."""

import pathlib
from collections.abc import Mapping

import jax
import numpy as np
from PIL import Image as Picture

from unijax import report as pages
from unijax.checkpoint import rundir
from unijax.checkpoint.store import Store
from unijax.codecs.frozen import Weighted
from unijax.config import Config, ConfigError, to_dict
from unijax.data.picture_loader import PictureLoader
from unijax.evals import reconstruction
from unijax.evals.reconstruction import Reconstructions
from unijax.report import Score, score_table
from unijax.train import adapters, codec_export, tasks
from unijax.train.functions import StepFunctions
from unijax.train.metrics import read_metrics
from unijax.train.run import Hook, Run

SHOWN = 12  # pictures in the strip of originals above reconstructions
RESULTS = (
  "train/loss", "train/psnr", "held_out/psnr", "held_out/ssim", "held_out/codes_used",
  "held_out/perplexity", "held_out/kid_lite",
)  # fmt: skip
DECODER_RESULTS = ("train/image_mse", *(x for x in RESULTS if x.endswith(
  ("held_out/psnr", "held_out/ssim", "held_out/kid_lite")
)))  # fmt: skip


def hooks(config: Config) -> list[Hook]:
  """The hooks of a codec run: figures, pictures, and at the end the artefact.

  A run of several processes measures nothing here, since its weights are in no one
  process: `unijax eval` does, and writes the artefact.
  """
  if jax.process_count() > 1:
    return []
  measure = _Measure(config)
  return [
    Hook(config.train.eval_every, measure.figures),
    Hook(config.train.sample_every, measure.strip),
    Hook(config.train.steps, _freeze),
  ]


class _Measure:
  """Measures the same held-out pictures every time."""

  def __init__(self, config: Config):
    self.config = config
    self._pixels: np.ndarray | None = None

  def figures(self, run: Run, state, step: int) -> None:
    """Writes PSNR, SSIM and the use of codes."""
    found = self._measured(run, state).figures()
    run.writer.scalars(step, found, "held_out")
    shown = "  ".join(f"{name} {value:.4g}" for name, value in found.items())
    run.progress.say(f"step {step}: held out {shown}")

  def strip(self, run: Run, state, step: int) -> None:
    """Writes samples/STEP.png: originals above reconstructions."""
    pixels = self._measured(run, state).picture(SHOWN)
    folder = run.workdir / "samples"
    folder.mkdir(exist_ok=True)
    Picture.fromarray(pixels).save(folder / f"{step:07d}.png")
    run.writer.image(step, "reconstructions", pixels)

  def _measured(self, run: Run, state) -> Reconstructions:
    if self._pixels is None:
      self._pixels = pictures(self.config, self.config.eval.batch_size, held_out=True)
    params = jax.device_get(run.functions.averaged(state)["codec"])
    codec = codec_export.weighted(self.config, params)
    return reconstruction.measure(codec, self._pixels, kid=False)


def pictures(config: Config, count: int, *, held_out: bool) -> np.ndarray:
  """The first pictures of the stream, uint8 [n, h, w, 3]."""
  loader = PictureLoader(config, held_out=held_out)
  return np.stack([loader.item(i) for i in range(count)])


def _freeze(run: Run, state, step: int) -> None:
  """Writes the artefact, at the end."""
  params = run.functions.averaged(state)
  codec = freeze(run.workdir, run.config, params, int(state.step))
  run.progress.say(
    f"codec in {run.workdir / 'codec'}: latents shifted by {_shown(codec.shift)}, "
    f"scaled by {_shown(codec.scale)}; train on them with "
    f"--config.data.codec={run.workdir}"
  )


def _shown(values) -> str:
  """A number, or one a channel."""
  return ", ".join(f"{x:.4f}" for x in np.atleast_1d(values))


def freeze(workdir: pathlib.Path, config: Config, params, step: int) -> Weighted:
  """Writes the artefact of weights; its scale is that of training pictures, if any."""
  seen = None
  if not config.codec.scale:
    seen = pictures(config, min(codec_export.MEASURED, 256), held_out=False)
  params = jax.device_get(params["codec"])
  return codec_export.write(workdir, config, params, seen, step)


def evaluate(
  workdir: str, step: int | None, report: pathlib.Path | None, options: dict
) -> dict:
  """Measures a codec run; prints the table, writes the artefact, the page and pictures.

  Args:
    workdir: of the run.
    step: which checkpoint; None is the latest.
    report: where the page goes; None is report.html of the run.
    options: `items` is the number of pictures; None is eval.kid_images.

  Raises:
    ConfigError: a split was asked for.
    CheckpointError: no run, no such checkpoint, or one that cannot be read.
  """
  if options["split"]:
    raise ConfigError("--split: of scenes; a codec is measured on held-out pictures")
  folder = pathlib.Path(workdir)
  done, result, codec = measure(workdir, step, options["items"])
  Picture.fromarray(result.picture(SHOWN)).save(folder / "reconstructions.png")
  print(score_table(headline(result)))
  config = rundir.read_config(workdir)
  path = page(report or folder / "report.html", folder, config, codec, result)
  return {
    "step": done, "report": str(path), "shift": codec.shift,
    "scale": codec.scale, "codec": str(folder / "codec"),
    **{name: round(value, 5) for name, value in result.figures().items()},
  }  # fmt: skip


def measure(
  workdir: str, step: int | None, items: int | None
) -> tuple[int, Reconstructions, Weighted]:
  """Measures a codec run on held-out pictures, and writes its artefact.

  Args:
    workdir: of the run.
    step: which checkpoint; None is the latest.
    items: pictures; None is eval.kid_images.

  Returns:
    (step of the checkpoint, what came back, the codec).

  Raises:
    CheckpointError: as `evaluate`.
  """
  config = adapters.without(rundir.read_config(workdir))
  store = Store(workdir, read_only=True)
  try:
    abstract = StepFunctions(config, 0).abstract_state().params
    params, done = store.weights(abstract, step)
  finally:
    store.close()
  codec = freeze(pathlib.Path(workdir), config, params, done)
  pixels = pictures(config, items or config.eval.kid_images, held_out=True)
  return done, reconstruction.measure(codec, pixels), codec


def headline(result: Reconstructions) -> list[Score]:
  """The scores of a codec."""
  count = len(result.originals)
  found: Mapping[str, float] = result.figures()
  rows = [
    Score("PSNR, dB", found["psnr"], count=count),
    Score("SSIM", found["ssim"], count=count),
  ]
  books = zip(result.used, result.perplexity, strict=True)
  for number, (used, perplexity) in enumerate(books):
    name = f" {number + 1}" if len(result.used) > 1 else ""
    rows.append(Score(f"codes{name} in use", used, percent=True, count=count))
    rows.append(Score(f"perplexity of codes{name}", perplexity, count=count))
  if result.kid:
    rows.append(Score(
      "kid_lite", result.kid.value, result.kid.low, result.kid.high, count=count,
      higher_is_better=False,
      note="a proxy on EfficientNet-Lite0 features; not comparable to published KID",
    ))  # fmt: skip
  return rows


def page(
  path: pathlib.Path, workdir: pathlib.Path, config: Config, codec: Weighted,
  result: Reconstructions,
) -> pathlib.Path:  # fmt: skip
  """Writes the page of a codec run and returns its path."""
  lines = [x for x in read_metrics(workdir) if "train/loss" in x]
  steps = np.array([x["step"] for x in lines])

  def curve(name: str) -> pages.Html:
    values = np.array([x.get(f"train/{name}") or np.nan for x in lines], float)
    return pages.line_chart(name, [pages.Series(name, steps, values)])

  shown = zip(result.originals[:SHOWN], result.decoded, strict=False)
  grid = [
    pages.Picture(np.concatenate([a, b], axis=0), f"picture {i}")
    for i, (a, b) in enumerate(shown)
  ]
  sections = [
    pages.Section("Scores", [pages.scores(headline(result))]),
    pages.Section(
      "Reconstructions", [pages.image_grid(grid)],
      lead="Held-out pictures above what the codec makes of them.",
    ),
    pages.Section("Training", [
      pages.columns(*(curve(name) for _, name in tasks.task_class(config).shown)),
    ]),
    pages.Section("About", [
      pages.key_values({
        "pixels a latent": codec.stride, "numbers a latent": codec.channels,
        "codes": codec.codebook or "none", "shift of latents": codec.shift,
        "scale of latents": codec.scale, "deviation after both": result.latent_std,
      }),
      pages.config(to_dict(config)),
    ]),
  ]  # fmt: skip
  kind = codec.form.plain()["bottleneck"]
  content = pages.ReportContent(f"codec {kind}", sections)
  return pages.build_report(path, content)
