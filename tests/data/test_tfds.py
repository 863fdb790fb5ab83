"""Laws of the TFDS reader: documents of an ArrayRecord data set, without TensorFlow."""

import io
import json
import pathlib
import pickle
import subprocess
import sys

import pytest
from PIL import Image as Picture

from unijax.data.document import DataError, Image, Text
from unijax.data.tfds_source import TfdsOptions, TfdsSource

ROOT = pathlib.Path(__file__).parents[2]


def png(value):
  buffer = io.BytesIO()
  Picture.new("RGB", (20, 16), (value, 0, 0)).save(buffer, "PNG")
  return buffer.getvalue()


def build(folder, examples, name="mini"):
  """Writes a data set as TFDS lays it out; its own writer needs TensorFlow."""
  import tensorflow_datasets as tfds
  from array_record.python import array_record_module
  from tensorflow_datasets.proto import tf_example_pb2, tf_feature_pb2

  root = folder / name / "1.0.0"
  root.mkdir(parents=True)
  features = tfds.features.FeaturesDict(
    {
      "image": tfds.features.Image(shape=(None, None, 3)),
      "text": tfds.features.Text(),
      "label": tfds.features.ClassLabel(names=["black_cat", "dog"]),
    }
  )
  features.save_config(root)

  def feature(value):
    if isinstance(value, int):
      return tf_feature_pb2.Feature(int64_list=tf_feature_pb2.Int64List(value=[value]))
    return tf_feature_pb2.Feature(bytes_list=tf_feature_pb2.BytesList(value=[value]))

  path = root / f"{name}-train.array_record-00000-of-00001"
  writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
  size = 0
  for image, text, label in examples:
    values = {"image": image, "text": text, "label": label}
    fields = tf_feature_pb2.Features(
      feature={key: feature(value) for key, value in values.items()}
    )
    record = tf_example_pb2.Example(features=fields).SerializeToString()
    size += len(record)
    writer.write(record)
  writer.close()
  info = {
    "name": name,
    "version": "1.0.0",
    "fileFormat": "array_record",
    "moduleName": "mini",
    "splits": [
      {
        "name": "train",
        "shardLengths": [str(len(examples))],
        "numBytes": str(size),
        "filepathTemplate": "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}",
      }
    ],
  }
  (root / "dataset_info.json").write_text(json.dumps(info))
  return root


EXAMPLES = [(png(20 * i), f"text {i}".encode(), i % 2) for i in range(10)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
  return build(tmp_path_factory.mktemp("tfds"), EXAMPLES)


def options(root, **changes):
  defaults = {"dataset": str(root), "image_size": 8, "split": "all"}
  return TfdsOptions(**{**defaults, "caption_first": 1.0, **changes})


def contents(source):
  found = []
  for document in (source[i] for i in range(len(source))):
    (text,) = (p.text for p in document.parts if isinstance(p, Text))
    (image,) = (p for p in document.parts if isinstance(p, Image))
    found.append((text, int(image.pixels()[0, 0, 0])))
  return found


def test_texts_and_class_names_become_captions(root):
  texts = contents(TfdsSource(options(root, text_key="text")))
  assert texts == [(f"text {i}", 20 * i) for i in range(10)]
  names = contents(TfdsSource(options(root)))
  assert names == [(["black cat", "dog"][i % 2], 20 * i) for i in range(10)]


def test_a_name_and_a_folder_give_the_same_documents(root):
  by_folder = TfdsSource(options(root))
  by_name = TfdsSource(options("mini", data_dir=str(root.parents[1])))
  assert contents(by_name) == contents(by_folder)


def test_slices_of_a_split_are_taken_by_tfds(root):
  half = TfdsSource(options(root, text_key="text", tfds_split="train[50%:]"))
  assert contents(half) == [(f"text {i}", 20 * i) for i in range(5, 10)]
  assert half.signature != TfdsSource(options(root, text_key="text")).signature


def test_own_splits_are_disjoint_and_complete(root):
  parts = [
    contents(TfdsSource(options(root, text_key="text", split=split, held_out=0.3)))
    for split in ("train", "held_out")
  ]
  assert parts[0] and parts[1] and not set(parts[0]) & set(parts[1])
  assert len(parts[0]) + len(parts[1]) == 10


def test_pickles(root):
  source = TfdsSource(options(root))
  copy = pickle.loads(pickle.dumps(source))
  assert contents(copy) == contents(source) and copy.signature == source.signature


def test_bad_items_fail_by_name_or_are_counted(tmp_path):
  examples = [*EXAMPLES[:3], (b"junk", b"x", 0), (png(1), b"caf\xe9", 1)]
  root = build(tmp_path, examples)
  source = TfdsSource(options(root, text_key="text", on_error="skip"))
  assert source.skipped == {
    "unreadable picture": ["train:3"],
    "caption is not UTF-8": ["train:4"],
  }
  assert len(contents(source)) == 3
  failing = TfdsSource(options(root, text_key="text"))
  with pytest.raises(DataError, match="train:4: caption is not UTF-8"):
    failing[4]
  (image,) = (p for p in failing[3].parts if isinstance(p, Image))
  with pytest.raises(DataError, match="tfds: train:3: unreadable picture"):
    image.pixels()


@pytest.mark.parametrize(
  "changes, message",
  [
    ({"image_key": "picture"}, "no feature 'picture'; it has image, label, text"),
    ({"image_key": "text"}, "'text' of mini/1.0.0 is no picture"),
    ({"tfds_split": "tset"}, "split 'tset'.*Unknown split"),
  ],
)
def test_wrong_features_and_splits_are_named(root, changes, message):
  with pytest.raises(DataError, match=message):
    TfdsSource(options(root, **changes))


def test_unknown_data_sets_are_named(tmp_path):
  with pytest.raises(DataError, match="no TFDS data set 'no_such_set'.*dataset_info"):
    TfdsSource(TfdsOptions(dataset="no_such_set", data_dir=str(tmp_path)))


def test_reading_imports_no_tensorflow(root):
  code = (
    "import sys; from unijax.data.tfds_source import TfdsOptions, TfdsSource;"
    f"s = TfdsSource(TfdsOptions(dataset={str(root)!r}, image_size=8));"
    "[p.pixels() for p in s[0].parts if hasattr(p, 'pixels')];"
    "sys.exit('tensorflow' in sys.modules or 'torch' in sys.modules)"
  )
  assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
