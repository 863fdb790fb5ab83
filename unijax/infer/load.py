"""A trained run, ready to sample."""

import dataclasses
import pathlib

from unijax import codecs
from unijax.checkpoint import rundir
from unijax.checkpoint.errors import CheckpointError
from unijax.checkpoint.store import Store
from unijax.config import Config, SampleConfig
from unijax.data.rows import RowBuilder
from unijax.data.sources import has_turns
from unijax.data.tokenizer import make_tokenizer
from unijax.infer.generate import Generator
from unijax.train.functions import StepFunctions


@dataclasses.dataclass
class LoadedRun:
  """Config, averaged weights and row format of a run directory."""

  config: Config
  params: dict
  builder: RowBuilder
  step: int

  @property
  def chat(self) -> bool:
    """Whether its documents have turns of user and assistant."""
    return has_turns(self.config)

  def generator(self, rows: int = 1, **sample) -> Generator:
    """Returns a Generator, with knobs of the sample section replaced.

    Args:
      rows: prompts decoded together.
      **sample: fields of SampleConfig; None leaves the run's value.
    """
    changes = {k: v for k, v in sample.items() if v is not None}
    new: SampleConfig = dataclasses.replace(self.config.sample, **changes)
    config = dataclasses.replace(self.config, sample=new)
    return Generator(config, self.params, self.builder, rows)


def load_run(workdir: str | pathlib.Path, step: int | None = None) -> LoadedRun:
  """Reads a run directory.

  Args:
    workdir: written by training.
    step: which checkpoint; None is the latest.

  Raises:
    CheckpointError: no run, no such checkpoint, or one that cannot be read.
  """
  config = rundir.read_config(workdir)
  rundir.check_codec(workdir, codecs.identity(config.data.codec))
  if config.train.task != "unified":
    raise CheckpointError(
      f"{workdir} trained a {config.train.task} (train.task), which neither reads nor "
      "writes rows: look at it with `unijax eval --workdir`"
    )
  # The run's own copy: the file it was trained with may have moved.
  tokenizer = rundir.tokenizer_path(workdir, config)
  data = dataclasses.replace(config.data, tokenizer=tokenizer)
  config = dataclasses.replace(config, data=data)
  builder = RowBuilder(config, make_tokenizer(tokenizer))
  functions = StepFunctions(config, builder.vocabulary.size)
  store = Store(workdir, read_only=True)
  try:
    state = store.restore(functions.abstract_state(), step)
  finally:
    store.close()
  return LoadedRun(config, state.ema_params, builder, int(state.step))
