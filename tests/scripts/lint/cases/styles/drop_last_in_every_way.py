from torch.utils.data import DataLoader
from functools import partial
def provider(args, flag):
    if flag == 'train':
        drop_last = True
    else:
        drop_last = True  # finds: BP302
    return DataLoader(args.data(flag), batch_size=args.batch_size, drop_last=drop_last)
def two(ds, split):
    return DataLoader(ds, 4, drop_last=True if split != 'train' else False)  # finds: BP302
def three(ds, mode):
    if mode in ['test', 'val']:
        return DataLoader(ds, 4, drop_last=True)  # finds: BP302
    return DataLoader(ds, 4, drop_last=True)
Loader = partial(DataLoader, batch_size=4, drop_last=True)
def four(ds):
    val_loader = Loader(ds)  # finds: BP302
    return val_loader
def five(train, val, accelerator):
    train_loader, val_loader = DataLoader(train, 8), DataLoader(val, 8, drop_last=True)  # finds: BP302
    train_loader, val_loader = accelerator.prepare(train_loader, val_loader)
def six(sets):
    loaders = {x: DataLoader(sets[x], batch_size=4, drop_last=True) for x in ['train', 'val']}  # finds: BP302
    return loaders
def seven(sets):
    return {'train': DataLoader(sets[0], 4, drop_last=True), 'val': DataLoader(sets[1], 4, drop_last=True)}  # finds: BP302
def eight(val):
    return DataLoader(val, 4, drop_last=True)  # finds: BP302
class D:
    def val_dataloader(self):
        return DataLoader(self.val, 4, drop_last=True)  # finds: BP302
