"""What the makers publish about a chip. Peaks, never reached: good for floors only."""

import dataclasses

GIB = 2**30


@dataclasses.dataclass(frozen=True)
class Chip:
  """Per chip; bytes and FLOPs a second.

  Attributes:
    hbm: bytes of memory; the compiler keeps a part of it for itself.
    flops: peak of bfloat16 matrix products.
    hbm_bandwidth: of reads and writes together.
    ici: sent to other chips of a slice, all links together, one direction.
    dcn: sent to other slices.
    dimensions: of the torus.
    host: chips a host has, along each dimension.
  """

  name: str
  hbm: float
  flops: float
  hbm_bandwidth: float
  ici: float
  dcn: float
  dimensions: int
  host: tuple[int, ...]


# Cloud TPU documentation, read in November 2026. Interconnect is published for both
# directions together; a chip sends half of it.
CHIPS = {
  # docs.cloud.google.com/tpu/docs/v5e: 197 TFLOPs, 16 GB, 819 GBps, ICI 400 GBps both
  # ways; DCN 6.4 Tbps a pod of 256 chips
  "v5e": Chip("v5e", 16 * GIB, 197e12, 819e9, 200e9, 6.4e12 / 8 / 256, 2, (2, 2)),
  # docs.cloud.google.com/tpu/docs/v5p: 459 TFLOPs, 95 GiB, 2765 GBps, ICI 1200 GBps
  # both ways, DCN 50 Gbps
  "v5p": Chip("v5p", 95 * GIB, 459e12, 2765e9, 600e9, 50e9 / 8, 3, (2, 2, 1)),
  # docs.cloud.google.com/tpu/docs/v6e: 918 TFLOPs, 32 GB, 1638 GBps, ICI 800 GBps both
  # ways; DCN 25.6 Tbps a pod of 256 chips
  "v6e": Chip("v6e", 32 * GIB, 918e12, 1638e9, 400e9, 25.6e12 / 8 / 256, 2, (2, 2)),
}
