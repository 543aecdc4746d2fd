"""A tiny causal language model in Hugging Face's Trainer: padded sequences of several lengths, evaluated each epoch."""

import sys
import tempfile

import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, set_seed

set_seed(0)
size = int(sys.argv[1]) if len(sys.argv) > 1 else 8
accumulated = int(sys.argv[2]) if len(sys.argv) > 2 else 1
draw = torch.Generator().manual_seed(0)
samples = []
for length in torch.randint(2, 12, (50,), generator=draw).tolist():
    tokens = torch.randint(1, 20, (12,), generator=draw)
    labels = tokens.clone()
    labels[length:] = -100
    samples.append({"input_ids": tokens, "labels": labels, "attention_mask": (torch.arange(12) < length).long()})

model = GPT2LMHeadModel(GPT2Config(vocab_size=20, n_positions=12, n_embd=8, n_layer=1, n_head=1))
trainer = Trainer(
    model,
    TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=size,
        per_device_eval_batch_size=size,
        gradient_accumulation_steps=accumulated,
        num_train_epochs=2,
        eval_strategy="epoch",
        logging_strategy="epoch",
        save_strategy="no",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    ),
    train_dataset=samples,
    eval_dataset=samples,
)
trainer.train()
print({name: value for name, value in trainer.evaluate().items() if name == "eval_loss"})
