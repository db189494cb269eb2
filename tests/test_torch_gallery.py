"""examples/torch_module.py runs, draws, and says what it prints."""

import gallery


def test_torch_module_draws_and_says_what_it_prints(tmp_path):
    printed = gallery.assert_runs("torch_module", tmp_path, 1)
    assert printed.count("True") == 2
    assert "False" not in printed
