def train_epoch(dataloader, encoder, decoder, criterion):
    total_loss = 0
    for data in dataloader:
        input_tensor, target_tensor = data
        eo, eh = encoder(input_tensor)
        do, _, _ = decoder(eo, eh, target_tensor)
        loss = criterion(do.view(-1, do.size(-1)), target_tensor.view(-1))
        loss.backward()
        total_loss += loss.item()  # finds: BP201
    return total_loss / len(dataloader)
