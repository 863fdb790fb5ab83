"""Scenes: procedural pictures whose truth is known exactly.

options    what a data set contains             source    index -> document
world      shapes, colours, places, hold-outs   sample    random scenes of a split
render     scene -> pixels                      verify    pixels -> found things
language   captions said and read               spec      what they assert; is it true
questions  with one exact answer                answers   reads and answers them
edits      with exact outcomes                  items     evaluation items
baselines  what an oracle, a guesser and a colour-blind model would output
"""

from unijax.data.scenes.items import examples
from unijax.data.scenes.language import describe, parse
from unijax.data.scenes.options import SceneOptions
from unijax.data.scenes.source import SceneSource
from unijax.data.scenes.spec import Spec, holds
from unijax.data.scenes.verify import read_scene
from unijax.data.scenes.world import Scene, Thing

__all__ = [
  "Scene",
  "SceneOptions",
  "SceneSource",
  "Spec",
  "Thing",
  "describe",
  "examples",
  "holds",
  "parse",
  "read_scene",
]
