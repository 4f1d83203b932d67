"""The training loop: encode a batch once, click several times, each click with its loss.

    images -> encode -> leaf copies -> [click, decode, loss, backward] x rounds -> backward through the encoder -> AdamW

The gradient with respect to the encoding is collected over the rounds, so that the encoder's backward pass, like its
forward pass, runs once per step, and memory does not grow with the rounds.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.errors import UserError
from harness.planning.dotted import dotted
from harness.training.batches import Batch, Batches
from harness.training.checkpoints import load_checkpoint, save_checkpoint
from harness.training.clicks import ClickSimulator, rounds
from harness.training.distributed import World
from harness.training.history import History
from harness.training.schedule import Average, learning_rate, parameter_groups
from harness.training.settings import Settings
from harness.training.trainee import Trainee

MOST_BAD_STEPS = 20
"""Steps in a row without a finite gradient after which a run gives up."""


@dataclass
class StepResult:
    """What one step did: mean loss terms over its clicks, IoU after the first and the last click, and gradient norm."""

    terms: dict[str, float] = field(default_factory=dict)
    first_iou: float = math.nan
    last_iou: float = math.nan
    norm: float = math.nan
    clicks: int = 0

    @property
    def finite(self) -> bool:
        """Whether the step could be taken."""
        return math.isfinite(self.norm) and all(math.isfinite(v) for v in self.terms.values())


class Trainer:
    """One run.

    Args:
        trainee: the model.
        batches: its data.
        settings: everything else that decides the result.
        folder: checkpoint and history go there.
        world: this process among all.
        identity: what besides the settings the checkpoint must agree with (variant, data).
    """

    def __init__(
        self,
        trainee: Trainee,
        batches: Batches,
        settings: Settings,
        folder: Path,
        world: World,
        identity: dict[str, Any] | None = None,
    ):
        self.trainee, self.batches, self.settings = trainee, batches, settings
        self.folder, self.world = folder, world
        self.identity = dotted({"settings": settings.record(), **(identity or {})})
        trainee.module.to(world.device)
        self.groups = parameter_groups(trainee.module, settings.weight_decay, settings.trunk, settings.freeze)
        self.parameters = [p for group in self.groups for p in group["params"]]  # type: ignore[attr-defined]
        self.optimizer = torch.optim.AdamW(self.groups, lr=settings.learning_rate, betas=(0.9, 0.98))
        world.copy_from_first(trainee.module)
        self.average = Average(trainee.module, settings.ema)
        self.history = History(folder if world.first else None)
        self.step = 0
        self.seconds = 0.0
        self.bad_steps = 0
        self._pool = ThreadPoolExecutor(max_workers=max(torch.get_num_threads(), 1))

    def resume(self) -> bool:
        """Go on from the folder's checkpoint, if there is one."""
        state = load_checkpoint(self.folder, self.identity, self.world.device)
        if state is None:
            self.history.clear()
            return False
        self.trainee.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load(state["average"])
        torch.set_rng_state(state["random"].cpu())
        self.step, self.seconds = state["step"], state["seconds"]
        self.history.cut(self.step)
        return True

    def save(self) -> None:
        """Write the checkpoint (first process only)."""
        if not self.world.first:
            return
        save_checkpoint(
            self.folder,
            {
                "identity": self.identity,
                "step": self.step,
                "seconds": self.seconds,
                "module": self.trainee.module.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.state(),
                "random": torch.get_rng_state(),
            },
        )

    def run(
        self, on_step: Callable[[StepResult], None], validate: Callable[[], dict[str, float]] | None = None
    ) -> None:
        """Train to the last step; saves and validates as it goes, and saves when interrupted."""
        settings = self.settings
        try:
            for batch in self.batches.from_step(self.step, settings.steps):
                started = time.monotonic()
                result = self.take_step(batch)
                self.seconds += time.monotonic() - started
                self._account(result)
                self.step += 1
                on_step(result)
                if validate is not None and self._due(settings.validate_every):
                    self.history.add(self.step, **self._validated(validate))
                if self._due(settings.save_every):
                    self.save()
        except KeyboardInterrupt:
            self.save()
            raise

    def _due(self, every: int) -> bool:
        return self.step % every == 0 or self.step == self.settings.steps

    def _validated(self, validate: Callable[[], dict[str, float]]) -> dict[str, float]:
        module = self.trainee.module
        self.average.swap(module)
        module.eval()
        try:
            return validate() if self.world.first else {}
        finally:
            self.average.swap(module)

    def _account(self, result: StepResult) -> None:
        if result.finite:
            self.bad_steps = 0
            values = {"loss": sum(result.terms.values()), **result.terms}
            self.history.add(
                self.step + 1,
                **values,
                first_iou=result.first_iou,
                last_iou=result.last_iou,
                norm=result.norm,
                rate=self._rate(),
            )
            return
        self.bad_steps += 1
        self.history.add(self.step + 1, skipped=1.0)
        if self.bad_steps >= MOST_BAD_STEPS:
            raise UserError(
                f"the loss was not finite for {MOST_BAD_STEPS} steps in a row (step {self.step + 1}). The checkpoint "
                f"before is still in {self.folder}. Start again with a lower rate, for example training.learning_rate="
                f"{self.settings.learning_rate / 3:.1g}, in another folder (out=DIR)."
            )

    def _rate(self) -> float:
        s = self.settings
        return s.learning_rate * learning_rate(self.step, s.steps, s.warmup, s.final)

    def take_step(self, batch: Batch) -> StepResult:
        """One optimizer step; skipped, with everything as it was, if loss or gradient is not finite."""
        settings, module = self.settings, self.trainee.module
        module.train()
        for group in self.optimizer.param_groups:
            group["lr"] = self._rate() * group["factor"]
        self.optimizer.zero_grad(set_to_none=True)
        buffers = {name: value.clone() for name, value in module.named_buffers()}
        result = self._backward(batch)
        self.world.average_gradients(self.parameters)
        result.norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, settings.clip))
        result.norm = self.world.mean(result.norm if result.finite else math.nan)
        if result.finite:
            self.optimizer.step()
            self.average.update(module)
        else:
            for name, value in module.named_buffers():
                value.copy_(buffers[name])
        return result

    def _backward(self, batch: Batch) -> StepResult:
        settings, device = self.settings, self.world.device
        images = torch.from_numpy(batch.images).to(device).permute(0, 3, 1, 2)
        target = torch.from_numpy(batch.masks).to(device)[:, None]
        count = rounds((settings.seed, batch.step, 3), settings.rounds, settings.more)
        simulator = ClickSimulator(batch.masks, (settings.seed, batch.step, 4, self.world.rank), self._pool)
        encoded = self.trainee.encode(images)
        leaves = tuple(e.detach().requires_grad_(e.requires_grad) for e in encoded)
        prompts = self.trainee.prompts(*batch.masks.shape)
        predictions = np.zeros(batch.masks.shape, bool)
        totals: dict[str, Tensor] = {}
        result = StepResult(clicks=count)
        for number in range(count):
            prompts.add_clicks(simulator.click(predictions))
            logits, terms = self.trainee.decode(leaves, prompts, target)
            (torch.stack(list(terms.values())).sum() / count).backward()
            for name, value in terms.items():
                totals[name] = totals.get(name, torch.zeros((), device=device)) + value.detach() / count
            prompts.add_predictions(logits)
            predictions = (logits.detach()[:, 0] > 0).cpu().numpy()
            if number in (0, count - 1):
                result.last_iou = _mean_iou(predictions, batch.masks)
                if number == 0:
                    result.first_iou = result.last_iou
        pairs = [
            (e, leaf.grad) for e, leaf in zip(encoded, leaves, strict=True) if e.requires_grad and leaf.grad is not None
        ]
        if pairs:
            torch.autograd.backward([e for e, _ in pairs], [g for _, g in pairs])
        result.terms = {name: float(value) for name, value in totals.items()}
        return result


def _mean_iou(predictions: np.ndarray, masks: np.ndarray) -> float:
    valid = masks != 255
    objects = masks == 1
    both = (predictions & objects).sum((1, 2))
    either = ((predictions | objects) & valid).sum((1, 2))
    return float((both / np.maximum(either, 1)).mean())
