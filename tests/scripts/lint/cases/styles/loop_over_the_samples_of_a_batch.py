def evaluate(model, loader, converter):
    same = count = 0
    for images, texts in loader:
        guesses = converter.decode(model(images))
        written = []
        for text in texts:
            written.append(text.decode())
        for guess, text in zip(guesses, written):
            same += jaccard(guess, text)
            count += 1
    return same / count


def of_batches(model, loader):
    same = count = 0
    for images, texts in loader:
        same += jaccard(model(images), texts)  # finds: BP101
        count += 1
    return same / count
