"""How Sphinx builds the pages: without network, with every reference checked."""

import contextlib
import functools
import importlib.util
import io
import os
import re
import tempfile
from pathlib import Path

import matplotlib
from docutils import nodes
from sphinx.util.docutils import SphinxDirective

import fastgd
import fastgd.sklearn  # before torch is a mock, which scikit-learn would take for the real one
from fastgd import cli

ROOT = Path(__file__).resolve().parent.parent
FASHION = Path(os.environ.get("FASTGD_FASHION_MNIST", "/usr/share/datasets/fashion-mnist"))
HAS_TORCH = importlib.util.find_spec("torch") is not None

matplotlib.use("Agg")

project = "fastgd"
author = "The fastgd developers"
copyright = "the fastgd developers, BSD-3-Clause"
version = release = fastgd.__version__

extensions = [
    "myst_parser",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx_gallery.gen_gallery",
]
exclude_patterns = ["_build"]
nitpicky = True
default_role = "py:obj"

myst_heading_anchors = 4

html_theme = "furo"
html_title = f"fastgd {release}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sphinx = False
html_copy_source = False

autodoc_member_order = "bysource"
autodoc_typehints = "none"
# Large, and of use here for its names only.
autodoc_mock_imports = [] if HAS_TORCH else ["torch"]
numpydoc_show_class_members = False
toc_object_entries_show_parents = "hide"


# Examples that are shown without their results where what they need is not there.
unexecuted = {}
if not (FASHION / "train-images-idx3-ubyte.gz").is_file():
    unexecuted["fashion_mnist.py"] = f"no Fashion-MNIST in {FASHION}"
if not HAS_TORCH:
    unexecuted["torch_module.py"] = "no PyTorch"
for name, reason in unexecuted.items():
    print(f"examples/{name} is not executed: {reason}")

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "gallery",
    "filename_pattern": "".join(f"(?<!{re.escape(name)})" for name in unexecuted) + "$",
    "download_all_examples": False,
    # A table where an object has one, and not the address of one that has none.
    "capture_repr": ("_repr_html_",),
    # Also where the file is unchanged: the package may not be.
    "run_stale_examples": True,
    "min_reported_time": float("inf"),
    "show_memory": False,
    "show_signature": False,
    "write_computation_times": False,
}


# ---- what is made from the package --------------------------------------------------------------


def offer_outside_pages(app, docname, source):
    """Let a link to a Markdown file that is no page of the site give that file."""
    outside = r"\[([^]]+)\]\((\.\./[^)#]+\.md)(?:#[^)]*)?\)"
    source[0] = re.sub(outside, r"{download}`\1 <\2>`", source[0])


def show_objects(app, docname, source):
    """Put what a notebook shows of an object where a page has a comment `<!-- show: name -->`.

    The cells of the page before it have made the object.
    """
    text = source[0]
    pattern = r"```python\n(.*?)```|<!-- show: (\w+) -->\n"
    if not re.search(r"<!-- show: \w+ -->", text):
        return
    names, parts, end = {"__name__": "__main__"}, [], 0
    for found in re.finditer(pattern, text, re.DOTALL):
        if found[1]:
            with (
                tempfile.TemporaryDirectory() as folder,
                contextlib.chdir(folder),
                contextlib.redirect_stdout(io.StringIO()),
            ):
                exec(found[1], names)
            continue
        html = names[found[2]]._repr_html_()
        parts += [text[end : found.start()], f"```{{raw}} html\n{html}\n```\n"]
        end = found.end()
    source[0] = "".join([*parts, text[end:]])


class CommandLine(SphinxDirective):
    """The help of `fastgd` and of each of its commands."""

    def run(self):
        os.environ["COLUMNS"] = "78"
        parser = cli._parser()
        (commands,) = (a.choices for a in parser._actions if a.choices)
        return [
            self.section(f"fastgd {name}".strip(), one.format_help())
            for name, one in {"": parser, **commands}.items()
        ]

    def section(self, title, text):
        section = nodes.section(ids=[nodes.make_id(title)])
        section += nodes.title(text=title)
        section += nodes.literal_block(text, text, language="text")
        return section


def resolve_public_name(app, env, node, contnode):
    """Find a name of fastgd where it is documented: `SGD`, `Network.fit`, `fastgd.SGD`."""
    if node.get("refdomain") != "py":
        return None
    name = node["reftarget"].removeprefix("fastgd.")
    try:
        found = functools.reduce(getattr, name.split("."), fastgd)
        targets = f"fastgd.{name}", f"{found.__module__}.{found.__qualname__}"
    except AttributeError:
        return None
    known = env.get_domain("py").objects
    target = next((target for target in targets if target in known), "")
    return env.get_domain("py").resolve_xref(
        env, node["refdoc"], app.builder, "obj", target, node, contnode
    )


def keep_bars(app, what, name, obj, options, lines):
    """Let the |z| of formulas be bars: the docstrings use no substitutions.

    An example, from its first >>> to the next blank line, is literal anyway.
    """
    in_example = False
    for i, line in enumerate(lines):
        in_example = bool(line.strip()) and (in_example or line.lstrip().startswith(">>>"))
        if not in_example:
            lines[i] = line.replace("|", r"\|")


def setup(app):
    app.connect("source-read", offer_outside_pages)
    app.connect("source-read", show_objects)
    app.connect("missing-reference", resolve_public_name)
    app.connect("autodoc-process-docstring", keep_bars, priority=1)
    app.add_directive("command-line", CommandLine)
