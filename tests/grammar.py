"""The grammar of the random programs: templates by the type of what they make.

``{row}`` is one number per sample, ``{matrix}`` three and ``{wide}`` twelve, ``{mask}`` a flag, ``{label}`` 0, 1 or 2.
``{stat}`` is a tensor of one number, ``{vector}`` of three, ``{number}`` a Python number; ``{c}`` is a literal,
``{k}`` a class, ``{size}`` a literal close to the size of some batch, ``{new}`` the variable that a block assigns.
"""

from __future__ import annotations

Table = dict[str, tuple[str, ...]]


def by_line(**kinds: str) -> Table:
    return {kind: tuple(line.strip() for line in text.strip().splitlines()) for kind, text in kinds.items()}


def by_paragraph(**kinds: str) -> Table:
    return {kind: tuple(block.strip("\n") for block in text.split("\n\n")) for kind, text in kinds.items()}


# Arithmetic within one sample: of these alone, sums and extremes have a constant-size state.
LOCAL = by_line(
    row="""
        {row} + {row}
        {row} - {row}
        {row} * {row}
        {row} / ({row}.abs() + 0.5)
        {row} * {c}
        {row} + {c}
        {row}.abs()
        {row} ** 2
        torch.sqrt({row}.abs() + 1e-3)
        torch.log1p({row}.abs())
        torch.tanh({row})
        torch.sigmoid({row})
        torch.exp(-{row}.abs())
        F.relu({row})
        F.softplus({row})
        F.huber_loss({row}, {row}, reduction='none')
        {row}.clamp(-1, {c})
        {row}.clamp_min({c})
        torch.where({mask}, {row}, {row})
        torch.where({mask}, {row}, 0.0)
        {row} * {mask}
        {row}.masked_fill({mask}, {c})
        torch.maximum({row}, {row})
        {mask}.to(x.dtype)
        {label}.to(x.dtype)
        {matrix}.sum(1)
        {matrix}.mean(-1)
        {matrix}.amax(1)
        {matrix}.norm(dim=1)
        {matrix}.logsumexp(1)
        {matrix}[:, {k}]
        {matrix}.gather(1, {label}[:, None]).squeeze(1)
        F.cross_entropy({matrix}, {label}, reduction='none')
        ({matrix} * {matrix}).sum(-1)
        {matrix}.max(1).values - {matrix}.min(1).values
        {matrix}.std(1)
        torch.tensor([0.5, 1.0, 2.0], dtype=x.dtype)[{label}]
        {row}.detach()
        {row}.view(-1, 1).squeeze(-1)
        torch.nan_to_num({row})
        {wide}.sum(1)
        {wide}.pow(2).mean(-1)
        {wide}.amax(1)
        torch.logsumexp({wide}, 1)
        {matrix}.median(1).values
        {matrix}.unbind(1)[{k}]
        {matrix}.prod(1)
        {row}.fmod(2.0)
        {row}.round()
        {row}.double().to(x.dtype)
        torch.addcmul({row}, {row}, {row}, value={c})
        torch.hypot({row}, {row})
        {wide}.view(-1, 3, 4).sum((1, 2))
        torch.sign({row})
        {row} * torch.full_like({row}, {c})
    """,
    matrix="""
        {matrix} + {matrix}
        {matrix} * {row}[:, None]
        {matrix} - {row}.unsqueeze(-1)
        F.one_hot({label}, 3).to(x.dtype)
        torch.softmax({matrix}, 1)
        F.log_softmax({matrix}, dim=-1)
        torch.stack([{row}, {row}, {row}], 1)
        {matrix} ** 2
        {matrix} - {matrix}.mean(1, keepdim=True)
        {matrix} * {mask}[:, None]
        F.normalize({matrix}, dim=1)
        {matrix}.t().contiguous().t()
        {matrix}.sigmoid()
        {matrix}.cumsum(1)
        {matrix}.sort(1).values
        {matrix}.flip(1)
        {matrix} @ torch.tensor([[1.0, 0.5, 0.0], [0.0, 1.0, -1.0], [2.0, 0.0, 1.0]], dtype=x.dtype)
    """,
    mask="""
        {row} > {c}
        {row} <= {row}
        {mask} & {mask}
        {mask} | {mask}
        ~{mask}
        {label} == {k}
        {label} != {label}
        ({matrix} > {c}).any(1)
        {matrix}.argmax(1) == {label}
        {row}.isfinite()
    """,
    label="""
        {matrix}.argmax(1)
        torch.where({mask}, {label}, 0)
        ({label} + {k}) % 3
        {mask}.long() + {mask}.long()
        torch.bucketize({row}, torch.tensor([-0.5, 0.5], dtype=x.dtype))
        {matrix}.topk(2, 1).indices[:, 1]
    """,
)

# From samples to numbers that add, or combine by an extreme.
REDUCE = by_line(
    stat="""
        {row}.sum()
        {row}.mean()
        torch.mean({row})
        {row}.max()
        {row}.amin(0)
        ({row} ** 2).sum()
        {row}.norm()
        {row}.var(unbiased=False)
        {row}.std()
        torch.logsumexp({row}, 0)
        {row}[{mask}].sum()
        {mask}.sum()
        {mask}.to(x.dtype).mean()
        ({row} * {mask}).sum() / {mask}.sum().clamp(min=1)
        {row}.sum() / n
        {mask}.any()
        {mask}.all()
        torch.dot({row}, {row})
        F.mse_loss({row}, {row})
        F.l1_loss({row}, {row})
        F.cross_entropy({matrix}, {label})
        {matrix}.mean()
        {matrix}.sum()
        {matrix}.max()
        {label}.max()
        {row}[{mask}].mean()
        {row}.masked_fill(~{mask}, -9.0).max()
        {wide}.mean()
        {matrix}.flatten().std()
        {matrix}.view(-1).sum()
        {matrix}.amax((0, 1))
        torch.cat([{row}, {row}]).mean()
        ({row}[{mask}] * {row}[{mask}]).sum()
        {row}[{label} == {k}].sum()
        {row}.abs().sum() / {row}.numel()
        ({row} > {row}).any()
        {row}.mul(2).sum().div(n)
        {row}.sum() / x.numel()
        {row}.nansum()
        (({row} - {row}.mean()) * ({row} - {row}.mean())).mean()
        torch.sqrt((({row} - {row}) ** 2).mean())
    """,
    vector="""
        {matrix}.mean(0)
        {matrix}.sum(dim=0)
        {matrix}.amax(0)
        torch.bincount({label}, minlength=3).to(x.dtype)
        torch.zeros(3, dtype=x.dtype).index_add(0, {label}, {row})
        torch.zeros(3, dtype=x.dtype).scatter_add(0, {label}, {row})
        F.one_hot({label}, 3).to(x.dtype).sum(0)
        {matrix}.t() @ {row}
        F.one_hot({label}, 3).to(x.dtype).T @ {row}
        {matrix}.var(0)
        torch.stack([{row}[{label} == k].sum() for k in range(3)])
        torch.stack([({label} == k).sum() for k in range(3)])
        ({matrix}.T @ {matrix} / n).diagonal()
        ({matrix}.T @ {matrix})[{k}]
        {matrix}[{mask}].sum(0)
        torch.einsum('nd,n->d', {matrix}, {row})
        {matrix}.std(0, unbiased=False)
        torch.bincount({label}, weights={row}, minlength=3).to(x.dtype)
        {matrix}.min(0).values
        ({matrix} > {c}).sum(0)
    """,
)

# Arithmetic after the sums.
FINISH = by_line(
    stat="""
        {stat} + {stat}
        {stat} - {stat}
        {stat} * {stat}
        {stat} / ({stat}.abs() + 1)
        torch.sqrt({stat}.abs() + 1e-6)
        torch.log1p({stat}.abs())
        {stat} * {c}
        {vector}.sum()
        {vector}.mean()
        {vector}.max()
        {vector}[{k}]
        1 - {stat} / ({stat}.abs() + 1e-3)
        torch.where({stat} > {stat}, {stat}, {stat})
        {stat}.clamp(min={c})
        {stat} / n
        ({vector} * {vector}).sum()
        torch.maximum({stat}, {stat})
        {stat} / math.sqrt(n)
        {stat} / (n + 1)
    """,
    vector="""
        {vector} + {vector}
        {vector} / ({vector}.abs() + 1)
        {vector} - {vector}.mean()
        {vector} * {stat}
        torch.stack([{stat}, {stat}, {stat}])
        {vector}.softmax(0)
        {vector}[{vector}.argsort()]
        {vector}.cumsum(0)
    """,
)

# What a batch does to its own samples, and Python numbers made from it.
COUPLE = by_line(
    row="""
        {row} - {row}.mean()
        {row} - {stat}
        {row} * {stat}
        {row} / ({row}.std() + 0.1)
        {row} - {row}.max()
        {row} / ({stat}.abs() + 0.5)
        ({row} - {row}.mean()) / ({row}.std() + 1e-2)
        torch.softmax({row}, 0)
        {vector}[{label}]
        {row} / ({row}.abs().max() + 1)
        F.cross_entropy({matrix}, {label}, weight={vector}.abs() + 0.1, reduction='none')
        torch.where({mask}, {stat}, {row})
        torch.exp({row}.clamp(-5, 5) - {stat}.clamp(-5, 5))
        torch.exp({row} - {row}.max())
        torch.tanh({row} - {stat})
        torch.log1p(({row} - {row}.mean()) ** 2)
        ({row} - {row}.mean()) ** 3
        F.relu({row} - {stat})
        {row}.round() * {stat}
        {row} * ({stat} > {c})
        torch.lerp({row}, {row}, {stat}.sigmoid())
        {row}.clamp(max={row}.mean())
        {matrix} @ {vector}
    """,
    matrix="""
        {matrix} - {matrix}.mean(0)
        {matrix} / ({matrix}.std(0) + 0.1)
        F.batch_norm({matrix}, None, None, training=True)
        {matrix} * {matrix}.amax(0)
        {matrix} @ ({matrix}.T @ {matrix} / n)
        {matrix} - {vector}
        torch.softmax({matrix}, 0)
    """,
    mask="""
        {row} > {row}.mean()
        {row} >= {stat}
        {row} == {row}.max()
    """,
    stat="""
        F.cross_entropy({matrix}, {label}, weight={vector}.abs() + 0.1)
        F.mse_loss({row} - {row}.mean(), {row} - {row}.mean())
        {row}.sum() / {number}
        {stat} * {number}
        ({row}[{mask}] - {row}[{mask}].mean()).pow(2).sum()
        {row}[{mask}].sum() / (len({row}[{mask}]) + 1)
        {row}[{label} == {k}].var(unbiased=False)
        {row}[{mask}].sum() * {row}[~{mask}].mean()
        ({row} - {row}[{mask}].mean()).nan_to_num().abs().max()
        torch.cov({matrix}.T)[{k}].sum()
        (({row} - {row}.mean()) * {mask}).norm()
        {row}.std() / {row}.mean().abs().add(1)
        {row}[{mask}].amax(0) if {mask}.any() else {row}.amax(0)
        {stat} + {number}
    """,
    number="""
        {stat}.item()
        float({stat})
        n // 4 + 1
        min(n, {size})
        max(n - 1, 1)
        math.log(n + 1)
        n * (n - 1) / 2
        {mask}.sum().item()
        len({row}[{mask}])
        n ** 0.5
        n % {size}
        int({label}.max())
        int({mask}.sum())
        round(float({row}.mean()))
        {row}.abs().max().item() + 1
        sum({mask}.tolist())
        n / {size}
    """,
)

# What depends on order, rank or pairs.
ORDER = by_line(
    row="""
        {row}.cumsum(0)
        {row}.sort().values
        {row}.flip(0)
        {row}.roll(1)
        {row}.argsort().to(x.dtype)
        {row}.cummax(0).values
        {row}[torch.arange(n - 1, -1, -1)]
        {row} * torch.arange(n)
        {row}[{row}.argsort()]
        ({row}[:, None] - {row}).mean(1)
    """,
    stat="""
        {row}.median()
        {row}[{mask}].max()
        torch.histc({row}, 3)[0]
        {row}[{mask}][:2].sum()
        {row}[: int({mask}.sum())].sum()
        torch.nonzero({mask}).sum()
        {row}[{label}].sum()
        {wide}.sum(1).cumsum(0).mean()
        {wide}.amax(1)[0]
        {row}.topk(min(3, n)).values.mean()
        {row}.topk(max(1, n // 4)).values.sum()
        {row}.quantile(0.5)
        {row}[0] + {stat}
        {row}[-1]
        {row}[: {size}].sum()
        {row}.argmax()
        torch.unique({label}).numel() * {stat}
        {row}.diff().abs().sum()
        ({row} / 10).tanh().prod()
        torch.tensor({row}.tolist(), dtype=x.dtype).mean()
        ({row}[:, None] - {row}).abs().mean()
        {row}[{label}.argmax()]
        {row}[::2].sum()
        sum(v.item() for v in {row}) + {stat}
    """,
    mask="""
        {row}.argsort().argsort() < n // 2
        torch.arange(n) % 2 == 0
    """,
)

# Statements: writes in place, branches on data and on n, loops over classes.
BLOCKS = by_paragraph(
    row="""
{new} = {row}.clone()
{new}[{mask}] = {c}

{new} = {row}.clone()
{new}[{mask}] = {row}[{mask}]

{new} = {row}.clone()
{new} += {row}
{new}.clamp_(max={c})

{new} = {row}.clone()
{new}.view(-1, 1).mul_({c})

{new} = torch.zeros_like({row})
{new}[{mask}] += 1

if {stat} > {c}:
    {new} = {row} * 2
else:
    {new} = {row} - {row}

if {mask}.any():
    {new} = {row} + 1
else:
    {new} = {row}

if n > {size}:
    {new} = {row} * 0.5
else:
    {new} = {row}

{new} = {row}
{new}[{mask}] = 0

{new} = {row}.clone()
{new}[0] = {c}
""",
    matrix="""
{new} = {matrix}.clone()
{new}[:, {k}] = {row}

{new} = {matrix}.clone()
{new}.t()[{k}] = {row}

{new} = {matrix}.clone()
{new}[:, {k}].mul_({c})

{new} = {matrix}.clone()
{new}.masked_fill_({mask}[:, None], {c})

{new} = {matrix}.clone()
{new} -= {matrix}.mean(0)
""",
    stat="""
{new} = {stat}
if {stat}.item() < {stat}.item():
    {new} = {stat} + 1

{new} = {row}.mean()
for k in range(3):
    if ({label} == k).any():
        {new} = {new} + {row}[{label} == k].mean()

{new} = torch.zeros((), dtype=x.dtype)
for k in range(3):
    {new} += ({row} * ({label} == k)).sum()

if not {mask}.all():
    {new} = {row}[~{mask}].mean()
else:
    {new} = {row}.max()

if n == {size}:
    {new} = {stat} * 3
else:
    {new} = {stat}

if float({row}.max()) > 1:
    {new} = {row}.sigmoid().mean()
else:
    {new} = {row}.mean()
""",
    vector="""
{new} = torch.zeros(3, dtype=x.dtype)
{new}.index_add_(0, {label}, {row})

{new} = torch.ones(3, dtype=x.dtype)
{new}.scatter_add_(0, {label}, {row})
{new} /= n

{new} = torch.zeros(3, dtype=x.dtype)
{new}.index_put_(({label},), {row}, accumulate=True)

{new} = torch.zeros(3, dtype=x.dtype)
{new}[{label}] = {row}

{new} = torch.zeros(3, dtype=x.dtype)
for k in range(3):
    if ({label} == k).any():
        {new}[k] = {row}[{label} == k].mean()
""",
)
