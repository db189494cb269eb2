"""pytest plugin: scikit-learn's own tests find fastgd's classes in place of the originals.

A test that trains by scikit-learn's own loops nevertheless fails, and so does the collection of a
module that holds an original.
"""

import sklearn.neural_network
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron

import fastgd.sklearn

NAMES = ("MLPClassifier", "MLPRegressor")
ORIGINALS = {name: getattr(sklearn.neural_network, name) for name in NAMES}

for name in NAMES:
    setattr(sklearn.neural_network, name, getattr(fastgd.sklearn, name))


def refuse(self, *args, **kwargs):
    raise AssertionError(f"{type(self)} is trained by scikit-learn, not by fastgd")


for name in ("_fit_stochastic", "_fit_lbfgs"):
    setattr(BaseMultilayerPerceptron, name, refuse)


def pytest_collection_finish(session):
    for module in {item.module for item in session.items}:
        for name, original in ORIGINALS.items():
            assert getattr(module, name, None) is not original, f"{module} holds {original}"
