"""The choices of targets.Source, made by hypothesis, which shrinks what fails."""

from hypothesis import given
from hypothesis import strategies as st

import targets


class Drawn:
    """Choices that hypothesis makes."""

    def __init__(self, data):
        self._data = data

    def integer(self, low, high):
        return self._data.draw(st.integers(low, high))

    def pick(self, choices):
        return choices[self._data.draw(st.integers(0, len(choices) - 1))]


def calls():
    """Return a new test of calls with arguments of every kind."""

    @given(st.data())
    def call(data):
        targets.call_with(Drawn(data))

    return call
