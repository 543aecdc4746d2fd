from meters import AverageMeterSet


class Trainer:
    def calculate_metrics(self, batch):
        raise NotImplementedError

    def validate(self):
        meters, weighed = AverageMeterSet(), AverageMeterSet()
        for batch in self.val_loader:
            for key, value in self.calculate_metrics(batch).items():
                meters.update(key, value)  # finds: BP201
                weighed.update(key, value, len(batch[0]))
        return meters.averages(), weighed.averages()
