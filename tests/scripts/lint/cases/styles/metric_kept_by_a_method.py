class ErrorRate:
    def update(self, guesses, texts):
        for i in range(len(texts)):
            self.errors += distance(guesses[i], texts[i]).sum()
            self.letters += len(texts[i])

    def compute(self):
        rate = self.errors / self.letters
        return rate.item()


def evaluate(model, loader, criterion):
    for x, y in loader:
        rate = criterion(model(x), y)
    return rate.item()  # finds: BP301
