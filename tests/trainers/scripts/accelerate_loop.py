"""A loop with accelerate over a model that computes its loss, and one that gathers losses for evaluation."""

import sys

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

set_seed(0)
size = int(sys.argv[1]) if len(sys.argv) > 1 else 8
draw = torch.Generator().manual_seed(0)
samples = []
for length in torch.randint(2, 12, (50,), generator=draw).tolist():
    tokens = torch.randint(1, 20, (12,), generator=draw)
    labels = tokens.clone()
    labels[length:] = -100
    samples.append({"input_ids": tokens, "labels": labels, "attention_mask": (torch.arange(12) < length).long()})

accelerator = Accelerator(cpu=True, gradient_accumulation_steps=2)
model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=12, n_embd=8, n_layer=1, n_head=1))
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
model, optimizer, train_loader, eval_loader = accelerator.prepare(
    model, optimizer, DataLoader(samples, size, shuffle=True), DataLoader(samples, size)
)

for epoch in range(2):
    model.train()
    total_loss = 0.0
    for batch in train_loader:
        with accelerator.accumulate(model):
            outputs = model(**batch)
            loss = outputs.loss
            total_loss += loss.detach().float()
            accelerator.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
    train_loss = total_loss / len(train_loader)
    model.eval()
    losses = []
    for batch in eval_loader:
        with torch.no_grad():
            outputs = model(**batch)
        losses.append(accelerator.gather_for_metrics(outputs.loss.repeat(size)))
    eval_loss = torch.mean(torch.cat(losses))
    print(f"epoch {epoch}: train_loss {train_loss.item():.6f} eval_loss {eval_loss.item():.6f}")
