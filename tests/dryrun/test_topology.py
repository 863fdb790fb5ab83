"""Names of topologies, and what is said about wrong ones."""

import importlib.util

import pytest

from unijax.config import ConfigError
from unijax.dryrun import topology


@pytest.mark.parametrize(
  ("text", "slices", "devices"),
  [("v5p:8x8x16", 1, 1024), ("v5e:4x4", 2, 32), ("v6e:16x16", 1, 256), ("cpu:8", 1, 8)],
)
def test_devices(text, slices, devices):
  assert topology.parse(text, slices).devices == devices


@pytest.mark.parametrize(
  ("text", "said"),
  [
    ("v9:4x4", "unknown chip 'v9'; known: v5e, v5p, v6e, cpu"),
    ("v5e", "expected sizes after 'v5e:'"),
    ("v5e:4xx4", "expected sizes"),
    ("v5e:0x4", "expected sizes"),
    ("v5e:4x4x4", "2 dimensions, got 3"),
    ("v5p:8x8", "3 dimensions, got 2"),
    ("v5e:3x4", "hosts hold 2x2 chips"),
  ],
)
def test_a_wrong_name_is_explained(text, said):
  with pytest.raises(ConfigError, match="--topology") as error:
    topology.parse(text)
  assert said in str(error.value)


def test_slices_must_be_positive():
  with pytest.raises(ConfigError, match="--slices=0"):
    topology.parse("v5e:4x4", 0)


def test_a_missing_compiler_says_how_to_get_it(monkeypatch):
  find = importlib.util.find_spec
  monkeypatch.setattr(
    importlib.util, "find_spec", lambda name: None if name == "libtpu" else find(name)
  )
  with pytest.raises(ConfigError, match=r"pip install .*libtpu==0.*cpu:16"):
    topology.prepare(topology.parse("v5e:4x4"))


def test_more_simulated_devices_than_a_running_jax_has():
  import jax

  jax.devices()
  with pytest.raises(ConfigError, match="start a new process"):
    topology.prepare(topology.parse("cpu:4096"))
