#!/usr/bin/env python3
"""Golden vectors of the queue protocol: checks them, or writes their answers.

    engine_reference.py                     checks engine.txt
    engine_reference.py --write engine.txt  fills in the lines that begin with "="

Written from docs/queue-protocol.md and the numbers in hardware/regs/speckv.toml, on Python
dictionaries and lists; it shares no code with any engine. README.md has the format.
"""

import pathlib
import sys

import reference
from directory_reference import BLOCK, CONTRACT, Directory

HERE = pathlib.Path(__file__).parent
FIELDS = {f["name"]: (f["offset"], f["width"] // 8) for f in CONTRACT["descriptor"]["field"]}
OPCODES = {o["name"]: o for o in CONTRACT["opcode"]}
BY_VALUE = {o["value"]: o for o in CONTRACT["opcode"]}
ENUMS = {name: {row[0]: row[1] for row in e["values"]} for name, e in CONTRACT["enum"].items()}
CODECS = {value: name for name, value in ENUMS["codec"].items()}
DTYPES = {value: name for name, value in ENUMS["dtype"].items()}
KINDS = {value: name for name, value in ENUMS["kind"].items()}
LIMITS = CONTRACT["limits"]
STATE_BYTES = 768  # docs/lstm-format.md
NAMED, CHECK = ENUMS["desc_flag"]["named"], ENUMS["desc_flag"]["check"]


class Failure(Exception):
    """A descriptor's code that is not ok."""


# ---- Descriptors --------------------------------------------------------------------------------


class Engine:
    """One case: regions as (tenant, memory, base, length), decoded layers by their coded bytes."""

    def __init__(self, card_bytes):
        self.card = bytearray(card_bytes)
        self.regions = {}
        self.decoded = {}
        self.directory = Directory()

    def place(self, tenant, number, offset, length):
        owner, memory, base, size = self.regions.get(number, (None, None, 0, 0))
        if owner != tenant or offset + length > size:
            raise Failure("bad_region")
        return memory, base + offset

    def allowed(self, opcode, flags):
        names = ["opcode", "tag"] + OPCODES[opcode]["fields"]
        names += [n for flag, bit in (("named", NAMED), ("check", CHECK)) if flags & bit
                  for n in CONTRACT["flag_fields"][flag]]
        good = {at for n in names for at in range(FIELDS[n][0], sum(FIELDS[n]))}
        flag_bits = sum(ENUMS["desc_flag"][f] for f in OPCODES[opcode].get("flags", []))
        return good, flag_bits

    def run(self, tenant, data):
        """(code, result, crc) of a descriptor's 64 bytes."""
        d = {n: int.from_bytes(data[at : at + width], "little")
             for n, (at, width) in FIELDS.items()}
        count = self.directory.tenant(tenant)["count"]
        try:
            result, crc = self.perform(tenant, d, data)
            return "ok", result, crc
        except Failure as failure:
            count["failures"] += 1
            return str(failure), 0, 0

    def perform(self, tenant, d, data):
        if d["opcode"] not in BY_VALUE:
            raise Failure("bad_desc")
        opcode = BY_VALUE[d["opcode"]]["name"]
        coding = opcode in ("encode", "decode")
        if coding and d["codec"] not in CODECS:
            raise Failure("unsupported")
        good, flag_bits = self.allowed(opcode, d["flags"])
        if d["flags"] & ~flag_bits or any(b for at, b in enumerate(data) if at not in good | {1}):
            raise Failure("bad_desc")
        self.check_values(opcode, d)
        return getattr(self, "do_" + opcode)(tenant, d)

    def check_values(self, opcode, d):
        bad = "length" in OPCODES[opcode]["fields"] and d["length"] == 0
        if opcode in ("encode", "decode"):
            bad |= 0 in (d["heads"], d["head_dim"], d["tokens"])
            bad |= d["dtype"] not in DTYPES or d["kind"] not in KINDS
            bad |= d["src_offset"] % 64 != 0 or d["dst_offset"] % 64 != 0
            bad |= opcode == "encode" and not bad and self.layer_bytes(d) != d["length"]
        if opcode == "hint":
            bad |= d["hint"] not in ENUMS["hint"].values() or d["tokens"] == 0
            bad |= d["step"] != 0 and d["hint"] != ENUMS["hint"]["prefetchable"]
            bad |= d["address_low"] % 2**32 + d["tokens"] > 2**32
        if opcode == "telemetry":
            bad |= d["report"] not in ENUMS["report"].values() or d["dst_offset"] % 64 != 0
        if opcode == "predict":
            rest = [d[n] for n in ("answers", "dst_region", "dst_offset", "state_region",
                                   "state_offset")]
            if d["task"] == ENUMS["task"]["network"]:
                bad |= any(rest)
            else:
                bad |= d["task"] != ENUMS["task"]["next"] or d["length"] % 4 != 0
                bad |= d["length"] > 4 * LIMITS["predict_history"]
                bad |= not 1 <= d["answers"] <= LIMITS["predict_answers"]
                bad |= d["dst_offset"] % 64 != 0 or d["state_offset"] % 64 != 0
                bad |= d["state_region"] == 0 and d["state_offset"] != 0
        if opcode == "weights":
            low, high = d["evict"] + d["hysteresis"], d["prefetch"] - d["hysteresis"]
            bad |= not (d["recency"] or d["frequency"] or d["step_weight"] or d["durability"])
            bad |= d["evict"] == 0 or low > high
        if opcode == "hint" or d["flags"] & NAMED:
            bad |= d["address_high"] >> 25 != 0 or d["address_low"] >> 32 & 1 != 0
        if d["flags"] & NAMED:
            bad |= d["address_low"] % 2**32 % BLOCK != 0 or not 1 <= d["tokens"] <= BLOCK
        if bad:
            raise Failure("bad_desc")

    def layer_bytes(self, d):
        width = {"f32": 4, "f8e4m3": 1}.get(DTYPES[d["dtype"]], 2)
        rows = d["heads"] * d["tokens"] * (1 if KINDS[d["kind"]] == "latent" else 2)
        return rows * d["head_dim"] * width

    def name(self, tenant, d):
        word = d["address_high"] << 64 | d["address_low"]
        return (tenant, word >> 57, word >> 41 & 0xFFFF, word >> 33 & 0xFF,
                word % 2**32 // BLOCK)

    def note(self, tenant, d, settles, staged=False):
        """What the directory learns from a transfer that is carried out."""
        if not d["flags"] & NAMED:
            return
        if settles:
            self.directory.insert(self.name(tenant, d), d["tokens"])
            return
        first = d["address_low"] % 2**32
        block = self.directory.find(self.name(tenant, d), first, first + 1, True, True)
        if block:
            self.directory.use(block)
            if staged:
                block["staged"], block["prefetch"] = True, None

    def tally(self, tenant, read, written):
        count = self.directory.tenant(tenant)["count"]
        count["bytes_read"] += read
        count["bytes_written"] += written

    def do_nop(self, _tenant, _d):
        return 0, 0

    do_fence = do_nop

    def do_copy(self, tenant, d):
        source, at = self.place(tenant, d["src_region"], d["src_offset"], d["length"])
        target, to = self.place(tenant, d["dst_region"], d["dst_offset"], d["length"])
        if d["flags"] & NAMED and self.card is not source and self.card is not target:
            raise Failure("bad_region")
        data = bytes(source[at : at + d["length"]])
        target[to : to + d["length"]] = data
        self.note(tenant, d, target is self.card)
        self.tally(tenant, len(data), len(data))
        return len(data), reference.crc32c(data)

    def do_fill(self, tenant, d):
        target, to = self.place(tenant, d["dst_region"], d["dst_offset"], d["length"])
        pattern = d["pattern"].to_bytes(8, "little")
        target[to : to + d["length"]] = (pattern * (d["length"] // 8 + 1))[: d["length"]]
        self.tally(tenant, 0, d["length"])
        return d["length"], 0

    def do_prefetch(self, tenant, d):
        source, _ = self.place(tenant, d["src_region"], d["src_offset"], d["length"])
        if source is not self.card:
            raise Failure("bad_region")
        self.note(tenant, d, False, True)
        return d["length"], 0

    def do_encode(self, tenant, d):
        source, at = self.place(tenant, d["src_region"], d["src_offset"], d["length"])
        target, to = self.place(tenant, d["dst_region"], d["dst_offset"], d["room"])
        plain = bytes(source[at : at + d["length"]])
        layout = {"layers": 1, "heads": d["heads"], "dim": d["head_dim"],
                  "tokens": d["tokens"], "dtype": DTYPES[d["dtype"]], "kind": KINDS[d["kind"]]}
        coded, decoded = reference.code(CODECS[d["codec"]], layout, plain)
        if len(coded) > d["room"]:
            self.tally(tenant, len(plain), 0)
            raise Failure("no_space")
        self.decoded[bytes(coded)] = decoded
        target[to : to + len(coded)] = coded
        self.note(tenant, d, True)
        self.tally(tenant, len(plain), len(coded))
        return len(coded), reference.crc32c(coded)

    def do_decode(self, tenant, d):
        source, at = self.place(tenant, d["src_region"], d["src_offset"], d["length"])
        target, to = self.place(tenant, d["dst_region"], d["dst_offset"], d["room"])
        coded = bytes(source[at : at + d["length"]])
        crc = reference.crc32c(coded)
        if d["flags"] & CHECK and crc != d["crc"]:
            self.tally(tenant, len(coded), 0)
            raise Failure("corrupted")
        plain = self.decoded[coded]  # vectors decode what they have encoded
        if len(plain) > d["room"]:
            self.tally(tenant, len(coded), 0)
            raise Failure("no_space")
        target[to : to + len(plain)] = plain
        self.note(tenant, d, False)
        self.tally(tenant, len(coded), len(plain))
        return len(plain), crc

    def do_predict(self, tenant, d):
        """For tenants without a network, which no vector of these gives: lstm.txt has answers."""
        self.place(tenant, d["src_region"], d["src_offset"], d["length"])
        if d["task"] == ENUMS["task"]["network"]:
            self.tally(tenant, d["length"], 0)
            raise Failure("corrupted")
        self.place(tenant, d["dst_region"], d["dst_offset"], 8 * d["answers"])
        if d["state_region"]:
            self.place(tenant, d["state_region"], d["state_offset"], STATE_BYTES)
        raise Failure("not_found")

    def do_step(self, tenant, d):
        return self.directory.scan(tenant, d["step"]), 0

    def do_weights(self, tenant, d):
        names = ("recency", "frequency", "step_weight", "durability", "evict", "prefetch",
                 "hysteresis")
        self.directory.tenant(tenant)["weights"] = [d[n] for n in names]
        return 0, 0

    def do_telemetry(self, tenant, d):
        target, to = self.place(tenant, d["dst_region"], d["dst_offset"], d["length"])
        kinds = {value: name for name, value in ENUMS["report"].items()}
        if d["length"] < (128 if kinds[d["report"]] == "counters" else 16):
            raise Failure("no_space")
        told = (self.directory.counters(tenant) if kinds[d["report"]] == "counters" else
                self.directory.report(tenant, kinds[d["report"]], d["length"]))
        target[to : to + len(told)] = told
        self.tally(tenant, 0, len(told))
        return len(told), 0

    def do_hint(self, tenant, d):
        kind = {value: name for name, value in ENUMS["hint"].items()}[d["hint"]]
        _, request, layer, head, _ = self.name(tenant, d)
        first = d["address_low"] % 2**32
        end = first + d["tokens"]
        shared = kind in ("hot", "prefetchable")
        found = [self.directory.find((tenant, request, layer, head, page), first, end, shared,
                                     shared)
                 for page in range(first // BLOCK, (end - 1) // BLOCK + 1)]
        found = [block for block in found if block]
        if kind == "unshare" and any(b["refs"] == 0 for b in found):
            raise Failure("not_found")
        if kind == "forget" and any(b["refs"] for b in found):
            raise Failure("busy")
        if not found:
            raise Failure("not_found")
        for block in found:
            if kind == "hot":
                self.directory.use(block)
                block["freq"] = 255
            elif kind == "evictable":
                block["evictable"] = True
            elif kind == "prefetchable":
                block["due"], block["evictable"] = d["step"], False
            elif kind == "share":
                block["refs"] = min(255, block["refs"] + 1)
            elif kind == "unshare":
                block["refs"] -= block["refs"] < 255
            else:
                self.directory.drop(block)
                self.directory.tenant(tenant)["count"]["removed"] += 1
        return len(found), 0


# ---- Files ----------------------------------------------------------------------------------------


def bytes_of(words):
    """The 64 bytes of `OPCODE field=value ...`; @NAME is a number of the contract."""
    data = bytearray(64)
    data[0] = OPCODES[words[0]]["value"] if words[0] in OPCODES else int(words[0])
    for word in words[1:]:
        name, _, value = word.partition("=")
        if value[:1] == "@":
            enum, _, key = value[1:].partition(".")
            value = ENUMS[enum][key]
        at, width = FIELDS[name] if name in FIELDS else (int(name.removeprefix("byte")), 1)
        data[at : at + width] = int(str(value), 0).to_bytes(width, "little")
    return bytes(data)


def generated(count, seed):
    """Bytes of a linear congruential generator, from the top of its 32 bits."""
    state, data = seed, bytearray()
    for _ in range(count):
        state = (state * 1664525 + 1013904223) % 2**32
        data.append(state >> 24)
    return data


def answers(lines):
    """Every line of a file, with the lines that begin with "=" as they should be."""
    engine, queues = None, {}
    for line in lines:
        words = line.split()
        if words[:1] == ["="]:
            continue
        yield line
        match words:
            case ["case", _, size]:
                engine, queues = Engine(int(size)), {}
            case ["host", number, tenant, size]:
                engine.regions[int(number)] = (int(tenant), bytearray(int(size)), 0, int(size))
            case ["card", number, tenant, offset, size]:
                engine.regions[int(number)] = (int(tenant), engine.card, int(offset), int(size))
            case ["queue", number, tenant]:
                queues[number] = int(tenant)
            case ["bytes" | "halves" as kind, number, offset, size, seed]:
                _, memory, _, _ = engine.regions[int(number)]
                data = generated(int(size), int(seed))
                if kind == "halves":  # finite 16-bit numbers: the top bit of the exponent is 0
                    data = bytearray(b & 0xBF if i % 2 else b for i, b in enumerate(data))
                memory[int(offset) : int(offset) + len(data)] = data
            case ["do", queue, *rest]:
                data = bytes_of(rest)
                code, result, crc = engine.run(queues[queue], data)
                yield f"= {data.hex()} {code} {result} {crc:08x}"
            case ["see", number, offset, size]:
                _, memory, base, _ = engine.regions[int(number)]
                seen = memory[base + int(offset) : base + int(offset) + int(size)]
                yield f"= {reference.crc32c(seen):08x}"


def main(arguments):
    write = arguments[:1] == ["--write"] and len(arguments) == 2
    if arguments and not write:
        print(__doc__, file=sys.stderr)
        return 2
    path = HERE / (arguments[1] if write else "engine.txt")
    lines = path.read_text(encoding="ascii").splitlines()
    right = list(answers(lines))
    if write:
        path.write_text("\n".join(right) + "\n", encoding="ascii")
        print(f"{path.name}: written; look at what changed before you commit it")
        return 0
    wrong = [f"{path.name}: {was!r} should be {should!r}"
             for was, should in zip(lines, right) if was != should]
    if len(lines) != len(right):
        wrong.append(f"{path.name}: {len(lines)} lines, {len(right)} expected")
    print("\n".join(wrong))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
