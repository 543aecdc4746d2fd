def train_iters(n_iters, print_every, pairs, model):
    print_loss_total = 0
    for it in range(1, n_iters + 1):
        pair = pairs[it - 1]
        loss = train(pair[0], pair[1], model)
        print_loss_total += loss
        if it % print_every == 0:
            print_loss_avg = print_loss_total / print_every
            print_loss_total = 0
            print(print_loss_avg)
