"""Put the table of the benchmark file into README.md, between its two markers.

python tools/readme_numbers.py           # write
python tools/readme_numbers.py --check   # exit 1 if the README is not up to date
"""

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- numbers: made by tools/readme_numbers.py -->\n", "<!-- end of numbers -->"


def newest(folder):
    """Return the newest float32 figures with one thread."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    results = [r for r in results if r["dtype"] == "float32" and r["threads"] == 1]
    version = lambda r: tuple(int(part) for part in r["version"].split("."))  # noqa: E731
    return max(results, key=lambda r: (version(r), r["date"]))


def table(result):
    """Lay the figures out as Markdown."""
    lines = [
        f"One training step in microseconds (SGD, relu, softmax, cross entropy; float32, one "
        f"thread; median of {result['rounds']} rounds that take turns) on {result['machine']}, "
        f"{result['isa']}, fastgd {result['version']}, NumPy {result['numpy']} with "
        f"{result['blas']}. Measured FMA peak: "
        f"{result['fma_peak_gflops_per_thread']:.0f} GFLOP/s.",
        "",
        "| network | batch | fastgd | NumPy loop | times as fast | GFLOP/s | share of peak |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in result["shapes"]:
        lines.append(
            f"| {'-'.join(map(str, row['sizes']))} | {row['batch_size']} "
            f"| {row['fastgd_us']:,.1f} | {row['numpy_us']:,.1f} | {row['speedup']:.1f} "
            f"| {row['fastgd_gflops']:.1f} | {row['share_of_peak']:.0%} |"
        )
    return "\n".join(lines) + "\n"


def updated(readme, result):
    """Return the README's text with the table of these figures."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError("README.md lacks the markers of the table")
    return before + begin + "\n" + table(result) + "\n" + end + after


def main(argv):
    path = ROOT / "README.md"
    old = path.read_text(encoding="utf-8")
    new = updated(old, newest(ROOT / "benchmarks" / "results"))
    if "--check" in argv:
        if new != old:
            sys.exit("README.md does not show the newest benchmark file: run make readme")
        return
    path.write_text(new, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
