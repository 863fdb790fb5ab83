"""The table of systems is what the configs say."""

import types

import pytest

from tests.conftest import ROOT
from unijax.commands import systems
from unijax.config import ConfigError


@pytest.fixture(scope="module")
def found():
  return systems.read(ROOT / "configs")


def test_the_map_holds_the_table_of_today(found):
  assert systems.markdown(found) in (ROOT / "WORKSPACE.md").read_text(), (
    "run: unijax systems --write=WORKSPACE.md"
  )


def test_every_config_is_in_one_table_and_says_what_it_picks(found, capsys):
  args = types.SimpleNamespace(configs=str(ROOT / "configs"), write="")
  assert systems.run(args)["systems"] == sorted(found)
  lines = capsys.readouterr().out.splitlines()
  for name in found:
    assert sum(line.split()[:1] == [name] for line in lines) == 1
  chameleon = next(line for line in lines if line.startswith("chameleon.py"))
  assert chameleon.split()[1:4] == ["codes", "blocks", "shared"]
  assert chameleon.split()[-3:] == ["-", "-", "-"]  # no timesteps anywhere


def test_writing_keeps_what_stands_around_and_needs_the_marks(found, tmp_path):
  path = tmp_path / "map.md"
  path.write_text(f"above\n{systems.BEGIN}\nold\n{systems.END}\nbelow\n")
  systems.write(path, found)
  text = path.read_text()
  assert text == f"above\n{systems.markdown(found)}\nbelow\n" and "old" not in text
  path.write_text("nothing\n")
  with pytest.raises(ConfigError, match="has no lines"):
    systems.write(path, found)
  with pytest.raises(ConfigError, match="no config files"):
    systems.read(tmp_path)
