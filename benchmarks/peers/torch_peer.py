"""PyTorch: eager with each implementation of its optimiser, and torch.compile.

"eager" loops over tensors in the optimiser, "foreach" and "fused" are its faster forms, and
"compile" is the compiled forward and backward pass with the fused optimiser. "compile_step" is
one compiled graph of a whole step, with the gradient by torch.func and the update in place, which
does without the autograd engine and the optimiser.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn
from torch.func import functional_call, grad_and_value

from benchmarks.peers import Runner, Unsupported, WholeFit, fashion, predicted_loss
from benchmarks.shapes import Job, first_weights, samples

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh}


def versions() -> dict[str, str]:
    return {"torch": torch.__version__}


def _model(job: Job) -> nn.Sequential:
    layers: list[nn.Module] = []
    weights = first_weights(job)
    for i, (W, b) in enumerate(weights):
        layer = nn.Linear(*W.shape)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(W.T.copy()))
            layer.bias.copy_(torch.from_numpy(b))
        layers.append(layer)
        if i < len(weights) - 1:
            layers.append(_ACTIVATIONS[job.activation]())
    return nn.Sequential(*layers)


class _Stepper:
    """The model, its loss and its optimiser in one variant; `step` returns the loss tensor."""

    def __init__(self, job: Job):
        if job.optimizer["name"] != "sgd" or job.dtype != "float32":
            raise Unsupported("torch is measured with plain SGD in float32")
        self.model = model = _model(job)
        form = {"eager": {"foreach": False}, "foreach": {"foreach": True}}
        self.optimizer = torch.optim.SGD(
            model.parameters(), lr=job.learning_rate, **form.get(job.variant, {"fused": True})
        )
        if job.loss == "cross_entropy":
            criterion = nn.CrossEntropyLoss()
        else:

            def criterion(output, y):
                return ((output - y) ** 2).sum() * (0.5 / len(y))

        def loss(x, y):
            return criterion(model(x), y)

        self.loss = loss
        # One process compiles for every shape that it meets, a last short batch included.
        torch._dynamo.config.recompile_limit = 1000
        if job.variant == "compile":
            self.loss = torch.compile(loss, fullgraph=True, dynamic=False)
        if job.variant == "compile_step":
            self.step = self._compiled_step(criterion)

    def _compiled_step(self, criterion):
        model, lr = self.model, self.optimizer.param_groups[0]["lr"]
        weights = {name: p.detach() for name, p in model.named_parameters()}

        def loss(weights, x, y):
            return criterion(functional_call(model, weights, (x,)), y)

        def step(weights, x, y):
            gradients, value = grad_and_value(loss)(weights, x, y)
            for name, p in weights.items():
                p.sub_(gradients[name], alpha=lr)
            return value

        compiled = torch.compile(step, fullgraph=True, dynamic=False)

        @torch.no_grad()
        def run(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            return compiled(weights, x, y)

        return run

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.loss(x, y)
        loss.backward()
        self.optimizer.step()
        return loss

    def weights(self) -> list[np.ndarray]:
        return [p.detach().numpy().T for p in self.model.parameters()]


class Train(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.stepper = _Stepper(job)
        X, y = torch.from_numpy(self.X), torch.from_numpy(self.y)
        self.batches = list(zip(X.split(job.batch), y.split(job.batch), strict=True))
        self.next = 0

    def run(self, n: int) -> int:
        step, batches = self.stepper.step, self.batches
        for i in range(self.next, self.next + n):
            step(*batches[i % len(batches)])
        self.next = (self.next + n) % len(batches)
        return n

    def weights(self) -> list[np.ndarray]:
        return self.stepper.weights()


class Predict(Runner):
    def __init__(self, job: Job):
        super().__init__(job, samples(job))
        self.model = nn.Sequential(*_model(job), nn.Softmax(dim=1)).eval()
        if job.variant == "compile":
            self.model = torch.compile(self.model, fullgraph=True, dynamic=False)
        self.x = torch.from_numpy(self.X)

    def run(self, n: int) -> int:
        with torch.inference_mode():
            for _ in range(n):
                self.model(self.x)
        return n

    def check(self) -> float:
        with torch.inference_mode():
            return predicted_loss(self.job, self.model(self.x).numpy(), self.y)


class Fit(WholeFit):
    """The loop that is batched by hand: one permutation an epoch, one gather a batch."""

    def __init__(self, job: Job):
        super().__init__(job, fashion(job))
        self.x, self.labels = torch.from_numpy(self.X), torch.from_numpy(self.y)
        self.stepper = _Stepper(job)
        self.start = [p.detach().clone() for p in self.stepper.model.parameters()]

    def run(self, n: int) -> int:
        step, x, labels = self.stepper.step, self.x, self.labels
        for _ in range(n):
            # The same model again, so that what was compiled stays compiled.
            with torch.no_grad():
                for p, start in zip(self.stepper.model.parameters(), self.start, strict=True):
                    p.copy_(start)
            torch.manual_seed(0)
            history = []
            for _ in range(self.job.epochs):
                total = torch.zeros(())
                for index in torch.randperm(len(x)).split(self.job.batch):
                    loss = step(x.index_select(0, index), labels.index_select(0, index))
                    total += loss.detach() * len(index)
                history.append(total.item() / len(x))
            self.last_loss = history[-1]
        return n


def make(job: Job, threads: int) -> Runner:
    torch.set_num_threads(threads)
    return {"train": Train, "predict": Predict, "fit": Fit}[job.kind](job)
