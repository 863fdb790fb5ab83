"""Jobs: every value of a point reaches the training that it was meant for."""

import shlex
import subprocess
import sys

import pytest
from ml_collections import ConfigDict

from tests.conftest import ROOT
from unijax import cli, config_file
from unijax.commands.parsers import make_parser
from unijax.config import ConfigError
from unijax.sweep import jobs
from unijax.sweep.jobs import JobSpec, Resources, make_jobs

TINY = f"{ROOT}/configs/transfusion.py:tiny"

VALUES = {
  "text": ["", "plain", "two words", "it's \"quoted\"", "a,b=c", "$HOME `x` \\n;*?", "-1",
           "None", "True", "(1, 2)", "ünïcode ☃", "line\nbreak", "--config.text=x", "#!&|<>"],
  "real": [0.1, 1e-8, -3.0, 1 / 3, 5e-324, 1.7976931348623157e308, 2],
  "whole": [0, -7, 2**70],
  "flag": [True, False],
  "tuple": [(), (1,), ("a",), ("a b", "c'd", ""), (("patch/*", 0.1), ("x", 2)),
            (1.5, True, None), ("transformer/*", "!head")],
  "anything": [None, 3, (1, "x")],
  "inner.text": ["deep"],
}  # fmt: skip
FILE = """
from ml_collections import ConfigDict, config_dict
def get_config(preset=""):
  c = ConfigDict({"text": "t", "real": 0.5, "whole": 1, "flag": True, "tuple": (9,)})
  c.anything = config_dict.placeholder(object)
  c.inner = ConfigDict({"text": "u"})
  return c
"""


def as_training_reads(command) -> ConfigDict:
  """The config that a command gives `unijax train`, through its own parsers."""
  assert command[1:4] == ("-m", "unijax", "train")
  args, rest = make_parser().parse_known_args(command[3:])
  overrides, unknown = cli._config_arguments(rest)
  assert not unknown and args.verb == "train"
  return config_file.read(overrides)


@pytest.mark.parametrize("path", VALUES)
def test_values_are_read_back(tmp_path, path, monkeypatch):
  file = tmp_path / "c.py"
  file.write_text(FILE)
  monkeypatch.setattr(jobs, "_digest", lambda read: "")  # no such knobs
  points = [(str(n), {path: value}) for n, value in enumerate(VALUES[path])]
  made = make_jobs(f"{file}:p", points, tmp_path)
  for job, (_, point) in zip(made, points, strict=True):
    for command in (job.command, tuple(shlex.split(shlex.join(job.command)))):
      read = jobs.spread(as_training_reads(command).to_dict())[path]
      value = point[path]
      assert read == value and (type(read) is type(value) or type(value) is int), value


def test_the_commands_of_a_real_config(tmp_path):
  points = [
    ("lr=0.005", {"optim.learning_rate": 0.005}),
    ("b", {"optim.freeze": ["patch_codec/*"], "model.qk_norm": False, "seed": 3}),
  ]
  common = ["--config.train.steps=7", "--config.seed=1", "--config.optim.freeze=('x',)"]
  one, two = make_jobs(
    TINY, points, tmp_path / "runs", overrides=common, python="py", retries=1,
    resources=Resources("v5p:4x4x4", hosts=16), env=(("A", "b"),),
  )  # fmt: skip
  assert one == JobSpec(
    "lr=0.005",
    ("py", "-m", "unijax", "train", f"--config={TINY}",
     f"--workdir={tmp_path}/runs/lr=0.005", *common, "--config.optim.learning_rate=0.005"),
    f"{tmp_path}/runs/lr=0.005", (("A", "b"),), Resources("v5p:4x4x4", 16), 1, (75, 76), one.config,
  )  # fmt: skip
  assert one.resources.chips == 64 and one.resources.kind == "v5p"
  assert len(one.config) == 16 and one.config != two.config
  read = as_training_reads(two.command)
  assert read.seed == 3 and read.train.steps == 7
  assert read.optim.freeze == ("patch_codec/*",) and read.model.qk_norm is False


@pytest.mark.parametrize(
  ("points", "message"),
  [
    ([], "the sweep has no points, so there is nothing to run"),
    ([("a", {}), ("A", {})], "two points would share the run folder 'A'"),
    ([("../a", {})], "'../a' is no name of a run folder"),
    ([("a", {"optim.learning_rat": 0.1})],
     r"point a: unknown knob 'optim.learning_rat'.*learning_rate"),
    ([("a", {"optim learning": 1})], "'optim learning' is no path of a knob"),
    ([("a", {"seed": "3"})], "point a: seed: '3' is read back from the command line as 3"),
    ([("a", {"seed": True})], "point a: .*seed"),
    ([("a", {"data.tokenizer": "a\0b"})], "holds a NUL"),
    ([("a", {"optim.freeze": (object,)})], "optim.freeze: .* cannot be given on a command"),
    ([("a", {"model.width": 30.5})], "point a: .*30.5"),
    ([("a", {"model.depth": 0})], "point a: .*\n.*model.depth: 0 must be > 0"),
    ([("a", {"data.sources.scenes.schedule": [[1, 2.0]]})], "point a: .*schedule"),
  ],
)  # fmt: skip
def test_mistakes_are_named(tmp_path, points, message):
  with pytest.raises(ConfigError, match=message):
    make_jobs(TINY, points, tmp_path)


def test_resources_are_looked_at():
  assert Resources().chips == 0 and Resources("h100:8").chips == 8
  for wrong in ({"accelerator": "v5p"}, {"accelerator": "v5p:4by4"}, {"hosts": -1}):
    with pytest.raises(ConfigError):
      Resources(**wrong)


def test_no_jax_is_loaded():
  code = "import sys, unijax.sweep.jobs; sys.exit('jax' in sys.modules)"
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
