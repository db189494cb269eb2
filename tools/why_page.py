"""Renew docs/why-derivatives.md and its pictures from what examples/why_derivatives.py finds.

Call it as `make why-page`, which needs matplotlib.
"""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "why-derivatives.md"


def run_example() -> ModuleType:
    """Run the example, which prints; its `results` and pyplot's figures are left to be read."""
    import matplotlib

    matplotlib.use("Agg")
    name = "why_derivatives"
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up there
    spec.loader.exec_module(module)
    return module


def save_figures(folder: Path) -> list[Path]:
    """Save pyplot's figures by their names; return the files, folder/why-<name>.png."""
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for name in pyplot.get_figlabels():
        files.append(folder / f"why-{name.replace('_', '-')}.png")
        # No version of the program in the file: the same picture is the same file.
        pyplot.figure(name).savefig(files[-1], dpi=110, metadata={"Software": None})
    return files


def close_figures() -> None:
    """Close the figures of the example."""
    from matplotlib import pyplot

    pyplot.close("all")


def renew_page(page: str, results: dict[str, object]) -> str:
    """Return the page with the results between each pair of `numbers` comments."""

    def block(found: re.Match[str]) -> str:
        return f"{found[1]}\n```text\n{results[found[2]]}\n```\n{found[3]}"

    pattern = r"(<!-- numbers: (\w+) -->)\n.*?(<!-- end -->)"
    return re.sub(pattern, block, page, flags=re.DOTALL)


if __name__ == "__main__":
    example = run_example()
    page = renew_page(PAGE.read_text(encoding="utf-8"), example.results)
    for file in save_figures(PAGE.parent / "img"):
        print(f"wrote {file}")
    PAGE.write_text(page, encoding="utf-8")
    print(f"wrote {PAGE}")
