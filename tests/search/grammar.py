"""The grammar of the search: what a program may compute, as templates by the kind of value that they make.

Values with n rows: ``{row}`` (n,), ``{mat}`` (n, 4) and ``{cube}`` (n, 2, 3) are floating, ``{label}`` is int64 in 0 to
3, ``{small}`` a narrow whole number, ``{flag}`` a truth, ``{comp}`` complex, ``{bag}`` a floating vector of whatever
length, ``{four}`` has 4 numbers, ``{one}`` has one, ``{num}`` is a Python number.  The rest are literals: ``{C}`` a
number, ``{D}`` 0 to 3, ``{N}`` a size near that of a batch, ``{Q}`` a share, ``{T}`` True or False, ``{M}`` a reduction
of a loss, ``{S}`` and ``{I}`` one of a scatter.  ``{new}`` is the variable that a block of statements makes.
"""

from __future__ import annotations

#: Of the same kind for every row: what is computed within one sample.
WITHIN = """
row: {row} + {row}
row: {row} * {row} - {row}
row: {row} * {C} + {C}
row: {row} / (1 + {row}.abs())
row: torch.tanh({row})
row: torch.expm1(-{row}.abs())
row: torch.erf({row})
row: {row}.square().add(0.1).rsqrt()
row: torch.where({flag}, {row}, {C})
row: torch.where({row} > {C}, {row}, -{row})
row: {row}.clamp({C}, {C} + 2)
row: {row}.floor()
row: {row}.frac()
row: {row}.remainder(3)
row: {row}.sign()
row: {row}.masked_fill({flag}, {C})
row: {row}.nan_to_num({C})
row: torch.heaviside({row}, {row})
row: torch.atan2({row}, {row})
row: torch.fmax({row}, {row})
row: torch.copysign({row}, {row})
row: torch.lerp({row}, {row}, {Q})
row: {label}.to(x.dtype)
row: {small}.to(x.dtype)
row: {flag}.to(x.dtype)
row: {mat}[:, {D}]
row: {mat}.sum(1)
row: {mat}.std(1)
row: {mat}.amax(-1)
row: {mat}.logsumexp(1)
row: {mat}.median(1).values
row: {mat}.kthvalue(2, 1).values
row: {mat}.mode(1).values
row: {mat}.quantile({Q}, dim=1)
row: {mat}.prod(1)
row: {mat}.argmax(1).to(x.dtype)
row: {mat}.norm(p=3, dim=1)
row: {mat}.gather(1, {label}[:, None])[:, 0]
row: ({mat} * {mat}).sum(1)
row: torch.einsum('nd,nd->n', {mat}, {mat})
row: F.cosine_similarity({mat}, {mat}, dim=1)
row: F.pairwise_distance({mat}, {mat})
row: torch.linalg.vector_norm({cube}, dim=(1, 2))
row: {cube}.mean((1, 2))
row: {cube}.amax(2)[:, 0]
row: {cube}.diagonal(dim1=1, dim2=2).sum(-1)
row: torch.tensor([0.5, -1.0, 2.0, 3.0], dtype=x.dtype)[{label}]
row: F.cross_entropy({mat}, {label}, reduction='none')
row: F.mse_loss({row}, {row}, reduction='none')
row: {comp}.abs()
row: {comp}.real
row: torch.view_as_real({comp})[:, 1]
row: {mat}.unbind(1)[{D}]
row: {mat}.split(2, 1)[1].sum(1)
row: {row}.half().to(x.dtype)
row: {row}.bfloat16().to(x.dtype)
row: {row}.view(-1, 1).expand(n, 4)[:, {D}]
row: {row}.double().sinh().to(x.dtype)
row: {mat}.select(1, {D})
row: {mat}.flatten(1).mean(1)
row: torch.bmm({cube}, {cube}.transpose(1, 2)).sum((1, 2))
mat: {mat} + {mat}
mat: {mat} * {row}[:, None]
mat: {mat} - {mat}.mean(1, keepdim=True)
mat: torch.softmax({mat}, 1)
mat: F.log_softmax({mat}, 1)
mat: F.normalize({mat}, dim=1)
mat: F.layer_norm({mat}, (4,))
mat: {mat}.cumsum(1)
mat: {mat}.cumprod(1)
mat: {mat}.cummax(1).values
mat: {mat}.logcumsumexp(1)
mat: {mat}.sort(1).values
mat: {mat}.argsort(1).argsort(1).to(x.dtype)
mat: {mat}.flip(1)
mat: {mat}.roll(1, 1)
mat: {mat}.tril()[:, [1, 0, 3, 2]]
mat: {mat}.scatter(1, {label}[:, None], {C})
mat: {mat}.scatter(1, {label}[:, None], {row}[:, None])
mat: {mat}.scatter_add(1, {label}[:, None], {row}[:, None])
mat: {mat}.scatter_reduce(1, {label}[:, None], {row}[:, None], '{S}', include_self={T})
mat: {mat}.index_add(1, torch.tensor([{D}]), {row}[:, None])
mat: {mat}.select_scatter({row}, 1, {D})
mat: torch.take_along_dim({mat}, {mat}.argsort(1), 1)
mat: {mat} @ torch.arange(16, dtype=x.dtype).view(4, 4)
mat: F.linear({mat}, torch.ones(4, 4, dtype=x.dtype).tril(), torch.ones(4, dtype=x.dtype))
mat: torch.stack([{row}, {row}, {row}, {row}], 1)
mat: torch.cat([{mat}[:, :2], {mat}[:, 2:]], -1)
mat: F.one_hot({label}, 4).to(x.dtype)
mat: {mat}.masked_fill({flag}[:, None], {C})
mat: {mat}.view(n, 2, 2).transpose(1, 2).reshape(n, 4)
mat: {mat}.view(2 * n, 2).flip(1).view(n, 4)
mat: {mat}.view(-1).view(n, 4)
mat: {mat}.diff(dim=1, prepend={row}[:, None])
mat: {cube}.reshape(n, 6)[:, 1:5]
mat: {mat}.t().contiguous().t()
mat: {mat}.unflatten(1, (2, 2)).flatten(1)
mat: torch.outer({row}, torch.arange(4, dtype=x.dtype))
cube: {cube} * {cube}
cube: {cube} + {row}[:, None, None]
cube: {cube}.transpose(1, 2).reshape(n, 2, 3)
cube: {cube}.softmax(-1)
cube: {cube}.sort(1).values
cube: {cube}.flip(1, 2)
cube: {cube} - {cube}.amax((1, 2), keepdim=True)
cube: {cube}.cumsum(2)
cube: {mat}[:, [0, 1, 2, 3, 0, 1]].view(n, 2, 3)
cube: {mat}[:, :2, None] * {mat}[:, None, 1:]
label: {mat}.argmax(1)
label: ({label} + {D}) % 4
label: torch.where({flag}, {label}, {D})
label: {flag}.long() + {flag}.long()
label: torch.bucketize({row}, torch.tensor([-0.5, 0.0, 0.5], dtype=x.dtype))
label: {small}.long().remainder(4)
label: {mat}.topk(2, 1).indices[:, {T}.__int__()]
label: {mat}.sort(1).indices[:, {D}]
label: {label}.clamp(max={D})
label: (3 - {label}).abs()
label: torch.searchsorted(torch.tensor([-1.0, 0.0, 1.0], dtype=x.dtype), {row})
small: {small} + {small}
small: {small} // 3
small: {small} % 5
small: {small} * {small}
small: {small} & 3
small: {small} ^ {small}
small: -{small}
small: {small}.clamp(max={D})
small: {label}.to({small}.dtype)
small: {flag}.to({small}.dtype)
small: torch.where({flag}, {small}, {small})
small: torch.maximum({small}, {small})
flag: {row} > {C}
flag: {row} <= {row}
flag: {row} == {row}
flag: {label} == {D}
flag: {small} > 2
flag: {flag} & {flag}
flag: {flag} ^ {flag}
flag: ~{flag}
flag: {row}.isfinite()
flag: {row}.isnan()
flag: ({mat} > {C}).all(1)
flag: {mat}.argmax(1) == {label}
flag: torch.isin({label}, torch.tensor([0, 2]))
flag: {comp}.real > 0
flag: {mat}.isfinite().all(1)
comp: {comp} * {comp}
comp: {comp}.conj()
comp: {comp} + {row}
comp: torch.complex(real({row}), real({row}))
comp: torch.polar(real({row}).abs(), real({row}))
comp: {comp} * {row}
comp: {comp}.exp() / (1 + {comp}.abs())
comp: {comp} * 1j
"""

#: What mixes rows by their place: views across the batch, scans, sorts, pairs.
ACROSS = """
row: {mat}.reshape(-1)[:n]
row: {mat}.t().reshape(-1)[:n]
row: {mat}.t().reshape(n, 4)[:, {D}]
row: torch.cat([{row}, {row}]).view(n, 2)[:, 0]
row: torch.cat([{row}, {row}]).view(2, n)[1]
row: torch.stack([{row}, {row}], 1).view(2, n)[0]
row: torch.stack([{row}, {row}], 1).flatten()[::2]
row: torch.stack([{row}, {row}], 1).flatten()[:n]
row: torch.stack([{row}, {row}]).flatten()[n:]
row: {row}.repeat_interleave(2)[:n]
row: {row}.repeat_interleave(2).view(2, n)[1]
row: {row}.repeat(2).view(n, 2)[:, 1]
row: {row}.flip(0)
row: {row}.roll(1)
row: {row}.roll({D}, 0)
row: {row}[torch.arange(n - 1, -1, -1)]
row: torch.as_strided({mat}.contiguous(), (n,), (1,))
row: torch.as_strided({mat}.contiguous(), (n,), (4,))
row: F.pad({row}, (1, 0))[:n]
row: torch.cat([{row}[1:], {row}[:1]])
row: torch.cat([{row}[n // 2 :], {row}[: n // 2]])
row: {row}.cumsum(0)
row: {row}.cumsum(0) / torch.arange(1, n + 1)
row: ({row}.tanh() + 1).cumprod(0)
row: {row}.cummax(0).values
row: {row}.cummin(0).indices.to(x.dtype)
row: {row}.logcumsumexp(0)
row: {row}.diff(prepend={row}[:1])
row: {flag}.cumsum(0).to(x.dtype)
row: {small}.cumsum(0).to(x.dtype)
row: {row}.sort().values
row: {row}.sort(descending=True).indices.to(x.dtype)
row: {row}.argsort().to(x.dtype)
row: {row}.argsort().argsort().to(x.dtype)
row: {row}[{row}.argsort()]
row: {row}.gather(0, {row}.argsort())
row: {row}.index_select(0, {row}.argsort(stable=True))
row: {row}.scatter(0, {row}.argsort(), {row})
row: {row}.index_copy(0, {row}.argsort(), {row})
row: {row}.index_add(0, torch.arange(n), {row})
row: {row}.index_put(({label}.clamp(max=n - 1),), {row}, accumulate={T})
row: {row}.index_fill(0, torch.tensor([0]), {C})
row: {row}.masked_scatter({flag}, {row})
row: {row}.put(torch.arange(n), {row})
row: {row}.scatter_reduce(0, {label}.clamp(max=n - 1), {row}, '{S}', include_self={T})
row: {row}.slice_scatter({row}[:1], 0, n - 1, n)
row: torch.searchsorted({row}.sort().values, {row}).to(x.dtype)
row: torch.unique({row}, return_inverse=True)[1].to(x.dtype)
row: torch.unique({label}, return_inverse=True)[1].to(x.dtype)
row: torch.unique({label}, return_counts=True)[1].to(x.dtype)[torch.unique({label}, return_inverse=True)[1]]
row: ({row}[:, None] - {row}).abs().mean(1)
row: ({row}[:, None] > {row}).sum(1).to(x.dtype)
row: torch.diag({row}).sum(1)
row: torch.tril({row}[:, None] * {row}).sum(1)
row: ({mat} @ {mat}.t()).softmax(1).diagonal()
row: ({mat} @ {mat}.t()).triu(1).sum(0)
row: torch.cdist({mat}, {mat}).amin(1)
row: F.conv1d({row}[None, None], torch.ones(1, 1, 3, dtype=x.dtype), padding=1)[0, 0]
row: F.max_pool1d({row}[None, None], 3, 1, 1)[0, 0]
row: F.avg_pool1d({row}[None, None], 3, 1, 1)[0, 0]
row: {row} * torch.arange(n)
row: {row} * torch.linspace(0, 1, n, dtype=x.dtype)
row: torch.where(torch.arange(n) % 2 == 0, {row}, {C})
row: {row} / n
row: torch.fft.fft(real({row})).abs().to(x.dtype)
row: {row}.view(1, n).expand(4, n).reshape(n, 4)[:, {D}]
row: {row}[{label}.argsort(stable=True)]
row: {row}.clone().flipud()
row: {cube}.permute(1, 0, 2).reshape(n, 6)[:, {D}]
row: {row}.unfold(0, 1, 1)[:, 0]
row: torch.stack({row}.unbind(0)[::-1])
row: torch.cat([v.view(1) for v in {row}])
row: {row}.unsqueeze(0).t()[:, 0]
row: torch.kron({row}, torch.ones(2, dtype=x.dtype))[::2]
mat: {mat}.reshape(4, n).t()
mat: {mat}.t().reshape(n, 4)
mat: {mat}.t().contiguous().view(n, 4)
mat: {mat}.flip(0)
mat: {mat}.flip(0, 1)
mat: {mat}.roll(1)
mat: {mat}.roll(1, 0)
mat: torch.rot90({mat}, 2)
mat: {mat}.cumsum(0)
mat: {mat}.cummax(0).values
mat: {mat}.sort(0).values
mat: {mat}.msort()
mat: {mat}.argsort(0).to(x.dtype)
mat: {mat}[{row}.argsort()]
mat: {mat}[{mat}[:, 0].argsort()].cumsum(0)
mat: torch.take_along_dim({mat}, {mat}.argsort(0), 0)
mat: {mat}.diff(dim=0, prepend={mat}[:1])
mat: {row}.repeat(4).view(n, 4)
mat: {row}.repeat_interleave(4).view(4, n).t()
mat: torch.stack([{row}, {row}, {row}, {row}]).view(n, 4)
mat: torch.as_strided({mat}.contiguous(), (n, 4), (1, n))
mat: {mat}.tril()
mat: {mat}.triu(1)
mat: {mat}.gather(0, {label}.clamp(max=n - 1)[:, None].expand(n, 4))
mat: {mat}.scatter(0, {label}.clamp(max=n - 1)[:, None].expand(n, 4), {mat})
mat: {mat}.index_add(0, {label}.clamp(max=n - 1), {mat})
mat: {mat}.view(2 * n, 2).cumsum(0).view(n, 4)
mat: {mat}.view(2 * n, 2).roll(1, 0).view(n, 4)
mat: ({mat} @ {mat}.t()).softmax(1) @ {mat}
mat: F.scaled_dot_product_attention({mat}[None], {mat}[None], {mat}[None])[0]
mat: {mat}.repeat(2, 1)[::2]
cube: {cube}.transpose(0, 1).reshape(n, 2, 3)
cube: {cube}.movedim(0, 2).reshape(n, 2, 3)
cube: {cube}.flip(0)
cube: {cube}.cumsum(0)
cube: {cube}.sort(0).values
cube: {cube}.roll(1)
label: {row}.argsort() % 4
label: {label}.flip(0)
label: {label}.sort().values
label: {label}.cummax(0).values
label: {label}.cumsum(0) % 4
label: {label}[{row}.argsort()]
label: torch.arange(n) % 4
label: ({row}[:, None] > {row}).sum(1) % 4
small: {small}.flip(0)
small: {small}.sort().values
small: {small}.roll(1)
flag: {flag}.flip(0)
flag: {flag}.roll(1)
flag: {flag}.cumsum(0) > {D}
flag: torch.arange(n) < n // 2
flag: {row}.argsort().argsort() < n // 2
flag: {row} == {row}.roll(1)
flag: {row} >= {row}.cummax(0).values
comp: torch.fft.fft(real({row}))
comp: {comp}.flip(0)
comp: {comp}.cumsum(0)
comp: {comp}.roll(1)
bag: {row}.unfold(0, 2, 1).amax(1)
bag: {row}.unfold(0, 3, 2).sum(1)
bag: {row}.diff()
bag: {row}[1:] * {row}[:-1]
bag: {row}[: {N}]
bag: {row}[n // 2 :]
bag: {row}[::2]
bag: {row}[1:]
bag: {row}.narrow(0, 0, min(n, {N}))
bag: {row}.chunk(2)[0]
bag: {row}.tensor_split(3)[1]
bag: {row}.split(max(1, n // 2))[0]
bag: {row}.topk(min(3, n)).values
bag: {row}.topk(min(3, n)).indices.to(x.dtype)
bag: {mat}.diagonal()
bag: {row}[{label}]
bag: {row}.take({label})
bag: torch.unique({row})
bag: torch.unique_consecutive({row})
bag: torch.unique({label}).to(x.dtype)
bag: torch.unique({label}, return_counts=True)[1].to(x.dtype)
bag: torch.pdist({mat})
bag: torch.combinations({row}[:8], 2).prod(1)
bag: {row}[{row} == {row}.max()]
bag: {row}[{flag}][:3]
bag: {row}[{flag}].cumsum(0)
bag: {row}[{flag}].sort().values
bag: torch.nonzero({flag})[:, 0].to(x.dtype)
bag: {bag}.diff()
bag: {bag}.flip(0)
bag: {bag}.sort().values
bag: torch.cat([{bag}, {row}])
bag: torch.cartesian_prod({row}[:5], {row}[:5]).sum(1)
bag: torch.stack([{row}[:1], {row}[-1:]]).view(-1)
bag: F.interpolate({row}[None, None], scale_factor=2)[0, 0]
bag: F.max_pool1d({row}[None, None], 2, ceil_mode=True)[0, 0]
"""

#: Selections: bags of rows that no order matters to.
SELECT = """
bag: {row}[{flag}]
bag: {mat}[{flag}].sum(1)
bag: {mat}[{flag}].flatten()
bag: {mat}[torch.arange(n), {label}]
bag: torch.masked_select({row}, {flag})
bag: {bag} * {C}
bag: {bag}.abs()
bag: torch.cat([{row}, {row}])
bag: torch.cat([{bag}, {bag}])
bag: {mat}.reshape(-1)
bag: {mat}.t().reshape(-1)
bag: {cube}.flatten()
bag: {row}[{label} == {D}]
bag: {row}.repeat(2)
bag: {row}.repeat_interleave(2)
bag: {row}[{flag}.nonzero()[:, 0]]
bag: {bag}[{bag} > {C}]
"""

#: From rows to a few numbers.
REDUCE = """
one: {row}.sum()
one: {row}.mean()
one: {row}.amax()
one: {row}.min()
one: {row}.std()
one: {row}.var(correction=0)
one: {row}.norm()
one: {row}.norm(p=1)
one: {row}.norm(p=float('inf'))
one: torch.linalg.vector_norm({row}, 3)
one: {row}.logsumexp(0)
one: {row}.nansum()
one: {row}.nanmean()
one: ({row}.tanh() + 1).prod()
one: {row}.count_nonzero().to(x.dtype)
one: torch.std_mean({row})[{T}.__int__()]
one: torch.aminmax({row})[{T}.__int__()]
one: {flag}.sum().to(x.dtype)
one: {flag}.any().to(x.dtype)
one: {flag}.all().to(x.dtype)
one: {flag}.to(x.dtype).mean()
one: {label}.max().to(x.dtype)
one: {label}.sum().to(x.dtype)
one: {label}.double().mean().to(x.dtype)
one: {small}.sum().to(x.dtype)
one: {small}.max().to(x.dtype)
one: {small}.min().to(x.dtype)
one: {small}.prod().to(x.dtype)
one: {small}.double().mean().to(x.dtype)
one: {small}.sum(dtype={small}.dtype).to(x.dtype)
one: {comp}.sum().abs()
one: {comp}.mean().real
one: {comp}.abs().max()
one: torch.vdot({comp}, {comp}).real
one: {comp}.var()
one: {comp}.prod().angle()
one: {mat}.sum()
one: {mat}.mean(0).norm()
one: {mat}.std()
one: {mat}.amax((0, 1))
one: {cube}.mean()
one: {cube}.sum((0, 2)).prod()
one: {cube}.amax(0).sum()
one: torch.dot({row}, {row})
one: torch.einsum('n,n->', {row}, {row})
one: ({mat}.t() @ {mat}).trace()
one: ({mat}.t() @ {mat}).det()
one: {bag}.sum()
one: {bag}.mean()
one: {bag}.std()
one: {bag}.numel() * {C} + {bag}.sum()
one: {bag}.square().sum()
one: {row}.sum() / n
one: ({row} * {flag}).sum() / {flag}.sum().clamp(min=1)
one: ({row} - {row}.mean()).square().mean()
one: ({row} - {row}.mean()).mul({row} - {row}.mean()).sum()
one: F.mse_loss({row}, {row}, reduction='{M}').sum()
one: F.l1_loss({mat}, {mat}, reduction='{M}').sum()
one: F.smooth_l1_loss({row}, {row}, reduction='{M}', beta=0.5).sum()
one: F.huber_loss({row}, {row}, reduction='{M}', delta=0.7).sum()
one: F.cross_entropy({mat}, {label}, reduction='{M}').sum()
one: F.cross_entropy({mat}, {label}, reduction='{M}', ignore_index={D}).sum()
one: F.cross_entropy({mat}, {label}, reduction='{M}', label_smoothing=0.1).sum()
one: F.cross_entropy({mat}, {label}, torch.tensor([0.1, 1.0, 2.0, 0.5], dtype=x.dtype), reduction='{M}').sum()
one: F.cross_entropy({mat}, {mat}.softmax(1), reduction='{M}').sum()
one: F.nll_loss({mat}.log_softmax(1), {label}, reduction='{M}').sum()
one: F.binary_cross_entropy({row}.sigmoid(), {flag}.to(x.dtype), reduction='{M}').sum()
one: F.binary_cross_entropy_with_logits({row}, {flag}.to(x.dtype), {row}.abs(), reduction='{M}').sum()
one: F.binary_cross_entropy_with_logits({row}, {flag}.to(x.dtype), pos_weight=torch.tensor(2.0, dtype=x.dtype))
one: F.kl_div({mat}.log_softmax(1), {mat}.softmax(1), reduction='{M}').sum()
one: F.kl_div({mat}.log_softmax(1), {mat}.softmax(1), reduction='batchmean')
one: F.poisson_nll_loss({row}.clamp(max=5), {row}.abs(), reduction='{M}').sum()
one: F.gaussian_nll_loss({row}, {row}, {row}.abs() + 0.1, reduction='{M}').sum()
one: F.hinge_embedding_loss({row}, {flag}.to(x.dtype) * 2 - 1, reduction='{M}').sum()
one: F.soft_margin_loss({row}, {flag}.to(x.dtype) * 2 - 1, reduction='{M}').sum()
one: F.margin_ranking_loss({row}, {row}, {flag}.to(x.dtype) * 2 - 1, reduction='{M}').sum()
one: F.multi_margin_loss({mat}, {label}, reduction='{M}').sum()
one: F.triplet_margin_loss({mat}, {mat}, {mat}, reduction='{M}').sum()
one: F.cosine_embedding_loss({mat}, {mat}, {flag}.to(x.dtype) * 2 - 1, reduction='{M}').sum()
one: F.multilabel_soft_margin_loss({mat}, F.one_hot({label}, 4).to(x.dtype), reduction='{M}').sum()
one: torch.histc({row}, 4, -2, 2)[{D}]
one: torch.bincount({label}, minlength=4)[{D}].to(x.dtype)
one: torch.cov({mat}.t())[0, {D}]
one: torch.linalg.norm({mat})
four: {mat}.sum(0)
four: {mat}.mean(0)
four: {mat}.amax(0)
four: {mat}.min(0).values
four: {mat}.std(0)
four: {mat}.var(0, correction=0)
four: {mat}.logsumexp(0)
four: {mat}.norm(dim=0)
four: {mat}.nansum(0)
four: {mat}.count_nonzero(0).to(x.dtype)
four: ({mat} > {C}).sum(0).to(x.dtype)
four: ({mat} > {C}).any(0).to(x.dtype)
four: {mat}.t() @ {row}
four: {row} @ {mat}
four: torch.mv({mat}.t(), {row})
four: torch.einsum('nd,n->d', {mat}, {row})
four: torch.tensordot({row}, {mat}, dims=1)
four: ({mat}.t() @ {mat})[{D}]
four: ({mat}.t() @ {mat}).diagonal()
four: torch.addmm(torch.ones(4, 4, dtype=x.dtype), {mat}.t(), {mat})[{D}]
four: torch.linalg.solve({mat}.t() @ {mat} + torch.eye(4, dtype=x.dtype), torch.ones(4, dtype=x.dtype))
four: torch.linalg.eigvalsh({mat}.t() @ {mat})
four: torch.corrcoef({mat}.t())[{D}]
four: torch.zeros(4, dtype=x.dtype).scatter_add(0, {label}, {row})
four: torch.full((4,), {C}, dtype=x.dtype).scatter_add(0, {label}, {row})
four: torch.zeros(4, dtype=x.dtype).index_add(0, {label}, {row}, alpha={C})
four: torch.ones(4, dtype=x.dtype).index_add(0, {label}, {row})
four: torch.zeros(4, dtype=x.dtype).scatter_reduce(0, {label}, {row}, '{S}', include_self={T})
four: torch.ones(4, dtype=x.dtype).scatter_reduce(0, {label}, {row}, '{S}', include_self={T})
four: torch.full((4,), {C}, dtype=x.dtype).scatter_reduce(0, {label}, {row}, '{S}', include_self={T})
four: torch.zeros(4, dtype=x.dtype).index_reduce(0, {label}, {row}, '{I}', include_self={T})
four: torch.ones(4, dtype=x.dtype).index_reduce(0, {label}, {row}, '{I}', include_self={T})
four: torch.zeros(4, dtype=x.dtype).index_put(({label},), {row}, accumulate=True)
four: torch.ones(4, dtype=x.dtype).put({label}, {row}, accumulate=True)
four: torch.bincount({label}, minlength=4).to(x.dtype)
four: torch.bincount({label}, weights={row}, minlength=4).to(x.dtype)
four: torch.bincount({label}).to(x.dtype).sum().expand(4)
four: F.one_hot({label}, 4).sum(0).to(x.dtype)
four: F.one_hot({label}, 4).to(x.dtype).t() @ {row}
four: torch.stack([{row}[{label} == k].sum() for k in range(4)])
four: torch.stack([{row}[{label} == k].mean() for k in range(4)])
four: torch.stack([({label} == k).sum() for k in range(4)]).to(x.dtype)
four: torch.histc({row}, 4, -1, 1)
four: {mat}[{flag}].sum(0)
four: {mat}[{flag}].mean(0)
four: {cube}.reshape(n, 6)[:, :4].mean(0)
"""

#: From rows to a few numbers by their place, rank or pairs.
PICK = """
one: {row}[0]
one: {row}[-1]
one: {row}[n // 2]
one: {row}[0] - {row}[-1]
one: {row}.median()
one: {row}.nanmedian()
one: {row}.quantile({Q})
one: {row}.nanquantile({Q})
one: {row}.mode().values
one: {row}.kthvalue(n // 2 + 1).values
one: {row}.argmax().to(x.dtype)
one: {row}.max(0).indices.to(x.dtype)
one: {flag}.to(torch.uint8).argmax().to(x.dtype)
one: {row}[{row}.argmax()]
one: {row}[{row}.argmin()]
one: {bag}[0]
one: {bag}.max()
one: {bag}.median()
one: {row}.diff().abs().sum()
one: torch.trapezoid({row})
one: torch.trapezoid({row}, {row})
one: {row}.cumsum(0).amax()
one: torch.unique({label}).numel() * {one}
one: ({row}[:, None] - {row}).abs().mean()
one: ({row}[:, None] > {row}).to(x.dtype).mean()
one: (({row}[:, None] > {row}) & ({label}[:, None] > {label})).sum().to(x.dtype)
one: torch.pdist({mat}).mean()
one: torch.cdist({mat}, {mat}).amax()
one: ({mat} @ {mat}.t()).tril().sum()
one: F.cross_entropy({mat} @ {mat}.t(), torch.arange(n))
one: torch.linalg.matrix_norm({mat}, 2)
one: {row}.tolist()[0] * {one}
one: sum({row}.tolist()) + {one}
one: {mat}.view(-1)[n]
one: torch.histc({row}, 3)[1]
one: {mat}.diagonal().sum()
one: {row}.topk(max(1, n // 4)).values.mean()
one: {row}.sort().values[: n // 2 + 1].mean()
one: torch.corrcoef(torch.stack([{row}.argsort().argsort().to(x.dtype), {row}.argsort().argsort().to(x.dtype)]))[0, 1]
four: {mat}[0]
four: {mat}[-1]
four: {mat}[{row}.argmax()]
four: {mat}.median(0).values
four: {mat}.quantile({Q}, dim=0)
four: {mat}.mode(0).values
four: {mat}.argmax(0).to(x.dtype)
four: {mat}.sort(0).values[n // 2]
four: torch.zeros(4, dtype=x.dtype).scatter(0, {label}, {row})
four: torch.zeros(4, dtype=x.dtype).index_put(({label},), {row})
four: torch.zeros(4, dtype=x.dtype).index_copy(0, {label}[:1], {row}[:1])
four: torch.zeros(4, dtype=x.dtype).put({label}, {row})
four: torch.full((4,), {C}, dtype=x.dtype).scatter(0, {label}, {row}, reduce='add')
four: torch.ones(4, dtype=x.dtype).scatter(0, {label}, {row}.tanh(), reduce='multiply')
four: {mat}.reshape(4, -1).sum(1)
four: {mat}.reshape(4, -1).amax(1)
four: {mat}.t().reshape(-1, 4).mean(0)
four: torch.stack([{row}, {row}, {row}, {row}], 1).view(4, n).sum(1)
four: {row}.repeat(4).view(n, 4).sum(0)
four: {row}.repeat_interleave(4).view(4, n).amax(1)
four: F.adaptive_avg_pool1d({row}[None, None], 4)[0, 0]
four: {mat}.cumsum(0)[-1]
"""

#: After the sums.
AFTER = """
one: {one} + {one}
one: {one} * {one}
one: {one} / ({one}.abs() + 1)
one: {one}.abs().sqrt()
one: torch.log1p({one}.abs())
one: {one} * {C}
one: {one} - {C}
one: {one} / n
one: {one} * {num}
one: {one} + {num}
one: torch.maximum({one}, {one})
one: torch.where({one} > {C}, {one}, {one})
one: {four}.sum()
one: {four}.max()
one: {four}[{D}]
one: {four}.std()
one: {four}.argmax().to(x.dtype)
one: ({four} * {four}).sum()
one: {four}.nanmean()
one: {four}.median()
one: {four}.norm()
four: {four} + {four}
four: {four} / ({four}.abs() + 1)
four: {four} * {one}
four: {four}.softmax(0)
four: {four}.sort().values
four: {four}.cumsum(0)
four: {four}.flip(0)
four: {four} / {four}.sum()
four: {four}.where({four} > {C}, {one})
four: torch.stack([{one}, {one}, {one}, {one}])
num: {one}.item()
num: float({one})
num: n // 3 + 1
num: max(n - 1, 1)
num: len({bag})
num: int({flag}.sum())
num: {label}.max().item()
num: n ** 0.5
num: int({row}.argmax())
num: min(n, {N})
num: round(float({row}.tanh().mean()), 3)
"""

#: What a batch's numbers do to its own rows.
COUPLE = """
row: {row} - {row}.mean()
row: ({row} - {row}.mean()) / ({row}.std() + 0.1)
row: {row} - {one}
row: {row} * {one}
row: {row} / ({one}.abs() + 1)
row: {row} - {row}.amax()
row: {row}.clamp(max={one})
row: {four}[{label}]
row: {mat} @ {four}
row: torch.softmax({row}, 0)
row: F.log_softmax({row}, 0)
row: torch.where({row} > {one}, {row}, {one})
row: torch.exp({row}.clamp(-3, 3) - {row}.clamp(-3, 3).max())
row: ({row} - {row}.min()) / ({row}.max() - {row}.min() + 0.1)
row: {row} ** 2 * {one}
row: torch.lerp({row}, {row}, {one}.sigmoid())
row: {row} * {num}
mat: {mat} - {mat}.mean(0)
mat: {mat} / ({mat}.norm(dim=0) + 1)
mat: torch.softmax({mat}, 0)
mat: F.log_softmax({mat}, 0)
mat: F.normalize({mat}, dim=0)
mat: F.batch_norm({mat}, None, None, training=True)
mat: {mat} @ ({mat}.t() @ {mat} / n)
mat: {mat} * {four}
mat: {mat} - {mat}.amax()
mat: F.layer_norm({mat}, (4,)) - {four}
mat: {mat} @ torch.linalg.solve({mat}.t() @ {mat} + torch.eye(4, dtype=x.dtype), torch.eye(4, dtype=x.dtype))
flag: {row} > {one}
flag: {row} >= {row}.mean()
flag: {row} == {row}.max()
flag: {label} == {label}.max()
label: {four}.argsort()[{label}]
label: ({row} > {one}).long()
one: F.cross_entropy({mat}, {label}, {four}.abs() + 0.1)
one: ({row} - {one}).abs().mean()
one: {row}[{row} > {one}].sum()
one: {row}[{flag}].var(correction=0)
one: {row}.std() / ({row}.mean().abs() + 1)
one: (({row} - {row}.mean()) * ({row} - {row}.mean())).sum() / ({row}.std() * {row}.std() + 0.1)
one: (({row} - {row}.mean()) ** 4).mean()
one: ((({mat} - {mat}.mean(0)).t() @ ({mat} - {mat}.mean(0))) / n)[0, {D}]
one: {row}.sum() / {num}
"""

#: Statements: branches, writes in place, buffers, loops over classes; a blank line between two.
BLOCKS = """
row: {new} = {row}.clone()
{new}[{flag}] = {C}

row: {new} = {row}.clone()
{new}[{flag}] = {row}[{flag}]

row: {new} = {row}.clone()
{new}[0] = {C}

row: {new} = {row}.clone()
{new}[1:] += {row}[:-1]

row: {new} = {row}
{new}[{flag}] = {C}

row: {new} = torch.zeros_like({row})
{new}[{row}.argsort()] = {row}

row: {new} = torch.empty_like({row})
{new}.copy_({row})
{new}.mul_({C}).add_({row})

row: {new} = torch.zeros(n, dtype=x.dtype)
for k in range(4):
    {new}[{label} == k] = {row}[{label} == k].mean()

row: if {one} > {C}:
    {new} = {row} * 2
else:
    {new} = {row} - {row}

row: if {flag}.any():
    {new} = {row} + 1
else:
    {new} = {row} * 3

row: if bool(({row} == {row}[0]).all()):
    {new} = {row} * 0
else:
    {new} = {row} - {row}.mean()

row: {new} = {row}.clone()
{new}.masked_scatter_({flag}, {row})

row: {new} = {row}.clone()
{new}.scatter_(0, {label}.clamp(max=n - 1), {row})

row: {new} = {row}.clone()
{new}.clamp_(min={C})
{new} -= {one}

row: {new} = {row}.clone()
for i in range(1, min(n, 4)):
    {new}[i] = {new}[i - 1] * 0.5 + {row}[i]

mat: {new} = {mat}.clone()
{new}[:, {D}] = {row}

mat: {new} = {mat}.clone()
{new}[{flag}] = {four}

mat: {new} = torch.zeros(n, 4, dtype=x.dtype)
{new}[torch.arange(n), {label}] = {row}

mat: {new} = {mat}.clone()
{new}.fill_diagonal_({C})

mat: {new} = {mat}.clone()
{new}.t()[{D}].mul_({C})

mat: {new} = {mat}.clone()
{new}[0] = {four}

mat: {new} = {mat}.clone()
{new}.view(-1)[: n] = {C}

one: if {one}.item() < {C}:
    {new} = {one} + 1
else:
    {new} = {one} * 2

one: {new} = torch.zeros((), dtype=x.dtype)
for k in range(4):
    if ({label} == k).any():
        {new} = {new} + {row}[{label} == k].mean()

one: {new} = torch.zeros((), dtype=x.dtype)
for k in torch.unique({label}).tolist():
    {new} += {row}[{label} == k].sum() ** 2

one: if not {flag}.any():
    {new} = {one} * 0
else:
    {new} = {row}[{flag}].mean()

one: if {label}.max() > 2:
    {new} = {row}.mean()
else:
    {new} = {row}.amax()

one: if n > {N}:
    {new} = {one} * 2
else:
    {new} = {one}

one: if {row}.isnan().any():
    {new} = {row}.nanmean()
else:
    {new} = {row}.mean()

one: if {row}.abs().max() > 100:
    {new} = {row}.abs().log1p().mean()
else:
    {new} = {row}.square().mean()

one: if {row}.min() >= 0 and {row}.max() <= 1:
    {new} = {row}.mean()
else:
    {new} = {row}.sigmoid().mean()

one: {new} = {row}[0]
for v in {row}[1:4]:
    {new} = {new} * 0.5 + v

one: {new} = {one}
while 4 < {new} < 1e30:
    {new} = {new} / 2

four: {new} = torch.zeros(4, dtype=x.dtype)
{new}[{label}] = {row}

four: {new} = torch.zeros(4, dtype=x.dtype)
{new}.index_add_(0, {label}, {row})
{new} /= n

four: {new} = torch.ones(4, dtype=x.dtype)
{new}.index_put_(({label},), {row}, accumulate={T})

four: {new} = torch.full((4,), {C}, dtype=x.dtype)
{new}.scatter_reduce_(0, {label}, {row}, '{S}', include_self={T})

four: {new} = torch.zeros(4, dtype=x.dtype)
for k in range(4):
    if ({label} == k).any():
        {new}[k] = {row}[{label} == k].amax()

four: {new} = torch.zeros(4, dtype=x.dtype)
{new}[{D}] = {one}
{new} += {four}

four: {new} = torch.full((4,), float('-inf'), dtype=x.dtype)
{new} = torch.maximum({new}, {mat}.amax(0))
"""

Rules = dict[str, tuple[str, ...]]


def by_kind(pairs: list[str]) -> Rules:
    found: dict[str, list[str]] = {}
    for pair in pairs:
        kind, _, text = pair.partition(": ")
        found.setdefault(kind, []).append(text)
    return {kind: tuple(texts) for kind, texts in found.items()}


def lines(text: str) -> Rules:
    return by_kind([line for line in text.strip().splitlines() if line])


def paragraphs(text: str) -> Rules:
    return by_kind([block.strip("\n") for block in text.strip().split("\n\n")])


MIXING = lines(ACROSS)
#: Each table with how often it is drawn.
TABLES: tuple[tuple[Rules, int], ...] = (
    (lines(WITHIN), 16),
    (MIXING, 6),
    (lines(SELECT), 5),
    (lines(REDUCE), 16),
    (lines(PICK), 3),
    (lines(AFTER), 8),
    (lines(COUPLE), 7),
    (paragraphs(BLOCKS), 7),
)
