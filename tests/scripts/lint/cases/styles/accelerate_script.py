import math

import torch


def main(model, train_dataloader, eval_dataloader, accelerator, args, metric):
    for epoch in range(3):
        total_loss = 0
        for step, batch in enumerate(train_dataloader):
            outputs = model(**batch)
            loss = outputs.loss
            total_loss += loss.detach().float()  # finds: BP201
            loss = loss / args.gradient_accumulation_steps
            accelerator.backward(loss)
        model.eval()
        losses = []
        for step, batch in enumerate(eval_dataloader):
            with torch.no_grad():
                outputs = model(**batch)
            loss = outputs.loss
            losses.append(accelerator.gather(loss.repeat(args.per_device_eval_batch_size)))  # finds: BP201
        losses = torch.cat(losses)
        eval_loss = torch.mean(losses)
        perplexity = math.exp(eval_loss)
        print(perplexity, total_loss.item() / len(train_dataloader))
