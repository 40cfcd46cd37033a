"""A network on its way through the recipe."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from export.spec import ModelSpec
from export.training.gradients import use_cpu_gradients
from export.training.objective import class_weights, distillation, objective, separated
from export.training.recipe import Recipe
from export.training.samples import Sample, augment, frequencies
from runtime.errors import UserError
from runtime.files import in_one_piece


class Trainer:
    """A network in training: weights, their average, the optimiser, and how far they are."""

    def __init__(self, entry: ModelSpec, network: nn.Module, samples: Sequence[Sample], recipe: Recipe,
                 device: torch.device, *, compiled: bool, teacher: nn.Module | None = None) -> None:
        self.entry, self.samples, self.recipe, self.device = entry, samples, recipe, device
        if len(samples) < recipe.batch:
            raise UserError(f"{len(samples)} training frames are fewer than one batch of {recipe.batch}",
                            try_=f"--batch {len(samples)}" if len(samples) > 1 else "more frames")
        self.network = network.to(device).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
        self.teacher = None if teacher is None else teacher.to(device).eval()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        for module in self.network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = recipe.norm_momentum
        matrices = [p for p in self.network.parameters() if p.ndim > 1]
        vectors = [p for p in self.network.parameters() if p.ndim <= 1]
        self.optimizer = torch.optim.AdamW([{"params": matrices, "weight_decay": recipe.decay},
                                            {"params": vectors, "weight_decay": 0.0}], fused=device.type != "mps")
        self.weights = class_weights(frequencies(samples, len(entry.classes.names))).to(device)
        self.mean = torch.tensor(entry.preprocess.mean, device=device).view(1, 3, 1, 1) * 255
        self.std = torch.tensor(entry.preprocess.std, device=device).view(1, 3, 1, 1) * 255
        self.bf16 = has_bf16(device)
        self.epoch = 0
        self.changes: list[dict[str, int]] = []
        self.log: list[dict[str, Any]] = []
        if device.type == "cpu":
            use_cpu_gradients(self.network, compiled=compiled)

    def normalised(self, images: Tensor) -> Tensor:
        """uint8 [N, H, W, 3] RGB → float [N, 3, H, W] as the network takes it, channels last in memory."""
        x: Tensor = (images.to(self.device).permute(0, 3, 1, 2).float() - self.mean) / self.std
        return x

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        views, recipe = self.normalised(images), self.recipe
        outputs = self.network(views)
        loss = objective(outputs, labels.long(), self.weights, recipe.jaccard)
        if self.teacher is None:
            return loss
        with torch.no_grad():
            taught = self.teacher(views)
        return loss + recipe.distill * distillation(separated(outputs)[0], taught)

    def run_epoch(self, show: Callable[[str], None]) -> None:
        """One pass over the training frames; appends its loss to the log."""
        recipe, start = self.recipe, time.perf_counter()
        order = np.random.default_rng((recipe.seed, self.epoch)).permutation(len(self.samples))
        steps = len(order) // recipe.batch
        torch.manual_seed(hash((recipe.seed, self.epoch)))  # for networks with dropout
        losses = []
        with ThreadPoolExecutor(1) as ahead:  # draws the next batch while this one is learnt
            try:
                batches = [ahead.submit(self._batch, order[first:first + recipe.batch].tolist())
                           for first in range(0, steps * recipe.batch, recipe.batch)]
                for step, batch in enumerate(batches):
                    losses.append(self._step(*batch.result(), self.epoch * steps + step, steps))
                    batches[step] = None  # type: ignore[call-overload]  # its memory
                    show(f"epoch {self.epoch + 1}/{recipe.epochs}  step {step + 1}/{steps}  loss {losses[-1]:.3f}")
            finally:
                ahead.shutdown(wait=False, cancel_futures=True)  # or an interruption would wait for a whole epoch
        self.epoch += 1
        self.log.append({"epoch": self.epoch, "loss": round(float(np.mean(losses)), 5),
                         "rate": self.optimizer.param_groups[0]["lr"],
                         "seconds": round(time.perf_counter() - start, 1)})

    def _batch(self, indices: Sequence[int]) -> tuple[Tensor, Tensor]:
        recipe = self.recipe
        views = [augment(self.samples[i], recipe.crop, recipe.balanced,
                         np.random.default_rng((recipe.seed, self.epoch, i))) for i in indices]
        images, labels = (torch.from_numpy(np.stack(parts)) for parts in zip(*views))
        return images, labels

    def _step(self, images: Tensor, labels: Tensor, done: int, steps: int) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe.rate_at((done + 1) / (steps * self.recipe.epochs))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self._loss(images, labels.to(self.device))
        if not bool(loss.isfinite()):
            raise UserError(f"the loss is {loss.item()} in epoch {self.epoch + 1}: training diverged",
                            try_="a lower --rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), self.recipe.clip)
        self.optimizer.step()
        keep = min(self.recipe.average, (1 + done) / (10 + done))
        now = [*self.network.parameters(), *(b for b in self.network.buffers() if b.is_floating_point())]
        mean = [*self.average.parameters(), *(b for b in self.average.buffers() if b.is_floating_point())]
        with torch.no_grad():
            torch._foreach_lerp_(mean, [t.detach() for t in now], 1 - keep)
        return float(loss.detach())

    def save(self, path: Path) -> None:
        """Write everything that `resume` needs; atomic."""
        with in_one_piece(path) as temporary:
            torch.save({"recipe": asdict(self.recipe), "name": self.entry.name, "epoch": self.epoch, "log": self.log,
                        "changes": self.changes,
                        "network": self.network.state_dict(), "average": self.average.state_dict(),
                        "optimizer": self.optimizer.state_dict()}, temporary)

    def resume(self, path: Path) -> None:
        """Go on from a saved state.

        Raises:
            UserError: no state, or one of another network or recipe.
        """
        if not path.is_file():
            raise UserError(f"{path} does not exist, so there is nothing to resume", try_="the same without --resume")
        state = torch.load(path, map_location=self.device, weights_only=True)
        before, now = state["recipe"], asdict(self.recipe)
        if (state["name"], before | {"epochs": 0}) != (self.entry.name, now | {"epochs": 0}):
            raise UserError(f"{path} is {state['name']} with {before}; expected {self.entry.name} with "
                            f"{now}", try_="the options of the first run, or another --out")
        self.network.load_state_dict(state["network"])
        self.average.load_state_dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.log, self.changes = state["epoch"], state["log"], state.get("changes", [])
        if before["epochs"] != now["epochs"]:
            self.changes.append({"after_epoch": self.epoch, "from_epochs": before["epochs"],
                                 "to_epochs": now["epochs"]})


def has_bf16(device: torch.device) -> bool:
    """Whether bfloat16 is faster than float32 there; elsewhere it would be emulated."""
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and bool(torch.cpu._is_avx512_bf16_supported())
