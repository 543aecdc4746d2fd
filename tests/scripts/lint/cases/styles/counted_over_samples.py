import torch
from torch.utils.data import DataLoader
def val(crnn, dataset, max_iter=100):
    data_loader = DataLoader(dataset, shuffle=True, batch_size=opt.batchSize)
    val_iter = iter(data_loader)
    n_correct = 0
    max_iter = min(max_iter, len(data_loader))
    for i in range(max_iter):
        data = val_iter.next()
        cpu_images, cpu_texts = data
        preds = crnn(cpu_images)
        sim_preds = converter.decode(preds.data)
        for pred, target in zip(sim_preds, cpu_texts):
            if pred == target.lower():
                n_correct += 1  # finds: BP202
    accuracy = n_correct / float(max_iter * opt.batchSize)
    print(accuracy)
