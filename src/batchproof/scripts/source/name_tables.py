"""What is known of a function by its name: of torch's, of scikit-learn's, and of what scripts call theirs."""

from __future__ import annotations

import re
from functools import lru_cache

from batchproof.scripts.source.site import Quantity


def name_set(text: str) -> frozenset[str]:
    """A table of names, as text."""
    return frozenset(text.split())


#: What torch's losses are called, as a function and as a class, without underscores.
_TORCH_LOSSES = name_set(
    """
    mseloss l1loss smoothl1loss huberloss crossentropy crossentropyloss nllloss nllloss2d poissonnllloss
    gaussiannllloss binarycrossentropy bceloss binarycrossentropywithlogits bcewithlogitsloss bcelosswithlogits
    kldiv kldivloss ctcloss hingeembeddingloss cosineembeddingloss marginrankingloss multimarginloss
    multilabelmarginloss softmarginloss multilabelsoftmarginloss tripletmarginloss tripletmarginwithdistanceloss
    labelsmoothingcrossentropy softtargetcrossentropy adaptivelogsoftmaxwithloss sigmoidfocalloss
    """
)
#: Those whose mean is over the sum of the weights, or over the targets that are not ignored.
_BY_TARGET = frozenset(["crossentropy", "crossentropyloss", "nllloss", "nllloss2d"])

_MODEL = re.compile(r"(^|_)(model|net|network|encoder|backbone|transformer)$")  # `ContrastiveEncoder` is no loss
_COUPLED = re.compile(
    r"ntxent|infonce|^nce(loss|_loss)?$|supcon|contrastive(?!div)|clip_?loss|npairs?|n_pair|in_?batch|batch_?hard|"
    r"batch_?all|multiple_?negatives|multi_?similarity|simclr|barlow|vicreg|hard_?triplet|circle_?loss|mmd|"
    r"lifted_?struct|(^|_)hsic|proxy_?nca|angular_?loss|vse|sinkhorn"
)
_NONLINEAR: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"rmse|rmsle|root_?mean|\brms\b|(^|_)rms($|_)"), "a root is taken of each batch"),
    (re.compile(r"perplexity|(^|_)ppl($|_)"), "the exponential is taken of each batch"),
    (re.compile(r"psnr|(^|_)snr($|_)"), "the logarithm is taken of each batch"),
    (
        re.compile(
            r"(^|_)f1|f1_?(score)?$|fbeta|f_?score|f_?measure|(^|_)auc|auc($|_)|auroc|roc_?auc|average_?precision|"
            r"(^|_)m?ap(_?score)?$|(^|_)m?iou|iou($|_)|jaccard|(^|_)dice|dice($|_|loss|score|coef)|matthews|(^|_)mcc($|_)|"
            r"(^|_)kappa|cohen_?kappa|balanced_?acc|precision|recall|specificity|sensitivity|"
            r"r2_?score|(^|_)r2($|_)|rsquared|r_?squared|explained_?var|pearson|spearman|kendall|corr(coef|elation)?($|_)|"
            r"concordance|(^|_)ccc($|_)|bleu|rouge|(^|_)wer($|_)|(^|_)cer($|_)|(^|_)fid($|_)|(^|_)eer($|_)|ndcg|"
            r"lovasz|tversky|(^|_)nmi($|_)|(^|_)ari($|_)|classification_report|confusion|c_?index|"
            r"(^|_)hausdorff|ap_per_class|(^|_)nrmse|(^|_)r?r[sa]e($|_)|(^|_)nse($|_)|(^|_)kge($|_)|pixel_?f1|calibration|(^|_)ece($|_)"
        ),
        "the score of a whole set is not the mean of the scores of its parts",
    ),
)
_MEAN = re.compile(
    r"(^|_)acc(uracy|s)?\d*($|_|score)|accuracy|(^|_)top_?k|(^|_)mse|(^|_)mae($|_)|mean_(absolute|squared)|(^|_)l[12](_|$)|"
    r"cross_?entropy|(^|_)ce($|_)|(^|_)bce|(^|_)nll|smooth_?l1|huber|hamming_loss|zero_one|hit_?rate|(^|_)elbo|(^|_)kld?($|_)|"
    r"ssim|lpips|brier|log_?loss|mape|(^|_)epe($|_)"
)
_LOSS = re.compile(
    r"loss|criter|objective|(^|_)cost|(^|_)err(or)?s?($|_)|metric|(^|_)acc|score|(^|_)mse|(^|_)mae($|_)|(^|_)l1|(^|_)nll|"
    r"(^|_)kld?($|_)|(^|_)bce|perplex|(^|_)ppl|(^|_)elbo|(^|_)obj($|_)|iou|dice|(^|_)f1|auc|psnr|ssim|penalt|(^|_)ce($|_)|"
    r"correct|(^|_)wer($|_)|(^|_)cer($|_)|precision|recall|energy|residual|reward|entropy|distance|deviation"
)
_NO_RESULT = re.compile(
    r"(^|_)(time|lr|learning_?rate|speed|fps|elapsed|duration|seconds|mem(ory)?|grad_?norm|norm|epoch|step|iter|clock|tic|toc|"
    r"latency|throughput|toks?|eta|speed|temperature|beta|tau|size|lens?|lengths?|ids?|names?|paths?|files?|keys?)s?($|_)|"
    r"time$|^lr|batch_time|data_time|stats?_time"
)

NONLINEAR_STEPS = {
    "sqrt": "the square root", "rsqrt": "the square root", "log": "the logarithm", "log2": "the logarithm",
    "log10": "the logarithm", "log1p": "the logarithm", "exp": "the exponential", "expm1": "the exponential",
    "pow": "a power", "square": "the square", "reciprocal": "the reciprocal", "sigmoid": "the sigmoid",
    "tanh": "the hyperbolic tangent", "logsumexp": "the logarithm of a sum of exponentials",
}  # fmt: skip

#: Methods and functions that hand on the value they are given.
SAME = name_set(
    """
    item detach detach_ cpu cuda numpy float double half to tolist data clone contiguous squeeze type asarray array
    tensor as_tensor from_numpy float32 float64 FloatTensor Tensor round gather all_reduce reduce_tensor reduce_mean
    all_gather gather_for_metrics mesh_reduce to_numpy to_np to_python_float scalar get nan_to_num reduce_value
    reduce_loss average_gradients_across_ranks tensor2float to_float bfloat16 requires_grad_ view_as type_as
    deepcopy copy sync_tensor distributed_concat nested_gather avg_reduce item_ asscalar cast to_scalar
    stop_gradient all_reduce_mean all_reduce_tensor reduce_loss_dict reduce_dict force_fp32 real ravel flatten
    """
)
#: What the average of a meter is read off by.
METER_READS = name_set("avg average mean global_avg value avgs ave median compute")
#: Functions that put batches after one another, so that what follows sees them all.
JOINS = name_set(
    """
    cat concat concatenate vstack hstack stack column_stack append extend chain from_iterable block
    """
)
#: Those of them that take no numbers: what they join has a value for each sample.
JOINS_ROWS = name_set("cat concat concatenate")
#: What reads like the name of a loader, a dataset, a batch size.
_LOADER = re.compile(
    r"loader|(^|_)dl($|_|s$)|dl$|(^|_)batches|(^|_)(data_?)?iter(ator)?s?($|_)|iterator$|batch_?gen|generator$|(^|_)gen($|_)|"
    r"dataiter|feeder|(^|_)queue$|prefetch|minibatch|(^|_)batch_?(iter|data)"
)
_COUNT = re.compile(r"(n|num|nb|no|number|total|len|max|min|cnt|count)_")
_DATASET = re.compile(
    r"data_?set|(^|_)ds($|_|\d)|(^|_)(train|val|valid|test|dev|eval)(ing|idation)?_?(set|data|ds)?$|_set$|^data$|_data$|"
    r"(^|_)x_?(train|test|val|valid)|(^|_)[xy]$|^[XY](_|$)|samples|examples|images|sentences|corpus|(^|_)items"
)
_BATCH_SIZE = re.compile(
    r"(^|_)(batch_?size|bs|bsz|bsize|batchsize|b_size|batch_sz|mini_?batch|minibatch_?size|size_batch)s?($|_)|batchsize|BatchSize|batch_size"
)
#: `num_mini_batch` says how many there are, `num_samples_per_mini_batch` and `max_batch_size` do not.
_HOW_MANY_BATCHES = re.compile(r"(^|_)(n|num|nb|no|number(_of)?)_(mini_?)?batch(es)?($|_(?!size|sz))")
_BATCHES = re.compile(
    r"(^|_)(n|num|nb|no|number(_of)?|len|total|count|cnt|max|eval)?_?(of_)?((mini_?)?batch(es)?|iters?|iterations?|steps?|loader|updates?)"
    r"(_?(count|num|per_epoch|idx|cnt|i|n|id|index|so_far|run))?($|_)|(^|_)(batch|b|n)_?(idx|id|i|num|no|count|cnt)$|"
    r"steps_per_epoch|nbatch|num_?batch|batch_?(num|idx)|(^|_)its?$|iters?$"
)
_SAMPLES = re.compile(
    r"(^|_)(n|num|nb|no|number(_of)?|len|total|count|cnt|size|dataset)?_?(of_)?(samples?|examples?|data|dataset|instances?|images?|imgs?|sents?|"
    r"sentences?|points|items|train|test|val|valid|graphs|sequences|dataset_?size|data_?size)(_?(size|count|num|len|n))?$|^(N|n|size|total|M|m|num|cnt|count)$"
)
_TOKENS = re.compile(
    r"tok(en)?s?($|_)|words?($|_)|n_?nodes|num_?nodes|pixels|chars|frames|masks?($|_)|valid_?(count|num|pixels)|weights?_?sum|denom|positions"
)
_METER = re.compile(
    r"meter|averager|(^|_)avgr|runningav|runningmean|averagevalue|smoothedvalue|metrictracker|metriclogger|lossrecord|losstracker|loss_?counter|statistics$|runningscore|^average$|avg$|^averages$|runningaverage|metricmonitor|lossmonitor|metricstracker|lossmeter|^monitor$|metrictracker"
)
_EVALUATION = re.compile(
    r"(^|_)(eval|evaluate|evaluation|val|valid|validate|validation|test|testing|predict|inference|infer|dev)($|_|\d)|evaluat|validat"
)


_RANKS = re.compile(r"world_?size|n_?gpus?\b|num_gpus|nprocs|num_processes|ranks|replicas|device_count")


def last_of(path: str) -> str:
    return path.rsplit(".", 1)[-1]


@lru_cache(maxsize=8192)
def plain(name: str) -> str:
    """``BCEWithLogitsLoss`` as ``bce_with_logits_loss``: lower case, words set apart."""
    name = name.replace("IoU", "Iou")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


@lru_cache(maxsize=8192)
def is_torch_loss(name: str) -> bool:
    """Whether a name is that of a loss of torch's, as a function or as a module."""
    return name.replace("_", "").lower() in _TORCH_LOSSES


def takes_weights(name: str) -> bool:
    """Whether the loss divides by the weights of its targets, and leaves out those to be ignored."""
    return name.replace("_", "").lower() in _BY_TARGET


def is_elementwise(name: str) -> bool:
    """Whether a loss compares a prediction with a target element by element, and so broadcasts them."""
    return plain(name).startswith(("mse", "l1", "smooth", "huber"))


@lru_cache(maxsize=8192)
def by_name(name: str) -> tuple[Quantity, str] | None:
    """What a function of a batch returns, by its name; None where the name says nothing."""
    words = plain(name)
    if _MODEL.search(words):
        return None
    if _COUPLED.search(words) or _COUPLED.search(words.replace("_", "")):
        return Quantity.COUPLED, "each sample is compared with the others of its batch"
    if is_torch_loss(name):
        return Quantity.MEAN, ""
    if words.startswith("masked_"):
        return Quantity.RATIO, "how many values the mask leaves differs from batch to batch"
    for pattern, why in _NONLINEAR:
        if pattern.search(words):
            return Quantity.NONLINEAR, why
    if _MEAN.search(words):
        return Quantity.MEAN, ""
    return None


@lru_cache(maxsize=8192)
def reads_as_loss(name: str) -> bool:
    words = plain(name)
    return bool(_LOSS.search(words))


@lru_cache(maxsize=8192)
def reads_as_no_result(name: str) -> bool:
    words = plain(name)
    return bool(_NO_RESULT.search(words)) and not _LOSS.search(words)


@lru_cache(maxsize=8192)
def reads_as_loader(name: str) -> bool:
    words = plain(name)
    return bool(_LOADER.search(words)) and not _COUNT.match(words)


@lru_cache(maxsize=8192)
def reads_as_dataset(name: str) -> bool:
    return bool(_DATASET.search(plain(name)))


@lru_cache(maxsize=8192)
def reads_as_batch_size(name: str) -> bool:
    words = plain(name)
    return bool(_BATCH_SIZE.search(words)) and not _HOW_MANY_BATCHES.search(words)


@lru_cache(maxsize=8192)
def counts_mini_batches(name: str) -> bool:
    return bool(_HOW_MANY_BATCHES.search(plain(name)))


@lru_cache(maxsize=8192)
def reads_as_batches(name: str) -> bool:
    return bool(_BATCHES.search(plain(name)))


@lru_cache(maxsize=8192)
def reads_as_samples(name: str) -> bool:
    return bool(_SAMPLES.search(plain(name))) or name in {"N", "M"}


@lru_cache(maxsize=8192)
def reads_as_tokens(name: str) -> bool:
    return bool(_TOKENS.search(plain(name)))


@lru_cache(maxsize=8192)
def reads_as_meter(name: str) -> bool:
    return bool(_METER.search(plain(name).replace("_", "")))


@lru_cache(maxsize=8192)
def reads_as_evaluation(name: str) -> bool:
    return bool(_EVALUATION.search(plain(name)))


@lru_cache(maxsize=8192)
def reads_as_ranks(text: str) -> bool:
    return bool(_RANKS.search(text.lower()))
