"""BP401 and BP501: what is trained on is not the loss that was meant."""

from __future__ import annotations

from batchproof.scripts.lint.finding import Severity
from batchproof.scripts.lint.rules.evaluation import says
from batchproof.scripts.lint.rules.rule import Rule

BP401 = Rule(
    "BP401",
    "accumulation-divided",
    Severity.WARNING,
    "a loss that is no plain mean, divided by the number of accumulation steps",
    """\
Finds gradient accumulation that divides each loss by the number of steps, where the loss is no plain mean over samples:
a token mean, class weights, a root mean square error, a contrastive loss.

## Why it is bad

The mean of the micro-batches' gradients is the gradient of the large batch only if the loss is a mean over samples and
all micro-batches are equally large. Otherwise it is the gradient of another loss, and how far off it is depends on the
micro-batch size.

## How large it is

For a token mean over sequences of 1 to 20 tokens, the gradient of 64 sequences was off by 6 % with micro-batches of 16,
by 22 % with 4 and by 72 % with 1.

## Example

```py
from torch import nn


def train(model, loader, optimizer, class_weights, accumulation_steps):
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    for i, (x, y) in enumerate(loader):
        loss = criterion(model(x), y) / accumulation_steps
        loss.backward()
        if (i + 1) % accumulation_steps == 0:
            optimizer.step()
            optimizer.zero_grad()
```

Instead:

```py
from torch import nn

import batchproof


def train(model, windows, optimizer, class_weights):
    criterion = nn.CrossEntropyLoss(weight=class_weights)
    for micro_batches in windows:
        batchproof.accumulate(criterion, lambda part: (model(part[0]), part[1]), micro_batches)
        optimizer.step()
        optimizer.zero_grad()
```

## Fix

None: `accumulate` takes the micro-batches of a step together, which is another loop.
""",
    topic="accumulation divided",
    doubt=says(
        "the loss is divided by the number of accumulation steps, which is right for a plain mean only: {}",
        "batchproof.accumulate, or divide a summed loss by the whole window's denominator",
    ),
)

BP501 = Rule(
    "BP501",
    "broadcast-shapes",
    Severity.ERROR,
    "a prediction of shape (B, 1) against a target of shape (B,)",
    """\
Finds an element-wise loss between a prediction that keeps a last dimension of one and a target that has none, where
both shapes are visible in the source.

## Why it is bad

The two broadcast to a table of B × B: every prediction is compared with every target. Torch warns once, and goes on.
The loss is then mostly the variance of the targets, the model learns to predict their mean, and the batch size decides
how many wrong pairs there are.

## How large it is

With perfect predictions of standard normal targets the mean square error should be 0. It read 1.77 with batches of 16,
1.87 with 64 and 1.88 with 128. With batches of one it is right, which hides it in tests.

## Example

```py
import torch.nn.functional as F


def train(model, loader, optimizer):
    for x, y in loader:
        loss = F.mse_loss(model(x).view(-1, 1), y.view(-1))
        loss.backward()
        optimizer.step()
```

Instead:

```py
import torch.nn.functional as F


def train(model, loader, optimizer):
    for x, y in loader:
        loss = F.mse_loss(model(x).view(-1), y.view(-1))
        loss.backward()
        optimizer.step()
```

## Fix

None: which of the two shapes is wrong is for you to say.
""",
    topic="broadcast shapes",
    doubt=says(
        "every prediction is compared with every target: {}",
        "give both the same shape, as in pred.squeeze(1)",
    ),
)

RULES = (BP401, BP501)
