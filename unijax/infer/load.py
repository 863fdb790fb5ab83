"""A trained run, ready to sample."""

import dataclasses
import pathlib

from unijax import codecs, config_images
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.store import Store
from unijax.config import Config, ConfigError, SampleConfig
from unijax.data.rows import RowBuilder
from unijax.data.sources import has_turns
from unijax.data.tokenizer import make_tokenizer
from unijax.infer.drawing import DrawingGenerator
from unijax.infer.functions import branches
from unijax.infer.generate import Generator, Prompt
from unijax.infer.tracks import layouts
from unijax.train import adapters
from unijax.train.functions import StepFunctions

SLOTS = 256  # caches of text grow by so many positions, each a program of its own
GENERATORS = {"unified": Generator, "drawing": DrawingGenerator}  # by train.task


def make_generator(config: Config, params, builder: RowBuilder, rows: int = 1, **more):
  """Returns what samples from the weights of a run; see `generate.Generator`.

  Raises:
    ConfigError: runs of this task draw and write nothing.
  """
  if config.train.task not in GENERATORS:
    raise ConfigError(
      f"sample: a run of train.task={config.train.task!r} draws and writes nothing; "
      f"those of {', '.join(GENERATORS)} do"
    )
  return GENERATORS[config.train.task](config, params, builder, rows, **more)


@dataclasses.dataclass
class LoadedRun:
  """Config, averaged weights and row format of a run directory."""

  config: Config
  params: dict
  builder: RowBuilder
  step: int

  @property
  def chat(self) -> bool:
    """Whether it is spoken to in turns: by its format, or as its documents have it."""
    format_ = dict(self.config.data.chat)
    return "user" in format_ if format_ else has_turns(self.config)

  def generator(self, rows: int = 1, longest: Prompt | None = None, **sample):
    """Returns a Generator, with knobs of the sample section replaced.

    Args:
      rows: prompts decoded together.
      longest: of the prompts to come: caches then hold that and what may be written and
        drawn, in place of data.seq_len positions, which of released models may be more
        than memory. Where text is written in blocks they hold all.
      **sample: fields of SampleConfig; None leaves the run's value.

    Raises:
      ConfigError: a guidance that such images do not have.
    """
    changes = {k: v for k, v in sample.items() if v is not None}
    new: SampleConfig = dataclasses.replace(self.config.sample, **changes)
    config = dataclasses.replace(self.config, sample=new)
    for problem in config_images.guidance(config):
      raise ConfigError(problem)
    more = {}
    if longest is not None and config.train.task == "unified" and not config.text_block:
      more = {"slots": min(self._positions(longest, new), config.data.seq_len)}
    return make_generator(config, self.params, self.builder, rows, **more)

  def _positions(self, prompt: Prompt, sample: SampleConfig) -> int:
    """Positions of a prompt and of all that may follow it, in whole `SLOTS`."""
    count = branches(dataclasses.replace(self.config, sample=sample))
    begun = max(map(len, layouts(self.builder, prompt, sample, count)))
    texts, images = prompt.max_text_tokens, prompt.max_images
    texts = sample.max_text_tokens if texts is None else texts
    images = sample.max_images if images is None else images
    if not self.config.draws or prompt.begin == "text":
      images = 0
    each = self.config.image_positions + 2  # with BOI and EOI
    return -(-(begun + texts + images * each) // SLOTS) * SLOTS


def load_run(
  workdir: str | pathlib.Path, step: int | None = None, only_sample: bool = False,
  layers_apart: bool | None = None,
) -> LoadedRun:  # fmt: skip
  """Reads a run directory.

  Args:
    workdir: written by training.
    step: which checkpoint; None is the latest.
    only_sample: keep the weights as sampling holds them (`infer.narrow`) and free the
      float32 ones, which losses are measured with.
    layers_apart: `sample.layers_apart`; None leaves the run's value.

  Raises:
    CheckpointError: no run, no such checkpoint, or one that cannot be read.
  """
  config = rundir.read_config(workdir)
  rundir.check_codec(workdir, codecs.identity(config.data.codec))
  if config.train.task not in GENERATORS:
    raise CheckpointError(
      f"{workdir} trained a {config.train.task} (train.task), which neither draws nor "
      "writes: look at it with `unijax eval --workdir`"
    )
  # The run's own copy: the file it was trained with may have moved.
  tokenizer = rundir.tokenizer_path(workdir, config)
  data = dataclasses.replace(config.data, tokenizer=tokenizer)
  config = adapters.without(dataclasses.replace(config, data=data))
  if layers_apart is not None:
    sample = dataclasses.replace(config.sample, layers_apart=layers_apart)
    config = dataclasses.replace(config, sample=sample)
  builder = RowBuilder(config, make_tokenizer(tokenizer))
  functions = StepFunctions(config, builder.vocabulary.size)
  store = Store(workdir, read_only=True)
  try:
    params, done = store.weights(functions.abstract_state().params, step)
  finally:
    store.close()
  loaded = LoadedRun(config, params, builder, done)
  if only_sample:
    loaded.params = loaded.generator().params
  return loaded
