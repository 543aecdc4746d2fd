"""Losses of public post-training code, their formulas in our own words, each with the cuts that change it.

A verdict is for the loss as its trainer puts it together: micro-batches that are averaged or added, ranks that are
averaged.  What is not tried: packing, of a loss that takes a number for each sample.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, log_softmax, logsigmoid

N, T, V, GROUP, LONGEST = 12, 9, 11, 3, 32
_draw = torch.Generator().manual_seed(5)


def _randn(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=_draw)


LENGTHS = torch.tensor([3, 9, 5, 7, 4, 6, 8, 3, 5, 9, 4, 7])
MASK = (torch.arange(T) < LENGTHS[:, None]).float()
LOGPS, OLD, REF = -_randn(N, T).abs(), -_randn(N, T).abs(), -_randn(N, T).abs()
ADVANTAGES = _randn(N)
LOGITS = _randn(N, T, V)
LABELS = torch.randint(V, (N, T), generator=_draw).masked_fill(MASK == 0, -100)
LABELS[1, :4] = LABELS[6, :2] = -100  # prompts
GROUPS = torch.arange(N) // GROUP
TOKEN_ADVANTAGES = ADVANTAGES[:, None].expand(N, T).clone()


# ------------------------------------------------------------------ verl


def agg_loss(
    loss_mat: Tensor,
    loss_mask: Tensor,
    mode: str,
    dp_size: int = 1,
    batch_num_tokens: float | None = None,
    global_batch_size: float | None = None,
    loss_scale_factor: float | None = None,
) -> Tensor:
    """The four modes, with the numbers of the global batch where they are given."""
    per_sequence = (loss_mat * loss_mask).sum(-1)
    if mode == "token-mean":
        return per_sequence.sum() / (loss_mask.sum() if batch_num_tokens is None else batch_num_tokens) * dp_size
    lengths = loss_mask.sum(-1)
    filled = (lengths > 0).to(loss_mat.dtype)
    if mode == "seq-mean-token-mean":
        per_sequence = per_sequence / (lengths + 1e-8)
    if mode == "seq-mean-token-sum-norm":
        per_sequence = per_sequence / (loss_mask.shape[-1] if loss_scale_factor is None else loss_scale_factor)
    return (per_sequence * filled).sum() / (global_batch_size or filled.sum()) * dp_size


def policy_loss(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor) -> Tensor:
    ratio = (log_prob - old_log_prob).exp()
    return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.28) * advantages)


def verl_loss(mode: str) -> Callable[..., Tensor]:
    def loss(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, response_mask: Tensor, **given: Any) -> Tensor:
        return agg_loss(policy_loss(log_prob, old_log_prob, advantages), response_mask, mode, **given)

    return loss


def gspo(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, response_mask: Tensor) -> Tensor:
    """The ratio of whole sequences, by its mean over tokens, with a gradient for each token."""
    lengths = response_mask.sum(-1).clamp(min=1)
    mean = ((log_prob - old_log_prob) * response_mask).sum(-1) / lengths
    log_ratio = log_prob - log_prob.detach() + mean.detach()[:, None]
    losses = policy_loss(log_ratio, torch.zeros_like(log_ratio), advantages)
    return agg_loss(losses, response_mask, "seq-mean-token-mean")


def gmpo(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, response_mask: Tensor) -> Tensor:
    """Geometric means of the ratios, and a mean over sequences."""
    lengths = response_mask.sum(-1) + 1e-8
    ratio = (((log_prob - old_log_prob).clamp(-0.4, 0.4) * response_mask).sum(-1) / lengths).exp()
    return (-(advantages * response_mask).sum(-1) / lengths * ratio).mean()


def kl_cov(log_prob: Tensor, old_log_prob: Tensor, advantages: Tensor, response_mask: Tensor) -> Tensor:
    """A penalty on the tokens whose covariance, centred on the batch, is largest."""
    shown = response_mask > 0
    a, p = advantages[shown], log_prob[shown]
    covariance = ((a - a.mean()) * (p - p.mean())).detach()
    losses = -a * (p - old_log_prob[shown]).exp()
    worst = covariance.topk(max(1, len(a) // 5)).indices
    penalty = torch.zeros_like(losses).index_add(0, worst, (p - old_log_prob[shown]).abs()[worst])
    return (losses + penalty).mean()


# ------------------------------------------------------------------ TRL


def grpo_losses(logps: Tensor, old_logps: Tensor, ref_logps: Tensor, advantages: Tensor, beta: float = 0.04) -> Tensor:
    difference = ref_logps - logps
    return policy_loss(logps, old_logps, advantages[:, None]) + beta * (difference.exp() - difference - 1)


def trl_loss(kind: str) -> Callable[..., Tensor]:
    def loss(
        logps: Tensor,
        old_logps: Tensor,
        ref_logps: Tensor,
        advantages: Tensor,
        completion_mask: Tensor,
        steps: int = 1,
        num_items_in_batch: float = 0.0,
        num_processes: int = 1,
    ) -> Tensor:
        losses = grpo_losses(logps, old_logps, ref_logps, advantages) * completion_mask
        if kind == "grpo":
            return (losses.sum(-1) / completion_mask.sum(-1).clamp(min=1.0)).mean() / steps
        if kind == "bnpo":
            return losses.sum() / completion_mask.sum().clamp(min=1.0) / steps
        if kind == "dr_grpo":
            return losses.sum() / (losses.size(0) * LONGEST) / steps
        return losses.sum() / (num_items_in_batch / num_processes)  # dapo

    return loss


def grpo_with_advantages(logps: Tensor, rewards: Tensor, completion_mask: Tensor) -> Tensor:
    """The advantages made inside, of neighbours that answer one prompt."""
    groups = rewards.view(-1, GROUP)
    normed = (groups - groups.mean(1, keepdim=True)) / (groups.std(1, keepdim=True) + 1e-4)
    losses = -normed.view(-1, 1).detach() * (logps - logps.detach()).exp()
    return ((losses * completion_mask).sum(1) / completion_mask.sum(1)).mean()


def rloo(logps: Tensor, old_logps: Tensor, rewards: Tensor, completion_mask: Tensor) -> Tensor:
    """Leave-one-out advantages, then whitened over the batch; whole sequences."""
    groups = rewards.view(-1, GROUP)
    advantages = (groups - (groups.sum(1, keepdim=True) - groups) / (GROUP - 1)).view(-1)
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-4)
    ratio = ((logps - old_logps) * completion_mask).sum(1).exp()
    return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()


def rloo_unwhitened(logps: Tensor, old_logps: Tensor, rewards: Tensor, completion_mask: Tensor) -> Tensor:
    groups = rewards.view(-1, GROUP)
    advantages = (groups - (groups.sum(1, keepdim=True) - groups) / (GROUP - 1)).view(-1)
    ratio = ((logps - old_logps) * completion_mask).sum(1).exp()
    return -torch.min(ratio * advantages, ratio.clamp(0.8, 1.2) * advantages).mean()


def dpo_concatenated(logps: Tensor, ref_logps: Tensor, completion_mask: Tensor) -> Tensor:
    """The chosen ones in the first half of the batch, the rejected ones in the second."""
    difference = ((logps - ref_logps) * completion_mask).sum(-1)
    chosen, rejected = difference.chunk(2)
    return -logsigmoid(0.1 * (chosen - rejected)).mean()


def dpo_with_sft(logps: Tensor, ref_logps: Tensor, completion_mask: Tensor) -> Tensor:
    """RPO: a token mean of the chosen ones beside a mean over pairs."""
    chosen, mask = logps.chunk(2)[0], completion_mask.chunk(2)[0]
    return dpo_concatenated(logps, ref_logps, completion_mask) - (chosen * mask).sum() / mask.sum()


def kto(logps: Tensor, ref_logps: Tensor, completion_mask: Tensor, desirable: Tensor) -> Tensor:
    """The baseline is a mean over the batch, clamped, without a gradient."""
    ratios = ((logps - ref_logps) * completion_mask).sum(-1)
    baseline = ratios.mean().clamp(min=0).detach()
    gain = torch.where(desirable, ratios - baseline, baseline - ratios)
    return (1 - torch.sigmoid(0.1 * gain)).mean()


# ------------------------------------------------------------------ supervised


def causal_lm(logits: Tensor, labels: Tensor, num_items_in_batch: float | None = None, ranks: int = 1) -> Tensor:
    """transformers: logits of a position for the label of the next."""
    reduction = "mean" if num_items_in_batch is None else "sum"
    loss = cross_entropy(logits[:, :-1].float().reshape(-1, V), labels[:, 1:].reshape(-1), reduction=reduction)
    return loss if num_items_in_batch is None else loss / num_items_in_batch * ranks


def torchtitan(pred: Tensor, labels: Tensor, global_valid_tokens: float) -> Tensor:
    """A sum over a number of tokens of all ranks; ranks are added there."""
    return cross_entropy(pred.flatten(0, 1).float(), labels.flatten(), reduction="sum") / global_valid_tokens


def megatron(losses: Tensor, loss_mask: Tensor) -> Tensor:
    """A mean over the tokens of a micro-batch, the default without calculate_per_token_loss."""
    return (losses.float().view(-1) * loss_mask.view(-1)).sum() / loss_mask.sum()


def megatron_per_token(losses: Tensor, loss_mask: Tensor) -> tuple[Tensor, Tensor]:
    """A sum, and the number by which all sums together are divided at the end."""
    return (losses.view(-1) * loss_mask.view(-1)).sum(), loss_mask.sum().int()


def open_rlhf(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor, action_mask: Tensor) -> Tensor:
    """PolicyLoss with token_level_loss=False: a mean within each sequence first."""
    losses = policy_loss(log_probs, old_log_probs, advantages)
    return ((losses * action_mask).sum(-1) / action_mask.sum(-1)).mean()


def nanochat_rl(logps: Tensor, targets: Tensor, advantages: Tensor, num_passes: int = 1) -> Tensor:
    """The tokens of a pass, and the number of passes."""
    valid = (targets >= 0).to(logps.dtype)
    return -(logps * valid * advantages[:, None]).sum() / (valid.sum().clamp(min=1) * num_passes)


def distillation(logits: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """batchmean of kl_div, over rows of the batch and not over tokens."""
    target = log_softmax(teacher, -1)
    losses = (target.exp() * (target - log_softmax(logits, -1))).sum(-1)
    return (losses * mask).sum() / len(logits)


def prompt_mean(losses: Tensor, mask: Tensor) -> Tensor:
    """Tokens of all answers to a prompt together, then a mean over prompts."""
    sums = (losses * mask).sum(1).view(-1, GROUP).sum(1)
    return (sums / mask.sum(1).view(-1, GROUP).sum(1)).mean()


def leaking(losses: Tensor, mask: Tensor) -> Tensor:
    """Padded positions enter a maximum."""
    return ((losses - losses.amax(1, keepdim=True)) * mask).sum() / (len(losses) * LONGEST)


# ------------------------------------------------------------------ verdicts


@dataclass(frozen=True)
class PublicLoss:
    """A loss, a batch, and what is right to say of it."""

    name: str
    fn: Callable[..., Any]
    batch: Any
    broken: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    aggregation: str | None = None
    normalisers: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)


VERL = {"log_prob": LOGPS, "old_log_prob": OLD, "advantages": TOKEN_ADVANTAGES, "response_mask": MASK}
TRL = {"logps": LOGPS, "old_logps": OLD, "ref_logps": REF, "advantages": ADVANTAGES, "completion_mask": MASK}
REWARDED = {"logps": LOGPS, "rewards": ADVANTAGES, "completion_mask": MASK}
PAIRED = {"logps": LOGPS, "ref_logps": REF, "completion_mask": MASK}
MEANS = ("micro-batch", "uneven", "rank")
SEQUENCE = ("uneven", "packing")
OWN = ("own-samples", "row-for-sequence")
GIVEN = {"dp_size": "ranks", "batch_num_tokens": "tokens", "global_batch_size": "samples"}
SUMS = {"combine": "sum", "over_ranks": "sum"}
STEPS = {"steps": "micro_batches"}
TM, SMTM, SMTS = "token-mean", "sequence-mean-token-mean", "sequence-mean-token-sum"

LOSSES = [
    PublicLoss("verl token-mean", verl_loss("token-mean"), VERL, MEANS, ("own-tokens",), TM),
    PublicLoss("verl token-mean, global", verl_loss("token-mean"), VERL, (), (), TM, GIVEN),
    PublicLoss("verl token-mean, no dp_size", verl_loss("token-mean"), VERL, ("rank",), ("ranks-averaged",), TM,
               {"batch_num_tokens": "tokens"}),
    PublicLoss("verl token-mean, tokens of a rank", verl_loss("token-mean"), VERL, ("rank",), ("own-tokens",), TM,
               {"batch_num_tokens": "rank tokens"}),
    PublicLoss("verl seq-mean-token-mean", verl_loss("seq-mean-token-mean"), VERL, SEQUENCE, OWN, SMTM),
    PublicLoss("verl seq-mean-token-mean, global", verl_loss("seq-mean-token-mean"), VERL, ("packing",),
               ("row-for-sequence",), SMTM, GIVEN),
    PublicLoss("verl seq-mean-token-sum", verl_loss("seq-mean-token-sum"), VERL, SEQUENCE, OWN, SMTS),
    PublicLoss("verl seq-mean-token-sum, global", verl_loss("seq-mean-token-sum"), VERL, (), (), SMTS, GIVEN),
    PublicLoss("verl seq-mean-token-sum-norm", verl_loss("seq-mean-token-sum-norm"), VERL,
               ("uneven", "padding", "packing"), ("own-samples", "padded-length"), "padded-mean"),
    PublicLoss("verl seq-mean-token-sum-norm, global", verl_loss("seq-mean-token-sum-norm"), VERL, (), (), SMTS,
               {**GIVEN, "loss_scale_factor": 32}),
    PublicLoss("verl GSPO", gspo, VERL, SEQUENCE, OWN),
    PublicLoss("verl GMPO", gmpo, VERL, SEQUENCE),
    PublicLoss("verl KL-Cov", kl_cov, VERL, MEANS, ("couples",)),
    PublicLoss("TRL GRPO", trl_loss("grpo"), TRL, ("uneven",), ("own-samples",), SMTM, STEPS),
    PublicLoss("TRL GRPO, steps forgotten", trl_loss("grpo"), TRL, ("micro-batch", "uneven"),
               ("missing-division", "own-samples"), SMTM, {}, {"combine": "sum"}),
    PublicLoss("TRL BNPO", trl_loss("bnpo"), TRL, MEANS, ("own-tokens",), TM, STEPS),
    PublicLoss("TRL Dr. GRPO", trl_loss("dr_grpo"), TRL, ("uneven",), ("own-samples",), SMTS, STEPS),
    PublicLoss("TRL DAPO", trl_loss("dapo"), TRL, (), (), TM,
               {"num_items_in_batch": "tokens", "num_processes": "ranks"}),
    PublicLoss("TRL DAPO, divided by steps too", lambda *a, steps, **k: trl_loss("dapo")(*a, **k) / steps,
               tuple(TRL.values()), ("micro-batch", "uneven"), ("divided-twice",), TM,
               {"num_items_in_batch": "tokens", "num_processes": "ranks", "steps": "micro_batches"}),
    PublicLoss("TRL GRPO, advantages inside", grpo_with_advantages, REWARDED, ("uneven",), ("own-groups",)),
    PublicLoss("TRL RLOO, whitened", rloo, {"logps": LOGPS, "old_logps": OLD, **REWARDED}, MEANS, ("couples",)),
    PublicLoss("TRL RLOO", rloo_unwhitened, {"logps": LOGPS, "old_logps": OLD, **REWARDED}, ("uneven",)),
    PublicLoss("TRL DPO", dpo_concatenated, PAIRED, ("uneven",)),
    PublicLoss("TRL RPO", dpo_with_sft, PAIRED, MEANS),
    PublicLoss("TRL KTO", kto, {**PAIRED, "desirable": ADVANTAGES > 0}, MEANS, ("couples",)),
    PublicLoss("transformers, no count", causal_lm, (LOGITS, LABELS), MEANS, ("own-tokens",), TM),
    PublicLoss("transformers", causal_lm, (LOGITS, LABELS), (), (), TM,
               {"num_items_in_batch": "tokens", "ranks": "ranks"}),
    PublicLoss("transformers, a count of the caller's", causal_lm, (LOGITS, LABELS), (), (), None,
               {"num_items_in_batch": lambda batch: (batch[1][:, 1:] != -100).sum(), "ranks": "ranks"}),
    PublicLoss("transformers, ranks forgotten", causal_lm, (LOGITS, LABELS), ("rank",), ("ranks-averaged",), TM,
               {"num_items_in_batch": "tokens"}),
    PublicLoss("torchtitan", torchtitan, (LOGITS, LABELS), (), (), TM, {"global_valid_tokens": "tokens"},
               {"over_ranks": "sum"}),
    PublicLoss("Megatron", megatron, (LOGPS, MASK), MEANS, ("own-tokens",), TM),
    PublicLoss("Megatron, per token", megatron_per_token, (LOGPS, MASK), (), (), "token-sum", {}, SUMS),
    PublicLoss("OpenRLHF", open_rlhf, (LOGPS, OLD, TOKEN_ADVANTAGES, MASK), SEQUENCE, OWN, SMTM),
    PublicLoss("nanochat", nanochat_rl, (LOGPS, LABELS, ADVANTAGES), MEANS, ("own-tokens",), TM,
               {"num_passes": "micro_batches"}),
    PublicLoss("distillation", distillation, (LOGITS, LOGITS.flip(0), MASK), SEQUENCE, OWN, SMTS),
    PublicLoss("prompt mean", prompt_mean, (LOGPS, MASK), ("uneven",), ("own-groups",), "prompt-mean-token-mean"),
    PublicLoss("padding in a maximum", leaking, (LOGPS, MASK), ("uneven", "padding", "packing")),
]  # fmt: skip
