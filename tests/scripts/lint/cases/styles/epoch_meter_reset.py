class Meter:
    def __init__(self):
        self.vals = []

    def add(self, v):
        self.vals.append(v)

    def mean(self):
        return sum(self.vals) / len(self.vals)


def validate(model, loader, criterion):
    meter = Meter()
    for x, y in loader:
        loss = criterion(model(x), y)
        meter.add(loss.item())  # finds: BP201
    return meter.mean()
