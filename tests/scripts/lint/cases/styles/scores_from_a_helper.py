import numpy as np
import torch


def run(model, train_dataloader, valid_dataloader, loss_fcn):
    for epoch in range(9):
        loss_list = []
        for batch, data in enumerate(train_dataloader):
            subgraph, features, labels = data
            logits = model(features)
            loss = loss_fcn(logits, labels.float())
            loss_list.append(loss.item())  # finds: BP201
        loss_data = np.array(loss_list).mean()
        if epoch % 5 == 0:
            score_list = []
            for batch, valid_data in enumerate(valid_dataloader):
                subgraph, features, labels = valid_data
                score, val_loss = evaluate(features, model, subgraph, labels, loss_fcn)
                score_list.append(score)  # finds: BP101
            mean_score = np.array(score_list).mean()


def evaluate(feats, model, subgraph, labels, loss_fcn):
    with torch.no_grad():
        output = model(feats)
        loss_data = loss_fcn(output, labels.float())
        predict = np.where(output.data.cpu().numpy() >= 0.5, 1, 0)
        score = f1_score(labels.data.cpu().numpy(), predict, average="micro")
        return score, loss_data.item()
