"""Models that are put together of released parts: their fields and sizes."""

from ml_collections import ConfigDict

from unijax.interop.keymap import Key


def below(prefix: str, sizes):
  """What files tell of a part whose fields stand below `prefix` in config.json."""
  return {f"{prefix}{name}": told for name, told in sizes.items()}


def decoder(published, **defaults):
  """Fields of the decoder of text, with the padding that the whole model names."""
  words, pad = published.part("text_config.", **defaults), published.get("pad_token_id")
  return words if pad is None else words.given(pad_token_id=pad)


def read_through(c, eyes, frame: str) -> None:
  """Gives a decoder eyes: an encoder whose features a two-layer connector reads.

  Args:
    c: config of the decoder, which is changed.
    eyes: config of the encoder alone.
    frame: as data.image_frame.
  """
  c.vision, c.align.objective = eyes.vision, "none"
  c.model.update(read="features", connector="mlp")
  prepared = ("image_size", "fit", "resample", "resize")
  c.data.update({name: eyes.data[name] for name in prepared})
  c.data.update(image_frame=frame, noise_limit=0.0, images_per_row=4)


def either(first, second):
  """Keys whose weights have the names of one layout, or of a second one.

  Args:
    first: keys of the layout that is written.
    second: keys of the other, of the same leaves.
  """
  others = {key.ours: key.ways for key in second}
  return tuple(Key(k.ours, (*k.ways, *others.get(k.ours, ()))) for k in first)


def autoencoder(system, published, **usual) -> ConfigDict:
  """Our config of an autoencoder whose config.json is the field `vae`.

  Args:
    system: module of its own files.
    published: fields of the whole release; what weights tell of it is among them.
    **usual: what else it is, where its config.json does not say.
  """
  told = {name: published[name] for name in system.SIZES if name in published}
  return system.get_config(published.part("vae.", **usual).given(**told))
