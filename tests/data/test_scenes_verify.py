"""The reader of pictures: measured error rates, and what must never pass."""

import numpy as np
import pytest
from scipy import ndimage

from unijax.data.scenes import SceneOptions, SceneSource, read_scene, world
from unijax.data.scenes.render import render
from unijax.data.scenes.verify import UNKNOWN

CASES = (
  dict(image_size=32, grid=2, max_objects=2),
  dict(image_size=32, grid=2, max_objects=4),
  dict(image_size=48, max_objects=5),
  dict(image_size=64, max_objects=5),
  dict(image_size=128, max_objects=5),
)


def noise(sigma):
  def damage(pixels, rng):
    noisy = pixels + rng.normal(0.0, sigma, pixels.shape)
    return np.clip(noisy, 0, 255).astype(np.uint8)

  return damage


def blur(pixels, rng):
  return ndimage.gaussian_filter(pixels, (0.8, 0.8, 0.0))


# damage -> lowest share of scenes read exactly, by mode. Measured on 300 scenes a size:
# 1.000 everywhere in both modes but .997 for `clean` at sigma 16 and 32 pixels.
DAMAGES = {
  "none": (lambda pixels, rng: pixels, {"clean": 0.995, "soft": 0.995}),
  "noise 8": (noise(8.0), {"clean": 0.99, "soft": 0.99}),
  "noise 16": (noise(16.0), {"clean": 0.97, "soft": 0.99}),
  "blur 0.8": (blur, {"soft": 0.99}),
}


def pictures(case, n):
  options = SceneOptions(tasks={"draw": 1.0}, seed=5, num_documents=n, **case)
  source = SceneSource(options)
  scenes = [source.scene(i) for i in range(n)]
  return scenes, [render(scene, options.image_size) for scene in scenes]


def looks(things):
  return sorted((t.shape, t.colour, t.size) for t in world.things_of(things))


def kinds(things):
  return [look[:2] for look in looks(things)]


@pytest.mark.parametrize("case", CASES)
def test_scenes_are_read_exactly(case):
  n = 300 if case["image_size"] < 64 else 100
  scenes, drawn = pictures(case, n)
  grid, size = case.get("grid", 0), case["image_size"]
  rng = np.random.default_rng(0)
  for name, (damage, rates) in DAMAGES.items():
    damaged = [damage(pixels, rng) for pixels in drawn]
    for mode, least in rates.items():
      right = accepted = 0
      for i, (scene, pixels) in enumerate(zip(scenes, damaged, strict=True)):
        found = read_scene(pixels, grid=grid, mode=mode)
        other = scenes[(i + 1) % n]
        accepted += looks(found) == looks(other) != looks(scene)
        if looks(found) == looks(scene):
          right += 1
          for thing in scene.things:  # a pixel at most off
            near = [max(abs(f.x - thing.x), abs(f.y - thing.y)) * size for f in found]
            assert min(near) < 1.0
      assert right / n >= least, (name, mode)
      assert accepted == 0, (name, mode)


def unknown(found):
  return any(UNKNOWN in (t.shape, t.colour) for t in found)


@pytest.mark.parametrize("mode", ("clean", "soft"))
@pytest.mark.parametrize("case", CASES[::2])
def test_noise_and_flat_pictures_are_no_scene(case, mode):
  rng = np.random.default_rng(0)
  size = case["image_size"]
  shape = (size, size, 3)
  for _ in range(10):
    for pixels in (
      rng.integers(0, 256, shape),
      np.clip(rng.normal(128, 40, shape), 0, 255),
      np.clip(rng.normal(250, 40, shape), 0, 255),
      np.full(shape, rng.integers(0, 200)),
    ):
      found = read_scene(pixels.astype(np.uint8), grid=case.get("grid", 0), mode=mode)
      assert found and unknown(found)
  assert read_scene(np.full(shape, 255, np.uint8), grid=case.get("grid", 0)) == []


@pytest.mark.parametrize("mode", ("clean", "soft"))
def test_ghosts_halves_and_pale_things_are_unknown(mode):
  scenes, drawn = pictures(CASES[0], 100)
  failed = {"ghost": 0, "half": 0, "pale": 0}
  for i, scene in enumerate(scenes):
    mean = (drawn[i].astype(int) + drawn[i - 1]) // 2
    half = drawn[i].copy()
    thing = scene.things[0]
    r = world.radius(thing.size, 2)
    low, high = (int(v * 32) for v in (thing.x - r, thing.x))
    rows = slice(max(int((thing.y - r) * 32) - 1, 0), int((thing.y + r) * 32) + 2)
    half[rows, max(low, 0) : high] = 250
    pale = 250 - (250 - drawn[i].astype(int)) * 0.6
    for name, pixels in (("ghost", mean), ("half", half), ("pale", pale)):
      found = read_scene(np.asarray(pixels).astype(np.uint8), grid=2, mode=mode)
      failed[name] += kinds(found) != kinds(scene)
  assert failed["ghost"] >= 97 and failed["half"] == failed["pale"] == 100


def test_soft_forgives_specks_and_shades_where_clean_does_not():
  scenes, drawn = pictures(CASES[0], 60)
  rng = np.random.default_rng(0)
  right = {"clean": 0, "soft": 0}
  for scene, pixels in zip(scenes, drawn, strict=True):
    off = 125 + (pixels.astype(float) - 125) * 0.85  # paler paint on a grayer ground
    y, x = rng.integers(0, 32, (2, 4))
    off[y, x] = rng.integers(0, 256, (4, 3))
    for mode in right:
      found = read_scene(off.astype(np.uint8), grid=2, mode=mode)
      right[mode] += looks(found) == looks(scene)
  assert right["soft"] >= 58 and right["clean"] <= 30


def test_wrong_arrays_are_refused():
  with pytest.raises(ValueError, match="uint8"):
    read_scene(np.zeros((32, 32, 3), np.float32))
  with pytest.raises(ValueError, match="square"):
    read_scene(np.zeros((32, 16, 3), np.uint8))
  with pytest.raises(ValueError, match="mode"):
    read_scene(np.zeros((32, 32, 3), np.uint8), mode="hard")
