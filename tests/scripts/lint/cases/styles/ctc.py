def evaluate(model, loader, ctc):
    tot = 0
    n = 0
    for feats, feat_lens, toks, tok_lens in loader:
        loss = ctc(model(feats), toks, feat_lens, tok_lens)
        tot += loss.item()  # finds: BP201
        n += 1
    return tot / n
