"""Numbers of examples/why_derivatives.py say what it claims; the page made of them is current."""

import contextlib
import io
import math
import re
import sys
from fractions import Fraction

import numpy as np
import pytest

import gallery
from doc_cells import DOCS

sys.path.insert(0, str(DOCS.parent / "tools"))

import why_page

PAGE = why_page.PAGE


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Run the example once; return it, what it printed, and a folder with its pictures."""
    folder = tmp_path_factory.mktemp("pictures")
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        example = why_page.run_example()
    why_page.save_figures(folder)
    why_page.close_figures()
    return example, printed.getvalue(), folder


@pytest.fixture(scope="module")
def why(run):
    return run[0]


@pytest.fixture(scope="module")
def results(why):
    return why.results


# ---- the exact fused multiply-add -----------------------------------------------------------


def nearest_float32(exact):
    """Round a fraction to float32, ties to even, by looking at the neighbours."""
    guess = np.float32(float(exact))
    near = [
        np.nextafter(guess, np.float32(-np.inf)),
        guess,
        np.nextafter(guess, np.float32(np.inf)),
    ]
    return min(near, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) & 1))


def test_fma32_rounds_once(why):
    rng = np.random.default_rng(0)
    a, b, c = (rng.normal(size=3000).astype(np.float32) for _ in range(3))
    # From sums that the product decides to sums that it barely touches.
    b *= np.float32(2) ** rng.integers(-30, 30, size=b.size).astype(np.float32)
    got = why.fma32(a, b, c)
    for i in range(len(a)):
        exact = Fraction(float(a[i])) * Fraction(float(b[i])) + Fraction(float(c[i]))
        assert got[i] == nearest_float32(exact)


@pytest.mark.parametrize("sign", [1, -1])
def test_fma32_where_rounding_twice_is_wrong(why, sign):
    # a * b = 2^-24 - 2^-60: in float64 the sum falls on the middle of two float32 numbers.
    a = np.float32(sign * (1 + 2**-18))
    b = np.float32(2**-24 * (1 - 2**-18))
    c = np.float32(sign * (1 + 2**-23))
    assert np.float32(np.float64(a) * np.float64(b) + np.float64(c)) == sign * (1 + 2**-22)
    assert why.fma32(a, b, c) == c


def test_fma_exact_rounds_once(why):
    # (1 + 2^-30)^2 - 1 = 2^-29 + 2^-60; rounding the product first loses the second term.
    a = np.array([1 + 2.0**-30])
    assert a * a - 1 != 2.0**-29 + 2.0**-60
    assert why.fma_exact(a, a, np.array([-1.0])) == 2.0**-29 + 2.0**-60


def test_bits_differ_counts_signed_zeros_and_last_bits(why):
    a = np.array([0.0, 1.0, 2.0])
    assert why.bits_differ(a, a.copy()) == 0
    assert why.bits_differ(a, np.array([-0.0, np.nextafter(1.0, 2.0), 2.0])) == 2


# ---- the seven answers ----------------------------------------------------------------------


def test_delta_rule_has_the_bits_of_sgd(results):
    found = results["delta_rule"]
    assert found.differing == 0
    assert found.differing64 == 0
    assert found.steps * found.weights > 900_000
    # Were NumPy's rounding the same, the comparison would show nothing.
    assert 0.001 < found.numpy_share < 0.5
    assert 0 < found.numpy_ulp <= 1
    # Half an ULP for each rounding of either side before the sum, and one for the sums.
    assert found.textbook_ulp <= 3


def test_output_derivative_left_out_is_no_gradient_of_the_loss(results):
    found = results["output_derivative"]
    assert found.from_differences[0] < 1e-7
    assert found.from_differences[1] > 1
    assert found.angles[0] < 45
    assert found.angles[100] > 90
    assert found.from_log_loss < 1e-7


def test_output_derivative_left_out_ends_higher(results):
    found = results["output_derivative"]
    with_it, without = found.curves
    assert without[10] < with_it[10]  # the shortcut is faster at first, as the page says
    assert without[-1] > 1.1 * with_it[-1]
    assert found.slope[1] > 10 * found.slope[0]
    assert found.wrong[1] > found.wrong[0]


def test_hidden_derivative_left_out_is_no_gradient_at_all(results):
    found = results["hidden_derivative"]
    assert found.from_differences[0] < 1e-7
    assert found.from_differences[1] > 0.1
    assert found.asymmetry[0] < 1e-7
    assert found.asymmetry[1] > 0.1
    assert found.second_direction[0] > 0.01
    assert found.second_direction[1] < 1e-12


def test_hidden_derivative_left_out_does_not_learn(results):
    found = results["hidden_derivative"]
    assert found.accuracy[0] == 1
    assert found.accuracy[1] < 0.65
    assert found.curves[0][-1] < 0.1
    assert found.curves[1][-1] > 0.6


def test_canonical_pairs_cancel(results):
    found = results["canonical_pairs"]
    # delta and the output come from different polynomials: a few ULP of 1 (and of 1 / 100 samples).
    assert found.sigmoid_distance <= 4 * np.finfo(float).eps
    assert found.softmax_distance <= 4 * np.finfo(float).eps / 100
    # The long way divides by 1 - a, which has lost bits where a is near 1: 1 - a >= 3e-4 at z = 8.
    assert found.long_way[0] < 4 * np.finfo(float).eps / 3e-4
    assert found.long_way[1] < 40 * np.finfo(float).eps / 100
    assert max(found.from_differences) < 1e-7


def test_canonical_pairs_learn_from_big_mistakes(results):
    found = results["canonical_pairs"]
    assert found.log_loss_delta[-1] > 0.99
    assert found.squared_delta[-1] < 0.001
    assert found.steps_back[0] < 15
    assert found.steps_back[1] > 2000
    assert found.far_cancelled == 1
    assert math.isnan(found.far_long_way)


def test_depth_without_bends_is_one_linear_layer(results):
    found = results["depth"]
    # gamma_64 for each of 8 layers is 8 * 64 * 1.1e-16; the weights' condition is small.
    assert found.collapse_distance < 1e-13
    assert found.ring_loss["identity"] == pytest.approx(found.ring_loss["none"], rel=1e-3)
    assert found.ring_right["identity"] < 0.65
    for name in ("tanh", "relu"):
        assert found.ring_loss[name] < 0.05
        assert found.ring_right[name] == 1
        assert found.digits_right[name] > found.digits_right["identity"] + 0.04
        assert found.digits_right[name] > found.digits_right["none"] + 0.04


def test_step_size_scales_and_shrinks(results):
    found = results["step_size"]
    assert found.doubled_exactly
    for lr, first in found.first_steps.items():
        assert first / lr == pytest.approx(found.first_steps[0.1] / 0.1, rel=1e-12)
        assert found.shrinks_by[lr] == pytest.approx(1 - lr, abs=1e-6)
    assert found.steps[0.3][-1] < 1e-3 * found.steps[0.3][0]
    assert found.steps[2.1][-1] > 5 * found.steps[2.1][0]


def test_constant_gradient_circles_in_proportion_to_lr(results):
    found = results["constant_gradient"]
    for lr in found.lrs:
        assert found.mean_distance["absolute_error"][lr] == pytest.approx(lr / 2, rel=1e-6)
        assert 0.9 * lr < found.max_distance["absolute_error"][lr] <= lr
        assert found.mean_distance["squared_error"][lr] < 1e-13
        assert found.swing["squared_error"][lr] < 1e-9
        assert found.swing["huber"][lr] < 1e-9
        per_lr = found.swing["absolute_error"][lr] / lr
        assert per_lr == pytest.approx(found.swing["absolute_error"][0.4] / 0.4, rel=0.1)
    assert found.decaying < 0.01 * found.mean_distance["absolute_error"][0.4]


# ---- what is printed, drawn and written -----------------------------------------------------


def test_every_answer_is_printed(run, results):
    _, printed, _ = run
    assert len(results) == 7
    for found in results.values():
        assert str(found) in printed
        assert max(map(len, str(found).splitlines())) <= 100


def test_text_says_what_is_printed(run):
    gallery.assert_stated("why_derivatives", run[1])


def test_every_answer_but_the_first_is_drawn(run, results):
    files = sorted(file.name for file in run[2].iterdir())
    drawn = [name.replace("_", "-") for name in results if name != "delta_rule"]
    assert files == sorted(f"why-{name}.png" for name in drawn)
    for file in run[2].iterdir():
        data = file.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert 5_000 < len(data) < 150_000


def test_renewed_page_has_the_results(results):
    page = PAGE.read_text("utf-8")
    made = r"```text\n.*?```(?=\n<!-- end -->)"  # what its cells print is not of the example
    stale = re.sub(made, "```text\nstale\n```", page, flags=re.S)
    assert stale.count("stale") == len(results)
    renewed = why_page.renew_page(stale, results)
    assert renewed == why_page.renew_page(page, results)
    assert "stale" not in renewed


def numbers_apart(text):
    """Return the text with # for every number and one space for any, and the numbers."""
    number = r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?"
    words = re.sub(r"\s+", " ", re.sub(number, "#", text))
    return words, [float(found) for found in re.findall(number, text)]


def test_page_shows_current_numbers(results):
    page = PAGE.read_text("utf-8")
    words, numbers = numbers_apart(page)
    renewed_words, renewed = numbers_apart(why_page.renew_page(page, results))
    assert words == renewed_words
    # Another machine's NumPy may round otherwise, which shows in what is rounding error itself.
    for shown, current in zip(numbers, renewed, strict=True):
        assert math.isclose(shown, current, rel_tol=0.05, abs_tol=1e-7)


def test_page_has_every_section_and_plot(results, run):
    page = PAGE.read_text(encoding="utf-8")
    assert re.findall(r"<!-- numbers: (\w+) -->", page) == list(results)
    shown = re.findall(r"!\[[^]]{40,}\]\((img/[\w-]+\.png)\)", page)
    assert sorted(shown) == sorted(f"img/{file.name}" for file in run[2].iterdir())
    for file in shown:
        assert (PAGE.parent / file).read_bytes().startswith(b"\x89PNG")
