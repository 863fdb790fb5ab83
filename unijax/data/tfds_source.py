"""Any TFDS data set that is stored as ArrayRecord, read without TensorFlow."""

import dataclasses
import os

from unijax.data import items
from unijax.data.document import DataError
from unijax.data.images import BadItem

_FIX = "prepare the data set again, or leave such items out with on_error='skip'"


@dataclasses.dataclass(frozen=True)
class TfdsOptions(items.ItemOptions):
  """Which data set, and which of its features make a pair.

  Attributes:
    dataset: a name as in tfds.builder, or the folder of one prepared version.
    data_dir: where TFDS keeps its data sets; None is its own default.
    tfds_split: in TFDS's notation, such as 'train' or 'train[:90%]'.
    image_key: the feature with the picture.
    text_key: a text, or a class label whose name becomes the caption.
  """

  dataset: str = ""
  data_dir: str | None = None
  tfds_split: str = "train"
  image_key: str = "image"
  text_key: str = "label"


class TfdsSource(items.ItemSource):
  """Captioned pictures of a TFDS data set.

  Records are read when their document is: bad captions are found then, or all at once
  with `on_error='skip'`.
  """

  def __init__(self, options: TfdsOptions, name: str = "tfds"):
    self.options, self.name = options, name
    import tensorflow_datasets as tfds

    builder = _builder(options, name)
    features = builder.info.features
    for key in (options.image_key, options.text_key):
      if key not in features:
        raise DataError(
          f"{name}: {builder.info.full_name} has no feature {key!r}; it has "
          f"{', '.join(sorted(features))}; set image_key or text_key"
        )
    if not isinstance(features[options.image_key], tfds.features.Image):
      raise DataError(
        f"{name}: feature {options.image_key!r} of {builder.info.full_name} is no "
        f"picture but {features[options.image_key]}; set image_key"
      )
    label = features[options.text_key]
    self._class_names = getattr(label, "names", None)
    try:
      self._data = builder.as_data_source(
        options.tfds_split, decoders={options.image_key: tfds.decode.SkipDecoding()}
      )
      total = len(self._data)
    except (ValueError, NotImplementedError, OSError, AssertionError) as error:
      raise DataError(
        f"{name}: split {options.tfds_split!r} of {builder.info.full_name} cannot be "
        f"read at random: {error}; it must be stored as ArrayRecord (prepare it with "
        "file_format='array_record')"
      ) from error
    info = builder.info.splits[options.tfds_split]
    content = [builder.info.full_name, total, info.num_bytes, list(info.filenames)]
    self._select(total, content, check_captions=False)

  def label(self, number: int) -> str:
    """Returns the split and the number of the record in it."""
    return f"{self.options.tfds_split}:{number}"

  def caption(self, number: int) -> str:
    """Returns the text, or the name of the class; raises BadItem."""
    value = self._record(number)[self.options.text_key]
    if isinstance(value, bytes):
      return value.decode("utf-8", errors="surrogateescape")
    if isinstance(value, str):
      return value
    if self._class_names and 0 <= int(value) < len(self._class_names):
      return self._class_names[int(value)].replace("_", " ")
    detail = f"{self.options.text_key} is neither text nor a named class: {value!r}"
    raise BadItem(self.label(number), "wrong type", detail, "set text_key")

  def read(self, number: int) -> bytes:
    """Returns the picture's encoded bytes; raises BadItem."""
    return self._record(number)[self.options.image_key]

  def _record(self, number: int) -> dict:
    try:
      return self._data[number]
    except Exception as error:  # protobuf, Riegeli and tfds each have their own kinds
      detail = f"{type(error).__name__}: {error}"
      raise BadItem(self.label(number), "unreadable record", detail, _FIX) from error


def _builder(options: TfdsOptions, name: str):
  """Returns the builder of a data set's name or folder; raises DataError."""
  import tensorflow_datasets as tfds

  try:
    if os.path.exists(os.path.join(options.dataset, "dataset_info.json")):
      return tfds.builder_from_directory(options.dataset)
    return tfds.builder(options.dataset, data_dir=options.data_dir)
  except Exception as error:  # unknown name, no such folder, unreadable info
    where = options.data_dir or "its default folder"
    raise DataError(
      f"{name}: no TFDS data set {options.dataset!r} in {where} "
      f"({type(error).__name__}: {str(error).splitlines()[0]}); set dataset to a name, "
      "or to the folder that holds dataset_info.json"
    ) from error
