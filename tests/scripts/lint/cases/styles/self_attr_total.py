class Runner:
    def run_epoch(self, loader):
        self.loss_sum = 0.0
        self.steps = 0
        for x, y in loader:
            out = self.net(x)
            loss = self.criterion(out, y)
            self.loss_sum += loss.item()  # finds: BP201
            self.steps += 1
        return self.loss_sum / self.steps
