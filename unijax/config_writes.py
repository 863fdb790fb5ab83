"""What configs, rows and the model must know of each way to write images.

`model.write` names one. How a way trains and draws is in `unijax.write`, whose table
has the same names.
"""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Write:
  """Facts of one way to write images.

  Attributes:
    discrete: image positions hold codes of `data.codec` as tokens, not patches.
    timed: patches are noised, and the model reads their timestep.
    masks: the vocabulary has a token that stands where something is hidden.
    in_order: each position is predicted from those before it, so that none may see a
      later one of its image.
    whole: an image is hidden or noised, and drawn, as a whole, so that a row may hold
      it twice: what is drawn, and a clean copy for what follows (`data.clean_copy`).
    slots: tokens between BOI and an image, `bridge.slots` of them, whose hidden states
      a decoder of its own draws from.
    blocks: text too is hidden and filled, in blocks of `model.text_block` positions.
    hidden: patches are hidden as a whole, and the model has a vector that stands for
      a hidden one.
    never: no image is written; those that are read come through an encoder.
  """

  discrete: bool = False
  timed: bool = False
  masks: bool = False
  in_order: bool = False
  slots: bool = False
  whole: bool = False
  blocks: bool = False
  hidden: bool = False
  never: bool = False


# Places of data.image_tokens: behind BOI, behind each line of patches, before EOI.
IMAGE_PLACES = ("open", "line", "close")
WRITES = {
  "diffusion": Write(timed=True, whole=True),
  "codes": Write(discrete=True, in_order=True),
  "masked": Write(discrete=True, masks=True, whole=True),
  "token_diffusion": Write(in_order=True),
  "gmm": Write(in_order=True),
  "bridge": Write(slots=True),
  "regression": Write(in_order=True),
  "masked_all": Write(discrete=True, masks=True, blocks=True),
  "masked_diffusion": Write(hidden=True),
  "none": Write(never=True),
}


def problems(c, codec):
  """Yields one line for each pair of knobs that clash; `c` is a Config.

  Args:
    codec: sizes of data.codec.
  """
  m, write = c.model, WRITES[c.model.write]
  if m.code_adapter != "none" and not (write.discrete and write.in_order):
    yield (
      f"model.code_adapter: {m.code_adapter!r} gives codes a table and a softmax of "
      f"their own, and model.write={m.write!r} writes none, or tokens that are no "
      "codes: use 'none', or model.write='codes'"
    )
  yield from _code_ids(c, codec)
  yield from _image_tokens(c)
  if not (write.discrete or write.never or codec.channels):
    yield (
      f"data.codec: {c.data.codec!r} says how many codes there are and no more, and "
      f"model.write={m.write!r} needs latents: name the run of a codec"
    )
  if m.image_mask == "framed" and not (write.in_order or write.blocks or write.hidden):
    yield from _framed(c, write)
  if c.data.without_text != "dropped" and write.blocks:
    yield (
      f"data.without_text: {c.data.without_text!r} keeps the places of text; blocks of "
      f"model.write={m.write!r} have no gaps, and padding where a text has ended: use "
      "'dropped'"
    )


def _code_ids(c, codec):
  """Problems of codes that have ids of their own choice."""
  ids, m = c.data.code_ids, c.model
  if not ids:
    return
  if not WRITES[m.write].discrete:
    yield (
      f"data.code_ids: model.write={m.write!r} writes no codes, which would have these "
      "ids: use (), or model.write='codes'"
    )
  elif len(set(ids)) != len(ids) or len(ids) != codec.codebook:
    yield (
      f"data.code_ids: {len(ids)} ids, {len(set(ids))} of them different, and "
      f"data.codec={c.data.codec!r} has {codec.codebook} codes: name one id for each, "
      "or use ()"
    )
  if m.code_adapter != "none":
    yield (
      f"data.code_ids: with model.code_adapter={m.code_adapter!r} codes are no rows of "
      "the token table: use (), or 'none'"
    )


def _framed(c, write):
  """Problems of images to which BOI and EOI belong; other ways need another mask."""
  m = c.model
  if write.slots:
    yield (
      "model.image_mask: 'framed' makes BOI a part of an image, and with model.write="
      f"{m.write!r} slots stand between the two: use 'bidirectional'"
    )
  if m.sharing == "experts":
    yield (
      "model.sharing: 'experts' balances images and text, and model.image_mask="
      "'framed' counts BOI and EOI to both: use another, or 'bidirectional'"
    )
  if m.time_injection == "token":
    yield (
      "model.time_injection: 'token' is a part of an image that is no patch, and model."
      "image_mask='framed' has BOI and EOI there: use 'add', or 'bidirectional'"
    )


def _image_tokens(c):
  """Problems of tokens that stand among the patches of an image."""
  m, data = c.model, c.data
  if not data.image_tokens:
    return
  for place, _ in data.image_tokens:
    if place not in IMAGE_PLACES:
      yield f"data.image_tokens: no place {place!r}; known: {', '.join(IMAGE_PLACES)}"
  if not WRITES[m.write].in_order:
    yield (
      f"data.image_tokens: model.write={m.write!r} writes an image as a whole, with no "
      "tokens between its lines: use (), or a way that goes in order, such as 'codes'"
    )
  if m.positions not in ("sequential", "learned"):
    yield (
      f"data.image_tokens: model.positions={m.positions!r} gives places of a picture, "
      "which such tokens do not have: use () or 'sequential'"
    )
  if m.read == "fused":
    yield (
      "data.image_tokens: model.read='fused' puts features at all positions of an "
      "image: use (), or 'both'"
    )
  if data.without_text != "dropped":
    yield (
      f"data.image_tokens: data.without_text={data.without_text!r} would take them for "
      "text, and put padding or nothing in their place: use () or 'dropped'"
    )
