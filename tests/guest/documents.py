"""Documents that programs in a guest print are those of docs/speckvctl.schema.json.

A guest has no Python: its tests print each on a line, "DOCUMENT JSON", and it is looked at here.
"""

import json
import re

try:
    import jsonschema
except ImportError:
    jsonschema = None

LINE = re.compile(r"^DOCUMENT (.*?)\r?$", re.M)


def faults(root, console):
    """What is wrong with the documents of a console, a line each; what was looked at is printed."""
    lines = LINE.findall(console)
    if lines and jsonschema is None:
        print("documents of the guest: SKIPPED: there is no python3-jsonschema")
        return []
    found = []
    if lines:
        schema = json.loads((root / "docs/speckvctl.schema.json").read_text(encoding="utf-8"))
        validator = jsonschema.Draft202012Validator(schema)
        for line in lines:
            try:
                wrong = not validator.is_valid(json.loads(line))
            except json.JSONDecodeError:
                wrong = True
            found += [f"no document of the schema: {line}"] if wrong else []
        print(f"{len(lines)} documents looked at")
    return found


def selftest(root):
    good = 'DOCUMENT {"schema": 1, "command": "config", "name": "x", "values": {"w_r": 64}}\r\n'
    assert not faults(root, good)
    if jsonschema:
        for bad in ('"values": {"w_r": "64"}', '"value": {}', '"values": {"w_r": 64}'[:-1]):
            assert faults(root, good + good.replace('"values": {"w_r": 64}', bad)), bad
