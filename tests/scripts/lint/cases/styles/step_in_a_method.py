class Trainer:
    def __init__(self, model, criterion, optimizer, train_data):
        self.model, self.criterion, self.optimizer = model, criterion, optimizer
        self.train_data = train_data

    def run_batch(self, source, targets):
        loss = self.criterion(self.model(source), targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def run_epoch(self):
        total = 0
        for source, targets in self.train_data:
            total += self.run_batch(source, targets)  # finds: BP201
        return total / len(self.train_data)

    def run_checkpoints(self, checkpoints):
        total = 0
        for number, checkpoint in enumerate(checkpoints):
            total += self.run_batch(checkpoint, number)
        return total / len(checkpoints)
