"""What rows of measurements come to: means, 95 % intervals, ratios to the yardstick."""

import json
import math
import pathlib
import sys

from models import BLOCK, SINK

YARDSTICK = "kivi4_g32"
STUDENT = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262]  # 95 %, by degrees of freedom
SAID = ("test", "model", "document", "coder", "protocol")  # what was measured, of a row


class Rows:
    """All rows of a run, and of those before it that had the same file: JSON, one a line."""

    def __init__(self, file=None):
        self.file = pathlib.Path(file) if file else None
        text = self.file.read_text(encoding="utf-8") if file and self.file.exists() else ""
        self.all = [json.loads(line) for line in text.splitlines()]

    @staticmethod
    def _said(row):
        return tuple(row.get(key) for key in SAID)

    def __contains__(self, row):
        return any(self._said(row) == self._said(known) for known in self.all)

    def add(self, row):
        """Keeps it, in the file too, and prints what it says."""
        self.all.append(row)
        if self.file:
            with self.file.open("a", encoding="utf-8") as out:
                out.write(json.dumps(row) + "\n")
        print(*(word for word in self._said(row) if word), {k: row[k] for k in ("kl", "found", "alike") if k in row},
              file=sys.stderr, flush=True)


def interval(values):
    """Mean of the values and half the width of its 95 % interval (None for one value)."""
    n = len(values)
    mean = sum(values) / n
    if n < 2:
        return mean, None
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1))
    return mean, STUDENT[min(n - 2, len(STUDENT) - 1)] * spread / math.sqrt(n)


def ratio_in(tokens, ratio):
    """Of a whole sequence: its first tokens and its open block are plain."""
    coded = (tokens - SINK) // BLOCK * BLOCK
    return tokens / (tokens - coded + coded / ratio)


def over(found, base, key="kl"):
    """(geometric mean, ends of its interval or None, documents) of losses over the yardstick's."""
    shared = sorted(found.keys() & base.keys())
    if not shared:
        return None, None, 0
    log, half = interval([math.log(found[d][key] / base[d][key]) for d in shared])
    return math.exp(log), [math.exp(log - half), math.exp(log + half)] if half is not None else None, len(shared)


def text_of(ratio, ends):
    return f"{ratio:.3f}" + (f" [{ends[0]:.3f}, {ends[1]:.3f}]" if ends else "")


def summary(rows):
    """Prints and yields a coder's loss, and its loss over the yardstick's, by model and protocol."""
    of = {}
    for row in rows:
        if row["test"] in ("losses", "long"):
            key = (row["test"], row["model"], row["protocol"], row["coder"])
            of.setdefault(key, {})[row["document"]] = row
    for (test, model, protocol, coder), found in of.items():
        mean, half = interval([row["kl"] for row in found.values()])
        change, _ = interval([row["nll"] - row["nll_exact"] for row in found.values()])
        top1, _ = interval([row["top1"] for row in found.values()])
        ratio = next(iter(found.values()))["ratio"]
        label = model if test == "losses" else f"{model}_long"
        line = (f"{label:12} {protocol} {coder:16} ratio {ratio:5.2f} ({ratio_in(2048, ratio):.2f} in 2,048 tokens,"
                f" {ratio_in(32768, ratio):.2f} in 32,768)  KL {mean:.3e}"
                + (f" +- {half:.0e}" if half is not None else "")
                + f"  perplexity {100 * math.expm1(change):+.2f} %  top-1 {100 * top1:.2f} %")
        base = of.get((test, model, protocol, YARDSTICK), {})
        name = f"quality_{label}_{protocol}_{coder}"
        yield {"name": name, "unit": "nats", "value": mean, "baseline": "float16",
               "documents": len(found), "ratio": ratio}
        if base and coder != YARDSTICK:
            value, ends, count = over(found, base)
            yield {"name": f"{name}_over_kivi4", "unit": "ratio", "value": value,
                   "interval": ends, "baseline": YARDSTICK, "documents": count}
            line += f"  of KIVI-4 {text_of(value, ends)}"
            if test == "long":
                for part in ("early", "late"):
                    value, ends, _ = over(found, base, f"kl_{part}")
                    yield {"name": f"{name}_{part}_over_kivi4", "unit": "ratio", "value": value,
                           "interval": ends, "baseline": YARDSTICK, "documents": count}
                    line += f", {part} {text_of(value, ends)}"
        print(line)
    yield from work_summary(rows)


def work_summary(rows):
    """The same of what the model found and wrote."""
    of = {}
    for row in rows:
        if row["test"] in ("needles", "generation"):
            of.setdefault((row["test"], row["model"], row["coder"]), []).append(row)
    for (test, model, coder), found in of.items():
        name = f"quality_{model}_{test}_{coder}"
        if test == "needles":
            pairs = [pair for row in found for pair in zip(row["found"], row["found_exact"])]
            kept, known = sum(a for a, b in pairs if b), sum(b for _, b in pairs)
            print(f"{model:12} needles {coder:16} {sum(a for a, _ in pairs)} of {len(pairs)} found"
                  f" (float16: {known}); {kept} of those {known}")
            yield {"name": name, "unit": "needles", "value": kept, "baseline": known}
        else:
            mean, half = interval([row["alike"] for row in found])
            whole = sum(row["alike"] == row["written"] for row in found)
            print(f"{model:12} generation {coder:16} {mean:.1f}" + (f" +- {half:.1f}" if half is not None else "")
                  + f" of {found[0]['written']} tokens alike; {whole} of {len(found)} texts wholly")
            yield {"name": name, "unit": "tokens", "value": mean, "documents": len(found)}
