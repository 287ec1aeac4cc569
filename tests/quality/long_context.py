"""What coded keys and values do to a model's work: finding what it read, and what it writes next.

Both compare with the same model whose cache is float16 as it is, and both leave the open block
uncoded, as a cache does (protocol B).
"""

import random

import torch

TOKENS = 4096  # of the context in which needles are hidden
NEEDLES = 16
PROMPT, WRITTEN = 516, 128  # tokens of a document, and of what follows
CITIES = ("Lisbon", "Oslo", "Vienna", "Cairo", "Quito", "Havana", "Dublin", "Athens", "Lima", "Riga", "Seoul",
          "Nairobi", "Prague", "Tunis", "Hanoi", "Bern")


def hidden(model, text, seed, tokens=TOKENS, count=NEEDLES):
    """(ids of so many tokens, [(where, question's ids, answer's ids)]): numbers hidden at even distances."""
    numbers = random.Random(seed)
    hay = model.tokens(text)
    needles = []
    for city in numbers.sample(CITIES, count):
        question = model.tokens(f"\n\nThe secret number of {city} is")
        answer = model.tokens(f" {numbers.randrange(100000, 1000000)}")
        needles.append((question, answer))
    end = model.tokens(".\n\n")
    room = tokens - sum(len(q) + len(a) + len(end) for q, a in needles)
    if len(hay) < room:
        raise ValueError(f"a text of {len(hay)} tokens is too short to hide anything in")
    ids, places = [], []
    for i, (question, answer) in enumerate(needles):
        ids += hay[room * i // count : room * (i + 1) // count]
        places.append((len(ids), question, answer))
        ids += question + answer + end
    return ids, places


def found(model, coder, ids, places):
    """Of each needle whether the model writes its number, all digits of it, when it is asked."""
    attention = model.attention
    attention.coder, attention.protocol, attention.past, attention.grows = coder, "B", {}, False
    try:
        model.logits(ids, last=1)
        answers = []
        for _, question, answer in places:
            likeliest = model.logits(question + answer, first=len(ids)).argmax(-1)
            answers.append(likeliest[len(question) - 1 : -1].tolist() == answer)
        return answers
    finally:
        attention.past = None


def missing(test, model, coders, document, rows):
    """(coder, what its row says) of those that rows has not."""
    said = {"test": test, "model": model.name, "document": document}
    return [(coder, row) for coder in coders if (row := said | {"coder": coder.name}) not in rows]


def needles(model, coders, texts, rows):
    """Adds a row for each coder and text: how many of the needles were found, and which."""
    for seed, (name, text) in enumerate(texts):
        wanted = missing("needles", model, coders, name, rows)
        if not wanted:
            continue
        ids, places = hidden(model, text, seed)
        exact = found(model, None, ids, places)
        for coder, row in wanted:
            answers = found(model, coder, ids, places)
            rows.add(row | {"at": [at for at, _, _ in places], "found": answers, "found_exact": exact})


def greedy(model, ids, count):
    """What the model writes after ids, its likeliest token each time."""
    attention = model.attention
    attention.coder, attention.past, attention.grows = None, {}, True
    try:
        out = [int(model.logits(ids, last=1)[-1].argmax())]
        while len(out) < count:
            here = len(ids) + len(out) - 1
            out.append(int(model.logits(out[-1:], first=here, last=1)[-1].argmax()))
        return out
    finally:
        attention.past = None


def agreement(model, coder, ids, written):
    """How many tokens a model with a coded cache writes alike before the first that differs.

    One pass over the tokens that should come does it: until then, its own are the same, and blocks
    are coded as they fill.
    """
    attention = model.attention
    attention.coder, attention.protocol = coder, "B"
    likeliest = model.logits(ids + written, last=len(written) + 1).argmax(-1)[:-1]
    differs = (likeliest != torch.tensor(written)).nonzero()
    return int(differs[0]) if len(differs) else len(written)


def generation(model, coders, texts, rows):
    """Adds a row for each coder and text: the length of the greedy agreement."""
    for name, text in texts:
        wanted = missing("generation", model, coders, name, rows)
        if not wanted:
            continue
        ids = model.tokens(text)[:PROMPT]
        written = greedy(model, ids, WRITTEN)
        for coder, row in wanted:
            rows.add(row | {"written": WRITTEN, "alike": agreement(model, coder, ids, written)})
