"""A regression in Hugging Face's Trainer with a loss of its own: a root mean square error."""

import sys
import tempfile

import torch
from transformers import Trainer, TrainingArguments, set_seed


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)

    def forward(self, x, labels=None):
        return {"logits": self.layer(x).squeeze(1)}


class RootTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        outputs = model(inputs["x"])
        loss = torch.nn.functional.mse_loss(outputs["logits"], inputs["labels"]).sqrt()
        return (loss, outputs) if return_outputs else loss


set_seed(0)
size = int(sys.argv[1]) if len(sys.argv) > 1 else 16
x = torch.randn(100, 3)
y = x.sum(1) + torch.randn(100)
samples = [{"x": a, "labels": b} for a, b in zip(x, y)]
trainer = RootTrainer(
    Model(),
    TrainingArguments(
        tempfile.mkdtemp(),
        per_device_train_batch_size=size,
        per_device_eval_batch_size=size,
        gradient_accumulation_steps=2,
        learning_rate=0.05,
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
