"""Laws of what a run keeps of its data: planned windows, and weights losses chose."""

import pytest

from tests.data.test_loader import equal, read
from tests.data.test_parts import MIXTURES, SOURCES, config
from unijax.config import ConfigError
from unijax.data.document import DataError
from unijax.data.loader import Loader
from unijax.data.plan_cache import NAME, PlanCache
from unijax.types import Batch


def measured(loader, monkeypatch) -> list[int]:
  keys, original = [], loader.builder.measure
  monkeypatch.setattr(
    loader.builder, "measure",
    lambda document, key: keys.append(key) or original(document, key),
  )  # fmt: skip
  return keys


@pytest.mark.parametrize("mixture", MIXTURES)
@pytest.mark.parametrize("damage", [None, 0, 40, -10])
def test_a_resumed_run_measures_only_what_it_reads(
  tmp_path, monkeypatch, caplog, mixture, damage
):
  c = config(**MIXTURES[mixture])
  first = Loader(c, folder=tmp_path)
  batches = read(first, 0, 30)
  path = tmp_path / NAME
  if damage is not None:
    content = bytearray(path.read_bytes())
    content[damage] ^= 4
    path.write_bytes(content)
  again = Loader(c, folder=tmp_path)
  keys = measured(again, monkeypatch)
  assert equal(again.batch(29), batches[29])
  assert (len(keys) > 32) == (damage is not None)
  assert ("is damaged: the windows" in caplog.text) == (damage is not None)
  assert again.padding(29) == first.padding(29) < 1
  assert equal(read(Loader(c, folder=tmp_path), 11, 1)[0], batches[11])
  assert again.plan_hash == first.plan_hash == Loader(c).plan_hash


def test_windows_of_other_data_are_refused(tmp_path):
  loader = Loader(config(), folder=tmp_path)
  read(loader, 0, 4)
  windows = loader.rows.plan.windows
  windows.rows[1] += 1
  cache = PlanCache(tmp_path, loader.plan_hash)
  cache.save(windows, now=True)
  row = windows.rows[0]
  with pytest.raises(DataError, match=f"window 1 .*{NAME}.*has changed"):
    Loader(config(), folder=tmp_path).batch(row // 2 + 1)


def test_the_hash_names_what_decides_the_rows():
  def sources(**changes):
    return {**SOURCES, "short": {**SOURCES["short"], **changes}}

  base = config()
  referenced = {name: {**s, "reference": 2.0} for name, s in SOURCES.items()}
  other = {
    "seed": config(seed=1),
    "seq_len": config(data__seq_len=161),
    "images": config(data__images_per_row=7),
    "window": config(data__window=17),
    "patches": config(data__patch_size=8),
    "dropout": config(data__caption_dropout=0.2),
    "token": config(model__time_injection="token"),
    "lines": config(
      model__write="gmm",
      model__image_mask="causal",
      model__patch_position="learned",
      data__image_tokens=(("line", 10),),
    ),
    "weight": config(data__sources=sources(weight=0.3)),
    "content": config(data__sources=sources(options={"grid": 3})),
    "schedule": config(
      data__mixture="step", data__sources=sources(schedule=[[3, 1.0]])
    ),
    "linear": config(
      data__mixture="linear", data__sources=sources(schedule=[[3, 1.0]])
    ),
    "loss": config(**LOSS),
    "rate": config(**{**LOSS, "data__mixture_rate": 0.1}),
    "every": config(**{**LOSS, "data__mixture_every": 7}),
    "floor": config(**{**LOSS, "data__mixture_floor": 0.2}),
    "reference": config(**{**LOSS, "data__sources": referenced}),
  }
  hashes = {name: Loader(c).plan_hash for name, c in {"base": base, **other}.items()}
  assert len(set(hashes.values())) == len(hashes)
  assert Loader(base, held_out=True).plan_hash != hashes["base"]
  same = config(
    data__threads=8, train__batch_size=4, train__steps=9, model__width=64,
    data__mixture_rate=0.1, data__noise_limit=0.3,
  )  # fmt: skip
  assert Loader(same).plan_hash == hashes["base"]


def test_a_schedule_moves_the_mixture():
  sources = {
    "long": {**SOURCES["long"], "weight": 0.0, "schedule": [[8, 1.0]]},
    "short": {**SOURCES["short"], "weight": 1.0, "schedule": [[8, 0.0]]},
  }

  def shares(kind):
    loader = Loader(config(data__mixture=kind, data__sources=sources))
    rows = [loader.rows.plan.documents(r) for r in range(60)]
    windows = len(loader.rows.plan.windows)
    names = [loader.stream[n][1] for n in range(16 * windows)]
    assert rows
    return [names[16 * w : 16 * w + 16].count("long") / 16 for w in range(windows)]

  step, linear = shares("step"), shares("linear")
  assert step[0] == linear[0] == 0.0 and step[-1] == linear[-1] == 1.0
  assert set(step) == {0.0, 1.0}
  assert len(set(linear)) > 2 and linear == sorted(linear)


# -- weights that follow the losses ------------------------------------------------------

LOSS = dict(
  data__mixture="loss", data__mixture_every=6, data__mixture_rate=1.0,
  data__sources={name: {**s, "reference": 1.0} for name, s in SOURCES.items()},
)  # fmt: skip


def losses(step: int) -> dict[str, float]:
  return {"long": 1.0, "short": 2.0 + step / 10}


def train(loader, start, stop) -> list[Batch]:
  """What the loop does: hooks before the batch of their step."""
  batches = []
  with loader.iterate(start) as reading:
    for step in range(start, stop):
      if step and step % 6 == 0:
        loader.reweigh(step, losses(step))
      batches.append(next(reading))
  return batches


def test_a_run_that_follows_its_losses_resumes_exactly(tmp_path):
  c = config(**LOSS)
  whole = train(Loader(c, folder=tmp_path / "a"), 0, 30)
  constant = read(Loader(config()), 0, 3)
  assert not equal(whole[0], constant[0])  # another interleave, as it must change
  first = train(Loader(c, folder=tmp_path / "b"), 0, 21)
  again = train(Loader(c, folder=tmp_path / "b"), 13, 30)  # resumed at a checkpoint
  eight = Loader(config(data__threads=1, **LOSS), folder=tmp_path / "b")
  for t in range(30):
    assert t >= 21 or equal(first[t], whole[t])
    assert t < 13 or equal(again[t - 13], whole[t])
  assert equal(eight.batch(29), whole[29]) and equal(eight.batch(2), whole[2])
  history = eight.history
  assert [(s.step, s.first_row) for s in history.segments] == [
    (6, 24), (12, 36), (18, 48), (24, 60),
  ]  # fmt: skip
  short = [w for _, w in (s.weights for s in history.segments)]
  assert short == sorted(short) and short[0] > 0.25 and max(short) <= 0.95
  names = [eight.stream[n][1] for n in range(16 * (len(eight.rows.plan.windows) - 1))]
  assert names[-64:].count("short") > 2 * names[:64].count("short")


def test_windows_fall_with_the_weights_they_were_packed_by(tmp_path):
  c = config(**LOSS)
  train(Loader(c, folder=tmp_path), 0, 30)
  (tmp_path / "mixture.json").unlink()
  fresh, other = Loader(c, folder=tmp_path), Loader(c)
  assert 0 < len(fresh.rows.plan.windows)
  assert equal(fresh.batch(29), other.batch(29))


def test_recorded_weights_are_not_chosen_again(tmp_path):
  loader = Loader(config(**LOSS), folder=tmp_path)
  chosen = loader.reweigh(6, losses(6))
  assert loader.reweigh(6, {"long": 99.0, "short": 0.0}) == chosen
  again = Loader(config(**LOSS), folder=tmp_path)
  assert again.reweigh(6, {"long": 99.0, "short": 0.0}) == chosen
  with pytest.raises(DataError, match="was planned before step 3"):
    again.reweigh(3, losses(3))  # a later step has chosen


def test_weights_never_change_rows_that_are_planned():
  loader = Loader(config(**LOSS))
  loader.batch(40)
  with pytest.raises(DataError, match="was planned before step 6.*mixture_every"):
    loader.reweigh(6, losses(6))
  with pytest.raises(ConfigError, match="data.mixture_every: 6 must be more than the"):
    Loader(config(data__threads=8, **LOSS))


def test_held_out_rows_keep_the_weights_of_step_0():
  held = Loader(config(**MIXTURES["linear"]), held_out=True)
  assert {held.stream[n][1] for n in range(40)} == {"short"}
  assert Loader(config(**LOSS), held_out=True).history is None


def test_padding_is_low_at_2048_positions():
  """The mixture of the tiny preset; `unijax data plan` prints the same figure."""
  from configs import transfusion
  from unijax.config import from_config_dict

  c = transfusion.get_config("tiny")
  c.data.update(seq_len=2048, images_per_row=192, window=4096)
  assert Loader(from_config_dict(c)).padding(0) < 0.03
