from torch.utils.data import DataLoader
def provider(args, flag):
    if flag == 'test':
        shuffle_flag = False
        drop_last = True  # finds: BP302
        batch_size = args.batch_size
    else:
        shuffle_flag = True
        drop_last = True
        batch_size = args.batch_size
    data = args.data(flag)
    loader = DataLoader(data, batch_size=batch_size, shuffle=shuffle_flag, drop_last=drop_last)
    return data, loader
