#!/usr/bin/env python3
"""Runs the benchmarks and judges their figures: figures.py BUILD [--json FILE] [NAME]

"vllm", "vllm_speculation", "guest" and "quality" are only run when they are named: the engines of the
first two take ten minutes each, another boots a kernel, the last runs two models for hours.

Each benchmark is a program that takes --json FILE and writes {"machine", "figures": [{"name",
"value", "unit", "baseline", ...}]}. The bars of the table stand here; other figures may bring
a bar of their own. A figure of the table that is missing, or null without a "skipped" reason,
fails. Exit status: 0 all hold, 1 one does not, 2 usage.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

# name: (program, bar, direction). ">=" higher is better, "<=" lower is better. Ratios are
# medians of at least five interleaved pairs in one run. docs/performance.md says more.
FIGURES = {
    "raw_save_dram_1_thread": ("copy_bench", 0.95, ">="),
    "raw_load_dram_1_thread": ("copy_bench", 0.95, ">="),
    "raw_save_dram_2_threads": ("copy_bench", 0.90, ">="),
    "raw_load_dram_2_threads": ("copy_bench", 0.90, ">="),
    "kvq4_f16_encode": ("coding_bench", 1.0, ">="),
    "kvq4_f16_decode": ("coding_bench", 1.5, ">="),
    "kvq4_bf16_encode": ("coding_bench", 1.0, ">="),
    "kvq4_bf16_decode": ("coding_bench", 1.5, ">="),
    "int8_f16_decode": ("coding_bench", 1.2, ">="),
    "int8_bf16_decode": ("coding_bench", 1.2, ">="),
    "rt43_f16_decode": ("coding_bench", 1.0, ">="),
    "rt43_f16_encode": ("coding_bench", 0.25, ">="),
    "hx4096_f16_decode": ("coding_bench", 0.6, ">="),
    "hx4096_f16_encode": ("coding_bench", 0.15, ">="),
    "hxp4096_f16_decode": ("coding_bench", 0.5, ">="),
    "hxp4096_f16_encode": ("coding_bench", 0.1, ">="),
    "lossless_f16_decode_over_zstd1": ("coding_bench", 2.0, ">="),
    "match_ns_per_key": ("match_bench", 200, "<="),
    "memory_beyond_tiers": ("match_bench", 1.0, "<="),  # of 2 % of capacity + 64 MiB
    "lstm_decision": ("predict_bench", 2.5, "<="),  # us, minimum
    "lstm_decision_from_scratch": ("predict_bench", 35, "<="),
    "file_read_against_fio": ("file_bench", 0.90, ">="),
    "file_durable_write_against_fio": ("file_bench", 0.90, ">="),
    "demo_tiers_against_recompute": ("cxlspeckv_demo", 3.0, ">="),
    "demo_tiers_against_all_fast": ("cxlspeckv_demo", 0.8, ">="),
    "python_load_against_cpp": ("python", 0.95, ">="),
    "python_lookup_1000_keys": ("python", 1.0, "<="),  # ms
    "quality_small_A_hx4096": ("quality", 4.5e-4, "<="),  # nats a token
    "quality_small_llama_A_hx4096": ("quality", 5e-4, "<="),
    "quality_small_qwen_A_hx4096": ("quality", 5.5e-4, "<="),
    "quality_smollm2_A_hx4096_over_kivi4": ("quality", 1.4, "<="),
    "quality_smollm2_B_hx4096_over_kivi4": ("quality", 1.9, "<="),
    "quality_smollm2_A_hxp5120_over_kivi4": ("quality", 0.09, "<="),
    "quality_smollm2_B_hxp5120_over_kivi4": ("quality", 0.055, "<="),
    "quality_smollm2_A_hxp4096_over_kivi4": ("quality", 0.36, "<="),
    "quality_smollm2_B_hxp4096_over_kivi4": ("quality", 0.20, "<="),
    "quality_smollm2_A_hxp3360_over_kivi4": ("quality", 1.0, "<="),
    "quality_smollm2_B_hxp3360_over_kivi4": ("quality", 0.6, "<="),
    "vllm_lookup_1000_hits": ("vllm", 1.0, "<="),
    "vllm_lookup_1000_misses": ("vllm", 1.0, "<="),
    "vllm_same_tokens": ("vllm", 1, ">="),
    "vllm_warm_speedup": ("vllm", 2.4, ">="),
    "vllm_warm_against_dict": ("vllm", 0.95, ">="),
    "vllm_file_cold_against_example": ("vllm", 1.5, ">="),
    "vllm_file_warm_against_example": ("vllm", 1.2, ">="),
    "vllm_hits_after_kill": ("vllm", 1, ">="),
    "vllm_same_tokens_after_restart": ("vllm", 1, ">="),
    "vllm_kvq4_warm_against_raw": ("vllm", 0.9, ">="),
    "vllm_kvq4_ratio": ("vllm", 3.5, ">="),
    "vllm_kvq4_kl": ("vllm", 0.1, "<="),  # nats
    "vllm_hxp4096_warm_against_raw": ("vllm", 0.9, ">="),
    "vllm_hxp4096_ratio": ("vllm", 3.9, ">="),
    "vllm_hxp4096_kl": ("vllm", 0.1, "<="),
    "vllm_miss_cpu_share": ("vllm", 0.01, "<="),
    "vllm_speculation_hinted_speedup": ("vllm_speculation", 1.0, ">="),
    "vllm_speculation_learned_speedup": ("vllm_speculation", 0.99, ">="),
    "step_doorbell_against_ping_pong": ("step_bench", 1.2, "<="),
    "guest_uring_against_null_blk_depth_1": ("guest", 1.0, "<="),
    "guest_uring_against_null_blk_depth_32": ("guest", 1.0, "<="),
    "guest_ring_against_uring_depth_1": ("guest", 1.0, "<="),
    "guest_ring_against_uring_depth_32": ("guest", 1.0, "<="),
    "guest_ring_against_ioctl_depth_1": ("guest", 1.0, "<="),
    "guest_ring_against_ioctl_depth_32": ("guest", 1.0, "<="),
    "guest_mib_against_null_blk": ("guest", 1.1, "<="),
    "guest_library_against_soft": ("guest", 0.8, ">="),
}
SCRIPTS = {"python", "vllm", "vllm_speculation", "guest", "quality"}  # NAME_bench.py
NAMED_ONLY = {"vllm", "vllm_speculation", "guest", "quality"}


def command_of(build, program):
    """What to run, the program first."""
    if program == "quality":
        return [pathlib.Path(__file__).parents[1] / "quality" / "quality_bench.py", build]
    if program in SCRIPTS:
        return [pathlib.Path(__file__).with_name(f"{program}_bench.py"), build]
    folder = "host" if program == "cxlspeckv_demo" else "tests/bench"
    return [build / folder / program]


def measure(build, program):
    """What one benchmark says, or an error as a string."""
    command = command_of(build, program)
    if not command[0].exists():
        return f"{program} is not built"
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report.json"
        print(f"\n== {program}", flush=True)
        status = subprocess.run([*command, "--json", report], check=False).returncode
        if status:
            return f"{program} ended with {status}"
        try:
            return json.loads(report.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            return f"{program} wrote no report: {error}"


def judge(figure, bar, direction):
    """The figure with its bar, and whether it holds (None: no bar, or skipped for a reason)."""
    value = figure.get("value")
    figure = {"unit": "", "baseline": ""} | figure
    holds = False
    if bar is None or (value is None and figure.get("skipped")):
        holds = None
    elif isinstance(value, (int, float)):
        holds = value >= bar if direction == ">=" else value <= bar
    return figure | {"value": value, "bar": bar, "direction": direction, "holds": holds}


def collect(build, programs):
    """The machine, and a judged figure for every row of the table; others as they come."""
    machine, judged = None, []
    for program in programs:
        report = measure(build, program)
        found = {}
        if isinstance(report, dict):
            machine = machine or report.get("machine")
            found = {figure["name"]: figure for figure in report["figures"]}
        for name, (owner, bar, direction) in FIGURES.items():
            if owner == program:
                missing = report if isinstance(report, str) else "the program did not tell it"
                figure = found.pop(name, {"name": name, "value": None, "missing": missing})
                judged.append(judge(figure, bar, direction))
        judged += [judge(figure, figure.get("bar"), figure.get("direction", ">="))
                   for figure in found.values()]
    return {"machine": machine, "figures": judged}


def table(figures):
    words = {True: "holds", False: "DOES NOT HOLD", None: "SKIPPED"}
    print(f"\n{'figure':34} {'value':>10} {'unit':8} {'bar':>9}  verdict")
    for f in figures:
        value = "-" if f["value"] is None else f"{f['value']:.4g}"
        bar = "" if f["bar"] is None else f"{f['direction']} {f['bar']:g}"
        verdict = "" if f["bar"] is None else words[f["holds"]]
        reason = f.get("skipped") or f.get("missing") or ""
        print(f"{f['name']:34} {value:>10} {f.get('unit', ''):8} {bar:>9}  {verdict} {reason}".rstrip())


def main(arguments):
    build, out, names = pathlib.Path(arguments[0]), None, []
    words = iter(arguments[1:])
    for word in words:
        if word == "--json":
            out = next(words, "")
        else:
            names.append(word)
    programs = list(dict.fromkeys(owner for owner, _, _ in FIGURES.values()))
    if unknown := [name for name in names if name not in programs]:
        print(f"no such benchmark: {unknown[0]}; there are: {' '.join(programs)}", file=sys.stderr)
        return 2
    try:  # before all is measured, and not after
        if out is not None:
            open(out, "a", encoding="utf-8").close()
    except OSError as error:
        print(f"--json: cannot write {out!r}: {error.strerror}", file=sys.stderr)
        return 2
    result = collect(build, names or [p for p in programs if p not in NAMED_ONLY])
    table(result["figures"])
    if out:
        pathlib.Path(out).write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return 1 if any(figure["holds"] is False for figure in result["figures"]) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
