"""`batchproof run` where batches cannot just be put together: time first, rows that belong together, changing state."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

import pytest

from running import one, run

SEQUENCES = """
    words = 11
    texts = [torch.randint(1, words, (3 + i % 7,)) for i in range(50)]
    sequences = DataLoader(texts, batch_size=8, collate_fn=nn.utils.rnn.pad_sequence)
    reader = nn.Sequential(nn.Embedding(words, 16), nn.Linear(16, words))
    criterion = nn.CrossEntropyLoss(ignore_index=0)
    seen = []
"""


def test_time_first_and_its_first_step_left_out(tmp_path: Path) -> None:
    text = """
        epoch_loss = 0
        with torch.no_grad():
            for target in sequences:
                output = reader(target)
                dimension = output.shape[-1]
                output = output[1:].view(-1, dimension)
                target = target[1:].view(-1)
                loss = criterion(output, target)
                epoch_loss += loss.item()
                seen.append((output, target))
        result = epoch_loss / len(sequences)
        print(criterion(torch.cat([a for a, _ in seen]), torch.cat([b for _, b in seen])).item())
    """
    found, out = run(tmp_path, dedent(SEQUENCES) + dedent(text))
    assert found.measured[0].last.exact == pytest.approx(float(out), rel=1e-6)
    assert found.measured[0].last.sizes == ((8, 6), (2, 1))


def test_predictions_and_targets_of_other_lengths(tmp_path: Path) -> None:
    text = """
        losses = 0
        with torch.no_grad():
            for target in sequences:
                logits = reader(target[:-1, :])
                expected = target[1:, :]
                losses += criterion(logits.reshape(-1, logits.shape[-1]), expected.reshape(-1)).item()
                seen.append((logits.reshape(-1, words), expected.reshape(-1)))
        result = losses / len(sequences)
        print(criterion(torch.cat([a for a, _ in seen]), torch.cat([b for _, b in seen])).item())
    """
    found, out = run(tmp_path, dedent(SEQUENCES) + dedent(text))
    assert found.measured[0].last.exact == pytest.approx(float(out), rel=1e-6)


def test_a_sum_over_time_is_not_taken_for_one_over_samples(tmp_path: Path) -> None:
    text = """
        total = 0.0
        for target in sequences:
            logits = reader(target)
            total += F.cross_entropy(logits.permute(0, 2, 1), target, reduction="none").mean(1).sum().item()
        result = total / len(sequences)
    """
    _, epoch = one(tmp_path, dedent(SEQUENCES) + dedent(text))
    assert (epoch.exact, epoch.weighted) == (None, None)
    assert epoch.reason == "its samples do not lie along the first dimension"


@pytest.mark.parametrize(
    "value",
    [
        "(pred[: len(xb) // 2] - pred[len(xb) // 2 : 2 * (len(xb) // 2)]).square().mean()",
        "(pred[1:] - pred[:-1]).abs().mean()",
        "pred.view(4, -1).sum(1).square().mean()",
        "pred.cumsum(0).abs().mean()",
    ],
)
def test_rows_that_belong_together_by_their_place(tmp_path: Path, value: str) -> None:
    text = f"""
        total = 0.0
        for xb, yb in loader:
            pred = model(xb)
            total += ({value}).item()
        result = total / len(loader)
    """
    _, epoch = one(tmp_path, text)
    assert epoch.exact is None
    assert epoch.reason.startswith("its value depends on the order of the samples")


def test_a_tensor_that_changes_from_batch_to_batch(tmp_path: Path) -> None:
    text = """
        scale = torch.ones(1)
        total = 0.0
        for xb, yb in loader:
            total += (scale * F.l1_loss(model(xb), yb)).item()
            scale += 1e-6
        result = total / len(loader)
    """
    _, epoch = one(tmp_path, text)
    assert epoch.exact is None
    assert epoch.reason == "it depends on a tensor that changes from batch to batch"


def test_a_view_that_is_handed_to_a_function_of_another_file(tmp_path: Path) -> None:
    (tmp_path / "engine_of_views.py").write_text(
        "class Engine:\n"
        "    def __init__(self, model):\n"
        "        self.model = model\n"
        "    def eval(self, inputs, real):\n"
        "        output = self.model(inputs)\n"
        "        loss = ((output - real) ** 2).mean().sqrt()\n"
        "        return loss.item(), loss.item() ** 2\n"
    )
    text = """
        from engine_of_views import Engine
        engine = Engine(model)
        losses = []
        for xb, yb in loader:
            target = torch.stack([yb, yb], 1)
            losses.append(engine.eval(xb, target[:, 0])[0])
        result = np.mean(losses)
        print((model(x) - y).square().mean().sqrt().item())
    """
    found, out = run(tmp_path, text)
    assert found.measured[0].last.exact == pytest.approx(float(out), rel=1e-6)
