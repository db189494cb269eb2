"""The programs of examples/ run, draw, and print the figures of which their text speaks.

Those of test_why_derivatives.py and test_torch_gallery.py have more to them, or need more.
"""

import re
import runpy
import sys

import pytest

import gallery
from block_extras import has

# name -> (packages that it needs, in the order in which it asks for them; figures that it draws)
RUNS = {
    "digits": (["matplotlib"], 3),
    "gradient_flow": (["matplotlib"], 4),
    "imbalanced_classes": (["matplotlib", "statsmodels"], 2),
    "in_place_of_scikit_learn": (["matplotlib", "sklearn"], 2),
    "missing_values": (["matplotlib", "vega_datasets"], 2),
    "multilabel": (["matplotlib", "vega_datasets"], 2),
    "online_learning": (["matplotlib", "statsmodels"], 2),
    "poisson_counts": (["matplotlib", "statsmodels"], 2),
}
# What has its test elsewhere, or is marked "data"
OTHERS = {
    "fashion_mnist": ["matplotlib"],
    "torch_module": ["matplotlib", "torch"],
    "why_derivatives": ["matplotlib"],
}
NEEDS = {name: needed for name, (needed, _) in RUNS.items()} | OTHERS
# package -> what a message calls it and has the reader install
CALLED = {
    "matplotlib": ("matplotlib", "plot"),
    "sklearn": ("scikit-learn", "sklearn"),
    "statsmodels": ("statsmodels", "examples"),
    "torch": ("PyTorch", "torch"),
    "vega_datasets": ("vega_datasets", "examples"),
}


def assert_the_same(printed):
    """What is said of the two packages is true."""
    assert "False" not in printed
    assert printed.count("True") == 3


def assert_better_than_the_climate(printed):
    """The network's log loss is the lower one for all four labels."""
    losses = re.findall(r"log loss (\d\.\d{3}) -> (\d\.\d{3})", printed)
    assert len(losses) == 4
    assert all(float(network) < float(climate) for climate, network in losses)


# What a text claims besides its figures
CLAIMS = {
    "in_place_of_scikit_learn": assert_the_same,
    "multilabel": assert_better_than_the_climate,
}


def message(package):
    name, extra = CALLED[package]
    return f"this example needs {name}: pip install 'fastgd[{extra}]'"


def test_every_example_has_a_test():
    assert sorted(NEEDS) == sorted(file.stem for file in gallery.EXAMPLES.glob("*.py"))


@pytest.mark.parametrize("name", RUNS)
def test_example_draws_and_says_what_it_prints(name, tmp_path):
    needed, n_figures = RUNS[name]
    missing = [package for package in needed if not has(package)]
    if missing:
        done = gallery.run(name, tmp_path)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"{message(missing[0])}\n"
    else:
        printed = gallery.assert_runs(name, tmp_path, n_figures)
        CLAIMS.get(name, lambda printed: None)(printed)


@pytest.mark.parametrize(
    ("name", "package"), [(name, package) for name, needed in NEEDS.items() for package in needed]
)
def test_example_without_a_package_says_how_to_get_it(name, package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)  # neither imported nor found
    if package == "matplotlib":
        monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    # What is asked for first is missing first.
    missing = next(p for p in NEEDS[name] if p == package or not has(p))
    with pytest.raises(SystemExit) as stopped:
        runpy.run_path(str(gallery.EXAMPLES / f"{name}.py"), run_name="__main__")
    assert stopped.value.code == message(missing)
    assert capsys.readouterr() == ("", "")


def test_example_without_fashion_mnist_names_the_package(tmp_path):
    done = gallery.run("fashion_mnist", tmp_path, FASTGD_FASHION_MNIST=str(tmp_path))
    assert (done.returncode, done.stdout) == (1, "")
    if has("matplotlib"):
        assert done.stderr == (
            f"{tmp_path} does not have Fashion-MNIST: install Debian's package "
            "dataset-fashion-mnist, or set FASTGD_FASHION_MNIST to the folder of its files\n"
        )
    else:
        assert done.stderr == f"{message('matplotlib')}\n"


@pytest.mark.data
def test_fashion_mnist_draws_and_says_what_it_prints(tmp_path):
    gallery.assert_runs("fashion_mnist", tmp_path, 3)


@pytest.mark.parametrize("name", NEEDS)
def test_example_has_the_form_of_the_gallery(name):
    text = gallery.text_of(name)
    title, line = text.strip().splitlines()[:2]
    assert line == "=" * len(title)
    assert "The data are" in " ".join(text.split())
    assert (gallery.EXAMPLES / f"{name}.py").read_text("utf-8").endswith("\nplt.show()\n")


def test_text_that_is_not_printed_is_found(monkeypatch):
    monkeypatch.setattr(gallery, "text_of", lambda name: "it reads ``0.97`` of them, or ``12%``")
    gallery.assert_stated("any", "accuracy 0.97\n12% off")
    for printed in ("accuracy 0.978, 12% off", "accuracy 0.97, 112% off", "10.97 12%", "0.97, 12"):
        with pytest.raises(AssertionError):
            gallery.assert_stated("any", printed)
