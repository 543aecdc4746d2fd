from torch.utils.data import DataLoader
def provider(args, flag):
    if flag == 'test':
        drop_last = False
    elif flag == 'pred':
        drop_last = False
    else:
        drop_last = True
    return DataLoader(args.data(flag), batch_size=args.batch_size, drop_last=drop_last)
def make(args):
    test_loader = provider(args, 'test')
    return test_loader
def right2(ds, split):
    return DataLoader(ds, 4, drop_last=split == 'train')
def right3(ds, split):
    return DataLoader(ds, 4, drop_last=(split != 'test'))
