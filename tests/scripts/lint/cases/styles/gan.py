import torch


def train(G, D, data, opt_g, opt_d, bce, z):
    for epoch in range(100):
        g_loss_epoch, d_loss_epoch = 0, 0
        for i, (imgs, _) in enumerate(data):
            real = torch.ones(imgs.size(0), 1)
            d_loss = bce(D(imgs), real)
            d_loss.backward()
            opt_d.step()
            g_loss = bce(D(G(z)), real)
            g_loss.backward()
            opt_g.step()
            g_loss_epoch += g_loss.item()  # finds: BP201
            d_loss_epoch += d_loss.item()  # finds: BP201
        print(g_loss_epoch / len(data), d_loss_epoch / len(data))
