"""What every exporter needs to know of a network that is to be exported, wherever it comes from: a value."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from export.spec import ModelSpec

if TYPE_CHECKING:
    from torch import Tensor, nn

    from export.models._names import NameMap


@dataclass(frozen=True)
class Checkpoint:
    """Weights as read from a file.

    Attributes:
        source: what the user called them.
        tensors: name → tensor; empty where there are none and the network keeps its random weights.
        sha256: of the file.
        terms: conditions of use that travel with the weights; empty when we know none.
        classes: for how many classes they were trained, where the origin knows; None to read it off the tensors.
    """

    source: str
    tensors: dict[str, Tensor]
    sha256: str
    terms: str
    classes: int | None = None


@dataclass(frozen=True)
class Origin:
    """One network and where it comes from; `export.origins.find` makes it from a name.

    Attributes:
        spec: what it is. Counts are 0 where none are declared.
        build: number of classes → the module with random weights.
        stated_in: where a person stated what the network expects, which is then held against what it returns; empty
            for the networks of `export/models/`, whose declarations a contract test holds.
        reference: → how a public implementation names its weights, where the network's family knows one.
        own_weights: → the weights that come with the network; None where there are none and `--weights` decides.
    """

    spec: ModelSpec
    build: Callable[[int], nn.Module]
    stated_in: str = ""
    reference: Callable[[], NameMap | None] = lambda: None
    own_weights: Callable[[], Checkpoint] | None = None

    def load(self, classes: int | None = None) -> nn.Module:
        """The network with random weights, in eval mode.

        Args:
            classes: number of output channels; None for the spec's own.

        Raises:
            UserError: it is a user's own and cannot be built.
        """
        network = self.build(classes or len(self.spec.classes.names))
        network.eval()  # whose result is None where a train() of the user's returns nothing
        return network
