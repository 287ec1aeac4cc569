#!/usr/bin/env python3
"""figures_test.py: the verdicts of tests/bench/figures.py, on benchmarks that are scripts here."""

import contextlib
import io
import json
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "bench"))
import figures  # noqa: E402

TABLE = figures.FIGURES
ROWS = {"fast": ("one", 1.0, ">="), "small": ("one", 2.0, "<="), "other": ("two", 1.0, ">=")}

SHAPE = {"name", "value", "unit", "baseline", "bar", "direction", "holds"}


def every_row_stands_in_the_documentation():
    """docs/performance.md says what each figure of the table is, and in full."""
    text = (pathlib.Path(__file__).parents[2] / "docs/performance.md").read_text(encoding="utf-8")
    told = text.split("| figure | what is compared |")[1].split("\n\n")[0]
    missing = [name for name in TABLE if f"`{name}`" not in told and not name.startswith("quality_")]
    assert not missing, missing


def verdicts(folder, told, *, status=0, words=()):
    """(exit status, name -> holds) when benchmark "one" tells `told` and "two" is as it should be."""
    build = pathlib.Path(folder)
    (build / "tests/bench").mkdir(parents=True, exist_ok=True)
    for name, report, ends in (("one", told, status),
                               ("two", [{"name": "other", "value": 1.5}], 0)):
        program = build / "tests/bench" / name
        text = report if isinstance(report, str) else json.dumps({"machine": "m", "figures": report})
        program.write_text(f"#!{sys.executable}\nimport sys\nopen(sys.argv[2], 'w').write({text!r})\n"
                           f"sys.exit({ends})\n", encoding="utf-8")
        program.chmod(0o755)
    figures.FIGURES = ROWS
    out = build / "out.json"
    with contextlib.redirect_stdout(io.StringIO()):
        ended = figures.main([folder, "--json", str(out), *words])
    told = json.loads(out.read_text(encoding="utf-8"))
    assert set(told) == {"machine", "figures"} and told["machine"] == "m", told
    for figure in told["figures"]:
        assert SHAPE <= set(figure), figure
    return ended, {figure["name"]: figure["holds"] for figure in told["figures"]}


def main():
    with tempfile.TemporaryDirectory() as folder:
        def one(*told, **more):
            return verdicts(folder, list(told), **more)

        fast, small = {"name": "fast", "value": 1.0}, {"name": "small", "value": 2.0}
        fine = {"fast": True, "small": True, "other": True}
        assert one(fast, small) == (0, fine)
        assert one(fast | {"value": 0.99}, small) == (1, fine | {"fast": False})
        assert one(fast, small | {"value": 2.01}) == (1, fine | {"small": False})
        # A row that is not told, or null without a reason, fails; with a reason it is skipped.
        assert one(fast) == (1, fine | {"small": False})
        assert one(fast, {"name": "small", "value": None}) == (1, fine | {"small": False})
        assert one(fast, {"name": "small", "value": None, "skipped": "why"}) == (0, fine | {"small": None})
        # A program cannot judge its own rows, but brings bars for those that the table lacks.
        assert one(fast | {"value": 0, "holds": True, "bar": 0}, small)[0] == 1
        extra = {"name": "extra", "value": 1, "bar": 2}
        assert one(fast, small, extra) == (1, fine | {"extra": False})
        assert one(fast, small, {"name": "extra", "value": 1}) == (0, fine | {"extra": None})
        # A benchmark that fails or writes nonsense takes all its rows with it, and no others.
        gone = {"fast": False, "small": False, "other": True}
        assert one(fast, small, status=1) == (1, gone)
        assert verdicts(folder, "no json") == (1, gone)
        assert one(fast, small, words=["two"]) == (0, {"other": True})
        for words in (["none"], ["--bogus"], ["--json"], ["--json", f"{folder}/none/x", "two"]):
            with contextlib.redirect_stderr(io.StringIO()) as said:
                assert figures.main([folder, *words]) == 2, words
            assert len(said.getvalue().splitlines()) == 1, said.getvalue()
    every_row_stands_in_the_documentation()


if __name__ == "__main__":
    main()
