"""The network's tensors by name, computed in torch and in ONNX: what a gate that failed is explained with."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from export.difference import Named, TensorSample, Trace

if TYPE_CHECKING:
    import onnx
    from torch import nn

    from export.request import Request
    from runtime.preprocess import Frame


def torch_traces(wanted: Request) -> list[Trace]:
    """What every target's export begins with: the network, the network in its wrapper, the traced program."""
    from export.wrapper import Deployable, Normalised

    @cache
    def wrapped() -> nn.Module:
        return Deployable(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners)

    whole = Normalised(wanted.network, wanted.spec.preprocess, wanted.output, wanted.spec.align_corners)
    return [Trace("the network in torch", of_modules(lambda: whole)),
            Trace("the wrapper (mean, scale and colour order in the graph)", of_modules(wrapped)),
            Trace("torch.export", of_program(wrapped))]


def of_modules(make: Callable[[], nn.Module]) -> Callable[[Frame], Named]:
    """What every module inside returns, by its path from "network" on; of one that is called again, the last."""
    def tensors(frame: Frame) -> Named:
        import torch

        whole, found = make(), dict[str, TensorSample]()

        def note(name: str) -> Any:
            def hook(module: nn.Module, inputs: Any, value: Any) -> None:
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    found.pop(name, None)
                    found[name] = TensorSample.of(value.detach().numpy())
            return hook

        hooks = [module.register_forward_hook(note(name)) for name, module in whole.named_modules() if name]
        try:
            with torch.inference_mode():
                whole(torch.from_numpy(frame))
        finally:
            for entry in hooks:
                entry.remove()
        yield from found.items()
    return tensors


def of_program(make: Callable[[], nn.Module]) -> Callable[[Frame], Named]:
    """What every node of the traced module returns, by its name, and the last node of every module by the module's."""
    def tensors(frame: Frame) -> Named:
        import torch

        from export.wrapper import traced

        found, module = dict[str, TensorSample](), make()

        class Noting(torch.fx.Interpreter):
            def run_node(self, n: torch.fx.Node) -> Any:
                value = super().run_node(n)
                if n.op == "call_function" and isinstance(value, torch.Tensor) and value.is_floating_point():
                    for name in (n.name, *(path for path, _ in n.meta.get("nn_module_stack", {}).values())):
                        found.pop(name.partition("@")[0], None)
                        found[name.partition("@")[0]] = TensorSample.of(value.numpy())
                return value

        example = torch.from_numpy(frame)
        program = traced(module, example)
        with torch.inference_mode():
            Noting(program.module(check_guards=False)).run(example)
        yield from found.items()
    return tensors


def of_onnx(model: onnx.ModelProto) -> Callable[[Frame], Named]:
    """Every float tensor of a graph, by its name, computed without any optimisation."""
    def tensors(frame: Frame) -> Named:
        from calibration.judge.engines import Probe

        names = [name for node in model.graph.node for name in node.output if name]
        for name, value in zip(names, Probe(model, names).run_all(frame)):
            if value.dtype.kind == "f":
                yield name, TensorSample.of(value)
    return tensors
