from torch.utils.data import DataLoader
from torch.utils.data.distributed import DistributedSampler


def build(val_dataset):
    val_sampler = DistributedSampler(val_dataset, shuffle=False)  # finds: BP303
    val_loader = DataLoader(val_dataset, batch_size=32, sampler=val_sampler)
    return val_loader
