"""Every knob, its default, its unit and the reason for it.

Primary knobs only: whatever follows from them (patches of an image, vocabulary size,
total tokens) is computed after all overrides. Another config starts from
`get_config()` and changes a few lines.
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
  """Returns the defaults: a small Transfusion on pixels."""
  c = ConfigDict()
  c.seed = 0  # of initialisation, data order, noise
  parts = (
    _decoder, _images, _drawers, _mesh, _data, _training, _keeping, _asking, _codec,
    _towers, _align,
  )  # fmt: skip
  for part in parts:
    part(c)
  return c


def _decoder(c: ConfigDict) -> None:
  """The decoder: its blocks, and where patches enter."""
  c.model = ConfigDict()
  c.model.depth = 4  # blocks
  c.model.width = 128  # of the residual stream
  c.model.heads = 4  # query heads
  c.model.kv_heads = 4  # key/value heads; fewer is grouped-query attention
  c.model.head_dim = 32  # width of a head; usually width / heads
  c.model.mlp_width = 384  # hidden units; 8/3 of the width is usual, 4 without a gate
  # or shared (one index an image), grid (2-D RoPE), learned (a vector for each, added
  c.model.positions = "sequential"  # to what enters the first block; no RoPE)
  c.model.position_rows = 2048  # vectors that there are, for learned positions
  c.model.position_first = 0  # that of the first position; some begin later
  # pairs of a head that turn by time, by row and by column, one after the other, with
  c.model.rope_sections = ()  # positions="grid"; (): rows and columns in turn
  c.model.rope_theta = 10000.0  # longest wavelength of RoPE, in positions / 2 pi
  c.model.rope_fraction = 1.0  # of a head that RoPE turns: its first part
  c.model.rope_factor = 1.0  # by which slow wavelengths are stretched; 1 is off
  c.model.rope_length = 8192  # positions without stretching; 0: all are slow
  c.model.rope_low = 1.0  # turns over that length of what is fully stretched
  c.model.rope_high = 4.0  # turns of what is not stretched at all; between, a blend
  c.model.qk_norm = True  # norm on queries and keys: keeps logits bounded
  c.model.qk_norm_kind = "rms"  # or layer, layer_heads (a scale and bias each head)
  c.model.qk_norm_eps = 0.0  # as norm_eps, in these norms; 0: the same
  c.model.norm = "rms"  # of the residual stream; or layer: centred, with a bias
  c.model.norm_eps = 1e-5  # added to the mean square in norms
  c.model.block = "pre"  # norms before branches; or branch (after), parallel branches
  c.model.mlp = "swiglu"  # or, without a gate, gelu, gelu_tanh, quick_gelu, relu
  c.model.bias = "none"  # of the maps of a block; or qkv, attention (and out), all
  c.model.head_bias = False  # a bias of the text head
  c.model.tie_embeddings = False  # share the token table between input and output
  c.model.patch_codec = "linear"  # or unet, or convnext: one position a patch
  c.model.unet_width = 64  # channels of unet (at full resolution, doubling), convnext
  c.model.unet_blocks = 1  # residual blocks: of each level, or on each side
  # what leaves at a position, for linear: its patch, or run: as many latents, those of
  c.model.patch_out = "patch"  # the image one after the other, line by line
  # a vector for each place in the image, added to its patch: learned, or fixed (sines
  c.model.patch_position = "none"  # and cosines: kept with the weights, never trained)
  c.model.patch_grid = 0  # places a side that it has vectors for; 0: the image's
  # to patches, or token (before them), or boi (in the place of BOI), or adaln
  c.model.time_injection = "add"
  c.model.time_token = "added"  # the time, to the vector of that token; or alone
  # waves of the timestep: fast (1 to 1000 radians over all of it), or sinusoid (1 down
  c.model.time_waves = "fast"  # to 1e-4 radians a unit of time, cosines first)
  c.model.time_scale = 1.0  # units of time from clean to noise, for sinusoid
  c.model.time_features = 128  # of these waves, cosines and sines together
  c.model.time_of = "noise"  # whose share is told; or data: 1 - t
  # what an image sees of itself: all (bidirectional), what is earlier (causal), or all
  # of itself and of what frames it (framed): BOI, EOI and image_begin of data.chat
  c.model.image_mask = "bidirectional"
  c.model.attention = "auto"  # or dense, splash (TPU), tokamax (GPU); never inexact
  c.model.dtype = "float32"  # of activations: bfloat16 on TPU and GPU
  c.model.remat = "none"  # or full, dots, attention, offload: what is recomputed
  c.model.scan_unroll = 1  # blocks a scan iteration; more is faster, slower to compile


def _images(c: ConfigDict) -> None:
  """How images are written and read, and what is shared with text."""
  # of images; or codes, masked, token_diffusion, gmm, bridge, regression, masked_all
  # (text too), masked_diffusion; or none: only text is written
  c.model.write = "diffusion"  # in the backbone, all patches at once
  c.model.head_depth = 3  # layers of the head of a patch: token_diffusion, regression
  c.model.head_width = 256  # of that head
  c.model.mixtures = 16  # Gaussians a patch, for gmm
  c.model.sharing = "shared"  # or ffn, full (a copy for text, one for images), experts
  c.model.experts = 8  # gated MLPs that a router chooses from, with sharing=experts
  c.model.experts_per_token = 2  # of them, for each position
  c.model.shared_experts = 0  # that every position goes through besides
  c.model.expert_width = 192  # hidden units of one expert
  c.model.expert_routing = "joint"  # or by_modality: half for text, half for images
  c.model.expert_weights = "chosen"  # sum to 1 over those chosen, or over all
  # of context images; or features (of `vision`), both, needed (both where an image is
  # drawn, else features alone), fused (one with the other), fused_latents (of all
  # images: features of their patches, not of pixels, noised or clean)
  c.model.read = "patches"  # as they are written: patches or codes
  # from features to positions; or linear, resampler, qformer (the stack of `text`, its
  # queries alone) or, of 2 x 2 features, shuffle (a norm, hidden units as wide as the
  # model) and merge (as wide as the four together)
  c.model.connector = "mlp"
  c.model.connector_activation = "gelu"  # of the mlp; or gelu_tanh
  c.model.connector_depth = 1  # layers of the resampler
  c.model.feature_begin = False  # a vector of its own in the place of BOI before those
  c.model.connector_queries = 16  # positions that resampler, qformer make of a picture
  # a vector for each place in the picture, added to its feature: fixed (sines and
  c.model.feature_position = "none"  # cosines, as model.patch_position; grid: vision's)
  # codes are rows of the token table; or mlp: they have a table and a softmax of
  c.model.code_adapter = "none"  # their own, each through two layers; for codes
  c.model.code_width = 8  # numbers of a code in that table
  c.model.text_block = 16  # positions of text that are filled together, for masked_all


def _drawers(c: ConfigDict) -> None:
  """A diffusion transformer, and what leads to it."""
  c.dit = ConfigDict()  # a diffusion transformer that draws from condition vectors
  c.dit.conditioning = "cross"  # attention to them, or joint: a second stream
  c.dit.depth = 4  # blocks; with joint, those of two streams
  c.dit.dual_depth = 0  # the first of these, whose patches also attend to themselves
  c.dit.single_depth = 0  # joint: blocks after them that treat both as one stream
  c.dit.width = 128  # of its streams
  c.dit.heads = 4  # of width / heads
  c.dit.mlp_width = 512  # hidden units of its GELU MLP; 4 widths are usual
  c.dit.adaln = "block"  # each block's own projection of the time; or shared
  # fixed 2-D, added; or rope: 2-D, in attention; or table: the middle of a table that
  c.dit.positions = "sincos"  # is kept with the weights and never trained, added
  c.dit.position_grid = 0  # places a side that it has vectors for; 0: the image's
  # numbers of a head that stay as they are, turn by row and by column, one after the
  c.dit.rope_axes = ()  # other; (): all turn, by row and by column in turn
  c.dit.rope_theta = 0.0  # as model.rope_theta; 0: what that is
  c.dit.qk_norm = True  # RMS norm on queries and keys
  c.dit.norm_eps = 0.0  # added to the mean square in norms; 0: model.norm_eps
  c.dit.time_waves = "fast"  # of the timestep, as model.time_waves; or sinusoid
  c.dit.time_scale = 1.0  # as model.time_scale
  c.dit.time_features = 128  # as model.time_features
  c.dit.guidance = False  # sample.guidance_told moves the norms, as the time does
  c.dit.pooled = True  # the mean of the condition vectors moves the norms too
  c.dit.pooled_width = 0  # numbers of a vector told in its place; 0: the mean itself
  c.dit.condition_width = 0  # numbers of condition vectors; 0: model.width
  # joint, without single blocks: the last block has queries of the condition, which
  c.dit.last_queries = False  # nothing reads, and which released weights have
  # for train.task drawing: a text encoder of the run reads captions; or there is none,
  c.dit.told = "captions"  # and vectors come from elsewhere: drawn from, not trained on

  c.bridge = ConfigDict()  # from the model to dit, for model.write="bridge"
  c.bridge.slots = 16  # tokens after BOI whose hidden states say what is drawn
  c.bridge.signal_weight = 0.0  # 0: slots are learned queries; > 0: text loss of them
  c.bridge.connector = "mlp"  # hidden states to condition; or linear, encoder
  c.bridge.connector_depth = 2  # blocks of the encoder, which reads both ways

  # blocks after the decoder's that only denoise: they see what those see, and the
  c.denoiser = ConfigDict()  # timestep modulates them in images; for write="diffusion"
  c.denoiser.depth = 0  # blocks; 0: patches are read off the decoder
  c.denoiser.width = 128  # of their stream, and of the timestep's vector
  c.denoiser.heads = 4  # query heads
  c.denoiser.kv_heads = 4  # key/value heads
  c.denoiser.head_dim = 32  # width of a head
  c.denoiser.mlp_width = 384  # hidden units of SwiGLU
  c.denoiser.norm_eps = 1e-5  # added to the mean square in norms of the stream
  c.denoiser.last_eps = 1e-5  # in the last one, and in those of queries and keys
  c.denoiser.rope_theta = 10000.0  # as model.rope_theta, and so on
  c.denoiser.rope_factor = 1.0
  c.denoiser.rope_length = 8192
  c.denoiser.rope_low = 1.0
  c.denoiser.rope_high = 4.0


def _mesh(c: ConfigDict) -> None:
  """Degrees of the mesh."""
  c.mesh = ConfigDict()  # ignored on one device
  c.mesh.preset = "fsdp"  # or dp, fsdp_tp, fsdp_cp, fsdp_ep: degrees for those at 0
  c.mesh.replica = 0  # copies of everything; -1 fills what is left, in any of these
  c.mesh.fsdp = 0  # rows, and storage of parameters
  c.mesh.expert = 0  # experts of a mixture
  c.mesh.context = 0  # positions of a row
  c.mesh.tensor = 0  # heads, hidden units, vocabulary
  c.mesh.dcn_replica = -1  # degrees between slices, over the slow network
  c.mesh.dcn_fsdp = 1
  c.mesh.dcn_expert = 1
  c.mesh.dcn_context = 1
  c.mesh.dcn_tensor = 1


def _data(c: ConfigDict) -> None:
  """Noise, and what rows are made of."""
  c.diffusion = ConfigDict()
  c.diffusion.path = "rectified_flow"  # or cosine, linear (the DDPM one)
  c.diffusion.predict = "velocity"  # or x0, epsilon, v
  c.diffusion.loss_target = "same"  # space of the squared error; same as predict
  c.diffusion.time_law = "uniform"  # or logit_normal
  c.diffusion.time_mean = 0.0  # of the logit, for logit_normal
  c.diffusion.time_std = 1.0  # of the logit, for logit_normal
  c.diffusion.time_shift = 1.0  # > 1 moves timesteps towards noise
  c.diffusion.time_max = 1.0  # largest timestep; < 1 where alpha(1) = 0 hurts

  c.data = ConfigDict()
  # name -> {kind, weight (share of documents), options}, and where `mixture` reads them
  # schedule ([[step, weight], ...] after step 0) or reference (held-out loss to reach);
  # text_loss, image_loss: factors of the loss weights of its documents, 1 if not given
  c.data.sources = ConfigDict()  # at least one
  c.data.tokenizer = "bytes"  # or path of a SentencePiece *.model or a tokenizer.json
  c.data.codec = "pixels"  # what patches are cut from
  c.data.image_size = 32  # pixels a side
  # how pictures of files become squares: crop (then resize), resize (then crop), pad
  # (with grey) or squeeze (all of it); released encoders differ. Or native: they keep
  # their shape, rounded to whole positions, within native_pixels
  c.data.fit = "crop"
  c.data.native_pixels = (3136, 1_003_520)  # least and most of a picture, for native
  c.data.resample = "lanczos"  # or bicubic, bilinear
  c.data.resize = 0  # pixels of the shorter side with fit="resize"; 0: image_size
  c.data.patch_size = 8  # latents a side of a patch
  c.data.seq_len = 256  # positions of a packed row
  c.data.images_per_row = 8  # largest number of images that packing puts in a row
  c.data.noise_limit = 1.0  # largest timestep of context images; 0 keeps them clean
  c.data.caption_dropout = 0.1  # share of drawing documents without text, for guidance
  # text is left out of these; or bare: with its turns, and what data.chat puts around
  # them; or stays as padding that is seen (padded), as places that are empty (hidden)
  c.data.without_text = "dropped"
  c.data.window = 512  # documents packed together; 50 rows' worth or more pack tightly
  c.data.threads = 2  # that build rows ahead of the step; 0 builds them when asked
  c.data.mixture = "constant"  # weights; or step, linear (schedules), loss (held-out)
  c.data.mixture_every = 500  # steps between changes of weights by the losses
  c.data.mixture_rate = 0.5  # log weight gained by a loss of twice the reference
  c.data.mixture_floor = 0.1  # share of the mixture that stays uniform over sources
  c.data.caption_length = 64  # tokens of a caption with BOS, for train.task drawing
  c.data.vocab = 0  # rows of the token table; 0 is what tokens, codes and slots need
  # ((name, id), ...) of special tokens that the tokenizer has ids for, such as "eos";
  c.data.special = ()  # the others get ids after the tokenizer's
  c.data.code_ids = ()  # rows of codes 0, 1, .. in that table; (): the last ones
  # ((part, text), ...): what begins a document and stands around turns, with names of
  # the tokenizer's special tokens and of data.marks; parts are begin, user, user_end,
  # assistant, assistant_end (after eos), image_begin and image_end (around a picture
  # that is shown) and system (after begin, where no image is drawn); draw_begin,
  # draw_user, draw_user_end and draw_assistant are in their place where one is drawn,
  # and draw_image before it; a part not named is BOS, USER, ASSISTANT or nothing
  c.data.chat = ()
  # ((name, id), ...): more tokens that data.chat may name; one of id -1 is none: texts
  c.data.marks = ()  # on both sides of it are encoded apart
  c.data.pictures_first = False  # those shown first stand before what data.chat begins
  # ((place, id), ...) of tokens in an image that is written in order: open (after BOI),
  c.data.image_tokens = ()  # line (after each line of patches), close (before EOI)
  c.data.image_frame = "marked"  # BOI and EOI around what an encoder says; or bare
  # what follows a target image reads a clean copy of it, and its noised one is hidden
  c.data.clean_copy = False  # two images of a row; model.attention must be dense


def _training(c: ConfigDict) -> None:
  """The step, and what may differ by stage."""
  c.optim = ConfigDict()
  c.optim.name = "adamw"  # or muon, for the kernels of the blocks
  c.optim.learning_rate = 3e-4  # peak
  c.optim.adam_learning_rate = 3e-4  # peak, for what Muon does not train
  c.optim.warmup_steps = 100  # linear from 0
  c.optim.schedule = "cosine"  # or constant, linear
  c.optim.final_fraction = 0.05  # of the peak, at the last step
  c.optim.b1 = 0.9
  c.optim.b2 = 0.95
  c.optim.eps = 1e-8
  c.optim.weight_decay = 0.1  # on matrices only
  c.optim.clip_norm = 1.0  # of the global gradient
  c.optim.freeze = ()  # globs of parameters left as they are; "!glob" takes some back
  c.optim.rates = ()  # ((glob, factor of the learning rate), ...), the first that fits
  c.optim.stage_schedule = "restart"  # in every stage; or continue: one for the run

  c.lora = ConfigDict()  # low-rank pairs beside kernels; all else rests
  c.lora.rank = 0  # of each product a b that is added to a kernel; 0 has none
  c.lora.alpha = 16.0  # products are multiplied by alpha / rank
  # globs of kernels of linear maps, from left to right; "!glob" takes some back. What
  # is trained beside the pairs, whole, optim.freeze says: ("!patch_codec/*",)
  c.lora.targets = ("transformer/blocks/*",)

  c.train = ConfigDict()
  c.train.steps = 1000
  c.train.batch_size = 16  # packed rows
  c.train.micro_batches = 1  # parts that a batch is run in, to save memory
  c.train.loss_chunks = 1  # parts of a row whose logits are held at once
  c.train.text_loss_weight = 1.0
  c.train.image_loss_weight = 5.0  # lambda; 5 in the paper
  c.train.z_loss = 0.0  # weight of log^2 Z; 1e-5 stabilises large vocabularies
  c.train.ema_decay = 0.999  # of the weights that are sampled and scored
  c.train.log_every = 20  # steps
  c.train.eval_every = 500  # steps between held-out losses
  c.train.sample_every = 500  # steps between sample grids
  c.train.token_draws = 4  # timesteps of each patch in a step, for token_diffusion
  c.train.balance_loss_weight = 0.01  # of uneven load, with sharing=experts; 0 is off
  c.train.router_z_loss = 0.001  # weight of log^2 Z of the router, likewise
  c.train.stages = ()  # names of `stages` in their order; steps is then 0 or their sum
  # the model of packed rows; or codec, alignment, drawing, decoder (of features)
  c.train.task = "unified"
  c.train.regression = "squared"  # error of regressed patches; or cosine: direction
  c.train.hidden_min = 0.7  # least share of an image hidden, for masked_diffusion
  c.train.hidden_std = 0.25  # of the normal law around 1 that the share is drawn by

  # name -> {steps, and what differs: optim, train, diffusion, data.sources}; see
  # STAGE_KNOBS in unijax/config_sections.py. train.stages says which ones run
  c.stages = ConfigDict()


def _keeping(c: ConfigDict) -> None:
  """What a run keeps, guards and tells."""
  c.checkpoint = ConfigDict()
  c.checkpoint.every_steps = 500  # 0: not by steps; the end is always saved
  c.checkpoint.every_minutes = 0.0  # 0: not by the clock
  c.checkpoint.best_metric = ""  # also whenever this is best, as held_out/text_nll
  c.checkpoint.best_mode = "min"  # or max
  c.checkpoint.keep = 2  # latest ones: if one is damaged, there is another
  c.checkpoint.keep_every_steps = 0  # and every so many steps; 0: none
  c.checkpoint.keep_best = 1  # and the best ones by best_metric, where it is set

  c.guard = ConfigDict()
  c.guard.spike_factor = 0.0  # refuse steps above this times the median; 10; 0 is off
  c.guard.window = 128  # accepted steps that the median is over; no spikes before
  c.guard.patience = 10  # refused steps in a row (spikes, not finite) that end the run
  c.guard.hang_seconds = 300.0  # without a step (at least 20 usual ones) is a hang
  c.guard.hang_exit = False  # on a hang, leave with code 76 for a supervisor to restart

  c.track = ConfigDict()  # besides metrics.jsonl and tensorboard/
  c.track.writers = ()  # of wandb, mlflow; each is an extra of its name
  c.track.project = "unijax"  # what its runs stand under there


def _asking(c: ConfigDict) -> None:
  """How a model is sampled and scored."""
  c.sample = ConfigDict()
  c.sample.sampler = "euler"  # or ddpm, ddim, heun
  c.sample.steps = 25  # solver steps
  c.sample.schedule_shift = 1.0  # > 1 spends more steps near noise
  # ((patches, logarithm of the shift), two of them): the shift in the place of that, on
  c.sample.schedule_patches = ()  # a line in the number of patches of an image
  c.sample.schedule_last = 0.0  # time of the last step, before the shift; 0: even steps
  c.sample.clip_x0 = 1.0  # bound on predicted latents; 0 is none
  c.sample.guidance = 1.0  # classifier-free guidance scale; 1 is off
  c.sample.guidance_low = 0.0  # guidance acts on timesteps in [low, high]
  c.sample.guidance_high = 1.0
  c.sample.guidance_rescale = 0.0  # 0 to 1: pull the contrast back to unguided
  # a second scale, against rows without the pictures that were shown; 1 is off
  c.sample.guidance_image = 1.0
  # no step is longer than without guidance: of each patch, of the whole image, or
  c.sample.guidance_renorm = "none"  # of each patch, before guidance_image: text_patch
  c.sample.guidance_renorm_min = 0.0  # share that is left of a step, at least
  c.sample.guidance_told = 1.0  # scale that dit.guidance is told, in training, too
  c.sample.negative_prompt = ""  # what guidance contrasts with; "": no text
  c.sample.prompt_suffix = ""  # behind what is said, where a picture is asked for
  c.sample.layers_apart = False  # weights laid out for writing: no loop over layers
  c.sample.think_draw = ""  # said before all, where text is written and then an image
  c.sample.think_answer = ""  # likewise, where a row that thinks writes no image
  c.sample.temperature = 0.0  # of text; 0 is greedy
  c.sample.top_k = 0  # most likely tokens kept; 0 is all
  c.sample.top_p = 1.0  # probability mass kept
  c.sample.stops = ()  # ids that end what the model writes, as eos does
  c.sample.min_p = 0.0  # drop tokens below this share of the top probability
  c.sample.max_text_tokens = 128  # that one call may write
  c.sample.max_images = 4  # that one call may draw
  c.sample.image_temperature = 1.0  # of codes and patches drawn one by one; 0 is greedy
  c.sample.image_top_k = 0  # most likely codes kept; 0 is all
  c.sample.confidence_noise = 1.0  # Gumbel noise on which codes stay, falling to 0
  c.sample.confidence_decay = "linear"  # how it falls; or product: of all shares left
  c.sample.token_steps = 16  # solver steps of a patch: token_, masked_diffusion
  c.sample.text_steps = 8  # in which a block of text is filled, for masked_all

  c.eval = ConfigDict()
  c.eval.prompts = 200  # drawings, captions, questions and edits a split
  c.eval.batch_size = 50  # rows decoded together
  c.eval.loss_batches = 8  # batches of held-out losses
  c.eval.kid_images = 200  # drawings compared by the KID proxy


def _codec(c: ConfigDict) -> None:
  """Stage 1: codecs."""
  # read where train.task is codec; config.py looks at types, since two knobs have two
  c.codec = ConfigDict(type_safe=False)
  c.codec.bottleneck = "kl"  # or vq, fsq, lfq, rvq: what stands between the halves
  c.codec.width = 128  # channels at full resolution
  c.codec.multipliers = (1, 2, 4, 4)  # of the width, by level; each next one halves
  c.codec.decoder_multipliers = ()  # of the width, by level; (): as the encoder's
  c.codec.blocks = (2,)  # residual blocks: of all levels, or one number a level
  c.codec.decoder_blocks = ()  # one number a level; (): one more than the encoder has
  c.codec.groups = 32  # of group norm
  c.codec.attention = True  # among all places, once in the middle of each half
  c.codec.attention_levels = ()  # after each block of these levels; 0: full resolution
  c.codec.channels = 4  # numbers a latent
  c.codec.project = True  # 1x1 convolutions on both sides of the latents
  c.codec.project_width = 0  # channels at their other ends; 0: as many as vectors have
  c.codec.time_stride = 1  # frames a latent, by causal convolutions: 1, 2, 4, ..
  c.codec.kernel_frames = 1  # seen by 3x3 convolutions, up to their own; 1: of pictures
  # levels after which time is halved as places are, where kernels see frames; there
  c.codec.time_halvings = ()  # are time_stride frames a latent, after the first frame
  c.codec.narrow_doublings = False  # a doubling of places halves the channels
  c.codec.encoder_norm = "group"  # or rms: of the channels of each place
  c.codec.decoder_norm = "group"  # or rms, or spatial: scaled and moved by the latents
  c.codec.draws = True  # False: of released files that lack the decoder; reads only
  # others train on (latent - shift) * scale; each a number, or a tuple of one a channel
  c.codec.shift = 0.0
  c.codec.scale = 0.0  # 0: both are measured when the codec is frozen
  c.codec.kl_weight = 1e-6  # of the pull to N(0, 1), in sums over a picture
  c.codec.codebook = 8192  # entries of a codebook, for vq and rvq
  c.codec.codebook_update = "average"  # or gradient: how entries follow the vectors
  c.codec.codebook_decay = 0.99  # of the running counts and averages
  c.codec.revive_below = 0.05  # vectors a step; rarer codes split a busy one; 0: never
  c.codec.cosine = False  # vectors and entries of length 1
  c.codec.commitment = 0.25  # weight of the encoder's distance to its entries
  c.codec.quantizers = 2  # codebooks of rvq, one after the other
  c.codec.levels = (8, 8, 8)  # of each channel of fsq
  c.codec.entropy_weight = 0.1  # of lfq: sure of each code, all codes used
  c.codec.entropy_temperature = 1.0  # of the code probabilities in that loss
  c.codec.l1_weight = 1.0  # of the absolute error; pixels are in [-1, 1]
  c.codec.l2_weight = 0.0  # of the squared error
  c.codec.perceptual_weight = 0.1  # of activations of a network trained on photographs
  c.codec.adversary_weight = 0.0  # of the patch discriminator, before balancing
  c.codec.adversary_start = 0  # step from which it counts
  c.codec.adversary_width = 64  # channels of its first layer, doubling
  c.codec.adversary_layers = 3  # halvings of the picture in it
  # train.task decoder reads these two
  c.codec.encoder = ""  # run whose encoder it is; "": `vision` with its first weights
  c.codec.pooling = 1  # patches a side of the square whose mean is one latent


def _towers(c: ConfigDict) -> None:
  """Stage 2: encoders of pictures and texts."""
  c.vision = ConfigDict()  # encodes pictures: for model.read, or task "alignment"
  c.vision.depth = 4  # blocks
  c.vision.width = 64
  c.vision.heads = 4  # of width / heads each
  c.vision.mlp_width = 256  # hidden units; 4 widths are usual, 8/3 for swiglu
  c.vision.mlp = "gelu"  # or gelu_tanh, quick_gelu, relu, swiglu
  c.vision.norm = "pre"  # or post (after the sum), branch (before the sum)
  c.vision.norm_kind = "layer"  # or rms: not centred, without a bias
  c.vision.norm_eps = 1e-6  # added to the variance in norms
  c.vision.qkv_bias = "all"  # or query_value, none: which projections have a bias
  c.vision.qk_norm = False  # RMS norm on queries and keys: keeps logits bounded
  c.vision.sub_norm = False  # norms of mixed values and hidden units: large SwiGLU
  c.vision.layer_scale = 0.0  # start of a learned factor on branches; 0 has none
  c.vision.dtype = "float32"  # of activations: bfloat16 on TPU and GPU
  c.vision.remat = "none"  # or full, dots, attention: what is recomputed
  c.vision.mean = (0.5, 0.5, 0.5)  # of red, green, blue, where white is 1: taken off,
  c.vision.std = (0.5, 0.5, 0.5)  # then divided by
  c.vision.image_size = 0  # pixels a side that pictures are resized to; 0: as they are
  c.vision.patch_size = 8  # pixels a side
  c.vision.patch_bias = True  # of the linear map of patches
  c.vision.frames = 1  # times that a patch shows its pixels; 2 in encoders of films
  c.vision.crop = False  # pixels beyond the last whole patch: left out, else an error
  c.vision.positions = "learned"  # or sincos (fixed), none
  c.vision.position_grid = 0  # patches a side of the learned table; 0: the picture's
  # how a smaller grid is read from it: resampled, or smooth (without aliasing), or its
  c.vision.position_resize = "bicubic"  # first rows and columns as they are: corner
  # patches a side that 2-D RoPE counts in; 0 has no RoPE, -1 counts the patches as
  c.vision.rope_grid = 0  # they are, however many
  c.vision.window = 0  # patches a side of the square that patches see; 0: the picture
  c.vision.whole_blocks = ()  # numbers, from 0, of blocks without windows
  c.vision.embed_norm = False  # a norm before the first block
  c.vision.registers = 0  # tokens without content, which take what patches should not
  c.vision.mask_token = False  # a vector for hidden patches; "distill" always has one
  c.vision.pool = "attention"  # or class (a token), mean: one vector of all patches
  c.vision.skip_blocks = 0  # at the end, that features of patches do without
  c.vision.last_norm = True  # there is a norm after the last block
  c.vision.features_norm = True  # features pass the last norm; one vector always does

  c.text = ConfigDict()  # an encoder of captions, or the stack of a Q-Former
  c.text.depth = 4  # blocks
  c.text.width = 64
  c.text.heads = 4  # of width / heads each
  c.text.mlp_width = 256  # hidden units
  c.text.mlp = "gelu"  # or gelu_tanh, quick_gelu, relu, swiglu
  c.text.norm = "pre"  # or post (after the sum), branch (before the sum)
  c.text.norm_kind = "layer"  # or rms: not centred, without a bias
  c.text.norm_eps = 1e-6  # added to the variance in norms
  c.text.qkv_bias = "all"  # or query_value, none: which projections have a bias
  c.text.qk_norm = False  # RMS norm on queries and keys
  c.text.sub_norm = False  # norms of mixed values and hidden units
  c.text.layer_scale = 0.0  # start of a learned factor on branches; 0 has none
  c.text.dtype = "float32"  # of activations: bfloat16 on TPU and GPU
  c.text.remat = "none"  # or full, dots, attention: what is recomputed
  c.text.vocab = 0  # rows of the token table; 0 is what the tokenizer needs
  c.text.length = 32  # positions; longer captions lose their end
  c.text.causal = True  # words see earlier words only; else all, padding too
  c.text.pool = "eos"  # or last (position): one vector of all words
  c.text.canonical = "as_is"  # or lower (case), words (no punctuation, either)
  c.text.bos = True  # a BOS stands before the words, as an EOS behind them


def _align(c: ConfigDict) -> None:
  """What they agree on."""
  c.align = ConfigDict()  # what pictures and texts are trained to agree on
  c.align.objective = "softmax"  # or sigmoid, distill, queries; none: pictures alone
  c.align.width = 64  # of the vectors that are compared
  c.align.image_projection = "linear"  # to that width; or bias (with one), none
  c.align.text_projection = "linear"  # or bias, none
  c.align.scale = 14.3  # start of the learned factor on cosines: 1 / 0.07
  c.align.max_scale = 100.0  # it never grows beyond
  c.align.scale_learned = True  # False: the factor stays, and is no parameter
  c.align.bias = -10.0  # start of the sigmoid's offset: most pairs do not match
  c.align.frozen = ""  # run whose encoder is the teacher, or the eyes of the queries
  c.align.mask_share = 0.4  # of the patches hidden from the student
  c.align.queries = 8  # vectors that read a picture
  c.align.cross_every = 2  # blocks from one look at the picture to the next
  c.align.feature_norm = True  # of what they look at, before the first look
  c.align.class_seen = False  # they look at the class token and registers, too
  c.align.writes = True  # they also learn to write the text: the third loss of queries
