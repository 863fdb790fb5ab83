"""The dry run of every task, of every way of sharing, and of the stages of a run."""

import jax
import pytest

from tests import dits, small
from tests.codecs import test_drawn
from tests.dryrun import golden
from tests.train import test_alignment, test_drawing, test_stages
from unijax.config import ConfigError
from unijax.dryrun import plan, sampling, table, topology
from unijax.infer.generate import Generator
from unijax.nn.sharing import SHARING
from unijax.scale.mesh import make_mesh
from unijax.train import tasks
from unijax.train.functions import StepFunctions

CPU = topology.parse("cpu:1")
CONFIGS = {
  "unified": lambda: small.scenes(),
  "drawing": lambda: test_drawing.config("cross"),
  "codec": lambda: small.codec("vq"),
  "decoder": lambda: test_drawn.config(),
  "alignment": lambda: test_alignment.config(train__batch_size=8),
}
READ = dict(
  model__read="fused", vision__patch_size=16, vision__width=64,
  vision__depth=4, vision__heads=4, vision__mlp_width=256, data__noise_limit=0.0,
)  # fmt: skip
ROUTED = dict(model__experts=4, model__experts_per_token=2, model__expert_width=24)


def measured(config):
  """(state, batch, memory analysis) of the step that training really runs."""
  loader = tasks.make_loader(config)
  mesh = make_mesh(config.mesh, jax.devices()[:1])
  functions = StepFunctions(config, loader.vocab, mesh)
  state, batch = functions.init(), functions.place(loader.batch(0))
  return state, batch, functions.train.lower(state, batch).compile().memory_analysis()


def size(tree) -> int:
  return sum(x.nbytes for x in jax.tree.leaves(tree))


def same_memory(report: dict, state, batch, real) -> None:
  """What is planned is what the arrays of training take, and its program."""
  m = report["memory_bytes"]
  assert m["params"] == size(state.params) > 0
  assert m["optimizer"] == size(state.opt_state)
  assert m["batch"] == size(batch) > 0
  assert m["gradients"] + m["activations"] == real.temp_size_in_bytes > m["params"]
  whole = (
    real.argument_size_in_bytes + real.temp_size_in_bytes + real.output_size_in_bytes
    - real.alias_size_in_bytes + real.generated_code_size_in_bytes
  )  # fmt: skip
  assert m["total"] == whole


QUICK = ("unified", "ffn")  # of these, by default


def each(names):
  """Names as parameters of a test; most are slow."""
  slow = pytest.mark.slow
  return [n if n in QUICK else pytest.param(n, marks=slow) for n in names]


@pytest.mark.parametrize("task", each(tasks.TASKS))
def test_memory_of_every_task_is_that_of_its_training_step(task):
  config = CONFIGS[task]()
  report, text = plan.plan(config, CPU, most=0)
  assert report["fits"] and text and report["collectives"] == []
  same_memory(report, *measured(config))
  rows = config.train.batch_size
  assert report["unit"] == ("position" if task == "unified" else "picture")
  assert report["units_per_step"] == rows * (160 if task == "unified" else 1)
  said = "\n".join(table.lines(report))
  assert f"{rows} " + report["batch"].partition(" ")[2] in said
  assert f"model FLOPs of a step {report['flops']['model']:.4g}" in said
  assert ("visible keys" in said) == ("rows" in report) == (task == "unified")


def test_flops_are_those_of_the_whole_step():
  """An encoder that is read through counts; padding and hidden keys are told apart."""
  plain, read = plan_flops(small.scenes()), plan_flops(small.scenes(**READ))
  assert read["dense"] > 1.2 * plain["dense"]
  for f in (plain, read):
    assert 0 < f["model"] < f["computed"] < f["dense"] and f["recomputed"] == 0
  full = plan_flops(small.scenes(**READ, model__remat="full"))
  assert full["dense"] == read["dense"] and full["recomputed"] > 0
  drawn = plan_flops(CONFIGS["drawing"]())
  assert drawn["model"] == drawn["computed"] == drawn["dense"] > 0


def plan_flops(config) -> dict:
  rows, vocab = plan.read_rows(config)
  return plan.count(config, vocab, rows)["flops"]


@pytest.mark.parametrize("sharing", each(n for n in SHARING if n != "shared"))
def test_memory_of_every_way_of_sharing_is_that_of_its_training_step(sharing):
  config = small.scenes(model__sharing=sharing, **ROUTED)
  report, _ = plan.plan(config, CPU, most=0)
  same_memory(report, *measured(config))


@pytest.mark.slow
def test_experts_are_divided_over_their_axis():
  report, code = golden.plan([
    "plan", "--config=configs/mot.py:tiny", "--topology=cpu:8",
    "--config.mesh.preset=fsdp_ep", "--config.model.sharing=experts",
    "--config.model.depth=1", "--config.model.scan_unroll=1",
    "--config.model.width=64", "--config.model.heads=2",
    "--config.model.kv_heads=2", "--config.model.experts=8",
    "--config.model.expert_width=512",
  ])  # fmt: skip
  assert code == 0 and report["mesh"] == {"fsdp": 2, "expert": 4}
  experts = 8 * 3 * 64 * 512 * 4  # of which the axis fsdp alone would leave a half
  assert experts / 8 < report["memory_bytes"]["params"] < experts / 3
  over = {c["kind"] for c in report["collectives"] if "expert" in c["axis"]}
  assert over & {"all-gather", "all-to-all"} and over & {"reduce-scatter", "all-reduce"}


@pytest.mark.slow
def test_stages_whose_steps_differ_are_planned_apart():
  config = test_stages.config()
  assert plan.programs(config) == {0: ["captions"], 1: ["all"]}
  assert plan.programs(config, "all") == {1: ["all"]}
  reports = [plan.plan(config, CPU, most=0, stage=i)[0] for i in range(2)]
  frozen, whole = (r["memory_bytes"] for r in reports)
  assert frozen["params"] == whole["params"]
  temporary = [m["gradients"] + m["activations"] for m in (frozen, whole)]
  assert temporary[0] < temporary[1], "what is frozen has no gradients"
  both = {"stages": [{"stage": ["a", "b"], **reports[0]}, reports[1]]}
  assert table.lines(both)[0] == "== stage a and b"
  with pytest.raises(ConfigError, match="--stage=al: unknown .did you mean 'all'"):
    plan.programs(config, "al")


def test_stages_that_differ_in_rates_alone_are_planned_once():
  rate = lambda x: {"optim": {"learning_rate": x}}
  config = test_stages.staged(rate(1e-3), rate(1e-4))
  assert plan.programs(config) == {0: ["captions", "all"]}
  with pytest.raises(ConfigError, match="--stage=all: train.stages is empty"):
    plan.programs(small.scenes(), "all")


def test_sampling_of_other_tasks_is_refused():
  config = dits.config(train__task="drawing")
  with pytest.raises(ConfigError, match="--sampling: train.task='drawing'"):
    sampling.plan(config, CPU, 1)


def test_sampling_is_planned_with_the_weights_that_a_generator_holds():
  config = small.config(model__dtype="bfloat16", model__depth=1)
  place = jax.sharding.SingleDeviceSharding(jax.devices()[0])
  calls = sampling.abstract_calls(config, 1, place)
  kinds = lambda tree: [(x.shape, x.dtype) for x in jax.tree.leaves(tree)]
  weights = Generator(config, small.params(config, 0), small.builder(config)).params
  for arguments in calls.arguments.values():
    assert kinds(arguments[0]) == kinds(weights)
  assert {dtype.name for _, dtype in kinds(weights)} == {"float32", "bfloat16"}
