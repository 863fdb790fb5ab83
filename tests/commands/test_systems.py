"""The table of systems is what the configs say."""

import types

import pytest

from tests.conftest import ROOT
from unijax.commands import released, systems
from unijax.config import ConfigError
from unijax.interop import system


@pytest.fixture(scope="module")
def found():
  return systems.read(ROOT / "configs")


def test_the_map_holds_the_table_of_today(found):
  assert systems.markdown(found) in (ROOT / "WORKSPACE.md").read_text(), (
    "run: unijax systems --write=WORKSPACE.md"
  )


def test_every_config_is_in_one_table_and_says_what_it_picks(found, capsys):
  about = dict(write="", sizes=False, released=False)
  args = types.SimpleNamespace(configs=str(ROOT / "configs"), **about)
  assert systems.run(args)["systems"] == sorted(found)
  lines = capsys.readouterr().out.splitlines()
  for name in found:
    assert sum(line.split()[:1] == [name] for line in lines) == 1
  chameleon = next(line for line in lines if line.startswith("chameleon.py"))
  assert chameleon.split()[1:4] == ["codes", "patches", "blocks"]
  assert chameleon.split()[-3:] == ["-", "-", "-"]  # no timesteps anywhere


def test_writing_keeps_what_stands_around_and_needs_the_marks(found, tmp_path):
  path = tmp_path / "map.md"
  path.write_text(f"above\n{systems.BEGIN}\nold\n{systems.END}\nbelow\n")
  systems.put(path, systems.markdown(found))
  text = path.read_text()
  assert text == f"above\n{systems.markdown(found)}\nbelow\n" and "old" not in text
  path.write_text("nothing\n")
  with pytest.raises(ConfigError, match="has no lines"):
    systems.put(path, systems.markdown(found))
  with pytest.raises(ConfigError, match="no config files"):
    systems.read(tmp_path)


def test_sizes_stand_beside_the_published_ones(tmp_path, capsys):
  """A preset that differs is named, unless the file explains it."""
  text = (
    '"""Size of off: explained."""\n'
    "from configs import base\n"
    'PUBLISHED = {"right": 80_480, "off": 1e5, "wrong": 1e5}\n'
    'COUNTED = dict.fromkeys(PUBLISHED, ("*", "!time_embedding/*", "!patch_codec/*"))\n'
    "VOCAB = dict.fromkeys(PUBLISHED, 1000)\n"
    'def get_config(preset="tiny"):\n'
    '  if preset not in ("tiny", "other", *PUBLISHED):\n'
    '    raise ValueError("unknown; known: tiny, right, off, wrong, other")\n'
    "  c = base.get_config()\n"
    "  c.model.update(depth=1, width=32, heads=2, kv_heads=2, head_dim=16)\n"
    "  c.model.update(mlp_width=128, qk_norm=False)\n"
    '  c.data.sources.scenes = {"kind": "scenes", "weight": 1.0, "options": {}}\n'
    "  return c\n"
  )
  (tmp_path / "x.py").write_text(text)
  args = types.SimpleNamespace(
    configs=str(tmp_path), write="", sizes=True, released=False
  )
  result = systems.run(args)
  block = 4 * 32 * 32 + 3 * 32 * 128 + 2 * 32  # attention, gated MLP, two norms
  counted = block + 32 + 2 * 1000 * 32  # the last norm, both tables
  found = result["sizes"]["x.py:right"]
  assert found["counted"] == counted < found["built"]
  assert result["differ"] == ["x.py:wrong"]
  lines = {
    x.split()[0]: x for x in capsys.readouterr().out.splitlines() if "x.py:" in x
  }
  assert "explained in the file" in lines["x.py:off"]
  assert "not known" in lines["x.py:other"] and "DIFFERS" in lines["x.py:wrong"]


def test_what_a_released_model_needs_is_counted():
  chosen = system.load("qwen2")
  fields = chosen.fields(chosen.sizes()["2.5-0.5B"])
  found = released.need(chosen, "2.5-0.5B", chosen.config(fields), 16)
  layers, width, heads, hidden = 24, 896, (896, 128), 4864
  number = 494_032_768
  assert found.parameters == number
  small = layers * (2 * width + heads[0] + 2 * heads[1]) + width  # norms and biases
  assert found.weights == 2 * (number - small) + 4 * small
  assert found.context == 32768
  assert found.cache == layers * 32768 * 2 * 128 * 2 + 4  # and its length
  assert found.full[0] == pytest.approx(20 * number, rel=1e-6)
  assert found.full[1] == pytest.approx(found.full[0] / 16, rel=1e-2)
  maps = [(width, heads[0]), (heads[0], width), *[(width, heads[1])] * 2,
          *[(width, hidden)] * 2, (hidden, width)]  # fmt: skip
  pairs = layers * released.RANK * sum(a + b for a, b in maps)
  assert found.pairs[0] == pytest.approx(4 * number + 20 * pairs, rel=1e-6)
  assert found.row()[:3] == ["qwen2", "2.5-0.5B", "494,032,768"]
