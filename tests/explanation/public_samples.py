"""Samples as losses and metrics of public projects are given them, seeded: for `public_functions`.

Each function takes a generator and returns the arguments of one call, with the samples along dimension 0. What is
uneven in real data is uneven here: lengths, sizes of objects, class frequencies, loudness, and how hard a sample is.
"""

import torch
from torch import Generator, Tensor
from torch.nn import functional as F


def normal(g: Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=g)


def uniform(g: Generator, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=g)


def integers(g: Generator, low: int, high: int, *shape: int) -> Tensor:
    return torch.randint(low, high, shape, generator=g)


def regression(g: Generator) -> tuple[Tensor, Tensor]:
    """Predictions and real values around 50, some samples much harder than others."""
    real = 50 + 20 * normal(g, 128)
    return real + 10 * uniform(g, 128) * normal(g, 128), real


def demand(g: Generator) -> tuple[Tensor, Tensor]:
    """Forecasts and skewed positive sales; the error does not grow with the sales."""
    real = torch.exp(1.5 + 0.8 * normal(g, 128))
    return (real + normal(g, 128)).clamp(min=0.1), real


def series(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Targets, forecasts and the history of 64 series, each on a scale of its own."""
    scale = torch.exp(normal(g, 64, 1))
    history = scale * (3 + normal(g, 64, 36))
    real = scale * (3 + normal(g, 64, 12))
    return real, real + 0.5 * scale * normal(g, 64, 12), history


def quantile_forecasts(g: Generator) -> tuple[Tensor, Tensor]:
    middle = normal(g, 64, 12)
    spread = torch.tensor([-1.0, 0.0, 1.0])
    return middle.unsqueeze(-1) + spread, middle + normal(g, 64, 12)


def distributions(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Means, log-variances and targets."""
    mean, log_var = normal(g, 96), 0.5 * normal(g, 96)
    return mean, log_var, mean + torch.exp(0.5 * log_var) * normal(g, 96)


def counts(g: Generator) -> tuple[Tensor, Tensor]:
    """Log-rates and counts."""
    rate = 0.5 + normal(g, 96)
    return rate, torch.poisson(torch.exp(rate), generator=g)


def classes(g: Generator) -> tuple[Tensor, Tensor]:
    """Logits of five classes; the rarer a class, the worse it is recognised."""
    frequency = torch.tensor([0.5, 0.25, 0.12, 0.08, 0.05])
    labels = torch.multinomial(frequency, 128, replacement=True, generator=g)
    clarity = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.5])[labels].unsqueeze(1)
    return normal(g, 128, 5) + clarity * F.one_hot(labels, 5), labels


def binary(g: Generator) -> tuple[Tensor, Tensor]:
    """Logits and labels, three of ten positive."""
    labels = (uniform(g, 128) < 0.3).float()
    return 1.5 * normal(g, 128) + 3 * (labels - 0.5), labels


def multilabel(g: Generator) -> tuple[Tensor, Tensor]:
    labels = (uniform(g, 96, 6) < torch.linspace(0.1, 0.5, 6)).float()
    return normal(g, 96, 6) + 2 * (labels - 0.5), labels


def teacher_and_student(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    student, labels = classes(g)
    return student, student + normal(g, 128, 5), labels


def anchors(g: Generator) -> tuple[Tensor, Tensor]:
    """Logits and targets of 30 anchors per image; some images have one object, some six."""
    share = 0.03 + 0.2 * uniform(g, 48, 1)
    positive = (uniform(g, 48, 30) < share).float()
    positive[:, 0] = 1
    return normal(g, 48, 30) + 3 * (positive - 0.5), positive


def masks(g: Generator) -> tuple[Tensor, Tensor]:
    """Logits and masks of 48 images with one square each; small squares are found badly."""
    target = torch.zeros(48, 1, 12, 12)
    for image, side in zip(target, integers(g, 2, 11, 48).tolist(), strict=True):
        image[:, 1 : 1 + side, 1 : 1 + side] = 1
    clarity = 0.5 + 4 * target.mean(dim=(1, 2, 3), keepdim=True)
    return normal(g, 48, 1, 12, 12) + clarity * (4 * target - 2), target


def scenes(g: Generator) -> tuple[Tensor, Tensor]:
    """Logits of four classes per pixel, and labels with 255 at a border as wide as it happens to be."""
    labels = integers(g, 0, 3, 32, 10, 10)
    labels[integers(g, 0, 32, 6), 4:7, 4:7] = 3
    logits = normal(g, 32, 4, 10, 10) + 2 * F.one_hot(labels, 4).permute(0, 3, 1, 2)
    for image, border in zip(labels, integers(g, 0, 4, 32).tolist(), strict=True):
        image[:border] = 255
    return logits, labels


def sentences(g: Generator) -> tuple[Tensor, Tensor]:
    """Logits of ten tokens and their labels, -100 beyond the sentence; longer sentences are harder."""
    labels = integers(g, 0, 30, 48, 10)
    length = integers(g, 2, 11, 48, 1)
    clarity = (5 - 0.4 * length).unsqueeze(-1)
    logits = normal(g, 48, 10, 30) + clarity * F.one_hot(labels, 30)
    return logits, labels.masked_fill(torch.arange(10) >= length, -100)


def text(g: Generator) -> tuple[Tensor, Tensor]:
    """Logits and labels of sequences without padding."""
    labels = integers(g, 0, 30, 48, 10)
    clarity = 1 + 4 * uniform(g, 48, 1, 1)
    return normal(g, 48, 10, 30) + clarity * F.one_hot(labels, 30), labels


def masked_tokens(g: Generator) -> tuple[Tensor, Tensor]:
    """A value for each of ten tokens, and the mask of the sentence; longer sentences have larger values."""
    length = integers(g, 2, 11, 64, 1)
    return 0.2 * length + uniform(g, 64, 10), (torch.arange(10) < length).float()


def images(g: Generator) -> tuple[Tensor, Tensor]:
    """Restored and clean images in [0, 1], each with a noise level of its own."""
    clean = F.avg_pool2d(uniform(g, 32, 3, 18, 18), 3, stride=1)
    level = 0.02 + 0.15 * uniform(g, 32, 1, 1, 1)
    return (clean + level * normal(g, 32, 3, 16, 16)).clamp(0, 1), clean


def boxes(g: Generator) -> tuple[Tensor, Tensor]:
    """Predicted and true boxes as x1, y1, x2, y2."""
    corner = 50 * uniform(g, 64, 2)
    target = torch.cat([corner, corner + 5 + 20 * uniform(g, 64, 2)], dim=1)
    return target + 2 * normal(g, 64, 4) * torch.tensor([1.0, 1, 0.5, 0.5]), target


def box_lists(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Eight slots for boxes per image, predicted and true, and which slots are filled."""
    target = uniform(g, 48, 8, 4)
    filled = torch.arange(8) < integers(g, 1, 9, 48, 1)
    return target + 0.1 * uniform(g, 48, 1, 1) * normal(g, 48, 8, 4), target, filled.float()


def heatmaps(g: Generator) -> tuple[Tensor, Tensor]:
    """Predicted and true heat maps of object centres, one to four per image."""
    target = 0.9 * uniform(g, 32, 64) ** 4
    for image, objects in zip(target, integers(g, 1, 5, 32).tolist(), strict=True):
        image[:objects] = 1
    return torch.sigmoid(normal(g, 32, 64) + 4 * target - 2), target


def views(g: Generator) -> tuple[Tensor, Tensor]:
    """Embeddings of two views of 64 samples."""
    content = normal(g, 64, 16)
    return content + 0.5 * normal(g, 64, 16), content + 0.5 * normal(g, 64, 16)


def identities(g: Generator) -> tuple[Tensor, Tensor]:
    """Embeddings and the identity of each, eight in all."""
    labels = integers(g, 0, 8, 64)
    return normal(g, 64, 16) + 1.5 * normal(g, 8, 16)[labels], labels


def triplets(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    anchor = normal(g, 64, 16)
    return anchor, anchor + 0.8 * normal(g, 64, 16), 0.5 * anchor + normal(g, 64, 16)


def domains(g: Generator) -> tuple[Tensor, Tensor]:
    """Features of a source and a target domain, shifted and scaled."""
    return normal(g, 64, 6), 0.5 + 1.3 * normal(g, 64, 6)


def pairs_scored(g: Generator) -> tuple[Tensor, Tensor]:
    """Scores of a positive and a negative item."""
    return 1 + normal(g, 96), normal(g, 96)


def rankings(g: Generator) -> tuple[Tensor, Tensor]:
    """Scores of twelve documents per query, and whether each is relevant (at least one is)."""
    relevant = (uniform(g, 48, 12) < 0.25).float()
    relevant[:, 3] = 1
    return normal(g, 48, 12) + relevant, relevant


def waves(g: Generator) -> tuple[Tensor, Tensor]:
    """Separated and clean signals, of different loudness and quality."""
    loudness = torch.exp(0.7 * normal(g, 32, 1))
    clean = loudness * torch.sin(torch.arange(512) * (0.05 + 0.2 * uniform(g, 32, 1)))
    return clean + 0.5 * loudness * uniform(g, 32, 1) * normal(g, 32, 512), clean


def transcripts(g: Generator) -> tuple[Tensor, Tensor]:
    """Errors and words of each utterance; short ones have more errors per word."""
    words = integers(g, 2, 30, 96)
    return torch.minimum(integers(g, 0, 5, 96), words), words


def ngram_counts(g: Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Matched and possible n-grams (n = 1 to 4), and the lengths of hypothesis and reference."""
    length = integers(g, 6, 25, 64)
    possible = length.unsqueeze(1) - torch.arange(4)
    share = torch.tensor([0.8, 0.6, 0.4, 0.3]) * (0.5 + 0.5 * uniform(g, 64, 1))
    return (possible * share).floor(), possible, length, length + integers(g, -2, 4, 64)


def speech(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Scores (sample, frame, symbol), targets of six symbols and how many of them count."""
    return normal(g, 32, 20, 8), integers(g, 1, 8, 32, 6), integers(g, 2, 7, 32)


def rollout(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probabilities now and when acting, and advantages."""
    old = -1 - uniform(g, 96)
    return old + 0.2 * normal(g, 96), old, 0.5 + 2 * normal(g, 96)


def returns(g: Generator) -> tuple[Tensor, Tensor]:
    """Predicted values and returns."""
    real = 3 * normal(g, 96)
    return 0.8 * real + normal(g, 96), real


def preferences(g: Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-probabilities of chosen and rejected answers, under the policy and the reference."""
    chosen, rejected = -20 + 4 * normal(g, 64), -22 + 4 * normal(g, 64)
    return chosen + 1 + normal(g, 64), rejected + normal(g, 64), chosen, rejected


def reconstruction(g: Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Reconstruction and input in (0, 1), mean and log-variance of the code."""
    x = uniform(g, 64, 20)
    rebuilt = torch.sigmoid(4 * (x - 0.5) + normal(g, 64, 20))
    return rebuilt, x, normal(g, 64, 4), 0.3 * normal(g, 64, 4)


def noise_prediction(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Predicted and true noise, and the signal-to-noise ratio of each sample's time step."""
    noise = normal(g, 48, 3, 6, 6)
    return noise + 0.3 * normal(g, 48, 3, 6, 6), noise, torch.exp(2 * normal(g, 48))


def class_probabilities(g: Generator) -> tuple[Tensor]:
    return (torch.softmax(3 * normal(g, 96, 6), dim=1),)


def routing(g: Generator) -> tuple[Tensor]:
    """Router logits of 96 tokens for four experts, which are not equally popular."""
    return (2 * normal(g, 96, 4) + torch.tensor([0.8, 0.2, 0.0, -0.5]),)


def survival(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Risk, time, and whether the event was seen."""
    risk = normal(g, 96)
    return risk, torch.exp(-risk + normal(g, 96)), (uniform(g, 96) < 0.7).float()


def column_and_vector(g: Generator) -> tuple[Tensor, Tensor]:
    """Predictions of a linear layer, (B, 1), and targets, (B,)."""
    target = normal(g, 96)
    return (target + 0.3 * normal(g, 96)).unsqueeze(1), target


def weighted_rows(g: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions and targets of five outputs, and a weight per sample as a column."""
    target = normal(g, 96, 5)
    weight = uniform(g, 96, 1)
    return target + (2 - weight) * normal(g, 96, 5), target, weight


def inputs_and_targets(g: Generator) -> tuple[Tensor, Tensor]:
    x = normal(g, 96, 4)
    return x, torch.sin(x.sum(dim=1)) + 0.1 * normal(g, 96)
