"""torch_brain's POYO, as wide and deep as one of our configurations, on one of our batches."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from nhdata.loading import WindowBatch
from nhmodel.config import Config

Step = Callable[[], Tensor]


def poyo(config: Config, batch: WindowBatch, n_units: int) -> tuple[nn.Module, Step]:
    """POYO with as many latents, reading the same spikes, padded, and saying `n_units` numbers a bin; and its loss."""
    from torch_brain.models import POYO

    size, data, device = config.model, config.data, batch.counts.device
    model = POYO(
        sequence_length=data.history_s,
        latent_step=size.latent_step_s,
        num_latents_per_step=size.latents_per_step,
        dim_out=n_units,
        dim=size.dim,
        depth=size.depth,
        dim_head=size.dim // size.n_heads,
        cross_heads=size.n_heads,
        self_heads=size.n_heads,
    )
    model.unit_emb.initialize_vocab([str(n) for n in range(n_units)])
    model.session_emb.initialize_vocab(["one"])
    model = model.to(device)
    length, b = batch.cu_seqlens.diff().long(), len(batch)
    place = torch.arange(int(length.max()), device=device)
    mask = place < length[:, None]
    index = torch.where(mask, batch.cu_seqlens[:-1, None] + place, 0)
    n_steps = round(data.history_s / size.latent_step_s)
    latent = torch.arange(size.latents_per_step, device=device).repeat(n_steps).expand(b, -1)
    times = torch.arange(n_steps, device=device).repeat_interleave(size.latents_per_step) * size.latent_step_s
    n_bins = batch.counts.shape[1]
    known = {
        "input_unit_index": batch.token_unit[index].long() + 1,
        "input_timestamps": batch.token_time_s[index] + data.history_s,
        "input_token_type": torch.zeros_like(index),
        "input_mask": mask,
        "latent_index": latent,
        "latent_timestamps": times.expand(b, -1),
        "session_index": torch.ones(b, dtype=torch.int64, device=device),
        "output_timestamps": (torch.arange(n_bins, device=device) * data.bin_s).expand(b, -1),
    }
    return model, lambda: nn.functional.poisson_nll_loss(model(**known), batch.counts.float())
