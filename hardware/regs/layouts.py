"""What more than one language needs of the statement (speckv.toml, as a dict)."""

EVERY = ("opcode", "flags", "tag")  # fields of every descriptor


def masks(s):
    """opcode or flag -> the eight 64-bit words of bits that a descriptor may then set."""
    by_name = {f["name"]: f for f in s["descriptor"]["field"]}

    def words(names):
        bits = 0
        for name in names:
            f = by_name[name]
            bits |= ((1 << f["width"]) - 1) << (8 * f["offset"])
        return [bits >> (64 * i) & (1 << 64) - 1 for i in range(8)]

    flag_bits = {row[0]: row[1] for row in s["enum"]["desc_flag"]["values"]}
    flags_at = 8 * by_name["flags"]["offset"]
    found = {}
    for o in s["opcode"]:
        row = words([name for name in EVERY if name != "flags"] + o["fields"])
        row[0] |= sum(flag_bits[flag] for flag in o.get("flags", [])) << flags_at
        found[o["name"]] = row
    return found, {flag: words(names) for flag, names in s["flag_fields"].items()}


def record_fields(record):
    return [{"name": n, "offset": at, "width": width} for n, at, width, _ in record["fields"]]
