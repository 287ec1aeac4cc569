"""The block directory and its scores, for engine_reference.py: written from
docs/queue-protocol.md and the numbers in hardware/regs/speckv.toml, on Python dictionaries and
lists.
"""

import pathlib
import tomllib

import reference

HERE = pathlib.Path(__file__).parent
with open(HERE.parent.parent / "hardware" / "regs" / "speckv.toml", "rb") as statement:
    CONTRACT = tomllib.load(statement)

RECORDS = {r["name"]: r for r in CONTRACT["record"]}
RESETS = {r["name"]: r["reset"] for r in CONTRACT["register"] if "reset" in r}
WAYS, STASH = CONTRACT["limits"]["directory_ways"], CONTRACT["limits"]["directory_stash"]
ENTRIES, WAITING = CONTRACT["limits"]["directory_entries"], CONTRACT["limits"]["candidates"]
BLOCK = 1 << RESETS["block_shift"]


def packed(values, fields):
    """Little-endian bytes of a record or descriptor."""
    size = max(at + width for at, width in fields.values())
    data = bytearray(size)
    for name, value in values.items():
        at, width = fields[name]
        data[at : at + width] = value.to_bytes(width, "little")
    return bytes(data)


def record(name, values):
    row = RECORDS[name]
    fields = {n: (at, width // 8) for n, at, width, _ in row["fields"]}
    return packed(values, fields).ljust(row["bytes"], b"\0")


# ---- Scores -----------------------------------------------------------------------------------


def signed(x):
    return (x + 2**31) % 2**32 - 2**31


def logarithm(distance):
    n = min(distance, 65535) + 1
    e = n.bit_length() - 1
    return min(255, 16 * e + (n * 16 >> e) - 16)


def score(block, weights, step):
    if block["evictable"]:
        return 0
    age = (step - block["last"]) % 2**32
    due = 0 if block["due"] is None else 255 - logarithm(abs(signed(block["due"] - step)))
    parts = (255 - logarithm(age), block["freq"] >> min(age >> 6, 8), due,
             min(255, 64 * block["refs"]))
    return sum(w * part for w, part in zip(weights[:4], parts))


class Directory:
    """Of all tenants: number of an entry -> block."""

    def __init__(self):
        self.entries = {}
        self.tenants = {}

    def tenant(self, number):
        settings = [RESETS["weights"] >> 8 * i & 255 for i in range(4)]
        settings += [RESETS["thresholds"] >> 8 * i & 255 for i in range(3)]
        return self.tenants.setdefault(number, {
            "step": 0, "weights": settings, "victims": [], "prefetches": [],
            "count": dict.fromkeys(("hits", "misses", "inserted", "replaced", "refused", "removed",
                                    "scans", "victims", "prefetches", "bytes_read",
                                    "bytes_written", "failures"), 0)})

    def places(self, name):
        tenant, request, layer, head, page = name
        key = (request.to_bytes(4, "little") + layer.to_bytes(2, "little") + bytes([head, 0]) +
               page.to_bytes(4, "little") + tenant.to_bytes(2, "little") + bytes(2))
        first = reference.crc32c(key) % (ENTRIES // WAYS) * WAYS
        return list(range(first, first + WAYS)) + list(range(ENTRIES, ENTRIES + STASH))

    def find(self, name, first, end, fallback=False, count=False):
        """The block of that name if it holds a token of [first, end)."""
        found = None
        for request in [name[1]] + ([0] if fallback and name[1] else []):
            wanted = (name[0], request, *name[2:])
            for place in self.places(wanted):
                block = self.entries.get(place)
                start = name[4] * BLOCK
                if block and block["name"] == wanted and start < end and first < start + block["tokens"]:
                    found = found or block
        if count:
            self.tenant(name[0])["count"]["hits" if found else "misses"] += 1
        return found

    def use(self, block):
        step = self.tenant(block["name"][0])["step"]
        age = (step - block["last"]) % 2**32
        block["freq"] = min(255, (block["freq"] >> min(age >> 6, 8)) + 32)
        block["last"], block["evictable"], block["victim"] = step, False, None
        if block["due"] is not None and signed(block["due"] - step) <= 0:
            block["due"] = None

    def insert(self, name, tokens):
        me = self.tenant(name[0])
        block = self.find(name, 0, 2**33)
        if not block:
            place = next((p for p in self.places(name) if p not in self.entries), None)
            if place is None:
                raise NotImplementedError("vectors do not fill a set")
            block = {"name": name, "freq": 0, "refs": 0, "due": None, "evictable": False,
                     "last": me["step"], "victim": None, "prefetch": None}
            self.entries[place] = block
            me["count"]["inserted"] += 1
        block["tokens"], block["staged"] = tokens, False
        self.use(block)

    def drop(self, block):
        self.entries = {place: b for place, b in self.entries.items() if b is not block}

    def scan(self, number, step):
        me = self.tenant(number)
        if signed(step - me["step"]) <= 0:
            return 0
        me["step"] = step
        me["count"]["scans"] += 1
        weights = me["weights"]
        evict, prefetch, hysteresis = weights[4:]
        total, found = sum(weights[:4]), 0
        for place in sorted(self.entries):
            block = self.entries[place]
            if block["name"][0] != number:
                continue
            p = score(block, weights, step)
            if p >= (evict + hysteresis) * total or block["refs"]:
                block["victim"] = None
            if p < (prefetch - hysteresis) * total:
                block["prefetch"], block["staged"] = None, False
            for kind, become in (
                    ("victim", not block["refs"] and p < evict * total),
                    ("prefetch", not block["staged"] and p >= prefetch * total)):
                waiting = me[kind + ("s" if kind == "victim" else "es")]
                if become and block[kind] is None and len(waiting) < WAITING:
                    block[kind] = "waiting"
                    waiting.append(place)
                    me["count"]["victims" if kind == "victim" else "prefetches"] += 1
                    found += 1
        return found

    def report(self, number, kind, room):
        me, told = self.tenant(number), b""
        waiting = me[kind]
        mark = "victim" if kind == "victims" else "prefetch"
        while waiting and len(told) + 16 <= room:
            block = self.entries.get(waiting.pop(0))
            if not block or block["name"][0] != number or block[mark] != "waiting":
                continue
            if mark == "victim" and block["refs"]:
                continue
            block[mark] = "told"
            _, request, layer, head, page = block["name"]
            word = request << 57 | layer << 41 | head << 33 | page * BLOCK
            told += record("candidate", {"address_low": word % 2**64, "address_high": word >> 64,
                                         "score": score(block, me["weights"], me["step"])})
        return told

    def counters(self, number):
        me = self.tenant(number)
        mine = [b for b in self.entries.values() if b["name"][0] == number]
        w = me["weights"]
        return record("telemetry", {
            "step": me["step"], "blocks": len(mine), "shared": sum(b["refs"] > 0 for b in mine),
            "weights": sum(x << 8 * i for i, x in enumerate(w[:4])),
            "thresholds": sum(x << 8 * i for i, x in enumerate(w[4:])),
            "waiting_victims": len(me["victims"]),
            "waiting_prefetches": len(me["prefetches"]), **me["count"]})
