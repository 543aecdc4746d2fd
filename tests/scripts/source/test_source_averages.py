"""What a total is divided by, in which loop it grows, and what is no average at all."""

from __future__ import annotations

from ast import unparse

import pytest
from tests.scripts_read import loop, only, read

from batchproof.scripts.source.site import Divisor, Phase, Quantity, Weight

TOP = "import numpy as np\nimport torch\nimport torch.nn.functional as F\nfrom torch.utils.data import DataLoader\n"
ADDS = "total += F.mse_loss(model(x), y).item()"


def averages(script):
    return [(unparse(average.node), average.divisor) for average in only(TOP + script).averages]


@pytest.mark.parametrize(
    ("after", "divisor"),
    [
        ("return total / len(loader)", Divisor.BATCHES),
        ("total /= len(loader)\n    return total", Divisor.BATCHES),
        ("n = len(loader)\n    return total / n", Divisor.BATCHES),
        ("return total / args.num_batches", Divisor.BATCHES),
        ("return total / (len(loader.dataset) // args.batch_size)", Divisor.BATCHES),
        ("return total / len(loader.dataset)", Divisor.DATASET),
        ("return total / (len(loader) * loader.batch_size)", Divisor.CONFIGURED),
        ("return 100 * total / len(loader)", Divisor.BATCHES),
        ("return float(total) / max(1, len(loader))", Divisor.BATCHES),
    ],
)
def test_what_a_total_is_divided_by(after, divisor):
    assert [found for _, found in averages(loop(ADDS, after))] == [divisor]


def test_the_loops_iterable_is_told_by_its_text():
    script = """
def evaluate(pairs, model):
    total = 0
    for x, y in pairs:
        total += F.mse_loss(model(x), y).item()
    return total / len(pairs)
"""
    assert averages(script) == [("total / len(pairs)", Divisor.BATCHES)]


def test_counters_say_what_they_count():
    body = f"batches += 1\n        seen += y.size(0)\n        {ADDS}"
    start = "total = batches = seen = 0"
    assert averages(loop(body, "return total / batches", start)) == [("total / batches", Divisor.BATCHES)]
    assert averages(loop(body, "return total / seen", start)) == [("total / seen", Divisor.SAMPLES)]


def test_the_number_of_the_last_batch_counts_batches():
    script = """
def evaluate(loader, model):
    total = 0
    for i, (x, y) in enumerate(loader):
        total += F.mse_loss(model(x), y).item()
    return total / (i + 1)
"""
    assert averages(script) == [("total / (i + 1)", Divisor.BATCHES)]


@pytest.mark.parametrize(
    "mean",
    [
        "np.mean(losses)",
        "sum(losses) / len(losses)",
        "torch.tensor(losses).mean()",
        "torch.stack(losses).mean()",
        "np.array(losses).mean()",
        "np.average(losses)",
    ],
)
def test_means_of_lists(mean):
    script = loop("losses.append(F.mse_loss(model(x), y))", f"return {mean}", "losses = []")
    assert [divisor for _, divisor in averages(script)] == [Divisor.BATCHES]


def test_a_list_that_a_comprehension_makes():
    script = """
def evaluate(loader, model):
    losses = [F.mse_loss(model(x), y).item() for x, y in loader]
    return np.mean(losses)
"""
    assert averages(script) == [("np.mean(losses)", Divisor.BATCHES)]


def test_pairs_of_a_loss_and_a_count():
    script = (
        TOP
        + """
def of_batch(model, x, y):
    return F.mse_loss(model(x), y).item(), len(x)

def evaluate(loader, model):
    losses, counts = zip(*[of_batch(model, x, y) for x, y in loader])
    return np.sum(np.multiply(losses, counts)) / np.sum(counts)
"""
    )
    assert all(a.divisor is not Divisor.BATCHES for site in read(script).sites for a in site.averages)


@pytest.mark.parametrize(
    "add",
    [
        "mean = (mean * i + loss) / (i + 1)",
        "mean = mean + (loss - mean) / (i + 1)",
        "mean += (loss - mean) / (i + 1)",
    ],
)
def test_running_means(add):
    script = f"""
def evaluate(loader, model):
    mean = 0
    for i, (x, y) in enumerate(loader):
        loss = F.mse_loss(model(x), y).item()
        {add}
    return mean
"""
    site = only(TOP + script)
    assert site.added.quantity is Quantity.MEAN
    assert [average.divisor for average in site.averages] == [Divisor.BATCHES]


def test_totals_that_stand_in_dicts_and_attributes():
    in_a_dict = loop(
        'totals["mse"] += F.mse_loss(model(x), y)', 'return totals["mse"] / len(loader)', 'totals = {"mse": 0}'
    )
    assert only(TOP + in_a_dict).name == "totals['mse']"
    script = (
        TOP
        + """
class Trainer:
    def start(self):
        self.total = 0

    def epoch(self, loader):
        self.start()
        for x, y in loader:
            self.total += F.mse_loss(self.model(x), y).item()
        self.history.append(self.total / len(loader))
"""
    )
    site = only(script)
    assert site.name == "self.total"
    assert [average.divisor for average in site.averages] == [Divisor.BATCHES]


def test_what_a_caller_divides():
    script = (
        TOP
        + """
def one_epoch(loader, model):
    total = 0
    for x, y in loader:
        total += F.mse_loss(model(x), y).item()
    return total

def main():
    loader = DataLoader(data, batch_size=8)
    for epoch in range(3):
        epoch_loss = one_epoch(loader, model) / len(loader)
        print(epoch_loss)

if __name__ == "__main__":
    main()
"""
    )
    site = only(script)
    assert [average.divisor for average in site.averages] == [Divisor.BATCHES]
    assert site.reported == ("epoch_loss",)
    assert site.loop.loader.batch_size == 8
    assert site.loop.loader.drops_last is False


def test_a_root_of_the_average_is_no_root_of_the_batch():
    site = only(TOP + loop(ADDS, "return np.sqrt(total / len(loader))"))
    assert site.added.quantity is Quantity.MEAN
    assert site.averages[0].after == "the square root"


def test_a_window_starts_anew_in_its_loop():
    script = (
        TOP
        + """
def train(loader, model, optimizer):
    running = 0.0
    for i, (x, y) in enumerate(loader):
        loss = F.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
        running += loss.item()
        if i % 100 == 99:
            print(running / 100)
            running = 0.0
"""
    )
    site = only(script)
    assert all(average.window for average in site.averages)
    assert site.loop.phase is Phase.TRAINING


def test_a_total_that_starts_anew_in_each_epoch_is_no_window():
    script = (
        TOP
        + """
def train(loader, model):
    for epoch in range(9):
        total = 0.0
        for x, y in loader:
            total += F.mse_loss(model(x), y).item()
        print(total / len(loader))
"""
    )
    assert not only(script).averages[0].window


def test_running_totals_added_again():
    script = """
def evaluate(loader, model):
    running = total = 0
    for i, (x, y) in enumerate(loader):
        running += F.mse_loss(model(x), y).item()
        total += running / (i + 1)
    return total / len(loader)
"""
    quantities = {site.name: site.added.quantity for site in read(TOP + script).sites}
    assert quantities["total"] is Quantity.RUNNING


@pytest.mark.parametrize(
    "script",
    [
        # a sum over the parts of one batch
        "for x, y in loader:\n    loss = 0\n    for head in heads:\n        loss = loss + F.mse_loss(head(x), y)",
        # a history that is plotted
        "losses = []\nfor x, y in loader:\n    losses.append(F.mse_loss(model(x), y).item())\nplot(losses)",
        # predictions that are joined first
        "outs = []\nfor x, y in loader:\n    outs.append(model(x))\nprint(F.mse_loss(torch.cat(outs), t).sqrt())",
        # a mean over epochs
        "means = []\nfor epoch in range(3):\n    means.append(evaluate(model))\nprint(np.mean(means))",
        # words and times
        "total = 0\nfor word in words:\n    total += len(word)\nprint(total / len(words))",
        "spent = 0\nfor x, y in loader:\n    t = time.time()\n    spent += time.time() - t\nprint(spent / len(loader))",
    ],
)
def test_what_is_no_average_over_batches(script):
    assert not read(TOP + "import time\n" + script).sites


def test_a_loader_that_drops_its_last_batch():
    script = (
        TOP
        + "loader = DataLoader(data, batch_size=4, drop_last=True)\ntotal = 0\n"
        + ("for x, y in loader:\n    total += F.mse_loss(model(x), y).item()\nprint(total / len(loader))")
    )
    loader = only(script).loop.loader
    assert (loader.drops_last, loader.batch_size) == (True, 4)
    assert unparse(loader.built).startswith("DataLoader(")


def test_batches_that_are_drawn_at_random_are_equal():
    script = (
        TOP
        + """
def estimate(model, steps):
    losses = torch.zeros(steps)
    for k in range(steps):
        x, y = get_batch("val")
        losses[k] = F.cross_entropy(model(x), y).item()
    return losses.mean()
"""
    )
    assert only(script).loop.loader.drops_last is True


def test_slices_of_the_data_are_batches():
    script = (
        TOP
        + """
def evaluate(x, y, model, batch_size):
    total = 0
    for i in range(0, len(x), batch_size):
        total += F.mse_loss(model(x[i : i + batch_size]), y[i : i + batch_size]).item() * batch_size
    return total / len(x)
"""
    )
    site = only(script)
    assert site.added.weight is Weight.CONFIGURED
    assert site.averages[0].divisor is Divisor.DATASET


@pytest.mark.parametrize("made", ["{}", "[]"])
def test_an_attribute_of_a_dict_or_a_list_is_none_of_its_entries(made):
    body = f"kept = {made}\n        kept.loss = 0\n        kept.loss += 1\n        {ADDS}"
    assert only(TOP + loop(body)).name == "total"
