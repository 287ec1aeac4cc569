"""How far a model's answers move when its keys and values are coded."""

import torch

CALIBRATED = 1540  # tokens of the texts that profiles are made of


def divergence(exact, logits, following):
    """Of each token: (divergence of the answers, loss of the token that follows, same likeliest)."""
    rows = []
    for at in range(0, len(exact), 64):  # a cache holds so many
        base = exact[at : at + 64]
        coded = torch.log_softmax(logits[at : at + 64], -1)
        nll = -coded.gather(1, following[at : at + 64, None])[:, 0]
        same = coded.argmax(-1) == base.argmax(-1)
        away = coded.sub_(base)
        loss = (torch.expm1(away) - away).mul_(base.exp()).sum(-1)
        rows.append(torch.stack([loss, nll, same.float()]))
    return torch.cat(rows, 1)


def log_chances(logits):
    """log_softmax in place, which saves the memory of a second one."""
    for at in range(0, len(logits), 64):
        logits[at : at + 64] = torch.log_softmax(logits[at : at + 64], -1)
    return logits


def measure(model, coders, protocols, texts, size, test, rows):
    """Adds rows of one model: {test, model, coder, protocol, document, kl, ...}."""
    for name, text in texts:
        wanted = [(coder, row) for coder in coders for protocol in protocols
                  if (row := {"test": test, "model": model.name, "document": name,
                              "coder": coder.name, "protocol": protocol}) not in rows]
        if not wanted:
            continue
        ids = model.tokens(text)[:size]
        following = torch.tensor([*ids[1:], 0])  # the last one's is not known
        model.attention.coder = None
        exact = log_chances(model.logits(ids))
        nll_exact = -exact.gather(1, following[:, None])[:-1].mean().item()
        for coder, row in wanted:
            model.attention.coder, model.attention.protocol = coder, row["protocol"]
            loss, nll, same = divergence(exact, model.logits(ids), following)
            rows.add(row | {
                "tokens": len(ids), "ratio": coder.ratio(), "kl": loss.mean().item(),
                "kl_99": loss.quantile(0.99).item(), "kl_early": loss[:CALIBRATED].mean().item(),
                "kl_late": loss[CALIBRATED:].mean().item() if len(ids) > CALIBRATED else None,
                "nll": nll[:-1].mean().item(), "nll_exact": nll_exact, "top1": same.mean().item()})
