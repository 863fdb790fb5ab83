"""What the numbers of transformer blocks must satisfy together.

Each function yields sentences that name the knob and the fix.
"""


def experts(m):
  """Problems of the knobs of routed experts, where they are read."""
  if m.sharing != "experts":
    return
  pool, k = m.experts, m.experts_per_token
  if m.expert_routing == "by_modality":
    if pool % 2:
      yield f"model.experts: {pool} must be even for model.expert_routing='by_modality'"
    pool //= 2
  if k > pool:
    yield (
      f"model.experts_per_token: {k} of {pool} experts that a position may go to "
      f"(model.experts={m.experts}, model.expert_routing={m.expert_routing!r})"
    )
  if k == 1 and m.expert_weights == "chosen":
    yield (
      "model.expert_weights: 'chosen' gives a single expert the weight 1 whatever the "
      "router says, so it learns nothing: use 'all', or model.experts_per_token > 1"
    )


def dit(d):
  """Problems of the diffusion transformer."""
  if d.width % d.heads:
    yield f"dit.heads: {d.heads} must divide dit.width {d.width}"
  elif d.rope_axes:
    yield from _rope_axes(d)
  elif d.positions == "rope" and d.width // d.heads % 4:
    yield (
      f"dit.heads: heads of {d.width // d.heads} must be a multiple of 4 wide for "
      "dit.positions='rope'"
    )
  if d.width % 4:
    yield f"dit.width: {d.width} must be a multiple of 4"
  if d.single_depth and d.conditioning != "joint":
    yield (
      f"dit.single_depth: {d.single_depth} needs dit.conditioning='joint': blocks of "
      "one stream follow those of two"
    )
  double = d.depth if d.single_depth else d.depth - 1
  if d.dual_depth and (d.conditioning != "joint" or d.adaln != "block"):
    yield (
      f"dit.dual_depth: {d.dual_depth} needs dit.conditioning='joint' and "
      "dit.adaln='block': these blocks have three changes more than others"
    )
  elif d.dual_depth > double:
    yield f"dit.dual_depth: {d.dual_depth} of {double} blocks whose two streams go on"
  if d.last_queries and (d.conditioning != "joint" or d.single_depth):
    yield (
      "dit.last_queries: True needs dit.conditioning='joint' and dit.single_depth=0: "
      "only there is a last block of two streams"
    )
  if d.position_grid and d.positions != "table":
    yield (
      f"dit.position_grid: {d.position_grid} is read by dit.positions='table' only"
    )
  if d.pooled_width and not d.pooled:
    yield f"dit.pooled_width: {d.pooled_width} needs dit.pooled=True"
  if d.time_scale != 1 and d.time_waves != "sinusoid":
    yield f"dit.time_scale: {d.time_scale:g} is read by dit.time_waves='sinusoid'"
  if d.time_features % 2:
    yield f"dit.time_features: {d.time_features} must be even: sines and cosines"


def _rope_axes(d):
  head = d.width // d.heads
  if d.positions != "rope":
    yield f"dit.rope_axes: {d.rope_axes} is read by dit.positions='rope' only"
  elif len(d.rope_axes) != 3 or sum(d.rope_axes) != head or min(d.rope_axes) < 0:
    yield (
      f"dit.rope_axes: {d.rope_axes} must be three parts of the {head} numbers of a "
      "head"
    )
  elif any(n % 2 for n in d.rope_axes):
    yield f"dit.rope_axes: {d.rope_axes} must be even: pairs turn"


def dit_grid(d, grid: int):
  """Problems of the places that it has vectors for, on a grid of patches."""
  if d.positions == "table" and d.position_grid and d.position_grid < grid:
    yield (
      f"dit.position_grid: {d.position_grid} places a side have no vectors for the "
      f"{grid} patches of an image"
    )


def denoiser(c):
  """Problems of blocks that only denoise, where there are any."""
  m, d = c.model, c.denoiser
  if not d.depth:
    return
  if m.write != "diffusion":
    yield (
      f"denoiser.depth: {d.depth} blocks denoise patches, and model.write={m.write!r} "
      "has none that are noised as a whole: use 0, or 'diffusion'"
    )
  if d.heads % d.kv_heads:
    yield f"denoiser.kv_heads: {d.kv_heads} must divide denoiser.heads {d.heads}"
  axes = 4 if m.positions == "grid" else 2
  if d.head_dim % axes:
    yield (
      f"denoiser.head_dim: {d.head_dim} must be a multiple of {axes} for "
      f"model.positions={m.positions!r}"
    )


def blocks(m):
  """Problems of the stack of blocks."""
  if m.heads % m.kv_heads:
    yield f"model.kv_heads: {m.kv_heads} must divide model.heads {m.heads}"
  if m.depth % m.scan_unroll:
    yield f"model.scan_unroll: {m.scan_unroll} must divide model.depth {m.depth}"
  yield from positions(m)
  if m.head_bias and m.tie_embeddings:
    yield "model.head_bias: with model.tie_embeddings=True there is no head to have one"


def positions(m):
  """Problems of how the stack knows where it is."""
  turned = m.head_dim * m.rope_fraction
  axes = 4 if m.positions == "grid" and not m.rope_sections else 2
  learned = m.positions == "learned"
  if not learned and (abs(turned - round(turned)) > 1e-6 or round(turned) % axes):
    part = f" x model.rope_fraction {m.rope_fraction:g}" if m.rope_fraction < 1 else ""
    yield (
      f"model.head_dim: {m.head_dim}{part} must be a multiple of {axes} "
      f"for model.positions={m.positions!r}"
    )
  if m.rope_sections and m.positions != "grid":
    yield (
      "model.rope_sections: turns by time, row and column, and model.positions="
      f"{m.positions!r} gives no rows and columns: use 'grid', or ()"
    )
  elif m.rope_sections and (
    len(m.rope_sections) != 3
    or min(m.rope_sections) < 0
    or sum(m.rope_sections) * 2 != round(turned)
  ):
    yield (
      f"model.rope_sections: {m.rope_sections} must be three numbers of pairs that are "
      f"{round(turned) // 2} together: those of model.head_dim x model.rope_fraction"
    )


def reach(m, knob: str, length: int):
  """Problems of a table of positions with the longest sequence that it is read for."""
  if m.positions == "learned" and m.position_first + length > m.position_rows:
    yield (
      f"model.position_rows: {m.position_rows} vectors, and {knob}={length} positions "
      f"from model.position_first={m.position_first} need "
      f"{m.position_first + length}"
    )
