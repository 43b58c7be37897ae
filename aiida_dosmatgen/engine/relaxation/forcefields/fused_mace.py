"""A MACE model that computes the same numbers faster: its radial functions tabulated, its convolutions without edge messages.

Of the time that a small MACE model takes on a CPU, most goes into the messages: one tensor of channels × (l, m) for each edge,
written and read again several times, and into the network that turns each edge's length into weights. Neither is needed.
The weights are functions of one variable, and are interpolated; and where the senders are scalars, the sum over a receiver's
edges of (weights × sender) ⊗ (spherical harmonics) is a matrix product.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch.nn import functional

_KNOWN = ("RealAgnosticInteractionBlock", "RealAgnosticResidualInteractionBlock")
_POINTS = 4096
TILE = 8
"""Edges in a row that must have one receiver, for a model with a :class:`ScalarConvolution`."""
_SHORTEST = 0.01  # Å; the radial functions divide by the length


def fuse(model: torch.nn.Module) -> torch.nn.Module:
    """Replace, in place, those parts of a MACE model that can be had faster, and return the model.

    Parts of other kinds (densities, distances that depend on the elements, senders with vectors) stay as they are.

    :param model: as MACE makes it, on its device and in its precision.
    """
    blocks = list(getattr(model, "interactions", ()))
    if not blocks or any(type(block).__name__ not in _KNOWN for block in blocks):
        return model
    for block in blocks:
        convolution = ScalarConvolution.of(block.conv_tp)
        if convolution is not None and not hasattr(block, "conv_fusion"):
            block.conv_tp, block.conv_fusion = convolution, True
    quicken_atoms(model)
    embedding = model.radial_embedding
    if not hasattr(embedding, "distance_transform") and getattr(embedding, "apply_cutoff", True):
        for block in blocks:
            block.conv_tp_weights = RadialTable(embedding, block.conv_tp_weights, float(model.r_max))  # type: ignore[arg-type]
        model.radial_embedding = _Lengths()
    return model


def quicken_atoms(model: torch.nn.Module) -> None:
    """Replace, in place, what MACE computes for each atom, where it can be had faster; the parameters stay where they are."""
    mace: Any = model  # its parts have no declared types
    for block in mace.interactions:
        linear = SpeciesLinear.of(block.skip_tp)
        if linear is not None:
            block.skip_tp = linear
    for product in mace.products:
        contractions = product.symmetric_contractions.contractions
        for k in range(len(contractions)):
            contraction = ScalarContraction.of(contractions[k])
            if contraction is not None:
                contractions[k] = contraction


class _Lengths(torch.nn.Module):
    """Hands the lengths of edges on to the tables, in the place of a radial embedding."""

    def forward(
        self, lengths: torch.Tensor, node_attrs: torch.Tensor, edge_index: torch.Tensor, atomic_numbers: torch.Tensor
    ) -> tuple[torch.Tensor, None]:
        return lengths, None


class RadialTable(torch.nn.Module):
    """The weights of a convolution as functions of the length of the edge, by cubic Hermite interpolation.

    Its error is that of the fourth derivative times h⁴/384, below 1e-10 of the values with 4,096 points.

    :param embedding: the radial embedding, lengths (E, 1) to basis functions.
    :param network: basis functions to weights (E, C).
    :param r_max: where the weights end, in Å.
    """

    table: torch.Tensor

    def __init__(self, embedding: torch.nn.Module, network: torch.nn.Module, r_max: float) -> None:
        super().__init__()
        like = next(network.parameters())
        self.spacing = (r_max - _SHORTEST) / (_POINTS - 1)
        self.longest = r_max
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.float64)
        try:
            exact = torch.nn.ModuleList([_copy(embedding), _copy(network)])
            lengths = torch.linspace(_SHORTEST, r_max, _POINTS, dtype=torch.float64)[:, None]

            def weights(r: torch.Tensor) -> torch.Tensor:
                nothing = torch.zeros(0)
                return exact[1](exact[0](r, nothing, nothing, nothing)[0])

            values, slopes = torch.func.jvp(weights, (lengths,), (torch.ones_like(lengths),))  # type: ignore[misc]
        finally:
            torch.set_default_dtype(before)
        rows = torch.stack([values, slopes * self.spacing], 1).reshape(2 * _POINTS, -1).detach()
        self.register_buffer("table", rows.to(dtype=like.dtype, device=like.device), persistent=False)

    def forward(self, lengths: torch.Tensor) -> torch.Tensor:
        """Interpolate, (E, 1) -> (E, C)."""
        place = (lengths[:, 0].clamp(_SHORTEST, self.longest) - _SHORTEST) / self.spacing
        left = place.detach().floor().clamp(max=_POINTS - 2)
        t = place - left
        s = 1 - t
        basis = torch.stack([(1 + 2 * t) * s * s, t * s * s, t * t * (3 - 2 * t), -t * t * s], 1)
        rows = 2 * left.long()[:, None] + torch.arange(4, device=lengths.device)
        return functional.embedding_bag(rows, self.table, per_sample_weights=basis, mode="sum")


class ScalarConvolution(torch.nn.Module):
    """Sum over the edges of each receiver of weights × sender ⊗ spherical harmonics, for senders that are scalars.

    :param channels: C of the senders.
    :param degrees: l of each output, which is (C, 2l + 1) for each atom.
    :param slices: where each l stands in the spherical harmonics.
    :param factors: normalisation of each output.
    """

    def __init__(self, channels: int, degrees: list[int], slices: list[slice], factors: list[float]) -> None:
        super().__init__()
        self.channels, self.degrees, self.slices, self.factors = channels, degrees, slices, factors

    @classmethod
    def of(cls, product: torch.nn.Module) -> ScalarConvolution | None:
        """Return what replaces e3nn's tensor product of senders and spherical harmonics, None if it is of another kind."""
        senders, harmonics = getattr(product, "irreps_in1", None), getattr(product, "irreps_in2", None)
        if senders is None or harmonics is None or len(senders) != 1 or senders[0].ir.l != 0 or senders[0].ir.p != 1:
            return None
        paths = list(product.instructions)  # type: ignore[arg-type]
        if any(p.connection_mode != "uvu" or not p.has_weight or p.i_out != k for k, p in enumerate(paths)):
            return None
        if any(harmonics[p.i_in2].mul != 1 for p in paths) or len(paths) != len(product.irreps_out):  # type: ignore[arg-type]
            return None
        channels = senders[0].mul
        slices = [harmonics.slices()[p.i_in2] for p in paths]
        like = next(iter(product.buffers()), torch.zeros(()))
        ones = [torch.ones(1, width, device=like.device, dtype=like.dtype) for width in (senders.dim, harmonics.dim)]
        weights = torch.ones(1, int(product.weight_numel), device=like.device, dtype=like.dtype)  # type: ignore[arg-type]
        with torch.no_grad():
            unit = product(*ones, weights)[0]
        factors = [float(unit[s.start]) for s in product.irreps_out.slices()]  # type: ignore[union-attr,operator]
        made = cls(channels, [harmonics[p.i_in2].ir.l for p in paths], slices, factors)
        return made if made._equals(product, like) else None

    def _equals(self, product: torch.nn.Module, like: torch.Tensor) -> bool:
        """Whether this gives what a tensor product and a sum over edges give."""
        generator = torch.Generator().manual_seed(0)
        count = 5 * TILE
        edges = torch.stack(
            [torch.randint(3, (count,), generator=generator), torch.tensor([0, 0, 1, 2, 2]).repeat_interleave(TILE)]
        )

        def random(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator).to(like)

        feats, harmonics = random(3, self.channels), random(count, product.irreps_in2.dim)  # type: ignore[union-attr,arg-type]
        weights = random(count, product.weight_numel)  # type: ignore[arg-type]
        edges = edges.to(like.device)
        with torch.no_grad():
            messages = product(feats[edges[0]], harmonics, weights)
            expected = torch.zeros(3, messages.shape[1]).to(messages).index_add_(0, edges[1], messages)
            return torch.allclose(self(feats, harmonics, weights, edges), expected, atol=1e-4)

    def forward(
        self, node_feats: torch.Tensor, edge_attrs: torch.Tensor, weights: torch.Tensor, edge_index: torch.Tensor
    ) -> torch.Tensor:
        """Return the sums, (N, ΣC(2l + 1)).

        :param node_feats: (N, C).
        :param edge_attrs: spherical harmonics of the edges, (E, Σ(2l + 1)).
        :param weights: (E, outputs · C).
        :param edge_index: senders and receivers, (2, E); always :data:`TILE` edges in a row have one receiver.
        """
        receivers = edge_index[1].view(-1, TILE)[:, 0]
        outer = self._sums(node_feats, edge_attrs, weights, edge_index[0], receivers)
        sums = []
        for p, (part, factor) in enumerate(zip(self.slices, self.factors, strict=True)):
            block = outer[:, p * self.channels : (p + 1) * self.channels, part]
            sums.append(block.reshape(len(node_feats), -1) * factor)
        return torch.cat(sums, 1)

    def _sums(
        self, node_feats: torch.Tensor, edge_attrs: torch.Tensor, weights: torch.Tensor, senders: torch.Tensor,
        receivers: torch.Tensor,
    ) -> torch.Tensor:  # fmt: skip
        """Sum (weights × sender) ⊗ harmonics over the edges of each receiver, (N, outputs · C, Σ(2l + 1))."""
        return _OuterProducts.apply(node_feats, edge_attrs, weights, senders, receivers)


class SpeciesLinear(torch.nn.Module):
    """A linear map of scalars with a matrix for each element: what e3nn's tensor product with a one-hot vector is.

    That multiplies by the zeros of the vector too, which for ninety elements takes most of the time.

    :param product: from C scalars and E elements to C' scalars; its parameters stay the parameters.
    """

    def __init__(self, product: torch.nn.Module, shape: tuple[int, int, int], factor: float) -> None:
        super().__init__()
        self.weight: Any = product.weight
        self.shape, self.factor = shape, factor

    @classmethod
    def of(cls, product: torch.nn.Module) -> SpeciesLinear | None:
        """Return what replaces a product, None if it is of another kind."""
        irreps: list[Any] = [getattr(product, name, None) for name in ("irreps_in1", "irreps_in2", "irreps_out")]
        weight: Any = getattr(product, "weight", None)
        if any(i is None or len(i) != 1 or i[0].ir.l != 0 or i[0].ir.p != 1 for i in irreps) or weight is None:
            return None
        shape = tuple(i[0].mul for i in irreps)
        if weight.numel() != shape[0] * shape[1] * shape[2]:
            return None
        with torch.no_grad():
            one, hot = torch.eye(shape[0]).to(weight), torch.zeros(shape[0], shape[1]).to(weight)
            hot[:, 0] = 1
            given, got = weight.view(shape)[:, 0], product(one, hot)
            largest = int(given.abs().argmax())
            factor = float((got.flatten()[largest] / given.flatten()[largest]).double())
            if not torch.allclose(got, factor * given, atol=1e-5 * float(got.abs().max())):
                return None
        return cls(product, shape, factor)

    def forward(self, scalars: torch.Tensor, elements: torch.Tensor) -> torch.Tensor:
        """Map (N, C) of atoms with the one-hot elements (N, E) to (N, C')."""
        matrices = self.weight.view(self.shape).transpose(0, 1) * self.factor
        species, result = elements.argmax(1), scalars.new_zeros(len(scalars), self.shape[2])
        for k in species.unique().tolist():
            rows = (species == k).nonzero()[:, 0]
            result = result.index_add(0, rows, scalars.index_select(0, rows) @ matrices[k])
        return result


class ScalarContraction(torch.nn.Module):
    """The invariants of first, second and third order of densities A_lm with l ≤ 2, times weights for each element.

    MACE sums over all pairs and triples of components; there are but a₀; a₀², |v|², |Q|²; a₀³, a₀|v|², a₀|Q|², vQv and det Q,
    with the vector v of l = 1 and the traceless matrix Q of l = 2. Its invariants are linear combinations of these, which are
    found by least squares.

    :param contraction: whose parameters stay the parameters.
    :param maps: for each order the combinations, (invariants of that order, MACE's).
    """

    matrix: torch.Tensor

    def __init__(self, contraction: torch.nn.Module, maps: list[torch.Tensor], matrix: torch.Tensor) -> None:
        super().__init__()
        self.weights, self.weights_max, self.correlation = contraction.weights, contraction.weights_max, len(maps)
        like = contraction.weights_max
        for order, combination in enumerate(maps, 1):
            self.register_buffer(f"map_{order}", combination.to(like), persistent=False)  # type: ignore[arg-type]
        self.register_buffer("matrix", matrix.to(like), persistent=False)  # type: ignore[arg-type]

    @classmethod
    def of(cls, contraction: torch.nn.Module) -> ScalarContraction | None:
        """Return what replaces a contraction to a scalar, None if it is of another kind."""
        from e3nn.o3 import wigner_3j

        correlation = getattr(contraction, "correlation", 0)
        components = [str(i.ir) for i in getattr(contraction, "coupling_irreps", ())]
        if components != ["0e", "1o", "2e"] or correlation not in (1, 2, 3):
            return None
        generator = torch.Generator().manual_seed(0)
        a = torch.randn(200, 9, generator=generator, dtype=torch.float64)
        matrix = wigner_3j(1, 1, 2, dtype=torch.float64).reshape(9, 5)[[0, 4, 8, 1, 2, 5]].T.contiguous()
        known, maps = _invariants(a, matrix), []
        for order in range(1, correlation + 1):
            u = contraction.U_tensors(order).double().cpu()  # type: ignore[operator]
            if u.ndim != order + 1:
                return None
            values = torch.einsum(f"{'ijl'[:order]}k," + ",".join(f"n{x}" for x in "ijl"[:order]) + "->nk", u, *[a] * order)
            combination = torch.linalg.lstsq(known[order - 1], values, driver="gelsd").solution
            if not torch.allclose(known[order - 1] @ combination, values, atol=1e-4 * float(values.abs().max())):
                return None
            maps.append(combination)
        return cls(contraction, maps, matrix)

    def forward(self, densities: torch.Tensor, elements: torch.Tensor) -> torch.Tensor:
        """Return the weighted sums, (N, C, 9) and one-hot elements (N, E) -> (N, C)."""
        species = elements.argmax(1)
        invariants = _invariants(densities, self.matrix)
        result: torch.Tensor | None = None
        for order in range(1, self.correlation + 1):
            weights = self.weights_max if order == self.correlation else self.weights[self.correlation - 1 - order]  # type: ignore[index]
            table = torch.einsum("ik,ekc->eci", getattr(self, f"map_{order}"), weights)
            part = (table.index_select(0, species) * invariants[order - 1]).sum(-1)
            result = part if result is None else result + part
        return result  # type: ignore[return-value]


def _invariants(a: torch.Tensor, matrix: torch.Tensor) -> list[torch.Tensor]:
    """Return the invariants of each order of densities (…, 9): (…, 1), (…, 3), (…, 5).

    :param matrix: from the components of l = 2 to xx, yy, zz, xy, xz, yz of Q, in the axes of the components of l = 1, (5, 6).
    """
    a0 = a[..., 0]
    x, y, z = a[..., 1:4].unbind(-1)
    xx, yy, zz, xy, xz, yz = (a[..., 4:9] @ matrix).unbind(-1)
    v2, q2 = x * x + y * y + z * z, (a[..., 4:9] ** 2).sum(-1)
    vqv = xx * x * x + yy * y * y + zz * z * z + 2 * (xy * x * y + xz * x * z + yz * y * z)
    det = xx * (yy * zz - yz * yz) - xy * (xy * zz - yz * xz) + xz * (xy * yz - yy * xz)
    square = a0 * a0
    return [a0[..., None], torch.stack([square, v2, q2], -1), torch.stack([square * a0, a0 * v2, a0 * q2, vqv, det], -1)]


class _OuterProducts(torch.autograd.Function):
    """For each atom the sum over its edges of (weights × sender) ⊗ harmonics, (N, outputs · C, Σ(2l + 1)), tile by tile."""

    @staticmethod
    def forward(ctx, node_feats, edge_attrs, weights, senders, receivers):
        n, channels = node_feats.shape
        sent = node_feats.index_select(0, senders)
        messages = (weights.view(len(senders), -1, channels) * sent[:, None]).view(-1, TILE, weights.shape[1])
        harmonics = edge_attrs.reshape(-1, TILE, edge_attrs.shape[1])
        ctx.save_for_backward(sent, weights, senders, receivers, messages, harmonics)
        ctx.n = n
        tiles = torch.bmm(messages.transpose(1, 2), harmonics)
        return tiles.new_zeros(n, *tiles.shape[1:]).index_add_(0, receivers, tiles)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradient):
        sent, weights, senders, receivers, messages, harmonics = ctx.saved_tensors
        channels = sent.shape[1]
        tiles = gradient.index_select(0, receivers)
        by_harmonics = torch.bmm(messages, tiles).view(-1, harmonics.shape[2])
        by_message = torch.bmm(harmonics, tiles.transpose(1, 2)).view(len(senders), -1, channels)
        by_sender = sent.new_zeros(ctx.n, channels)
        by_sender.index_add_(0, senders, (by_message * weights.view_as(by_message)).sum(1))
        by_weight = by_message.mul_(sent[:, None]).view_as(weights)
        return by_sender, by_harmonics, by_weight, None, None


def _copy(module: torch.nn.Module) -> torch.nn.Module:
    """Return a copy in float64 on the CPU."""
    return copy.deepcopy(module).to(device="cpu", dtype=torch.float64)
